"""What a run of sounds shows: samples after an epoch, and pictures at the end."""

import functools
from types import SimpleNamespace

import pytest
import torch

import rnnlab.nn
from rnnlab.callbacks import SoundSamples
from rnnlab.callbacks.sounds import heard
from rnnlab.models import Transcriber
from rnnlab.tasks import CTCTask
from tests.tasks.sounds import TinySounds


@pytest.fixture
def made():
    torch.manual_seed(0)
    data = TinySounds()
    data.setup()
    rnn = functools.partial(rnnlab.nn.GRU, hidden_size=4, backend="eager")
    return data, CTCTask(Transcriber(rnn, **data.sizes, dropout=0.3), torch.optim.Adam)


def test_samples_are_rows_of_validation_and_training_goes_on_as_it_was(made, capsys):
    data, task = made
    task.train()
    samples, state = SoundSamples(num_samples=3), torch.get_rng_state()
    trainer = SimpleNamespace(datamodule=data, current_epoch=4, callback_metrics={"val/loss": torch.tensor(1.0)})
    samples.on_train_epoch_end(trainer, task)
    assert torch.equal(torch.get_rng_state(), state) and task.model.training
    texts = {data.text(ids): len(ids) for ids in data.references("val", range(8))}
    assert len(samples.rows) == 3
    for epoch, seconds, truth, answer, is_correct in samples.rows:
        assert epoch == 4 and is_correct == (answer == truth)
        assert seconds == pytest.approx(0.01 * (3 * texts[truth] + 2))
    assert capsys.readouterr().out.count("right: ") == sum(not row[-1] for row in samples.rows)
    trainer.callback_metrics["val/loss"] = torch.tensor(torch.nan)
    samples.on_train_epoch_end(trainer, task)
    assert len(samples.rows) == 3


def test_sounds_of_the_picture_are_of_the_shorter_half(made):
    data, task = made
    found = heard(data, task, 3)
    lengths = [len(one.alignment) for one in found]
    assert lengths == sorted(lengths)
    assert min(data.splits["val"].lengths) == lengths[0] and lengths[-1] <= sorted(data.splits["val"].lengths)[4]
    texts = {data.text(ids) for ids in data.references("val", range(8))}
    for one in found:
        assert one.truth in texts and one.seconds == 0.01
        assert one.probs.shape == (len(one.alignment), 4) and one.probs.sum(1) == pytest.approx(1, abs=1e-5)
        runs = [symbol for place, symbol in enumerate(one.alignment) if symbol and one.alignment[place - 1] != symbol]
        assert data.text(runs) == one.truth or len(runs) <= len(one.truth)


def test_a_right_text_that_cannot_fit_is_drawn_by_what_was_found(made):
    data, task = made
    short = data.splits["val"].recordings[0].features[:1]
    data.splits["val"].recordings[:] = [type(data.splits["val"].recordings[0])(short, [1, 1, 2])] * 8
    data.splits["val"].lengths[:] = 1
    (one,) = heard(data, task, 1)
    assert len(one.alignment) == 1 and one.truth == "aab"
