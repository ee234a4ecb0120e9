import pytest, torch
from tests.invariants.test_ddp import RUNS, configuration, curves
from tests.invariants.test_modes import words, trained, FILES
@pytest.mark.parametrize("task", list(RUNS))
def test_inductor(task, words, tmp_path):
    key, size, _ = RUNS[task]
    states = []
    for compiled in ("false", "true"):
        config = configuration([*words, f"compile={compiled}", "optim=sgd", "optim.lr=0.1"], 1, key, size)
        config["trainer"]["max_steps"] = 3
        states.append(trained(tmp_path / compiled[:5], config).task.state_dict())
    assert states[0].keys() == states[1].keys()
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=1e-6)
