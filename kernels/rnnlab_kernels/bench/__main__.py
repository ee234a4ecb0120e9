"""Time the schedules: `python -m rnnlab_kernels.bench --out DIR [--part NAME ...] [--rounds 5] [--seconds 500]`.

Each row is written as soon as it is measured, and rows that are in DIR are left as they are, so that a run that was cut
short goes on where it stopped. A row of which an arm fails the gate has no numbers; the exit status is then 1.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from rnnlab_kernels import launch
from rnnlab_kernels.bench import clock, gate, report
from rnnlab_kernels.bench.arms import ARMS, GRAPHED, Unavailable, build
from rnnlab_kernels.bench.work import DTYPES, Work, draw, parts, precision

# Numbers of one file are comparable: these are the same for all of them.
FIXED = ("device", "torch", "triton", "cuDNN", "threads", "commit", "changed files", "rounds")


def about(device: str, rounds: int) -> dict[str, str]:
    """Return what the numbers depend on."""
    found = {"torch": torch.__version__, "triton": str(launch.triton_version()), "python": platform.python_version()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        query = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm", "--format=csv,noheader"]
        found |= {"device": properties.name, "cuDNN": str(torch.backends.cudnn.version())}
        found["driver, clock"] = _output(query)
    else:
        found |= {"device": platform.processor() or platform.machine(), "threads": str(torch.get_num_threads())}
    here = Path(__file__).parent
    found["commit"] = _output(["git", "-C", str(here), "rev-parse", "--short", "HEAD"])
    found["changed files"] = str(len(_output(["git", "-C", str(here), "status", "--porcelain"]).splitlines()))
    return {**found, "rounds": str(rounds)}


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def time_work(work: Work, device: str, rounds: int) -> dict[str, Any]:
    """Return the row of one work: times by pass and arm, what was left out and why, kernels by arm."""
    cuda, given = device == "cuda", draw(work)
    left_out, calls, kernels, first = {}, {}, {}, {}
    with precision(work):
        for name in ARMS:
            own = given.to(DTYPES[work.dtype], device)
            try:
                run, first[name] = build(name, work, own)
            except Unavailable as reason:
                left_out[name] = str(reason)
                continue
            calls[name] = clock.passes(run, own)
            if name in GRAPHED:
                del calls[name]["forward"]  # of a graph that keeps what backward needs: another work than the others'
        times = {}
        for kind in ("forward", "forward + backward"):
            own_calls = {name: passes[kind] for name, passes in calls.items() if kind in passes}
            times[kind] = clock.measure(own_calls, rounds, cuda, without_peak=GRAPHED)
        if cuda:
            kernels = {name: clock.kernel_names(passes["forward + backward"]) for name, passes in calls.items()}
    return {
        "work": work._asdict(),
        "words": work.words(),
        "times": {kind: {name: list(value) for name, value in arms.items()} for kind, arms in times.items()},
        "first ms": first,
        "left out": left_out,
        "kernels": kernels,
    }


def _write(file: Path, part: dict[str, Any]) -> None:
    """Write a part so that a kill leaves the old file or the new one."""
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(part, indent=1), encoding="utf-8")
    os.replace(beside, file)


def run_part(name: str, works: list[Work], device: str, rounds: int, deadline: float, file: Path) -> tuple[bool, bool]:
    """Measure the rows of a part that its file lacks; return whether all was right, and whether time was left."""
    part: dict[str, Any] = {"about": about(device, rounds), "rows": []}
    if file.exists():
        old = json.loads(file.read_text(encoding="utf-8"))
        differing = [key for key in FIXED if old["about"].get(key) != part["about"].get(key)]
        if differing:
            changes = ", ".join(
                f"{key} {old['about'].get(key)} then, {part['about'].get(key)} now" for key in differing
            )
            print(f"{name}: its numbers are of another kind ({changes}): delete {file}, or --out", file=sys.stderr)
            return False, True
        part = old
    there = [row["work"] for row in part["rows"]]
    todo = [work for work in works if work._asdict() not in there]
    if there:
        print(f"{name}: {len(there)} rows are there", flush=True)
    right = True
    for work in todo:
        if time.monotonic() > deadline:
            print(f"{name}: time is over, {len(todo)} rows to do; the same command goes on from here")
            return right, False
        verdicts = gate.check(work, device)
        wrong = {arm: verdict.wrong for arm, verdict in verdicts.items() if verdict.wrong}
        for arm, what in wrong.items():
            print(f"{name}: {work.words()}: {arm} is wrong in {what}", file=sys.stderr)
        right = right and not wrong
        if not wrong:
            start = time.monotonic()
            errors = {arm: round(verdict.ratio, 3) for arm, verdict in verdicts.items()}
            part["rows"].append({**time_work(work, device, rounds), "error": errors})
            _write(file, part)
            print(f"{name}: {work.words()} {work.B}x{work.T}x{work.H}, {time.monotonic() - start:.0f} s", flush=True)
    return right, True


def main(arguments: list[str] | None = None) -> int:
    """Run the parts asked for; 1 if an arm was wrong or a file holds other numbers."""
    parser = argparse.ArgumentParser(prog="python -m rnnlab_kernels.bench", description=__doc__.splitlines()[0])
    names = ["micro", *parts(True)]
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--part", action="append", choices=names, help="one part; all unless given")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="unless given: cuda where there is one")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all arms, at least 3")
    parser.add_argument("--seconds", type=float, default=500.0, help="start no row after so many seconds")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 3:
        parser.error("--rounds: percentiles need at least 3")
    device = chosen.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA GPU here: nothing is measured; --device cpu times the schedules of a CPU")
    works = parts(device == "cuda")
    chosen.out.mkdir(parents=True, exist_ok=True)
    deadline, right = time.monotonic() + chosen.seconds, True
    for name in chosen.part or names:
        file = chosen.out / f"{name}.json"
        if name == "micro" and device == "cuda" and not file.exists():
            from rnnlab_kernels.bench import micro

            _write(file, {"about": about(device, 1), **micro.measure()})
        elif name != "micro" and works[name]:
            part_right, has_time = run_part(name, works[name], device, chosen.rounds, deadline, file)
            right = right and part_right
            if not has_time:
                break
        elif chosen.part:
            print(f"{name}: {'it is there' if file.exists() else 'nothing to measure on a CPU'}")
    (chosen.out / "README.md").write_text(report.markdown(chosen.out), encoding="utf-8")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
