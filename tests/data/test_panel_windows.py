"""Windows gathered from series laid end to end, against windows cut by hand."""

import numpy as np
import pytest
import torch

from rnnlab.data.panel_scaling import PanelScaling
from rnnlab.data.panel_windows import PanelWindows
from tests.data.panels import make_panel


def lay(panel, scaling, window, is_masked=False):
    count = len(panel.series)
    statistics = [scaling.statistics(scaling.forward(torch.from_numpy(one.target))) for one in panel.series]
    ones = torch.ones(count, len(panel.past)).double()
    known = torch.ones(len(panel.known)).double()
    return PanelWindows(
        panel.series,
        scaling,
        window,
        (torch.stack([mean for mean, _ in statistics]), torch.stack([deviation for _, deviation in statistics])),
        (100 * ones, 5 * ones),
        (-7 * known, 3 * known),
        torch.arange(1, count + 1),
        is_masked,
    )


@pytest.mark.parametrize(
    "choice", [{}, dict(scale="window"), dict(transform="log", difference=True), dict(seasonal_difference=4)]
)
def test_windows_are_those_cut_by_hand(choice):
    panel, window, horizon = make_panel(ahead=5), 6, 4
    scaling = PanelScaling(**choice)
    windows = lay(panel, scaling, window)
    origins = torch.tensor([[0, 12], [1, 11], [1, 30], [0, 36]])
    batch = windows.gather(origins, horizon)
    assert batch.series.tolist() == [1, 2, 2, 1] and torch.equal(batch.origin, origins)
    for row, (place, first) in enumerate(origins.tolist()):
        one = panel.series[place]
        u = scaling.forward(torch.from_numpy(one.target))
        mean, deviation = scaling.statistics(u)
        scaled = scaling.window(u[None, first - window - scaling.context : first], mean[None], deviation[None], horizon)
        past = (one.past[first - window : first] - 100) / 5
        known = (one.known + 7) / 3
        expected = np.concatenate([scaled.inputs[0], past, known[first - window : first]], axis=1)
        np.testing.assert_allclose(batch.past[row], expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(batch.future[row], known[first : first + horizon], rtol=1e-6, atol=1e-6)
        truth = one.target[first : first + horizon]
        levels = scaling.inverse(batch.loc[row] + batch.scale[row] * batch.target[row])
        np.testing.assert_allclose(levels[: len(truth)], truth, rtol=1e-6)
        assert batch.target[row, len(truth) :].isnan().all()


def test_masked_inputs_say_what_was_seen():
    panel = make_panel(num_rows=(20,), num_past=0, num_known=0)
    panel.series[0].target[5, 0] = np.nan
    panel.series[0].target[9, 1] = np.nan
    batch = lay(panel, PanelScaling(), 6, is_masked=True).gather(torch.tensor([[0, 8]]), 3)
    assert batch.past.shape == (1, 6, 4) and batch.past.isfinite().all() and batch.future.shape == (1, 3, 0)
    assert batch.past[0, :, 2].tolist() == [1, 1, 1, 0, 1, 1] and batch.past[0, 3, 0] == 0
    assert batch.observed.tolist() == [[[True, True], [True, False], [True, True]]]


def test_an_epoch_has_every_window_once_in_an_order_of_its_own():
    panel = make_panel()
    windows = lay(panel, PanelScaling(), 6)
    origins = torch.tensor([[place, row] for place in (0, 1) for row in range(6, 20)])
    loader = windows.loader(origins, 4, batch_size=5, shuffle_seed=3)

    def epoch(number):
        loader.sampler.set_epoch(number)
        return torch.cat([batch.origin for batch in loader]).tolist()

    first, second = epoch(0), epoch(1)
    assert sorted(first) == sorted(second) == origins.tolist() and first != second and first == epoch(0)
    in_order = torch.cat([batch.origin for batch in windows.loader(origins, 4, batch_size=5)])
    assert torch.equal(in_order, origins)


def test_batches_of_a_group_are_those_gathered_alone():
    panel = make_panel()
    windows = lay(panel, PanelScaling(), 6)
    origins = torch.tensor([[0, row] for row in range(6, 36)] + [[1, row] for row in range(6, 26)])
    loader = windows.loader(origins, 4, batch_size=8, shuffle_seed=1)
    batches = list(loader)
    assert loader.group > 1 and len(loader) == len(batches) == 7
    assert [len(batch.past) for batch in batches] == [8] * 6 + [2]
    for batch in batches:
        for found, expected in zip(batch, windows.gather(batch.origin, 4), strict=True):
            assert torch.equal(found, expected)
