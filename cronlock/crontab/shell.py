"""A parser for enough of sh to find commands and the ends of words.

It expands nothing. Syntax errors such as an unterminated quote are not reported here: the shell will.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field


def word_set(text: str) -> frozenset[str]:
    """Return the words of `text`."""
    return frozenset(text.split())


#: Shells whose quoting is that of sh.
POSIX_SHELLS = word_set("ash bash dash ksh ksh93 lksh mksh posh rbash sh yash zsh")
#: Builtins and reserved words of bash, dash, ksh and zsh, which may differ from programs of the same name.
BUILTINS = word_set(
    """
    ! . : [ [[ ]] { } alias autoload bg bind break builtin caller case cd chdir command compgen complete compopt
    continue coproc declare dirs disown do done echo elif else enable esac eval exec exit export false fc fg fi
    float for foreach function functions getopts hash help hist history if in integer jobs kill let limit local
    logout mapfile nocorrect noglob nohup popd print printf pushd pwd r read readarray readonly redirect repeat
    return select set shift shopt sleep source stop suspend test then time times trap true type typeset ulimit
    umask unalias unlimit unset until wait whence where which while
    """
)
#: They begin or end a compound command.
_RESERVED = word_set("! { } do done elif else esac fi if then time until while")
_PLAIN_WORD = re.compile(r"""(?:[A-Za-z0-9_./:,+@%=\x80-\U0010ffff-]|'[^']*'|"[^"$`\\!]*")+""")
_PLAIN_PROGRAM = re.compile(r"[A-Za-z0-9_./:,+@%-]+")
#: A variable in front of a command.
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_OPERATORS = ("&>>", "<<<", "<<-", "&&", "||", ";;", "|&", "&>", ">>", "<<", ">&", "<&", "<>", ">|", *";&|()<>\n")
_REDIRECTIONS = frozenset(("&>>", "<<<", "<<-", "&>", ">>", "<<", ">&", "<&", "<>", ">|", "<", ">"))
_CLOSING = {"$(": ")", "${": "}", "`": "`"}


@dataclass
class Word:
    """A word of a command."""

    #: As written.
    text: str = ""
    #: Without quotes; expansions as written.
    value: str = ""
    #: Whether it contains a variable or a substitution.
    expands: bool = False
    #: The texts of its command substitutions.
    inner: list[str] = field(default_factory=list)


@dataclass
class Command:
    """A simple command, with the operators around it."""

    #: The operators before and after it; may be empty.
    before: str = ""
    after: str = ""
    words: list[Word] = field(default_factory=list)
    #: (operator, target) such as (">", "/dev/null").
    redirections: list[tuple[str, str]] = field(default_factory=list)

    @property
    def program(self) -> str:
        """Return the program's name without directories; empty if there is none."""
        words = self.arguments
        return posixpath.basename(words[0].value) if words else ""

    @property
    def arguments(self) -> list[Word]:
        """Return its words from the program on, without assignments and reserved words."""
        for index, word in enumerate(self.words):
            if word.text not in _RESERVED and not ASSIGNMENT.match(word.text):
                return self.words[index:]
        return []

    @property
    def text(self) -> str:
        """Return its words as written."""
        return " ".join(word.text for word in self.words)


def quote(text: str) -> str:
    r"""Return `text` as one word for sh, always in single quotes.

    cron, which interprets backslashes and ``%``, treats the result as it treats `text`: only ``'`` changes.
    """
    return "'" + text.replace("'", "'\\''") + "'"


def quote_if_needed(text: str) -> str:
    """Return `text` as one word for sh, quoted only if needed."""
    return text if is_plain(text) else quote(text)


def is_plain(text: str) -> bool:
    """Return whether `text` is one word for sh without quotes."""
    return re.fullmatch(r"[A-Za-z0-9_./:,+@=-]+", text) is not None


def plain_words(text: str) -> list[str] | None:
    """Return the words of `text` if it is one command of plain and quoted words and not a builtin, else None.

    Such words mean the same anywhere in a line.
    """
    words, position = [], 0
    text = text.strip(" \t")
    while position < len(text):
        match = _PLAIN_WORD.match(text, position)
        if match is None or (match.end() < len(text) and text[match.end()] not in " \t"):
            return None
        words.append(re.sub(r"""'([^']*)'|"([^"]*)\"""", lambda quoted: quoted[1] or quoted[2] or "", match[0]))
        position = match.end()
        while text[position : position + 1] in (" ", "\t"):
            position += 1
    if not words or not _PLAIN_PROGRAM.fullmatch(words[0]) or words[0] in BUILTINS:
        return None
    return words


def ends_inside(text: str) -> bool:
    """Return whether `text` ends within quotes, a substitution or parentheses."""
    try:
        tokens = [token for token, _ in _tokens(f"{text}\n\1")]
    except RecursionError:
        return True
    last = tokens[-1] if tokens else ""
    if isinstance(last, Word) and last.text != "\1" and "\1" in last.text:
        return True
    return tokens.count("(") > tokens.count(")")


def commands(text: str) -> list[Command]:
    """Return the simple commands of `text` in order, including those in parentheses and braces.

    Empty if hundreds of substitutions are nested.
    """
    try:
        return _read_commands(text)
    except RecursionError:
        return []


def _read_commands(text: str) -> list[Command]:
    found = [Command()]
    redirection = ""
    for token, is_glued in _tokens(text):
        words = found[-1].words
        if isinstance(token, Word):
            if redirection:
                found[-1].redirections.append((redirection, token.value))
            else:
                words.append(token)
            redirection = ""
        elif token in _REDIRECTIONS:
            if is_glued and words and words[-1].text.isdigit():
                words.pop()  # The 2 of `2>`.
            redirection = token
        else:
            redirection = ""
            found[-1].after = token
            found.append(Command(token))
    return [command for command in found if command.words or command.redirections]


def _tokens(text: str) -> Iterator[tuple[Word | str, bool]]:
    """Yield each word or operator, and whether no blank precedes it."""
    position, is_glued = 0, False
    while position < len(text):
        character = text[position]
        if character in " \t\r":
            position, is_glued = position + 1, False
        elif character == "#" and not is_glued:
            return
        elif character in ";&|()<>\n":
            operator = next(each for each in _OPERATORS if text.startswith(each, position))
            position += len(operator)
            yield operator, is_glued
            # A comment may follow an operator directly; only a word can have the number of a redirection.
            is_glued = False
        else:
            word, position = _read_word(text, position)
            yield word, is_glued
            is_glued = True


def _read_word(text: str, start: int) -> tuple[Word, int]:
    word, position = Word(), start
    while position < len(text) and text[position] not in " \t\n;&|()<>":
        character = text[position]
        if character == "\\":
            word.value += text[position + 1 : position + 2]
            position += 2
        elif character == "'":
            end = _find(text, "'", position + 1)
            word.value += text[position + 1 : end]
            position = end + 1
        elif character == '"':
            position = _read_double(word, text, position + 1)
        elif character in "$`":
            position = _read_expansion(word, text, position)
        else:
            word.value += character
            position += 1
    position = min(position, len(text))
    word.text = text[start:position]
    return word, position


def _read_double(word: Word, text: str, position: int) -> int:
    """Read the text after a double quote; return the position after its end."""
    while position < len(text) and text[position] != '"':
        character = text[position]
        if character == "\\" and text[position + 1 : position + 2] in tuple('$`"\\\n'):
            word.value += text[position + 1 : position + 2]
            position += 2
        elif character in "$`":
            position = _read_expansion(word, text, position)
        else:
            word.value += character
            position += 1
    return position + 1


def _read_expansion(word: Word, text: str, start: int) -> int:
    """Read an expansion that begins with ``$`` or a backquote; return the position after it."""
    opening = "`" if text[start] == "`" else text[start : start + 2]
    if opening in _CLOSING:
        inside = start + len(opening)
        end = _find_closing(text, _CLOSING[opening], inside)
        if opening != "${":
            word.inner.append(text[inside:end])
        end += 1
    else:
        end = start + 1
    word.value += text[start:end]
    # `$'...'` and `$"..."` are quotes, and `$` without a name is literal: treating them as expansions does no harm.
    word.expands = True
    return min(end, len(text))


def _find_closing(text: str, closing: str, position: int) -> int:
    """Return the position of `closing`, skipping quotes and nested expansions."""
    while position < len(text) and text[position] != closing:
        character = text[position]
        if character == "\\":
            position += 2
        elif character == "'" and closing != "`":
            position = _find(text, "'", position + 1) + 1
        elif character == '"':
            position = _read_double(Word(), text, position + 1)
        elif text.startswith(("$(", "${"), position):
            position = _find_closing(text, _CLOSING[text[position : position + 2]], position + 2) + 1
        elif character == "(" and closing == ")":
            position = _find_closing(text, ")", position + 1) + 1
        else:
            position += 1
    return min(position, len(text))


def _find(text: str, character: str, position: int) -> int:
    found = text.find(character, position)
    return len(text) if found < 0 else found
