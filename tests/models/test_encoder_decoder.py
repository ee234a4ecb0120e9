"""Encoder and decoder: symbol by symbol equals all at once, for every cell, bridge and kind of attention."""

import functools
import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import rnnlab.nn
from rnnlab.decoding.state import select_rows
from rnnlab.decoding.symbols import START
from rnnlab.models import EncoderDecoder

SOURCE = torch.tensor([[4, 5, 6, 7], [7, 8, 0, 0], [5, 5, 5, 0]])
LENGTHS = torch.tensor([4, 2, 3])
TARGET = torch.tensor([[4, 5, 3, 0], [6, 3, 0, 0], [7, 7, 7, 3]])
BATCH = SimpleNamespace(source=SOURCE, source_lengths=LENGTHS, target=TARGET)
KINDS = ["none", "additive", "general", "concat"]
NEAR = {"window": 1}


def recurrent(name: str, **options: Any):
    cell = functools.partial(getattr(rnnlab.nn, name), hidden_size=6)
    return functools.partial(rnnlab.nn.Recurrent, cell=cell, **options)


LAYERS = {
    "GRU": functools.partial(rnnlab.nn.GRU, hidden_size=5),
    "RNN": functools.partial(rnnlab.nn.RNN, hidden_size=4),
    "LSTM": functools.partial(rnnlab.nn.LSTM, hidden_size=6, num_layers=2),
    "projection": functools.partial(rnnlab.nn.LSTM, hidden_size=6, proj_size=3),
    "layer norm": recurrent("LayerNormLSTMCell", num_layers=3),
    "scan": recurrent("MinGRUCell"),
    "complex": recurrent("LRUCell"),
    "delays": recurrent("NARXCell"),
}


def build(encoder: str = "GRU", decoder: str = "GRU", both_ways: bool = False, **options: Any) -> EncoderDecoder:
    torch.manual_seed(0)
    rnn = functools.partial(LAYERS[encoder], bidirectional=both_ways)
    sizes = {"source_size": 9, "target_size": 8, "embedding_size": 6, **options}
    return EncoderDecoder(rnn, decoder=LAYERS[decoder], **sizes).double()


def stepwise(model: EncoderDecoder, target: torch.Tensor = TARGET) -> torch.Tensor:
    memory = model.encode(SOURCE, LENGTHS)
    state, token, logits = model.initial_state(memory), torch.full((len(SOURCE),), START), []
    for following in target.t():
        found, state = model.step(token, state, memory)
        logits.append(found)
        token = following
    return torch.stack(logits, dim=1)


@pytest.mark.parametrize("attention, input_feeding", [("none", False), *itertools.product(KINDS[1:], [False, True])])
@pytest.mark.parametrize("both_ways", [False, True])
def test_symbol_by_symbol_equals_all_at_once(attention, input_feeding, both_ways):
    model = build("LSTM", "GRU", both_ways, attention=attention, input_feeding=input_feeding)
    torch.testing.assert_close(stepwise(model), model(BATCH), atol=1e-12, rtol=0)


@pytest.mark.parametrize("input_feeding", [False, True])
@pytest.mark.parametrize("window", [0, 1, 3])
def test_a_model_that_keeps_near_is_as_good_symbol_by_symbol(window, input_feeding):
    model = build("LSTM", "GRU", True, input_feeding=input_feeding, window=window)
    torch.testing.assert_close(stepwise(model), model(BATCH), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "encoder, decoder", [*itertools.product(LAYERS, ["LSTM"]), *itertools.product(["layer norm"], LAYERS)]
)
def test_any_encoder_starts_any_decoder(encoder, decoder):
    model = build(encoder, decoder, both_ways=True, attention="additive")
    torch.testing.assert_close(stepwise(model), model(BATCH), atol=1e-10, rtol=0)


@pytest.mark.parametrize("options", [*({"attention": kind} for kind in KINDS), NEAR], ids=str)
def test_rows_of_a_batch_are_answered_as_if_alone(options):
    model = build("LSTM", "LSTM", True, **options)
    together = model(BATCH)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = SimpleNamespace(
            source=SOURCE[row : row + 1, :length], source_lengths=LENGTHS[row : row + 1], target=TARGET[row : row + 1]
        )
        torch.testing.assert_close(together[row], model(alone)[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("options", [{}, NEAR], ids=str)
@pytest.mark.parametrize("input_feeding", [False, True])
def test_hypotheses_of_a_source_share_its_memory(input_feeding, options):
    model = build("GRU", "LSTM", True, attention="general", input_feeding=input_feeding, **options)
    memory, copies = model.encode(SOURCE, LENGTHS), torch.arange(3).repeat_interleave(2)
    token = torch.tensor([START, 4, START, 5, 6, START])
    state = select_rows(model.initial_state(memory), copies)
    logits, state = model.step(token, state, memory)
    logits, _ = model.step(token.flip(0), state, memory)
    alone = select_rows(memory, copies)
    expected, state = model.step(token, select_rows(model.initial_state(memory), copies), alone)
    expected, _ = model.step(token.flip(0), state, alone)
    torch.testing.assert_close(logits, expected, atol=1e-12, rtol=0)


def test_a_decoder_like_the_encoder_hears_its_state_unchanged():
    model = build("LSTM", "LSTM", attention="none")
    assert not list(model.bridge.parameters())
    _, (h, c) = model.encoder(model.source_table(SOURCE.t()), lengths=LENGTHS)
    start = model.encode(SOURCE, LENGTHS).start
    torch.testing.assert_close(start, (h, c), atol=0, rtol=0)


def test_a_decoder_as_wide_as_both_directions_hears_forward_then_backward():
    torch.manual_seed(0)
    both, wide = functools.partial(LAYERS["GRU"], bidirectional=True), functools.partial(rnnlab.nn.GRU, hidden_size=10)
    model = EncoderDecoder(both, 9, 8, decoder=wide, embedding_size=6, attention="none")
    _, h = model.encoder(model.source_table(SOURCE.t()), lengths=LENGTHS)
    torch.testing.assert_close(model.encode(SOURCE, LENGTHS).start[0], torch.cat([h[0], h[1]], dim=1), atol=0, rtol=0)


def test_a_part_that_the_encoder_lacks_hears_its_output():
    model = build("LSTM", "delays", attention="none")
    _, (h, _) = model.encoder(model.source_table(SOURCE.t()), lengths=LENGTHS)
    ((first,),) = model.encode(SOURCE, LENGTHS).start
    torch.testing.assert_close(first, h[-1], atol=0, rtol=0)


def test_upper_layers_meet():
    deep = build("layer norm", "LSTM", attention="none")  # three layers to two
    shallow = build("GRU", "LSTM", attention="none")  # one to two
    assert deep.bridge.sources == [1, 2]
    assert shallow.bridge.sources == [0, 0]


def test_where_no_bridge_is_both_sides_are_named():
    with pytest.raises(
        ValueError, match=r"encoder GRU\(6, 5\) to the decoder LSTM\(6, 4\): the decoder must run in one"
    ):
        both = functools.partial(rnnlab.nn.LSTM, hidden_size=4, bidirectional=True)
        EncoderDecoder(LAYERS["GRU"], 9, 8, decoder=both, embedding_size=6)
    with pytest.raises(ValueError, match=r"encoder LSTM\(6, 4\) to the decoder .* encoder has no initial_state"):
        torchs = functools.partial(torch.nn.LSTM, hidden_size=4)
        EncoderDecoder(torchs, 9, 8, decoder=LAYERS["GRU"], embedding_size=6)


def test_gradients_reach_every_parameter():
    for attention, feeding in (("none", False), ("additive", False), ("concat", True)):
        model = build("LSTM", "GRU", True, attention=attention, input_feeding=feeding)
        model(BATCH).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_own_symbols_are_read_where_true_ones_are_not_given():
    model = build("GRU", "GRU", attention="general").eval()
    torch.testing.assert_close(model(BATCH, teacher_forcing=0.999999999), model(BATCH), atol=1e-12, rtol=0)
    logits = model(BATCH, teacher_forcing=0.0)
    own = logits.argmax(dim=2)
    torch.testing.assert_close(stepwise(model, own), logits, atol=1e-12, rtol=0)


def test_shared_and_tied_embeddings():
    model = build(attention="general", target_size=9, share_embeddings=True, tie_embeddings=True)
    assert model.source_table.weight is model.target_table.weight is model.head.weight
    assert model.combine.weight.shape[0] == 6
    torch.testing.assert_close(stepwise(model), model(BATCH), atol=1e-12, rtol=0)
    fed = build(attention="general", tie_embeddings=True, input_feeding=True)
    torch.testing.assert_close(stepwise(fed), fed(BATCH), atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="one vocabulary for both sides .*, got 9 source and 8 target symbols"):
        build(share_embeddings=True)
    with pytest.raises(ValueError, match="one vocabulary for both sides"):  # as many symbols, but not the same
        build(target_size=9, share_embeddings=True, shared_vocabulary=False)
    with pytest.raises(ValueError, match="model.decoder must be a recurrent layer or null"):
        EncoderDecoder(LAYERS["GRU"], 9, 8, decoder={})
    with pytest.raises(ValueError, match="the size of an embedding must be an integer of at least 1, got 0"):
        build(embedding_size=0)
    with pytest.raises(ValueError, match="without attention needs model.embedding_size=5, .* got 6"):
        build(attention="none", tie_embeddings=True)
    with pytest.raises(ValueError, match="input_feeding=true feeds what was attended to: it needs model.attention"):
        build(attention="none", input_feeding=True)


def test_attention_weights_are_those_of_the_forward_pass():
    for feeding in (False, True):
        model = build("LSTM", "GRU", True, attention="general", input_feeding=feeding)
        weights = model.attention_weights(BATCH)
        assert weights.shape == (3, 4, 4)
        torch.testing.assert_close(weights.sum(dim=2), torch.ones(3, 4).double())
        assert (weights[1, :, 2:] == 0).all()
        seen = []
        model.attention.register_forward_hook(lambda module, given, result, seen=seen: seen.append(result[1]))
        model(BATCH)
        torch.testing.assert_close(weights, torch.cat(seen, dim=1), atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="no attention: model.attention=none"):
        build(attention="none").attention_weights(BATCH)


def test_what_is_read_out_is_a_tanh_of_context_and_output():
    model, seen = build(attention="general"), []
    for module in (model.combine, model.head):
        module.register_forward_hook(lambda module, given, result: seen.append((given[0], result)))
    model(BATCH)
    torch.testing.assert_close(seen[1][0], seen[0][1].tanh(), atol=0, rtol=0)


def test_dropout_acts_on_embeddings_and_before_the_read_out():
    model, seen = build(attention="general"), []
    model.dropout.register_forward_hook(lambda module, given, result: seen.append(tuple(result.shape)))
    model(BATCH)
    assert seen == [(4, 3, 6), (4, 3, 6), (4, 3, 5)]
    seen.clear()
    model(BATCH, teacher_forcing=0.0)
    assert seen == [(4, 3, 6), (4, 3, 6), (3, 6), (3, 6), (3, 6), (4, 3, 5)]
    memory = model.encode(SOURCE, LENGTHS)
    seen.clear()
    model.step(torch.full((3,), START), model.initial_state(memory), memory)
    assert seen == [(3, 6), (3, 5)]


def test_both_layers_are_initialised():
    model = build("GRU", "GRU", init={"recurrent": "zeros"})
    assert not model.encoder.weight_hh_l0.any() and not model.decoder.weight_hh_l0.any()


def test_a_model_that_keeps_near_attends_to_nothing_else_and_learns_where():
    model = build("LSTM", "GRU", **NEAR)
    weights = model.attention_weights(BATCH)
    for row, last in enumerate((LENGTHS - 1).tolist()):
        for step in range(4):
            near = [abs(place - min(step, last)) <= 1 and place <= last for place in range(4)]
            assert (weights[row, step] > 0).tolist() == near
    model(BATCH).gather(2, TARGET.unsqueeze(2)).sum().backward()
    for name in ("diagonal.bias", "attention.key.weight", "source_table.weight"):
        assert model.get_parameter(name).grad.abs().sum() > 0, name


def test_what_a_window_needs():
    with pytest.raises(ValueError, match="model.window bounds what is attended to: it needs model.attention"):
        build(attention="none", window=2)
    for window in (-1, 2.0, True):
        with pytest.raises(ValueError, match="model.window must be an integer of at least 0 or null, got"):
            build(window=window)
