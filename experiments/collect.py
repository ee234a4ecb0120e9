"""Gather finished runs into one table: `python experiments/collect.py runs/001_addition > results.csv`.

One row a run: its directory, experiment, cell, seed and commit, the final numbers of metrics.json. Runs that have not
finished are left out.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import yaml


def main(folder: Path) -> None:
    rows = []
    for metrics_file in sorted(folder.glob("*/metrics.json")):
        config = yaml.safe_load((metrics_file.parent / "config.yaml").read_text(encoding="utf-8"))
        provenance = config["provenance"]
        # None where the code was installed without its clone.
        commit = (provenance["git_commit"] or "unknown") + ("+changes" if provenance["git_dirty"] else "")
        names = {
            "run": metrics_file.parent.name,
            "experiment": config["name"],
            "cell": cell_of(config),
            "seed": config["seed"],
            "commit": commit,
        }
        rows.append({**names, **json.loads(metrics_file.read_text(encoding="utf-8"))})
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def cell_of(config: dict[str, Any]) -> str:
    """Return the cell of a run on `rnnlab.nn.Recurrent` with its options, or the layer's class."""
    rnn = config.get("rnn") or {}
    cell = rnn.get("cell", {"_target_": rnn.get("_target_", "")})
    options = ", ".join(f"{k}={v}" for k, v in cell.items() if k not in ("_target_", "_partial_", "hidden_size"))
    name = cell["_target_"].rpartition(".")[2]
    return f"{name}({options})" if options else name


if __name__ == "__main__":
    main(Path(sys.argv[1]))
