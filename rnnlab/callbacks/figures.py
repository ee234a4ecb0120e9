"""Where figures go: figures/NAME.png in the run directory, and to the loggers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlab.callbacks.console import say
from rnnlab.callbacks.files import write_atomically
from rnnlab.callbacks.loggers import log_picture

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from matplotlib.figure import Figure


def run_name(trainer: pl.Trainer) -> str:
    """Return the name of a trainer's run, for titles."""
    return trainer.checkpoint_callback.payload["config"]["name"]


def save_figure(trainer: pl.Trainer, name: str, figure: Figure) -> None:
    """Save a figure as PNG below the trainer's root directory and show it to the loggers as figures/NAME."""
    path = Path(trainer.default_root_dir) / "figures" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, figure)
    log_picture(trainer, f"figures/{name}", path)


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
