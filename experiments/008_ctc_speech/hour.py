"""Memory and time of `rnnlab predict` on Morse code of a minute, ten minutes and an hour.

python experiments/008_ctc_speech/hour.py hour.csv FOLDER RUN_DIR ...

FOLDER is for the sounds, 29 MB an hour. This process stays small: what a child inherits counts as its peak.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

MINUTES = (1, 10, 60)
WAYS = (
    ["beam=1"],
    ["beam=16"],
    ["beam=16", "times=true"],
    ["beam=1", "data.eval_max_frames=1000000"],
)  # the last as a whole


def main(table: Path, folder: Path, run_dirs: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for minutes in MINUTES:
        wave = folder / f"{minutes}.wav"
        if not wave.exists():
            subprocess.run([sys.executable, __file__, "--make", str(minutes), wave], check=True)
        for run_dir in run_dirs:
            for words in WAYS:
                rows.append({"run": Path(run_dir).name, "minutes": minutes, "way": " ".join(words)})
                rows[-1] |= _measure(run_dir, wave, folder / "answer.tsv", words, 60 * minutes)
                print(rows[-1], flush=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _measure(run_dir: str, wave: Path, answer: Path, words: list[str], seconds: int) -> dict[str, object]:
    command = [sys.executable, "-m", "rnnlab", "predict", f"run_dir={run_dir}", f"input={wave}", f"output={answer}"]
    start = time.perf_counter()
    process = subprocess.Popen([*command, *words])
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{command} ended with status {status}")
    scored = subprocess.run([sys.executable, __file__, "--score", answer, wave], check=True, capture_output=True)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return {
        "peak_mib": round(usage.ru_maxrss / 1024),
        "seconds": round(took, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "cpu_seconds_a_second": round(cpu_seconds / seconds, 5),
        "symbols": scored.stdout.split()[0].decode(),
        "cer": scored.stdout.split()[1].decode(),
    }


def make(minutes: int, path: Path) -> None:
    """Write messages of one tone and one hand, one after the other, and beside them what they say."""
    import numpy as np
    import soundfile

    from rnnlab.data.morse import SAMPLE_RATE, draw_text
    from rnnlab.data.morse_code import Channel, key, sound

    rng, texts, left = np.random.default_rng(0), [], minutes * 60 * SAMPLE_RATE
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        while left > 0:
            texts.append(draw_text(12, rng))
            wave = sound(key(texts[-1], 20.0, 0.08, rng), Channel(600.0, 12.0), SAMPLE_RATE, rng)
            file.write(wave)
            left -= len(wave)
    path.with_suffix(".txt").write_text(" ".join(texts), encoding="utf-8")


def score(answer: Path, wave: Path) -> None:
    """Print how many symbols were sent, and the error rate of what was read."""
    from rnnlab.baselines.answers import edit_distance

    right = wave.with_suffix(".txt").read_text(encoding="utf-8")
    found = answer.read_text(encoding="utf-8").split("\t", 1)[1].rstrip("\n")
    print(len(right), round(edit_distance(tuple(found), tuple(right)) / len(right), 5))


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make(int(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1] == "--score":
        score(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
