"""The deliberate bugs."""

from __future__ import annotations

from chaos.findings import DOUBLE, FENCE, HOLD, LEFT, LOST, OUTLIVE, OVERLAP, STATUS, STUCK

from . import Edit, Mutant

_LONG = ("--jobs", "long", "--every", "0.3")
_READ_TO_RENEW = """\
if ours and own._stream is not None:
                from .messages import Exists

                own.go_on(deadline)
                with own:
                    if own.ask(Exists(self._tree.lease_path(key, known.lease_name)))[0].code == 0:
                        return True, known
            own.drop()"""
_NO_DEADLINE = (
    Edit("if self._plan.deadline is not None:", "if False:"),
    Edit("self._plan = config.plan", "self._plan = config.plan; self._plan.deadline = None"),
)

_ALL = (
    Mutant(
        "release-without-owner",
        "a release frees the key whoever holds it",
        [
            Edit("ours = rules.is_run_of(held.state, held.owner)", "ours = held.state.run is not None"),
            Edit("    if is_run_of(state, owner):", "    if state.run is not None:"),
        ],
        "redis",
        "stop-wrapper-long",
        (OVERLAP, STATUS, HOLD),
        options=_LONG,
    ),
    Mutant(
        "deadline-before-reply",
        "a renewal moves the deadline before it is answered",
        [
            Edit(
                'self._access.log.info(f"renewal failed, retrying: {error}")',
                "self.deadline = timing.deadline(sent, self.grant.ttl, 0); return True",
            )
        ],
        "redis",
        "cut,cut-requests",
        (OVERLAP,),
        options=_LONG,
    ),
    Mutant(
        "deadline-from-reply",
        "the deadline counts from when a renewal was answered",
        [Edit("self._count_from(sent)", "self._count_from(clock.now())")],
        "redis",
        "slow-then-cut",
        (OVERLAP,),
        seed=2,
        seconds=200.0,
        options=_LONG,
    ),
    Mutant(
        "read-to-renew",
        "a ZooKeeper session is kept by reads, on the connection that it has",
        [
            Edit("own.drop()  # Only reopening it counts at the leader; see above.", _READ_TO_RENEW),
            Edit("if cell is not None and lease and ours and key != self._listens_to:", "if False:"),
        ],
        "zookeeper",
        "isolate-leader,isolate-server",
        (OVERLAP,),
        seconds=60.0,
        options=_LONG,
    ),
    Mutant(
        "no-guard",
        "nobody watches for the wrapper's death, nor for the deadline in its place",
        [Edit("self._terminate(protocol.BY_WRAPPER)", "pass"), *_NO_DEADLINE],
        "redis",
        "kill-wrapper",
        (OVERLAP, OUTLIVE),
        options=_LONG,
    ),
    Mutant(
        "guard-without-deadline",
        "the guard does not look at the deadline",
        _NO_DEADLINE,
        "redis",
        "stop-wrapper-long",
        (OVERLAP, OUTLIVE),
        options=_LONG,
    ),
    Mutant(
        "term-without-kill",
        "what ignores TERM is not killed",
        [Edit("return (KILL, plan.stop, None) if now >= kill_at else", "return")],
        "redis",
        "kill-wrapper",
        (OVERLAP, OUTLIVE, LEFT),
        options=_LONG,
    ),
    Mutant(
        "group-kill-only",
        "only the command's process group is stopped",
        [Edit("for pid in linux.descendants(os.getpid(), spared):", "for pid in ():")],
        "redis",
        "kill-wrapper",
        (OVERLAP, OUTLIVE, LEFT),
        options=_LONG,
    ),
    Mutant(
        "guards-death-unnoticed",
        "when the guard dies, the wrapper does not end what the command started",
        [Edit("process.kill_all(self._guard.command_pid, adopts=self._adopts, spared=self._spared)", "True")],
        "file",  # Elsewhere the backup guard would do it.
        "kill-guard",
        (OVERLAP, OUTLIVE, LEFT),
        options=_LONG,
    ),
    Mutant(
        "new-owner-on-retry",
        "an acquire whose answer was lost is tried again under a new owner",
        [Edit("except GivenBack:", "except (GivenBack, BackendUnavailable):")],
        "redis",
        "lose-replies",
        (LOST, STUCK),
        seconds=60.0,
        options=("--keys=16", "--fresh=16", "--nodes=2"),
    ),
    Mutant(
        "hold-by-local-clock",
        "the hold is compared with the wall clock of whoever asks",
        [
            Edit("max(0.0, self.hold_until - clock.now())", "max(0.0, self.hold_until - clock.wall())"),
            Edit("max(self.hold_until, clock.now() + hold if", "max(self.hold_until, clock.wall() + hold if"),
        ],
        "file",
        "node-clock",
        (DOUBLE, HOLD, STUCK),
    ),
    Mutant(
        "watermarks-not-remembered",
        "watermarks are not kept, so that a server that lost its state is believed",
        [Edit("if not self.backend.traits.local and settings.state_dir is not None:", "if False:")],
        "redis-memory",
        "server-restart",
        (OVERLAP, DOUBLE),
        options=_LONG,
    ),
    Mutant(
        "loss-ignored",
        "the answer that the lease is not ours is not heeded",
        [Edit("if not ours:", "if False:")],
        "redis",
        "flush",
        (OVERLAP,),
        seconds=120.0,
        options=_LONG,
    ),
    Mutant(
        "late-acquire-granted",
        "a swap does not compare the version, so that an acquire which comes after its run gave up takes the key",
        [Edit("if (there[2] or '') ~= ARGV[2] or exists ~= (ARGV[2] == '' and 0 or 1) then", "if false then")],
        "redis",
        "lose-requests",
        (OVERLAP, LOST, STUCK),
        seconds=60.0,
        options=("--keys=24", "--period=7", "--jobs=short"),
    ),
    Mutant(
        "no-hold",
        "a release frees the key at once",
        [Edit("release(self.grant, ending, keep_hold=True)", "release(self.grant, ending, keep_hold=False)")],
        "memcached",
        "none",
        (DOUBLE, HOLD),
        seconds=12.0,
    ),
    Mutant(
        "done-taken-over",
        "a standby takes over a tick that is done",
        [Edit("return claim.on_death if run.unfinished else claim.on_failure and", "return claim.on_death or")],
        "redis",
        "none",
        (DOUBLE,),
        seconds=25.0,
    ),
    Mutant(
        "fence-from-one",
        "the fence counts the runs that the server remembers",
        [
            Edit(
                "max(state.fence + 1, seen.floor, watermark.fence + 1 if watermark is not None else 0)",
                "state.fence + 1",
            )
        ],
        "redis-memory",
        "server-restart",
        (FENCE,),
        seconds=25.0,
    ),
    Mutant(
        "released-while-alive",
        "the lease of a lost command is released before all of it is dead",
        [Edit("clean=process.kill_all(self._group(), adopts=self._adopts)", "clean=True")],
        "redis",
        "kill-wrapper,stop-wrapper-long",
        (OVERLAP, OUTLIVE, LEFT),
        options=_LONG,
    ),
)

#: By name.
MUTANTS = {mutant.name: mutant for mutant in _ALL}
