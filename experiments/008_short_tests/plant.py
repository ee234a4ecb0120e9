"""Plant faults, one at a time, and see whether the short set of tests turns red: `python .../plant.py [NAME...]`.

A fault is a line of faults.yaml: file, what stands there (once), what is put in its place, and the tests that are asked
first. They are part of the short set, so that red among them is red; where they stay green, all of it is asked.
Results go to results.csv beside this file, a row each.
"""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ON_TRITON = ["tests/kernels", "tests/nn/test_launch_backends.py", "tests/nn/test_backends.py"]  # as in the Makefile
COLUMNS = ("fault", "file", "red", "by", "seconds", "asked")


def plant(tree: Path, fault: dict[str, str]) -> None:
    path = tree / fault["file"]
    text = path.read_text(encoding="utf-8")
    if text.count(fault["old"]) != 1:
        raise SystemExit(f"{fault['name']}: stands {text.count(fault['old'])} times in {fault['file']}, not once")
    path.write_text(text.replace(fault["old"], fault["new"]), encoding="utf-8")


def first_failure(tree: Path, tests: list[str]) -> str:
    """Return the first test of the short set that fails, or an empty string."""
    paths = os.pathsep.join([str(tree), str(tree / "kernels")])
    base = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    for expression, interpret in (("not interpret", "0"), ("interpret", "1")):
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--short", "-n", "2", "-m", expression, *tests]
        if interpret == "1":
            command += [] if tests else ON_TRITON
        result = subprocess.run(
            command, cwd=tree, env={**base, "TRITON_INTERPRET": interpret}, capture_output=True, text=True, check=False
        )
        for line in result.stdout.splitlines():
            if line.startswith(("FAILED ", "ERROR ")):
                return line.split(" ")[1].partition("[")[0]
        if result.returncode not in (0, 5):  # 5: nothing was chosen
            return f"pytest ended with {result.returncode}"
    return ""


def main(names: list[str]) -> None:
    faults = yaml.safe_load((HERE / "faults.yaml").read_text(encoding="utf-8"))
    rows = []
    for fault in faults:
        if names and fault["name"] not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "*_cache"))
            plant(tree, fault)
            start, asked = time.monotonic(), fault["first"]
            by = first_failure(tree, asked.split())
            if not by:
                asked, by = "all", first_failure(tree, [])
            seconds = round(time.monotonic() - start)
        rows.append((fault["name"], fault["file"], "yes" if by else "NO", by, seconds, asked))
        print(*rows[-1], sep="  ", flush=True)
    if not names:
        with (HERE / "results.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main(sys.argv[1:])
