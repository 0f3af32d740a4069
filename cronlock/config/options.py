"""The options of ``cronlock run``: one table behind the parsers, --help, manual page and README."""

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
    """One option, and by the same name its variable and its line in the configuration file."""

    long: str
    kind: str
    help: str
    short: str | None = None
    #: What its value is called; empty: by its choices or its kind.
    word: str = ""
    default: str | float | bool | None = None
    #: The default in words, where it is no value.
    otherwise: str | None = None
    choices: tuple[str, ...] = ()
    #: Whether the environment and the configuration file may set it.
    settable: bool = True

    @property
    def name(self) -> str:
        """As it is called in Python."""
        return self.long[2:].replace("-", "_")

    @property
    def variable(self) -> str:
        """Its name in the environment and in the configuration file."""
        return "CRONLOCK_" + self.name.upper()

    @property
    def metavar(self) -> str:
        """What documentation calls its value."""
        return self.word or "|".join(self.choices) or self.kind.upper()

    @property
    def default_text(self) -> str | None:
        """The default as a person would write it; None if there is none."""
        if self.otherwise is not None or self.default is None or self.default is False:
            return self.otherwise
        text = self.default if isinstance(self.default, str) else f"{self.default:g}"
        return f"{text}s" if self.kind == DURATION and self.default else text

    @property
    def full_help(self) -> str:
        """What --help says of it."""
        return self.help if self.default_text is None else f"{self.help} Default: {self.default_text}."


OPTIONS = (
    Option(
        "--key",
        TEXT,
        "What must not run twice: any text of 1 to 200 characters without control characters. Required, and only once.",
        short="-k",
        word="KEY",
        settable=False,
    ),
    Option(
        "--ttl",
        DURATION,
        "How long after the holder's last sign of life the lease lapses.",
        short="-t",
        default=DEFAULT_TTL,
    ),
    Option(
        "--min-hold",
        DURATION,
        "The key is not free again before this long after the run started, however the run ended.",
        otherwise="the smaller of 45 s and the ttl, and --jitter on top; 0 with --wait",
    ),
    Option(
        "--ignore-hold",
        FLAG,
        "Run although the last run's hold is not over. A lease that is held is respected all the same.",
        default=False,
        settable=False,
    ),
    Option(
        "--ignore-pause",
        FLAG,
        "Run although somebody paused the key.",
        default=False,
        settable=False,
    ),
    Option(
        "--every",
        DURATION,
        "The line's schedule period; sets --min-hold to half of it, so that clocks may differ by almost as much.",
        word="PERIOD",
    ),
    Option(
        "--wait", DURATION, "Keep trying this long before skipping, then run after whoever held the key.", default=0.0
    ),
    Option(
        "--standby",
        DURATION,
        "If another run holds the key, stay ready this long: run only if that run dies, that is if its lease "
        "lapses without its having ended. Exit as a skip as soon as it ends.",
        default=0.0,
    ),
    Option(
        "--standby-on",
        CHOICE,
        "What --standby takes over: a tick whose run died, one whose command failed, or any of both.",
        default="died",
        choices=("died", "failed", "any"),
    ),
    Option(
        "--attempts",
        INTEGER,
        "How many runs a tick has at most, the first included.",
        word="N",
        otherwise="2 with --standby-on failed or any, else no limit",
    ),
    Option(
        "--success-status",
        TEXT,
        "Exit statuses of the command with which --standby-on does not count it as failed, with commas between.",
        word="LIST",
        default="0",
    ),
    Option("--jitter", DURATION, "Sleep a random time up to this before the first request.", default=0.0),
    Option(
        "--timeout",
        DURATION,
        "The command's longest run time; then TERM, and KILL after --kill-after.",
        otherwise="none",
    ),
    Option("--kill-after", DURATION, "From TERM to KILL.", default=10.0),
    Option(
        "--poll",
        DURATION,
        "While the command runs, look this often whether `cronlock stop` or `release` ends it.",
        otherwise="with each renewal, which is every third of the ttl; 5s on the file backend",
    ),
    Option(
        "--on-lost",
        CHOICE,
        "What to do with the command when the lease cannot be kept.",
        default="stop",
        choices=("stop", "continue"),
    ),
    Option(
        "--on-error",
        CHOICE,
        "What to do when the backend cannot be asked at the start: fail with status 69, skip, or run without a lease.",
        default="fail",
        choices=("fail", "skip", "run"),
    ),
    Option("--skip-status", INTEGER, "Exit status of a skip.", word="N", default=0),
    Option(
        "--backend",
        TEXT,
        "Where the lease is kept: file:, redis:, rediss:, redis+unix:, redis+sentinel:, redis+cluster:, memcached:, "
        "memcacheds:, zookeeper:, zookeepers:, etcd:, etcds:, dynamodb:, s3:, sqs:, postgresql: or mysql: URL.",
        word="URL",
        otherwise="file: in the state directory, which guards this machine only",
    ),
    Option(
        "--backend-timeout",
        DURATION,
        "Limit of one request, connecting included. At the start up to three are made within twice this;"
        " at the end as many as fit into it.",
        default=5.0,
    ),
    Option(
        "--state-dir",
        TEXT,
        "Where this machine remembers what it saw of each key.",
        word="DIR",
        otherwise="/var/lib/cronlock for root, else $XDG_STATE_HOME/cronlock or ~/.local/state/cronlock",
    ),
    Option("--verbose", FLAG, "Say what is done; also skips.", short="-v", default=False),
    Option("--quiet", FLAG, "Say nothing but errors, also at a terminal.", short="-q", default=False),
    Option(
        "--log",
        CHOICE,
        "Where cronlock's own messages go; where there is no syslog daemon, to stderr with a warning.",
        default="stderr",
        choices=("stderr", "syslog"),
    ),
    Option("--log-format", CHOICE, "How they are written.", default="text", choices=("text", "json")),
    Option("--config", TEXT, "The configuration file.", word="FILE", otherwise="/etc/cronlock.conf, if there is one"),
)

#: What the command finds in its environment.
COMMAND_VARIABLES = (
    ("CRONLOCK_KEY", "The key."),
    ("CRONLOCK_OWNER", "This run's id: host, pid and a random part."),
    (
        "CRONLOCK_FENCE",
        "The fencing token: a positive integer, larger for every later run of the key. "
        "Unset where the backend cannot give one.",
    ),
    ("CRONLOCK_TAKEOVER", "1 when it runs in place of a run that died or failed (see --standby), else unset."),
    ("CRONLOCK_TAKEOVER_FENCE", "With it, the fencing token of that run."),
    ("CRONLOCK_ATTEMPT", "Which run of this tick it is: 1 unless it takes over. Unset where the backend cannot tell."),
    ("CRONLOCK_PREVIOUS_STATUS", "The exit status of the attempt before it, if that ended."),
)
