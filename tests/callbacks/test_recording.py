"""A passage read one character at a time is what the model makes of it in one call."""

from functools import partial

import numpy as np
import pytest
import torch

import rnnlab.nn
from rnnlab.callbacks.recording import choose_document, record, surprise
from rnnlab.data.documents import Document
from rnnlab.data.vocabulary import START, UNKNOWN, Vocabulary
from rnnlab.models.char_lm import CharLM

VOCABULARY = Vocabulary((UNKNOWN, START, *"abc \n"))
TEXT = "a cab\nbaa abc"


def recurrent(cell, input_size, num_layers=1, **options):
    return rnnlab.nn.Recurrent(cell(input_size, 4, **options), num_layers=num_layers)


# Layer, and the names of its kinds of units in order.
LAYERS = {
    "lstm": (
        partial(rnnlab.nn.LSTM, hidden_size=4, num_layers=2),
        ["layer 1, h", "layer 2, h", "layer 1, tanh(c)", "layer 2, tanh(c)"],
    ),
    "torch lstm": (partial(torch.nn.LSTM, hidden_size=4), ["layer 1, h", "layer 1, tanh(c)"]),
    "gru": (partial(rnnlab.nn.GRU, hidden_size=4, num_layers=2), ["layer 1, h", "layer 2, h"]),
    "rnn": (partial(rnnlab.nn.RNN, hidden_size=4), ["layer 1, h"]),
    "research lstm": (
        lambda input_size: recurrent(rnnlab.nn.LayerNormLSTMCell, input_size, num_layers=2),
        ["layer 1, h", "layer 1, tanh(c)", "layer 2, h", "layer 2, tanh(c)"],
    ),
    "complex": (
        lambda input_size: recurrent(rnnlab.nn.LRUCell, input_size),
        ["layer 1, h, real part", "layer 1, h, imaginary part"],
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_reading_is_that_of_one_call(name):
    layer, kinds = LAYERS[name]
    model = CharLM(layer, len(VOCABULARY)).double()
    recording = record(model, VOCABULARY, TEXT)
    assert recording.units == [f"{kind} {unit}" for kind in kinds for unit in range(4)]
    assert recording.states.shape == (len(TEXT), len(recording.units)) and recording.states.dtype == np.float32
    ids = torch.tensor(VOCABULARY.encode([START, *TEXT]))
    logits, state = model(ids[None], return_state=True)
    expected = torch.nn.functional.cross_entropy(logits[0, :-1], ids[1:], reduction="none").detach().numpy()
    np.testing.assert_allclose(recording.nats, expected, rtol=1e-9)
    np.testing.assert_allclose(surprise(model, VOCABULARY, TEXT), expected, rtol=1e-9)


def test_states_are_those_after_the_character():
    model = CharLM(partial(rnnlab.nn.LSTM, hidden_size=4, num_layers=2), len(VOCABULARY))
    recording = record(model, VOCABULARY, TEXT)
    for length in (1, len(TEXT)):
        ids = torch.tensor([VOCABULARY.encode([START, *TEXT[:length]])])
        _, (h, c) = model(ids, return_state=True)
        expected = torch.cat([h.flatten(), c.tanh().flatten()]).detach().numpy()
        np.testing.assert_allclose(recording.states[length - 1], expected, rtol=1e-4, atol=1e-6)


def test_states_of_two_widths_have_names_of_their_own():
    model = CharLM(partial(rnnlab.nn.LSTM, hidden_size=3, proj_size=2), len(VOCABULARY))
    expected = [*(f"layer 1, h {unit}" for unit in range(2)), *(f"layer 1, tanh(c) {unit}" for unit in range(3))]
    assert record(model, VOCABULARY, "a").units == expected


def test_context_is_read_and_not_recorded():
    model = CharLM(partial(rnnlab.nn.GRU, hidden_size=4), len(VOCABULARY))
    whole, part = record(model, VOCABULARY, TEXT), record(model, VOCABULARY, TEXT[5:], context=TEXT[:5])
    np.testing.assert_array_equal(part.nats, whole.nats[5:])
    np.testing.assert_array_equal(part.states, whole.states[5:])
    np.testing.assert_allclose(surprise(model, VOCABULARY, TEXT[5:], TEXT[:5]), part.nats, rtol=1e-5)


def test_characters_outside_the_vocabulary_are_read_as_unknown():
    model = CharLM(partial(rnnlab.nn.GRU, hidden_size=4), len(VOCABULARY))
    assert record(model, VOCABULARY, "aé").nats[1] == record(model, VOCABULARY, "aß").nats[1]


@pytest.mark.parametrize("training", [True, False])
def test_reading_leaves_the_model_as_it_was(training):
    model = CharLM(partial(rnnlab.nn.GRU, hidden_size=4), len(VOCABULARY), embedding_size=3, dropout=0.5)
    model.train(training)
    state, random = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    first, second = record(model, VOCABULARY, TEXT), record(model, VOCABULARY, TEXT)
    np.testing.assert_array_equal(first.nats, second.nats)  # without dropout
    assert model.training is training and model.dropout.training is training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_document_is_chosen_by_its_length():
    documents = [Document("ab"), Document("abcd"), Document("abcdef"), Document("abcxyz")]
    assert choose_document(documents, 3).text == "abcd"
    assert choose_document(documents, 9).text == "abcdef"
