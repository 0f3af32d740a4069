"""Exit statuses of ``run`` and their messages."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess

import pytest

from labs.servers.process import free_port

from .support import Done, Node, Started, Tree, python


def is_free(node: Node) -> bool:
    """Whether the key is free."""
    return node.run("--", "echo", "free").out == "free\n"


@pytest.mark.parametrize("status", [0, 1, 7, 64, 69, 255])
def test_status_is_the_commands_own(node: Node, status: int) -> None:
    """cronlock exits with the command's status."""
    done = node.run("--", "sh", "-c", f"exit {status}")
    assert (done.status, done.err) == (status, "")


@pytest.mark.parametrize("name", ["SEGV", "KILL", "TERM", "ABRT", "PIPE", "USR1", "RTMAX"])
def test_signal_that_ended_the_command(node: Node, name: str) -> None:
    """A command that died of signal N gives 128 + N."""
    done = node.run("--", "bash", "-c", f"ulimit -c 0; kill -{name} $$")
    number = signal.SIGRTMAX if name == "RTMAX" else getattr(signal, f"SIG{name}")
    assert (done.status, done.err) == (128 + number, "")


_NOT_FOUND = ("no-such-command-anywhere", "./no/such/file", "/etc/passwd/file", "", "./missing-interpreter")
_NOT_EXECUTABLE = ("./plain", "/", "./broken")


@pytest.mark.parametrize("command", [*_NOT_FOUND, *_NOT_EXECUTABLE])
def test_command_that_cannot_be_started(node: Node, command: str) -> None:
    """A missing command gives 127, a file that is not executable 126, each with one line and a free key."""
    (node.directory / "missing-interpreter").write_text("#!/no/such/interpreter\n")
    (node.directory / "missing-interpreter").chmod(0o755)
    (node.directory / "plain").write_text("echo ran\n")
    (node.directory / "broken").write_bytes(b"\x7fELF" + bytes(60))
    (node.directory / "broken").chmod(0o644)
    done = node.run("--", command)
    assert done.status == (127 if command in _NOT_FOUND else 126)
    assert len(done.messages) == 1
    assert "nothing was run" in done.err
    assert is_free(node)


def test_unexecutable_file_in_path_is_skipped(node: Node) -> None:
    """The search of PATH continues after a file that is not executable, as in execvp(3)."""
    for name, mode in (("one", 0o644), ("two", 0o755)):
        (node.directory / name).mkdir()
        (node.directory / name / "tool").write_text(f"#!/bin/sh\necho {name}\n")
        (node.directory / name / "tool").chmod(mode)
    path = f"{node.directory}/one:{node.directory}/two:{node.environ['PATH']}"
    assert node.run("--", "tool", env={"PATH": path}).out == "two\n"
    path = f"{node.directory}/one"
    assert node.run("--", "tool", env={"PATH": path}, key="other").status == 126


def test_directory_in_path_without_search_permission(node: Node) -> None:
    """It counts as empty, as for a shell: a command that is nowhere else is not found."""
    closed = node.directory / "closed"
    closed.mkdir(mode=0o700)
    line = node.line("--", "no-such-command")
    if os.geteuid() == 0:
        os.chown(closed, 65534, 65534)
        line = ["unshare", "--map-root-user", *line]  # May do what root may only with what is root's.
    else:
        closed.chmod(0)
    started = node.spawn(line, env={"PATH": f"{closed}:{node.environ['PATH']}"})
    status = started.wait()
    if started.err.startswith("unshare:"):
        pytest.skip(f"needs user namespaces: {started.err.strip()}")
    assert status == 127
    assert "command not found" in started.err


def test_script_without_interpreter_line(node: Node) -> None:
    """A script without ``#!`` is run by /bin/sh, as a shell would."""
    script = node.directory / "script"
    script.write_text('echo "script with $1"\nexit 3\n')
    script.chmod(0o755)
    done = node.run("--", "./script", "an argument")
    assert (done.status, done.out, done.err) == (3, "script with an argument\n", "")


def test_arguments_reach_the_command_as_they_are(node: Node) -> None:
    """Without a shell, spaces, quotes, empty words, options and invalid UTF-8 stay unchanged."""
    words = ["", " two words ", "$HOME", "*", "--key", "-v", "--", "a\"b'c", "new\nline", "\udcff\udcfe"]
    done = node.run("--", *python("import os, sys; os.write(1, ascii(sys.argv[1:]).encode())", *words))
    assert done.out == ascii(words)


def test_timeout_term_is_enough(node: Node) -> None:
    """After --timeout the command gets TERM; status 124 and one line."""
    done = node.run("--timeout", "0.5", "--", "sleep", "300")
    assert done.status == 124
    assert len(done.messages) == 1
    assert "--timeout" in done.err


def test_timeout_kills_a_command_that_ignores_term(node: Node) -> None:
    """After --kill-after all processes of the command are killed, in other sessions too."""
    tree = Tree(node.directory / "tree")
    done = node.run("--timeout", "8", "--kill-after", "4", "--", *tree.command)
    assert done.status == 124
    assert tree.alive() == []
    assert tree.last_beat() - tree.first_beat() > 9.5, "killed before --kill-after was over"


def test_timeout_of_a_command_that_handles_term(node: Node) -> None:
    """A timeout gives 124 even if the command handles TERM."""
    code = "trap 'echo cleaned; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    done = node.run("--timeout", "5", "--", "sh", "-c", code)
    assert (done.status, done.out) == (124, "ready\ncleaned\n")


def test_timeout_zero_is_none(node: Node) -> None:
    """A timeout of 0 is no limit, as timeout(1) has it."""
    assert node.run("--timeout", "0", "--", "sleep", "0.2").status == 0


def test_skip_is_silent(node: Node) -> None:
    """Without a terminal a skip has status 0 and prints nothing."""
    assert node.run("--", "true").status == 0
    done = node.run("--", "echo", "ran")
    assert (done.status, done.out, done.err) == (0, "", "")


def test_skip_status(node: Node) -> None:
    """--skip-status is the exit status of a skip only."""
    assert node.run("--skip-status", "99", "--", "sh", "-c", "exit 4").status == 4
    done = node.run("--skip-status", "99", "--", "echo", "ran")
    assert (done.status, done.out, done.err) == (99, "", "")


def test_skip_is_reported_with_verbose(node: Node) -> None:
    """With --verbose a skip names the run."""
    assert node.run("--", "true").status == 0
    done = node.run("-v", "--", "echo", "ran")
    assert (done.status, done.out) == (0, "")
    assert [line for line in done.messages if "skipped" in line and os.uname().nodename in line]


@pytest.mark.parametrize(("words", "speaks"), [((), True), (("-q",), False)])
def test_skip_is_reported_at_a_terminal(node: Node, words: tuple[str, ...], speaks: bool) -> None:
    """At a terminal a skip prints a line unless --quiet."""
    assert node.run("--", "true").status == 0
    master, slave = pty.openpty()
    try:
        started = node.start(*words, "--", "echo", "ran", stderr=slave)
        assert started.wait() == 0
        os.write(slave, b"end\n")
        said = b""
        while b"end" not in said:
            said += os.read(master, 4096)
    finally:
        os.close(master)
        os.close(slave)
    assert (b"skipped" in said) is speaks
    assert started.out == ""


def test_json_messages_parse(node: Node) -> None:
    """With --log-format json each message is one JSON object that names the key."""
    key = 'a "quoted" \\ kéy'
    assert node.run("--", "true", key=key).status == 0
    done = node.run("-v", "--log-format", "json", "--", "true", key=key)
    assert done.messages
    for line in done.messages:
        fields = json.loads(line)
        assert fields["key"] == key
        assert {"time", "level", "message"} <= fields.keys()


@pytest.mark.skipif(os.path.exists("/dev/log"), reason="this machine has a syslog daemon, which takes the message")
def test_without_a_syslog_daemon(node: Node) -> None:
    """Without a syslog daemon, as in a container, one warning and all messages go to standard error."""
    done = node.run("--log", "syslog", "-v", "--", "true")
    assert done.status == 0
    assert [line for line in done.messages if "no syslog daemon" in line] == done.messages[:1]
    assert "outcome=exited" in done.messages[-1]
    words = ("--log", "syslog", "-q", "--backend", "redis://127.0.0.1:1", "--backend-timeout", "1", "--", "true")
    assert_one_error(node.run(*words), 69)


@pytest.mark.parametrize("redirection", ["", "<&-", "<&- >&-", "2>&-"])
def test_without_dev_null(file_node: Node, redirection: str) -> None:
    """Without /dev/null nothing starts, one line says why, and the key stays free."""
    ran = file_node.directory / "ran"
    started = start_with_own_dev(file_node, f'exec "$@" {redirection}', "--", "touch", ran)
    assert started.wait() == 70
    assert ("/dev/null" in started.err and len(started.messages) == 1) is (redirection != "2>&-"), started.err
    assert not ran.exists()
    assert is_free(file_node)


@pytest.mark.parametrize("second", ["--key=other", "-kother"])
def test_two_keys(node: Node, second: str) -> None:
    """Two keys are refused: only one of them would guard the line."""
    done = node.run(second, "--", "echo", "ran")
    assert_one_error(done, 64)
    assert "'job' and 'other'" in done.err


def test_syslog_instead_of_stderr(node: Node) -> None:
    """With --log syslog standard error stays the command's own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(node.directory / "log"))
        daemon.settimeout(60)
        code = 'touch /dev/null; mount --bind null /dev/null; ln -s "$PWD/log" /dev/log; exec "$@"'
        started = start_with_own_dev(node, code, "--log", "syslog", "--", "true")
        assert (started.wait(), started.err) == (0, "")
        assert b"outcome=exited" in daemon.recv(4096)


def start_with_own_dev(node: Node, code: str, *words: object) -> Started:
    """Start a run through a shell that runs `code` in a /dev of its own, which is empty; ./null is the old one's."""
    code = f"touch null; mount --bind /dev/null null; mount -t tmpfs none /dev; {code}"
    way = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*way, "true"], capture_output=True).returncode:
        pytest.skip("needs root, or user namespaces")
    return node.spawn([*way, "sh", "-c", code, "sh", *node.line(*words)], cwd=node.directory)


def test_nothing_listens(node: Node) -> None:
    """An unreachable backend gives 69 and one line, and nothing runs."""
    ran = node.directory / "ran"
    done = node.run("--backend", f"redis://127.0.0.1:{free_port()}", "--backend-timeout", "1", "--", "touch", str(ran))
    assert_one_error(done, 69)
    assert not ran.exists()


@pytest.mark.parametrize("words", [("--no-such-option",), ("--ttl", "soon", "--", "true"), ("--ttl",), ()])
def test_usage(node: Node, words: tuple[str, ...]) -> None:
    """A usage error gives 64 and one line."""
    assert_one_error(node.run(*words), 64)


def test_configuration(node: Node) -> None:
    """A bad variable gives 78 and one line."""
    assert_one_error(node.run("--", "true", env={"CRONLOCK_TTL": "soon"}), 78)


def test_status_of_the_command_wins_over_a_failed_release(own_node: Node) -> None:
    """If the backend is gone when the command ends, the command's status stays, with one line."""
    words = ("--backend-timeout", "1", "--", "sh", "-c", "redis-cli -p $0 shutdown nosave >/dev/null 2>&1; exit 7")
    done = own_node.run(*words, own_node.backend.rpartition(":")[2])
    assert done.status == 7
    assert len(done.messages) == 1
    assert "release" in done.err


def assert_one_error(done: Done, status: int) -> None:
    """Check for `status` and one line of cronlock's on standard error, and no traceback."""
    assert (done.status, done.out) == (status, ""), done.err
    assert len(done.messages) == 1, done.err
    assert done.err.startswith("cronlock: ")
    assert done.err.endswith("\n")
    assert "Traceback" not in done.err
