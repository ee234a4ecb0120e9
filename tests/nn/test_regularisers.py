"""Regularisers of `Recurrent`: each against the plain loop with the same masks; off means off, bit for bit."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.rnn import pack_padded_sequence

from rnnlab.nn.cells import GatedGRUCell
from rnnlab.nn.explain import explain_backend
from rnnlab.nn.options import INPUT, OUTPUT, WEIGHT
from rnnlab.nn.recurrent import Recurrent
from rnnlab_kernels.schedules.additions import CANDIDATE, RECURRENT, ZONEOUT
from rnnlab_kernels.schedules.noise.masks import draw_seed, keep_mask
from tests.covering import few
from tests.nn.plain import (
    CHAINS,
    DTYPE,
    KINDS,
    assert_close,
    every_kind,
    factory,
    flags,
    gradients,
    make,
    plainly,
    randn,
    zeros,
)

T, B, P = 5, 3, 0.4
RATES: list[dict[str, Any]] = [
    {"input_dropout": P},
    {"output_dropout": P},
    {"recurrent_dropout": P},
    {"candidate_dropout": P},
    {"weight_dropout": P},
    {"zoneout": P},
    {"dropout": P},
]
every_rate = pytest.mark.parametrize("options", RATES, ids=lambda options: next(iter(options)))


def kept(seed: int, stream: int, *shape: int, p: float = P) -> Tensor:
    """Return the mask that a seed means, 0 or 1."""
    mask = keep_mask(seed, stream, 0, (1,) * (3 - len(shape)) + shape, p, "cpu", DTYPE)  # type: ignore[arg-type]
    return mask.view(shape)


def seeds_of(layer: Recurrent, seed: int = 3) -> list[int]:
    """Return what the next call of the layer will draw."""
    torch.manual_seed(seed)
    found = [draw_seed() for _ in layer.cells]
    torch.manual_seed(seed)
    return found


def has(kind: str, options: dict[str, Any]) -> bool:
    """Whether a cell of this kind can have these options: only cells that state their gate maths have all."""
    inside = {"recurrent_dropout", "weight_dropout", "candidate_dropout"} & set(options)
    if "candidate_dropout" in options:
        return kind in ("torch-lstm", "gru")
    return not inside or kind in CHAINS


KINDS_AND_RATES = [
    pytest.param(kind, options, id=f"{kind}-{next(iter(options))}")
    for kind in KINDS
    for options in RATES
    if has(kind, options)
]


def test_variational_dropout_of_inputs_and_outputs():
    layer = Recurrent(make("leaky"), 2, bidirectional=True, input_dropout=P, output_dropout=0.3)
    x, lengths = randn(T, B, 3), [5, 2, 0]
    mask = torch.arange(T)[:, None] < torch.tensor(lengths)
    seeds = seeds_of(layer)
    output, _ = layer(x, lengths=lengths)
    for number in range(2):
        x = x * kept(seeds[2 * number], INPUT, *x.shape[1:]) / (1 - P)
        both = [plainly(layer.cells[2 * number + k], x, mask=mask, reverse=k == 1)[0] for k in range(2)]
        x = torch.cat(both, -1)
    assert_close(output, x * kept(seeds[2], OUTPUT, B, 8, p=0.3) / 0.7)


@pytest.mark.parametrize("backend", few(["reference", "eager", "fused"], ["eager"]))
def test_recurrent_dropout_reaches_every_product_of_a_gru(backend):
    dtype = torch.float32 if backend == "fused" else DTYPE
    layer = Recurrent(
        GatedGRUCell(3, 4, reset_after=False, dtype=dtype), recurrent_dropout=P, zoneout=0.3, backend=backend
    )
    x, (cell,) = randn(T, B, 3).to(dtype), layer.cells
    (seed,) = seeds_of(layer)
    mask = kept(seed, RECURRENT, B, 4).to(dtype) / (1 - P)
    update = keep_mask(seed, ZONEOUT, 0, (T, B, 4), 0.3, "cpu", dtype)
    output, _ = layer(x)
    grads = torch.autograd.grad(output.sum(), list(cell.parameters()))
    h, outputs = torch.zeros(B, 4, dtype=dtype), []
    r_zn, b_zn = cell.weight_hh, cell.bias_hh
    for t in range(T):
        a, read = linear(x[t], cell.weight_ih, cell.bias_ih), h * mask
        r, z = (a[:, :8] + linear(read, r_zn[:8], b_zn[:8])).sigmoid().chunk(2, -1)
        n = (a[:, 8:] + linear(r * read, r_zn[8:], b_zn[8:])).tanh()
        h = torch.lerp(h, (1 - z) * n + z * h, update[t])  # what enters element by element is not dropped
        outputs.append(h)
    expected = torch.stack(outputs)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(grads, torch.autograd.grad(expected.sum(), list(cell.parameters())))


@pytest.mark.parametrize("backend", ["reference", "eager"])
@pytest.mark.parametrize("cell_type", [nn.LSTMCell, nn.RNNCell], ids=["LSTM", "RNN"])
def test_recurrent_dropout_has_one_mask_a_sequence(cell_type, backend):
    layer = Recurrent(cell_type(3, 4, dtype=DTYPE), recurrent_dropout=P, backend=backend)
    x, cell = randn(T, B, 3), layer.cells[0]
    mask = kept(seeds_of(layer)[0], RECURRENT, B, 4) / (1 - P)
    output, (found,) = layer(x)
    state = zeros(cell, B)
    for t in range(T):
        dropped = (state[0] * mask, *state[1:])
        new = cell(x[t], dropped if len(dropped) > 1 else dropped[0])
        state = new if isinstance(new, tuple) else (new,)
        assert_close(output[t], state[0])
    assert_close(tuple(found), tuple(state))


@pytest.mark.parametrize("backend", ["reference", "eager"])
@pytest.mark.parametrize("kind", ["torch-lstm", "gru"])
def test_candidate_dropout_is_drawn_anew_at_each_step(kind, backend):
    layer = Recurrent(make(kind), candidate_dropout=P, backend=backend)
    x, cell = randn(T, B, 3), layer.cells[0]
    masks = kept(seeds_of(layer)[0], CANDIDATE, T, B, 4) / (1 - P)
    output, _ = layer(x)
    h, *c = zeros(cell, B)
    for t in range(T):
        from_x, from_h = linear(x[t], cell.weight_ih, cell.bias_ih), linear(h, cell.weight_hh, cell.bias_hh)
        if c:
            i, f, g, o = (from_x + from_h).chunk(4, -1)
            c = [f.sigmoid() * c[0] + i.sigmoid() * g.tanh() * masks[t]]
            h = o.sigmoid() * c[0].tanh()
        else:
            r, z, n = (part.sigmoid() for part in (from_x + from_h).chunk(3, -1))
            n = (from_x.chunk(3, -1)[2] + r * from_h.chunk(3, -1)[2]).tanh() * masks[t]
            h = (1 - z) * n + z * h
        assert_close(output[t], h)


@pytest.mark.parametrize("kind", CHAINS)
@pytest.mark.parametrize("backend", ["reference", "eager"])
def test_weight_dropout_drops_recurrent_weights_and_overwrites_none(kind, backend):
    layer = Recurrent(factory(kind), 2, input_size=3, weight_dropout=P, backend=backend)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    expected = Recurrent(factory(kind), 2, input_size=3)
    y = x = randn(T, B, 3)
    seeds = seeds_of(layer)
    expected.load_state_dict(before)
    masks = {}
    for cell, seed, name in zip(expected.cells, seeds, ("cells.0.weight_hh", "cells.1.weight_hh"), strict=True):
        masks[name] = kept(seed, WEIGHT, *cell.weight_hh.shape) / (1 - P)
        with torch.no_grad():
            cell.weight_hh *= masks[name]
        y = plainly(cell, y)[0]
    output, _ = layer(x)
    assert_close(output, y)
    assert list(layer.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    wanted = gradients(expected, y)
    for name, mask in masks.items():
        wanted[name] = wanted[name] * mask
    assert_close(gradients(layer, output), wanted)
    assert not torch.equal(layer(x)[0], output)


def keep_parts(layer: Recurrent, state: tuple[Tensor, ...], seed: int, rates: tuple[float, ...]) -> tuple[Any, ...]:
    return tuple(
        1 - kept(seed, ZONEOUT + k, T, *part.shape, p=p) if p else None
        for k, (part, p) in enumerate(zip(state, rates, strict=True))
    )


@every_kind
@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backwards"])
@pytest.mark.parametrize("given", ["float", "tuple"])
def test_zoneout_keeps_previous_values(kind, backwards, given):
    cell = make(kind)
    state = tuple(torch.randn_like(part) for part in zeros(cell, B))
    rates = (P,) * len(state) if given == "float" else (0.0, 0.3)[-len(state) :]
    layer = Recurrent(cell, go_backwards=backwards, zoneout=P if given == "float" else rates)
    x, mask, reset = randn(T, B, 3).requires_grad_(), flags(T, B), flags(T, B, p=0.3)
    seen = torch.cat([reset[1:], torch.zeros(1, B, dtype=torch.bool)]) if backwards else reset
    keep = keep_parts(layer, state, seeds_of(layer)[0], rates)
    output, (found,) = layer(x, state, mask=mask, reset=reset)
    y, final, _ = plainly(cell, x, state, mask=mask, reset=seen, reverse=backwards, keep=keep)
    assert_close((output, tuple(found)), (y, final))
    actual = gradients(cell, output, *found)
    assert_close(actual, gradients(cell, y, *final))

    layer.eval()
    keep = tuple(p or None for p in rates)
    y, final, _ = plainly(cell, x, state, mask=mask, reset=seen, reverse=backwards, keep=keep)
    output, (found,) = layer(x, state, mask=mask, reset=reset)
    assert_close((output, tuple(found)), (y, final))


def test_zoneout_by_name():
    by_name = Recurrent(make("torch-lstm"), zoneout={"c": 0.5})
    by_place = Recurrent(by_name.cells[0], zoneout=(0.0, 0.5))
    x = randn(T, B, 3)
    outputs = []
    for layer in (by_name, by_place):
        torch.manual_seed(1)
        outputs.append(layer(x)[0])
    assert torch.equal(*outputs)
    mixed = Recurrent([make("torch-lstm"), make("gru", 4)], zoneout={"h": 0.1, "c": 0.5})
    assert mixed(x)[0].shape == (T, B, 4)


@pytest.mark.parametrize("kind, options", KINDS_AND_RATES)
def test_a_rate_of_zero_changes_no_bit_and_draws_no_number(kind, options):
    plain = Recurrent(factory(kind), 2, input_size=3)
    off = Recurrent(list(plain.cells), **dict.fromkeys(options, 0.0))
    x, mask = randn(T, B, 3), flags(T, B)
    before = torch.get_rng_state()
    output = off(x, mask=mask)[0]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(output, plain(x, mask=mask)[0])


@pytest.mark.parametrize("kind, options", KINDS_AND_RATES)
def test_training_draws_and_evaluation_does_not(kind, options):
    layer = Recurrent(factory(kind), 2, input_size=3, **options)
    x, mask = randn(T, B, 3), flags(T, B)
    torch.manual_seed(0)
    first, second = layer(x, mask=mask)[0], layer(x, mask=mask)[0]
    torch.manual_seed(0)
    assert torch.equal(layer(x, mask=mask)[0], first)
    assert not torch.equal(first, second)
    layer.eval()
    before = torch.get_rng_state()
    assert torch.equal(layer(x, mask=mask)[0], layer(x, mask=mask)[0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["torch-lstm", "gru"])
def test_backends_draw_the_same_masks(kind):
    options = {"recurrent_dropout": P, "candidate_dropout": P, "weight_dropout": P, "zoneout": P, "clip_grad_step": 0.1}
    layer = Recurrent(factory(kind), 2, input_size=3, bidirectional=True, **options)
    x, mask, reset, found = randn(T, B, 3), flags(T, B), flags(T, B, p=0.3), []
    for backend in ("reference", "eager"):
        layer.backend = backend
        torch.manual_seed(0)
        output, state = layer(x, mask=mask, reset=reset)
        found.append((output, [tuple(each) for each in state], gradients(layer, output, *state[0])))
    assert_close(found[1], found[0])


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("kind, options", KINDS_AND_RATES)
def test_rates_at_the_ends(kind, options, p):
    layer = Recurrent(factory(kind), 2, input_size=3, **dict.fromkeys(options, p))
    output, state = layer(randn(T, B, 3))
    assert output.isfinite().all()
    if p and "zoneout" in options:
        assert all(part.eq(0).all() for each in state for part in each)
    if p and "output_dropout" in options:
        assert output.eq(0).all()


@every_kind
def test_gradients_between_steps_are_clamped(kind):
    cell, limit, beyond, number = make(kind), 0.05, 0, 0

    def clamped(valid: Tensor, grad: Tensor) -> Tensor:
        nonlocal beyond, number
        parts = torch.view_as_real(grad) if grad.is_complex() else grad
        beyond, number = beyond + int((parts[valid].abs() > limit).sum()), number + parts[valid].numel()
        parts = parts.clone()
        parts[valid] = parts[valid].clamp(-limit, limit)  # a step that holds the state hands on what it gets
        return torch.view_as_complex(parts) if grad.is_complex() else parts

    x, mask = randn(T, B, 3), flags(T, B)
    free = Recurrent(cell)(x, mask=mask)
    expected = []
    state = start = tuple(part.requires_grad_() for part in zeros(cell, B))
    for t in range(T):
        for part in state:
            part.register_hook(functools.partial(clamped, mask[t]))
        y, state, _ = plainly(cell, x[t : t + 1], tuple(part * 1 for part in state), mask=mask[t : t + 1])
        expected.append(y)
    wanted = gradients(cell, torch.cat(expected), upstream=1)
    backends = ["reference", "eager"] if kind in CHAINS else ["auto"]
    for backend in backends:
        layer = Recurrent(cell, clip_grad_step=limit, backend=backend)
        output, _ = layer(x, [tuple(part.detach().requires_grad_() for part in start)], mask=mask)
        assert_close(output, free[0])
        actual = gradients(cell, output, upstream=1)
        assert_close(actual, wanted)
        assert layer.step_clips.take() == (beyond, number) and 0 < beyond < number
        assert layer.step_clips.take() == (0, 0)
    counts = set()
    for backend in backends:  # of an initial state that nobody asks about
        layer = Recurrent(cell, clip_grad_step=limit, backend=backend)
        gradients(cell, layer(x, [tuple(part.detach() for part in start)], mask=mask)[0], upstream=1)
        counts.add(layer.step_clips.take())
    assert len(counts) == 1 and counts.pop()[1] < number
    loose = gradients(cell, free[0], upstream=1)
    assert any(not torch.allclose(actual[name], loose[name]) for name in actual)


@every_kind
@pytest.mark.parametrize("backwards", [False, True])
def test_clipping_does_not_see_how_far_a_row_is_padded(kind, backwards):
    cell, x, lengths = make(kind), 3 * randn(T + 4, B, 3), torch.tensor([5, 3, 2])
    start = tuple(randn(*part.shape).to(part.dtype).requires_grad_() for part in zeros(cell, B))

    def run(layer: Recurrent, *call: Any, **options: Any) -> Any:
        _, (state,) = layer(*call, **options)
        for part in start:
            part.grad = None
        return gradients(cell, *state), [part.grad for part in start], layer.step_clips.take()

    for backend in ["reference", "eager"] if kind in CHAINS else ["auto"]:
        layer = Recurrent(cell, clip_grad_step=0.02, go_backwards=backwards, backend=backend)
        expected = run(layer, x[:T], [start], lengths=lengths)
        assert_close(run(layer, x, [start], lengths=lengths), expected)
        assert_close(run(layer, pack_padded_sequence(x, lengths), [start]), expected)
        rows = [([tuple(p[k : k + 1] for p in start)], x[:n, k : k + 1]) for k, n in enumerate(lengths.tolist())]
        alone = [run(layer, row, own)[-1] for own, row in rows]
        assert 0 < expected[-1][0] and expected[-1][1] == sum(number for _, number in alone)


def test_dropout_between_layers_is_torchs():
    layer = Recurrent(make("leaky"), 2, dropout=P)
    x = randn(T, B, 3)
    torch.manual_seed(0)
    output = layer(x)[0]
    torch.manual_seed(0)
    inner = nn.functional.dropout(plainly(layer.cells[0], x)[0], P)
    assert_close(output, plainly(layer.cells[1], inner)[0])


def test_regularisers_leave_no_cliff():
    options = {"recurrent_dropout": P, "candidate_dropout": P, "weight_dropout": P, "zoneout": P, "input_dropout": P}
    layer = Recurrent(nn.LSTMCell(3, 4), 2, bidirectional=True, norm="layer", **options)
    assert explain_backend(layer, torch.zeros(T, B, 3), [5, 3, 0]).startswith("Recurrent: fused (")
