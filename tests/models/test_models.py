"""Shapes, sizes and refusals of the models, and that they compute what their docstrings draw."""

from functools import partial

import pytest
import torch
from torch.nn.functional import one_hot

import rnnlab.nn
from rnnlab.models import Adder, Forecaster
from rnnlab.models.layers import last_output

CELLS = {"RNN": rnnlab.nn.RNN, "LSTM": rnnlab.nn.LSTM, "GRU": rnnlab.nn.GRU}
cells = pytest.mark.parametrize("layer", CELLS.values(), ids=CELLS)
KERAS = {"input": "glorot", "recurrent": "orthogonal", "bias": "zeros", "forget_bias": 1.0}


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@cells
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_adder_answers_in_logits_and_trains_every_parameter(layer, num_layers, bidirectional):
    rnn = partial(layer, hidden_size=8, num_layers=num_layers, bidirectional=bidirectional)
    model = Adder(rnn, vocab_size=12, answer_length=4)
    logits = model(torch.randint(12, (5, 7)))
    assert logits.shape == (5, 4, 12)
    logits.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_adder_is_encoder_code_decoder():
    model = Adder(partial(rnnlab.nn.GRU, hidden_size=6), vocab_size=12, answer_length=3)
    questions = torch.randint(12, (4, 5))
    _, h_n = model.encoder(one_hot(questions, 12).float().transpose(0, 1))
    output, _ = model.decoder(torch.stack([h_n[-1]] * 3))
    torch.testing.assert_close(model(questions), model.head(output).transpose(0, 1))


def test_adder_rows_do_not_mix():
    model = Adder(partial(rnnlab.nn.LSTM, hidden_size=6), vocab_size=12, answer_length=3)
    questions = torch.randint(12, (4, 5))
    torch.testing.assert_close(model(questions)[2:3], model(questions[2:3]))


def test_parameter_counts_are_the_published_ones_plus_torch_second_bias():
    adder = Adder(partial(rnnlab.nn.LSTM, hidden_size=128), vocab_size=12, answer_length=4)
    assert num_parameters(adder) == 206_348
    for layer, published, gates in ((rnnlab.nn.LSTM, 5_250, 4), (rnnlab.nn.RNN, 1_470, 1)):
        model = Forecaster(partial(layer, hidden_size=20, num_layers=2), input_size=1, output_size=10)
        assert num_parameters(model) == published + 2 * gates * 20
    gru = Forecaster(partial(rnnlab.nn.GRU, hidden_size=20, num_layers=2), input_size=1, output_size=10)
    assert num_parameters(gru) == 4_110


@cells
def test_forecaster_reads_the_last_step_of_all_steps(layer):
    rnn = partial(layer, hidden_size=8, num_layers=2)
    last, every = Forecaster(rnn, 2, 3), Forecaster(rnn, 2, 3, all_steps=True)
    every.load_state_dict(last.state_dict())
    x = torch.randn(4, 6, 2)
    assert every(x).shape == (4, 6, 3)
    torch.testing.assert_close(last(x), every(x)[:, -1])
    torch.testing.assert_close(last(x[:, :3]), every(x)[:, 2])


def test_forecaster_without_head_returns_the_layer_itself():
    model = Forecaster(partial(rnnlab.nn.RNN, hidden_size=1), input_size=1, output_size=1, head=False)
    x = torch.randn(4, 6, 1)
    torch.testing.assert_close(model(x), model.rnn(x.transpose(0, 1))[1][0])
    assert model.head is None
    with pytest.raises(ValueError, match="must have 10 features, got 1"):
        Forecaster(partial(rnnlab.nn.RNN, hidden_size=1), input_size=1, output_size=10, head=False)


def test_forecaster_refuses_to_look_ahead():
    rnn = partial(rnnlab.nn.GRU, hidden_size=3, bidirectional=True)
    with pytest.raises(ValueError, match="bidirectional=False"):
        Forecaster(rnn, 1, 1, all_steps=True)
    assert Forecaster(rnn, 1, 1)(torch.randn(2, 5, 1)).shape == (2, 1)


def test_last_output_is_where_each_direction_ends():
    layer = rnnlab.nn.GRU(3, 4, num_layers=2, bidirectional=True)
    output, h_n = layer(torch.randn(5, 2, 3))
    torch.testing.assert_close(last_output(output, layer), torch.cat([h_n[-2], h_n[-1]], dim=-1))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # torch's notice, once
def test_projection_sets_the_width():
    model = Forecaster(partial(rnnlab.nn.LSTM, hidden_size=8, proj_size=3), input_size=1, output_size=2)
    assert model.head.in_features == 3 and model(torch.randn(2, 5, 1)).shape == (2, 2)


def test_init_reaches_every_layer_and_the_head():
    model = Adder(partial(rnnlab.nn.LSTM, hidden_size=8), vocab_size=12, answer_length=4, init=KERAS)
    for layer in (model.encoder, model.decoder):
        torch.testing.assert_close(layer.weight_hh_l0.T @ layer.weight_hh_l0, torch.eye(8))
        assert layer.bias_ih_l0.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16
        assert not layer.bias_hh_l0.any()
    assert not model.head.bias.any()
    bound = (6 / (8 + 12)) ** 0.5
    assert 0.9 * bound < model.head.weight.abs().max() <= bound


def test_init_without_glorot_leaves_the_head():
    def head(init):
        torch.manual_seed(0)
        return Adder(partial(rnnlab.nn.GRU, hidden_size=8), 12, 4, init=init).head

    assert torch.equal(head(None).weight, head({"bias": "zeros"}).weight)
    assert head({"bias": "zeros"}).bias.any()


def test_batch_first_layers_are_refused():
    rnn = partial(rnnlab.nn.GRU, hidden_size=4, batch_first=True)
    for build in (lambda: Adder(rnn, 12, 4), lambda: Forecaster(rnn, 1, 1)):
        with pytest.raises(ValueError, match="batch_first must be false"):
            build()
