"""Linux-only process primitives. Each function reports whether the kernel supports it.

The interpreter's own ``_ctypes`` is called directly: ``import ctypes`` builds some hundred types
and takes a fifth of an interpreter's start, for three calls of the C library.
"""

from __future__ import annotations

import sys

from ..system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import _ctypes
except ImportError:
    # An interpreter without libffi: cronlock works as on other systems.
    _ctypes = None  # type: ignore[assignment]

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
# <time.h>, <sys/timerfd.h>
_CLOCK_BOOTTIME = 7
_TFD_TIMER_ABSTIME = 1
_TFD_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK


def _library() -> int | None:
    if sys.platform != "linux" or _ctypes is None:
        return None
    # None means the program with its C library; typeshed knows only file names.
    return _ctypes.dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]


_LIBC = _library()


def _call(name: str, *arguments: int | bytes) -> int:
    if _LIBC is None:
        return -1
    try:
        result: int = _ctypes.call_function(_ctypes.dlsym(_LIBC, name), arguments)
    except OSError:
        return -1  # A C library without this function.
    return result


def become_subreaper() -> bool:
    """Adopt every orphan among this process's descendants (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    return _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def can_adopt() -> bool:
    """Return True if `become_subreaper` would work. Changes nothing in a process that is no subreaper."""
    return _call("prctl", _PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


def signal_at_parents_end(signal: int) -> bool:
    """Have the kernel send `signal` when the parent ends; survives exec, but not fork."""
    return _call("prctl", _PR_SET_PDEATHSIG, signal, 0, 0, 0) == 0


def set_name(name: str) -> bool:
    """Set the name that ``ps`` and ``top`` show (at most 15 bytes)."""
    return _call("prctl", _PR_SET_NAME, name.encode()[:15], 0, 0, 0) == 0


class Alarm:
    """A descriptor that becomes readable at a moment of the boot clock, which counts suspension.

    The timeout of poll(2) does not count suspension, so it would notice a deadline late. Without timerfd(2) the poller
    wakes up once a second instead: see `poll_limit`.
    """

    __slots__ = ("_moment", "descriptor")

    def __init__(self) -> None:
        #: -1 without timerfd, or if itimerspec has another layout than below.
        self.descriptor: int = -1
        if sys.maxsize > 2**32:
            self.descriptor = _call("timerfd_create", _CLOCK_BOOTTIME, _TFD_FLAGS)
        self._moment: float | None = None

    def set(self, moment: float | None) -> None:
        """Become readable at boot time `moment`, in seconds; None: never."""
        if self.descriptor < 0 or moment == self._moment:
            self._moment = moment
            return
        self._moment = moment
        # Zero disarms the timer, so a past moment becomes the first nanosecond.
        nanoseconds = 0 if moment is None else max(1, int(moment * 1e9))
        value = b"".join(part.to_bytes(8, sys.byteorder) for part in (0, 0, nanoseconds // 10**9, nanoseconds % 10**9))
        if _call("timerfd_settime", self.descriptor, _TFD_TIMER_ABSTIME, value, 0) != 0:
            self.descriptor = -1

    def poll_limit(self, now: float) -> float | None:
        """Return how many seconds a poll of `descriptor` may last; None: for ever."""
        if self.descriptor >= 0 or self._moment is None:
            return None
        return min(1.0, max(0.0, self._moment - now))


def children(pid: int) -> list[int]:
    """Return the pids of the direct children of `pid` (of all its threads)."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []  # It ended, so its children have its reaper as parent; or it belongs to another user.
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                data = b""
                while chunk := file.read(65536):
                    data += chunk
            found += map(int, data.split())
        except OSError:
            continue  # Likewise, of the thread.
    return found


def has_proc() -> bool:
    """Return True if /proc shows the process tree, with pids of this process's pid namespace."""
    try:
        # A pid namespace without its own /proc shows pids of another namespace.
        return sys.platform == "linux" and os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def descendants(pid: int, without: frozenset[int] = frozenset()) -> list[int]:
    """Return the pids of all descendants of `pid`, except `without` and their descendants.

    A snapshot: to end all of them, repeat until none is left.
    """
    if os.path.exists(f"/proc/{pid}/task/{pid}/children"):
        return _tree(pid, without, children)
    by_parent = _children_by_parent()
    return _tree(pid, without, lambda parent: by_parent.get(parent, []))


def _tree(root: int, without: frozenset[int], children_of: Callable[[int], list[int]]) -> list[int]:
    found: list[int] = []
    level = [root]
    while level:
        level = [child for parent in level for child in children_of(parent) if child not in without]
        found += level
    return found


def _children_by_parent() -> dict[int, list[int]]:
    """Return all children by their parent, for a kernel without CONFIG_PROC_CHILDREN."""
    by_parent: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                # The command's name, in parentheses, may contain ")".
                parent = int(file.read(4096).rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # Ended meanwhile.
        by_parent.setdefault(parent, []).append(int(name))
    return by_parent


def initial_environment() -> dict[bytes, bytes] | None:
    """Return the environment at exec, before the interpreter changed its own; None if unknown."""
    try:
        with open("/proc/self/environ", "rb") as file:
            items = file.read().split(b"\0")
    except OSError:
        return None
    pairs = (item.partition(b"=") for item in items if item)
    return {name: value for name, equals, value in pairs if equals}
