"""The transformer: steps equal the whole, rows stand alone, nothing is read ahead, every weight learns."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy, layer_norm, scaled_dot_product_attention

from rnnlab.decoding.state import select_rows
from rnnlab.models import TransformerSeq2Seq
from rnnlab.models.layers import LockedDropout
from rnnlab.models.transformer_layers import attend, sinusoids
from tests.tolerances import FLOAT64

SIZES = {"source_size": 11, "target_size": 9}
SMALL = {"width": 12, "num_heads": 3, "num_layers": 2, "feed_forward": 16}
SOURCES = [[4, 9, 5, 6, 10], [7], [8, 8, 4], [5, 1, 9, 7]]
TARGETS = [[4, 8, 3], [5, 6, 6, 7, 3], [3], [8, 4, 5, 3]]
VARIANTS = {
    "sinusoidal": {},
    "learned": {"positions": "learned", "max_length": 6},
    "ReLU": {"activation": "relu"},
    "shared and tied": {"source_size": 9, "share_embeddings": True, "tie_embeddings": True},
    "one head of one layer": {"num_heads": 1, "num_layers": 1, "width": 5},
}
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def transformer(**options):
    return TransformerSeq2Seq(**{**SIZES, **SMALL, **options}).double().eval()


def padded(rows):
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])


def batch_of(sources=SOURCES, targets=TARGETS, model=None):
    """Return a batch; sources are kept below the vocabulary of the model."""
    source = padded(sources)
    if model is not None:
        source = source.clamp(max=model.source_embedding.num_embeddings - 1)
    lengths = torch.tensor([len(row) for row in sources])
    return SimpleNamespace(source=source, source_lengths=lengths, target=padded(targets))


def stepwise(model, batch, repeats=1):
    """Return the logits (B*K, U, V) of feeding START and the target's symbols one by one, K times side by side."""
    memory = model.encode(batch.source, batch.source_lengths)
    rows = torch.arange(len(batch.source)).repeat_interleave(repeats)
    state, token, logits = select_rows(model.initial_state(memory), rows), torch.full((len(rows),), 2), []
    for step in range(batch.target.shape[1]):
        found, state = model.step(token, state, memory)
        logits.append(found)
        token = batch.target[rows, step]
    return torch.stack(logits, dim=1)


@variants
@torch.no_grad()
def test_steps_equal_the_whole(variant):
    model = transformer(**variant)
    batch = batch_of(model=model)
    logits = model(batch)
    assert logits.shape == (4, 5, 9)
    torch.testing.assert_close(stepwise(model, batch), logits, **FLOAT64)


@variants
@torch.no_grad()
def test_a_row_is_read_and_written_as_if_it_stood_alone(variant):
    model = transformer(**variant)
    logits = model(batch_of(model=model))
    for row, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        alone = model(batch_of([source], [target], model))
        torch.testing.assert_close(logits[row : row + 1, : len(target)], alone, **FLOAT64)


@torch.no_grad()
def test_what_stands_in_padding_is_not_read():
    model, batch = transformer(), batch_of()
    expected, inside = model(batch), batch.target != 0
    steps = stepwise(model, batch)
    beyond = torch.arange(5) >= batch.source_lengths[:, None]
    other = SimpleNamespace(**{**vars(batch), "source": batch.source.masked_fill(beyond, 7)})
    torch.testing.assert_close(model(other), expected, **FLOAT64)
    model.source_embedding.weight[0] = model.target_embedding.weight[0] = torch.nan
    torch.testing.assert_close(model(batch), expected, **FLOAT64)
    torch.testing.assert_close(stepwise(model, batch)[inside], steps[inside], **FLOAT64)
    assert model.attention_weights(batch).isfinite().all()


@torch.no_grad()
def test_no_step_reads_ahead():
    model, batch = transformer(), batch_of()
    logits = model(batch)
    for step in range(4):
        target = batch.target.clone()
        target[:, step] = 1 + (target[:, step] + 3) % 8
        changed = model(SimpleNamespace(**{**vars(batch), "target": target})) - logits
        assert changed[:, : step + 1].abs().max() < 1e-12
        assert (changed[:, step + 1 :].abs().amax(2) > 1e-6).all()


@variants
@torch.no_grad()
def test_hypotheses_of_a_row_read_that_row(variant):
    model = transformer(**variant)
    batch = batch_of(model=model)
    logits = model(batch).repeat_interleave(3, dim=0)
    torch.testing.assert_close(stepwise(model, batch, repeats=3), logits, **FLOAT64)


@torch.no_grad()
def test_steps_equal_the_whole_in_mixed_precision():
    model, batch = transformer().float(), batch_of()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch)
        torch.testing.assert_close(stepwise(model, batch), logits, rtol=0.05, atol=0.05)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), model(batch), rtol=0.1, atol=0.1)


@torch.no_grad()
def test_hypotheses_go_apart_and_change_places():
    model, batch = transformer(), batch_of()
    memory = model.encode(batch.source, batch.source_lengths)
    texts = torch.randint(4, 9, (8, 3))  # two of each row
    state = select_rows(model.initial_state(memory), torch.arange(4).repeat_interleave(2))
    for token in (torch.full((8,), 2), *texts[:, :2].t()):
        _, state = model.step(token, state, memory)
    assert [part.shape for part in state] == [(3, 8, 24)] * 2
    order = torch.tensor([1, 0, 2, 2, 5, 5, 7, 6])
    found, _ = model.step(texts[order, 2], select_rows(state, order), memory)
    sources = [SOURCES[row] for row in order // 2]
    expected = model(batch_of(sources, [[*text, 3] for text in texts[order].tolist()]))
    torch.testing.assert_close(found, expected[:, 3], **FLOAT64)
    chosen = torch.tensor([3, 1])  # rows of the memory too
    found, _ = model.step(texts[[6, 2], 2], select_rows(state, 2 * chosen), select_rows(memory, chosen))
    expected = model(batch_of([SOURCES[3], SOURCES[1]], [[*text, 3] for text in texts[[6, 2]].tolist()]))
    torch.testing.assert_close(found, expected[:, 3], **FLOAT64)


@variants
def test_every_parameter_learns(variant):
    model = transformer(**variant).train()
    model(batch_of(model=model)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.norm() > 1e-6, name
    if model.head.weight is not model.target_embedding.weight:
        assert not model.source_embedding.weight.grad[0].any() and not model.target_embedding.weight.grad[0].any()


@pytest.mark.parametrize("variant", [{"positions": "learned"}, VARIANTS["shared and tied"]], ids=str)
def test_it_learns_a_batch_by_heart(variant):
    model = TransformerSeq2Seq(**{**SIZES, "width": 24, "num_layers": 1, "feed_forward": 48, "dropout": 0.0, **variant})
    batch = batch_of(model=model)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        loss = cross_entropy(model(batch).flatten(0, 1), batch.target.flatten(), ignore_index=0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.02


def test_attention_weights_are_those_of_the_last_layer():
    model, batch = transformer(num_heads=1).train(), batch_of()
    model.dropout.p = 0.0
    for layer in (*model.encoder, *model.decoder):
        layer.dropout.p = 0.0
    weights = model.attention_weights(batch)
    assert weights.shape == (4, 5, 5) and not weights.requires_grad
    torch.testing.assert_close(weights.sum(2), torch.ones(4, 5, dtype=torch.float64))
    assert not weights[torch.arange(5).expand(4, 5, 5) >= batch.source_lengths[:, None, None]].any()
    read = []
    model.decoder[-1].source_out.register_forward_hook(lambda module, given, result: read.append(given[0]))
    model(batch)
    values = model.encode(batch.source, batch.source_lengths).keys_values[-1].chunk(2, dim=-1)[1]  # (S, B, E)
    torch.testing.assert_close(weights @ values.transpose(0, 1), read[0].transpose(0, 1), **FLOAT64)


def test_weights_are_shared_and_tied():
    def count(**options):
        return sum(parameter.numel() for parameter in transformer(source_size=9, **options).parameters())

    table = 9 * 12
    assert count(share_embeddings=True) == count(tie_embeddings=True) == count() - table
    model = transformer(source_size=9, share_embeddings=True, tie_embeddings=True)
    assert count() - 2 * table == sum(parameter.numel() for parameter in model.parameters())
    pointers = {model.source_embedding.weight.data_ptr(), model.target_embedding.weight.data_ptr()}
    assert pointers == {model.head.weight.data_ptr()}
    # Norms with weight and bias, attention without biases of queries, keys and values, feed-forward.
    norm, attention, forward = 24, 4 * 144 + 12, 12 * 16 + 16 + 16 * 12 + 12
    layers = 2 * (2 * norm + attention + forward) + 2 * (3 * norm + 2 * attention + forward) + 2 * norm
    assert count() == 3 * table + 9 + layers


def test_dropout_acts_in_training_alone():
    model, batch = transformer(dropout=0.5).train(), batch_of()
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


def test_dropout_acts_on_embeddings_and_on_what_each_branch_adds():
    model, calls = transformer(), []
    for name, module in model.named_modules():
        if isinstance(module, LockedDropout):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    model(batch_of())
    expected = []
    for side, branches in (("encoder", 2), ("decoder", 3)):
        expected += ["dropout", *[f"{side}.0.dropout"] * branches, *[f"{side}.1.dropout"] * branches]
    assert calls == expected


def test_embeddings_and_positions_are_of_one_size():
    model, batch, read = transformer(), batch_of(), []
    model.dropout.register_forward_hook(lambda module, given, result: read.append(given[0]))
    model(batch)
    symbols = model.source_embedding(batch.source.t()) * 12**0.5
    torch.testing.assert_close(read[0], symbols + sinusoids(0, 5, like=symbols).unsqueeze(1), **FLOAT64)
    learned = transformer(positions="learned", max_length=50).source_positions
    torch.testing.assert_close(learned(1, 3), learned.weight[1:3] * 12**0.5, **FLOAT64)
    for table in (model.source_embedding.weight[1:], learned.weight):
        assert float(table.detach().std()) == pytest.approx(12**-0.5, rel=0.25)
    assert not model.source_embedding.weight[0].any()


def test_maps_begin_glorot_uniform_block_by_block():
    model = transformer()
    blocks = [model.encoder[0].attention.query_key_value, model.decoder[1].attention.query_key_value]
    for layer in (*blocks, model.source_key_value):
        for block in layer.weight.detach().split(12):
            assert 0.9 * 0.5 < float(block.abs().max()) <= 0.5  # sqrt(6 / (12 + 12))
    assert not any(layer.bias.any() for layer in (model.head, model.encoder[0].attention.out))


def test_branches_begin_with_a_norm_and_are_added():
    """The encoder layer against torch's own, which is pre-norm when asked to be."""
    model, batch = transformer(activation="relu"), batch_of()
    layer, theirs = model.encoder[0], torch.nn.TransformerEncoderLayer(12, 3, 16, 0.0, norm_first=True).double()
    attention, (norm, first, _, second) = layer.attention, layer.feed_forward
    given = {
        "self_attn.in_proj_weight": attention.query_key_value.weight,
        "self_attn.in_proj_bias": torch.zeros(36, dtype=torch.float64),
    }
    parts = {"self_attn.out_proj": attention.out, "norm1": attention.norm, "norm2": norm}
    for name, module in {**parts, "linear1": first, "linear2": second}.items():
        given |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    theirs.load_state_dict(given)
    x = torch.randn(5, 4, 12, dtype=torch.float64)
    is_symbol = (torch.arange(5)[:, None] < batch.source_lengths).unsqueeze(2)
    expected = theirs(x, src_key_padding_mask=~is_symbol.squeeze(2).t())
    torch.testing.assert_close(layer(x, is_symbol) * is_symbol, expected * is_symbol, **FLOAT64)


def test_both_sides_end_with_a_norm():
    model, batch = transformer(), batch_of()
    read = []
    model.head.register_forward_hook(lambda module, given, result: read.append(given[0]))
    model.source_key_value.register_forward_hook(lambda module, given, result: read.append(given[0]))
    model(batch)
    for values in read:
        torch.testing.assert_close(layer_norm(values, (12,)), values, rtol=1e-3, atol=1e-3)


def test_attend_is_torchs_function_row_by_row():
    query, keys_values = torch.randn(2, 6, 8), torch.randn(5, 3, 16)
    read = attend(query, keys_values, num_heads=2)
    for row in range(6):
        q, k, v = query[:, row], *keys_values[:, row // 2].chunk(2, dim=1)
        q, k, v = (x.view(len(x), 2, 4).transpose(0, 1) for x in (q, k, v))
        expected = scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(2, 8)
        torch.testing.assert_close(read[:, row], expected)


def test_sinusoids():
    positions = sinusoids(3, 5, like=torch.zeros(1, 4, dtype=torch.float64))
    angles = torch.tensor([[3.0, 0.03], [4.0, 0.04]], dtype=torch.float64)
    torch.testing.assert_close(positions, torch.cat([angles.sin(), angles.cos()], dim=1))
    assert sinusoids(0, 3, like=torch.zeros(5)).shape == (3, 5)
    half = sinusoids(1000, 1001, like=torch.zeros(8, dtype=torch.bfloat16))
    torch.testing.assert_close(half, sinusoids(1000, 1001, like=torch.zeros(8)).bfloat16())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": "learnt"}, "model.positions must be sinusoidal or learned, got 'learnt'"),
        ({"activation": "tanh"}, "model.activation must be gelu or relu, got 'tanh'"),
        ({"num_heads": 5}, "model.width must be a multiple of model.num_heads=5, got 12"),
        ({"num_layers": 0}, "model.num_layers must be an integer of at least 1, got 0"),
        ({"width": 12.0}, "model.width must be an integer of at least 1, got 12.0"),
        ({"dropout": 1.0}, r"model.dropout must lie in \[0, 1\), got 1.0"),
        ({"share_embeddings": True}, "model.share_embeddings=true .* got 11 source and 9 target symbols"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        transformer(**options)


def test_learned_positions_end():
    model = transformer(positions="learned", max_length=4)
    message = "a sequence of 5 symbols is longer than model.max_length=4, .* model.positions=sinusoidal has no limit"
    with pytest.raises(ValueError, match=message):  # the source
        model(batch_of())
    with pytest.raises(ValueError, match=message):  # the target
        model(batch_of([[4]] * 4))
    batch = batch_of([[4]], [[5, 6, 7, 3]])
    assert stepwise(model, batch).shape == (1, 4, 9)
    with pytest.raises(ValueError, match=message):
        stepwise(model, batch_of([[4]], [[5, 6, 7, 8, 3]]))
