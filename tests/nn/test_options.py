"""Options drawn at random, whichever go together: backends agree, and agree with a plain loop that knows no backend.

Letters: T time, B batch, I input_size, H hidden_size, W width of a state.
"""

import functools
import math
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import rnnlab.nn
from rnnlab.nn import cells
from rnnlab.nn.options import INPUT, OUTPUT
from rnnlab.nn.recurrent import Recurrent
from rnnlab_kernels.launch import has_numba
from rnnlab_kernels.schedules.additions import ZONEOUT
from rnnlab_kernels.schedules.noise.masks import draw_seed, keep_mask
from tests.nn.plain import DTYPE, Decay, Leaky, Opaque, TwoStates, clamped, one_step
from tests.tolerances import FLOAT64

Case = dict[str, Any]
Named = dict[str, Tensor]

booleans, sizes = st.booleans(), st.integers(1, 6)
rates = st.sampled_from((0.0, 0.0, 0.4))
biases = st.sampled_from((True, "single", False))
heads = st.sampled_from((1, 1, 2, 3))
activations = st.sampled_from(("tanh", "relu", "sigmoid", "identity"))

# A cell, its own options, and which kinds of noise it can have inside a step: recurrent, candidate, weight.
CELLS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "elman": (cells.ElmanCell, {"nonlinearity": activations, "bias": biases, "num_heads": heads}, "rw"),
    "elman, sin": (cells.ElmanCell, {"nonlinearity": st.just(torch.sin), "bias": biases, "num_heads": heads}, ""),
    "indrnn": (
        cells.IndRNNCell,
        {"nonlinearity": st.sampled_from(("relu", "tanh", "identity")), "bias": biases},
        "",
    ),
    "jordan": (
        cells.JordanCell,
        {
            "output_size": sizes,
            "nonlinearity": activations,
            "output_nonlinearity": activations,
            "decay": st.sampled_from((0.3, 0.7)),
            "learnable": booleans,
            "bias": biases,
        },
        "rw",
    ),
    "gated gru": (cells.GatedGRUCell, {"bias": biases, "reset_after": booleans, "num_heads": heads}, "rcw"),
    "gated lstm": (
        cells.GatedLSTMCell,
        {"bias": biases, "proj_size": st.integers(0, 5), "num_heads": heads},
        "rcw",
    ),
    "cifg": (cells.CIFGCell, {"bias": biases, "num_heads": heads}, "rcw"),
    "peephole": (cells.PeepholeLSTMCell, {"bias": biases, "dense": booleans}, "rcw"),
    "layer norm rnn": (cells.LayerNormRNNCell, {"nonlinearity": activations, "bias": biases}, "rw"),
    "layer norm lstm": (
        cells.LayerNormLSTMCell,
        {
            "bias": biases,
            "norm_input": booleans,
            "norm_recurrent": booleans,
            "norm_cell": st.sampled_from((True, False, "output", "state")),
        },
        "rcw",
    ),
    "layer norm gru": (cells.LayerNormGRUCell, {"bias": biases}, "rcw"),
    "state space": (
        cells.StateSpaceCell,
        {
            "output_size": sizes,
            "transition_size": sizes,
            "observation_size": sizes,
            "nonlinearity": activations,
            "bias": biases,
        },
        "rw",
    ),
    "narx": (
        cells.NARXCell,
        {"output_size": sizes, "input_taps": st.integers(0, 2), "output_taps": st.integers(1, 3), "bias": booleans},
        "w",
    ),
    "min gru": (cells.MinGRUCell, {"bias": booleans}, ""),
    "min lstm": (cells.MinLSTMCell, {"bias": booleans}, ""),
    "lru": (cells.LRUCell, {"output_size": sizes}, ""),
    "lru selective": (cells.SelectiveLRUCell, {"output_size": sizes}, ""),
    "torch rnn": (nn.RNNCell, {"nonlinearity": st.sampled_from(("tanh", "relu")), "bias": booleans}, "rw"),
    "torch lstm": (nn.LSTMCell, {"bias": booleans}, "rcw"),
    "gru": (rnnlab.nn.GRUCell, {"bias": booleans}, "rcw"),
    "one state": (Leaky, {"bias": biases}, "rw"),
    "two states": (TwoStates, {"bias": biases}, "rw"),
    "decay": (Decay, {}, ""),
    "opaque": (Opaque, {}, ""),
}
LOOPS, SCANS = ("elman, sin", "opaque"), ("min gru", "min lstm", "lru", "lru selective", "decay")
COMPILED = ("gru", "decay")
NOISE = {"r": "recurrent_dropout", "c": "candidate_dropout", "w": "weight_dropout"}


@st.composite
def recurrent_cases(draw: Any, kinds: tuple[str, ...] = tuple(CELLS)) -> Case:
    """Draw a cell, the options of `Recurrent`, and a call, valid by construction."""
    kind = draw(st.sampled_from(kinds))
    hidden, num_layers = draw(sizes), draw(st.integers(1, 2))
    _, own, noise = CELLS[kind]
    cell = {name: draw(strategy) for name, strategy in own.items()}
    if "proj_size" in cell:
        cell["proj_size"] %= hidden
    if "num_heads" in cell:
        plain = cell.get("proj_size") or not cell.get("reset_after", True)
        cell["num_heads"] = 1 if plain else math.gcd(hidden, cell["num_heads"])
    both = draw(booleans)
    options: Case = {"num_layers": num_layers, "bidirectional": both}
    options["merge"] = draw(st.sampled_from(("concat", "sum", "mul", "mean", "none")))
    options["go_backwards"] = not both and draw(booleans)
    for name in ("batch_first", "return_all_states", "zero_output_for_mask", "learn_initial_state"):
        options[name] = draw(booleans)
    for name in ("input_dropout", "output_dropout", *(NOISE[letter] for letter in noise)):
        options[name] = draw(rates)
    options["zoneout"] = draw(st.sampled_from((0.0, 0.0, 0.3, 1.0, "last")))
    options["clip_grad_step"] = draw(st.sampled_from((None, None, 0.02)))
    options["checkpoint_steps"] = draw(st.sampled_from((None, None, 1, 2, 4)))
    layout = draw(st.sampled_from(("full", "mask", "lengths", "unbatched", "unbatched mask")))
    call: Case = {
        "steps": draw(st.sampled_from((2, 1, 3, 4, 5, 6))),
        "batch": draw(st.integers(1, 4)),
        "layout": layout,
    }
    call |= {name: draw(booleans) for name in ("reset", "hx", "train")}
    call["seed"] = draw(st.integers(0, 999))
    if num_layers == 2:
        options["dropout"], options["norm"] = draw(rates), draw(st.sampled_from((None, "layer", "batch")))
        enough = not call["train"] or call["steps"] > 1
        if options["norm"] == "batch" and not (enough and layout in ("full", "unbatched")):
            options["norm"] = None  # it needs two valid steps in training: test_recurrent.py has it with masks
    width = cell.get("output_size") or cell.get("proj_size") or hidden
    width *= 2 if both and options["merge"] in ("concat", "none") else 1
    inputs = draw(sizes)
    if not (both and options["merge"] == "none") and draw(booleans):
        options["residual"] = True
        inputs = width if num_layers == 1 else inputs
    return {"kind": kind, "hidden": hidden, "inputs": inputs, "cell": cell, "options": options, **call}


def build(case: Case, backend: str, dtype: torch.dtype) -> Recurrent:
    """Construct the module; the case's seed gives its parameters."""
    torch.manual_seed(case["seed"])
    factory = functools.partial(CELLS[case["kind"]][0], hidden_size=case["hidden"], dtype=dtype, **case["cell"])
    options = dict(case["options"])
    if options["zoneout"] == "last":
        state = Recurrent(factory, input_size=case["inputs"]).initial_state(1)[0]
        options["zoneout"] = {state._fields[-1]: 0.5}
        torch.manual_seed(case["seed"])
    layer = Recurrent(factory, input_size=case["inputs"], backend=backend, **options).train(case["train"])
    for parameter in (*layer.norms.parameters(), *(layer.learned or {}).values()):
        nn.init.normal_(parameter)
    return layer


def call_of(case: Case, layer: Any, dtype: torch.dtype) -> tuple[Tensor, Any, dict[str, Tensor]]:
    """Draw input, initial states or None, and the masks, all in the layout of the case."""
    num_steps, batch, layout = case["steps"], case["batch"], case["layout"]
    shape = (num_steps,) if "unbatched" in layout else (num_steps, batch)
    if len(shape) == 2 and layer.batch_first:
        shape = shape[::-1]
    x = torch.randn(*shape, case["inputs"], dtype=dtype).requires_grad_()
    given = {}
    if "mask" in layout:
        given["mask"] = torch.rand(shape) < 0.6
    elif layout in ("lengths", "packed"):
        given["lengths"] = torch.randint(case.get("shortest", 0), num_steps + 1, (batch,))
    if case["reset"]:
        given["reset"] = torch.rand(shape) < 0.3
    return x, _drawn_state(layer, layout, batch) if case["hx"] else None, given


def _drawn_state(layer: Any, layout: str, batch: int) -> Any:
    like = layer.initial_state(1 if "unbatched" in layout else batch)
    if isinstance(layer, Recurrent):
        found = [[torch.randn_like(part) for part in state] for state in like]
        if "unbatched" in layout:
            found = [[part[0] for part in state] for state in found]
        return tuple(tuple(part.requires_grad_() for part in state) for state in found)
    states = [torch.randn_like(part) for part in _parts(like)]
    if "unbatched" in layout:
        states = [state[:, 0] for state in states]
    states = [state.requires_grad_() for state in states]
    return tuple(states) if isinstance(like, tuple) else states[0]


def _parts(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, in order."""
    if value is None:
        return []
    return [value] if isinstance(value, Tensor) else [part for each in value for part in _parts(each)]


def observed(layer: Any, x: Tensor, hx: Any, result: Any) -> Named:
    """Name what a call gave out, and the gradients of input, states and parameters from random upstream ones."""
    values = {f"value {k}": value for k, value in enumerate(_parts(result))}
    generator = torch.Generator().manual_seed(1)
    # Clamping is not linear: what comes back through the states of all steps is clamped apart from the rest.
    sources = _parts(result[:2]) if getattr(layer, "clip_grad_step", None) else _parts(result)
    upstream = [torch.randn(v.shape, generator=generator, dtype=v.dtype) for v in sources]
    pairs = [(v, g) for v, g in zip(sources, upstream, strict=True) if v.requires_grad]
    torch.autograd.backward(*zip(*pairs, strict=True))
    leaves = {"input": x, **{f"hx {k}": part for k, part in enumerate(_parts(hx))}, **dict(layer.named_parameters())}
    grads = {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()}
    return {**{name: value.detach() for name, value in values.items()}, **grads}


def run(case: Case, backend: str, dtype: torch.dtype = DTYPE) -> Named:
    layer = build(case, backend, dtype)
    x, hx, given = call_of(case, layer, dtype)
    torch.manual_seed(case["seed"] + 1)
    return observed(layer, x, hx, layer(x, hx, **given))


def pass_over_time(
    layer: Recurrent,
    k: int,
    x: Tensor,
    state: list[Tensor],
    mask: Tensor,
    reset: Tensor,
    reverse: bool,
    seed: int,
) -> tuple[Tensor, list[Tensor], list[list[Tensor]]]:
    """Run cell k over x (T, B, I), mask and reset (T, B, 1), by its own forward, as the docstrings have it."""
    cell, limit, names = layer.cells[k], layer.clip_grad_step, layer.initial_state(1)[k]._fields
    given = [layer.zoneout.get(name, 0.0) if isinstance(layer.zoneout, dict) else layer.zoneout for name in names]
    kept: list[Any] = list(given)
    if layer.training:
        for n, (p, part) in enumerate(zip(given, state, strict=True)):
            kept[n] = 1 - keep_mask(seed, ZONEOUT + n, 0, (len(x), *part.shape), p, "cpu", DTYPE)
    if reverse:
        reset = torch.cat([reset[1:], torch.zeros_like(reset[:1])])
    outputs, every = [x] * len(x), [state] * len(x)
    for t in range(len(x))[:: -1 if reverse else 1]:
        state = [clamped(part, limit, mask[t]) for part in state]
        state = [torch.where(reset[t], 0, part) for part in state]
        y, new = one_step(cell, x[t], tuple(state))
        parts = [part[t] if isinstance(part, Tensor) else part for part in kept]
        new = [part * old + (1 - part) * value for part, old, value in zip(parts, state, new, strict=True)]
        if any(given):
            y = _given_out(cell, x[t], y, dict(zip(names, new, strict=True)))
        state = [torch.where(mask[t], a, b) for a, b in zip(new, state, strict=True)]
        outputs[t], every[t] = torch.where(mask[t], y, 0), state
    return torch.stack(outputs), state, every


def _given_out(cell: Any, x_t: Tensor, y: Tensor, state: Named) -> Tensor:
    """Return what a step gives out after zoneout: a cell that gives out a state gives it out as it is left behind."""
    if hasattr(cell, "coefficients"):
        return cell.outputs(state["h"], x_t)
    if isinstance(cell, cells.JordanCell | cells.NARXCell):
        return y
    return cell.outputs(state["h"]) if isinstance(cell, cells.StateSpaceCell) else state["h"]


def merged(outputs: list[Tensor], merge: str) -> Tensor:
    if len(outputs) == 1:
        return outputs[0]
    a, b = outputs
    return {"sum": a + b, "mul": a * b, "mean": (a + b) / 2}.get(merge, torch.cat(outputs, -1))


def repeated(y: Tensor, mask: Tensor, reverse: bool) -> Tensor:
    """Fill masked steps with the last valid one before in the order of the steps, at first with zero."""
    last, filled = torch.zeros_like(y[0]), list(y)
    for t in range(len(y))[:: -1 if reverse else 1]:
        filled[t] = last = torch.where(mask[t], y[t], last)
    return torch.stack(filled)


def expected(case: Case) -> Named:
    """Do what `Recurrent` says it does, without its code."""
    layer = build(case, "reference", DTYPE)
    x, hx, given = call_of(case, layer, DTYPE)
    torch.manual_seed(case["seed"] + 1)
    batched, first = "unbatched" not in case["layout"], layer.batch_first
    y = x if batched else x[:, None]
    flags = {}
    for name in ("mask", "reset"):
        flag = given.get(name, torch.full(x.shape[:-1], name == "mask"))
        flags[name] = (flag if batched else flag[:, None])[..., None]
        flags[name] = flags[name].transpose(0, 1) if batched and first else flags[name]
    y, mask, reset = y.transpose(0, 1) if batched and first else y, flags["mask"], flags["reset"]
    if "lengths" in given:
        mask = (torch.arange(len(y))[:, None] < given["lengths"])[..., None]
        reset = reset & mask
    states = layer.initial_state(y.shape[1]) if hx is None else hx
    if hx is not None and not batched:
        states = [[part[None] for part in state] for state in hx]

    directions, finals, every, training = layer.num_directions, [], [], layer.training
    random = [layer.input_dropout, layer.output_dropout, *_rates(layer.zoneout)]
    seeds = [draw_seed() if training and any(random) else 0 for _ in layer.cells]
    y = torch.where(mask, y, 0)
    backwards = [layer.go_backwards, True][:directions]
    for number in range(layer.num_layers):
        before, at, outputs = y, number * directions, []
        source = before * _dropped(before, layer.input_dropout, seeds[at], INPUT, training)
        for k, reverse in enumerate(backwards, start=at):
            output, final, shown = pass_over_time(layer, k, source, list(states[k]), mask, reset, reverse, seeds[k])
            outputs.append(output)
            finals.append(final)
            every.append([torch.stack(parts) for parts in zip(*shown, strict=True)])
        is_last = number == layer.num_layers - 1
        if is_last and not layer.zero_output_for_mask:
            outputs = [repeated(each, mask, reverse) for each, reverse in zip(outputs, backwards, strict=True)]
            before = repeated(before, mask, layer.go_backwards)
        if not is_last or layer.merge != "none":
            outputs = [merged(outputs, layer.merge)]
        if layer.residual and outputs[0].shape == before.shape:
            outputs = [outputs[0] + before]
        if not is_last:
            y = layer.norms[0](outputs[0].flatten(0, 1)).view_as(outputs[0]) if layer.norms else outputs[0]
            y = torch.where(mask, nn.functional.dropout(y, layer.dropout, training), 0)
    outputs = [y * _dropped(y, layer.output_dropout, seeds[-directions], OUTPUT, training) for y in outputs]

    def laid_out(value: Tensor) -> Tensor:
        return value[:, 0] if not batched else value.transpose(0, 1) if first else value

    last = finals if batched else [[part[0] for part in state] for state in finals]
    shown = [[laid_out(part) for part in state] for state in every] if layer.return_all_states else []
    return observed(layer, x, hx, ([laid_out(output) for output in outputs], last, shown))


def _rates(zoneout: Any) -> list[float]:
    return list(zoneout.values()) if isinstance(zoneout, dict) else [zoneout]


def _dropped(x: Tensor, p: float, seed: int, stream: int, training: bool) -> Tensor | float:
    """Return the mask (B, F) that x (T, B, F) is multiplied by."""
    if not p or not training:
        return 1.0
    return keep_mask(seed, stream, 0, (1, *x.shape[1:]), p, "cpu", DTYPE)[0] / (1 - p)


def compare(actual: Named, wanted: Named, **tolerance: float) -> None:
    assert actual.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(
            actual[name], value, msg=lambda text, name=name: f"{name}: {text}", **(tolerance or FLOAT64)
        )


drawn = functools.partial(
    settings, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)


@drawn(max_examples=40)
@given(case=recurrent_cases())
def test_recurrent(case):
    check_recurrent(case)


@pytest.mark.slow
@drawn(max_examples=220)
@given(case=recurrent_cases())
def test_recurrent_at_length(case):
    check_recurrent(case)


def check_recurrent(case):
    reference = run(case, "reference")
    if case["kind"] not in LOOPS and not (case["kind"] in SCANS and case["options"]["clip_grad_step"]):
        compare(run(case, "eager"), reference)
    if case["kind"] in SCANS:
        compare(run(case, "auto"), reference)
    if not case["train"] or not any(case["options"].get(name) for name in NOISE.values()):
        compare(reference, expected(case))


@pytest.mark.slow
@pytest.mark.skipif(not has_numba(), reason="needs Numba")
@drawn(max_examples=24)
@given(case=recurrent_cases(COMPILED))
def test_recurrent_on_compiled_loops(case):
    case["options"].pop("norm", None)  # of one unit, or of equal ones, it is rounding alone
    fused = "auto" if case["options"]["clip_grad_step"] else "fused"
    compare(run(case, fused, torch.float32), run(case, "reference", torch.float32), rtol=1.3e-6, atol=1e-5)
