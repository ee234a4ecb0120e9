"""Texts with a label each, to be learnt character by character by a model that is told the label."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rnnlab.data.batches import IGNORED, Queries
from rnnlab.data.documents import Document, split_documents
from rnnlab.data.files import read_text
from rnnlab.data.label_files import read_labelled, stdlib_names
from rnnlab.data.streams import Window, WindowLoader, window_loader
from rnnlab.data.text import CONTEXT, TextData, to_stream

_QUERIES_A_BATCH = 64


class LabelledDocument(NamedTuple):
    """A text, what stands before it as in `Document`, and the number of its label."""

    text: str
    context: str
    label: int


class LabelledTextData(TextData):
    """Texts of several kinds, each with the label of its kind.

    Every document begins with a window, and what it leaves of its last one is padding: so a model's first state can be
    made of the label, and a window should be about as long as a short document. Training reads `batch_size` rows side
    by side, over which the documents of all labels are spread; one that is longer than a row is cut, and the state
    begins anew there. In validation and test none is cut. A batch is a `Window` with labels, each (B, W).

    Args:
        path: a folder with a folder of texts for each label, or a file of lines `label<TAB>text`, see
            `rnnlab.data.label_files`. None: the names that Python's standard library gives to its classes, constants,
            exceptions and functions.
        split: how the texts of each label are cut, see `rnnlab.data.documents.split_documents`; not 'char-rnn'.
        val, test: as `path`, in place of what `split` cuts off; `split` 'none' makes all of `path` training.
        tbptt_steps, batch_size, ngram_order, encoding: see `TextData`.

    Attributes:
        labels: their names, in order; known after `setup`, or from a checkpoint.
        ending: a line end, if every text of training ends with its first one, else None; known likewise.

    Raises:
        ValueError: an argument is out of range; in `setup`: a file cannot be read, there are less than two labels, one
            has too little text to be split, or `val` or `test` has one that training has not.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        split: str = "files/test",
        val: str | Path | None = None,
        test: str | Path | None = None,
        tbptt_steps: int = 16,
        batch_size: int = 50,
        ngram_order: int = 5,
        encoding: str = "utf-8",
    ) -> None:
        if split == "char-rnn":
            raise ValueError("split=char-rnn cuts one text into streams, and labelled texts are many: give another")
        super().__init__(path, split, val, test, tbptt_steps, batch_size, ngram_order, encoding=encoding)
        self.labels: tuple[str, ...] = ()
        self.ending: str | None = None

    def _read(self) -> dict[str, list[Any]]:
        texts = stdlib_names() if self.path is None else read_labelled(self.path, self.encoding)
        source = self.path or "the standard library"
        if len(texts) < 2:
            raise ValueError(f"{source}: has the label {next(iter(texts))!r} alone, and at least 2 are needed")
        self._set_labels(sorted(texts), source)
        parts: dict[str, dict[str, list[Any]]] = {}
        for label, documents in texts.items():
            try:
                found = split_documents(documents, self.split, CONTEXT)
            except ValueError as error:
                raise ValueError(f"{source}: label {label!r}: {error}") from None
            for part, documents_of_part in found.items():
                parts.setdefault(part, {})[label] = documents_of_part
        for part, path in (("val", self.val), ("test", self.test)):
            if path is not None:
                given = read_labelled(path, self.encoding)
                unknown = next((label for label in given if label not in self.labels), None)
                if unknown is not None:
                    raise ValueError(f"{path}: has a label {unknown!r}, and training has {', '.join(self.labels)}")
                parts[part] = {label: split_documents(found, "none")["train"] for label, found in given.items()}
        are_lines = all(one.text.find("\n") == len(one.text) - 1 for found in parts["train"].values() for one in found)
        self.ending = "\n" if are_lines else None
        return {part: self._spread(found) for part, found in parts.items()}

    def _set_labels(self, labels: Sequence[str], source: Any) -> None:
        if self.labels and self.labels != tuple(labels):
            raise ValueError(f"{source}: has labels {', '.join(labels)}, and this run knows {', '.join(self.labels)}")
        self.labels = tuple(labels)

    def _spread(self, documents: Mapping[str, Sequence[Any]]) -> list[LabelledDocument]:
        """Return the documents of all labels in one order, in which each label is spread from beginning to end."""
        placed = [
            ((index + 0.5) / len(found), number, LabelledDocument(*document, number))
            for number, found in ((self.labels.index(label), found) for label, found in documents.items())
            for index, document in enumerate(found)
        ]
        return [document for *_, document in sorted(placed)]

    def _learnt(self) -> str:
        return "".join(f"{self.labels[document.label]}\t{document.text}" for document in self.documents["train"])

    def _remember(self, characters: Sequence[str], sha256: str) -> None:
        super()._remember(characters, sha256)
        self.sizes |= {"num_labels": len(self.labels)}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"labels": list(self.labels), "ending": self.ending}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._set_labels(state_dict["labels"], self.path)
        self.ending = state_dict["ending"]
        super().load_state_dict(state_dict)

    def _lay_out(self, part: str, steps: int) -> tuple[Tensor, ...]:
        """Return the rows of a part: inputs, targets, reset flags and labels (B, T), T a multiple of `steps`."""
        documents, num_rows = self.documents[part], self.batch_size * self.share.num_ranks
        stream = to_stream(documents, self.vocabulary)
        starts = np.flatnonzero(stream[2].numpy())
        lengths = np.diff(starts, append=len(stream[0]))
        pieces = [(start, length, one.label) for start, length, one in zip(starts, lengths, documents, strict=True)]
        if part == "train":
            num_windows = int(-(-lengths // steps).sum())
            if num_windows < num_rows:
                raise ValueError(f"batch_size must be at most the {num_windows} windows of training, got {num_rows}")
            pieces = _cut(pieces, num_windows // num_rows * steps)
        return _in_rows(stream, pieces, min(num_rows, len(pieces)), steps)

    def windows(self, part: str, steps: int) -> WindowLoader:
        """Return a loader of a part in windows of so many steps."""
        tensors = self.splits[part] if steps == self.tbptt_steps else self._lay_out(part, steps)
        inputs, targets, reset, labels = tensors
        return window_loader(inputs, targets, len(inputs), steps, reset=reset, labels=labels)

    def val_dataloader(self) -> DataLoader:
        return self._shared("val", self.tbptt_steps)

    def test_dataloader(self) -> DataLoader:
        return self._shared("test", self.tbptt_steps)

    def rehearsal_batch(self) -> Window:
        inputs, targets, reset, labels = (tensor[:2, : self.tbptt_steps] for tensor in self.splits["train"])
        return Window(inputs, targets, reset, labels=labels)

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read a text a line, whose label is asked for; blank lines at the end are ignored.

        Raises:
            ValueError: the file is missing or empty, or a line before its last one is ("file:line: what is wrong").
        """
        file, content = read_text(path, "file of texts", encoding or self.encoding)
        lines = content.rstrip("\n").split("\n")
        if lines == [""]:
            raise ValueError(f"{file}: is empty, a text a line is expected")
        if "" in lines:
            raise ValueError(f"{file}:{lines.index('') + 1}: the text is empty")
        strange = sum(any(character not in self.vocabulary for character in line) for line in lines)
        note = f"{file}: {strange} of {len(lines)} texts have characters that training has not, read as unknown"
        return Queries(lines, None, [note] if strange else [])

    def query_batches(self, queries: Queries) -> Iterator[Window]:
        """Return the texts, each in a row of its own, padded as in training."""
        for first in range(0, len(queries.inputs), _QUERIES_A_BATCH):
            lines = queries.inputs[first : first + _QUERIES_A_BATCH]
            stream = to_stream([Document(line + (self.ending or "")) for line in lines], self.vocabulary)
            pieces, start = [], 0
            for line in lines:
                pieces.append((start, len(line) + len(self.ending or ""), 0))
                start += pieces[-1][1]
            inputs, targets, reset, _ = _in_rows(stream, pieces, len(lines), 1)
            yield Window(inputs, targets, reset)

    def write_answers(self, queries: Queries, outputs: Sequence[Tensor]) -> str:
        """Return a line "text<TAB>label<TAB>probability" a text, for probabilities (N, K) of all batches together."""
        answers = zip(queries.inputs, self.answers(queries, outputs), strict=True)
        return "".join(f"{line}\t{label}\t{probability:.4f}\n" for line, (label, probability) in answers)

    def answers(self, queries: Queries, outputs: Sequence[Tensor]) -> list[tuple[str, float]]:
        """Return label and probability for each text."""
        best, labels = torch.cat(list(outputs)).max(dim=1)
        return [(self.labels[label], share) for label, share in zip(labels.tolist(), best.tolist(), strict=True)]

    def baselines(self) -> dict[str, float]:
        """Return those of `TextData`, which do not know the label, and an n-gram of the texts of each label.

        Keys of the latter: 'baseline/<order>gram_by_label/<part>/bits', the same with a label behind it, and
        '.../perplexity', of the greatest order.
        """
        result = super().baselines()
        for part in self.held_out() if self.ngram_order else ():
            name, nats = f"baseline/{self.ngram_order}gram_by_label/{part}", []
            for number, label in enumerate(self.labels):
                train, documents = (
                    [one for one in self.documents[some] if one.label == number] for some in ("train", part)
                )
                if documents:
                    nats.append(self._ngram_nats(train, documents)[-1])
                    result[f"{name}/bits/{label}"] = float(nats[-1].mean() / np.log(2))
            mean = np.concatenate(nats).mean()
            result[f"{name}/bits"], result[f"{name}/perplexity"] = float(mean / np.log(2)), float(np.exp(mean))
        return result


def _cut(pieces: Sequence[tuple[int, int, int]], longest: int) -> list[tuple[int, int, int]]:
    """Return pieces of a stream, (start, length, label) each, cut where they are longer than this."""
    return [
        (start + offset, min(longest, length - offset), label)
        for start, length, label in pieces
        for offset in range(0, length, longest)
    ]


def _in_rows(
    stream: tuple[Tensor, ...], pieces: Sequence[tuple[int, int, int]], num_rows: int, steps: int
) -> tuple[Tensor, ...]:
    """Lay pieces of a stream (N,) out in rows, each behind the shortest row so far, at the beginning of a window.

    Returns:
        Inputs, targets, reset flags and labels, each (B, T); targets of padding are `IGNORED`.
    """
    ends = [(0, row) for row in range(num_rows)]  # where each row ends, as a heap
    places = []
    for _, length, _ in pieces:
        end, row = heapq.heappop(ends)
        places.append((row, end))
        heapq.heappush(ends, (end + -(-length // steps) * steps, row))
    width = max(end for end, _ in ends)
    starts, lengths, labels = (torch.tensor(column) for column in zip(*pieces, strict=True))
    places = torch.tensor(places)
    offsets = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
    source = starts.repeat_interleave(lengths) + offsets
    target = (places[:, 0] * width + places[:, 1]).repeat_interleave(lengths) + offsets
    rows = []
    for values, padding in zip(
        (stream[0][source], stream[1][source], offsets == 0, labels.repeat_interleave(lengths)),
        (int(stream[0][0]), IGNORED, False, 0),
        strict=True,
    ):
        rows.append(values.new_full((num_rows * width,), padding).index_put((target,), values).view(num_rows, width))
    return tuple(rows)
