"""Classification: numbers against torchmetrics and by hand, class weights, one batch learnt by heart."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import multiclass_f1_score

import rnnlab.nn
from rnnlab.data.buckets import BucketData
from rnnlab.data.labelled import ClassBatch, ClassRows
from rnnlab.models import Classifier
from rnnlab.tasks import ClassificationTask
from rnnlab.tasks.schedule import one_cycle
from tests.tasks.helpers import quiet_trainer

SGD = partial(torch.optim.SGD, lr=0.0)


class Fixed(nn.Module):
    """Says the class that the first value of a sequence names, with a certainty of 2 nats more than each other one."""

    num_classes = 4

    def __init__(self):
        super().__init__()
        self.certainty = nn.Parameter(torch.tensor(2.0))

    def forward(self, values, lengths):
        return self.certainty * nn.functional.one_hot(values[0, :, 0].long(), self.num_classes).float()


class Rows(BucketData):
    """Serves sequences of one value, which a `Fixed` model says, and right classes as every part."""

    def __init__(self, said, right, counts=(1, 1, 1, 1)):
        super().__init__(3, 3, 0)
        self.rows, self.counts = ClassRows([torch.tensor([[float(value)]]) for value in said], right), counts
        self.classes = "ABCD"

    def make_splits(self):
        return dict.fromkeys(("train", "val", "test"), self.rows)

    def class_counts(self):
        return torch.tensor(self.counts)


def measured(task, data, tmp_path):
    (found,) = quiet_trainer(tmp_path).test(task, datamodule=data, verbose=False)
    return {name.removeprefix("test/"): value for name, value in found.items()}


def test_numbers_are_those_of_torchmetrics_over_all_batches(tmp_path):
    said, right = [0, 1, 2, 0, 2, 0, 1], [0, 1, 2, 1, 1, 1, 1]
    task, data = ClassificationTask(Fixed(), SGD), Rows(said, right)
    found = measured(task, data, tmp_path)
    assert found.keys() == {"loss", "accuracy", "macro_f1"}
    assert found["accuracy"] == pytest.approx(4 / 7)
    f1 = multiclass_f1_score(torch.tensor(said), torch.tensor(right), 4, average="macro")
    assert found["macro_f1"] == pytest.approx(f1.item())
    normaliser = torch.tensor([2.0, 0.0, 0.0, 0.0]).logsumexp(0).item()
    assert found["loss"] == pytest.approx(normaliser - 2 * 4 / 7, rel=1e-6)
    scores = task.per_class("test")
    assert tuple(scores) == ("A", "B", "C", "D") and [score.support for score in scores.values()] == [1, 5, 1, 0]
    assert scores["B"][:2] == pytest.approx((1.0, 0.4))
    with pytest.raises(ValueError, match="'val' was not measured; measured: test"):
        task.per_class("val")


def test_a_class_that_cannot_be_given_is_wrong_and_has_no_part_in_the_loss(tmp_path):
    task = ClassificationTask(Fixed(), SGD)
    plain, found = (measured(task, Rows(*rows), tmp_path) for rows in (([0, 1], [0, 1]), ([0, 1, 1], [0, 1, -1])))
    assert found["loss"] == pytest.approx(plain["loss"]) and found["accuracy"] == pytest.approx(2 / 3)
    assert found["unknown_classes"] == pytest.approx(1 / 3) and "unknown_classes" not in plain
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)


def test_a_model_that_diverged_has_no_score(tmp_path):
    task = ClassificationTask(Fixed(), SGD)
    torch.nn.init.constant_(task.model.certainty, torch.nan)
    found = measured(task, Rows([0, 1, 2], [0, 0, -1]), tmp_path)  # the likeliest of classes all NaN is the first
    assert found.keys() == {"loss", "accuracy", "macro_f1"}
    assert all(math.isnan(value) for value in found.values())
    assert all(math.isnan(score.f1) and score.support == 0 for score in task.per_class("test").values())


@pytest.mark.parametrize(("weights", "smoothing"), [(None, 0.0), ("balanced", 0.0), ("balanced", 0.2)])
def test_training_loss_weighs_classes_and_validation_does_not(weights, smoothing, tmp_path):
    said, right = [0, 1, 1], [0, 2, 1]
    task = ClassificationTask(Fixed(), SGD, class_weights=weights, label_smoothing=smoothing)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(task, datamodule=Rows(said, right, counts=(6, 1, 2, 3)))
    logits = 2 * nn.functional.one_hot(torch.tensor(said), 4).float()
    plain = nn.functional.cross_entropy(logits, torch.tensor(right))
    each = 12 / (4 * torch.tensor([6.0, 1.0, 2.0, 3.0])) if weights else None
    expected = nn.functional.cross_entropy(logits, torch.tensor(right), each, label_smoothing=smoothing)
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(plain.item(), rel=1e-6)
    assert task.state_dict().keys() == {"model.certainty"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_weights": "even"}, "task.class_weights must be balanced or null, got 'even'"),
        ({"label_smoothing": 1.0}, r"task.label_smoothing must lie in \[0, 1\), got 1.0"),
        ({"monitor": "f1"}, "task.monitor must be one of accuracy, macro_f1, loss, got 'f1'"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClassificationTask(Fixed(), SGD, **arguments)


def test_the_best_checkpoint_is_picked_by_what_is_asked_for():
    picks = {name: ClassificationTask(Fixed(), SGD, monitor=name).monitor for name in ("accuracy", "macro_f1", "loss")}
    assert picks == {
        "accuracy": ("val/accuracy", "max"),
        "macro_f1": ("val/macro_f1", "max"),
        "loss": ("val/loss", "min"),
    }


def test_check_compares_model_and_data():
    task, rows = ClassificationTask(Fixed(), SGD), ClassRows([torch.zeros(1, 1)], [4])
    with pytest.raises(ValueError, match="the data have a class 4, the model 4"):
        task.check(rows[0])
    task.model.forward = lambda values, lengths: torch.zeros(1, 3)
    with pytest.raises(ValueError, match=r"the model's scores are \(1, 3\), for 1 sequences and 4 classes"):
        task.check(rows[0])


def test_overfits_one_batch_and_gives_probabilities(tmp_path):
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(length, 2, generator=generator) for length in range(4, 16)]
    data = Rows([0], [0])
    data.batch_size, data.rows = 200, ClassRows(values, [row % 3 for row in range(12)])
    model = Classifier(partial(rnnlab.nn.GRU, hidden_size=16), 2, 3, pooling="attention")
    task = ClassificationTask(model, partial(torch.optim.AdamW, lr=0.02), partial(one_cycle, max_lr=0.02))
    trainer = quiet_trainer(tmp_path, max_epochs=120)
    trainer.fit(task, datamodule=data)
    assert trainer.callback_metrics["val/accuracy"] == 1 and trainer.callback_metrics["train/loss"] < 0.1
    with torch.inference_mode():
        answers = task.eval().predict_step(data.rows[list(range(12))])
    assert answers.shape == (12, 3) and answers.sum(1).tolist() == pytest.approx([1.0] * 12, abs=1e-5)
    assert answers.argmax(1).tolist() == [row % 3 for row in range(12)]
    assert isinstance(data.rows[3], ClassBatch)
