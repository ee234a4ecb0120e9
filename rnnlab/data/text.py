"""Text as streams of characters, each to be predicted from those before it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rnnlab.baselines import witten_bell
from rnnlab.data.batches import IGNORED, InMemoryData, Queries
from rnnlab.data.checks import check_choice, check_encoding, check_integer
from rnnlab.data.documents import SPLITS, Document, read_documents, split_documents, stdlib_documents
from rnnlab.data.streams import Window, WindowLoader, window_loader
from rnnlab.data.vocabulary import START, UNKNOWN, Vocabulary

# What is read before a part that begins within a text: as much as a state is likely to remember.
CONTEXT = 500
# Steps of a window of validation, which keeps no graph: enough to hide the cost of a call.
_EVAL_STEPS = 2000


def to_stream(documents: Sequence[Document], vocabulary: Vocabulary) -> tuple[Tensor, Tensor, Tensor]:
    """Return documents, one behind the other, as inputs, targets and reset flags, each (N,).

    The first character of a document is predicted from START, after a reset. Every character of every text is the
    target of one step; those of contexts are read, and their targets are `IGNORED`.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    for document in documents:
        text, context = document.text, document.context
        ids = encode(context + text, vocabulary)
        steps = np.arange(len(ids))
        before = np.concatenate([[vocabulary[START]], ids[:-1]])
        parts.append((before, np.where(steps < len(context), IGNORED, ids), steps == 0))
    inputs, targets, reset = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*parts, strict=True))
    return inputs, targets, reset


def fold(stream: tuple[Tensor, Tensor, Tensor], num_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut a stream (N,) into rows that are read side by side, each (B, ceil(N / B)).

    Row b goes on where row b - 1 ends, and begins with a reset. What is missing in the last rows is padding: targets
    that are `IGNORED`, so that no character is lost or seen twice.
    """
    inputs, targets, reset = stream
    missing = -len(inputs) % num_rows
    rows = (
        torch.cat([tensor, tensor.new_full((missing,), value)]).view(num_rows, -1)
        for tensor, value in ((inputs, int(inputs[0])), (targets, IGNORED), (reset, False))
    )
    inputs, targets, reset = rows
    reset[:, 0] = True
    return inputs, targets, reset


def encode(text: str, vocabulary: Vocabulary) -> np.ndarray:
    """Return the numbers of characters, int64 (N,); a character outside the vocabulary is the unknown symbol."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    distinct, where = np.unique(points, return_inverse=True)
    return np.array(vocabulary.encode(map(chr, distinct.tolist())), dtype=np.int64)[where]


class TextData(InMemoryData):
    """A text, to be learnt character by character.

    Training reads `batch_size` streams side by side in windows of `tbptt_steps`; the state goes on from window to
    window and is reset where a document begins. Validation and test read one stream, so that every character is
    predicted from all before it in its document. A batch is a `Window` of inputs, targets and reset, each (B, W).

    The vocabulary is made of the unknown symbol, START and the characters of the training part, in order.

    Args:
        path: file, pattern of files, or the name of a known corpus; relative ones are looked for below
            RNNLAB_DATA too. None: the sources of the running Python's standard library.
        split: how the text of `path` is cut, see `split_documents`.
        val, test: files of these parts, in place of what `split` cuts off; `split` 'none' makes all of `path` training.
        tbptt_steps: W, steps of a training window.
        batch_size: B, streams of training.
        ngram_order: greatest order of the n-gram baselines, 0 for none.
        max_chars: characters taken of the standard library.
        encoding: of the files, as Python names it.

    Raises:
        ValueError: an argument is out of range, or a file cannot be read.
    """

    remembers = True
    unit = "characters"

    def __init__(
        self,
        path: str | Path | None = None,
        split: str = "90/10",
        val: str | Path | None = None,
        test: str | Path | None = None,
        tbptt_steps: int = 100,
        batch_size: int = 50,
        ngram_order: int = 5,
        max_chars: int = 1_500_000,
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(check_integer("batch_size", batch_size, 1), shuffle_seed=0)  # nothing is drawn
        self.path, self.val, self.test = path, val, test
        self.split = check_choice("split", split, SPLITS)
        if split == "none" and val is None:
            raise ValueError("split=none leaves nothing for validation: give a file by val=FILE, or another split")
        self.tbptt_steps = check_integer("tbptt_steps", tbptt_steps, 1)
        self.ngram_order = check_integer("ngram_order", ngram_order, 0, 10)
        self.max_chars = check_integer("max_chars", max_chars, 1)
        self.encoding = check_encoding(encoding)
        self.documents: dict[str, list[Document]] = {}
        self.vocabulary: Vocabulary | None = None
        self._sha256: str | None = None

    @property
    def texts(self) -> dict[str, list[str]]:
        """Return the texts of each part, without their contexts."""
        return {part: [document.text for document in documents] for part, documents in self.documents.items()}

    def make_splits(self) -> dict[str, tuple[Tensor, ...]]:
        self.documents = self._read()
        sha256 = hashlib.sha256(self._learnt().encode("utf-8", "surrogatepass")).hexdigest()
        self._remember(sorted(set("".join(self.texts["train"]))), sha256)
        return {part: self._lay_out(part, self.tbptt_steps) for part in self.documents}

    def _learnt(self) -> str:
        """Return all that is learnt from, by which a run knows its text again."""
        return "".join(self.texts["train"])

    def _lay_out(self, part: str, steps: int) -> tuple[Tensor, ...]:
        """Return the rows of a part, inputs, targets and reset flags (B, T), to be read in windows of so many steps."""
        stream = to_stream(self.documents[part], self.vocabulary)
        num_rows = self.batch_size * self.share.num_ranks if part == "train" else 1
        if len(stream[0]) < num_rows:
            raise ValueError(f"batch_size must be at most the {len(stream[0])} characters of training, got {num_rows}")
        return fold(stream, num_rows)

    def _read(self) -> dict[str, list[Document]]:
        texts = stdlib_documents(self.max_chars) if self.path is None else read_documents(self.path, self.encoding)
        parts = split_documents(texts, self.split, CONTEXT)
        for part, path in (("val", self.val), ("test", self.test)):
            if path is not None:
                parts[part] = list(map(Document, read_documents(path, self.encoding)))
        return parts

    def _remember(self, characters: Sequence[str], sha256: str) -> None:
        if self._sha256 not in (None, sha256):
            raise ValueError(
                "the training text is not the one this run was trained on: its sha256 begins with "
                f"{sha256[:12]}, not {str(self._sha256)[:12]}; bring the former text back, or train anew"
            )
        self._sha256 = sha256
        self.vocabulary = Vocabulary((UNKNOWN, START, *characters))
        self.sizes = {"vocab_size": len(self.vocabulary)}

    def state_dict(self) -> dict[str, Any]:
        """Return what a trained model takes for granted: its characters, and the text it has learnt them from."""
        return {"characters": "".join(self.vocabulary.symbols[2:]), "sha256": self._sha256}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know the characters of a run without its text.

        Raises:
            ValueError: the text that was read is another one.
        """
        self._remember(list(state_dict["characters"]), state_dict["sha256"])

    @property
    def epoch_size(self) -> int:
        """Return the characters of an epoch."""
        return sum(map(len, self.texts["train"]))

    def windows(self, part: str, steps: int) -> WindowLoader:
        """Return a loader of a part in windows of so many steps: training in B streams, other parts in one."""
        inputs, targets, reset = self.splits[part]  # in which windows of any length may be cut
        return window_loader(inputs, targets, len(inputs), steps, reset=reset)

    def train_dataloader(self) -> DataLoader:
        return self._shared("train", self.tbptt_steps)

    def val_dataloader(self) -> DataLoader:
        return self._shared("val", _EVAL_STEPS)

    def test_dataloader(self) -> DataLoader:
        return self._shared("test", _EVAL_STEPS)

    def _shared(self, part: str, steps: int) -> DataLoader:
        """Return a loader of this process' share of the rows of a part, as many as there are for one process times all.

        Held-out text is one row, read by the first process alone: a character is predicted in the state that all before
        it left.
        """
        num_ranks = self.share.num_ranks
        inputs, targets, reset, *labels = self.splits[part] if num_ranks == 1 else self._lay_out(part, steps)
        size = -(-len(inputs) // num_ranks)
        return self.served(window_loader(inputs, targets, size, steps, None, reset, *labels, share=self.share))

    def rehearsal_batch(self) -> Window:
        inputs, targets, reset = (tensor[:2, :8] for tensor in self.splits["train"])
        return Window(inputs, targets, reset, resets_inside=True)

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Refuse: a text is no list of questions.

        Raises:
            ValueError: always, with the way to do it.
        """
        raise ValueError(
            "a character model answers no lines of a file: use `rnnlab sample`, or `rnnlab diagnose input=FILE`"
        )

    def baselines(self) -> dict[str, float]:
        """Return bits per character and perplexity of interpolated Witten-Bell n-grams.

        Keys are 'baseline/<order>gram/val/bits' and '.../perplexity', for validation and test. Counts come from the
        training part; contexts are read as the network reads them.
        """
        if not self.ngram_order:
            return {}
        result = {}
        for part in self.held_out():
            nats = self._ngram_nats(self.documents["train"], self.documents[part])
            for order, mean in enumerate(nats.mean(axis=1), start=1):
                result[f"baseline/{order}gram/{part}/bits"] = float(mean / np.log(2))
                result[f"baseline/{order}gram/{part}/perplexity"] = float(np.exp(mean))
        return result

    def held_out(self) -> list[str]:
        """Return which of 'val' and 'test' there are."""
        return [part for part in ("val", "test") if self.documents.get(part)]

    def _ngram_nats(self, train: Sequence[Document], documents: Sequence[Document]) -> np.ndarray:
        """Return -ln p (order, N) of the characters of documents by n-grams of others."""
        counted, scored = ([self._without_start(one.text) for one in some] for some in (train, documents))
        contexts = [self._without_start(document.context) for document in documents]
        return witten_bell(counted, scored, len(self.vocabulary) - 1, self.ngram_order, contexts)

    def _without_start(self, text: str) -> np.ndarray:
        """Return the numbers of characters from 0 on, the unknown one first, START left out: it is never predicted."""
        return np.maximum(encode(text, self.vocabulary) - 1, 0)
