"""Write the manual pages, and the README's table of options, from the program's own tables.

python tools/reference.py          writes man/*.1 to *.7 and the table in README.md
python tools/reference.py --check  prints which of them are stale, and fails if any is
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import click  # noqa: E402

from cronlock import cli, errors  # noqa: E402
from cronlock.commands.common import SHARED  # noqa: E402
from cronlock.commands.views import prometheus  # noqa: E402
from cronlock.config.options import COMMAND_VARIABLES, FLAG, OPTIONS, Option  # noqa: E402
from cronlock.engines.redis.doctor import ACL_RULE  # noqa: E402
from cronlock.run import outcome  # noqa: E402

#: The options that a newcomer needs; cronlock(1) has all of them.
_README_OPTIONS = ("key", "ttl", "every", "standby", "timeout")


def manual_page(source: str) -> str:
    """Return a manual page from its source."""
    page = (
        source.replace("@ACL@", "\n".join(textwrap.wrap(ACL_RULE, 66)))
        .replace("@CLOUDFORMATION@", _recipe("dynamodb.yaml"))
        .replace("@TERRAFORM@", _recipe("dynamodb.tf"))
        .replace("@DYNAMODB_POLICY@", _recipe("dynamodb-policy.json"))
        .replace("@S3_CLOUDFORMATION@", _recipe("s3.yaml"))
        .replace("@S3_TERRAFORM@", _recipe("s3.tf"))
        .replace("@S3_POLICY@", _recipe("s3-policy.json"))
        .replace("@SQS_POLICY@", _recipe("sqs-policy.json"))
        .replace("@OPTIONS@", "\n".join(map(_mdoc_option, OPTIONS)))
        .replace("@SETTINGS@", "\n".join(_mdoc_setting(option) for option in OPTIONS if _is_setting(option)))
        .replace("@COMMANDS@", "\n".join(map(_mdoc_command, cli.COMMANDS)))
        .replace("@VARIABLES@", "\n".join(f".It Ev {name}\n{_roff(text)}" for name, text in COMMAND_VARIABLES))
        .replace("@STATUSES@", "\n".join(f".It {_roff(status)}\n{_roff(text)}" for status, text in errors.TABLE))
        .replace("@FIELDS@", "\n".join(f".It Ql {name}\n{_roff(text)}" for name, text in outcome.FIELDS))
        .replace("@METRICS@", "\n".join(f".It Ql {name}\n{_roff(text)}" for name, text in prometheus.METRICS))
    )
    return "\n".join(wrapped for line in page.split("\n") for wrapped in _wrap(line))


def _recipe(name: str) -> str:
    return (ROOT / "docs/recipes" / name).read_text().rstrip()


def readme(text: str) -> str:
    """Return the README with a fresh table of options."""
    head, begin, rest = text.partition("<!-- options -->\n")
    options = {option.name: option for option in OPTIONS}
    lines = ["| option | default | meaning |", "|---|---|---|"]
    for option in map(options.__getitem__, _README_OPTIONS):
        lines.append(f"| `{_usage(option)}` | {option.default_text or ''} | {option.help} |")
    end = "<!-- /options -->"
    return head + begin + "\n".join(lines) + "\n" + end + rest.partition(end)[2]


def _usage(option: Option) -> str:
    flags = option.long if option.short is None else f"{option.short}, {option.long}"
    return flags if option.kind == FLAG else f"{flags} {option.metavar}".replace("|", "\\|")


def _mdoc_option(option: Option) -> str:
    flags = [] if option.short is None else [option.short.lstrip("-")]
    flags.append("\\&-" + option.long.lstrip("-"))
    argument = "" if option.kind == FLAG else " Ar " + option.metavar.lower().replace("|", " | ")
    text = _roff(option.help + ("" if option.default_text is None else f"\nDefault: {option.default_text}."))
    return ".It " + " , ".join(f"Fl {flag}{argument}" for flag in flags) + "\n" + _set_arguments(text, option.metavar)


def _is_setting(option: Option) -> bool:
    return option.settable and option.name != "config"


def _mdoc_setting(option: Option) -> str:
    kind = "flag" if option.kind == FLAG else option.metavar.lower().replace("|", " | ")
    default = "" if option.default_text is None else f"\nDefault: {_roff(option.default_text)}."
    return f".It Ev {option.variable} Ns = Ns Ar {kind}\nAs\n.Fl \\&-{option.long.lstrip('-')} .{default}"


def _mdoc_command(name: str) -> str:
    """Return the section of a command other than run, from its --help."""
    command = cli.cronlock.get_command(click.Context(cli.cronlock), name)
    assert command is not None
    words = [param.metavar or "" for param in command.params if isinstance(param, click.Argument)]
    lines = [f".Ss cronlock {name}", f".Dl cronlock {' '.join([name, '[options]', *words]).lower()}"]
    names = [word.strip("[].") for word in words]
    paragraphs = (command.help or "").split("\n\n")
    for number, paragraph in enumerate(paragraphs):
        text = _set_arguments(_roff(" ".join(paragraph.split())), *names)
        lines += [*([".Pp"] if number else []), text]
    own = [param for param in command.params if isinstance(param, click.Option) and param.name not in SHARED]
    if own:
        lines += [".Bl -tag -width Ds", *(_mdoc_own_option(option, names) for option in own), ".El"]
    return "\n".join(lines)


def _mdoc_own_option(option: click.Option, names: list[str]) -> str:
    argument = "" if option.is_flag else f" Ar {(option.metavar or 'value').lower()}"
    given = [*option.opts, *option.secondary_opts]
    flags = [flag.lstrip("-") if not flag.startswith("--") else "\\&-" + flag.lstrip("-") for flag in given]
    note = "\nRequired." if option.required else f"\nDefault: {option.default}." if option.show_default else ""
    text = _set_arguments(_roff((option.help or "") + note), *names, *re.findall("[A-Z]+", option.metavar or ""))

    return ".It " + " , ".join(f"Fl {flag}{argument}" for flag in flags) + "\n" + text


def _set_arguments(text: str, *names: str) -> str:
    # Upper case in --help, lower case and underlined in a manual page, as in the heading above.
    for name in filter(str.isupper, names):
        text = re.sub(rf"\b{name}\b(?!=)", f"\\\\fI{name.lower()}\\\\fP", text)
    return text


def _wrap(line: str) -> list[str]:
    # Macros and literal text are never that long.
    return textwrap.wrap(line, 79, break_long_words=False, break_on_hyphens=False) if len(line) > 79 else [line]


def _roff(text: str) -> str:
    # roff wants each sentence on a new line, and typed hyphens escaped.
    return text.replace("\\", "\\e").replace("--", "\\-\\-").replace(". ", ".\n").replace("; ", ";\n")


def main() -> int:
    """Write the pages, or check them, and return the exit status."""
    readme_file = ROOT / "README.md"
    made = {source.with_suffix(""): manual_page(source.read_text()) for source in (ROOT / "man").glob("*.in")}
    made[readme_file] = readme(readme_file.read_text())
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run `make reference`")
        return 1 if stale else 0
    for path in stale:
        path.write_text(made[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
