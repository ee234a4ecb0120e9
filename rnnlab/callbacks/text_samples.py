"""What a character model writes after every epoch."""

from __future__ import annotations

from collections.abc import Container

import lightning.pytorch as pl
import torch
from rich.text import Text

from rnnlab.callbacks.console import console, log
from rnnlab.callbacks.table import SampleTable
from rnnlab.decoding import FINISHED, sample
from rnnlab.decoding.sampling import check_integer, check_sampling

_SHOWN = 300  # characters of a sample that go on the screen
_NAMED = 20  # unknown characters that are named


class TextSamples(SampleTable):
    """Let the model continue a prompt after every epoch: the first sample is printed, all are kept for a W&B table.

    What is drawn is a function of the model and the epoch alone, and no generator of training is touched. The rows
    travel in checkpoints, so a resumed run logs the whole table. A model that is told labels writes for one after the
    other, over the epochs, and the label stands before the text.

    Args:
        num_samples: samples an epoch.
        length: characters of a sample, without the prompt.
        temperature: as in `rnnlab.decoding.sample`.
        prompt: what the samples begin with; empty for the start of a document.

    Raises:
        ValueError: an argument is out of range.
    """

    columns = ["epoch", "sample", "temperature", "text"]

    def __init__(self, num_samples: int = 2, length: int = 300, temperature: float = 0.8, prompt: str = "") -> None:
        super().__init__()
        check_integer("num_samples", num_samples, 1)
        check_sampling(length, temperature)
        self.num_samples, self.length, self.temperature, self.prompt = num_samples, length, temperature, prompt

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        unknown = outside(self.prompt, trainer.datamodule.vocabulary)
        if unknown:
            _print(f"note: of the samples' prompt, not in the vocabulary, read as unknown: {unknown}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        vocabulary, epoch = trainer.datamodule.vocabulary, trainer.current_epoch
        prompts = [vocabulary.encode(self.prompt)] * self.num_samples
        model, names = pl_module.model, [""] * self.num_samples
        if getattr(model, "condition", None) is not None:
            labels = (torch.arange(self.num_samples, device=pl_module.device) + epoch) % model.num_labels
            model, names = model.of(labels), [f"{trainer.datamodule.labels[label]}: " for label in labels]
        ending = getattr(trainer.datamodule, "ending", None)
        stop = None if ending is None else vocabulary.encode(ending)
        steps = sample(model, prompts, self.length, temperature=self.temperature, stop=stop, seed=epoch)
        drawn = torch.stack(list(steps), dim=1).tolist()  # (num_samples, length)
        texts = [
            name + self.prompt + "".join(vocabulary.symbols[index] for index in ids if index != FINISHED)
            for name, ids in zip(names, drawn, strict=True)
        ]
        self.rows += [[epoch, number, self.temperature, text] for number, text in enumerate(texts)]
        _print("\n".join(f"    | {line}" for line in texts[0][:_SHOWN].split("\n")))


def outside(text: str, known: Container[str]) -> str:
    """Return the distinct characters of a text that are not among those known, as in "'é' U+00E9, '€' U+20AC"."""
    unknown = [character for character in sorted(set(text)) if character not in known]
    named = [f"{character!r} U+{ord(character):04X}" for character in unknown[:_NAMED]]
    return ", ".join(named + [f"and {len(unknown) - _NAMED} more"] * (len(unknown) > _NAMED))


def _print(text: str) -> None:
    """Print a text as it is, and note it in the run's log.

    Not as markup, in which brackets, backslashes and colons of a sample would mean something (rich's own `escape`
    leaves some of them alone); with a question mark for what the encoding of the screen does not have.
    """
    console.print(Text(text.encode(console.encoding, "replace").decode(console.encoding)))
    log.info(text)
