"""The synthetic series are those of the published protocol, down to the digits of their baselines."""

import numpy as np
import pytest
import torch

from rnnlab.data import TwoSineData
from rnnlab.data.sines import two_sines


@pytest.mark.parametrize(
    ("horizon", "naive", "ols", "naive_test", "ols_test"),
    [(1, 0.020211, 0.002931, 0.02181, 0.003007), (10, 0.256974, 0.015488, 0.26043, 0.015386)],
)
def test_baselines_equal_the_published_ones(horizon, naive, ols, naive_test, ols_test):
    baselines = TwoSineData(horizon=horizon).baselines()
    assert baselines["baseline/naive/val/mse_last"] == pytest.approx(naive, abs=5e-7)
    assert baselines["baseline/ols/val/mse_last"] == pytest.approx(ols, abs=5e-7)
    assert baselines["baseline/naive/test/mse_last"] == pytest.approx(naive_test, abs=6e-6)
    assert baselines["baseline/ols/test/mse_last"] == pytest.approx(ols_test, abs=5e-7)


def test_baselines_of_sequence_targets():
    baselines = TwoSineData(horizon=10, target="sequence").baselines()
    assert baselines["baseline/naive/val/mse_last"] == pytest.approx(0.256974, abs=5e-7)
    assert baselines["baseline/ols/val/mse_last"] == pytest.approx(0.015488, abs=5e-7)
    assert baselines["baseline/naive/val/mse"] == pytest.approx(0.2589, abs=5e-5)
    assert baselines["baseline/ols/val/mse"] == pytest.approx(0.02936, abs=1e-5)


def test_sizes_and_shapes():
    data = TwoSineData(num_steps=20, horizon=3)
    assert data.sizes == {"input_size": 1, "output_size": 3}
    data.setup()
    assert {split: len(x) for split, (x, _) in data.splits.items()} == {"train": 7_000, "val": 2_000, "test": 1_000}
    x, y = data.splits["test"]
    assert x.shape == (1_000, 20, 1) and y.shape == (1_000, 3) and x.dtype == y.dtype == torch.float32


def test_windows_are_cut_from_one_series():
    series = torch.from_numpy(two_sines(10_000, 50 + 10, seed=42))[7_000:9_000]
    last, sequence = TwoSineData(horizon=10), TwoSineData(horizon=10, target="sequence")
    last.setup()
    sequence.setup()
    for data in (last, sequence):
        assert torch.equal(data.splits["val"][0][:, :, 0], series[:, :50])
    assert torch.equal(last.splits["val"][1], series[:, 50:])
    targets = sequence.splits["val"][1]
    assert targets.shape == (2_000, 50, 10)
    for step in (0, 17, 49):
        assert torch.equal(targets[:, step], series[:, step + 1 : step + 11])


def test_series_lie_where_the_formula_puts_them():
    series = two_sines(1_000, 60, seed=1)
    assert series.dtype == np.float32
    assert 0.6 < np.abs(series).max() <= 0.75
    assert not np.array_equal(series, two_sines(1_000, 60, seed=2))


def test_shuffle_seed_changes_the_order_only():
    first, second = TwoSineData(shuffle_seed=0), TwoSineData(shuffle_seed=1)
    first.setup()
    second.setup()
    assert torch.equal(first.splits["train"][0], second.splits["train"][0])
    assert not torch.equal(next(iter(first.train_dataloader()))[0], next(iter(second.train_dataloader()))[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 0}, "horizon must be an integer of at least 1, got 0"),
        ({"num_steps": -1}, "num_steps must be an integer of at least 1, got -1"),
        ({"target": "all"}, "target must be one of last, sequence, got 'all'"),
        ({"batch_size": 7_001}, "batch_size must be at most the size of the training part, 7000, got 7001"),
        ({"seed": 2**32}, "seed must be an integer from 0 to 4294967295"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TwoSineData(**arguments)


def test_answers_have_the_digits_of_float32(tmp_path):
    outputs = torch.randn(3, 4) * torch.tensor([1e-12, 1.0, 1e5, 1e12])
    text = TwoSineData(horizon=4).write_answers(None, [outputs[:2], outputs[2:]])
    found = torch.tensor([[float(cell) for cell in line.split(",")] for line in text.splitlines()])
    assert torch.equal(found, outputs) and max(map(len, text.replace("\n", ",").split(","))) <= 16


def test_queries_become_answers(tmp_path):
    file = tmp_path / "series.csv"
    file.write_text("0.1,0.2,0.3\n1,2,3\n")
    data = TwoSineData(horizon=2)
    queries = data.read_queries(file)
    assert torch.equal(queries.inputs, torch.tensor([[0.1, 0.2, 0.3], [1, 2, 3]]).unsqueeze(-1))
    assert data.write_answers(queries, [torch.tensor([[0.4, 0.5], [4.0, 5.0]])]) == "0.4,0.5\n4,5\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3,x\n", r"series\.csv:2, column 2: expected a finite number, got 'x'"),
        ("1,2\n3,\n", r"series\.csv:2, column 2: the value is missing"),
        ("1,2\n3\n", r"series\.csv:2: expected 2 numbers as in the first line, got 1"),
        ("", "is empty"),
    ],
)
def test_bad_queries_are_refused(tmp_path, text, message):
    (tmp_path / "series.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        TwoSineData().read_queries(tmp_path / "series.csv")
