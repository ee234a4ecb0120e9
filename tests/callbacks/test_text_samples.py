"""Samples of a character model after each epoch: what they show, keep, and leave alone."""

import functools
import logging
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import rnnlab.nn
from rnnlab.callbacks import table, text_samples
from rnnlab.callbacks.text_samples import TextSamples, outside
from rnnlab.data import TextData
from rnnlab.data.vocabulary import START, UNKNOWN, Vocabulary
from rnnlab.models import CharLM
from rnnlab.tasks import CharLMTask
from tests.tasks.helpers import quiet_trainer

VOCABULARY = Vocabulary((UNKNOWN, START, *"\nabcd[]\\/:"))


@pytest.fixture
def fit():
    """A trainer at its epoch 3, and a task whose model has dropout and is being trained."""
    rnn = functools.partial(rnnlab.nn.LSTM, hidden_size=8, num_layers=2, dropout=0.5)
    model = CharLM(rnn, len(VOCABULARY), dropout=0.5)
    data = SimpleNamespace(vocabulary=VOCABULARY)
    trainer = SimpleNamespace(datamodule=data, current_epoch=3, loggers=[])
    return trainer, SimpleNamespace(model=model.train())


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setattr(text_samples, "console", Console(force_terminal=False, highlight=False, soft_wrap=True))


def test_rows_are_a_function_of_model_and_epoch(fit):
    callbacks = [TextSamples(num_samples=3, length=40, temperature=0.5, prompt="ab") for _ in range(2)]
    for callback in callbacks:
        callback.on_train_epoch_end(*fit)
        torch.rand(5)
    first, second = (callback.rows for callback in callbacks)
    assert first == second
    assert [row[:3] for row in first] == [[3, 0, 0.5], [3, 1, 0.5], [3, 2, 0.5]]
    texts = [row[3] for row in first]
    assert len(set(texts)) == 3
    for text in texts:
        assert text.startswith("ab") and len(text) == 42 and set(text) <= set(VOCABULARY.symbols[2:])
    fit[0].current_epoch = 4
    callbacks[0].on_train_epoch_end(*fit)
    assert callbacks[0].rows[3][0] == 4 and callbacks[0].rows[3][3] not in texts


def test_training_is_not_disturbed(fit):
    trainer, task = fit
    task.model.head.eval()
    before = torch.get_rng_state()
    TextSamples(length=20).on_train_epoch_end(trainer, task)
    assert torch.equal(torch.get_rng_state(), before)
    assert task.model.training and task.model.rnn.training and not task.model.head.training
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert all(parameter.grad is None for parameter in task.model.parameters())


def test_a_run_is_the_same_with_and_without_samples(tmp_path):
    """Weights, carried state and random numbers of a training with dropout, after three epochs."""
    (tmp_path / "text.txt").write_text("abba cabba da\n" * 60, encoding="utf-8")
    outcomes = []
    for callbacks in ([], [TextSamples(length=30)]):
        torch.manual_seed(0)
        data = TextData(tmp_path / "text.txt", tbptt_steps=20, batch_size=4, ngram_order=0)
        data.setup()
        model = CharLM(functools.partial(rnnlab.nn.LSTM, hidden_size=8), dropout=0.3, **data.sizes)
        task = CharLMTask(model, functools.partial(torch.optim.SGD, lr=0.5))
        quiet_trainer(tmp_path, max_epochs=3, callbacks=callbacks).fit(task, data)
        checkpoint = {"weights": task.state_dict()}
        task.on_save_checkpoint(checkpoint)
        outcomes.append((checkpoint, torch.get_rng_state()))
    assert len(callbacks[0].rows) == 6
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=0, atol=0)


def test_rows_travel_in_checkpoints_and_reach_the_table(fit, monkeypatch):
    callback, resumed = TextSamples(length=5), TextSamples(length=5)
    callback.on_train_epoch_end(*fit)
    resumed.load_state_dict(callback.state_dict())
    fit[0].current_epoch = 4
    resumed.on_train_epoch_end(*fit)
    tables = []
    monkeypatch.setattr(table, "log_table", lambda trainer, *told: tables.append(told))
    resumed.on_run_end(*fit, {})
    assert tables == [("samples", TextSamples.columns, resumed.rows)]
    assert [(row[0], row[1]) for row in tables[0][2]] == [(3, 0), (3, 1), (4, 0), (4, 1)]
    assert all(len(row) == len(TextSamples.columns) for row in resumed.rows)


@settings(deadline=None, max_examples=50)
@given(text=st.text("a[]/\\:b1 \n", max_size=30))
def test_the_screen_shows_a_sample_as_it_is(text):
    console = Console(force_terminal=False, highlight=False, soft_wrap=True, record=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_samples, "console", console)
        with console.capture() as capture:
            text_samples._print(f"|{text}|")
    assert capture.get() == f"|{text}|\n"


def test_only_the_beginning_of_the_first_sample_is_shown(fit, capsys, caplog, screen):
    callback = TextSamples(length=1000, prompt="\n[red]\\[/red]\\ :a:")
    with caplog.at_level(logging.INFO, logger="rnnlab"):
        callback.on_train_epoch_end(*fit)
    shown = capsys.readouterr().out
    expected = callback.rows[0][3][:300]
    assert shown == "".join(f"    | {line}\n" for line in expected.split("\n"))
    assert caplog.messages == [shown.removesuffix("\n")]


def test_a_prompt_with_unknown_characters_is_named(fit, capsys, screen):
    callback = TextSamples(length=5, prompt="aéb€")
    callback.on_fit_start(*fit)
    assert "not in the vocabulary, read as unknown: 'é' U+00E9, '€' U+20AC\n" in capsys.readouterr().out
    callback.on_train_epoch_end(*fit)
    assert callback.rows[0][3].startswith("aéb€")
    TextSamples(prompt="ab").on_fit_start(*fit)
    assert not capsys.readouterr().out.endswith("read as unknown: \n")


def test_a_screen_without_the_characters_does_not_end_training(monkeypatch, tmp_path):
    path = tmp_path / "out.txt"
    with path.open("w", encoding="ascii") as file:
        monkeypatch.setattr(text_samples, "console", Console(file=file, highlight=False, soft_wrap=True))
        text_samples._print("    | é")
    assert path.read_text() == "    | ?\n"


def test_unknown_characters_by_name():
    assert outside("ab\n", VOCABULARY) == ""
    assert outside("béab\t€é", VOCABULARY) == r"'\t' U+0009, 'é' U+00E9, '€' U+20AC"
    many = outside("".join(map(chr, range(0x400, 0x420))), VOCABULARY)
    assert many.count("U+") == 20 and many.endswith("'Г' U+0413, and 12 more")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be an integer of at least 1, got 0"),
        ({"length": 0}, "length must be an integer of at least 1, got 0"),
        ({"temperature": -1}, "temperature must be a finite number of at least 0, got -1"),
    ],
    ids=str,
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError) as error:
        TextSamples(**options)
    assert str(error.value) == message
