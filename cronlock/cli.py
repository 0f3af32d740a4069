"""The full command line by click, from the table of options."""

from __future__ import annotations

import importlib
import io
import sys
import textwrap
from collections.abc import Callable, Sequence

import click
from click.shell_completion import CompletionItem

from . import __version__, errors
from .commands import common, completion
from .config.arguments import second_key
from .config.options import CHOICE, COMMAND_VARIABLES, FLAG, OPTIONS, Option
from .errors import CronlockError
from .run.command import run as run_command

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
#: The commands besides run, in the order of --help; each is a module of `cronlock.commands`.
COMMANDS = ("status", "history", "check", "pause", "resume", "stop", "release", "forget", "board", "doctor", "wrap")
# UNKNOWN of the monitoring plugins.
_CHECK_UNKNOWN = 3


class _Commands(click.Group):
    """`run`, and the other commands, each loaded when named."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        return ["run", *COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            command = importlib.import_module(f"cronlock.commands.{cmd_name}").command
            command.name = cmd_name
            command.context_settings = _CONTEXT
            assert isinstance(command, click.Command)
            return command
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if not ctx.resilient_parsing and args[0] not in known:
            raise click.UsageError(f"unknown command {args[0]!r}{_meant(args[0], known)}", ctx)
        return super().resolve_command(ctx, args)


def main(arguments: list[str]) -> int:
    """Run ``cronlock`` with `arguments`, and return the exit status. Errors are one line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            # Names may be in any language, whatever the locale.
            stream.reconfigure(errors="replace")
    try:
        result = cronlock.main(arguments, prog_name="cronlock", standalone_mode=False)
    except click.UsageError as error:
        known = arguments[:1] != [] and arguments[0] in ("run", *COMMANDS)
        where = f"cronlock {arguments[0]}" if known else "cronlock"
        text = _unknown(error) if isinstance(error, click.NoSuchOption) else " ".join(error.format_message().split())
        return _failed(arguments, f"{text.rstrip('.')} (see {where} --help)", errors.USAGE)
    except click.exceptions.Abort:
        return errors.SIGNAL_BASE + 2
    except CronlockError as error:
        return _failed(arguments, str(error), error.status)
    return result if isinstance(result, int) else 0


def _unknown(error: click.NoSuchOption) -> str:
    """Return the message for an unknown option, with a suggestion."""
    context, name = error.ctx, error.option_name
    text = f"unknown option {name!r}"
    if context is None:
        return text
    if context.command is cronlock and name in (flag for option in OPTIONS for flag in (option.long, option.short)):
        return f"{text}; did you mean cronlock run {name}?"
    return text + _meant(name, [flag for option in context.command.get_params(context) for flag in option.opts])


def _meant(word: str, known: list[str]) -> str:
    likely = errors.nearest(word.lstrip("-"), [name.lstrip("-") for name in known if len(name) > 2])
    return "" if likely is None else f"; did you mean {next(name for name in known if name.lstrip('-') == likely)}?"


def _failed(arguments: list[str], text: str, status: int) -> int:
    """Report an error, for ``check`` as a monitoring plugin does, and return the exit status."""
    if arguments[:1] == ["check"]:
        click.echo(f"CRONLOCK UNKNOWN - {text.replace('|', '/')}")
        return _CHECK_UNKNOWN
    click.echo(f"cronlock: {text}", err=True)
    return status


@click.group(cls=_Commands, context_settings=_CONTEXT, no_args_is_help=False, invoke_without_command=True)
@click.version_option(__version__, message="cronlock %(version)s")
@click.pass_context
def cronlock(context: click.Context) -> None:
    """Run a command on one machine at a time: many machines have the same crontab, and each line runs once.

    Put cronlock in front of the command of a crontab line:

    \b
    */5 * * * * root cronlock run --key billing -- /usr/local/bin/billing
    """
    if context.invoked_subcommand is None:
        raise click.UsageError("no command; try: cronlock run --key KEY -- COMMAND", context)


def _epilog() -> str:
    lines = ["Exit status:", "", "\b", *_rows(errors.TABLE), "", "Environment of the command:", "", "\b"]
    lines += [
        *_rows(COMMAND_VARIABLES),
        "",
        "Each option except --key, --ignore-hold and --ignore-pause can also be set in the environment and in the "
        "configuration file: --min-hold as CRONLOCK_MIN_HOLD. --config can be set in the environment only.",
    ]
    return "\n".join(lines)


def _rows(table: Sequence[tuple[str, str]]) -> list[str]:
    """Return a table of two columns in lines that click does not rewrap."""
    width = max(len(name) for name, _ in table) + 2
    # Click indents an epilog by two.
    folded = [(name, textwrap.wrap(meaning, 76 - width)) for name, meaning in table]
    return [f"{'' if number else name:<{width}}{line}" for name, lines in folded for number, line in enumerate(lines)]


def _click_option(option: Option) -> click.Option:
    names = [option.long] if option.short is None else [option.short, option.long]
    if option.kind == FLAG:
        return click.Option([*names, option.name], is_flag=True, help=option.full_help)
    return click.Option(
        [*names, option.name],
        metavar=option.metavar,
        help=option.full_help,
        shell_complete=_completer(option),
        multiple=option.name == "key",
    )


def _completer(option: Option) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]] | None:
    """Return the completer of the option's value, or None."""
    if option.kind == CHOICE:
        return lambda _context, _option, begun: [CompletionItem(c) for c in option.choices if c.startswith(begun)]
    return completion.keys if option.name == "key" else common.COMPLETERS.get(option.name)


def _run(command: tuple[str, ...], key: tuple[str, ...], **values: str | bool | None) -> int:
    """Run COMMAND unless another machine holds KEY, and keep the lease on KEY while it runs.

    If another run holds the key, cronlock prints nothing, runs nothing and exits with status 0. Otherwise stdin,
    stdout, stderr and the exit status are those of COMMAND. DURATION is a number of seconds, or a value such as 90s,
    5m, 1h30m or 1d.
    """
    given: dict[str, str | bool] = {name: value for name, value in values.items() if value not in (None, False)}
    if len(key) > 1:
        raise second_key(*key[:2])
    return run_command({**given, **({"key": key[0]} if key else {})}, list(command))


cronlock.add_command(
    click.Command(
        "run",
        callback=_run,
        params=[
            *map(_click_option, OPTIONS),
            click.Argument(
                ["command"],
                nargs=-1,
                type=click.UNPROCESSED,
                metavar="COMMAND [ARG]...",
                shell_complete=completion.command,
            ),
        ],
        help=_run.__doc__,
        short_help="Run a command unless another machine holds its key.",
        epilog=_epilog(),
        options_metavar="--key KEY [OPTIONS] --",
        context_settings={**_CONTEXT, "allow_interspersed_args": False},
        no_args_is_help=False,
    )
)
