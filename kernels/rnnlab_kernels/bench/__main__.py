"""Time the schedules: `python -m rnnlab_kernels.bench --out DIR [--part NAME ...] [--rounds 5] [--seconds 500]`.

Parts already in DIR are left as they are, so that a run that was cut short goes on where it stopped. An arm that fails
the gate is not timed: the part ends with exit status 1 and has no numbers.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from rnnlab_kernels import launch
from rnnlab_kernels.bench import clock, gate, report
from rnnlab_kernels.bench.arms import ARMS, Unavailable, build
from rnnlab_kernels.bench.work import DTYPES, Work, draw, parts


def about(device: str) -> dict[str, str]:
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
    return found


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def time_work(work: Work, device: str, rounds: int) -> dict[str, Any]:
    """Return the row of one work: times by pass and arm, what was left out and why, kernels by arm."""
    cuda, dtype, given = device == "cuda", DTYPES[work.dtype], draw(work)
    left_out, calls, kernels = {}, {}, {}
    torch.backends.cuda.matmul.allow_tf32 = work.tf32
    for name in ARMS:
        own = given.to(dtype, device)
        try:
            calls[name] = clock.passes(build(name, work, own), own)
        except Unavailable as reason:
            left_out[name] = str(reason)
    times = {}
    for kind in ("forward", "forward + backward"):
        times[kind] = clock.measure({name: passes[kind] for name, passes in calls.items()}, rounds, cuda)
    if cuda:
        kernels = {name: clock.kernel_names(passes["forward + backward"]) for name, passes in calls.items()}
    return {
        "work": work._asdict(),
        "words": work.words(),
        "times": {kind: {name: list(value) for name, value in arms.items()} for kind, arms in times.items()},
        "left out": left_out,
        "kernels": kernels,
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the parts asked for; 1 if an arm was wrong."""
    parser = argparse.ArgumentParser(prog="python -m rnnlab_kernels.bench", description=__doc__.splitlines()[0])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    works = parts(device == "cuda")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    names = ["micro", *works]
    parser.add_argument("--part", action="append", choices=names, help="one part; all unless given")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all arms")
    parser.add_argument("--seconds", type=float, default=500.0, help="start no part after so many seconds")
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    start, failed = time.monotonic(), False
    for part in chosen.part or names:
        file = chosen.out / f"{part}.json"
        if file.exists() or not works.get(part, device == "cuda"):
            continue
        if time.monotonic() - start > chosen.seconds:
            print(f"{part}: not started, {chosen.seconds:.0f} s are over; the same command goes on from here")
            break
        if part == "micro":
            from rnnlab_kernels.bench import micro

            file.write_text(json.dumps({"about": about(device), **micro.measure()}, indent=1), encoding="utf-8")
            continue
        faults = {(work.words(), arm): what for work in works[part] for arm, what in gate.faults(work, device).items()}
        wrong = {key: what for key, what in faults.items() if what}
        for (words, arm), what in wrong.items():
            print(f"{part}: {words}: {arm} is wrong in {what}", file=sys.stderr)
        failed = failed or bool(wrong)
        if wrong:
            continue
        rows = [time_work(work, device, chosen.rounds) for work in works[part]]
        file.write_text(json.dumps({"about": about(device), "rows": rows}, indent=1), encoding="utf-8")
        print(f"{part}: {len(rows)} rows, {len(faults)} checks, {time.monotonic() - start:.0f} s", flush=True)
    (chosen.out / "README.md").write_text(report.markdown(chosen.out), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
