"""The tagging task learns one batch by heart, and its scores are sums over the tokens that have a tag."""

import math
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_precision, multiclass_recall

import rnnlab.nn
from rnnlab.data import BinaryAdditionData, CopyData, GeneratedTaggerData, LanguageData, SegmentBatch
from rnnlab.models import SegmentTagger
from rnnlab.models.tagger import Tagger
from rnnlab.tasks.schedule import one_cycle
from rnnlab.tasks.tagging import TaggingTask
from tests.covering import few
from tests.models.sentences import SIZES, batch_of
from tests.tasks.helpers import quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory

ADAM = partial(torch.optim.Adam, lr=1e-2)
TAGS = ("A", "B", "C", "D")
METRICS = {"loss", "accuracy", "sentence_accuracy", "macro_f1"}


class Given(pl.LightningDataModule):
    """Serves given batches as every split."""

    tags = TAGS

    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def train_dataloader(self):
        return DataLoader(self.batches, batch_size=None)

    val_dataloader = test_dataloader = train_dataloader


class Fixed(nn.Module):
    """Gives word n the tag n % 4 with some certainty, unless n is 9, which it takes for a B."""

    num_tags, crf = 4, None

    def __init__(self):
        super().__init__()
        self.certainty = nn.Parameter(torch.tensor(2.0))

    def forward(self, batch):
        word = batch.words - 2
        return self.certainty * one_hot(torch.where(word == 9, 1, word % 4), 4)

    def best_tags(self, emissions, lengths):
        return emissions.argmax(-1)

    def decode(self, batch):
        return self.best_tags(self(batch), batch.lengths)


class FixedPair(Fixed):
    """Another answer: everything is a B."""

    def forward(self, batch):
        return super().forward(batch) * 0 + self.certainty * one_hot(torch.ones_like(batch.words), 4)


def measured(task, data, tmp_path):
    """Return what is logged for the test split, without its prefix."""
    trainer = quiet_trainer(tmp_path)
    (result,) = trainer.test(task, datamodule=data, verbose=False)
    return {name.removeprefix("test/"): value for name, value in result.items()}


@pytest.mark.parametrize("crf", few([False, True], [True]))
def test_one_batch_is_learnt_by_heart(crf, tmp_path):
    # Word 7 is a B after word 3 and a C after word 1: its neighbours have to be read.
    batch = batch_of([[3, 7, 0], [1, 7], [2, 3, 7, 1, 7], [5]], [[0, 1, 2], [3, 2], [0, 0, 1, 3, 2], [None]])
    rnn = partial(rnnlab.nn.LSTM, hidden_size=12, bidirectional=True, backend="eager")
    model = Tagger(rnn, **SIZES, word_size=8, char_size=4, char_hidden=4, dropout=0.1, crf=crf)
    task = TaggingTask(model, ADAM)
    trainer = quiet_trainer(tmp_path, max_epochs=80, check_val_every_n_epoch=80)
    trainer.fit(task, datamodule=Given(batch))
    logged = trainer.callback_metrics
    assert set(logged) == {"train/loss", "train/lr", *(f"val/{name}" for name in METRICS)}
    assert logged["val/accuracy"] == logged["val/sentence_accuracy"] == logged["val/macro_f1"] == 1
    assert logged["val/loss"] < 0.05
    assert task.predict_step(batch)[2].tolist() == [0, 0, 1, 3, 2]


def test_spoken_words_are_learnt_by_heart_and_homophones_scored_apart(tmp_path):
    # Segment 1 is a B after segment 0 and a C after segment 2.
    kinds = torch.tensor([[0, 1, 2, 1, 0, 1], [2, 1, 0, 1, 2, 2]])
    tags = torch.tensor([[0, 1, 3, 2, 0, 1], [3, 2, 0, 1, 3, -100]])
    twins = (kinds == 1) | (tags < 0)  # what has no tag is not scored, whatever it sounds like
    batch = SegmentBatch(one_hot(kinds.t(), 4).float(), torch.tensor([6, 5]), twins, tags)
    for context, right in ((True, 1.0), (False, 0.6)):  # three of five are a B
        rnn = partial(rnnlab.nn.LSTM, hidden_size=8, bidirectional=True, backend="eager")
        task = TaggingTask(SegmentTagger(rnn, 4, 4, projection=8, dropout=0.0, context=context), ADAM)
        trainer = quiet_trainer(tmp_path, max_epochs=80, check_val_every_n_epoch=80)
        trainer.fit(task, datamodule=Given(batch))
        assert trainer.callback_metrics["val/accuracy_homophones"] == pytest.approx(right)
        assert trainer.callback_metrics["val/accuracy"] == pytest.approx(1 - (1 - right) * 5 / 11)


def test_scores_are_sums_over_counts(tmp_path):
    # Wrong: both words 9, true tag 1 taken as itself in the first, and an untagged token, which does not count.
    batches = [
        batch_of([[0, 1, 2], [9]], [[0, 1, 2], [0]]),
        batch_of([[9, 3]], [[2, None]]),
        batch_of([[5, 5, 5, 5, 6, 7, 8]], unseen=(8,)),  # an unknown word is taken for a D
        batch_of([[4]], [[None]]),
    ]
    found = measured(TaggingTask(Fixed(), ADAM), Given(*batches), tmp_path)
    assert set(found) == {*METRICS, "accuracy_unseen"}
    assert found["accuracy"] == pytest.approx(9 / 12)
    assert found["accuracy_unseen"] == 0
    assert found["sentence_accuracy"] == pytest.approx(1 / 4)
    log_normaliser = torch.tensor([2.0, 0.0, 0.0, 0.0]).logsumexp(0).item()
    assert found["loss"] == pytest.approx(log_normaliser - 2 * 9 / 12, rel=1e-6)


def test_a_tagger_that_diverged_has_no_score(tmp_path):
    task = TaggingTask(Fixed(), ADAM)
    nn.init.constant_(task.model.certainty, torch.nan)
    found = measured(task, Given(batch_of([[0, 4], [1]], unseen=(1,)), batch_of([[0]])), tmp_path)
    assert set(found) == {*METRICS, "accuracy_unseen"} and all(math.isnan(value) for value in found.values())
    assert all(math.isnan(score.f1) and score.support == 0 for score in task.per_tag("test").values())


@pytest.mark.parametrize("crf", [False, True])
def test_tags_that_cannot_be_given_are_wrong_and_have_no_part_in_the_loss(crf, tmp_path):
    batch = batch_of([[0, 1, 2], [9], [3, 5]], [[0, 1, 2], [0], [3, 1]])
    unknown = batch._replace(tags=batch.tags.clone())
    unknown.tags[0, 1] = unknown.tags[1, 0] = -1
    untagged = batch._replace(tags=unknown.tags.masked_fill(unknown.tags == -1, -100))
    rnn = partial(rnnlab.nn.GRU, hidden_size=4, backend="eager")
    task = TaggingTask(Tagger(rnn, **SIZES, char_encoder="none", crf=True).eval() if crf else Fixed(), ADAM)
    expected, found = measured(task, Given(untagged), tmp_path), measured(task, Given(unknown), tmp_path)
    scores = task.per_tag("test")
    assert "unknown_tags" not in expected and found["unknown_tags"] == pytest.approx(2 / 6)
    assert found["loss"] == expected["loss"] and found["accuracy"] == pytest.approx(expected["accuracy"] * 4 / 6)
    if not crf:  # both words of unknown tags are taken for a B, as is another one
        assert found["sentence_accuracy"] == pytest.approx(1 / 3)
        assert (scores["B"].precision, scores["B"].recall, scores["B"].support) == (pytest.approx(1 / 3), 1, 1)


def test_a_tagger_with_a_crf_is_scored_by_sentence_likelihood(tmp_path):
    batches = [batch_of([[0, 1, 2], [4]]), batch_of([[9, 3, 5, 6]], [[1, None, 1, 2]])]
    model = Tagger(
        partial(rnnlab.nn.GRU, hidden_size=4, backend="eager"), **SIZES, char_encoder="none", crf=True
    ).eval()
    nn.init.normal_(model.crf.transitions)
    found = measured(TaggingTask(model, ADAM), Given(*batches), tmp_path)
    losses = torch.cat([model.crf.loss(model(batch), batch.tags, batch.lengths) for batch in batches])
    assert found["loss"] == pytest.approx(losses.sum().item() / 7, rel=1e-6)
    right = sum(int((model.decode(batch) == batch.tags).sum()) for batch in batches)
    assert found["accuracy"] == pytest.approx(right / 7)


def test_training_loss_is_a_mean_over_tokens(tmp_path):
    batches = [batch_of([[0, 1, 2], [9]], [[0, 1, 2], [0]]), batch_of([[9, 3]], [[2, None]]), batch_of([[4]], [[None]])]
    task = TaggingTask(Fixed(), partial(torch.optim.SGD, lr=0.0))
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(task, datamodule=Given(*batches))
    expected = trainer.callback_metrics["val/loss"].item()
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(expected, rel=1e-6)
    assert torch.isfinite(task.model.certainty)  # a batch without any tag moves nothing


def test_per_tag_scores_are_those_of_torchmetrics(tmp_path):
    batches = [batch_of([[0, 1, 2], [9]], [[0, 1, 2], [0]]), batch_of([[9, 1, 5]], [[2, 0, 1]])]
    task, data = TaggingTask(Fixed(), ADAM), Given(*batches)
    found = measured(task, data, tmp_path)
    scores = task.per_tag("test")
    assert tuple(scores) == TAGS and [score.support for score in scores.values()] == [3, 2, 2, 0]
    assert task.confusion["test"].tolist() == [[1, 2, 0, 0], [0, 2, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]

    true = torch.tensor([0, 1, 2, 0, 2, 0, 1])
    predicted = torch.tensor([0, 1, 2, 1, 1, 1, 1])
    functions = {"precision": multiclass_precision, "recall": multiclass_recall, "f1": multiclass_f1_score}
    for name, function in functions.items():
        expected = function(predicted, true, 4, average=None)
        assert [getattr(scores[tag], name) for tag in "ABC"] == pytest.approx(expected[:3].tolist())
        assert torch.isnan(torch.tensor(getattr(scores["D"], name)))  # never there, never given
    assert found["macro_f1"] == pytest.approx(multiclass_f1_score(predicted, true, 4, average="macro").item())


def test_a_tag_that_is_never_found_counts_as_zero(tmp_path):
    task = TaggingTask(FixedPair(), ADAM)
    found = measured(task, Given(batch_of([[0, 1]])), tmp_path)
    scores = task.per_tag("test")
    assert (scores["A"].recall, scores["A"].f1) == (0, 0)
    assert scores["B"] == pytest.approx((0.5, 1.0, 2 / 3, 1))
    assert found["macro_f1"] == pytest.approx(1 / 3)


def test_scores_start_anew_each_time_and_splits_are_apart(tmp_path):
    task, data = TaggingTask(Fixed(), ADAM), Given(batch_of([[0, 9]]), batch_of([[1]]))
    first = measured(task, data, tmp_path)
    assert measured(task, data, tmp_path) == first
    assert int(task.confusion["test"].sum()) == 3
    with pytest.raises(ValueError, match="'val' was not measured; measured: test"):
        task.per_tag("val")
    assert task.state_dict().keys() == {"model.certainty"}


def test_monitor_is_logged():
    assert TaggingTask(Fixed(), ADAM).monitor == ("val/accuracy", "max")
    assert TaggingTask(Fixed(), ADAM, monitor="loss").monitor == ("val/loss", "min")
    with pytest.raises(ValueError, match=r"task.monitor must be one of accuracy, .*, got 'f1'"):
        TaggingTask(Fixed(), ADAM, monitor="f1")


STEPS = [
    (LanguageData, {"length_bounds": (8, 16)}),
    (BinaryAdditionData, {"test_bits": 20}),
    (CopyData, {"length": 3, "batch_size": 8}),
]


@pytest.mark.parametrize(("make", "arguments"), STEPS)
def test_one_batch_of_steps_is_learnt_by_heart(make, arguments, tmp_path):
    data = make(num_train=8, num_val=2, num_test=2, **arguments)
    data.setup()
    model = SegmentTagger(partial(rnnlab.nn.GRU, hidden_size=64), **data.sizes, projection=None, dropout=0.0)
    task = TaggingTask(model, partial(torch.optim.Adam, lr=1e-2), monitor="loss")
    batch = Given(data.splits["train"][list(range(8))])
    quiet_trainer(tmp_path, max_epochs=400, gradient_clip_val=1.0).fit(task, batch)
    assert measured(task, batch, tmp_path)["sentence_accuracy"] == 1


def test_check_compares_model_and_data():
    task, batch = TaggingTask(Fixed(), ADAM), batch_of([[0, 1], [2]])
    task.check(batch)
    with pytest.raises(ValueError, match="the data have a tag 7, the model 4 tags"):
        task.check(batch._replace(tags=torch.full_like(batch.tags, 7)))
    task.model.num_tags = 5
    with pytest.raises(ValueError, match=r"emissions are \(2, 2, 4\), for tokens \(2, 2\) and 5 tags"):
        task.check(batch)


class SaveAndStop(pl.Callback):
    """Save a checkpoint after a number of batches, and stop there."""

    def __init__(self, path, num_batches):
        self.path, self.num_batches = path, num_batches

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.num_batches:
            trainer.save_checkpoint(self.path)
            raise InterruptedError


@pytest.mark.parametrize("schedule", [None, partial(one_cycle, max_lr=1e-2)], ids=["constant", "one_cycle"])
def test_a_run_stopped_in_mid_epoch_goes_on_where_it_was(schedule, tmp_path):
    def fit(callbacks=(), ckpt_path=None):
        data = GeneratedTaggerData(num_train=30, num_val=2, num_test=2, max_tokens=60)
        data.setup()
        torch.manual_seed(0)
        rnn = partial(rnnlab.nn.GRU, hidden_size=4, backend="eager")
        model = Tagger(rnn, **data.sizes, char_encoder="none", word_dropout=0.0, dropout=0.0)  # nothing is drawn
        trainer = quiet_trainer(tmp_path, max_epochs=2, callbacks=list(callbacks))
        trainer.fit(TaggingTask(model, ADAM, schedule), datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        return trainer.global_step, model.state_dict()

    num_steps, expected = fit()
    path = tmp_path / "mid.ckpt"
    with pytest.raises(InterruptedError):
        fit([SaveAndStop(path, num_steps // 2 + 2)])
    steps, found = fit(ckpt_path=path)
    assert steps == num_steps > 8
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
