"""Hold the results against what was asked for: `python experiments/004_kernels/verdict.py FOLDER`.

Reads the JSON files of a run of `python -m rnnlab_kernels.bench --out FOLDER`, prints a line for each bar and writes
them to verdict.md beside the files. A bar passes if all rows that it is about do, and says which one is the worst. What
has not been measured is not measured: a bar without rows says so, and so does one of which only some rows are there.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rnnlab_kernels.bench.arms import OURS
from rnnlab_kernels.bench.work import Work, parts

Row = dict[str, Any]
CUDNN, LOOP = "torch.nn", "loop"
BOTH, FORWARD, TRAINING = "forward + backward", "forward", "training step"
# Features that cost no more than half a plain LSTM: its cell or feature, and whether the recurrence alone is timed.
FEATURES = (("layer_norm_lstm", ""), ("peephole_lstm", ""), ("lstm", "zoneout"), ("lstm", "recurrent dropout"))
SMALL_HEADS_MS = {FORWARD: 1.99, BOTH: 8.6}  # of FlashRNN on an H100, by its README: 64 units x 12 heads


class Finding(NamedTuple):
    """What one row says about a bar: in words, and by how many times it is missed or passed (1 or less passes)."""

    words: str
    missed: float


class Bar(NamedTuple):
    """One line of the verdict.

    Attributes:
        title, target: in words.
        findings: of the rows that are there.
        missing: how many of the benchmark's rows are not there, or lack one of the two arms.
    """

    title: str
    target: str
    findings: list[Finding]
    missing: int

    def result(self) -> str:
        """Return "pass", "fail" or "not measured", and how complete that is."""
        if not self.findings:
            return "not measured"
        result = "pass" if all(finding.missed <= 1 for finding in self.findings) else "fail"
        return result + (
            f" ({self.missing} of {self.missing + len(self.findings)} not measured)" if self.missing else ""
        )


def title_of(work: dict[str, Any]) -> str:
    """Return a row's cell, dtype, features and sizes."""
    known = {name: value for name, value in work.items() if name in Work._fields}
    return f"{Work(**known).words()} {work['B']}x{work['T']}x{work['H']}"


def best(row: Row, kind: str) -> tuple[str, float] | None:
    """Return the fastest arm of ours and its milliseconds, None if there is none."""
    times = {arm: value[0] for arm, value in row["times"].get(kind, {}).items() if arm in OURS}
    return min(times.items(), key=lambda item: item[1]) if times else None


def in_window(work: dict[str, Any]) -> bool:
    """Return whether cuDNN has a kernel for it that keeps the weights on the chip, and an LSTM of 16 bits."""
    plain = work["cell"] == "lstm" and work["dtype"] == "fp16" and not work["ragged"]
    one = work["layers"] == 1 and not work["bidirectional"]
    sizes = 256 <= work["H"] <= 1024 and work["H"] % 128 == 0 and work["I"] % 128 == 0
    return plain and one and sizes and work["B"] % 8 == 0 and work["B"] <= 128


def is_plain(work: dict[str, Any]) -> bool:
    """Return whether torch.nn has the layer, whole."""
    return not (work["feature"] or work["recurrence"] or work["training"] or work.get("heads", 1) > 1) and (
        work["cell"] in ("lstm", "gru")
    )


def is_opening(work: dict[str, Any]) -> bool:
    """Return whether it is one of the layers that cuDNN has no persistent kernel for."""
    odd = work["bidirectional"] or work["B"] % 8 != 0 or work["H"] == 200
    return not work["ragged"] and not in_window(work) and (odd or work["cell"] == "gru" or work["dtype"] != "fp16")


def against(row: Row, other: str, kind: str, factor: float) -> Finding | None:
    """Return how our fastest arm compares with another one that it has to beat by a factor; None if one is missing."""
    own, theirs = best(row, kind), row["times"].get(kind, {}).get(other)
    if own is None or theirs is None:
        return None
    ratio = own[1] / theirs[0]
    words = f"{title_of(row['work'])}: {own[0]} {own[1]:.3g} ms, {other} {theirs[0]:.3g} ms, {1 / ratio:.2f}x as fast"
    return Finding(words, ratio * factor)


def memory(row: Row) -> Finding | None:
    """Return how much our fastest arm takes against cuDNN, of arms whose memory is known."""
    times = row["times"].get(BOTH, {})
    known = {arm: value for arm, value in times.items() if arm in OURS and value[3] is not None}
    theirs = times.get(CUDNN)
    if not known or theirs is None or theirs[3] is None:
        return None
    arm, value = min(known.items(), key=lambda item: item[1][0])
    words = f"{title_of(row['work'])}: {arm} {value[3]:.0f} MiB, {CUDNN} {theirs[3]:.0f} MiB"
    return Finding(words, value[3] / max(theirs[3], 1e-9))


def beside_plain(row: Row, rows: list[Row]) -> Finding | None:
    """Return what a feature costs against the plain cell of the same row on the same schedule, ours that is fastest."""
    own, work = best(row, BOTH), row["work"]
    plain = {**work, "cell": "lstm", "feature": ""}
    beside = next((other for other in rows if other["work"] == plain), None)
    if own is None or beside is None or own[0] not in beside["times"].get(BOTH, {}):
        return None
    plain_ms = beside["times"][BOTH][own[0]][0]
    words = f"{title_of(work)}: {own[0]} {own[1]:.3g} ms, plain {plain_ms:.3g} ms, {own[1] / plain_ms:.2f}x"
    return Finding(words, own[1] / plain_ms / 1.5)


def small_heads(row: Row, kind: str) -> Finding | None:
    """Return how a layer of many small heads compares with what is published."""
    own = best(row, kind)
    if own is None:
        return None
    limit = SMALL_HEADS_MS[kind]
    return Finding(f"{kind}: {own[0]} {own[1]:.3g} ms, {limit} published", own[1] / limit)


def errors(row: Row) -> Finding | None:
    """Return the largest error of our arms as a multiple of torch's."""
    own = {arm: value for arm, value in row["error"].items() if arm in OURS}
    wrong = {arm: what for arm, what in row["wrong"].items() if arm in OURS}
    title = title_of(row["work"])
    if wrong:
        return Finding(f"{title}: wrong: {', '.join(f'{arm} in {what}' for arm, what in wrong.items())}", float("inf"))
    if not own:
        return None
    arm, value = max(own.items(), key=lambda item: item[1])
    return Finding(f"{title}: {arm} {value:.2f}x", value / 2)


def bars(rows: list[Row], planned: list[dict[str, Any]]) -> list[Bar]:
    """Return the bars in their order.

    Args:
        rows: all that are measured.
        planned: works of all rows that the benchmark has, for what is missing.
    """

    def bar(
        title: str,
        target: str,
        about: Callable[[dict[str, Any]], bool],
        *measures: Callable[[Row], Finding | None],
    ) -> Bar:
        there = [row for row in rows if about(row["work"])]
        found = [finding for row in there for measure in measures if (finding := measure(row)) is not None]
        works = [row["work"] for row in there]
        absent = sum(about(work) and work not in works for work in planned)
        return Bar(title, target, found, (len(there) + absent) * len(measures) - len(found))

    def is_feature(work: dict[str, Any]) -> bool:
        return (work["cell"], work["feature"]) in FEATURES and not work["training"]

    return [
        bar(
            "LSTM fp16 inside cuDNN's persistent window",
            "forward + backward at most 1.0x cuDNN's time",
            lambda work: is_plain(work) and in_window(work),
            lambda row: against(row, CUDNN, BOTH, 1.0),
        ),
        bar(
            "LSTM bf16 and fp32, GRU, bidirectional, B not a multiple of 8, H = 200",
            "forward + backward at least 2x faster than cuDNN",
            lambda work: is_plain(work) and is_opening(work) and not work["tf32"],
            lambda row: against(row, CUDNN, BOTH, 2.0),
        ),
        bar(
            "ragged batch, lengths half of T on average",
            "forward + backward at least 5x faster than PackedSequence on cuDNN",
            lambda work: is_plain(work) and work["ragged"],
            lambda row: against(row, CUDNN, BOTH, 5.0),
        ),
        bar(
            "layer-norm LSTM, peepholes, zoneout, recurrent dropout: cost",
            "forward + backward at most 1.5x the plain LSTM of the same schedule",
            is_feature,
            lambda row: beside_plain(row, rows),
        ),
        bar(
            "layer-norm LSTM, peepholes, zoneout, recurrent dropout: gain",
            "forward + backward at least 20x faster than the Python loop",
            is_feature,
            lambda row: against(row, LOOP, BOTH, 20.0),
        ),
        bar(
            "peak memory of torch's layers",
            "forward + backward at most cuDNN's",
            is_plain,
            memory,
        ),
        bar(
            "64 x 12 heads, B = 16, T = 1024",
            "under 1.99 ms forward, 8.6 ms forward + backward",
            lambda work: work.get("heads", 1) == 12 and (work["B"], work["T"]) == (16, 1024),
            lambda row: small_heads(row, FORWARD),
            lambda row: small_heads(row, BOTH),
        ),
        bar(
            "character LSTM, a training step",
            "faster than the same model on torch.nn",
            lambda work: work["training"],
            lambda row: against(row, CUDNN, TRAINING, 1.0),
        ),
        bar(
            "every row, every arm of ours",
            "error at most 2x torch's in the same dtype",
            lambda work: True,
            errors,
        ),
    ]


def markdown(found: list[Bar], about: list[str]) -> str:
    """Return the table of all bars, and under it every row of those that fail."""
    lines = ["| bar | target | verdict | worst row |", "| --- | --- | --- | --- |"]
    for bar in found:
        worst = max(bar.findings, key=lambda finding: finding.missed).words if bar.findings else ""
        lines.append(f"| {bar.title} | {bar.target} | {bar.result()} | {worst} |")
    for bar in found:
        failing = [finding.words for finding in bar.findings if finding.missed > 1]
        if failing:
            lines += ["", f"**{bar.title}: {bar.target}.** Missed by {len(failing)} of {len(bar.findings)}:", ""]
            lines += [f"- {words}" for words in failing]
    return "\n".join([*(about or ["Nothing is measured."]), "", *lines, ""])


def main(folder: Path) -> str:
    """Return the verdict on the results in a folder."""
    files = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    files = [part for part in files if "rows" in part]
    rows = [row for part in files for row in part["rows"]]
    # The bars are about a GPU: results of a CPU pass none of them.
    of_cpu = sorted({part["about"]["device"] for part in files if "cuDNN" not in part["about"]})
    about = sorted({", ".join(f"{key} {value}" for key, value in part["about"].items()) + "." for part in files})
    if of_cpu:
        rows, about = [], [*about, "", f"These are times of a CPU ({', '.join(of_cpu)}): the bars are those of a GPU."]
    planned = [work._asdict() for works in parts(True).values() for work in works]
    return markdown(bars(rows, planned), about)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if not Path(sys.argv[1]).is_dir():
        sys.exit(f"{sys.argv[1]} is not there: python -m rnnlab_kernels.bench --out {sys.argv[1]}")
    text = main(Path(sys.argv[1]))
    (Path(sys.argv[1]) / "verdict.md").write_text(text, encoding="utf-8")
    print(text, end="")
