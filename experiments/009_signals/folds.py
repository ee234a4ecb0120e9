"""Pool the test parts of cross-validation: `python experiments/009_signals/folds.py runs/009_signals/ecg5000`.

Prints a row a seed, of all runs PREFIX_foldK-seedS: accuracy and macro-F1 over the rows of all folds together, each
tested once by the network that did not train on it, and the least and largest accuracy of a fold. A mean of the
macro-F1 of folds would say something else: a class of two rows is in two folds at most. The nearest neighbour goes the
same way, among the 400 other heartbeats of each fold.
"""

import csv
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import yaml

from rnnlab.baselines import nearest_neighbour, score_classes
from rnnlab.data import SeriesFileData


def main(prefix: Path) -> None:
    seeds: dict[int, list[Path]] = defaultdict(list)
    for run_dir in sorted(prefix.parent.glob(f"{prefix.name}_fold*-seed*")):
        if (run_dir / "metrics.json").exists():
            seeds[int(re.search(r"-seed(\d+)$", run_dir.name)[1])].append(run_dir)
    print("model,seed,folds,rows,accuracy,macro_f1,least_fold,largest_fold")
    for seed, run_dirs in seeds.items():
        tables = [confusion(run_dir) for run_dir in run_dirs]
        shares = [json.loads((run_dir / "metrics.json").read_text())["test/accuracy"] for run_dir in run_dirs]
        names = sorted({name for table in tables for name in table})
        counts = np.array(
            [[sum(table.get(true, {}).get(given, 0) for table in tables) for given in names] for true in names]
        )
        pairs = [
            (true, given)
            for true, row in zip(names, counts, strict=True)
            for given, count in zip(names, row, strict=True)
            for _ in range(count)
        ]
        told(f"{prefix.name},{seed}", len(run_dirs), pairs, shares)
    first = next(iter(seeds.values()))
    neighbours, shares = [], []
    for run_dir in first:
        pairs = by_neighbour(run_dir)
        neighbours += pairs
        shares.append(sum(true == given for true, given in pairs) / len(pairs))
    told("nearest,", len(first), neighbours, shares)


def told(name: str, number: int, pairs: list[tuple[str, str]], shares: list[float]) -> None:
    scores = score_classes(*zip(*pairs, strict=True))
    print(
        f"{name},{number},{len(pairs)},{scores.accuracy:.4f},{scores.macro_f1:.4f},{min(shares):.4f},{max(shares):.4f}"
    )


def confusion(run_dir: Path) -> dict[str, dict[str, int]]:
    """Return how often which class (inner) was given for which (outer)."""
    with (run_dir / "confusion.csv").open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return {row.pop("true"): {name: int(count) for name, count in row.items()} for row in rows}


def by_neighbour(run_dir: Path) -> list[tuple[str, str]]:
    """Return the class of each row of a fold and that of its nearest neighbour among all others of the file."""
    settings = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))["data"]
    data = SeriesFileData(**{key: value for key, value in settings.items() if key != "_target_"})
    data.setup()
    known, asked = data.series["train"] + data.series["val"], data.series["test"]
    given = nearest_neighbour(
        [one.values for one in known], [one.label for one in known], [one.values for one in asked]
    )
    return list(zip([one.label for one in asked], given, strict=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
