"""A character model answers symbol by symbol what it says of a whole text."""

import pytest
import torch

from rnnlab.decoding import CharacterModel, prefix_beam
from rnnlab.decoding.sampling import START
from tests.decoding.models import RNNS, char_lm
from tests.decoding.paths import random_logits

NUMBERS = [0, 5, 4, 6]  # of the blank, which is never asked for, and of three symbols


@pytest.mark.parametrize("rnn", RNNS)
def test_it_is_the_model_on_the_whole_text(rnn):
    model, text = char_lm(rnn), [1, 3, 3, 2]
    numbers = [NUMBERS[symbol] for symbol in text]
    with torch.no_grad():
        expected = model(torch.tensor([[START, *numbers[:-1]]]))[0].log_softmax(-1)
    adapter = CharacterModel(model, NUMBERS)
    state = adapter.start()
    for t, symbol in enumerate(text):
        adapter.score(state, 2)  # asked for another, too: a state stays what it is
        log_prob, state = adapter.score(state, symbol)
        assert log_prob == pytest.approx(expected[t, numbers[t]].item(), rel=1e-9)


def test_a_prompt_comes_before_every_text():
    model, prompt = char_lm(), [6, 2]
    with torch.no_grad():
        expected = model(torch.tensor([[START, *prompt, 5]]))[0].log_softmax(-1)
    state = CharacterModel(model, NUMBERS, prompt).start()
    for t, symbol in enumerate((1, 2), start=len(prompt)):
        log_prob, state = CharacterModel(model, NUMBERS, prompt).score(state, symbol)
        assert log_prob == pytest.approx(expected[t, NUMBERS[symbol]].item(), rel=1e-9)


def test_it_answers_without_the_noise_and_the_graph_of_training():
    model = char_lm(dropout=0.5).train()
    adapter = CharacterModel(model, NUMBERS)
    first, second = (adapter.score(adapter.start(), 1) for _ in range(2))
    assert not model.training and first[0] == second[0]
    assert not any(value.requires_grad for value in adapter.start().read[1])


def test_a_search_asks_it():
    found = prefix_beam(
        random_logits(6, 2, 4, seed=0),
        torch.tensor([6, 4]),
        language_model=CharacterModel(char_lm(), NUMBERS),
        beam=4,
    )
    assert all(row[0].score < row[0].log_prob for row in found)
