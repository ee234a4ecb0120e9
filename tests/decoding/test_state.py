"""Rows of states, of every form in which layers return them."""

import pytest
import torch

from rnnlab.decoding import select_rows
from tests.decoding.models import RNNS


def parts(state):
    """Return a state and all its parts, the tensors among them."""
    return [state] if isinstance(state, torch.Tensor) else [state, *(part for each in state for part in parts(each))]


@pytest.mark.parametrize("index", [[2, 0, 1], [1, 1, 1, 0, 2], [2], []], ids=str)
@pytest.mark.parametrize("name", RNNS)
def test_rows_of_a_layers_state(name, index):
    layer = RNNS[name](input_size=4)
    _, state = layer(torch.randn(3, 3, 4))
    chosen = select_rows(state, torch.tensor(index, dtype=torch.int64))
    for new, old in zip(parts(chosen), parts(state), strict=True):
        assert type(new) is type(old)
        if isinstance(new, tuple):
            continue
        assert new.shape == (*old.shape[:-2], len(index), old.shape[-1])
        for row, source in enumerate(index):
            assert torch.equal(new[..., row, :], old[..., source, :])


@pytest.mark.parametrize("name", RNNS)
def test_a_layer_goes_on_from_chosen_rows(name):
    layer = RNNS[name](input_size=4).double().eval()
    x, index = torch.randn(6, 3, 4, dtype=torch.float64), torch.tensor([2, 0, 2, 1])
    _, state = layer(x[:4])
    output, _ = layer(x[4:, index], select_rows(state, index))
    expected, _ = layer(x[:, index])
    torch.testing.assert_close(output, expected[4:], rtol=1e-9, atol=1e-9)


def test_no_state_has_no_rows_to_choose():
    assert select_rows(None, torch.tensor([1, 0])) is None
