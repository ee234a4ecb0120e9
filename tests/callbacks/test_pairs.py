"""Answers that a run of pairs shows after an epoch."""

import functools
from types import SimpleNamespace

import torch

import rnnlab.nn
from rnnlab.callbacks import PairSamples
from rnnlab.callbacks.pairs import alignments, answer_rows
from rnnlab.data import TSVPairs
from rnnlab.models import EncoderDecoder
from rnnlab.tasks import Seq2SeqTask


def made(pairs_file, attention="general"):
    torch.manual_seed(0)
    data = TSVPairs(pairs_file, val_percent=20)
    data.setup()
    rnn = functools.partial(rnnlab.nn.GRU, hidden_size=4)
    model = EncoderDecoder(rnn, **data.sizes, embedding_size=4, attention=attention, dropout=0.3)
    return data, Seq2SeqTask(model, functools.partial(torch.optim.Adam, lr=1e-2))


def test_samples_are_rows_of_validation_and_training_goes_on_as_it_was(pairs_file, capsys):
    data, task = made(pairs_file)
    task.train()
    samples = PairSamples(num_samples=3)
    state = torch.get_rng_state()
    samples.on_train_epoch_end(
        SimpleNamespace(datamodule=data, current_epoch=4, callback_metrics={"val/loss": torch.tensor(1.0)}), task
    )
    assert torch.equal(torch.get_rng_state(), state) and task.model.training
    assert len(samples.rows) == 3
    sources = {"".join(pair.source) for pair in data.pairs["val"]}
    for epoch, source, truth, answer, is_correct in samples.rows:
        assert epoch == 4 and source in sources and truth == source.upper() and is_correct == (answer == truth)
    diverged = SimpleNamespace(datamodule=data, current_epoch=5, callback_metrics={"val/loss": torch.tensor(torch.nan)})
    samples.on_train_epoch_end(diverged, task)
    assert len(samples.rows) == 3
    assert capsys.readouterr().out.count("right: ") == sum(not row[-1] for row in samples.rows)


def test_alignments_are_spread_over_lengths(pairs_file):
    data, task = made(pairs_file)
    data.pairs["val"].reverse()
    data.splits = data._to_numbers()
    found = alignments(data, task, 3)
    assert [len(one.source) for one in found] == sorted(len(one.source) for one in found)
    lengths = [len(pair.source) for pair in data.pairs["val"]]
    assert {len(one.source) for one in found} >= {min(lengths), max(lengths)}
    for one in found:
        assert one.weights.shape == (len(one.answer), len(one.source)) and one.answer[-1] == "end"
    assert alignments(*made(pairs_file, attention="none"), 3) == []


def test_alignments_of_questions_are_of_the_first_ones(pairs_file, tmp_path):
    data, task = made(pairs_file)
    (tmp_path / "q.txt").write_text("ab\nba\ncd\n")
    found = alignments(data, task, 2, data.read_queries(tmp_path / "q.txt"))
    assert [list(one.source) for one in found] == [["a", "b"], ["b", "a"]] and all(one.truth is None for one in found)


def test_another_right_answer_is_correct(pairs_file, tmp_path):
    data, task = made(pairs_file)
    ids = answer_rows(data, task, [0])[0].answer
    data.pairs["val"][0] = data.pairs["val"][0]._replace(
        targets=(data.pairs["val"][0].targets[0], tuple(data.target_symbols.decode(ids)))
    )
    found = answer_rows(data, task, [0])[0]
    assert found.is_correct and found.truth == "".join(data.pairs["val"][0].targets[0])
