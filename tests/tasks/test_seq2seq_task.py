"""The task of pairs: one batch learnt by heart, scores by weight over any right answer, symbols of its own."""

import functools
import math

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import rnnlab.nn
from rnnlab.data.pair_rows import PairBatch
from rnnlab.decoding.symbols import END
from rnnlab.models import EncoderDecoder, TransformerSeq2Seq
from rnnlab.tasks import Seq2SeqTask
from rnnlab.tasks.seq2seq import on_a_line
from tests.tasks.helpers import quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory

ADAM = functools.partial(torch.optim.Adam, lr=1e-2)
SOURCE = torch.tensor([[4, 5, 6], [7, 8, 0], [5, 5, 0], [4, 0, 0]])
TARGET = torch.tensor([[4, 5, END, 0], [6, END, 0, 0], [7, 7, 7, END], [4, END, 0, 0]])


def batch_of(weight=(1.0, 1.0, 1.0, 1.0), unseen=(False,) * 4):
    return PairBatch(
        SOURCE, torch.tensor([3, 2, 2, 1]), TARGET, torch.tensor(weight), torch.tensor(unseen), torch.arange(4)
    )


class Given(pl.LightningDataModule):
    """Serves one batch as every split; its right answers are the targets, and others that are given."""

    def __init__(self, batch, others=None, error_names=None):
        super().__init__()
        self.batch, self.others, self.error_names = batch, others or {}, error_names

    def references(self, part, rows):
        targets = [[symbol for symbol in row if symbol > END] for row in self.batch.target.tolist()]
        return [[targets[row], *self.others.get(row, [])] for row in rows.tolist()]

    def train_dataloader(self):
        return DataLoader([self.batch], batch_size=None)

    val_dataloader = test_dataloader = train_dataloader


class Says(nn.Module):
    """Answers source row b with `answers[b]`, whatever it reads."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers
        self.certainty = nn.Parameter(torch.tensor(30.0))

    def forward(self, batch):
        return self._logits(torch.stack([self._row(answer, batch.target.shape[1]) for answer in self.answers]))

    def encode(self, source, lengths):
        return (torch.arange(len(source)).view(1, -1, 1),)

    def initial_state(self, memory):
        return (torch.zeros_like(memory[0]), memory[0])  # the step, and which row it is

    def step(self, token, state, memory):
        step, row = state
        rows = torch.stack([self._row(answer, 20) for answer in self.answers])
        return self._logits(rows[row.flatten(), step.flatten()]), (step + 1, row)

    def _row(self, answer, width):
        return torch.tensor([*answer, *[END] * width][:width])

    def _logits(self, ids):
        return self.certainty * nn.functional.one_hot(ids, 9)


def measured(tmp_path, answers, data):
    task = Seq2SeqTask(Says(answers), ADAM)
    trainer = quiet_trainer(tmp_path)
    (values,) = trainer.test(task, datamodule=data, verbose=False)
    return task, values


def test_scores_count_any_right_answer_by_weight(tmp_path):
    answers = [[4, 5], [6, 6], [8, 8], [5]]  # right; one symbol too many; of its nearest answer one symbol wrong; wrong
    data = Given(batch_of((2.0, 1.0, 3.0, 4.0), (False, True, True, False)), {2: [[8, 7], [8]]}, None)
    task, values = measured(tmp_path, answers, data)
    assert values["test/exact_match"] == pytest.approx(0.2)
    assert values["test/unseen_accuracy"] == 0
    edits, symbols = 2 * 0 + 1 * 1 + 3 * 1 + 4 * 1, 2 * 2 + 1 * 1 + 3 * 2 + 4 * 1
    assert values["test/symbol_error"] == pytest.approx(edits / symbols)
    assert task.by_length["test"] == {1: (0, 4), 2: (0, 4), 3: (2, 2)}


def test_another_right_answer_is_right(tmp_path):
    data = Given(batch_of(unseen=(True,) * 4), {1: [[6, 6]]}, ("wer", "per"))
    _, values = measured(tmp_path, [[4, 5], [6, 6], [7, 7, 7], [5]], data)
    assert values["test/exact_match"] == 0.75
    assert values["test/wer"] == 0.25
    assert values["test/per"] == pytest.approx(1 / 8)
    assert not {"test/unseen_accuracy", "test/symbol_error", "test/unseen"} & values.keys()  # all are unseen


def test_unseen_sources_count_by_weight(tmp_path):
    data = Given(batch_of((2.0, 1.0, 1.0, 1.0), (True, True, False, False)))
    _, values = measured(tmp_path, [[4, 5], [6, 6], [7, 7, 7], [4]], data)
    assert values["test/unseen_accuracy"] == pytest.approx(2 / 3)


def test_a_search_is_for_the_end_of_a_run(tmp_path):
    task, data = Seq2SeqTask(Says([[4, 5], [6], [7, 7, 7], [4]]), ADAM, beam=3), Given(batch_of())
    widths, answers = [], task.answers
    task.answers = lambda batch, beam, n_best: widths.append(beam) or answers(batch, beam, n_best)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(task, datamodule=data)
    trainer.test(task, datamodule=data, verbose=False)
    assert widths == [1, 3]


def test_training_minimises_the_smoothed_loss_by_weight(tmp_path):
    torch.manual_seed(0)
    model = EncoderDecoder(functools.partial(rnnlab.nn.GRU, hidden_size=4), 9, 9, embedding_size=3)
    batch = batch_of((1.0, 2.0, 0.5, 3.0))
    log_probs = model(batch).detach().log_softmax(-1)
    likely = log_probs.gather(2, TARGET.unsqueeze(2)).squeeze(2)
    weight = batch.weight.unsqueeze(1) * (TARGET != 0)
    expected = -(weight * (0.8 * likely + 0.2 * log_probs.mean(2))).sum() / weight.sum()
    trainer = quiet_trainer(tmp_path, max_epochs=1, limit_val_batches=0)
    trainer.fit(
        Seq2SeqTask(model, functools.partial(torch.optim.SGD, lr=0.1), label_smoothing=0.2), datamodule=Given(batch)
    )
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_loss_is_in_nats_a_symbol_by_weight(tmp_path):
    torch.manual_seed(0)
    model = EncoderDecoder(functools.partial(rnnlab.nn.GRU, hidden_size=4), 9, 9, embedding_size=3)
    batch = batch_of((1.0, 2.0, 0.5, 1.0))
    (values,) = quiet_trainer(tmp_path).test(Seq2SeqTask(model, ADAM), datamodule=Given(batch), verbose=False)
    log_probs = model(batch).detach().log_softmax(-1)
    total = count = 0.0
    for row, weight in enumerate(batch.weight.tolist()):
        for step, symbol in enumerate(TARGET[row].tolist()):
            if symbol:
                total -= weight * float(log_probs[row, step, symbol])
                count += weight
    assert values["test/loss"] == pytest.approx(total / count, rel=1e-5)


def test_answers_end_where_learned_positions_do(tmp_path):
    model = TransformerSeq2Seq(9, 9, width=8, num_layers=1, feed_forward=8, positions="learned", max_length=4)
    torch.nn.init.constant_(model.head.bias[END : END + 1], -100.0)
    task = Seq2SeqTask(model, ADAM)
    assert {len(best.ids) for (best,) in task.predict_step(batch_of())} == {4}


def test_a_model_that_diverged_scores_nothing(tmp_path):
    model = EncoderDecoder(functools.partial(rnnlab.nn.GRU, hidden_size=4), 9, 9, embedding_size=3)
    torch.nn.init.constant_(model.head.bias, torch.nan)
    (values,) = quiet_trainer(tmp_path).test(Seq2SeqTask(model, ADAM), datamodule=Given(batch_of()), verbose=False)
    assert all(math.isnan(values[f"test/{name}"]) for name in ("loss", "exact_match", "symbol_error"))


MODELS = {
    "none": {"attention": "none"},
    "additive": {"attention": "additive"},
    "fed": {"attention": "general", "input_feeding": True},
    "own symbols": {"attention": "general"},
    "transformer": {},
}


@pytest.mark.parametrize("name", MODELS)
def test_one_batch_is_learnt_by_heart(tmp_path, name):
    pl.seed_everything(0, verbose=False)
    if name == "transformer":
        model = TransformerSeq2Seq(9, 9, width=16, num_layers=1, feed_forward=32, dropout=0.0, positions="learned")
    else:
        rnn = functools.partial(rnnlab.nn.LSTM, hidden_size=16, bidirectional=True)
        model = EncoderDecoder(rnn, 9, 9, embedding_size=8, **MODELS[name])
    rates = {"teacher_forcing": 1.0, "last_teacher_forcing": 0.0} if name == "own symbols" else {}
    task = Seq2SeqTask(model, ADAM, **rates)
    trainer = quiet_trainer(tmp_path, max_epochs=120, limit_val_batches=0)
    data = Given(batch_of())
    trainer.fit(task, datamodule=data)
    (values,) = trainer.test(task, datamodule=data, verbose=False)
    assert values["test/exact_match"] == 1
    task.beam, task.n_best = 3, 2
    found = task.predict_step(data.batch)
    assert [list(best.ids) for best, *_ in found] == [row[0] for row in data.references("test", torch.arange(4))]
    assert all(len(row) == 2 and row[0].log_prob > row[1].log_prob for row in found)


def test_teacher_forcing_falls_along_a_line():
    assert [on_a_line(1.0, 0.5, step, 11) for step in (0, 5, 10, 12)] == [1.0, 0.75, 0.5, 0.5]
    assert on_a_line(1.0, 0.5, 0, 1) == 1


def test_bad_arguments_are_named():
    rnn = functools.partial(rnnlab.nn.GRU, hidden_size=4)
    model = EncoderDecoder(rnn, 9, 9, embedding_size=3)
    for arguments, message in (
        ({"label_smoothing": 1.5}, "task.label_smoothing must be a number from 0 to 1, got 1.5"),
        ({"teacher_forcing": -1}, "task.teacher_forcing must be a number from 0 to 1, got -1"),
        ({"beam": 0}, "task.beam must be an integer of at least 1, got 0"),
        ({"n_best": 3, "beam": 2}, "task.n_best must be at most task.beam, got 3 and 2"),
        ({"max_length": 0}, "task.max_length must be an integer of at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Seq2SeqTask(model, ADAM, **arguments)
    with pytest.raises(ValueError, match="teacher_forcing below 1 is for recurrent decoders, not for Transformer"):
        Seq2SeqTask(TransformerSeq2Seq(9, 9, width=8), ADAM, teacher_forcing=0.5)
