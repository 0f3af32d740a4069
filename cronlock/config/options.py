"""The options of ``cronlock run``: the parsers, --help, manual page and configuration file come from this table."""

from __future__ import annotations

from ..value import Value

#: What an option takes.
TEXT = "text"
DURATION = "duration"
INTEGER = "integer"
CHOICE = "choice"
FLAG = "flag"

#: Seconds.
DEFAULT_TTL = 300.0


class Option(Value):
    """One option, with its variable in the environment and its setting in the configuration file."""

    long: str
    kind: str
    help: str
    short: str | None = None
    #: The name of its value in documentation; empty: derived from choices or kind.
    word: str = ""
    default: str | float | bool | None = None
    #: The default in words, if it is not a fixed value.
    otherwise: str | None = None
    choices: tuple[str, ...] = ()
    #: True if the environment and the configuration file may set it.
    settable: bool = True

    @property
    def name(self) -> str:
        """Its name in Python."""
        return self.long[2:].replace("-", "_")

    @property
    def variable(self) -> str:
        """Its name in the environment and in the configuration file."""
        return "CRONLOCK_" + self.name.upper()

    @property
    def metavar(self) -> str:
        """The name of its value in documentation."""
        return self.word or "|".join(self.choices) or self.kind.upper()

    @property
    def default_text(self) -> str | None:
        """The default as a user would write it; None without one."""
        if self.otherwise is not None or self.default is None or self.default is False:
            return self.otherwise
        text = self.default if isinstance(self.default, str) else f"{self.default:g}"
        return f"{text}s" if self.kind == DURATION and self.default else text

    @property
    def full_help(self) -> str:
        """Help text and default."""

        return self.help if self.default_text is None else f"{self.help} Default: {self.default_text}."


OPTIONS = (
    Option(
        "--key",
        TEXT,
        "Name the job: runs with the same key never overlap. 1 to 200 characters, no control characters. "
        "This option is required and may be given only once.",
        short="-k",
        word="KEY",
        settable=False,
    ),
    Option(
        "--ttl",
        DURATION,
        "Let the lease expire DURATION after its last successful renewal.",
        short="-t",
        default=DEFAULT_TTL,
    ),
    Option(
        "--min-hold",
        DURATION,
        "Keep the key held for at least DURATION from the start of the run, however the run ends.",
        otherwise="the smaller of 45s and the ttl, plus --jitter; 0 with --wait",
    ),
    Option(
        "--ignore-hold",
        FLAG,
        "Run even if the hold of the last run is not over. A lease that another run holds still counts.",
        default=False,
        settable=False,
    ),
    Option(
        "--ignore-pause",
        FLAG,
        "Run even if the key is paused.",
        default=False,
        settable=False,
    ),
    Option(
        "--every",
        DURATION,
        "Set --min-hold to half of PERIOD, the schedule period of the line. Clocks may then differ by almost half "
        "a period.",
        word="PERIOD",
    ),
    Option("--wait", DURATION, "Wait up to DURATION for the key to become free instead of skipping.", default=0.0),
    Option(
        "--standby",
        DURATION,
        "If another run holds the key, stand by for up to DURATION: take over if that run dies (its lease lapses "
        "before it reports its end), skip as soon as it ends.",
        default=0.0,
    ),
    Option(
        "--standby-on",
        CHOICE,
        "Choose what --standby takes over: runs that died, runs whose command failed, or both (any).",
        default="died",
        choices=("died", "failed", "any"),
    ),
    Option(
        "--attempts",
        INTEGER,
        "Limit the runs of one tick to N, the first included.",
        word="N",
        otherwise="2 with --standby-on failed or any, else no limit",
    ),
    Option(
        "--success-status",
        TEXT,
        "Treat these exit statuses of the command as success for --standby-on, separated by commas.",
        word="LIST",
        default="0",
    ),
    Option("--jitter", DURATION, "Sleep for a random time of up to DURATION before the first request.", default=0.0),
    Option(
        "--timeout",
        DURATION,
        "Stop the command after DURATION: SIGTERM first, SIGKILL after --kill-after.",
        otherwise="none",
    ),
    Option("--kill-after", DURATION, "Set the time between SIGTERM and SIGKILL.", default=10.0),
    Option(
        "--poll",
        DURATION,
        "Check every DURATION whether `cronlock stop` or `cronlock release` ended the run.",
        otherwise="when notified (Redis, ZooKeeper, etcd) and at each renewal, every third of the ttl; 5s with the"
        " file backend",
    ),
    Option(
        "--on-lost",
        CHOICE,
        "Stop the command when the lease is lost, or let it continue.",
        default="stop",
        choices=("stop", "continue"),
    ),
    Option(
        "--on-error",
        CHOICE,
        "If the backend does not answer at the start, fail with status 69, skip, or run without a lease.",
        default="fail",
        choices=("fail", "skip", "run"),
    ),
    Option("--skip-status", INTEGER, "Exit with N on a skip.", word="N", default=0),
    Option(
        "--backend",
        TEXT,
        "Use the backend at URL. Schemes: file, redis, rediss, redis+unix, redis+sentinel, redis+cluster, "
        "memcached, memcacheds, zookeeper, zookeepers, etcd, etcds, dynamodb, s3, sqs, postgresql, mysql.",
        word="URL",
        otherwise="file: in the state directory, for this machine only",
    ),
    Option(
        "--backend-timeout",
        DURATION,
        "Limit each request to DURATION, connecting included. Acquiring takes up to three requests within twice "
        "DURATION; releasing retries within DURATION.",
        default=5.0,
    ),
    Option(
        "--state-dir",
        TEXT,
        "Store what this machine last saw of each key in DIR.",
        word="DIR",
        otherwise="/var/lib/cronlock for root, else $XDG_STATE_HOME/cronlock or ~/.local/state/cronlock",
    ),
    Option("--verbose", FLAG, "Report each step, and skips.", short="-v", default=False),
    Option("--quiet", FLAG, "Report errors only, even at a terminal.", short="-q", default=False),
    Option(
        "--log",
        CHOICE,
        "Write cronlock's own messages to stderr or to syslog. Without a syslog daemon they go to stderr, with a "
        "warning.",
        default="stderr",
        choices=("stderr", "syslog"),
    ),
    Option("--log-format", CHOICE, "Write them as text or JSON.", default="text", choices=("text", "json")),
    Option(
        "--config",
        TEXT,
        "Read the configuration from FILE.",
        word="FILE",
        otherwise="/etc/cronlock.conf, if there is one",
    ),
)

#: (name, meaning) of what the command finds in its environment.
COMMAND_VARIABLES = (
    ("CRONLOCK_KEY", "The key."),
    ("CRONLOCK_OWNER", "The id of this run: host, pid and a random part."),
    (
        "CRONLOCK_FENCE",
        "The fencing token: a positive integer that grows with each run of the key. "
        "Unset if the backend has no fencing tokens.",
    ),
    ("CRONLOCK_TAKEOVER", "1 if this run replaces one that died or failed (--standby); else unset."),
    ("CRONLOCK_TAKEOVER_FENCE", "In a takeover: the fencing token of the run that it replaces."),
    ("CRONLOCK_ATTEMPT", "The number of this run within its tick, from 1. Unset if the backend keeps no records."),
    ("CRONLOCK_PREVIOUS_STATUS", "The exit status of the previous attempt, if it ended."),
)
