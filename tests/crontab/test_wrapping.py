"""The lines that wrap writes."""

from __future__ import annotations

import pytest

from cronlock.crontab.lines import parse
from cronlock.crontab.wrapping import Options, compact, wrap

_LEFT = [
    "@reboot job",
    "0~30 4 * * * job",
    "* * * * * cronlock run --key a -- job",
    "* * * * * /usr/local/bin/cronlock run -k a -- job",
    "* * * * * env FOO=bar cronlock run --key a -- job",
    "* * * * * FOO=bar cronlock run --key a -- job",
    "* * * * * nice -n 10 cronlock run --key a -- job",
    "* * * * * sh -c 'cronlock run --key a -- job'",
    '* * * * * /bin/bash -c "cd /x && cronlock run --key a -- job"',
    "* * * * * cd /x && cronlock run --key a -- job",
    "* * * * * (cronlock run --key a -- job)",
    "* * * * * if true; then cronlock run --key a -- job; fi",
    "* * * * * out=$(cronlock run --key a -- job); echo $out",
    "* * * * * echo `cronlock run --key a -- job`",
    "* * * * * python3 -m cronlock run --key a -- job",
    "* * * * * /usr/bin/python3 /opt/cronlock.pyz run --key a -- job",
    "* * * * * 'cronlock' \"run\" --key a -- job",
    "* * * * * cronlock run --key a -- job%stdin",
]


def _wrap(text: str, *, system: bool = False, **options: object) -> tuple[str, list[tuple[int, str]]]:
    wrapped = wrap(parse(text, "tab", system=system), Options(**{"prefix": "tab", **options}))  # type: ignore[arg-type]
    return wrapped.text, [(remark.number, remark.text) for remark in wrapped.remarks]


@pytest.mark.parametrize(
    ("line", "wrapped"),
    [
        ("* * * * * job", "* * * * * cronlock run --key tab.job --every 1m -- job"),
        ("*/5\t* * * *  job  -x ", "*/5\t* * * *  cronlock run --key tab.job-x --every 5m -- job  -x "),
        ("*/7 * * * * job", "*/7 * * * * cronlock run --key tab.job --every 4m -- job"),
        ("0 * * * * job", "0 * * * * cronlock run --key tab.job --every 1h -- job"),
        ("0 3 1 * * job", "0 3 1 * * cronlock run --key tab.job --every 1h -- job"),
        ("0 0 31 2 * job", "0 0 31 2 * cronlock run --key tab.job --every 1h -- job"),
        ("@daily /usr/bin/job", "@daily cronlock run --key tab.job --every 1h -- /usr/bin/job"),
        (
            "@daily cd /srv && ./run 'it is' > log",
            "@daily cronlock run --key tab.run-it-is --every 1h -- /bin/sh -c 'cd /srv && ./run '\\''it is'\\'' > log'",
        ),
        (
            "0 22 * * * mail -s '5\\%' joe%Joe,%%Hi",
            "0 22 * * * cronlock run --key tab.mail-s-5-joe --every 1h -- mail -s '5\\%' joe%Joe,%%Hi",
        ),
        (
            "0 22 * * * job $(date +\\%F)%in",
            "0 22 * * * cronlock run --key tab.job --every 1h -- /bin/sh -c 'job $(date +\\%F)'%in",
        ),
        ("0 1 * * * echo hi", "0 1 * * * cronlock run --key tab.echo-hi --every 1h -- /bin/sh -c 'echo hi'"),
    ],
)
def test_line(line: str, wrapped: str) -> None:
    """Plain words stay; a command that needs a shell becomes one argument of it."""
    assert _wrap(f"{line}\n") == (f"{wrapped}\n", [])


def test_user_and_minus_stay_in_front() -> None:
    """The part before the command is not changed."""
    text, _ = _wrap("-*/5 * * * * www-data job | tee\n", system=True)
    assert text == "-*/5 * * * * www-data cronlock run --key tab.job --every 5m -- /bin/sh -c 'job | tee'\n"


def test_the_shell_is_the_one_of_the_line() -> None:
    """The command goes to the shell that cron would use."""
    text, _ = _wrap("* * * * * a;b\nSHELL=/bin/bash\n* * * * * a;c\n")
    assert [line.split(" -- ")[1] for line in text.splitlines() if " -- " in line] == [
        "/bin/sh -c 'a;b'",
        "/bin/bash -c 'a;c'",
    ]


@pytest.mark.parametrize("variable", ["SHELL=/bin/zsh", "BASH_ENV=/etc/functions", "ENV=/etc/functions"])
def test_words_that_may_be_functions_go_to_the_shell(variable: str) -> None:
    """A shell that reads a file at its start may define functions."""
    assert " -c 'job x'\n" in _wrap(f"{variable}\n* * * * * job x\n")[0]


@pytest.mark.parametrize("shell", ["/usr/bin/fish", "/bin/csh", "/usr/bin/python3", "/opt/my shells/sh"])
def test_other_shells(shell: str) -> None:
    """Plain words work under any shell; syntax needs a shell whose quoting is known."""
    text, remarks = _wrap(f"SHELL={shell}\n* * * * * job x\n* * * * * a; b\n")
    assert "-- job x\n" in text
    assert text.endswith("\n* * * * * a; b\n")
    ((number, remark),) = remarks
    assert number == 3
    assert remark.startswith(f"left as it is: SHELL is {shell}")


@pytest.mark.parametrize("line", _LEFT)
def test_left_as_it_is(line: str) -> None:
    """Lines that are wrapped already, in any form, or cannot be wrapped do not change."""
    assert _wrap(f"{line}\n")[0] == f"{line}\n"


def test_quoting_cronlock_is_not_calling_it() -> None:
    """A command that only mentions cronlock is wrapped."""
    text, _ = _wrap("* * * * * grep -q 'cronlock run' f\n* * * * * echo cronlock run\n")
    assert text.count("cronlock run --key") == 2


def test_off() -> None:
    """A comment keeps a line unwrapped."""
    text = "# cronlock: off\n* * * * * logrotate\n"
    assert _wrap(text) == (text, [])


def test_keys_of_comments() -> None:
    """A key in the comment above is used unchanged, quoted if needed."""
    text, remarks = _wrap(
        "# key: nightly backup\n@daily a\n#KEY: 5%'s\n@daily b\n# key: --x\n@daily c\n# key: y\n\n@daily d\n"
    )
    assert [line.split(" --every")[0] for line in text.splitlines() if line.startswith("@")] == [
        "@daily cronlock run --key 'nightly backup'",
        "@daily cronlock run --key '5\\%'\\''s'",
        "@daily cronlock run --key=--x",
        "@daily cronlock run --key tab.d",
    ]
    assert remarks == [(7, "unused key: no job in the line below it")]


@pytest.mark.parametrize("key", ["", "a\tb", "back\\slash", "x" * 201, "caf\udce9"])
def test_bad_keys(key: str) -> None:
    """A line with an invalid key is left as it is; the others are wrapped."""
    text, remarks = _wrap(f"\n# key: {key}\n@daily a\n@daily b\n")
    assert (text.count("cronlock run"), "\n@daily a\n" in text) == (1, True)
    ((number, remark),) = remarks
    assert number == 3
    assert remark.startswith("left as it is: the key in the comment above: ")


def test_keys_are_unique_and_depend_on_their_own_line_only() -> None:
    """Similar lines get different keys, in any order; keys in use are not assigned again."""
    lines = ["0 1 * * * job 'a b'", "0 2 * * * job a b", "0 3 * * * job a b", "0 3 * * * job a b"]
    keys = [line.split()[8] for line in _wrap("".join(f"{line}\n" for line in lines))[0].splitlines()]
    assert len(set(keys)) == 4
    assert all(key.startswith("tab.job-a-b-") for key in keys)
    swapped = [line.split()[8] for line in _wrap("".join(f"{lines[n]}\n" for n in (2, 0, 1)))[0].splitlines()]
    assert swapped == [keys[2], keys[0], keys[1]]
    for order in (0, 1):
        blocks = [
            "* * * * * y\n* * * * * job\n",
            "* * * * * cronlock run --key tab.job -- x\n# key: tab.y\n* * * * * x\n",
        ]
        text, _ = _wrap(blocks[order] + blocks[1 - order])
        assert len({line.split("--key ")[1].split()[0] for line in text.splitlines() if "--key " in line}) == 4


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("/usr/local/bin/backup.sh --all /srv/data", "tab.backup-all-data"),
        ("cd /srv/app && ./manage.py report", "tab.app-manage-report"),
        ("[ -x /usr/bin/x ] && nice -n 10 /usr/bin/x y", "tab.x-y"),
        ("FOO=bar timeout 5m python3 -u /opt/job.py", "tab.job"),
        ("/bin/bash -c 'a b'", "tab.a-b"),
        ("/usr/bin/tab", "tab"),
        ("job >/dev/null 2>&1", "tab.job"),
        (":", "tab.job"),
        ("caf\udce9 größe", "tab.caf-gr-e"),
        ("job " + "long " * 20, "tab.job-long-long-long-long-long-long-6a69d1"),
    ],
)
def test_keys_say_what_runs(command: str, key: str) -> None:
    """The key names the program and its arguments, not its launchers."""
    assert f" --key {key} " in _wrap(f"0 1 * * * {command}\n")[0]


def test_options() -> None:
    """ttl, period and program are written as asked; the period never exceeds the line's."""
    text, _ = _wrap("*/5 * * * * a\n0 3 * * * b\n", ttl="10m", period=7200.0, program="/opt/bin/cronlock", prefix="")
    assert text == (
        "*/5 * * * * /opt/bin/cronlock run --key a --ttl 10m --every 5m -- a\n"
        "0 3 * * * /opt/bin/cronlock run --key b --ttl 10m --every 2h -- b\n"
    )
    other = "* * * * * /opt/bin/cl run --key a -- a\n"
    assert _wrap(other, program="/opt/bin/cl")[0] == other


def test_too_long_for_cron() -> None:
    """A line that would be too long for cron is left; one of the maximum length is wrapped."""
    for count, wrapped in ((900, True), (960, False)):
        text, remarks = _wrap(f"* * * * * job {'a' * count}\n")
        assert ("cronlock run" in text) is wrapped
        assert [number for number, remark in remarks if "too long for cron" in remark] == ([] if wrapped else [1])


@pytest.mark.parametrize("opening", ["$(", '"$(', "`", "(", "{ ", "${", "'", '"', "\\", "<(", "$((", "a=(", "&&", "%"])
def test_unterminated_syntax(opening: str) -> None:
    """Unterminated syntax is not an error, however long the line; wrapping twice changes nothing."""
    for count in (1, 2, 250, 5_000):
        text, _ = _wrap(f"* * * * * x {opening * count}\n")
        assert _wrap(text)[0] == text


def test_newline_at_the_end() -> None:
    """A last line without a newline, which cron ignores, gets one."""
    text, remarks = _wrap("0 1 * * * a")
    assert text.endswith("-- a\n")
    assert [number for number, text in remarks if "no newline at the end" in text] == [1]
    assert _wrap("") == ("", [])


def test_oddities() -> None:
    """Lines with a problem that wrapping does not change are wrapped, with a remark."""
    _, remarks = _wrap("0 1 * * * a\r\n0 1 * * * b &\n0 1 * * * c & wait\n")
    assert [number for number, _ in remarks] == [1, 2]
    assert "carriage return" in remarks[0][1]
    assert "&" in remarks[1][1]


def test_random_delay() -> None:
    """A random delay of cronie that exceeds the hold gives a remark."""
    _, remarks = _wrap("RANDOM_DELAY=20\n0 3 * * * a\n*/10 * * * * b\n")
    ((number, text),) = remarks
    assert number == 3
    assert text.startswith("RANDOM_DELAY spreads the machines over 20m")


@pytest.mark.parametrize(
    ("seconds", "text"), [(60, "1m"), (90, "1m30s"), (3600, "1h"), (5400, "1h30m"), (2419200, "28d")]
)
def test_compact(seconds: float, text: str) -> None:
    """Durations are written short and exact."""
    assert compact(seconds) == text
