"""Where figures go: figures/NAME.png in the run directory, and W&B; and the end of a W&B run."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlab.callbacks.console import say
from rnnlab.callbacks.files import write_atomically

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from lightning.pytorch.loggers import WandbLogger
    from matplotlib.figure import Figure


def wandb_loggers(trainer: pl.Trainer) -> list[WandbLogger]:
    """Return the W&B loggers of a trainer, usually one or none."""
    from lightning.pytorch.loggers import WandbLogger

    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def run_name(trainer: pl.Trainer) -> str:
    """Return the name of a trainer's run, for titles."""
    return trainer.checkpoint_callback.payload["config"]["name"]


def save_figure(trainer: pl.Trainer, name: str, figure: Figure) -> None:
    """Save a figure as PNG below the trainer's root directory and log it to W&B as figures/NAME."""
    path = Path(trainer.default_root_dir) / "figures" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, figure)
    for logger in wandb_loggers(trainer):
        logger.log_image(f"figures/{name}", images=[str(path)])


def write_png(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, atomically, and tell in one line which characters no installed font has."""
    from rnnlab.analysis.fonts import complete_fonts

    tell_missing(path.name, complete_fonts(figure))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=150))


def tell_missing(name: str, characters: Iterable[str]) -> None:
    """Print and note one line about characters that a picture shows as boxes, for want of a font; nothing for none."""
    codes = [f"U+{ord(character):04X}" for character in sorted(set(characters))]
    if codes:
        more = f" and {len(codes) - 10} more" if len(codes) > 10 else ""
        say(f"note: {name}: boxes stand for characters that no installed font has: {', '.join(codes[:10])}{more}")


def close_wandb(exit_code: int = 0) -> None:
    """End the W&B run of this process, if there is one, and wait until its file is complete.

    Finishing a run only tells wandb's service to flush; the service's own end is what can be waited for.
    """
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code)
        wandb.teardown(exit_code)
