"""The deliberate bugs."""

from __future__ import annotations

from chaos.findings import DOUBLE, FENCE, HOLD, LEFT, LOST, OUTLIVE, OVERLAP, STATUS, STUCK

from . import Edit, Tooth

_HOLD_UNTIL = '        self.hold_until = float(fields.get("hold_until", "0"))\n'
_INFO = "            self._log.info(f"
_KEPT = "def _kept(session):\n    return session._stream and (session.go_on(time.monotonic() + 1.0) or session)\n\n\n"
_LONG = ("--jobs", "long", "--every", "0.3")
_HOLDING = "cronlock/run/holder.py"
_GUARD = "cronlock/process/guard.py"
_PROCESS = "cronlock/process/command.py"
_JOB = "cronlock/run/job.py"
_SCRIPTS = "cronlock/engines/redis/scripts.py"

_ALL = (
    Tooth(
        "release-without-owner",
        "a release frees the key whoever holds it",
        [Edit(_SCRIPTS, "local was_ours = ours()", "local was_ours = record.owner")],
        "redis",
        "stop-wrapper-long",
        (OVERLAP, STATUS, HOLD),
        options=_LONG,
    ),
    Tooth(
        "deadline-before-reply",
        "a renewal moves the deadline before it is answered",
        [
            Edit(
                _HOLDING,
                '{pause}"renewal failed, asking again: {error}")\n            return False\n'.replace("{pause}", _INFO),
                "            holding.deadline = timing.deadline(sent, holding.grant.ttl, 0)\n            return True\n",
            )
        ],
        "redis",
        "cut,cut-requests",
        (OVERLAP,),
        options=_LONG,
    ),
    Tooth(
        "deadline-from-reply",
        "the deadline counts from when a renewal was answered",
        [
            Edit(
                _HOLDING,
                "timing.deadline(sent, holding.grant.ttl, self._backend",
                "timing.deadline(self._clock.now(), holding.grant.ttl, self._backend",
            )
        ],
        "redis",
        "slow-then-cut",
        (OVERLAP,),
        seconds=150.0,
        options=_LONG,
    ),
    Tooth(
        "read-to-renew",
        "a ZooKeeper session is kept by reads, on the connection that it has",
        [
            Edit(
                "cronlock/engines/zookeeper/backend.py",
                "import Create, Delete, SetData",
                "import Create, Delete, Exists, SetData",
            ),
            Edit(
                "cronlock/engines/zookeeper/backend.py",
                "with self._tree.opened(session, grant.claim.ttl, renewed=True):",
                "with _kept(session) or self._tree.opened(session, grant.claim.ttl, renewed=True):",
            ),
            Edit("cronlock/engines/zookeeper/backend.py", "def open_backend(", _KEPT + "def open_backend("),
            Edit("cronlock/engines/zookeeper/backend.py", "session.drop()  # Only", "pass  # Only"),
            Edit(
                "cronlock/engines/zookeeper/backend.py",
                'reply = session.ask(SetData(lease, b"", _ANY_VERSION))[0]\n                session.drop()\n',
                "reply = session.ask(Exists(lease, None))[0]\n",
            ),
        ],
        "zookeeper",
        "isolate-leader,isolate-server",
        (OVERLAP,),
        seconds=60.0,
        options=_LONG,
    ),
    Tooth(
        "no-guard",
        "nobody watches for the wrapper's death, nor for the deadline in its place",
        [
            Edit(
                _GUARD,
                "            if self._orders.stop_on_loss:\n                self._terminate(deadlines.BY_WRAPPER)\n",
                "",
            ),
            Edit(_GUARD, "                if self._plan.deadline is not None:\n", "                if False:\n"),
            Edit(
                _GUARD,
                "        self._plan = orders.plan\n",
                "        self._plan = orders.plan\n        self._plan.deadline = None\n",
            ),
        ],
        "redis",
        "kill-wrapper",
        (OVERLAP, OUTLIVE),
        options=_LONG,
    ),
    Tooth(
        "guard-without-deadline",
        "the guard does not look at the deadline",
        [
            Edit(_GUARD, "                if self._plan.deadline is not None:\n", "                if False:\n"),
            Edit(
                _GUARD,
                "        self._plan = orders.plan\n",
                "        self._plan = orders.plan\n        self._plan.deadline = None\n",
            ),
        ],
        "redis",
        "stop-wrapper-long",
        (OVERLAP, OUTLIVE),
        options=_LONG,
    ),
    Tooth(
        "term-without-kill",
        "what ignores TERM is not killed",
        [Edit("cronlock/process/deadlines.py", "return (KILL, plan.stop, None) if now >= kill_at else", "return")],
        "redis",
        "kill-wrapper",
        (OVERLAP, OUTLIVE, LEFT),
        options=_LONG,
    ),
    Tooth(
        "group-kill-only",
        "only the command's process group is stopped",
        [
            Edit(
                _PROCESS,
                "    for pid in linux.descendants(os.getpid(), spared):\n        if pid in but:",
                "    for pid in ():\n        if pid in but:",
            )
        ],
        "redis",
        "kill-wrapper",
        (OVERLAP, OUTLIVE, LEFT),
        options=_LONG,
    ),
    Tooth(
        "guards-death-unnoticed",
        "when the guard dies, the wrapper does not end what the command started",
        [
            Edit(
                _JOB,
                "clean = process.kill_all(watcher.command_pid, adopts=self._adopts, spared=self._spared)",
                "clean = True",
            )
        ],
        "redis",
        "kill-guard",
        (OVERLAP, OUTLIVE, LEFT),
        options=_LONG,
    ),
    Tooth(
        "new-owner-on-retry",
        "an acquire whose answer was lost is tried again under a new owner",
        [
            Edit(
                _HOLDING,
                "            self._in_doubt = True\n            raise\n",
                "            self._start_over()\n            raise\n",
            )
        ],
        "redis",
        "lose-replies",
        (LOST, STUCK),
        seconds=60.0,
        options=("--keys=16", "--fresh=16", "--nodes=2"),
    ),
    Tooth(
        "hold-by-local-clock",
        "the hold is compared with the wall clock of whoever asks",
        [
            Edit(
                "cronlock/engines/file/state.py",
                "return max(0.0, self.hold_until - now)",
                "import time\n        return max(0.0, self.until_at - time.time())",
            ),
            Edit("cronlock/engines/file/state.py", '"run")\n', '"run", "until_at")\n'),
            Edit(
                "cronlock/engines/file/state.py",
                _HOLD_UNTIL,
                _HOLD_UNTIL + _HOLD_UNTIL.replace("hold_until", "until_at", 1).replace("hold_until", "hold_until_at"),
            ),
        ],
        "file",
        "node-clock",
        (DOUBLE, HOLD, STUCK),
    ),
    Tooth(
        "sights-not-remembered",
        "what a node saw is forgotten, so that a server that forgot is believed",
        [Edit(_HOLDING, "if not self._backend.traits.local and settings.state_dir is not None:", "if False:")],
        "redis-memory",
        "server-restart",
        (OVERLAP, DOUBLE),
        options=_LONG,
    ),
    Tooth(
        "loss-ignored",
        "the answer that the lease is not ours is not heeded",
        [
            Edit(
                _HOLDING,
                "        if not ours:\n            holding.lost = True",
                "        if False:\n            holding.lost = True",
            )
        ],
        "redis",
        "flush",
        (OVERLAP,),
        seconds=120.0,
        options=_LONG,
    ),
    Tooth(
        "late-acquire-granted",
        "an acquire that arrives after its run gave up takes the key",
        [Edit(_SCRIPTS, "if is_gone(owner) then return conflict('cancelled', 0) end", "")],
        "redis",
        "lose-requests",
        (LOST, STUCK),
        seconds=60.0,
        options=("--keys=24", "--period=7", "--jobs=short"),
    ),
    Tooth(
        "no-hold",
        "a release frees the key at once",
        [
            Edit(
                _HOLDING,
                "self._release(holding.grant, ending, limit, pause, keep_hold=True)",
                "self._release(holding.grant, ending, limit, pause, keep_hold=False)",
            )
        ],
        "memcached",
        "none",
        (DOUBLE, HOLD),
        seconds=12.0,
    ),
    Tooth(
        "fence-from-one",
        "the fence counts the runs that the server remembers",
        [Edit(_SCRIPTS, "fence = math.max(fence + 1, now, floor + 1)", "fence = fence + 1")],
        "redis-memory",
        "server-restart",
        (FENCE,),
        seconds=25.0,
    ),
    Tooth(
        "released-while-alive",
        "the lease of a lost command is released before all of it is dead",
        [
            Edit(
                _GUARD,
                "self._finish(clean=process.kill_all(self._group(), adopts=self._adopts))",
                "self._finish(clean=True)",
            ),
        ],
        "redis",
        "kill-wrapper,stop-wrapper-long",
        (OVERLAP, OUTLIVE, LEFT),
        options=_LONG,
    ),
)

#: By name.
TEETH = {tooth.name: tooth for tooth in _ALL}
