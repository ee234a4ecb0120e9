"""A finished character model is pictured with the data and the files of its run."""

from functools import partial
from types import SimpleNamespace

import matplotlib.image
import pytest
import torch

import rnnlab.nn
from rnnlab.callbacks.char_pictures import CharPictures
from rnnlab.callbacks.ledger import write_rows
from rnnlab.data import TextData
from rnnlab.models.char_lm import CharLM


def finished(tmp_path, text):
    """Return trainer and task of a run on a text, as they are at its end."""
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    data = TextData(tmp_path / "text.txt", batch_size=2, tbptt_steps=5)
    data.setup()
    write_rows(tmp_path / "metrics.csv", [{"epoch": epoch, "train/loss": 2.0, "val/bits": 2.5} for epoch in range(3)])
    model = CharLM(partial(rnnlab.nn.LSTM, hidden_size=4), **data.sizes)
    named = SimpleNamespace(payload={"config": {"name": "char_lm/prologue"}})
    trainer = SimpleNamespace(default_root_dir=tmp_path, datamodule=data, loggers=[], checkpoint_callback=named)
    return trainer, SimpleNamespace(model=model)


@pytest.mark.parametrize("length", [1, 20, 2000])
def test_pictures_are_written_at_the_end_of_a_run(tmp_path, length):
    trainer, task = finished(tmp_path, 50 * "What is past is prologue.\n")
    random = torch.get_rng_state()
    CharPictures(length).on_run_end(trainer, task, {"baseline/5gram/val/bits": 2.2, "time/fit_s": 3.0})
    assert torch.equal(torch.get_rng_state(), random)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["learning_curve.png", "surprise.png"]
    height, width, _ = matplotlib.image.imread(tmp_path / "figures" / "surprise.png").shape
    assert width == pytest.approx(150 * 6.3, abs=2)  # dots per inch, inches
    num_rows = {1: 1, 20: 1, 2000: 5}[length]  # the validation text is a tenth, 130 characters
    assert height == pytest.approx(150 * (0.85 + num_rows * 0.175 + 0.15), abs=2)


@pytest.mark.parametrize("length", [0, 2001])
def test_length_is_checked_before_training(length):
    with pytest.raises(ValueError, match=f"length of CharPictures must be from 1 to 2000, got {length}"):
        CharPictures(length)
