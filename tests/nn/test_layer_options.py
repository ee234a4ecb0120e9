"""Options of RNN, LSTM and GRU drawn at random: backends agree, and with torch.nn where it has them."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnnlab.nn
from tests.nn.plain import DTYPE
from tests.nn.test_options import Case, Named, booleans, call_of, compare, drawn, observed, rates, sizes

REGULARISERS = (
    "input_dropout",
    "output_dropout",
    "recurrent_dropout",
    "candidate_dropout",
    "weight_dropout",
    "zoneout",
    "clip_grad_step",
)


@st.composite
def layer_cases(draw: Any) -> Case:
    """Draw a drop-in layer and a call; half of them with nothing that torch.nn has not."""
    kind, hidden, num_layers = draw(st.sampled_from(("RNN", "LSTM", "GRU"))), draw(sizes), draw(st.integers(1, 2))
    options: Case = {"num_layers": num_layers}
    options |= {name: draw(booleans) for name in ("bias", "batch_first", "bidirectional")}
    if kind == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(("tanh", "relu")))
    if kind == "LSTM":
        options["proj_size"] = draw(st.integers(0, 5)) % hidden
    layout = draw(st.sampled_from(("full", "lengths", "unbatched", "packed")))
    case: Case = {"kind": kind, "hidden": hidden, "inputs": draw(sizes), "layout": layout, "steps": draw(sizes)}
    case |= {"batch": draw(st.integers(1, 4)), "seed": draw(st.integers(0, 999)), "reset": False}
    case |= {name: draw(booleans) for name in ("hx", "train", "plain")}
    if not case["plain"]:
        case["reset"] = layout != "packed" and draw(booleans)
        for name in REGULARISERS[:5]:
            options[name] = draw(rates) if kind != "RNN" or name != "candidate_dropout" else 0.0
        options["zoneout"] = draw(st.sampled_from((0.0, 0.0, 0.3, 1.0, (0.2, 0.5))))
        if options["zoneout"] == (0.2, 0.5) and kind != "LSTM":
            options["zoneout"] = (0.5,)
        options["clip_grad_step"] = draw(st.sampled_from((None, None, 0.02)))
        options["dropout"] = draw(rates) if num_layers == 2 else 0.0
    case["shortest"] = int(case["plain"] or layout == "packed")  # torch packs no empty sequences
    return case | {"options": options}


def run_layer(case: Case, library: Any, backend: str = "auto") -> Named:
    """Run a layer of rnnlab.nn or torch.nn; the latter gets lengths as a PackedSequence."""
    torch.manual_seed(case["seed"])
    arguments = case["inputs"], case["hidden"]
    layer = getattr(rnnlab.nn, case["kind"])(*arguments, backend=backend, dtype=DTYPE, **case["options"])
    x, hx, given = call_of(case, layer, DTYPE)
    if library is nn:
        weights = layer.state_dict()
        layer = getattr(nn, case["kind"])(*arguments, dtype=DTYPE, **case["options"])
        layer.load_state_dict(weights)
    layer.train(case["train"])
    torch.manual_seed(case["seed"] + 1)
    if case["layout"] != "packed" and (library is rnnlab.nn or case["layout"] != "lengths"):
        return observed(layer, x, hx, layer(x, hx, **given))
    packed = pack_padded_sequence(x, given["lengths"], layer.batch_first, enforce_sorted=False)
    output, final = layer(packed, hx)
    padded, _ = pad_packed_sequence(output, layer.batch_first, total_length=case["steps"])
    return observed(layer, x, hx, (padded, final))


@drawn(max_examples=120)
@given(case=layer_cases())
def test_drop_in_layers(case):
    reference = run_layer(case, rnnlab.nn, "reference")
    compare(run_layer(case, rnnlab.nn, "eager"), reference)
    if case["plain"]:
        wanted = run_layer(case, nn)
        compare(reference, wanted)
        compare(run_layer(case, rnnlab.nn), wanted)
