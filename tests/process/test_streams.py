"""The command gets the same streams, descriptors, environment and limits as without cronlock."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
from typing import IO, Any

import pytest

from .support import Node, copied_bytes, cpu_seconds, guards, python, wait_until

#: Writes its descriptors and their targets into a file.
DESCRIPTORS = """
import os, sys
found = []
for number in range(256):
    try:
        status = os.fstat(number)
    except OSError:
        continue
    flags = __import__("fcntl").fcntl(number, 3) & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK)
    found.append((number, os.readlink(f"/proc/self/fd/{number}"), flags))
with open(sys.argv[1], "w") as file:
    file.write("\\n".join(map(str, found)))
"""

#: Prints inherited properties besides descriptors and environment.
CONTEXT = """
import os, resource, sys
print(os.getcwd(), oct(os.umask(0)), os.nice(0), os.getgroups(), os.getresuid(), os.getresgid())
print(sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0))
for name in sorted(dir(resource)):
    if name.startswith("RLIMIT_"):
        print(name, resource.getrlimit(getattr(resource, name)))
for line in open("/proc/self/status"):
    if line.startswith(("Seccomp", "NoNewPrivs", "Cap", "TracerPid", "Sig", "Shd")):
        print(line.strip())
print(open("/proc/self/oom_score_adj").read(), open("/proc/self/personality").read())
"""


def popen(node: Node, *words: object, direct: bool = False, **options: Any) -> subprocess.Popen[bytes]:
    """Start a run, or the same command without cronlock, with pipes of the caller's choice."""
    command = [str(word) for word in words] if direct else node.line("--min-hold", "0", "--", *words)
    return subprocess.Popen(command, env=node.environ, cwd=node.directory, start_new_session=True, **options)


def stream(file: IO[bytes] | None) -> IO[bytes]:
    """Return the end of a pipe, which must exist."""
    assert file is not None
    return file


def test_bytes_pass_unchanged(node: Node) -> None:
    """Standard input, output and error carry every byte unchanged."""
    data = os.urandom(3_000_000)
    process = popen(
        node, "sh", "-c", "cat; echo to stderr >&2; exit 3",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = process.communicate(data, timeout=120)
    assert (process.returncode, out == data, err) == (3, True, b"to stderr\n")


def test_input_is_left_for_the_next_command(node: Node) -> None:
    """cronlock takes nothing of its standard input: the next reader goes on where the command ended."""
    line = " ".join(f"'{word}'" for word in node.line("--", "sh", "-c", "read x; echo first:$x").copy())
    shell = popen(
        node, "sh", "-c", f"{line}; read y; echo second:$y", direct=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    out, _ = shell.communicate(b"one\ntwo\n", timeout=120)
    assert out == b"first:one\nsecond:two\n"


@pytest.mark.parametrize(
    "closed", [combination for size in range(4) for combination in itertools.combinations((0, 1, 2), size)]
)
def test_descriptors(node: Node, file_node: Node, closed: tuple[int, ...]) -> None:
    """The command has the same descriptors as without cronlock, even if standard ones are closed."""
    found: list[list[str]] = []
    for place, direct in ((node, True), (node, False), (file_node, False)):
        target = node.directory / f"descriptors-{len(found)}"
        command = python(DESCRIPTORS, target)
        line = command if direct else place.line("--min-hold", "0", "--", *command)
        read, write = os.pipe()

        process = subprocess.Popen(
            line, env=place.environ, cwd=node.directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, close_fds=False, pass_fds=(), start_new_session=True,
            preexec_fn=_closer(closed, write),  # noqa: PLW1509 - no thread is running
        )  # fmt: skip
        os.close(write)
        os.close(read)
        assert process.wait(120) == 0
        found.append([_without_number(line) for line in target.read_text().split("\n")])
    direct_found, redis_found, file_found = found
    assert redis_found == direct_found
    extra = [line for line in file_found if line not in direct_found]
    assert len(file_found) == len(direct_found) + 1
    assert [".lock" in line for line in extra] == [True]


def _closer(closed: tuple[int, ...], extra: int) -> Any:
    """Return a preexec function that closes the streams `closed` and passes `extra` as 9."""

    def close() -> None:
        os.dup2(extra, 9)
        for number in closed:
            os.close(number)

    return close


def _without_number(line: str) -> str:
    """Return a line about a descriptor without the number of its pipe."""
    return line if "pipe:" not in line else line.partition("pipe:")[0] + line.rpartition("]")[2]


def test_inherited_descriptor_works(node: Node) -> None:
    """A descriptor that cronlock is given beyond the standard ones reaches the command."""
    read, write = os.pipe()
    process = popen(node, *python(f"import os; os.write({write}, b'through')"), pass_fds=(write,))
    os.close(write)
    assert process.wait(120) == 0
    with open(read, "rb") as file:
        assert file.read() == b"through"


def test_much_output_costs_the_wrapper_nothing(node: Node) -> None:
    """100 MB of output pass by wrapper and guard, which copy none of it."""
    size = 100 * 2**20
    wait = "while [ ! -e {} ]; do sleep 0.05; done"
    code = f"echo s; {wait.format('go')}; head -c {size} /dev/zero; {wait.format('end')}"
    process = popen(node, "sh", "-c", code, stdout=subprocess.PIPE)
    out = stream(process.stdout)
    assert out.read(2) == b"s\n"
    family = [process.pid, *guards(process.pid)]
    before = [(copied_bytes(pid), cpu_seconds(pid)) for pid in family]
    node.finish()
    left = size
    while left:
        left -= len(out.read(min(left, 1 << 20)))
    after = [(copied_bytes(pid), cpu_seconds(pid)) for pid in family]
    for (bytes_before, cpu_before), (bytes_after, cpu_after) in zip(before, after):
        assert bytes_after - bytes_before < 100_000
        assert cpu_after - cpu_before < 0.5
    (node.directory / "end").touch()
    assert out.read() == b""
    assert process.wait(120) == 0


def test_reader_that_goes_away(node: Node) -> None:
    """A command whose reader closes gets SIGPIPE, as without cronlock."""
    statuses = []
    for direct in (True, False):
        process = popen(node, "yes", direct=direct, stdout=subprocess.PIPE)
        out = stream(process.stdout)
        assert out.read(4) == b"y\ny\n"
        out.close()
        statuses.append(process.wait(120))
    assert statuses == [-signal.SIGPIPE, 128 + signal.SIGPIPE]


def test_reader_sees_the_end_when_the_command_closes(node: Node) -> None:
    """Wrapper and guard keep no copy of standard output: its reader gets EOF while the command still runs."""
    code = "import os, time\nos.write(1, b'x')\nos.close(1)\nwhile not os.path.exists('go'): time.sleep(0.05)"
    process = popen(node, *python(code), stdout=subprocess.PIPE)
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(stream(process.stdout).read()))
    reader.start()
    reader.join(60)
    assert seen == [b"x"]
    assert process.poll() is None
    node.finish()
    assert process.wait(120) == 0


def test_writer_gets_epipe_when_the_command_closes_stdin(node: Node) -> None:
    """Wrapper and guard keep no copy of standard input: its writer gets EPIPE once the command closes it."""
    code = "import os, time\nos.close(0)\nos.write(1, b'x')\nwhile not os.path.exists('go'): time.sleep(0.05)"
    process = popen(node, *python(code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert stream(process.stdout).read(1) == b"x"

    def is_broken() -> bool:
        try:
            stream(process.stdin).write(b"more")
        except BrokenPipeError:
            return True
        return False

    wait_until(is_broken, "a broken pipe")
    node.finish()
    assert process.wait(120) == 0


def _environment(node: Node, environ: dict[bytes, bytes], direct: bool) -> list[bytes]:
    command = ["/usr/bin/env", "-0"]
    line = command if direct else node.line("--min-hold", "0", "--", *command)
    done = subprocess.run(line, env=environ, cwd=node.directory, stdout=subprocess.PIPE, timeout=120, check=True)
    return sorted(done.stdout.split(b"\0"))


@pytest.mark.parametrize(
    "locale",
    [
        {},
        {b"LANG": b"C"},
        {b"LC_ALL": b"C"},
        {b"LC_ALL": b"POSIX"},
        {b"LC_CTYPE": b"C"},
        {b"LC_CTYPE": b"C.UTF-8"},
        {b"LANG": b"de_DE.ISO-8859-1"},
        {b"PYTHONCOERCECLOCALE": b"0"},
        {b"LC_ALL": b"", b"LC_CTYPE": b"", b"LANG": b""},
    ],
)
def test_environment(node: Node, locale: dict[bytes, bytes]) -> None:
    """The command's environment is as without cronlock, but for the documented variables."""
    environ = {
        name.encode(): value.encode("utf-8", "surrogateescape")
        for name, value in node.environ.items()
        if name != "LANG" and not name.startswith("LC_")
    }
    environ.update({b"EMPTY": b"", b"BYTES": b"\xff\xfe\x80", b"LINES_": b"a\nb=c", **locale})
    direct = _environment(node, environ, direct=True)
    locked = _environment(node, environ, direct=False)
    added = [item for item in locked if item not in direct]
    assert [item for item in direct if item not in locked] == []
    names = [b"CRONLOCK_ATTEMPT", b"CRONLOCK_FENCE", b"CRONLOCK_KEY", b"CRONLOCK_OWNER"]
    assert [item.partition(b"=")[0] for item in added] == names


def test_process_context(node: Node) -> None:
    """Directory, umask, priority, limits, groups, capabilities and signals are as without cronlock."""
    lines = []
    for direct in (True, False):
        command = python(CONTEXT)
        words = command if direct else node.line("--min-hold", "0", "--", *command)
        code = 'umask 027; ulimit -S -n 77; ulimit -c 0; ulimit -s 4096; cd /usr; exec nice -n 3 "$@"'
        process = popen(node, "bash", "-c", code, "bash", *words, direct=True, stdout=subprocess.PIPE)
        told = process.communicate(timeout=120)[0].decode().splitlines()
        # The number of signals queued for all processes of the user.
        lines.append([line for line in told if not line.startswith("SigQ:")])
        assert process.returncode == 0
    assert lines[0] == lines[1]


def test_variables(node: Node) -> None:
    """The command learns key, owner and fence; the fence grows with each run."""
    fences = []
    owners = set()
    for _ in range(3):
        done = node.run(
            "--min-hold",
            "0",
            "--",
            "sh",
            "-c",
            'echo "$CRONLOCK_KEY|$CRONLOCK_OWNER|$CRONLOCK_FENCE|$CRONLOCK_TAKEOVER"',
            key="a key",
        )
        key, owner, fence, takeover = done.out.rstrip("\n").split("|")
        assert (key, takeover) == ("a key", "")
        owners.add(owner)
        fences.append(int(fence))
    assert fences == sorted(set(fences))
    assert fences[0] > 0
    assert len(owners) == 3


def test_nested_run(node: Node) -> None:
    """A run inside a run has its own key, owner and fence."""
    show = 'echo "$CRONLOCK_KEY $CRONLOCK_OWNER"'
    inner = node.line("--", "sh", "-c", show, key="inner")
    code = f'{show}; "$@"; exit $?'
    done = node.run("--", "sh", "-c", code, "sh", *inner, key="outer")
    assert (done.status, done.err) == (0, "")
    (outer_key, outer_owner), (inner_key, inner_owner) = (line.split() for line in done.out.splitlines())
    assert (outer_key, inner_key) == ("outer", "inner")
    assert outer_owner != inner_owner


def test_nested_run_of_the_same_key_is_skipped(node: Node) -> None:
    """A run of a key that is held is a skip, even from inside that run."""
    done = node.run("--", *node.line("--skip-status", "9", "--", "echo", "ran"))
    assert (done.status, done.out) == (9, "")


def test_without_lease_there_is_no_fence(node: Node) -> None:
    """A run without a lease has no fence and does not inherit one from an outer run."""
    words = ("--backend", "redis://127.0.0.1:9", "--backend-timeout", "0.2", "--on-error", "run", "--")
    done = node.run(*words, "sh", "-c", 'echo "[$CRONLOCK_FENCE]"', env={"CRONLOCK_FENCE": "7"})
    assert (done.status, done.out) == (0, "[]\n")
