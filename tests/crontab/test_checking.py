"""What --check reports, and what it accepts."""

from __future__ import annotations

import pytest

from cronlock.crontab.checking import check
from cronlock.crontab.lines import parse
from cronlock.crontab.wrapping import Options


def _check(text: str) -> list[tuple[int, str]]:
    found = check(parse(text, "tab", system=False), Options(prefix="tab"))
    return [(remark.number, remark.text) for remark in found]


#: Correct lines.
GOOD = [
    "* * * * * cronlock run --key a -- b",
    "* * * * * cronlock run --key a --every 1m -- b",
    "0 3 * * * cronlock run --key a --every 1h -- b >> /var/log/b 2>&1",
    "0 3 * * * cronlock run --key a -- b > /dev/null 2>&1",
    "0 3 * * * cronlock run --key a -- b < /etc/b",
    "0 3 * * * cronlock run --key a -- sh -c 'b > /var/log/b; c | d'",
    "0 3 * * * cronlock run --key a -- sh -c 'b & c & wait'",
    "0 3 * * * cd /srv && cronlock run --key a -- b",
    "0 3 * * * . /etc/profile; umask 077; export X=1; cronlock run --key a -- b",
    "0 3 * * * [ -x /usr/bin/b ] && cronlock run --key a -- b",
    "0 3 * * * test -x /usr/bin/b && cronlock run --key a -- b || true",
    "0 3 * * * if [ -x /b ]; then cronlock run --key a -- b; fi",
    "0 3 * * * cronlock run --key a -- b || exit 0",
    "0 3 * * * sh -c 'cronlock run --key a -- b'",
    "0 3 * * * sleep 5; FOO=bar exec cronlock run --key a -- b",
    "0 3 * * * env FOO=bar nice /usr/bin/cronlock run --key=a -- b",
    '0 3 * * * cronlock run --key "$JOB" -- b',
    '0 3 * * * cronlock run --key a --every "$PERIOD" -- b',
    "0 3 * * * cronlock run --key a --wait 1h -- b",
    "0 3 * * * cronlock run --key a --jitter 10m -- b",
    "0 3 * * * cronlock run --key a --jitter 10m --min-hold 15m -- b",
    "0 3 * * * cronlock run --key a --ttl 1d -- b",
    "0 3 * * * sleep $((RANDOM \\% 300)); cronlock run --key a --min-hold 10m -- b",
    "0 3 * * * sleep $(shuf -n 1 -i 1-10)m; cronlock run --key a --every 1d -- b",
    "0 3 * * * cronlock run --key release-1.2.3 -- b",
    "0 3 * * * cronlock run --key update-hostname-date -- b",
    "0 3 * * * cronlock run --key a -- sh -c 'b $(date +\\%F) $$ $(hostname)'",
    "0 3 * * * cronlock run --key a -- b &",
    "RANDOM_DELAY=10\n0 3 * * * cronlock run --key a --every 1h -- b",
    "@reboot b",
    "# cronlock: off\n* * * * * b",
    "# key: a\n* * * * * cronlock run --key a -- b",
    "# key: a\n0 0 * * * cronlock run --key a -- logrotate /etc/logrotate.conf",
    "# cronlock: off\n0 0 * * * logrotate /etc/logrotate.conf",
    "0 3 * * * cronlock run --key a -- $JOB",
    "CRONLOCK_MIN_HOLD=30\n* * * * * cronlock run --key a -- b",
    "CRONLOCK_MIN_HOLD=1d\n* * * * * cronlock run --key a --every 1m -- b",
]


#: A line and its remark.
BAD = [
    ("* * * * * b", "not wrapped: every machine runs it"),
    ("0 3 * * * logrotate /etc/x", "it concerns this machine's logs (logrotate)"),
    ("0 3 * * * cronlock run --key a -- sh -c 'logrotate /etc/x'", "(logrotate), but runs on one machine"),
    ("0 3 * * * cronlock run --key tab.unnamed-d40f13 -- sh -c '$JOB'", "no word of the line says what the job is"),
    ("0~9 3 * * * b", "not wrapped: every machine runs it (each machine picks its own random time"),
    ("@reboot cronlock run --key a --every 1d -- b", "with @reboot, one of the machines that boot together"),
    ("0 3 * * * cronlock run --key a -- b\r", "ends in a carriage return"),
    ("0 3 * * * cronlock run --key a -- sh -c 'b && c\r'", "ends in a carriage return"),
    ("0 3 * * * cronlock run --key a -- sh -c 'b >$(date +%F)'", "a % ends the command, in quotes too"),
    ('0 3 * * * cronlock run --key a -- b "100%"', "a % ends the command, in quotes too"),
    ("0 3 * * * -n cronlock run --key a -- b", "Debian's cron takes -n for the command; cronie, BSD's cron"),
    ('0 3 * * * cronlock run --key "b-$(hostname -s)" -- b', "the key contains the host's name"),
    ("0 3 * * * cronlock run --key b-$HOSTNAME -- b", "the key contains the host's name"),
    ("0 3 * * * cronlock run --key b.$$ -- b", "the key contains the number of a process"),
    ("0 3 * * * cronlock run --key b-10.1.2.3 -- b", "the key contains an address"),
    ('0 3 * * * cronlock run --key "b-`date +\\%F`" -- b', "the key contains the time"),
    ("0 3 * * * cronlock run --key b$RANDOM -- b", "the key contains something random"),
    ("0 3 * * * sleep $((RANDOM \\% 300)); cronlock run --key a -- b", "and a random sleep in front of cronlock"),
    ("0 3 * * * sleep $((RANDOM \\% 60))m; cronlock run --key a --every 1h -- b", "a random sleep in front"),
    ("0 3 * * * perl -e 'sleep int(rand(900))' && cronlock run --key a -- b", "and a random sleep in front"),
    ("0 3 * * * sleep $(random 5); cronlock run --key a --every 1d -- b", "and a random sleep in front"),
    ("0 3 * * * cronlock run --key a -- b && c d", "`c d` runs outside the lock"),
    ("0 3 * * * cronlock run --key a -- b; c", "`c` runs outside the lock"),
    ("0 3 * * * c && cronlock run --key a -- b", "`c` runs outside the lock"),
    ("0 3 * * * cronlock run --key a -- b | tee f", "`tee f` runs outside the lock"),
    ("0 3 * * * cronlock run --key a -- b 2>&1 | logger", "`logger` runs outside the lock"),
    ("0 3 * * * cronlock run --key a -- b | read x", "`read x` runs outside the lock"),
    ("0 3 * * * c | cronlock run --key a -- b", "`c` runs outside the lock"),
    ("0 3 * * * x=$(cronlock run --key a -- b); c", "`c` runs outside the lock"),
    ("0 3 * * * sh -c 'cronlock run --key a -- b && c'", "`c` runs outside the lock"),
    ("0 3 * * * cronlock run --key a -- b > /var/log/b", "`> /var/log/b` empties the file on each skip"),
    ("0 3 * * * (cronlock run --key a -- b) >| log", "`>| log` empties the file on each skip"),
    ("0 3 * * * cronlock run --key a -- sh -c 'b &'", "a command is left running with &"),
    ("0 3 * * * cronlock run -- b", "cronlock run has no --key"),
    ("0 3 * * * cronlock run --key a", "cronlock run has no command"),
    ("0 3 * * * cronlock run --kye a -- b", "invalid options"),
    ("0 3 * * * cronlock run --key -- b", "--key: no value"),
    ("0 3 * * * cronlock run --key a --ttl nonsense -- b", "--ttl: 'nonsense' is not a duration"),
    ("* * * * * cronlock run --key a --every 2m -- b", "--every 2m: the key stays held for 1m, but the line fires"),
    (
        "0 * * * * cronlock run --key a --min-hold 1h -- b",
        "--min-hold: the key stays held for 1h, but the line fires",
    ),
    (
        "*/7 * * * * cronlock run --key a --every 8m -- b",
        "the line fires again after 4m: ticks are lost; write --every 4m",
    ),
    ("0 3 * * * cronlock run --key a --min-hold 0 -- b", "a tick may run twice; write --every 1d"),
    ("0 3 * * * cronlock run --key a --jitter 5m --min-hold 45 -- b", "--jitter spreads the machines over more"),
    ("0 3 * * * cronlock run --key a --every 1h --min-hold 5m -- b", "mutually exclusive"),
    ("0 * * * * cronlock run --key a --ttl 6h -- b", "6 ticks are lost; write --ttl 1h or less"),
    ("* * * * * cronlock run --key a --ttl 10m -- b", "10 ticks are lost; write --ttl 5m or less"),
    ("0 3 * * * cronlock run --key a --every 1h --ttl 0.5 -- b", "shorter than any backend supports"),
]


@pytest.mark.parametrize("text", GOOD)
def test_nothing_to_report(text: str) -> None:
    """Correct lines give no remark."""
    assert _check(f"{text}\n") == []


@pytest.mark.parametrize(("line", "report"), BAD)
def test_report(line: str, report: str) -> None:
    """Each problem is reported once, with its line number."""
    ((number, text),) = _check(f"# a comment\n{line}\n")
    assert number == 2
    assert report in text


def test_shared_keys() -> None:
    """Lines that share a key are reported, and a key that differs from its comment."""
    line = "* * * * * cronlock run --key a -- b\n"
    assert _check(line * 3 + "# key: c\n* * * * * cronlock run --key d -- b\n") == [
        (2, "shares the key 'a' with line 1: each keeps the other from running"),
        (3, "shares the key 'a' with line 1: each keeps the other from running"),
        (5, "the key is 'd', but 'c' in the comment above"),
    ]


def test_random_delay() -> None:
    """cronie's random delay must be shorter than the hold."""
    ((number, text),) = _check("RANDOM_DELAY=30\n0 3 * * * cronlock run --key a --every 1h -- b\n")
    assert number == 2
    assert text.endswith("RANDOM_DELAY spreads the machines over more: a tick may run twice; write --every 1d")


def test_variables_of_the_crontab_count() -> None:
    """A hold or a ttl set by a variable above the line counts."""
    ((number, text),) = _check("CRONLOCK_EVERY=2h\n0 * * * * cronlock run --key a -- b\n")
    assert number == 2
    assert text.startswith("--every 2h: ")
    ((_, text),) = _check("CRONLOCK_TTL=x\n0 * * * * cronlock run --key a -- b\n")
    assert text.startswith("CRONLOCK_TTL: 'x' is not a duration")
