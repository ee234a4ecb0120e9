"""`rnnlab study NAME out=DIR`: a demonstration of the lectures, measured beside what theory says."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.options import check_folder, count, take
from rnnlab.studies import QUESTIONS

if TYPE_CHECKING:
    from rnnlab.studies.outcome import Outcome


def main(words: list[str]) -> int:
    """Run `rnnlab study [NAME out=DIR [seed=0]]` and return the exit code: 1 where theory and measurement disagree.

    Without a name, list the studies. With one, write DIR/NAME.png and DIR/NAME.csv, and print what was checked.

    Raises:
        UsageError: no such study or option, or DIR cannot be written.
    """
    if not words:
        width = max(map(len, QUESTIONS))
        print("\n".join(f"{name:<{width}}  {question}" for name, question in QUESTIONS.items()))
        return 0
    name, *rest = words
    if name not in QUESTIONS:
        raise UsageError(f"unknown study '{name}'{nearest(name, QUESTIONS)}; studies are {', '.join(QUESTIONS)}")
    options, others = take(rest, required=("out",), optional=("seed",))
    for key in (word.partition("=")[0] for word in others):
        raise UsageError(f"study has no option '{key}'{nearest(key, ('out', 'seed'))}; it takes out and seed")
    seed = count("seed", options.get("seed", "0"), 0, 2**32 - 1)
    folder = check_folder("out", options["out"], (f"{name}.png", f"{name}.csv"))
    outcome = study(name, seed)
    write(folder, name, outcome)
    print("\n".join(table(outcome)))
    print(f"verdict: {outcome.verdict}")
    return 0 if outcome.agrees else 1


def study(name: str, seed: int) -> Outcome:
    """Run a study by its name; the state of torch's generator is put back."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return import_module(f"rnnlab.studies.{name}").study()


def write(folder: Path, name: str, outcome: Outcome) -> None:
    """Write picture and numbers of an outcome into a folder, which is made if need be.

    Raises:
        UsageError: it cannot be written.
    """
    from rnnlab.callbacks.figures import write_png
    from rnnlab.callbacks.files import write_atomically

    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{name}.csv", lambda part: _write_csv(part, outcome.rows))
        write_png(folder / f"{name}.png", outcome.figure)
    except OSError as error:
        raise UsageError(f"out={folder} cannot be written: {error.strerror or error}") from error


def table(outcome: Outcome) -> list[str]:
    """Return lines with each claim, what was measured, and what theory says."""
    width = max(len(claim.text) for claim in outcome.claims)
    lines = [f"{'claim':<{width}}  {'measured':>11}     {'theory':>11}  {'allowed':>9}"]
    for claim in outcome.claims:
        allowed = f"{claim.allowed:>9.2g}" if claim.allowed else f"{'':>9}"
        numbers = f"{claim.measured:>11.6g}  {claim.relation:>2} {claim.theory:>11.6g}  {allowed}"
        lines.append(f"{claim.text:<{width}}  {numbers}  {'yes' if claim.holds else 'NO'}")
    return lines


def _write_csv(path: Path, rows: Sequence[Mapping[str, str | float]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
