"""Rows of states, of every form in which layers return them."""

import functools

import pytest
import torch
from omegaconf import OmegaConf

import rnnlab.nn
from rnnlab.cli.groups import conf_dir
from rnnlab.cli.instantiate import instantiate
from rnnlab.decoding import select_rows
from tests.decoding.models import RNNS, recurrent
from tests.tolerances import FLOAT64


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


WINDOWS = ("tcn", "time_delay")


def recurrences():
    """Return a layer by its name: each option of conf/rnn, in one layer and in two, and shapes those do not have."""
    found = {}
    for path in sorted((conf_dir() / "rnn").rglob("*.yaml")):
        config = OmegaConf.create({"rnn": OmegaConf.load(path)})
        if not config.rnn or path.stem in WINDOWS:  # none at all, and those that carry no state
            continue
        config.rnn.hidden_size = 6
        if OmegaConf.select(config, "rnn.cell.proj_size"):
            config.rnn.cell.proj_size = 3
        for num_layers in (1, 2):
            plain = OmegaConf.to_container(config, resolve=True)["rnn"] | {"num_layers": num_layers}
            if "cell" in plain:
                del plain["hidden_size"]  # as `rnnlab.cli.compose` does
            found[f"{path.parent.name}/{path.stem}, {num_layers}"] = instantiate(plain)
    return found | {
        "lstm_projected": functools.partial(rnnlab.nn.LSTM, hidden_size=6, proj_size=2, num_layers=2),
        "narx_taps": recurrent(functools.partial(rnnlab.nn.NARXCell, output_size=2, input_taps=3, output_taps=2)),
        "peephole_dense": recurrent(functools.partial(rnnlab.nn.PeepholeLSTMCell, dense=True)),
        "torch_lstm_cell": recurrent(torch.nn.LSTMCell),
        "rnn_cell": recurrent(rnnlab.nn.RNNCell),
        "lstm_cell": recurrent(rnnlab.nn.LSTMCell),
        "gru_cell": recurrent(rnnlab.nn.GRUCell),
        "unlike_layers": lambda input_size: rnnlab.nn.Recurrent(
            [rnnlab.nn.GatedLSTMCell(input_size, 6, proj_size=3), rnnlab.nn.LRUCell(3, 5), rnnlab.nn.GatedGRUCell(5, 4)]
        ),
    }


RECURRENCES = recurrences()


def test_every_cell_is_among_them():
    modules = [module for make in RECURRENCES.values() for module in make(input_size=4).modules()]
    cells = {name for name in rnnlab.nn.__all__ if name.endswith("Cell")} - {"ChainCell", "GatedCell", "ScanCell"}
    assert cells <= {type(module).__name__ for module in modules if type(module).__module__.startswith("rnnlab.nn")}


@pytest.mark.parametrize("name", RECURRENCES)
def test_a_step_of_chosen_rows_is_chosen_rows_of_a_step(name):
    layer = RECURRENCES[name](input_size=4).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    x, index = torch.randn(4, 3, 4, dtype=torch.float64), torch.tensor([2, 0, 2, 1])
    state = layer.initial_state(3)
    for x_t in x[:3]:
        _, state = layer.step(x_t, state)
    output, after = layer.step(x[3, index], select_rows(state, index))
    expected, expected_after = layer.step(x[3], state)
    torch.testing.assert_close(output, expected[index], **FLOAT64)
    for new, old in zip(parts(after), parts(select_rows(expected_after, index)), strict=True):
        assert type(new) is type(old)
        if isinstance(new, torch.Tensor):
            torch.testing.assert_close(new, old, **FLOAT64)
            assert not torch.equal(new[..., 0, :], new[..., 1, :]), "rows of the state differ, or nothing is tested"


def test_rows_of_masks_and_of_what_is_not_there():
    """A memory may hold bools, and nothing where a part is not used."""
    mask = torch.tensor([[True, False], [True, True], [False, False]])[:, :, None]
    chosen, nothing = select_rows((mask, None), torch.tensor([1, 1, 0]))
    assert nothing is None and chosen.dtype == torch.bool and chosen.shape == (3, 3, 1)
    assert chosen[0].flatten().tolist() == [False, False, True]
