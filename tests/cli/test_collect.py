"""experiments/collect.py, a script beside the package."""

import csv
import subprocess
import sys
from pathlib import Path

import yaml

SCRIPT = Path(__file__).parents[2] / "experiments" / "collect.py"


def test_runs_become_rows_also_without_a_commit(tmp_path):
    cell = {"_target_": "rnnlab.nn.GatedGRUCell", "_partial_": True, "hidden_size": 20, "reset_after": False}
    layers = {"a": {"_target_": "rnnlab.nn.LSTM"}, "b": {"_target_": "rnnlab.nn.Recurrent", "cell": cell}}
    for name, commit, is_dirty in (("a", "c0ffee", True), ("b", None, None)):
        (tmp_path / name).mkdir()
        provenance = {"git_commit": commit, "git_dirty": is_dirty}
        content = {"name": "addition/lstm", "seed": 0, "provenance": provenance, "rnn": layers[name]}
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(content))
        (tmp_path / name / "metrics.json").write_text('{"test/exact_match": 0.5}')
    result = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=True)
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["commit"] for row in rows] == ["c0ffee+changes", "unknown"]
    assert [row["cell"] for row in rows] == ["LSTM", "GatedGRUCell(reset_after=False)"]
