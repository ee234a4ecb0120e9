"""Small IDX files."""

import gzip

import numpy as np


def idx_bytes(array):
    """Return an array of bytes as an IDX file."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def write_images(folder, num_train=30, num_test=8, shape=(3, 4), seed=0):
    """Write the four files, two of them packed; return images and labels of both parts."""
    rng, written = np.random.default_rng(seed), {}
    for part, number in (("train", num_train), ("t10k", num_test)):
        images, labels = rng.integers(256, size=(number, *shape)), np.arange(number) % 3
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
        written[part] = images, labels
    return written
