"""Time the schedules: `python -m rnnlab_kernels.bench --out DIR [--part NAME ...] [--rounds 5] [--seconds 500]`.

Each row is written as soon as it is measured, and rows that are in DIR are left as they are, so that a run that was cut
short goes on where it stopped. First the three most telling rows of each part, then all others. An arm that fails the
gate has no numbers, and no row is written where the plain loop fails it; the exit status is then 1.
"""

import argparse
import faulthandler
import gc
import platform
import subprocess
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rnnlab_kernels import launch
from rnnlab_kernels.bench import clock, gate, report
from rnnlab_kernels.bench.arms import ARMS, GRAPHED, DeviceLost, Unavailable, build, untimed
from rnnlab_kernels.bench.part import PATIENCE, Part, write
from rnnlab_kernels.bench.peers import PEERS
from rnnlab_kernels.bench.work import DTYPES, Work, draw, parts, precision

FIRST = 3  # rows of each part that come before all others
LAST = ("short",)  # of which none do: torch.compile takes a minute for each
# Arms whose kernels are named: whose choice of an algorithm is not ours. Others run thousands of them.
NAMED = ("torch.nn", "sequence", *PEERS)


def about(device: str, rounds: int) -> dict[str, str]:
    """Return what the numbers depend on."""
    found = {"torch": torch.__version__, "triton": str(launch.triton_version()), "python": platform.python_version()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        query = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.max.sm", "--format=csv,noheader,nounits"]
        found |= {"device": properties.name, "cuDNN": str(torch.backends.cudnn.version())}
        seen = [value.strip() for value in _output(query).split("\n")[0].split(",")]
        found |= dict(zip(("driver", "clock MHz", "highest clock MHz"), seen, strict=False))
    else:
        found |= {"device": platform.processor() or platform.machine(), "threads": str(torch.get_num_threads())}
    # Of the kernels alone: results that are written or committed between two runs make no other numbers.
    package = Path(__file__).parents[1]
    git = ["git", "-C", str(package)]
    found["commit"] = _output([*git, "log", "-1", "--format=%h", "--", "."])
    found["changed files"] = str(len(_output([*git, "status", "--porcelain", "--", "."]).splitlines()))
    return {**found, "rounds": str(rounds)}


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def measure_row(work: Work, device: str, rounds: int, part: Part) -> dict[str, Any]:
    """Return the row of one work: times by pass and arm, what was left out and why, what was wrong, kernels by arm."""
    note, left_out = partial(part.note, work), part.without(work)
    verdicts = gate.check(work, device, left_out, note, part.seen)
    wrong = {arm: verdict.wrong for arm, verdict in verdicts.items() if verdict.wrong}
    left_out |= {arm: f"wrong in {what}" for arm, what in wrong.items()}
    row: dict[str, Any] = {"work": work._asdict(), "words": work.words(), "times": {}, "wrong": wrong}
    row["error"] = {arm: round(verdict.ratio, 3) for arm, verdict in verdicts.items() if not verdict.wrong}
    if "loop" in row["error"]:
        row |= _times(work, device, rounds, set(row["error"]), left_out, note)
    return {**row, "left out": left_out}


def _times(
    work: Work, device: str, rounds: int, sound: set[str], left_out: dict[str, str], note: Any
) -> dict[str, Any]:
    cuda, given = device == "cuda", draw(work)
    calls, kernels, first = {}, {}, {}
    with precision(work):
        for name in ARMS:
            if name in left_out:
                continue
            if reason := untimed(name, work, cuda):
                left_out[name] = reason
                continue
            note(name)
            own = given.to(DTYPES[work.dtype], device)
            try:
                run, first[name] = build(name, work, own)
            except Unavailable as unavailable:
                left_out[name] = str(unavailable)
                continue
            if name not in sound:
                left_out[name] = "could not be checked"
                continue
            calls[name] = clock.passes(run, own)
            if name in GRAPHED:
                del calls[name]["forward"]  # of a graph that keeps what backward needs: another work than the others'
        times = {}
        for kind in dict.fromkeys(kind for passes in calls.values() for kind in passes):
            own_calls = {name: passes[kind] for name, passes in calls.items() if kind in passes}
            failed: dict[str, str] = {}
            found = clock.measure(own_calls, rounds, cuda, GRAPHED, failed, note)
            times[kind] = {name: list(value) for name, value in found.items()}
            left_out |= {name: f"{kind}: {reason}" for name, reason in failed.items()}
        if cuda:
            for name in (name for name in NAMED if name in calls and name not in left_out):
                note(name)
                kernels[name] = clock.kernel_names(calls[name]["forward + backward"])
    return {"times": times, "first ms": first, "kernels": kernels}


def run_rows(queue: list[tuple[Part, Work]], device: str, rounds: int, deadline: float) -> bool:
    """Measure rows until time is over; return whether all arms were right."""
    right = True
    for k, (part, work) in enumerate(queue):
        if time.monotonic() > deadline:
            print(f"{part.name}: time is over, {len(queue) - k} rows to do; the same command goes on from here")
            break
        start = time.monotonic()
        try:
            row = measure_row(work, device, rounds, part)
        except DeviceLost:
            faulthandler.cancel_dump_traceback_later()
            raise  # the file beside the part's says which arm it was: the next run leaves it out there
        except Exception:  # of whatever kind: it must not cost the rows that are still to come
            part.done()
            print(f"{part.name}: {work.words()}: not measured", file=sys.stderr)
            traceback.print_exc()
            right = False
            if device == "cuda":
                torch.cuda.synchronize()  # ends the run where no further row could be measured
            continue
        except BaseException:
            part.done()
            raise
        part.done()
        for arm, what in row["wrong"].items():
            print(f"{part.name}: {work.words()}: {arm} is wrong in {what}", file=sys.stderr)
        right = right and not row["wrong"]
        if any(row["times"].values()):
            part.add(row)
            size = f"{work.B}x{work.T}x{work.H}"
            print(f"{part.name}: {work.words()} {size}, {time.monotonic() - start:.0f} s", flush=True)
        else:
            right = False
            reasons = sorted({f"{arm}: {why}" for arm, why in row["left out"].items()}) or [
                "the plain loop does not run"
            ]
            print(f"{part.name}: {work.words()}: nothing was timed: {'; '.join(reasons)}", file=sys.stderr)
        if device == "cuda":
            gc.collect()  # graphs hold their memory until they are collected
            torch.cuda.empty_cache()
    return right


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
    deadline, cuda, right = time.monotonic() + chosen.seconds, device == "cuda", True
    works = parts(cuda)
    chosen.out.mkdir(parents=True, exist_ok=True)
    found = about(device, chosen.rounds)
    queue: list[tuple[int, Part, Work]] = []
    for name in chosen.part or names:
        if name == "micro":
            continue
        part = Part(name, chosen.out, found, cuda)
        todo = [
            (int(k >= FIRST or name in LAST), part, work) for k, work in enumerate(works[name]) if not part.has(work)
        ]
        if part.different:
            part.refuse()
            right, todo = False, []
        elif part.data["rows"]:
            print(f"{name}: {len(part.data['rows'])} rows are there", flush=True)
        elif chosen.part and not works[name]:
            print(f"{name}: nothing to measure on a CPU")
        queue += todo
    queue.sort(key=lambda item: item[0])
    try:
        if "micro" in (chosen.part or names):
            right = _micro(chosen.out, found, cuda, bool(chosen.part)) and right
        right = run_rows([item[1:] for item in queue], device, chosen.rounds, deadline) and right
    except DeviceLost as error:
        print(f"{error}; the same command goes on without it", file=sys.stderr)
        right = False
    finally:
        (chosen.out / "README.md").write_text(report.markdown(chosen.out), encoding="utf-8")
    return 0 if right else 1


def _micro(folder: Path, found: dict[str, str], cuda: bool, asked: bool) -> bool:
    """Write micro.json unless it is there; return whether that went well."""
    file = folder / "micro.json"
    if file.exists() or not cuda:
        if asked:
            print(f"micro: {'it is there' if file.exists() else 'nothing to measure on a CPU'}")
        return True
    if (running := folder / "micro.running").exists():
        print(f"micro: a run ended in it, and it is left out: delete {running} to try again", file=sys.stderr)
        return False
    from rnnlab_kernels.bench import micro

    start = time.monotonic()
    write(running, {})
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    try:
        measured = micro.measure()
    finally:
        faulthandler.cancel_dump_traceback_later()
    running.unlink()
    write(file, {"about": found, **measured})
    for what, reason in measured["failed"].items():
        print(f"micro: {what}: {reason}", file=sys.stderr)
    stale = sum(measured.get("stale values", {}).values())
    if stale:
        print(f"micro: {stale} stale values behind a barrier: no sequence kernel is to be trusted", file=sys.stderr)
    print(f"micro: {time.monotonic() - start:.0f} s", flush=True)
    return not measured["failed"] and not stale


if __name__ == "__main__":
    sys.exit(main())
