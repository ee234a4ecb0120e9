"""Which part of the data an item belongs to, by a hash of it: the same on every machine, whatever stands beside it."""

from __future__ import annotations

import zlib


def part_of(text: str, test_percent: int, val_percent: int) -> str:
    """Return 'test', 'val' or 'train', by the CRC-32 of the text's UTF-8 modulo 100.

    The first `test_percent` remainders are test, the next `val_percent` validation, all others train.

    Example:
        >>> [part_of(word, test_percent=10, val_percent=2) for word in ("gate", "cell", "state")]
        ['train', 'train', 'val']
    """
    remainder = zlib.crc32(text.encode("utf-8", "surrogatepass")) % 100
    if remainder < test_percent:
        return "test"
    return "val" if remainder < test_percent + val_percent else "train"
