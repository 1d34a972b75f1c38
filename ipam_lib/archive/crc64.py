"""The CRC-64 of the archive format: ECMA-182 polynomial, reflected, all bits inverted before and after. It is CRC-64/XZ
(https://reveng.sourceforge.io/crc-catalogue/17plus.htm#crc.cat.crc-64-xz).

The standard library computes it only as part of .xz compression, which takes as long as this code.
"""

from __future__ import annotations

import sys
from array import array
from functools import cache

_POLYNOMIAL = 0xC96C5795D7870F42
_ALL_BITS = 0xFFFF_FFFF_FFFF_FFFF


@cache
def _tables() -> tuple[list[int], list[int]]:
    """The tables of remainders for one byte, and for two bytes at once (the first byte in the low half)."""
    one = []
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (_POLYNOMIAL if remainder & 1 else 0)
        one.append(remainder)
    two = [(one[pair & 0xFF] >> 8) ^ one[(one[pair & 0xFF] ^ (pair >> 8)) & 0xFF] for pair in range(1 << 16)]
    return one, two


class CRC64:
    """The CRC of all data given to `update`."""

    def __init__(self) -> None:
        self._remainder = _ALL_BITS
        self._one, self._two = _tables()

    def update(self, data: bytes) -> None:
        """Add data."""
        remainder, table = self._remainder, self._two
        even = len(data) & ~1
        pairs = array("H", data[:even])
        if sys.byteorder == "big":
            pairs.byteswap()
        for pair in pairs:
            remainder = table[(remainder ^ pair) & 0xFFFF] ^ (remainder >> 16)
        if even < len(data):
            remainder = self._one[(remainder ^ data[even]) & 0xFF] ^ (remainder >> 8)
        self._remainder = remainder

    @property
    def value(self) -> int:
        """The CRC so far, as a signed 64-bit integer as in BSON."""
        unsigned = self._remainder ^ _ALL_BITS
        return unsigned - (1 << 64) if unsigned >> 63 else unsigned
