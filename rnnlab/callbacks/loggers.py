"""What loggers are told besides metrics, each in its own words: settings, pictures, tables, checkpoints, their end."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightning.pytorch as pl

WANDB, TENSORBOARD, MLFLOW = "WandbLogger", "TensorBoardLogger", "MLFlowLogger"


def of_kind(trainer: pl.Trainer, kind: str) -> list[Any]:
    """Return the loggers of a trainer that are of the class of this name, which need not be imported to ask."""
    return [logger for logger in _all(trainer) if kind in (base.__name__ for base in type(logger).__mro__)]


def _all(trainer: pl.Trainer) -> list[Any]:
    """Return the loggers of the process that speaks for all."""
    return [logger for logger in trainer.loggers if trainer.is_global_zero]


def last_step(trainer: pl.Trainer) -> int:
    """Return the number of the last update, from 0 on, where Lightning logs what belongs to an epoch."""
    return max(trainer.global_step - 1, 0)


def begin(trainer: pl.Trainer, config: dict[str, Any]) -> None:
    """Tell the loggers a run's settings, or where it went before, so that it can go on."""
    for logger in of_kind(trainer, TENSORBOARD):
        logger._kwargs["purge_step"] = 0  # hides what a former process told, perhaps not to its end: see `replay`
        logger.log_hyperparams(config)
    for logger in of_kind(trainer, MLFLOW):
        if not _found(logger, config["provenance"]["id"]):
            logger.log_hyperparams(config)


def _found(logger: Any, run: str) -> bool:
    """Find the MLflow run of a former process."""
    client = logger._mlflow_client
    experiment = client.get_experiment_by_name(logger._experiment_name)
    runs = experiment and client.search_runs([experiment.experiment_id], f"tags.`rnnlab.id` = '{run}'", max_results=1)
    if runs:
        logger._run_id = runs[0].info.run_id
        client.update_run(logger._run_id, status="RUNNING")
    return bool(runs)


def replay(trainer: pl.Trainer, rows: list[dict[str, float]]) -> None:
    """Tell once more what a former process recorded, each row of the 'step' by the end of which it was measured.

    An offline W&B run cannot be continued, and TensorBoard may have lost its last minutes; of MLflow, whose every line
    is kept, only what is missing is told.
    """
    for logger in _all(trainer):
        known: dict[str, set[int]] = {}
        for row in rows:
            step, values = int(row["step"]) - 1, {key: value for key, value in row.items() if key != "step"}
            if type(logger).__name__ == MLFLOW:
                for key in values.keys() - known.keys():
                    history = logger.experiment.get_metric_history(logger.run_id, key)
                    known[key] = {point.step for point in history}
                values = {key: value for key, value in values.items() if step not in known[key]}
            if values:
                logger.log_metrics(values, step)


def log_picture(trainer: pl.Trainer, name: str, path: Path) -> None:
    """Show a PNG file under a name."""
    for logger in of_kind(trainer, WANDB):
        logger.log_image(name, images=[str(path)])
    for logger in of_kind(trainer, TENSORBOARD):
        from matplotlib.image import imread

        logger.experiment.add_image(name, imread(path)[:, :, :3], last_step(trainer), dataformats="HWC")
    for logger in of_kind(trainer, MLFLOW):
        logger.experiment.log_artifact(logger.run_id, str(path), str(Path(name).parent))


def log_table(trainer: pl.Trainer, name: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Show rows under a name: a table in W&B, text in TensorBoard, a CSV file in MLflow."""
    for logger in of_kind(trainer, WANDB):
        logger.log_table(name, columns=columns, data=rows)
    for logger in of_kind(trainer, TENSORBOARD):
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
        logger.experiment.add_text(name, text, last_step(trainer))
    for logger in of_kind(trainer, MLFLOW):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        logger.experiment.log_text(logger.run_id, text.getvalue(), f"{name}.csv")


def log_final(trainer: pl.Trainer, config: dict[str, Any], metrics: dict[str, float], directory: Path) -> None:
    """Tell the final numbers, as final/NAME, and hand over the checkpoints in a directory where they are asked for."""
    final = {f"final/{key}": value for key, value in metrics.items()}
    boards = of_kind(trainer, TENSORBOARD)
    for logger in _all(trainer):
        if logger in boards:
            logger.log_hyperparams(config, final, last_step(trainer))  # beside each other, to compare runs by
        else:
            logger.log_metrics(final)
        if getattr(logger, "keeps_model", False):
            _keep_model(logger, config, metrics, [path for path in sorted(directory.glob("*.ckpt"))])


def _keep_model(logger: Any, config: dict[str, Any], metrics: dict[str, float], paths: list[Path]) -> None:
    if type(logger).__name__ == MLFLOW:
        for path in paths:
            logger.experiment.log_artifact(logger.run_id, str(path), "checkpoints")
    elif type(logger).__name__ == WANDB:
        import wandb

        artifact = wandb.Artifact(f"model-{config['provenance']['id']}", "model", metadata=metrics)
        for path in paths:
            artifact.add_file(str(path), name=path.name)
        logger.experiment.log_artifact(artifact)


def close(trainer: pl.Trainer, status: str) -> None:
    """End what loggers record of this run, and wait until W&B's file is complete.

    Finishing a W&B run only tells wandb's service to flush; the service's own end is what can be waited for.

    Args:
        trainer: of the run.
        status: 'FINISHED', 'FAILED' or 'KILLED', as MLflow calls them.
    """
    for logger in of_kind(trainer, TENSORBOARD):
        logger.finalize("closed")
    for logger in of_kind(trainer, MLFLOW):
        if logger._run_id is not None:
            logger._mlflow_client.set_terminated(logger._run_id, status)
    wandb, exit_code = sys.modules.get("wandb"), int(status != "FINISHED")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code)
        wandb.teardown(exit_code)
