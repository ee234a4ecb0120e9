"""The user's own sounds: files and what is said in them."""

from __future__ import annotations

from pathlib import Path

import torch

from rnnlab.data.checks import check_encoding, check_integer
from rnnlab.data.features import LogBands
from rnnlab.data.files import read_text
from rnnlab.data.sound_files import read_sound
from rnnlab.data.sounds import Recording, SoundData
from rnnlab.data.splits import part_of


class TranscribedData(SoundData):
    """Sound files and their texts, a line "file<TAB>text" each; files are looked for beside the list that names them.

    Symbols are the characters of the texts of training; a text of another part with another one is refused.

    Args:
        train: the list: as given, or below the folder that RNNLAB_DATA names.
        val: likewise; None: five percent of the files of `train`, by a hash of their names.
        test: likewise; None: five percent of them, unless `val` is given: then there is no test part.
        sample_rate: in Hz, to which all sounds are brought.
        num_bands: mel bands of a frame.
        low, high: of the bands, in Hz; None for half of the sample rate.
        ascending: epochs from the shortest sounds to the longest, before their order is drawn.
        max_frames, eval_max_frames, seed: see `SoundData`; frames are 10 ms.
        encoding: of the lists, as Python names it.

    Raises:
        ValueError: an argument is out of range; in `setup`: a list or a sound cannot be read, with file and line.
    """

    def __init__(
        self,
        train: str | Path,
        val: str | Path | None = None,
        test: str | Path | None = None,
        sample_rate: int = 16_000,
        num_bands: int = 40,
        low: float = 60.0,
        high: float | None = None,
        ascending: int = 1,
        max_frames: int = 8_000,
        eval_max_frames: int = 32_000,
        seed: int = 0,
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(None, LogBands(sample_rate, num_bands, low, high), True, max_frames, eval_max_frames, seed)
        if train is None:
            raise ValueError("train must name a list of sounds and their texts, got None")
        paths = {"train": train, "val": val, "test": test}
        self.paths = {part: path for part, path in paths.items() if path is not None}
        self.ascending = check_integer("ascending", ascending, 0)
        self.encoding = check_encoding(encoding)

    def read_parts(self) -> dict[str, list[Recording]]:
        lists = {part: read_list(path, self.encoding) for part, path in self.paths.items()}
        if "val" not in lists:
            lists = self._split(lists["train"]) | {part: lists[part] for part in lists if part != "train"}
        known = {file.resolve() for file, _, _ in lists["train"]}
        for part in [part for part in lists if part != "train"]:
            count = sum(file.resolve() in known for file, _, _ in lists[part])
            if count:
                self._reading_notes.append(
                    f"{part}: {count} of {len(lists[part])} sounds are in train too; they do not show what is learnt "
                    "of new ones"
                )
        if not self._state:
            self.know_symbols(sorted({letter for _, text, _ in lists["train"] for letter in text}))
        return {part: recordings_of(self, lines) for part, lines in lists.items()}

    def _split(self, lines: list[tuple[Path, str, str]]) -> dict[str, list[tuple[Path, str, str]]]:
        parts: dict[str, list[tuple[Path, str, str]]] = {"train": [], "val": [], "test": []}
        for line in lines:
            parts[part_of(line[0].name, 5, 5)].append(line)
        sizes = {part: len(found) for part, found in parts.items()}
        told = ", ".join(f"{size} {part}" for part, size in sizes.items())
        if not sizes["train"] or not sizes["val"]:
            raise ValueError(f"{self.paths['train']}: is split by a hash of the files: {told}; give val=FILE")
        self._reading_notes.append(f"{self.paths['train']}: is split by a hash of the files: {told}")
        return {part: found for part, found in parts.items() if found}


def recordings_of(data: SoundData, lines: list[tuple[Path, str, str]]) -> list[Recording]:
    """Return the sounds and texts of lines as `read_list` has them, for a data module, which notes what was done.

    Raises:
        ValueError: a text has a symbol that the data module does not know, or a sound cannot be read, or is too short.
    """
    recordings = []
    for file, text, place in lines:
        ids = data.encode(text, place)
        sound = read_sound(file, data.bands.sample_rate)
        data._reading_notes += sound.notes
        features = data.features_of(torch.from_numpy(sound.wave))
        if not len(features):
            raise ValueError(f"{file}: has {len(sound.wave)} samples, and a frame needs {data.bands.window}")
        recordings.append(Recording(features, ids))
    return recordings


def read_list(path: str | Path, encoding: str) -> list[tuple[Path, str, str]]:
    """Return file, text and place of each line "file<TAB>text".

    Raises:
        ValueError: the list cannot be read, or a line is broken, names no file, or one again: with its place.
    """
    file, text = read_text(path, "list of sounds", encoding)
    lines = text.rstrip().split("\n")
    if lines == [""]:
        raise ValueError(f"{file}: is empty, lines of a file, a tab and a text are expected")
    found: list[tuple[Path, str, str]] = []
    first: dict[Path, int] = {}
    for number, line in enumerate(lines, start=1):
        name, *texts = line.split("\t")
        if len(texts) != 1 or not name.strip() or not texts[0].strip():
            raise ValueError(f"{file}:{number}: expected a file, one tab and a text, got {line[:60]!r}")
        sound = file.parent / name.strip()
        if not sound.is_file():
            raise ValueError(f"{file}:{number}: there is no file {sound}")
        if first.setdefault(sound.resolve(), number) != number:
            raise ValueError(f"{file}:{number}: {name.strip()} stands in line {first[sound.resolve()]} already")
        found.append((sound, texts[0].strip(), f"{file}:{number}"))
    return found
