"""The addition task learns one batch by heart, and its metrics are what they are called."""

import math
from functools import partial

import pytest
import torch
from torch import nn

import rnnlab.nn
from rnnlab.data import AdditionData, encode
from rnnlab.models import Adder
from rnnlab.tasks import AdditionTask
from rnnlab.tasks.schedule import one_cycle
from tests.covering import few
from tests.tasks.helpers import GivenData, first_rows, quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory

ADAM = partial(torch.optim.Adam, lr=1e-2)
LAYERS = {"RNN": rnnlab.nn.RNN, "LSTM": rnnlab.nn.LSTM, "GRU": rnnlab.nn.GRU}


@pytest.fixture
def data():
    return AdditionData(num_questions=200, num_test=50, batch_size=32)


def fitted(data, tmp_path, layer=rnnlab.nn.LSTM, schedule=None, **arguments):
    torch.manual_seed(0)
    model = Adder(partial(layer, hidden_size=32), vocab_size=12, answer_length=4, init={"recurrent": "orthogonal"})
    task = AdditionTask(model, ADAM, schedule)
    trainer = quiet_trainer(tmp_path, gradient_clip_val=1.0, **arguments)
    trainer.fit(task, datamodule=data)
    return task, trainer


@pytest.mark.parametrize("layer", few(LAYERS.values(), [rnnlab.nn.GRU]), ids=LAYERS)
def test_one_batch_is_learnt_by_heart(data, tmp_path, layer):
    batch = first_rows(data, 16)
    _, trainer = fitted(batch, tmp_path, layer, max_epochs=250, check_val_every_n_epoch=250)
    assert trainer.callback_metrics["val/exact_match"] == 1
    assert trainer.callback_metrics["val/loss"] < 0.1


class Constant(nn.Module):
    """Answers the same to every question."""

    def __init__(self, text):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.answer = encode(text)

    def forward(self, questions):
        return self.weight * nn.functional.one_hot(self.answer, 12).float().expand(len(questions), -1, -1)


def test_metrics_are_sums_over_counts(tmp_path):
    texts = ["12  ", "12  ", "13  ", "9   ", "12  "]
    answers = torch.stack([encode(text) for text in texts])
    data = GivenData((torch.zeros(5, 7, dtype=torch.int64), answers), batch_size=2)  # the last batch is smaller
    task = AdditionTask(Constant("12  "), ADAM)
    (result,) = quiet_trainer(tmp_path).test(task, datamodule=data, verbose=False)
    assert result["test/exact_match"] == pytest.approx(3 / 5)
    assert result["test/char_accuracy"] == pytest.approx((4 + 4 + 3 + 2 + 4) / 20)
    log_normaliser = torch.tensor([1.0] + [0.0] * 11).logsumexp(0).item()
    assert result["test/loss"] == pytest.approx(log_normaliser - 17 / 20)


def test_a_model_that_diverged_answers_nothing(tmp_path):
    task = AdditionTask(Constant("0000"), ADAM)  # the first of all characters
    nn.init.constant_(task.model.weight, torch.nan)
    data = GivenData((torch.zeros(2, 7, dtype=torch.int64), torch.stack([encode("0000")] * 2)), batch_size=2)
    (result,) = quiet_trainer(tmp_path).test(task, datamodule=data, verbose=False)
    assert len(result) == 3 and all(math.isnan(value) for value in result.values())


def test_metrics_start_anew_each_time(tmp_path, data):
    task = AdditionTask(Constant("12  "), ADAM)
    trainer = quiet_trainer(tmp_path)
    assert trainer.test(task, datamodule=data, verbose=False) == trainer.test(task, datamodule=data, verbose=False)


def test_logged_names(tmp_path, data):
    _, trainer = fitted(data, tmp_path, max_epochs=1)
    assert set(trainer.callback_metrics) == {
        "train/loss",
        "train/lr",
        "val/loss",
        "val/exact_match",
        "val/char_accuracy",
    }
    assert AdditionTask.monitor == ("val/exact_match", "max")


def test_training_is_reproducible_bit_for_bit(data, tmp_path):
    schedule = partial(one_cycle, max_lr=1e-2)
    first, _ = fitted(data, tmp_path, schedule=schedule, max_epochs=2)
    second, _ = fitted(data, tmp_path, schedule=schedule, max_epochs=2)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_predict_step_takes_questions_alone_or_in_a_batch():
    task = AdditionTask(Constant("12  "), ADAM)
    questions = torch.zeros(3, 7, dtype=torch.int64)
    expected = encode("12  ").expand(3, 4)
    assert torch.equal(task.predict_step(questions), expected)
    assert torch.equal(task.predict_step((questions, questions)), expected)
