"""Waves and what they are made of: those of the two-sine series, a known noise, longer ones that begin alike."""

import numpy as np
import pytest
import torch

from rnnlab.data import WaveData
from rnnlab.data.sines import two_sines
from rnnlab.data.waves import NOISE_FLOOR, without_noise


@pytest.fixture(scope="module")
def data():
    data = WaveData()
    data.setup()
    return data


def test_waves_are_the_two_sine_series(data):
    waves = torch.cat([data.splits[part][1] for part in ("train", "val", "test")])
    np.testing.assert_allclose(waves.numpy(), two_sines(10_000, 50, 42), atol=1e-7)


def test_vectors_say_what_waves_are(data):
    (f1, f2, o1, o2), wave = data.splits["val"][0][5].double().tolist(), data.splits["val"][1][5]
    times = np.arange(50) / 49
    expected = 0.5 * np.sin((times - o1) * (10 * f1 + 10)) + 0.2 * np.sin((times - o2) * (20 * f2 + 20))
    assert np.abs(wave.numpy() - expected).max() < 0.0501  # the noise is 0.05 at most
    np.testing.assert_allclose(without_noise(data.splits["val"][0][5:6], 50, 50)[0], expected, atol=1e-6)


def test_longer_waves_begin_as_the_others(data):
    for part in ("val", "test"):
        vectors, waves = data.longer[part]
        assert torch.equal(waves[:, :50], data.splits[part][1]) and torch.equal(vectors, data.splits[part][0])
        noise = waves - without_noise(vectors, 200, 50)
        assert waves.shape[1] == 200 and noise.abs().max() < 0.0501
        by_block = noise.square().unflatten(1, (4, 50)).mean(dim=(0, 2))
        np.testing.assert_allclose(by_block, NOISE_FLOOR, rtol=0.02)
    short = WaveData(times_longer=1)
    short.setup()
    assert torch.equal(short.splits["train"][1], data.splits["train"][1])


def test_numbers_to_compare_with(data):
    numbers = data.baselines()
    assert numbers["optimum/test/mse"] == pytest.approx(NOISE_FLOOR, rel=0.02)
    # 0.5 sin and 0.2 sin of evenly spread phases: 0.125 + 0.02.
    assert numbers["baseline/mean/test/mse"] == pytest.approx(0.145, rel=0.3)


def test_queries(data, tmp_path):
    file = tmp_path / "in.csv"
    file.write_text("f1,f2,o1,o2\n0.1,0.2,0.3,0.4\n0.5,0.5,1.5,0.5\n")
    queries = data.read_queries(file)
    assert torch.equal(queries.inputs, torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 1.5, 0.5]]))
    assert "1 of 2 rows have a number outside 0 to 1" in queries.notes[0]
    assert data.write_answers(queries, [torch.tensor([[0.5, 1.0]]), torch.tensor([[0.25, -2.0]])]) == (
        "0.5,1\n0.25,-2\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.1,0.2,0.3\n", r"in.csv:1: expected 4 numbers, f1,f2,o1,o2, got 3"),
        ("f1,f2,o1,o2\n", r"has a header and no row"),
        ("f1,f2,o1,o2\n0.1,0.2,x,0.4\n", r"in.csv:2, o1: .*'x'"),
        ("0.1,0.2,nan,0.4\n", r"in.csv:1, o1: "),
        ("0.1,0.2,0.3,-inf\n", r"in.csv:1, o2: "),
        ("0.1,0.2,0.3,0.4\n0.1,1e300,0.3,0.4\n", r"in.csv:2: a number is too large: 0.1,1e300,0.3,0.4"),
        ("", r"is empty"),
    ],
)
def test_bad_rows_are_refused(data, tmp_path, text, message):
    (tmp_path / "in.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        data.read_queries(tmp_path / "in.csv")


def test_a_run_knows_how_long_a_step_is(data):
    WaveData().load_state_dict(data.state_dict())
    with pytest.raises(ValueError, match=r"waves of 50 steps from time 0 to 1, got num_steps=40.*task.num_steps"):
        WaveData(num_steps=40).load_state_dict(data.state_dict())


def test_one_step_has_no_time():
    with pytest.raises(ValueError, match="num_steps must be an integer of at least 2, got 1"):
        WaveData(num_steps=1)
