"""What may be turned on for every task: torch.compile, bfloat16 with float32 weights, gradients of several batches."""

import pytest
import torch

from rnnlab.cli.build import build
from rnnlab.cli.compose import compose
from tests.covering import few
from tests.invariants.test_ddp import RUNS, configuration, curves

pytestmark = pytest.mark.invariant
__all__ = ["curves"]
FILES = ("table_file", "text_file", "labelled_file", "conllu_file", "pairs_file", "curves")


@pytest.fixture
def words(task, request):
    """The words of a task's small run, its files filled in."""
    files = {name: request.getfixturevalue(name) for name in FILES}
    return [word.format_map(files) for word in RUNS[task][2]] + ["rnn.hidden_size=4"]


def trained(tmp_path, config):
    tmp_path.mkdir()
    run = build(config, tmp_path)
    run.trainer.fit(run.task, datamodule=run.data)
    return run


@pytest.mark.parametrize("task", few(list(RUNS), ["addition", "tagging"]))
def test_a_compiled_model_trains_as_it_does_otherwise_and_its_weights_keep_their_names(task, words, tmp_path):
    key, size, _ = RUNS[task]
    states = []
    for compiled in ("false", "{backend: aot_eager}"):
        config = configuration([*words, f"compile={compiled}", "optim=sgd", "optim.lr=0.1"], 1, key, size)
        config["trainer"]["max_steps"] = 3
        states.append(trained(tmp_path / compiled[:5], config).task.state_dict())
    assert states[0].keys() == states[1].keys()
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("task", list(RUNS))
def test_bfloat16_trains_float32_weights_nearly_as_float32(task, words, tmp_path):
    key, size, _ = RUNS[task]
    states = []
    for precision in ("32-true", "bf16-mixed"):
        config = configuration([*words, f"trainer.precision={precision}", "optim=sgd", "optim.lr=0.1"], 1, key, size)
        config["trainer"]["max_steps"] = 3
        states.append(trained(tmp_path / precision, config).task.state_dict())
    assert {value.dtype for value in states[1].values()} == {value.dtype for value in states[0].values()}
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0.02)
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("task", ["addition", "forecasting", "generation"])
def test_gradients_of_two_batches_of_equal_size_are_those_of_one_of_both(task, words, tmp_path):
    key, size, _ = RUNS[task]
    states = []
    for number, rows in ((1, 2 * size), (2, size)):
        extra = ["trainer.precision=64-true", f"trainer.accumulate_grad_batches={number}"]
        config = configuration([*words, *extra], 1, key, rows)
        config["trainer"]["max_steps"] = 4
        states.append(trained(tmp_path / str(number), config).task.state_dict())
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=1e-12)


def test_anything_else_is_no_way_to_compile(tmp_path):
    from rnnlab.cli.errors import UsageError

    config = compose(["compile=fast", "logger=csv", "callbacks=none"])[0]
    with pytest.raises(UsageError, match="compile must be true or false, got 'fast'"):
        build(config | {"name": "run"}, tmp_path)
