"""The confusion matrix shows shares of rows, and can be read at any number of classes."""

import subprocess
import sys

import numpy as np
import pytest

from rnnlab.analysis.confusion import confusion_matrix

COUNTS = np.array([[90, 10, 0], [0, 0, 0], [1, 0, 39_999]])


def cells(figure):
    """Return the numbers in the cells, by (row, column)."""
    return {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in figure.axes[0].texts}


def test_cells_are_shares_of_rows(tmp_path):
    figure = confusion_matrix(COUNTS, ["NOUN", "SYM", "VERB"], "Tags")
    assert cells(figure) == {(0, 0): "90.0", (0, 1): "10.0", (2, 0): "<.01", (2, 2): "100"}
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["NOUN", "SYM", "VERB"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["NOUN  100", "SYM  0", "VERB  40,000"]
    assert figure.get_suptitle() == "Tags" and axis.get_xlabel() == "predicted" and axis.get_ylabel()
    (image,) = axis.get_images()
    np.testing.assert_allclose(image.get_array()[0], [90, 10, 0])
    np.testing.assert_allclose(image.get_array().sum(1), [100, 0, 100])
    figure.savefig(tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "<.01"), (4, "0.04"), (9, "0.09"), (10, "0.1"), (150, "1.5"), (9_994, "99.9"), (9_996, "100")],
)
def test_numbers_fit_into_their_cells(count, text):
    total = 20_000 if text == "<.01" else 10_000
    figure = confusion_matrix(np.array([[count, total - count], [0, 1]]), ["a", "b"])
    assert cells(figure)[0, 0] == text


def test_numbers_fit_their_cells_with_seventeen_tags(tmp_path):
    rng = np.random.default_rng(0)
    figure = confusion_matrix(rng.integers(0, 9_999, (17, 17)), [f"TAG{k:02}" for k in range(17)])
    figure.savefig(tmp_path / "confusion.png")
    axis = figure.axes[0]
    width = axis.get_window_extent().width / 17
    assert max(text.get_window_extent().width for text in axis.texts) < width


def test_many_classes_are_colour_alone():
    assert not cells(confusion_matrix(np.eye(60), [str(k) for k in range(60)]))


def test_one_class_is_enough():
    assert cells(confusion_matrix(np.array([[5]]), ["X"])) == {(0, 0): "100"}


@pytest.mark.parametrize(("shape", "names"), [((2, 3), ["a", "b"]), ((2, 2), ["a"]), ((0, 0), [])])
def test_counts_and_names_must_fit(shape, names):
    with pytest.raises(ValueError, match=r"counts must be \(\d, \d\) for"):
        confusion_matrix(np.zeros(shape, dtype=int), names)


def test_matplotlib_is_imported_on_first_use_and_pyplot_never():
    code = (
        "import sys, rnnlab.analysis.confusion as module; assert 'matplotlib' not in sys.modules;"
        "module.confusion_matrix([[1]], ['a']); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
