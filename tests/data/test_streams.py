"""Windows lose no step, repeat none and come in order; a position in mid-epoch is resumed."""

from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.data import TwoSineData, Window, window_loader
from rnnlab.data.batches import batch_loader

SIZES = {
    "num_rows": st.integers(1, 12),
    "num_steps": st.integers(1, 12),
    "batch_size": st.integers(1, 13),
    "steps": st.integers(1, 14),
    "seed": st.none() | st.integers(0, 3),
}


def make(num_rows, num_steps, batch_size, steps, seed, epoch=0):
    """Return a loader whose inputs are 100 row + step."""
    inputs = 100 * torch.arange(num_rows)[:, None] + torch.arange(num_steps)
    loader = window_loader(inputs, -inputs, batch_size, steps, seed)
    if seed is not None:
        loader.sampler.set_epoch(epoch)
    return loader


@settings(deadline=None)
@given(**SIZES)
def test_every_step_is_served_once_and_in_order(num_rows, num_steps, batch_size, steps, seed):
    loader = make(num_rows, num_steps, batch_size, steps, seed)
    windows = list(loader)
    assert len(windows) == len(loader)
    served = {}
    before = None  # rows of the window before
    for x, y, reset, *_ in windows:
        assert x.shape == reset.shape and torch.equal(y, -x) and len(x) <= batch_size
        rows, at = x[:, 0] // 100, x[:, 0] % 100
        assert torch.equal(x, 100 * rows[:, None] + at[:, None] + torch.arange(x.shape[1]))
        assert x.shape[1] == steps or at[0] + x.shape[1] == num_steps
        assert torch.equal(reset, x % 100 == 0)
        assert reset[:, 0].all() or rows.tolist() == before
        before = rows.tolist()
        for row, values in zip(before, (x % 100).tolist(), strict=True):
            served.setdefault(row, []).extend(values)
    assert served == {row: list(range(num_steps)) for row in range(num_rows)}


@settings(deadline=None)
@given(**SIZES)
def test_one_window_a_row_gives_the_batches_of_whole_rows(num_rows, num_steps, batch_size, steps, seed):
    loader = make(num_rows, num_steps, batch_size, num_steps + steps - 1, seed, epoch=2)
    whole = batch_loader(loader.dataset.tensors[:2], batch_size, seed)
    if seed is not None:
        whole.sampler.set_epoch(2)
    for (x, y, *_), batch in zip(loader, whole, strict=True):
        assert torch.equal(x, batch[0]) and torch.equal(y, batch[1])


@settings(deadline=None)
@given(**SIZES, data=st.data())
def test_a_position_is_resumed_once(num_rows, num_steps, batch_size, steps, seed, data):
    sizes = (num_rows, num_steps, batch_size, steps, seed)
    interrupted, resumed = make(*sizes), make(*sizes)
    whole = [window.inputs.tolist() for window in make(*sizes)]
    count = data.draw(st.integers(0, len(whole) - 1))
    assert len(list(islice(interrupted, count))) == count
    resumed.load_state_dict(interrupted.state_dict())
    assert [window.inputs.tolist() for window in resumed] == whole[count:]
    assert [window.inputs.tolist() for window in resumed] == whole


@pytest.mark.parametrize("seed", [None, 0])
def test_a_position_at_the_end_of_an_epoch_is_the_start_of_the_next(seed):
    ended, resumed = make(5, 7, 2, 3, seed), make(5, 7, 2, 3, seed, epoch=1)
    list(ended)
    resumed.load_state_dict(ended.state_dict())
    windows = zip(resumed, make(5, 7, 2, 3, seed, epoch=1), strict=True)
    assert all(torch.equal(found.inputs, expected.inputs) for found, expected in windows)


def test_an_iterator_takes_the_epoch_that_is_set_after_it_was_made():
    loader = make(20, 1, 20, 1, seed=0)
    iterator = iter(loader)  # Lightning makes the first one before it sets the epoch
    loader.sampler.set_epoch(3)
    assert torch.equal(next(iterator).inputs, next(iter(make(20, 1, 20, 1, seed=0, epoch=3))).inputs)


def test_resets_may_be_given():
    reset = torch.rand(4, 6) < 0.5
    windows = list(window_loader(torch.zeros(4, 6, 2), torch.zeros(4, 6), 4, 4, reset=reset))
    assert torch.equal(torch.cat([window.reset for window in windows], dim=1), reset)
    assert windows[1].inputs.shape == (4, 2, 2) and windows[1].targets.shape == (4, 2)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    list(make(5, 7, 2, 3, seed=0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_a_window_has_steps(steps):
    with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
        make(2, 3, 2, steps, None)


def test_tensors_must_agree():
    with pytest.raises(ValueError, match=r"must agree in rows and steps, got shapes \(2, 3\), \(2, 4\), \(2, 3\)"):
        window_loader(torch.zeros(2, 3), torch.zeros(2, 4), 2, 1)


def test_two_sine_trains_on_windows_and_evaluates_whole_series():
    data = TwoSineData(num_steps=20, horizon=3, target="sequence", tbptt_steps=8)
    data.setup()
    windows = list(islice(data.train_dataloader(), 3))
    assert all(isinstance(window, Window) for window in windows)
    assert [tuple(window.inputs.shape) for window in windows] == [(32, 8, 1), (32, 8, 1), (32, 4, 1)]
    assert next(iter(data.val_dataloader()))[0].shape == next(iter(data.test_dataloader()))[0].shape == (32, 20, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "sequence", "tbptt_steps": 0}, "tbptt_steps must be an integer of at least 1, got 0"),
        (
            {"target": "last", "tbptt_steps": 5},
            "tbptt_steps needs target 'sequence', targets at every step, got 'last'",
        ),
    ],
)
def test_two_sine_refuses_windows_without_steps_or_targets(arguments, message):
    with pytest.raises(ValueError, match=message):
        TwoSineData(**arguments)
