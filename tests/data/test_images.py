"""Images from IDX files, a pixel a step, row by row or in one order for all."""

import numpy as np
import pytest

from rnnlab.data import ImageData
from tests.data.idx_files import write_images


def made(folder, **arguments):
    data = ImageData(folder, **{"num_val": 6, "batch_size": 5, **arguments})
    data.setup()
    return data


def test_pixels_come_row_by_row_from_0_to_1(tmp_path):
    written = write_images(tmp_path)
    data = made(tmp_path)
    assert data.sizes == {"input_size": 1, "num_classes": 3} and data.epoch_size == 24
    batch = data.splits["val"][[0, 1, 2, 3, 4, 5]]
    images, labels = written["train"]
    np.testing.assert_allclose(batch.values[:, :, 0].T, images[24:].reshape(6, 12) / 255, atol=1e-7)
    assert batch.labels.tolist() == labels[24:].tolist()
    images, _ = written["t10k"]
    np.testing.assert_allclose(data.splits["test"][7].values[:, 0, 0], images[7].ravel() / 255, atol=1e-7)
    assert [len(one.labels) for one in data.train_dataloader()] == [5, 5, 5, 5, 4]


def test_all_images_are_read_in_one_order(tmp_path):
    written = write_images(tmp_path)
    drawn = [made(tmp_path, permute_seed=seed).splits for seed in (1, 1, 2)]
    order = np.random.default_rng(1).permutation(12)
    for part, images in (("train", written["train"][0]), ("test", written["t10k"][0])):
        first, again, other = (splits[part][[0, 3]].values[:, :, 0].T.numpy() for splits in drawn)
        np.testing.assert_allclose(first, images.reshape(-1, 12)[[0, 3]][:, order] / 255, atol=1e-7)
        assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_several_pixels_a_step_and_fewer_images(tmp_path):
    written = write_images(tmp_path)
    data = made(tmp_path, pixels_per_step=4, num_train=10, num_test=3)
    assert [len(data.splits[part]) for part in ("train", "val", "test")] == [10, 6, 3]
    batch = data.splits["train"][0]
    np.testing.assert_allclose(batch.values[:, 0], written["train"][0][0] / 255, atol=1e-7)
    assert [len(one.labels) for one in data.train_dataloader()] == [5, 5]


def test_a_run_knows_its_order(tmp_path):
    write_images(tmp_path)
    with pytest.raises(ValueError, match="permute_seed is 1 in the run, and cannot be None afterwards"):
        made(tmp_path).load_state_dict(made(tmp_path, permute_seed=1).state_dict())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no IDX file at .*train-labels-idx1-ubyte or .*train-labels-idx1-ubyte.gz"),
        (b"", "is no IDX file of bytes: it begins with nothing"),
        (b"\0\0\x0d\1\0\0\0\1\0\0\0\0", "is no IDX file of bytes: it begins with 00 00 0d 01"),
        (b"\0\0\x08\1\0\0\0\5\0", "train-labels-idx1-ubyte: holds 1 bytes, 5 are announced"),
        (b"\0\0\x08\1\0\0\0\1\0", r"train has images \(30, 3, 4\) and labels \(1,\)"),
    ],
)
def test_broken_files_are_refused(tmp_path, content, message):
    write_images(tmp_path)
    file = tmp_path / "train-labels-idx1-ubyte"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        made(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_val": 30}, "num_val must be below the images to train on, 30, got 30"),
        ({"pixels_per_step": 5}, "pixels_per_step must divide the 12 pixels, got 5"),
        ({"permute_seed": -1}, "permute_seed must be an integer of at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, arguments, message):
    write_images(tmp_path)
    with pytest.raises(ValueError, match=message):
        made(tmp_path, **arguments)
