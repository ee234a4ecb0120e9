"""The Python of README.md runs as it stands, block after block."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import rnnlab.nn
from rnnlab.cli.main import main
from rnnlab_kernels import launch
from tests.cli.conftest import TINY

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Yield what the blocks define, run where they may write files, and without Numba, whose compiling takes long."""
    found: dict[str, Any] = {"__name__": "readme"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "has_numba", lambda: False)
        patch.chdir(tmp_path_factory.mktemp("readme"))
        assert main(["train", "run_dir=runs/lstm", "logger=csv", "callbacks=none", *TINY]) == 0
        for block in BLOCKS:
            exec(compile(block, "README.md", "exec"), found)
        found["files"] = sorted(path.name for path in Path.cwd().iterdir())
        yield found


def test_blocks_run(names):
    assert len(BLOCKS) == 6
    assert names["files"] == ["gru.onnx", "runs"]


def test_results_are_what_the_comments_say(names):
    assert names["output"].shape == (50, 4, 64)
    assert names["y_t"].shape == (4, 64)
    assert [array.shape for array in names["keras"]] == [(8, 192), (64, 192), (2, 192)]
    assert abs(float((names["gru"].weight_hh_l0 == 0).float().mean()) - 0.8) < 1e-4
    assert names["exponents"].shape == (3,) and names["ln_sigma"].shape == (40, 32)
    assert names["back"].direct_share().shape == (50,)
    assert len(names["points"]) == 1 and names["points"][0].is_stable
    x, cell = names["x"], names["Leaky"](8, 64)
    h = torch.zeros(4, 64)
    for x_t, y_t in zip(x[:5], rnnlab.nn.Recurrent(cell)(x[:5])[0], strict=True):
        h = h + (torch.tanh(x_t @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh) - h) / 4
        torch.testing.assert_close(y_t, h)


def test_a_reset_starts_a_new_sequence(names):
    lstm, x = rnnlab.nn.LSTM(8, 64, num_layers=2), names["x"]
    output, _ = lstm(x, reset=names["reset"])
    torch.testing.assert_close(output[20:, 1], lstm(x[20:])[0][:, 1])
    torch.testing.assert_close(output[:, 0], lstm(x)[0][:, 0])
