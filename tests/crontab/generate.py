"""Random crontab lines: plausible ones and adversarial ones."""

from __future__ import annotations

import random
from collections.abc import Callable

_SHORTCUTS = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_MONTHS = ("jan", "FEB", "Mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "MON", "Tue", "wed", "thu", "fri", "sat")
_BLANKS = (" ", " ", " ", "  ", "\t", " \t ")
_PLAIN = ("a", "one", "--all", "-x", "a.b/c", "k=v", "1", "x:y", "a,b", "é", "\udce9", "@", "+", "\\%", "a\\%b")
_IN_SINGLE = ("", "a b", "$X", "\\%", "*", ";", '"', "a\\b", "\\\\", "`", "&&", "#", "\\\\\\%", "\t", "(", "é")
_IN_DOUBLE = (
    "",
    "a b",
    "$X",
    "${X}",
    "\\%",
    "*",
    ";",
    "'",
    "\\$X",
    '\\"',
    "\\\\",
    "$(show 'i n')",
    "`show q`",
    "#",
    "it's",
)
_SPECIAL = ("$X", "${X}", "$(show 's u b')", "`show b`", "*.txt", "[ab].txt", "~", "\\ ", "\\'", '\\"', "\\\\", "\\$X",
            "a#b", "$((1+2))", "\\a", "$Y", "\\#", "\\\\\\%", "\\&", "^", "!")  # fmt: skip
_STDIN = ("x", " ", "%", "\\%", "\\", "'", '"', "$X", "a b", "\\\\", "é", "&&", "-- ")


class Lines:
    """A generator of lines, reproducible by its seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def line(self, user: str = "") -> str:
        """Return a job line, with the user name, if any."""
        pick = self._random.choice
        indent = pick(("", "", "", " ", "\t"))
        words = [indent + self.schedule(), *([user] if user else [])]
        head = "".join(word + pick(_BLANKS) for word in words)
        return head + self.command() + pick(("", "", "", " ", "\t", "\\ ", "\r")) + self.stdin()

    def schedule(self) -> str:
        """Return five fields or a shortcut."""
        pick = self._random.choice
        if self._random.random() < 0.1:
            return pick(_SHORTCUTS)
        fields = [self._field(index) for index in range(5)]
        return fields[0] + "".join(pick(_BLANKS) + field for field in fields[1:])

    def stdin(self) -> str:
        """Return a percent sign and what follows, or nothing."""
        if self._random.random() < 0.8:
            return ""
        return "%" + "".join(self._random.choices(_STDIN, k=self._random.randint(0, 4)))

    def command(self) -> str:
        """Return a shell command."""
        return self._list(0) if self._random.random() < 0.6 else self._words(plain=True)

    def _field(self, index: int) -> str:
        chance = self._random.random()
        if chance < 0.4:
            return "*"
        return ",".join(self._element(index) for _ in range(1 if chance < 0.8 else self._random.randint(2, 4)))

    def _element(self, index: int) -> str:
        low, high = _RANGES[index]
        first, last = sorted((self._random.randint(low, high), self._random.randint(low, high)))
        names = {3: ["", *_MONTHS], 4: [*_DAYS, "sun"]}.get(index)
        if names and self._random.random() < 0.3 and last < len(names):
            return f"{names[first]}-{names[last]}" if first < last < 7 else names[first]
        step = self._random.randint(1, high)
        return self._random.choice((f"{first}", f"{first}-{last}", f"{first}-{last}/{step}", f"*/{step}"))

    def _list(self, depth: int) -> str:
        pick = self._random.choice
        text = self._pipeline(depth)
        for _ in range(pick((0, 0, 1, 1, 2))):
            # A blank before: Debian's cron turns `\\&&` into a background job, whose output comes at any time.
            text += pick((" && ", " || ", "; ", " &&", ";", " ||")) + self._pipeline(depth)
        return text + (pick(("", "", "", " # end", ";", " & wait;")) if depth == 0 else "")

    def _pipeline(self, depth: int) -> str:
        text = self._part(depth)
        if self._random.random() < 0.2:
            text += self._random.choice((" | ", "|")) + self._random.choice(("take", "cat", "take | cat"))
        return text

    def _part(self, depth: int) -> str:
        chance = self._random.random()
        if depth < 2 and chance < 0.25:
            compound: tuple[Callable[[str], str], ...] = (
                lambda inner: f"({inner})",
                lambda inner: f"{{ {inner}; }}",
                lambda inner: f"if true; then {inner}; fi",
                lambda inner: f"for i in 1 2; do {inner}; done",
                lambda inner: f"case $X in x*) {inner};; esac",
            )
            return self._random.choice(compound)(self._list(depth + 1))
        if chance < 0.35:
            return self._random.choice(
                ("true", "false", "cd sub", "X=new", "echo 'a\\b' c", "printf '\\%s,' a b", "take", "[ -f a.txt ]",
                 ": >out", "cat a.txt", "take <b.txt", "! true", "export X=exported", "read -r line")
            )  # fmt: skip
        return self._words(plain=False)

    def _words(self, *, plain: bool) -> str:
        text = "" if plain or self._random.random() < 0.9 else self._random.choice(("X=set ", "Y='a b' ", "_a1= "))
        text += self._random.choice(("show", "show", "show", "take")) if plain else "show"
        for _ in range(self._random.randint(0, 4)):
            text += self._random.choice(_BLANKS) + self._word(plain)
        if not plain and self._random.random() < 0.15:
            text += self._random.choice((" >out", " 2>&1", " >>log", " 2>/dev/null", " <a.txt", ">|out", " 1>&2"))
        return text

    def _word(self, plain: bool) -> str:
        parts = [self._plain_part() if plain or self._random.random() < 0.5 else self._odd_part()]
        while self._random.random() < 0.2:
            parts.append(self._plain_part() if plain else self._odd_part())
        return "".join(parts)

    def _plain_part(self) -> str:
        pick = self._random.choice
        return pick((pick(_PLAIN), pick(_PLAIN), "'" + "".join(self._random.choices(_IN_SINGLE, k=2)) + "'", '"a b"'))

    def _odd_part(self) -> str:
        pick = self._random.choice
        return pick(
            (
                pick(_SPECIAL),
                pick(_PLAIN),
                f"'{pick(_IN_SINGLE)}'",
                '"' + "".join(self._random.choices(_IN_DOUBLE, k=2)) + '"',
            )
        )
