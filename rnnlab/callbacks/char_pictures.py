"""Pictures of a finished character model: how it learned, and what surprises it."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl

from rnnlab.callbacks.figures import run_name, save_figure, tell_missing
from rnnlab.callbacks.ledger import read_rows
from rnnlab.callbacks.recording import choose_document, reader_of, surprise


class CharPictures(pl.Callback):
    """Draw figures/learning_curve.png, and figures/surprise.png of the beginning of a validation document.

    Args:
        length: characters of the passage, 1 to 2000; fewer are drawn if no document has as many.

    Raises:
        ValueError: it is not.
    """

    def __init__(self, length: int = 1000) -> None:
        from rnnlab.analysis.text_grid import MOST_CHARACTERS

        if not 1 <= length <= MOST_CHARACTERS:
            raise ValueError(f"length of CharPictures must be from 1 to {MOST_CHARACTERS}, got {length}")
        self.length = length

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        from rnnlab.analysis.text_grid import without_glyph
        from rnnlab.analysis.text_plots import learning_curve_bits, surprise_map

        rows = read_rows(Path(trainer.default_root_dir) / "metrics.csv")
        name = run_name(trainer)
        save_figure(trainer, "learning_curve", learning_curve_bits(rows, metrics, f"Learning curve of {name}"))
        data = trainer.datamodule
        document = choose_document(data.documents["val"], self.length)
        text = document.text[: self.length]
        nats = surprise(reader_of(task.model, document), data.vocabulary, text, document.context)
        tell_missing("surprise.png", without_glyph(text))
        save_figure(trainer, "surprise", surprise_map(text, nats, f"Surprise at the validation text ({name})"))
