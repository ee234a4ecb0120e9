"""What is done to the waves of recordings and synthetic voices: level, speed, white noise."""

from __future__ import annotations

import numpy as np

LEVEL = np.float32(0.1)  # root mean square of what is to be heard, before the gain


def levelled(wave: np.ndarray) -> np.ndarray:
    """Return a wave (N,) of that root mean square; silence stays silent."""
    return wave * (LEVEL / (np.sqrt(np.square(wave).mean()) + np.float32(1e-6)))


def played(wave: np.ndarray, factor: float) -> np.ndarray:
    """Return a wave (N,) played faster by a factor, all its frequencies higher by it; interpolation is linear."""
    places = np.arange(int(len(wave) / factor)) * factor
    return np.interp(places, np.arange(len(wave)), wave).astype(np.float32)


def in_noise(wave: np.ndarray, snr: float, rng: np.random.Generator) -> np.ndarray:
    """Return a wave in white noise, all of it softer or louder by a gain from -12 to 6 dB, float32 (N,).

    Args:
        wave: float32 (N,), whose parts that are no pauses have the level `LEVEL`.
        snr: their power over that of the noise, in dB.
        rng: random numbers.
    """
    noise = rng.standard_normal(len(wave), dtype=np.float32) * LEVEL * np.float32(10 ** (-snr / 20))
    return np.float32(10 ** (rng.uniform(-12, 6) / 20)) * (wave + noise)
