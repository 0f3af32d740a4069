"""Malformed input made from bytes, which Hypothesis or a coverage-guided fuzzer chooses."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

_T = TypeVar("_T")

#: Characters that parsers trip over, beside any other.
_ODD = "\0\n\r\t =%'\"\\#;:/@?&,[]{}~.-_+\x7f\x85\u2028\ufeff\udc80\udcff\U0001f600\u0660²½e0x"
_NUMBERS = (0, 1, 2, 9, 127, 255, 256, 4095, 4096, 65535, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 10**20)


class Data:
    """Choices, from `data` as long as it lasts, and then as chance has it that it is the seed of.

    A `variant` other than 0 leaves it to chance from the middle on.
    """

    def __init__(self, data: bytes, variant: int = 0) -> None:
        self._chance = random.Random(zlib.crc32(data + bytes([variant])))
        self._data = data[: len(data) // 2] if variant else data
        self._at = 0

    def _take(self, size: int) -> bytes:
        at = self._at
        self._at += size
        if self._at > len(self._data):
            # Bytes of chance, as many as a whole input needs.
            self._data += self._chance.getrandbits(8 * 512).to_bytes(512, "big")
        return self._data[at : self._at]

    def below(self, limit: int) -> int:
        """Return 0 to `limit` - 1."""
        if limit <= 256:
            return self._take(1)[0] * limit >> 8
        return int.from_bytes(self._take(3), "big") % limit

    def chance(self, times: int) -> bool:
        """Return True once in `times`."""
        return self.below(times) == times - 1

    def pick(self, choices: Sequence[_T]) -> _T:
        """Return one of `choices`."""
        return choices[self.below(len(choices))]

    def several(self, most: int, make: Callable[[], _T]) -> list[_T]:
        """Return up to `most` of what `make` makes."""
        return [make() for _ in range(self.below(most + 1))]

    def number(self) -> int:
        """Return a whole number, often one at a limit."""
        number = self.pick(_NUMBERS) if self.chance(2) else self.below(1000)
        number += self.below(5) - 2 if self.chance(4) else 0
        return -number if self.chance(6) else number

    def digits(self) -> str:
        """Return what should be a number, and mostly is."""
        if self.chance(8):
            return self.pick(("", "-", "+1", "1e999", "nan", "inf", "-inf", "0x10", "1_0", " 1", "٣", "²", "9" * 5000))
        return str(self.number()) if self.chance(2) else f"{self.number()}.{self.below(1000):03}"

    def blob(self, most: int) -> bytes:
        """Return up to `most` bytes."""
        return self._take(self.below(most + 1))

    def text(self, most: int) -> str:
        """Return up to `most` characters, many of them odd."""
        return "".join(self.several(most, self._character))

    def _character(self) -> str:
        kind = self.below(8)
        if kind < 4:
            return chr(97 + self.below(26))
        if kind < 7:
            return self.pick(_ODD)
        return chr(self.below(0x110000))

    def maimed(self, document: bytes, tokens: Sequence[bytes] = ()) -> bytes:
        """Return `document` with up to four places changed, or as it is."""
        for _ in range(self.below(5)):
            at = self.below(len(document) + 1)
            end = min(len(document), at + self.below(9))
            kind = self.below(6)
            if kind == 0:
                document = document[:at] + document[end:]
            elif kind == 1:
                document = document[:end] + document[at:]
            elif kind == 2:
                document = document[:at] + self.blob(4) + document[end:]
            elif kind == 3 and tokens:
                document = document[:at] + self.pick(tokens) + document[end:]
            elif kind == 4:
                document = document[:at]
            elif document[at : at + 1]:
                document = document[:at] + bytes([document[at] ^ 1 << self.below(8)]) + document[at + 1 :]
        return document

    def maimed_text(self, text: str, tokens: Sequence[str] = ()) -> str:
        """Return `text` with some places changed, or as it is."""
        for _ in range(self.below(4)):
            at = self.below(len(text) + 1)
            end = min(len(text), at + self.below(6))
            middle = self.pick(tokens) if tokens and self.chance(2) else self.text(4)
            text = text[:at] + middle + text[end:]
        return text
