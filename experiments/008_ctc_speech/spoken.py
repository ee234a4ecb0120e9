"""Label error of runs of ctc/speech by who speaks and how much, where their spikes are, and what they make of a person.

python experiments/008_ctc_speech/spoken.py spoken.csv [FOLDER] runs/008_ctc_speech/speech-seed*

FOLDER has recordings 0.wav to 9.wav, as asterisk-core-sounds-en-wav of Debian brings them to
/usr/share/asterisk/sounds/en_US_f_Allison/digits; strings of 3 to 7 of them are put together as those of ctc/digits.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnnlab.baselines import score_answers
from rnnlab.cli.build import load
from rnnlab.data import SpokenData
from rnnlab.data.espeak import SAMPLE_RATE, Speaker
from rnnlab.data.sound_files import read_sound
from rnnlab.data.sounds import Recording, SoundRows
from rnnlab.data.spoken_digits import SAMPLE_RATE as TELEPHONE
from rnnlab.data.spoken_digits import Digit, join_digits

CONDITIONS: dict[str, dict[str, Any]] = {
    "unheard timbres": {},
    "unheard timbres and accent": {"test_accents": ["en-029"]},
    "8 to 20 digits": {"min_digits": 8, "max_digits": 20},
}
NUM_SOUNDS = 500
Sound = tuple[str, np.ndarray, np.ndarray]  # text, wave, borders of the digits


def main(table: Path, folder: Path | None, run_dirs: list[Path]) -> None:
    sounds = {name: list(synthetic(settings)) for name, settings in CONDITIONS.items()}
    if folder is not None:
        sounds["a person"] = list(real(folder))
    rows = []
    for run_dir in run_dirs:
        data, task, _ = load(run_dir, "best", [])
        rows += [{"run": run_dir.name, "sounds": name, **measured(data, task, some)} for name, some in sounds.items()]
    for row in rows:
        print(*row.values())
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def synthetic(settings: dict[str, Any]) -> Iterator[Sound]:
    """Yield strings of digits in voices of test."""
    with Speaker() as speaker:
        for heard in SpokenData(num_test=NUM_SOUNDS, corpus_seed=1, **settings).sounds("test", speaker):
            yield heard.text, heard.wave, np.array([(word.start, word.end) for word in heard.words])


def real(folder: Path) -> Iterator[Sound]:
    """Yield strings of 3 to 7 recorded digits."""
    import soxr

    digits = [Digit(value, "", 0, read_sound(folder / f"{value}.wav", TELEPHONE).wave) for value in range(10)]
    rng = np.random.default_rng(0)
    for _ in range(100):
        chosen = [digits[value] for value in rng.integers(10, size=rng.integers(3, 8))]
        string = join_digits(chosen, rng.uniform(10.0, 30.0), rng)
        yield "".join(map(str, string.values)), soxr.resample(string.wave, TELEPHONE, SAMPLE_RATE), string.borders


def measured(data: Any, task: Any, sounds: Iterable[Sound]) -> dict[str, float]:
    """Return label error and right strings, of best path and beam, and how many spikes of right ones are in their word.

    A step of slack on each side counts as inside.
    """
    step = data.frame_seconds * task.model.stack
    texts, greedy, beam, inside = [], [], [], []
    with torch.inference_mode():
        for text, wave, borders in sounds:
            batch = SoundRows([Recording(data.features_of(torch.from_numpy(wave)), [])])[0]
            best = task.answers(batch, 1, 1)[0][0]
            texts.append([text])
            greedy.append(data.text(best.ids))
            beam.append(data.text(task.answers(batch, 16, 1)[0][0].ids))
            if greedy[-1] == text:
                for frame, (start, end) in zip(best.frames, borders, strict=True):
                    inside.append(start - step <= (frame + 0.5) * step <= end + step)
    scores = {"": score_answers(greedy, texts), "_beam": score_answers(beam, texts)}
    found = {f"ler{name}": round(score.symbol_error_rate, 5) for name, score in scores.items()}
    right = {f"strings_right{name}": round(score.exact_match, 4) for name, score in scores.items()}
    return found | right | {"spikes_inside": round(float(np.mean(inside)), 4) if inside else float("nan")}


if __name__ == "__main__":
    places = [Path(name) for name in sys.argv[2:]]
    has_folder = bool(places) and (places[0] / "0.wav").is_file()
    main(Path(sys.argv[1]), places[0] if has_folder else None, places[has_folder:])
