"""The trial step before a run changes nothing."""

import pytest
import torch
from lightning.pytorch.profilers import SimpleProfiler

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


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], True),
        (["trainer.precision=bf16-mixed"], False),
        (["trainer.precision=bf16-mixed", "trainer.gradient_clip_val=null"], True),
        (["optim.fused=false"], False),
    ],
)
def test_the_optimiser_is_fused_where_it_can_be(words, expected, tmp_path):
    run = build(composed(*TINY, "logger=csv", *words), tmp_path)
    assert run.task.optim(run.task.parameters()).defaults["fused"] is expected


def test_the_trainer_does_as_it_is_told(tmp_path):
    words = ["+trainer.log_every_n_steps=7", "+trainer.enable_progress_bar=true", "+trainer.enable_model_summary=true"]
    trainer = build(composed(*TINY, "logger=csv", *words, "+trainer.profiler=simple"), tmp_path).trainer
    kinds = {type(callback).__name__ for callback in trainer.callbacks}
    assert trainer.log_every_n_steps == 7
    assert any("ProgressBar" in kind for kind in kinds) and "RichModelSummary" in kinds
    assert isinstance(trainer.profiler, SimpleProfiler) and trainer.profiler.dirpath == tmp_path


def logged(*words):
    """Return the configuration of a run that W&B logs."""
    return {**composed(*TINY, *words), "provenance": {"id": "a1b2c3d4"}}


def test_a_callback_of_lightnings_that_logs_by_step_has_its_say(tmp_path):
    run = build(logged("+callbacks.lr._target_=lightning.pytorch.callbacks.LearningRateMonitor"), tmp_path)
    assert run.trainer.log_every_n_steps == 50
    assert build(composed(*TINY, "logger=csv"), tmp_path).trainer.log_every_n_steps == 0


def test_the_logger_does_as_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    words = ["logger.wandb.group=mine", "logger.wandb.job_type=trial", "tags=[a]"]
    (logger,) = build(logged(*words), tmp_path).trainer.loggers
    options = logger._wandb_init
    assert (options["group"], options["job_type"], options["mode"], options["tags"]) == (
        "mine",
        "trial",
        "disabled",
        ["a"],
    )
    (logger,) = build(logged("logger.wandb.mode=offline"), tmp_path).trainer.loggers
    assert logger._wandb_init["mode"] == "offline"
