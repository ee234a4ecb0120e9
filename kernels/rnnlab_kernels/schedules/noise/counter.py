"""Random numbers from a counter instead of a stream: any part of a mask can be made again, anywhere, bit for bit.

Philox-4x32-10 (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3") maps a 128-bit counter and a 64-bit
key to four 32-bit words. The paper finds that seven rounds pass BigCrush and recommends ten, as a margin; so do cuRAND,
torch on a GPU and `tl.philox`. Ten rounds cost a third of a nanosecond an element on a CPU, so nothing asks for fewer.

Layout, which kernels that make masks inside a recurrence follow: element (b, h) of time step t in stream s has

    key      k0 = seed mod 2^32          k1 = (seed >> 32) mod 2^32     (seeds are taken modulo 2^64)
    counter  c0 = h // 4    c1 = b    c2 = t = first + n    c3 = s
    word     the (h mod 4)-th of the four outputs
    kept     (word >> 8) >= threshold,  threshold = round(p * 2^24)

An element does not depend on the sizes of its mask, so a window of steps, rows or units is a slice of the whole. The
four words are four neighbours in a row, so a tile whose first unit is a multiple of 4 wastes none. The upper 24 bits
decide because p = 0 (all kept) and p = 1 (none) are then ordinary 32-bit thresholds; p is met within 2^-25.

N steps, B batch, H units.
"""

import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF
THRESHOLD_BITS = 24


def keep_threshold(p: float) -> int:
    """Return the number in [0, 2^24] below which the upper 24 bits of a word mean "dropped": p in 24 bits."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"a mask's p is a probability in [0, 1], got: {p}")
    return round(p * (1 << THRESHOLD_BITS))


def key_words(seed: int) -> tuple[int, int]:
    """Return the two halves of the key, low word first."""
    return seed & WORD, (seed >> 32) & WORD


def as_int32(word: int) -> int:
    """Return the int32 with the bits of a word in [0, 2^32): Triton would make larger integers 64 bits wide."""
    return word - (1 << 32) if word >> 31 else word


def philox(counter: tuple[Tensor, ...], key: tuple[int, int], rounds: int = ROUNDS) -> tuple[Tensor, ...]:
    """Return the four output words of four counter words: int64 tensors of any shapes that broadcast, in [0, 2^32)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        # A product of two words may wrap around in int64: its bits are right all the same, and no more is used.
        product_0, product_2 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1 = (product_2 >> 32 & WORD) ^ c1 ^ k0, product_2 & WORD
        c2, c3 = (product_0 >> 32 & WORD) ^ c3 ^ k1, product_0 & WORD
        k0, k1 = (k0 + KEY_STEPS[0]) & WORD, (k1 + KEY_STEPS[1]) & WORD
    return c0, c1, c2, c3


def fill(out: Tensor, seed: int, stream: int, first: int, threshold: int) -> None:
    """Write the mask into `out` (N, B, H) by torch's integer operators: the reference of the other two."""
    num_steps, batch, hidden = out.shape
    quads, rows, steps = (torch.arange(n, device=out.device) for n in (-(-hidden // 4), batch, num_steps))
    counter = (quads, rows[:, None], steps[:, None, None] + first, torch.full_like(quads, stream))
    words = torch.stack(torch.broadcast_tensors(*philox(counter, key_words(seed))), -1).flatten(-2)
    out.copy_(words[..., :hidden] >> (32 - THRESHOLD_BITS) >= threshold)
