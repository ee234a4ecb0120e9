"""Pairs of one's own, from files of lines `source<TAB>target`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rnnlab.baselines import copy
from rnnlab.data.checks import check_integer
from rnnlab.data.files import read_text
from rnnlab.data.pair_rows import Pair, Tokens
from rnnlab.data.pairs import PairData, cut
from rnnlab.data.splits import part_of


class TSVPairs(PairData):
    """The pairs of files whose lines are a source, a tab and a target: how rnnlab translates, spells, transcribes.

    Lines of one source are several right answers of it, the first of which is trained on. Rows that are too long are
    left out, and rows that come again are read once; `notes` counts both, and sources that are on both sides of a split
    that was given.

    Args:
        train: file, plain or '.gz': as given, or below the folder that RNNLAB_DATA names.
        val: likewise. None: those sources of `train` that a hash puts there; they are not trained on.
        test: likewise, by the same hash where `val` is None; without it there is no such part.
        val_percent, test_percent: share of the sources of `train` for a part that has no file.
        tokens: what both sides are sequences of: 'characters', without spaces around them, or 'words' between spaces.
        source_tokens, target_tokens: the same for one side; None: as `tokens`.
        max_source, max_target: symbols of the longest source and target that are read; None: any.
        shared_vocabulary, min_count, max_tokens, eval_max_tokens, seed, encoding: see `PairData`.

    Raises:
        ValueError: an argument is out of range; in `setup`: a file cannot be read, is broken ("file:line: what is
            wrong"), or holds nothing to be learnt.
    """

    def __init__(
        self,
        train: str | Path,
        val: str | Path | None = None,
        test: str | Path | None = None,
        val_percent: int = 5,
        test_percent: int = 5,
        tokens: str = "characters",
        source_tokens: str | None = None,
        target_tokens: str | None = None,
        max_source: int | None = None,
        max_target: int | None = None,
        shared_vocabulary: bool = False,
        min_count: int = 1,
        max_tokens: int = 2_000,
        eval_max_tokens: int = 4_000,
        seed: int = 0,
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(
            tokens if source_tokens is None else source_tokens,
            tokens if target_tokens is None else target_tokens,
            shared_vocabulary,
            min_count,
            max_tokens,
            eval_max_tokens,
            seed,
            encoding,
        )
        if train is None:
            raise ValueError("train must name a file of pairs, got None")
        paths = {"train": train, "val": val, "test": test}
        self.paths = {part: path for part, path in paths.items() if path is not None}
        self.val_percent = check_integer("val_percent", val_percent, 1, 99)
        self.test_percent = check_integer("test_percent", test_percent, 0, 99 - self.val_percent)
        limits = {"max_source": max_source, "max_target": max_target}
        self.limits = {name: check_integer(name, limit, 1) for name, limit in limits.items() if limit is not None}

    def read_parts(self) -> tuple[dict[str, list[Pair]], dict[str, Any]]:
        files = {part: self._read(path) for part, path in self.paths.items()}
        # Who was not trained on these percents is not to be taken to have been, whatever is validated on now.
        first = None if "val" in files else [self.val_percent, 0 if "test" in files else self.test_percent]
        percents = self._state["percents"] if self._state else first
        if first is not None and percents is not None and first != percents and "test" not in files:
            self._reading_notes.append(
                f"{self.paths['train']}: is split as the run was, {percents[0]} and {percents[1]} percent val and test"
            )
        if percents is None:
            if "val" not in files:
                raise ValueError("the run was trained on all of its training file, and there is no val: give val=FILE")
            parts = files
        else:
            parts = {
                **self._split(files["train"], *percents),
                **{part: files[part] for part in files if part != "train"},
            }
        known = {pair.source: None for pair in parts["train"]}
        for part in parts.keys() - {"train"}:
            both = [pair.source for pair in parts[part] if pair.source in known]
            if both:
                self._reading_notes.append(
                    f"{part}: {len(both)} of {len(parts[part])} sources are in train too, as "
                    f"{self.join_source(both[0])!r}; they do not show what is learnt of new ones"
                )
        return parts, {"percents": percents}

    def _split(self, pairs: list[Pair], val_percent: int, test_percent: int) -> dict[str, list[Pair]]:
        """Return train, val and, unless it is empty, test, and say so."""
        parts: dict[str, list[Pair]] = {"train": [], "val": [], "test": []}
        for pair in pairs:
            parts[part_of(self.join_source(pair.source), test_percent, val_percent)].append(pair)
        sizes = {part: len(found) for part, found in parts.items()}
        if not sizes["val"] or not sizes["train"]:
            raise ValueError(
                f"without val, {val_percent} percent of the sources of {self.paths['train']} are validation, by a "
                f"hash: of its {len(pairs)} that is {sizes['val']}, and {sizes['train']} are train; give val=FILE"
            )
        told = ", ".join(f"{size} {part}" for part, size in sizes.items() if size)
        self._reading_notes.append(f"{self.paths['train']}: is split by a hash of the source: {told}")
        return {part: found for part, found in parts.items() if found}

    def _read(self, path: str | Path) -> list[Pair]:
        """Return the pairs of a file, in the order of their sources' first lines."""
        file, text = read_text(path, "file of pairs", self.encoding)
        lines = text.split("\n")
        while lines and not lines[-1].strip(" "):
            lines.pop()
        if not lines:
            raise ValueError(f"{file}: is empty, lines of a source, a tab and a target are expected")
        limits = " or ".join(f"{name}={limit}" for name, limit in self.limits.items())
        found: dict[Tokens, dict[Tokens, None]] = {}
        long, again = [], []
        for number, line in enumerate(lines, start=1):
            source, target = self._parse(line, f"{file}:{number}")
            sizes = {"max_source": len(source), "max_target": len(target)}
            if any(sizes[name] > limit for name, limit in self.limits.items()):
                long.append(number)
            elif target in found.setdefault(source, {}):
                again.append(number)
            else:
                found[source][target] = None
        if not found:
            raise ValueError(f"{file}: all of its {len(lines)} rows are longer than {limits} and left out")
        several = sum(len(targets) > 1 for targets in found.values())
        notes = [
            (len(long), f"of {len(lines)} rows are longer than {limits} and left out, the first in line", long),
            (len(again), f"of {len(lines)} rows come again and are read once, the first in line", again),
            (several, f"of {len(found)} sources have several right answers, the first of which is trained on", None),
        ]
        for count, what, numbers in notes:
            if count:
                self._reading_notes.append(f"{file}: {count} {what}{f' {numbers[0]}' if numbers else ''}")
        return [Pair(source, tuple(targets)) for source, targets in found.items()]

    def _parse(self, line: str, where: str) -> tuple[Tokens, Tokens]:
        """Return the symbols of both sides of a line."""
        cells = line.split("\t")
        if len(cells) != 2:
            raise ValueError(
                f"{where}: expected a source, one tab and a target, got {len(cells) - 1} tabs: {line[:60]!r}"
            )
        source, target = cut(cells[0], self.source_tokens), cut(cells[1], self.target_tokens)
        if not source or not target:
            raise ValueError(f"{where}: the {'target' if source else 'source'} is empty")
        return source, target

    def baselines(self) -> dict[str, float]:
        """Return how often source and target are the same: 'baseline/copy/<part>/exact_match'."""
        self.setup()
        return self.score_baseline("copy", copy)
