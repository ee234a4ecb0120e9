"""The line that a run prints after every epoch."""

import pytest
from rich.text import Text

from rnnlab.callbacks.progress import epoch_line

LONG = {
    "train/clip_rate": 0.0078125,
    "train/grad_norm": 0.12345,
    "train/loss": 0.0012345,
    "train/lr": 0.002,
    "val/accuracy": 0.98765,
    "val/accuracy_unseen": 0.87654,
    "val/loss": 0.12345,
    "val/macro_f1": 0.98765,
    "val/sentence_accuracy": 0.45678,
}


def test_the_main_metric_comes_first_and_what_fits_follows():
    line = Text.from_markup(epoch_line(3, 20, LONG, "val/accuracy")).plain
    assert line == "epoch   3/20  val/accuracy 0.98765  train/loss 0.0012345"


@pytest.mark.parametrize("max_epochs", [None, -1, 5, 100_000])
@pytest.mark.parametrize("epoch", [1, 99_999])
@pytest.mark.parametrize("scale", [1, -1e-30])
def test_lines_fit_eighty_columns(epoch, max_epochs, scale):
    line = Text.from_markup(
        epoch_line(epoch, max_epochs, {key: value * scale for key, value in LONG.items()}, "val/loss")
    ).plain
    assert len(line) <= 80 and line.partition("val/")[2].startswith("loss ")


def test_an_epoch_without_validation_has_a_line_too():
    assert epoch_line(1, None, {"train/loss": 2.0}, "val/loss") == "epoch   1  train/loss [bold]2[/bold]"
