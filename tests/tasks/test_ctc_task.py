"""The task of transcribers: what is minimised, what is counted, what is refused, and that both trainings learn."""

import functools
import math

import pytest
import torch
from torch import nn

import rnnlab.nn
from rnnlab.data.sound_rows import LongSound
from rnnlab.decoding.listening import Span
from rnnlab.models import Transcriber
from rnnlab.tasks import CTCTask
from rnnlab.tasks.ctc import check_fit, losses_of
from tests.tasks.helpers import quiet_trainer
from tests.tasks.sounds import TinySounds, rows_of

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory

ADAM = functools.partial(torch.optim.Adam, lr=2e-2)


def task_of(data, rnn=None, stack=1, **options):
    torch.manual_seed(0)
    rnn = rnn or functools.partial(rnnlab.nn.LSTM, hidden_size=12, bidirectional=True, backend="eager")
    return CTCTask(Transcriber(rnn, **data.sizes, stack=stack), ADAM, **options)


class Says(nn.Module):
    """Says given classes (T, B), whatever it hears, with logits of 0 and 9, or given logits (T, B, V)."""

    stack = 1

    def __init__(self, classes=None, logits=None):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.logits = 9 * nn.functional.one_hot(torch.tensor(classes).t(), 4).float() if logits is None else logits

    def forward(self, features, lengths):
        return self.logits[: int(lengths.max())] + 0 * self.unused, lengths


@pytest.mark.parametrize("loss", ["ctc", "viterbi"])
def test_both_ways_of_training_learn(tmp_path, loss):
    data = TinySounds()
    data.setup()
    task = task_of(data, loss=loss)
    trainer = quiet_trainer(tmp_path, max_epochs=40)
    trainer.fit(task, datamodule=data)
    assert trainer.callback_metrics["train/infinite"] == 0
    (values,) = trainer.test(task, datamodule=data, verbose=False)
    assert values["test/cer"] < 0.1, values


def test_the_loss_is_torchs_and_that_of_the_best_alignment_no_less():
    torch.manual_seed(0)
    logits, steps = torch.randn(6, 3, 4, requires_grad=True), torch.tensor([6, 4, 5])
    target, lengths = torch.tensor([[1, 2, 2], [3, 0, 0], [0, 0, 0]]), torch.tensor([3, 1, 0])
    ctc, best = (losses_of(kind, logits, steps, target, lengths) for kind in ("ctc", "viterbi"))
    expected = nn.functional.ctc_loss(logits.log_softmax(-1), target, steps, lengths, reduction="none")
    torch.testing.assert_close(ctc, expected)
    assert (best[:2] > ctc[:2]).all()
    torch.testing.assert_close(best[2], ctc[2])  # silence has one alignment
    best.sum().backward()
    assert not logits.grad[4:, 1].any()  # padding


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_of_single_precision(dtype):
    logits, target = torch.randn(5, 2, 4).to(dtype), torch.tensor([[1], [2]])
    for kind in ("ctc", "viterbi"):
        losses = losses_of(kind, logits, torch.tensor([5, 5]), target, torch.tensor([1, 1]))
        assert losses.dtype == torch.float32 and losses.isfinite().all()


def test_an_infinite_loss_is_told_apart_and_harms_no_other():
    logits = torch.randn(3, 2, 4, requires_grad=True)
    target, lengths = torch.tensor([[1, 1, 2], [1, 0, 0]]), torch.tensor([3, 1])
    losses = losses_of("ctc", logits, torch.tensor([3, 3]), target, lengths)
    assert losses[0] == math.inf and losses[1].isfinite()
    losses[losses != math.inf].sum().backward()
    assert logits.grad.isfinite().all() and not logits.grad[:, 0].any() and logits.grad[:, 1].any()


def test_infinite_losses_are_counted(tmp_path):
    data = TinySounds(train=[[1], [2]], val=[[1], [2]], test=[[1], [2, 1]])
    logits = torch.zeros(8, 2, 4)
    logits[:, 1, 2] = -torch.inf  # the second row never is what it should be
    task = CTCTask(Says(logits=logits), ADAM)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(task, datamodule=data)
    assert trainer.callback_metrics["train/infinite"] == 1
    assert trainer.callback_metrics["val/infinite"] == 1 and trainer.callback_metrics["val/loss"].isfinite()
    assert trainer.callback_metrics["train/loss"].isfinite()
    (values,) = trainer.test(task, datamodule=data, verbose=False)
    assert values["test/infinite"] == 1


def measured(tmp_path, classes, data):
    (values,) = quiet_trainer(tmp_path).test(CTCTask(Says(classes), ADAM, beam=1), datamodule=data, verbose=False)
    return values


def test_rates_are_edits_over_what_is_right(tmp_path):
    texts = [[1, 3, 2], [2, 2, 3, 1]]  # "a b", "bb a"
    said = [[1, 1, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0], [2, 2, 2, 0, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0]]  # "a b", "b a"
    values = measured(tmp_path, said, TinySounds(test=texts))
    assert values["test/cer"] == pytest.approx(1 / 7)
    assert values["test/wer"] == pytest.approx(1 / 4)
    assert "test/ler" not in values and "test/infinite" not in values
    values = measured(tmp_path, said, TinySounds(test=texts, error_names=("ler",)))
    assert values["test/ler"] == pytest.approx(1 / 7) and "test/wer" not in values


def test_a_model_that_diverged_has_no_rates(tmp_path):
    data = TinySounds(test=[[1], [2]])
    task = CTCTask(Says(logits=torch.full((5, 2, 4), torch.nan)), ADAM)
    (values,) = quiet_trainer(tmp_path).test(task, datamodule=data, verbose=False)
    assert all(math.isnan(values[f"test/{name}"]) for name in ("loss", "cer", "wer"))


def test_a_target_that_cannot_fit_is_named_by_row_with_both_numbers(tmp_path):
    batch = rows_of([[1], [1, 1, 2, 2]], steps=1)[[0, 1]]  # 6 frames
    check_fit(torch.tensor([3, 6]), batch)
    with pytest.raises(
        ValueError, match=r"row 1, 6 frames of .*: a target of 4 symbols and 2 repeats needs 6 frames, got 3"
    ):
        check_fit(torch.tensor([2, 3]), batch)
    data = TinySounds()
    data.setup()
    with pytest.raises(ValueError, match="row 1, 6 frames of sound in steps of model.stack: a target of"):
        task_of(data, stack=2).check(batch)
    data.splits["train"] = rows_of([[1], [1, 1, 2, 2]], steps=1)
    with pytest.raises(ValueError, match="row 1, "):
        quiet_trainer(tmp_path, max_epochs=1).fit(task_of(data, stack=2), datamodule=data)


def test_symbols_that_are_no_classes_are_refused():
    data = TinySounds()
    data.setup()
    batch = data.splits["train"][[0, 1]]
    task_of(data).check(batch)
    for wrong in (0, 4):
        target = batch.target.clone()
        target[1, 0] = wrong
        with pytest.raises(ValueError, match=f"must be from 1 to 3, got {wrong}"):
            task_of(data).check(batch._replace(target=target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "mse"}, "task.loss must be ctc or viterbi, got 'mse'"),
        ({"beam": 0}, "task.beam must be"),
        ({"beam": 2, "n_best": 3}, "task.n_best must be at most task.beam, got 3 and 2"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        task_of(TinySounds(), **options)


def test_symbols_have_the_frames_in_which_they_are_heard():
    task = CTCTask(Says([[1, 1, 0, 1, 2, 0]]), ADAM)
    task.model.stack = 3
    batch = rows_of([[1, 1, 2]], steps=1)[[0]]._replace(lengths=torch.tensor([6]))
    with torch.inference_mode():
        texts, spans = task.timed_step(batch)
    assert texts[0][0].ids == [1, 1, 2]
    assert spans == [[Span(1, 0, 6), Span(1, 9, 12), Span(2, 12, 15)]]


@pytest.mark.parametrize("beam", [1, 6])
@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("cell", [rnnlab.nn.LSTMCell, rnnlab.nn.MinGRUCell])
def test_a_long_sound_is_answered_as_the_whole(cell, stack, beam):
    data = TinySounds()
    rnn = functools.partial(rnnlab.nn.Recurrent, functools.partial(cell, hidden_size=12), num_layers=2)
    task = task_of(data, rnn, stack, beam=beam, n_best=min(beam, 3)).eval()
    with torch.no_grad():
        task.model.head.weight.mul_(12)  # so that many classes come
    features = 3 * torch.randn(400, 3)
    whole, parts = rows_of([[]])[[0]], LongSound("a.wav", 400, lambda: iter(features.split([0, 50, 1, 349])))
    whole = whole._replace(features=features.unsqueeze(1), lengths=torch.tensor([400]))
    with torch.inference_mode():
        (expected,), spans = task.timed_step(whole)
        ((found,), spans_found), (again,) = task.timed_step(parts), task.predict_step(parts)
    assert len(expected[0].ids) > 20 and spans_found == spans and len(spans[0]) == len(expected[0].ids)
    assert [one.ids for one in found] == [one.ids for one in again] == [one.ids for one in expected]
    for one, right in zip(found, expected, strict=True):
        assert one.log_prob == pytest.approx(right.log_prob, rel=1e-5)
