"""From a vector to a sequence: symbol by symbol equals all at once, and the vector is all there is to know."""

import functools
from types import SimpleNamespace

import pytest
import torch

import rnnlab.nn
from rnnlab.decoding import translate
from rnnlab.decoding.symbols import START
from rnnlab.models import VectorDecoder, VectorGenerator
from rnnlab.models.vector_generator import Products

SOURCE = torch.tensor([[4, 5, 6], [7, 8, 0], [5, 1, 5]])
LENGTHS = torch.tensor([3, 2, 3])
TARGET = torch.tensor([[4, 5, 3, 0], [6, 3, 0, 0], [7, 7, 7, 3]])
BATCH = SimpleNamespace(source=SOURCE, source_lengths=LENGTHS, target=TARGET)
LAYERS = {
    "GRU": functools.partial(rnnlab.nn.GRU, hidden_size=5),
    "LSTM": functools.partial(rnnlab.nn.LSTM, hidden_size=6, num_layers=2),
    "projection": functools.partial(rnnlab.nn.LSTM, hidden_size=6, proj_size=3),
    "complex": functools.partial(
        rnnlab.nn.Recurrent, cell=functools.partial(rnnlab.nn.LRUCell, hidden_size=6), num_layers=2
    ),
}
layers = pytest.mark.parametrize("layer", LAYERS)


def decoder(layer="GRU", **options):
    torch.manual_seed(0)
    sizes = {"source_size": 9, "target_size": 8, "source_length": 3, "embedding_size": 4, **options}
    return VectorDecoder(LAYERS[layer], **sizes).double().eval()


def generator(layer="GRU", **options):
    torch.manual_seed(0)
    return VectorGenerator(LAYERS[layer], vector_size=4, num_steps=7, **options).double().eval()


@layers
@pytest.mark.parametrize("each_step", [False, True])
def test_symbol_by_symbol_equals_all_at_once(layer, each_step):
    model = decoder(layer, each_step=each_step)
    memory = model.encode(SOURCE, LENGTHS)
    state, token, logits = model.initial_state(memory), torch.full((len(SOURCE),), START), []
    for following in TARGET.t():
        found, state = model.step(token, state, memory)
        logits.append(found)
        token = following
    torch.testing.assert_close(torch.stack(logits, dim=1), model(BATCH), atol=1e-12, rtol=0)


def test_the_vector_is_ones_and_zeros_of_what_stands_where():
    vector = decoder().encode(SOURCE, LENGTHS).vector
    expected = torch.zeros(3, 3, 5, dtype=torch.float64)  # symbols 4 to 8
    for row, place, symbol in ((0, 0, 4), (0, 1, 5), (0, 2, 6), (1, 0, 7), (1, 1, 8), (2, 0, 5), (2, 2, 5)):
        expected[row, place, symbol - 4] = 1  # row 2 has an unknown symbol in the middle
    assert torch.equal(vector, expected.flatten(1))
    noisy = SOURCE.clone()
    noisy[1, 2] = 6  # in padding
    assert torch.equal(decoder().encode(noisy, LENGTHS).vector, vector)
    assert torch.equal(decoder().encode(SOURCE[1:2, :2], LENGTHS[1:2]).vector, vector[1:2])


@layers
def test_every_parameter_learns(layer):
    batch = SimpleNamespace(source=SOURCE, source_lengths=LENGTHS, target=torch.tensor([[4, 5, 6, 7, 3]] * 3))
    model, writer = decoder(layer), generator(layer, code_size=3)
    (model(batch).square().sum() + writer(torch.rand(5, 4, dtype=torch.float64)).square().sum()).backward()
    for name, parameter in [*model.named_parameters(), *writer.named_parameters()]:
        assert parameter.grad.abs().sum() > 0, name


def test_hypotheses_keep_to_their_sources():
    model = decoder()
    alone = [translate(model, SOURCE[[row]], LENGTHS[[row]], max_length=6, beam=3, n_best=3)[0] for row in range(3)]
    together = translate(model, SOURCE, LENGTHS, max_length=6, beam=3, n_best=3)
    assert [[one.ids for one in row] for row in together] == [[one.ids for one in row] for row in alone]


@layers
@pytest.mark.parametrize("code_size", [None, 3])
def test_longer_sequences_begin_as_shorter_ones(layer, code_size):
    model, vectors = generator(layer, code_size=code_size), torch.rand(5, 4, dtype=torch.float64)
    short, long = model(vectors), model(vectors, num_steps=20)
    assert short.shape == (5, 7) and long.shape == (5, 20)
    torch.testing.assert_close(long[:, :7], short, atol=1e-12, rtol=0)
    torch.testing.assert_close(model(vectors[2:3]), short[2:3], atol=1e-12, rtol=0)


def test_without_each_step_the_first_state_says_all():
    model, vectors = generator(each_step=False), torch.rand(2, 4, dtype=torch.float64)
    state = model.first_state(vectors, model.rnn.initial_state(2))
    output, _ = model.rnn(torch.zeros(7, 2, 4, dtype=torch.float64), state)
    torch.testing.assert_close(model(vectors), model.head(output)[..., 0].t(), atol=1e-12, rtol=0)
    assert (model(vectors)[0] != model(vectors)[1]).all()


def test_the_code_makes_the_first_state_and_the_vector_is_read():
    model, vectors = generator(code_size=3), torch.rand(2, 4, dtype=torch.float64)
    state = model.first_state(model.code(vectors), model.rnn.initial_state(2))
    output, _ = model.rnn(vectors.expand(7, -1, -1), state)
    torch.testing.assert_close(model(vectors), model.head(output)[..., 0].t(), atol=1e-12, rtol=0)


def test_a_code_knows_products():
    assert Products()(torch.tensor([[2.0, 3.0, 5.0]])).tolist() == [[2, 3, 5, 4, 6, 10, 9, 15, 25]]
    model = generator(code_size=3, code_products=True)
    vectors = torch.rand(5, 4, dtype=torch.float64)
    inner, outer = model.code[1:]
    expected = torch.sin(outer.linear(torch.sin(inner.linear(Products()(vectors)))))
    torch.testing.assert_close(model.code(vectors), expected)


def test_what_does_not_fit_is_refused():
    both_ways = functools.partial(rnnlab.nn.GRU, hidden_size=5, bidirectional=True)
    with pytest.raises(ValueError, match=r"rnn.bidirectional=false"):
        VectorDecoder(both_ways, source_size=9, target_size=8, source_length=3)
    with pytest.raises(ValueError, match=r"rnn.bidirectional=false"):
        VectorGenerator(both_ways, vector_size=4, num_steps=7)
    with pytest.raises(ValueError, match=r"a source of 3 symbols does not fit model.source_length=2"):
        decoder(source_length=2).encode(SOURCE, LENGTHS)
    with pytest.raises(ValueError, match=r"model.source_length must be an integer of at least 1, got 0"):
        decoder(source_length=0)
    with pytest.raises(ValueError, match=r"model.code_size must be an integer of at least 1 or null, got 0"):
        generator(code_size=0)
