"""The dialects of cron, and which lines have users."""

from __future__ import annotations

import pytest

from cronlock.crontab import schedule, user_field
from cronlock.crontab.dialects import CRON, DIALECTS, detect
from cronlock.crontab.lines import CrontabError, parse
from cronlock.crontab.wrapping import Options, wrap

#: Dialect, schedule, seconds between ticks; None if each machine has its own time, 0 if unreadable.
_SCHEDULES = [
    ("cron", "0 3 * * fri-sun", 0),
    ("cronie", "0 3 * * fri-sun", 86400),
    ("cronie", "0 3 * * sat-mon", 0),
    ("systemd", "0 3 * * fri-sun", 86400),
    ("systemd", "@quarterly", 90 * 86400),
    ("busybox", "0 22-4/2 * * fri-mon", 7200),
    ("busybox", "0 3 * nov-feb *", 86400),
    ("busybox", "0 3 * * 7", 0),
    ("busybox", "0~9 3 * * *", 0),
    ("supercronic", "*/10 * * * * * *", 10),
    ("supercronic", "10,40 0 3 * * * 2030", 30),
    ("supercronic", "0,59 * * * * * *", 1),
    ("supercronic", "0 3 * * * 2030", 86400),
    ("supercronic", "0 0 LW january,july Monday", 86400),
    ("supercronic", "0 0 15W * ?", 28 * 86400),
    ("supercronic", "0 0 * * fri#2", 28 * 86400),
    ("supercronic", "5/15 * * * *", 900),
    ("supercronic", "0 3 * * * x", 0),
    ("supercronic", "0 3 * * 5-7", 0),
    ("supercronic", "@reboot", 0),
    ("kubernetes", "@every 1h30m", 5400),
    ("kubernetes", "@every soon", 0),
    ("kubernetes", "0 3 ? * mon-fri", 86400),
    ("kubernetes", "0 3 * * 7", 0),
    ("jenkins", "H/15 * * * *", 900),
    ("jenkins", "H H(0-7) * * *", 86400),
    ("jenkins", "H(0-29)/10 * * * *", 600),
    ("jenkins", "H H H H H", 86400),
    ("cron", "H * * * *", 0),
    ("bsd", "@every_minute", 60),
    ("bsd", "@300", None),
    ("bsd", "@every_second", None),
    ("bsd", "0~9 3 * * *", None),
]


@pytest.mark.parametrize(("dialect", "text", "gap"), _SCHEDULES)
def test_schedule(dialect: str, text: str, gap: float | None) -> None:
    """Each dialect reads its own schedules and refuses those of others."""
    if gap == 0:
        with pytest.raises(ValueError, match=r"is no|is none of|not a duration"):
            schedule.read(text, DIALECTS[dialect])
    else:
        assert schedule.read(text, DIALECTS[dialect]).gap == gap


@pytest.mark.parametrize(
    ("dialect", "line", "wrapped"),
    [
        ("busybox", "0 3 * * * job 100% '%'", "0 3 * * * cronlock run --key job-100 --every 1h -- job 100% '%'"),
        ("busybox", "0 3 * * * -n job", "0 3 * * * cronlock run --key n-job --every 1h -- -n job"),
        ("supercronic", "0 3 * * * job\r", "0 3 * * * cronlock run --key job --every 1h -- job"),
        (
            "supercronic",
            "*/30 * * * * * * a; b %F",
            "*/30 * * * * * * cronlock run --key b-f --every 30s -- /bin/sh -c 'a; b %F'",
        ),
        ("supercronic", "0 3 * * * 2030 job", "0 3 * * * 2030 cronlock run --key job --every 1h -- job"),
        ("kubernetes", "@every 10m  job", "@every 10m  cronlock run --key job --every 10m -- job"),
        ("jenkins", "H/15 * * * *\tjob", "H/15 * * * *\tcronlock run --key job --every 15m -- job"),
        ("cronie", "0 3 * * * -n  job", "0 3 * * * -n  cronlock run --key job --every 1h -- job"),
        ("bsd", "0 3 * * * -n -q job -s x", "0 3 * * * -n -q cronlock run --key job-s-x --every 1h -- job -s x"),
        ("bsd", "@daily -ns job", "@daily -ns cronlock run --key job --every 1h -- job"),
        ("cron", "0 3 * * * -n job%in", "0 3 * * * -n cronlock run --key job --every 1h -- job%in"),
        ("cron", "0 3 * * * -nice job", "0 3 * * * cronlock run --key nice-job --every 1h -- -nice job"),
    ],
)
def test_line(dialect: str, line: str, wrapped: str) -> None:
    """Options and users stay in front, % has the dialect's meaning, and wrapping twice changes nothing."""
    for text in (line, wrapped):
        crontab = parse(f"{text}\n", "tab", system=False, dialect=DIALECTS[dialect])
        assert wrap(crontab, Options()).text == f"{wrapped}\n"


def test_variables() -> None:
    """busybox sets two; supercronic gives every line what is set last."""
    text = "PATH=/a\nSHELL=/bin/bash\n* * * * * a; b\nSHELL=/bin/dash\n* * * * * a; c\n"
    for name, shells, path in (
        ("cron", ["/bin/bash", "/bin/dash"], "/a"),
        ("busybox", ["/bin/bash", "/bin/dash"], None),
        ("supercronic", ["/bin/dash", "/bin/dash"], "/a"),
    ):
        jobs = parse(text, "tab", system=False, dialect=DIALECTS[name]).jobs
        assert [job.shell for job in jobs] == shells
        assert jobs[0].variables.get("PATH") == path


@pytest.mark.parametrize(
    ("text", "path", "name"),
    [
        ("* * * * * job\n", "crontab", "cron"),
        ("* * * * * job\n", "/etc/crontabs/root", "busybox"),
        ("# x\n*/10 * * * * * * job\n", "crontab", "supercronic"),
        ("0 3 * * * 2030 job\n", "crontab", "supercronic"),
        ("* * * * * * job\n", "crontab", "cron"),
        ("0 0 3 * * * job\n", "crontab", "cron"),
        ("H/15 * * * * job\n", "crontab", "jenkins"),
        ("@quarterly root job\n", "crontab", "systemd"),
        ("CRON_BATCH_LOADAVG_BELOW=2\n", "crontab", "systemd"),
        ("* * * * * -q job\n", "crontab", "bsd"),
        ("* * * * * root -s job\n", "crontab", "bsd"),
        ("* * * * * -n job\nCRON_TZ=UTC\n", "crontab", "cron"),
        ("* * * * * H x\n", "crontab", "cron"),
        ("@quarterly a\nH * * * * b\n", "crontab", "cron"),
        ("#H * * * * b\n", "crontab", "cron"),
    ],
)
def test_detected(text: str, path: str, name: str) -> None:
    """A line that only one cron can read selects the dialect; one that several can read does not."""
    dialect, reason = detect(text, path)
    assert (dialect.name, reason is None) == (name, name == "cron")


_HERE = user_field.Machine(is_user={"alice", "backup"}.__contains__, is_program={"report", "backup"}.__contains__)


@pytest.mark.parametrize(
    ("commands", "users", "said"),
    [
        (["ubuntu /usr/bin/x"], True, "read as a system crontab"),
        (["root job"], True, "read as a system crontab"),
        (["alice x", "backup /srv"], True, "(alice)"),
        (["somebody /usr/local/bin/x", "other report"], True, "(other, somebody)"),
        (["svc-batch /srv/app/run.sh"], True, "(svc-batch)"),
        (["www:www cd /srv && x"], True, "(www:www)"),
        (["root -n /usr/bin/x"], True, "(root)"),
        (["report /usr/bin/x"], False, None),
        (["python3 /srv/x.py", "php /srv/x.php"], False, None),
        (["somebody /usr/local/bin/x", "/usr/bin/y"], False, None),
        (["backup /srv/data"], False, "if line 1 begins with a user's name, 'backup'"),
        (["mail -s x ops", "git pull", "mysql db"], False, None),
        (["X=1 job", "[ -x /bin/x ] && x", "./run it", "Job /usr/bin/x"], False, None),
        (["job"], False, None),
    ],
)
def test_users(commands: list[str], users: bool, said: str | None) -> None:
    """All lines decide whether they have users, by existing or likely names; a guess is reported."""
    text = "".join(f"* * * * * {command}\n" for command in commands)
    crontab, note = user_field.read(text, "tab", CRON, _HERE)
    assert all((job.user is not None) is users for job in crontab.jobs)
    assert note is None if said is None else said in (note or "")


def test_users_on_some_lines() -> None:
    """If one line certainly has a user and another has none, the file is refused."""
    with pytest.raises(CrontabError, match=r"^tab:2: begins with a user's name, 'root', but line 1 does not; "):
        user_field.read("@daily /usr/bin/x\n@daily root x\n", "tab", CRON, _HERE)
