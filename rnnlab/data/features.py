"""Features of sound: energies of bands over time, and what is made of them.

Letters: N samples, T frames, K frequencies, F bands. Every function of a wave looks at one frame at a time, so that a
sound may come in pieces.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from rnnlab.data.checks import check_integer

_FLOOR = 1e-10  # below this power there is silence; full scale has 1
_BLOCK = 4096  # frames worked on at once: memory does not grow with the sound


def hertz_to_mel(hertz: float) -> float:
    """Return a frequency on the mel scale of O'Shaughnessy (1987), as HTK and Kaldi have it: 1000 Hz is about 1000 mel.

    Example:
        >>> round(hertz_to_mel(1000.0), 2), round(hertz_to_mel(4000.0), 1)
        (999.99, 2146.1)
    """
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


def mel_to_hertz(mel: float) -> float:
    """Return the frequency of a mel value."""
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def mel_filters(num_bands: int, num_points: int, sample_rate: int, low: float, high: float) -> Tensor:
    """Return triangles that are as wide on the mel scale and overlap by half, (K, F), K = num_points // 2 + 1.

    Args:
        num_bands: F.
        num_points: of the Fourier transform.
        sample_rate: in Hz.
        low, high: where the first triangle begins and the last one ends, in Hz.
    """
    edges = np.linspace(hertz_to_mel(low), hertz_to_mel(high), num_bands + 2)
    mels = np.array([hertz_to_mel(k * sample_rate / num_points) for k in range(num_points // 2 + 1)])[:, None]
    rising = (mels - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mels) / (edges[2:] - edges[1:-1])
    return torch.from_numpy(np.maximum(0.0, np.minimum(rising, falling))).float()


class LogBands:
    """Waves -> logarithms of the power in bands, a frame every `hop_ms`.

    Frame t has the samples from t * hop on, `window_ms` of them, under a Hann window; there are as many frames as fit.
    Powers are those of a full-scale wave of +-1, before the logarithm to base e, and at least 1e-10.

    Args:
        sample_rate: in Hz.
        num_bands: F.
        low, high: of the bands, in Hz; None for half of the sample rate.
        window_ms, hop_ms: in milliseconds.
        scale: "mel", triangles (`mel_filters`), or "linear": the frequencies of the Fourier transform from `low` to
            `high` as they are, `num_bands` of them.

    Raises:
        ValueError: an argument is out of range, or a band would be empty.
    """

    def __init__(
        self,
        sample_rate: int,
        num_bands: int = 40,
        low: float = 60.0,
        high: float | None = None,
        window_ms: float = 25.0,
        hop_ms: float = 10.0,
        scale: str = "mel",
    ) -> None:
        self.sample_rate = check_integer("sample_rate", sample_rate, 1_000)
        check_integer("num_bands", num_bands, 1)
        top = sample_rate / 2 if high is None else float(high)
        if not 0 <= low < top <= sample_rate / 2:
            raise ValueError(
                f"low and high must be frequencies up to {sample_rate / 2:g} Hz, half the sample rate, low < high, "
                f"got {low!r} and {high!r}"
            )
        self.window, self.hop = (round(sample_rate * value / 1000) for value in (window_ms, hop_ms))
        if not 0 < self.hop <= self.window:
            raise ValueError(f"0 < hop_ms <= window_ms must hold, got {hop_ms!r} and {window_ms!r}")
        num_points = 2 ** math.ceil(math.log2(max(2, self.window)))
        if scale == "mel":
            self.filters = mel_filters(num_bands, num_points, sample_rate, low, top)
        elif scale == "linear":
            frequencies = torch.arange(num_points // 2 + 1) * sample_rate / num_points
            inside = ((frequencies >= low) & (frequencies <= top)).nonzero()[:num_bands, 0]
            if len(inside) < num_bands:
                raise ValueError(f"there are {len(inside)} frequencies from {low:g} to {top:g} Hz, not {num_bands}")
            self.filters = torch.eye(num_points // 2 + 1)[:, inside]
        else:
            raise ValueError(f"scale must be mel or linear, got {scale!r}")
        if not self.filters.any(dim=0).all():
            raise ValueError(
                f"{num_bands} mel bands from {low:g} to {top:g} Hz are too narrow for a window of {window_ms:g} ms"
            )
        self.num_points, self.num_features, self.low, self.high = num_points, num_bands, float(low), top
        self._shape = torch.hann_window(self.window, periodic=False)

    @property
    def frame_seconds(self) -> float:
        return self.hop / self.sample_rate

    def num_frames(self, num_samples: int) -> int:
        """Return T."""
        return max(0, 1 + (num_samples - self.window) // self.hop)

    def __call__(self, wave: Tensor) -> Tensor:
        """Return (T, F) of a wave (N,), float32."""
        frames = self.num_frames(len(wave))
        blocks = [
            self._block(wave[start * self.hop : (min(start + _BLOCK, frames) - 1) * self.hop + self.window])
            for start in range(0, frames, _BLOCK)
        ]
        return torch.cat(blocks) if blocks else torch.empty(0, self.num_features)

    def _block(self, wave: Tensor) -> Tensor:
        frames = wave.float().unfold(0, self.window, self.hop) * self._shape
        spectrum = torch.fft.rfft(frames, n=self.num_points)
        # 2 / sum of the window is the amplitude of a tone; half its square the power.
        power = spectrum.abs().square() * (2.0 / float(self._shape.sum()) ** 2)
        return (power @ self.filters).clamp(min=_FLOOR).log()

    def stream(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Return the frames of a wave that comes in pieces (N_i,): for each piece those that it ends, (T_i, F)."""
        rest = torch.empty(0)
        for piece in pieces:
            rest = torch.cat([rest, piece.float()])
            found = self(rest)
            rest = rest[len(found) * self.hop :]
            yield found


def cepstra(log_bands: Tensor, number: int = 13) -> Tensor:
    """Return mel-frequency cepstral coefficients (T, number): the orthonormal DCT-II of log mel energies (T, F)."""
    num_bands = log_bands.shape[1]
    places = torch.arange(num_bands) + 0.5
    basis = torch.cos(math.pi / num_bands * places[:, None] * torch.arange(number)) * math.sqrt(2.0 / num_bands)
    basis[:, 0] /= math.sqrt(2.0)
    return log_bands @ basis


def deltas(features: Tensor, reach: int = 2) -> Tensor:
    """Return the slope of each feature over 2 * reach + 1 frames, (T, F), ends repeated (HTK book, equation 5.16)."""
    padded = torch.cat([features[:1].expand(reach, -1), features, features[-1:].expand(reach, -1)])
    around = padded.unfold(0, 2 * reach + 1, 1)  # (T, F, 2 * reach + 1)
    steps = torch.arange(-reach, reach + 1.0)
    return around @ steps / steps.square().sum()


class Totals:
    """What the frames of a sound add up to, in one piece or in many: what its means and deviations come from.

    Attributes:
        count: frames.
        sums, squares, powers: of each feature, of its square and its exponential, the power in a band; float64 (F,).
    """

    def __init__(self, num_features: int) -> None:
        self.count = 0
        self.sums, self.squares, self.powers = torch.zeros(3, num_features, dtype=torch.float64)

    def add(self, frames: Tensor) -> Totals:
        """Add frames (T, F); return itself."""
        self.count += len(frames)
        self.sums += frames.sum(0, dtype=torch.float64)
        self.squares += frames.double().square().sum(0)
        self.powers += frames.exp().sum(0, dtype=torch.float64)
        return self

    def of(self, features: slice) -> Totals:
        """Return the totals of some of the features."""
        part = Totals(0)
        part.count = self.count
        part.sums, part.squares, part.powers = self.sums[features], self.squares[features], self.powers[features]
        return part


def standardise(frames: Tensor, totals: Totals, each: bool = True) -> Tensor:
    """Return frames (T, F) of a sound so that it has mean 0 and variance 1: each feature, or all together.

    Args:
        frames: all of the sound, or some.
        totals: of all of its frames.
        each: see there.
    """
    sums, squares = (part if each else part.mean().expand_as(part) for part in (totals.sums, totals.squares))
    mean = sums / max(1, totals.count)
    deviation = (squares / max(1, totals.count) - mean.square()).clamp(min=0).sqrt()
    return (frames - mean.float()) / deviation.clamp(min=1e-5).float()
