"""Constructors: what torch.nn refuses is refused in the same words and order, and nonsense that it accepts as well."""

import inspect
import re
from typing import Any

import pytest
import torch
from torch import nn

import rnnlab.nn
from tests.nn.cases import CELLS, KINDS, both_libraries, build, every_layer

DROPOUT_RANGE = "dropout should be a number in range [0, 1]"
DROPOUT_UNUSED = "dropout option adds dropout after all but last recurrent layer"
PROJ_KEYWORD = "proj_size argument is only supported for LSTM, not RNN or GRU"

# (positional arguments, keywords, exception, start of the message)
REFUSED_BY_BOTH = [
    *[((3, 4, 2), {"dropout": p}, ValueError, DROPOUT_RANGE) for p in (-0.1, 1.1, float("nan"), True, "0.5")],
    ((3, 4), {"bias": 1}, TypeError, "bias should be of type bool, got: int"),
    ((3, 4), {"batch_first": 1}, TypeError, "batch_first should be of type bool, got: int"),
    ((3.0, 4), {}, TypeError, "input_size should be of type int, got: float"),
    (("3", 4), {}, TypeError, "input_size should be of type int, got: str"),
    ((3, 4.0), {}, TypeError, "hidden_size should be of type int, got: float"),
    *[((size, 4), {}, ValueError, "input_size must be greater than zero") for size in (0, -1)],
    *[((3, size), {}, ValueError, "hidden_size must be greater than zero") for size in (0, -1)],
    *[((3, 4, layers), {}, ValueError, "num_layers must be greater than zero") for layers in (0, -1)],
]

# The same exception type as torch's, but torch's text comes from a builtin; ours names the argument.
REFUSED_BY_BOTH_CLEARER_HERE = [
    *[((3, 4, 2), {"dropout": p}, error, "dropout") for p, error in ((None, TypeError), ("a", ValueError))],
    *[((3, 4, layers), {}, TypeError, "num_layers") for layers in (1.5, "2", None)],
]

# Torch accepts these and fails later, or reads them as something else.
REFUSED_HERE_ONLY = [
    ((3, 4), {"bidirectional": "no"}, TypeError, "bidirectional"),
    ((True, 4), {}, TypeError, "input_size"),
    ((3, True), {}, TypeError, "hidden_size"),
    ((3, 4, True), {}, TypeError, "num_layers"),
]


def rows(table: list[Any]) -> list[Any]:
    """Parameters whose ids read like the call."""
    calls = [[*map(repr, row[0]), *(f"{name}={value!r}" for name, value in row[1].items())] for row in table]
    return [pytest.param(*row, id=", ".join(call)) for row, call in zip(table, calls, strict=True)]


@both_libraries
@every_layer
@pytest.mark.parametrize("args, kwargs, error, message", rows(REFUSED_BY_BOTH))
def test_refused_in_the_same_words(library, kind, args, kwargs, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        build(library, kind, *args, **kwargs)


@both_libraries
@every_layer
@pytest.mark.parametrize("args, kwargs, error, name", rows(REFUSED_BY_BOTH_CLEARER_HERE))
def test_refused_with_the_same_type(library, kind, args, kwargs, error, name):
    with pytest.raises(error, match=name if library is rnnlab.nn else None):
        build(library, kind, *args, **kwargs)


@every_layer
@pytest.mark.parametrize("args, kwargs, error, name", rows(REFUSED_HERE_ONLY))
def test_refused_here_only(kind, args, kwargs, error, name):
    with pytest.raises(error, match=name):
        build(rnnlab.nn, kind, *args, **kwargs)


@both_libraries
@pytest.mark.parametrize(
    "proj_size, message",
    [
        (-1, "proj_size should be a positive integer or zero to disable projections"),
        (4, "proj_size has to be smaller than hidden_size"),
        (5, "proj_size has to be smaller than hidden_size"),
    ],
)
def test_lstm_refuses_proj_size(library, proj_size, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        library.LSTM(3, 4, proj_size=proj_size)


@both_libraries
@pytest.mark.parametrize("proj_size", [1.5, True, "1", None])
def test_lstm_refuses_proj_size_that_is_no_int(library, proj_size):
    with pytest.raises(TypeError, match="proj_size" if library is rnnlab.nn else None):
        library.LSTM(3, 4, proj_size=proj_size)


@both_libraries
@pytest.mark.parametrize("kind", ["RNN_TANH", "GRU"])
@pytest.mark.parametrize("proj_size", [0, 2, -1])
def test_proj_size_keyword_is_for_the_lstm(library, kind, proj_size):
    with pytest.raises(ValueError, match=f"^{PROJ_KEYWORD}"):
        build(library, kind, 3, 4, proj_size=proj_size)


@pytest.mark.parametrize("name, args", [("GRU", (3, 4, 1)), ("RNN", (3, 4, 1, "tanh"))])
def test_positional_proj_size_is_for_the_lstm(name, args):
    with pytest.raises(ValueError, match="proj_size"):
        getattr(rnnlab.nn, name)(*args, True, False, 0.0, False, 2)


@both_libraries
def test_unknown_nonlinearity(library):
    with pytest.raises(ValueError, match=r"^Unknown nonlinearity 'x'. Select from 'tanh' or 'relu'\."):
        library.RNN(3, 4, nonlinearity="x")
    with pytest.raises(ValueError, match=r"^Unknown nonlinearity 'True'. Select from 'tanh' or 'relu'\."):
        library.RNN(3, 4, 1, True)


@both_libraries
@pytest.mark.parametrize("kind", KINDS + CELLS)
def test_unknown_and_missing_arguments(library, kind):
    with pytest.raises(TypeError, match="foo"):
        build(library, kind, 3, 4, foo=1)
    with pytest.raises(TypeError, match="hidden_size"):
        build(library, kind, 3)


# Each fault comes with the one that is looked for next: the first of the two is reported.
FAULTS = {
    "proj_size keyword": ({"proj_size": 0}, PROJ_KEYWORD),
    "nonlinearity": ({"nonlinearity": "x"}, "Unknown nonlinearity"),
    "dropout": ({"dropout": 2.0}, DROPOUT_RANGE),
    "bias": ({"bias": 1}, "bias should be"),
    "batch_first": ({"batch_first": 1}, "batch_first should be"),
    "input_size": ({"input_size": 0}, "input_size must be"),
    "hidden_size": ({"hidden_size": 0}, "hidden_size must be"),
    "num_layers": ({"num_layers": 0}, "num_layers must be"),
    "proj_size": ({"proj_size": -1}, "proj_size should be"),
}
SHARED_ORDER = ["dropout", "bias", "batch_first", "input_size", "hidden_size", "num_layers"]
ORDERS = {
    "RNN": ["proj_size keyword", "nonlinearity", *SHARED_ORDER],
    "LSTM": [*SHARED_ORDER, "proj_size"],
}


@both_libraries
@pytest.mark.parametrize(
    "name, first, second",
    [
        pytest.param(name, first, second, id=f"{name}: {first} before {second}")
        for name, order in ORDERS.items()
        for index, first in enumerate(order)
        for second in order[index + 1 :]
    ],
)
def test_order_of_checks(library, name, first, second):
    keywords = {"input_size": 3, "hidden_size": 4} | FAULTS[second][0] | FAULTS[first][0]
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(FAULTS[first][1])}"):
        getattr(library, name)(**keywords)


@both_libraries
@every_layer
@pytest.mark.parametrize("bidirectional", [False, True])
def test_dropout_without_a_layer_to_drop_after_warns(library, kind, bidirectional):
    with pytest.warns(UserWarning, match=f"^{DROPOUT_UNUSED}"):
        build(library, kind, 3, 4, dropout=0.5, bidirectional=bidirectional)


@both_libraries
@every_layer
def test_dropout_becomes_a_float_before_anything_else_is_checked(library, kind):
    with pytest.raises(ValueError) as caught:
        build(library, kind, 0, 0, dropout="a", bias=1)
    assert "must be greater than zero" not in str(caught.value)


@both_libraries
def test_dropout_warning_comes_before_the_other_checks(library):
    with pytest.warns(UserWarning, match=f"^{DROPOUT_UNUSED}"), pytest.raises(TypeError, match="^bias"):
        library.LSTM(3, 4, dropout=0.5, bias=1)


@both_libraries
@every_layer
def test_bidirectional_may_be_a_number(library, kind):
    assert repr(build(library, kind, 3, 4, bidirectional=1)).endswith("(3, 4, bidirectional=1)")
    assert len(build(library, kind, 3, 4, bidirectional=1).state_dict()) == 8
    assert len(build(library, kind, 3, 4, bidirectional=0).state_dict()) == 4


@every_layer
def test_bidirectional_as_a_number_also_runs(kind):
    # Under torch 2.13 the constructor takes the number and the call raises TypeError.
    assert build(rnnlab.nn, kind, 3, 4, bidirectional=1)(torch.zeros(2, 1, 3))[0].shape == (2, 1, 8)
    assert build(rnnlab.nn, kind, 3, 4, bidirectional=0)(torch.zeros(2, 1, 3))[0].shape == (2, 1, 4)


@both_libraries
@every_layer
def test_attributes(library, kind):
    module = build(library, kind, 3, 4, 2, bias=False, batch_first=True, dropout=1, bidirectional=True)
    values = {name: getattr(module, name) for name in type(module).__constants__}
    assert values == {
        "mode": kind,
        "input_size": 3,
        "hidden_size": 4,
        "num_layers": 2,
        "bias": False,
        "batch_first": True,
        "dropout": 1.0,
        "bidirectional": True,
        "proj_size": 0,
    }
    assert type(module.dropout) is float
    assert library.RNN(3, 4, nonlinearity="relu").nonlinearity == "relu"


def test_positional_arguments_and_defaults():
    after_sizes = {"bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
    last = {"device": None, "dtype": None}
    expected = {
        "RNN": {"num_layers": 1, "nonlinearity": "tanh", **after_sizes, **last},
        "GRU": {"num_layers": 1, **after_sizes, **last},
        "LSTM": {"num_layers": 1, **after_sizes, "proj_size": 0, **last},
        "RNNCell": {"bias": True, "nonlinearity": "tanh", **last},
        "GRUCell": {"bias": True, **last},
        "LSTMCell": {"bias": True, **last},
    }
    for name, defaults in expected.items():
        parameters = inspect.signature(getattr(rnnlab.nn, name)).parameters.values()
        named = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
        if name in ("RNN", "GRU"):
            # In torch, too, a ninth argument lands on proj_size, which these two refuse.
            assert list(named).index("proj_size") == list(named).index("device") - 1
            del named["proj_size"]
        assert list(named.items())[2:] == list(defaults.items()), name
        assert list(named)[:2] == ["input_size", "hidden_size"], name
        assert {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}["backend"] == "auto", name


@pytest.mark.parametrize("kind", KINDS + CELLS)
def test_unknown_backend_is_refused(kind):
    with pytest.raises(ValueError, match="(?s)backend.*reference.*eager.*aten.*triton"):
        build(rnnlab.nn, kind, 3, 4, backend="cudnn")
    with pytest.raises(TypeError):
        build(rnnlab.nn, kind, 3, 4, backnd="eager")


@pytest.mark.parametrize("kind", KINDS + CELLS)
def test_types_are_module_subclasses_of_their_own(kind):
    assert isinstance(build(rnnlab.nn, kind, 3, 4), nn.Module)
    assert type(build(rnnlab.nn, kind, 3, 4)).__name__ == kind.partition("_")[0]
