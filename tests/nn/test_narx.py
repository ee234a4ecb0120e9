"""NARX: which route trains long taps, and teacher forcing against the equations in float64."""

import pytest
import torch

from rnnlab.nn.cells import NARXCell
from rnnlab.nn.explain import explain_backend
from rnnlab.nn.narx import NARX
from rnnlab.nn.recurrent import Recurrent
from tests.nn.research_equations import NARX_OPTIONS, B, H, I, O, narx_equations
from tests.tolerances import FLOAT64


def test_a_long_memory_of_narx_is_trained_by_a_route_that_can():
    """One compiled call has no room for the states of 30 taps: backward ended in an error."""
    layer, x = Recurrent(NARXCell(3, 4, output_size=2, output_taps=30)), torch.randn(7, 2, 3)
    layer(x)[0].sum().backward()
    assert str(explain_backend(layer, x)).startswith("Recurrent: eager")
    with pytest.raises(RuntimeError, match="compiled loops are for at most 8 states"):
        Recurrent(layer.cells[0], backend="fused")(x)


@pytest.mark.parametrize("options", NARX_OPTIONS.values(), ids=NARX_OPTIONS)
def test_narx_teacher_forcing(options):
    cell = NARXCell(I, H, O, dtype=torch.float64, **options)
    layer = NARX(cell)
    x, targets = torch.randn(7, B, I, dtype=torch.float64), torch.randn(7, B, O, dtype=torch.float64)
    forced, state = layer(x, targets)
    torch.testing.assert_close(forced, narx_equations(cell, x, targets), **FLOAT64)
    # Window by window, and step by step, shorter than the taps.
    start, pieces = None, []
    for part in (slice(0, 1), slice(1, 2), slice(2, 7)):
        piece, start = layer(x[part], targets[part], start)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces), forced, **FLOAT64)
    torch.testing.assert_close(tuple(start), tuple(state), **FLOAT64)
    # Forced with its own free run it is the free run, and may go on from either's state.
    free, end = layer(x)
    torch.testing.assert_close(free, narx_equations(cell, x), **FLOAT64)
    again, same = layer(x, free)
    torch.testing.assert_close((again, *same), (free, *end), **FLOAT64)
    torch.testing.assert_close(torch.cat([layer(x[:3])[0], layer(x[3:], state=layer(x[:3])[1])[0]]), free, **FLOAT64)
