"""Images read as sequences, a pixel a step: MNIST, Fashion-MNIST and whatever else comes in their files."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rnnlab.data.checks import check_integer
from rnnlab.data.files import places_of
from rnnlab.data.labelled import ClassData
from rnnlab.data.series_files import Series

_UINT8 = 8  # the only kind of numbers that these files have


class ImageData(ClassData):
    """Images of one size and a class each, from a folder of IDX files, as sequences of their pixels from 0 to 1.

    The folder holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
    `t10k-labels-idx1-ubyte`, plain or '.gz', as those of MNIST (LeCun et al., 1998). Pixels come row by row, or all
    images in one order drawn once (Le et al., 2015). Validation are the last images to train on.

    Args:
        path: the folder; relative ones are looked for below RNNLAB_DATA too.
        permute_seed: decides the order of the pixels; None for row by row.
        pixels_per_step: I; the pixels of an image are a multiple of it, 28 for MNIST's rows.
        num_val: images that validate.
        num_train, num_test: the first so many of these parts; None for all.
        batch_size, eval_batch_size: images of a batch, of training and of evaluation.
        seed: decides the order of training.

    Raises:
        ValueError: an argument is out of range; in `setup`: a file is missing or broken.
    """

    size_names = ("batch_size", "eval_batch_size")

    def __init__(
        self,
        path: str | Path = "fashion-mnist",
        permute_seed: int | None = None,
        pixels_per_step: int = 1,
        num_val: int = 1_000,
        num_train: int | None = None,
        num_test: int | None = None,
        batch_size: int = 100,
        eval_batch_size: int = 250,
        seed: int = 0,
    ) -> None:
        super().__init__("none", 1, 1, seed)
        self.path = path
        self.permute_seed = None if permute_seed is None else check_integer("permute_seed", permute_seed, 0)
        self.pixels_per_step = check_integer("pixels_per_step", pixels_per_step, 1)
        self.num_val = check_integer("num_val", num_val, 1)
        self.num_train = None if num_train is None else check_integer("num_train", num_train, 1)
        self.num_test = None if num_test is None else check_integer("num_test", num_test, 1)
        self.image_batches = (
            check_integer("batch_size", batch_size, 1),
            check_integer("eval_batch_size", eval_batch_size, 1),
        )

    def read_parts(self) -> dict[str, list[Series]]:
        train, test = self._read("train"), self._read("t10k")
        if self.num_val >= len(train):
            raise ValueError(f"num_val must be below the images to train on, {len(train)}, got {self.num_val}")
        steps = len(train[0].values)
        # A batch is counted in steps, which are known now.
        self.batch_size, self.eval_max_tokens = (size * steps for size in self.image_batches)
        return {
            "train": train[: -self.num_val][: self.num_train],
            "val": train[-self.num_val :],
            "test": test[: self.num_test],
        }

    def _read(self, part: str) -> list[Series]:
        images, labels = (_read_idx(self.path, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not images.size:
            raise ValueError(f"{self.path}: {part} has images {images.shape} and labels {labels.shape}")
        pixels = images.reshape(len(images), -1)
        if pixels.shape[1] % self.pixels_per_step:
            raise ValueError(f"pixels_per_step must divide the {pixels.shape[1]} pixels, got {self.pixels_per_step}")
        sequences = pixels.reshape(len(images), -1, self.pixels_per_step)
        return [
            Series(str(row), one, str(label)) for row, (one, label) in enumerate(zip(sequences, labels, strict=True))
        ]

    def _settings(self) -> dict[str, object]:
        return {"permute_seed": self.permute_seed, "pixels_per_step": self.pixels_per_step}

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        """Return pixels of 0 to 255 (T, I) as the network reads them: in its order, from 0 to 1."""
        pixels = values.ravel()
        if self.permute_seed is not None:
            pixels = pixels[np.random.default_rng(self.permute_seed).permutation(len(pixels))]
        return (pixels.reshape(values.shape) / 255).astype(np.float32)

    def known_by(self, train: Sequence[Series]) -> bytes:
        return b"".join(one.values.tobytes() + str(one.label).encode() for one in train)


def _read_idx(folder: str | Path, name: str) -> np.ndarray:
    """Return the array of an IDX file, uint8."""
    candidates = [place / file for place in places_of(folder) for file in (name, f"{name}.gz")]
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        raise ValueError(f"no IDX file at {' or '.join(map(str, candidates))}")
    try:
        content = gzip.decompress(found.read_bytes()) if found.suffix == ".gz" else found.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{found}: cannot be read: {error}") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UINT8:
        raise ValueError(f"{found}: is no IDX file of bytes: it begins with {content[:4].hex(' ') or 'nothing'}")
    start = 4 + 4 * content[3]  # behind the sizes
    shape = [int.from_bytes(content[place : place + 4], "big") for place in range(4, start, 4)]
    if len(content) - start != math.prod(shape):
        announced = " x ".join(map(str, shape))
        raise ValueError(f"{found}: holds {max(0, len(content) - start)} bytes, {announced} are announced")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
