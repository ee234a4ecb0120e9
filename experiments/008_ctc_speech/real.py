"""Strings of digits that people spoke, as lists that training of ctc/speech takes by `data.recordings`.

python experiments/008_ctc_speech/real.py LISTS FOLDER

FOLDER is that of spoken.py. LISTS/person.tsv has 300 strings of those ten recordings, LISTS/speakers.tsv as many of the
Free Spoken Digit Dataset's training recordings; all are played up to 10 percent faster or slower, in noise.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile

from rnnlab.data.noise import played
from rnnlab.data.sound_files import read_sound
from rnnlab.data.spoken_digits import SAMPLE_RATE, Digit, join_digits, read_digits

NUM_STRINGS = 300


def main(lists: Path, folder: Path) -> None:
    person = [Digit(value, "person", 0, read_sound(folder / f"{value}.wav", SAMPLE_RATE).wave) for value in range(10)]
    speakers = [digit for digit in read_digits("fsdd/recordings.tar.gz") if digit.index >= 8]  # neither test nor val
    for name, digits in (("person", person), ("speakers", speakers)):
        rng = np.random.default_rng(1)  # spoken.py, which measures, draws by 0
        (lists / name).mkdir(parents=True, exist_ok=True)
        lines = []
        for number in range(NUM_STRINGS):
            speaker = digits[rng.integers(len(digits))].speaker
            own = [digit for digit in digits if digit.speaker == speaker]
            chosen = [own[index] for index in rng.integers(len(own), size=rng.integers(1, 8))]
            factors = np.exp(rng.uniform(-0.1, 0.1, size=len(chosen)))
            waves = [played(digit.wave, factor) for digit, factor in zip(chosen, factors, strict=True)]
            moved = [digit._replace(wave=wave) for digit, wave in zip(chosen, waves, strict=True)]
            string = join_digits(moved, rng.uniform(10.0, 30.0), rng)
            soundfile.write(lists / name / f"{number}.wav", string.wave, SAMPLE_RATE)
            lines.append(f"{name}/{number}.wav\t{''.join(map(str, string.values))}\n")
        (lists / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
