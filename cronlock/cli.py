"""The command line in full, by click, from the table of options."""

from __future__ import annotations

import click

from . import __version__, statuses
from .options import COMMAND_VARIABLES, FLAG, OPTIONS
from .run import run as run_command

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main(arguments: list[str]) -> int:
    """Return the exit status of ``cronlock`` with `arguments`; errors of usage are one line and status 64."""
    try:
        result = cronlock.main(arguments, prog_name="cronlock", standalone_mode=False)
    except click.UsageError as error:
        where = "cronlock run" if arguments[:1] == ["run"] else "cronlock"
        text = " ".join(error.format_message().split())
        click.echo(f"cronlock: {text.rstrip('.')} (see {where} --help)", err=True)
        return statuses.USAGE
    except click.exceptions.Abort:
        return statuses.SIGNAL_BASE + 2
    return result if isinstance(result, int) else 0


@click.group(context_settings=_CONTEXT, no_args_is_help=False, invoke_without_command=True)
@click.version_option(__version__, message="cronlock %(version)s")
@click.pass_context
def cronlock(context: click.Context) -> None:
    """Run a command on one machine at a time: the same crontab on many machines, each line once.

    Put it before the command of a crontab line:

    \b
    */5 * * * * root cronlock run --key billing -- /usr/local/bin/billing
    """
    if context.invoked_subcommand is None:
        raise click.UsageError("nothing to do; try: cronlock run --key KEY -- COMMAND", context)


def _epilog() -> str:
    width = max(len(status) for status, _ in statuses.TABLE)
    lines = ["Exit status:", "", "\b"]
    lines += [f"{status:<{width}}  {meaning}" for status, meaning in statuses.TABLE]
    lines += ["", "For the command:", "", "\b"]
    width = max(len(name) for name, _ in COMMAND_VARIABLES)
    lines += [
        f"{name:<{width}}  {meaning.replace('. ', f'.{chr(10)}{chr(32) * (width + 2)}')}"
        for name, meaning in COMMAND_VARIABLES
    ]
    lines += [
        "",
        "Every option but --key and --ignore-hold can be set in the environment and in the configuration file: "
        "--min-hold is CRONLOCK_MIN_HOLD. (--config in the environment only.)",
    ]
    return "\n".join(lines)


def _click_option(index: int) -> click.Option:
    option = OPTIONS[index]
    names = [option.long] if option.short is None else [option.short, option.long]
    text = option.help + (f" Default: {option.default}." if option.default is not None else "")
    if option.kind == FLAG:
        return click.Option([*names, option.name], is_flag=True, help=text)
    return click.Option([*names, option.name], metavar=option.metavar, help=text)


def _run(command: tuple[str, ...], **values: str | bool | None) -> int:
    """Run COMMAND if no other machine holds KEY, and keep the lease on KEY while it runs.

    When another run holds the key, exit with status 0, print nothing, and run nothing. Otherwise
    stdin, stdout, stderr and the exit status are COMMAND's own. DURATION is a number of seconds,
    or such as 90s, 5m, 1h30m, 1d.
    """
    given: dict[str, str | bool] = {}
    for name, value in values.items():
        if value is not None and value is not False:
            given[name] = value
    return run_command(given, list(command))


cronlock.add_command(
    click.Command(
        "run",
        callback=_run,
        params=[
            *(_click_option(index) for index in range(len(OPTIONS))),
            click.Argument(["command"], nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [ARG]..."),
        ],
        help=_run.__doc__,
        short_help="Run a command if no other machine holds its key.",
        epilog=_epilog(),
        options_metavar="--key KEY [OPTIONS] --",
        context_settings={**_CONTEXT, "allow_interspersed_args": False},
        no_args_is_help=False,
    )
)
