"""Error of characters by signal-to-noise ratio, of runs of ctc/morse and of the classical decoder, and their speed.

python experiments/008_ctc_speech/by_snr.py by_snr.csv by_snr.png runs/008_ctc_speech/morse-seed*
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from rnnlab.baselines import decode_morse, score_answers
from rnnlab.cli.build import load
from rnnlab.data import MorseData
from rnnlab.data.morse import SAMPLE_RATE
from rnnlab.data.morse_code import CODE
from rnnlab.data.sounds import Recording, SoundRows

RATIOS = (-6, -3, 0, 3, 6, 10, 15, 20)  # dB, in 500 Hz
NUM_SOUNDS = 300
BEAMS = (1, 16)


def main(table: Path, picture: Path, run_dirs: list[Path]) -> None:
    torch.set_num_threads(1)
    runs = {run_dir.name: load(run_dir, "best", [])[:2] for run_dir in run_dirs}
    rows: list[dict[str, Any]] = []
    for ratio in RATIOS:
        sounds = MorseData(num_test=NUM_SOUNDS, min_snr=ratio, max_snr=ratio, corpus_seed=1)
        texts, waves = zip(*sounds.waves("test"), strict=True)
        seconds = sum(map(len, waves)) / SAMPLE_RATE
        start = time.perf_counter()
        answers = [decode_morse(wave, SAMPLE_RATE, CODE) for wave in waves]
        rows.append(_row("classical", ratio, texts, answers, (time.perf_counter() - start) / seconds))
        for name, (data, task) in runs.items():
            for beam in BEAMS:
                start = time.perf_counter()
                answers = _transcribe(data, task, waves, beam)
                took = (time.perf_counter() - start) / seconds
                rows.append(
                    _row(f"{name}, {'best path' if beam == 1 else f'beam {beam}'}", ratio, texts, answers, took)
                )
        print(
            *(f"{row['decoder']} {row['snr_db']} dB: {row['cer']}" for row in rows if row["snr_db"] == ratio), sep="; "
        )
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    _draw(rows).savefig(picture, dpi=120)


def _transcribe(data: Any, task: Any, waves: Any, beam: int) -> list[str]:
    """Return texts as `rnnlab predict` makes them, one sound at a time."""
    found = []
    with torch.inference_mode():
        for wave in waves:
            batch = SoundRows([Recording(data.features_of(torch.from_numpy(wave)), [])])[0]
            found.append(data.text(task.answers(batch, beam, 1)[0][0].ids))
    return found


def _row(decoder: str, ratio: int, texts: Any, answers: list[str], factor: float) -> dict[str, Any]:
    error = score_answers(answers, [[text] for text in texts]).symbol_error_rate
    return {"decoder": decoder, "snr_db": ratio, "cer": round(error, 5), "real_time_factor": round(factor, 5)}


def _draw(rows: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for decoder in dict.fromkeys(row["decoder"] for row in rows):
        points = [(row["snr_db"], max(row["cer"], 1e-4)) for row in rows if row["decoder"] == decoder]
        style = "k--" if decoder == "classical" else "-"
        axes.plot(*zip(*points, strict=True), style, marker="o", markersize=4, label=decoder)
    axes.set(xlabel="signal-to-noise ratio in 500 Hz (dB)", ylabel="character error rate", yscale="log")
    axes.set_title(f"Morse code, {NUM_SOUNDS} sounds a point; what is below 0.0001 stands there", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
