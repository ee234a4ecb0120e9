"""The trial step before a run changes nothing."""

import torch

from rnnlab.cli import build as build_module
from rnnlab.cli.build import build
from tests.cli.conftest import TINY
from tests.cli.test_conf import composed


def test_rehearsal_touches_no_weight_gradient_or_random_number(tmp_path, monkeypatch):
    states = []
    for name in ("rehearse_step", "rehearse_update"):
        rehearse = getattr(build_module, name)

        def watched(task, *rest, rehearse=rehearse):
            states.append((torch.get_rng_state(), [parameter.clone() for parameter in task.parameters()]))
            rehearse(task, *rest)
            assert all(parameter.grad is None for parameter in task.parameters())
            assert all(module.training for module in task.modules())

        monkeypatch.setattr(build_module, name, watched)
    run = build(composed(*TINY, "logger=csv", "rnn.num_layers=2", "rnn.dropout=0.5"), tmp_path)
    states.append((torch.get_rng_state(), list(run.task.parameters())))
    (rng, weights), *others = states
    assert len(others) == 2
    for other_rng, other_weights in others:
        assert torch.equal(rng, other_rng)
        assert all(torch.equal(a, b) for a, b in zip(weights, other_weights, strict=True))
