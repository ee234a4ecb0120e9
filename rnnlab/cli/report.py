"""`rnnlab report`: sweeps and other runs as one table, seeds as mean and deviation, and a picture of it."""

from __future__ import annotations

import csv
import glob
import io
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.options import check_output, results_dir, take
from rnnlab.cli.records import CONFIG, Record, as_row, find_records
from rnnlab.cli.summary import Row, differing_keys, summarise
from rnnlab.sweeps.ledger import LEDGER

if TYPE_CHECKING:
    from rnnlab.analysis.spread import Spread

FORMATS = ("table", "csv", "md")
OPTIONS = ("by", "metric", "format", "rows", "output", "picture")
_MOST_TOLD, _MOST_PANELS = 10, 6
_TIME = "time/fit_s"


def main(words: list[str]) -> int:
    """Run `rnnlab report DIR... [by=KEYS] [metric=NAME] [format=table|csv|md] [output=FILE]` and return the exit code.

    A DIR is a run, a sweep, or a folder with such at any depth, or a pattern of them. One row a configuration: mean,
    standard deviation (n - 1), minimum, maximum and number of runs, mean time of training, and how many jobs failed or
    have not come to an end. Configurations are told apart by the keys that the command lines set differently, or by
    those of `by`. Without `metric`, each has the first of the test part that its data have a baseline of.

    `rows=runs` writes one row for each finished run in its place, as the tables of experiments/ are.

    The picture is report.png in DIR, beside `output`, or where `picture=FILE.png` says; `picture=none` draws none.
    """
    places = [word for word in words if Path(word).exists() or "=" not in word or glob.glob(word)]
    options, rest = take([word for word in words if word not in places], required=(), optional=OPTIONS)
    for key in (word.partition("=")[0] for word in rest):
        raise UsageError(f"report has no option '{key}'{nearest(key, OPTIONS)}; it takes {', '.join(OPTIONS)}")
    if not places:
        raise UsageError("missing DIR: a run, a sweep, or a folder with runs in it")
    runs = _one_of("rows", options.get("rows", "configurations"), ("configurations", "runs")) == "runs"
    form = _one_of("format", options.get("format", "csv" if runs else "table"), FORMATS)
    if runs and (surplus := [key for key in ("by", "metric", "picture") if key in options]):
        raise UsageError(f"rows=runs goes without {' and '.join(surplus)}: it is one row a run with all its numbers")
    output = None if options.get("output", "-") == "-" else check_output(options["output"])
    records = find_records(places)
    if output is not None:
        _check_apart(output, records)
    if runs:
        told = _told(records)
        table = [as_row(record) for record in records if record.state == "finished"]
        if not table:
            raise UsageError(f"no run is finished: {told[0]}")
        _write(_formatted(table, form), output)
    else:
        told = _summary(records, places, options, form, output)
    stream = sys.stdout if form == "table" and output is None else sys.stderr
    print("\n".join(told), file=stream)
    return 0


def _summary(
    records: list[Record], places: Sequence[str], options: Mapping[str, str], form: str, output: Path | None
) -> list[str]:
    """Write the table and the picture, and return what else is to be said."""
    by = options["by"].split(",") if "by" in options else differing_keys(records)
    rows = summarise(records, by, options.get("metric"))
    picture = _picture_path(options.get("picture"), places, output)
    _write(_formatted([_cells(row, by) for row in rows], form), output)
    told = _told(records)
    lacking = sum(row.states["finished"] - len(row.values) for row in rows)
    if lacking:
        told.append(f"{lacking} finished runs do not have the metric of their row")
    panels = [_panel(metric, rows, records) for metric in dict.fromkeys(row.metric for row in rows if row.metric)]
    if panels and picture is not None:
        from rnnlab.analysis.spread import spread
        from rnnlab.callbacks.figures import write_png

        picture.parent.mkdir(exist_ok=True)
        write_png(picture, spread(panels[:_MOST_PANELS], ", ".join(by)))
        told.append(str(picture))
    return told


def _panel(metric: str, rows: Iterable[Row], records: Iterable[Record]) -> Spread:
    """Return what the picture shows of the rows of one metric."""
    from rnnlab.analysis.spread import Spread

    mine = [row for row in rows if row.metric == metric]
    names = [" ".join(filter(None, row.settings)) for row in mine]
    return Spread(metric, names, [row.values for row in mine], _shared(records, metric))


def _cells(row: Row, by: Sequence[str]) -> dict[str, Any]:
    """Return a row as its cells by column."""
    states = row.states
    counts = {
        "failed": states["failed"],
        "unfinished": sum(states.values()) - states["finished"] - states["failed"] - states["pruned"],
    }
    numbers = {"metric": row.metric or "", **row.statistics, _TIME: row.seconds}
    return {**dict(zip(by, row.settings, strict=True)), **numbers, **counts}


def _formatted(rows: Sequence[Mapping[str, Any]], form: str) -> str:
    """Return rows as a text: CSV has every digit, tables six."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if form == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: "" if _is_nan(value) else value for key, value in row.items()} for row in rows)
        return text.getvalue()
    cells = [[_readable(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    is_number = [all(isinstance(row.get(column, 0), int | float) for row in rows) for column in columns]
    if form == "md":
        rules = ["--:" if number else "---" for number in is_number]
        lines = [columns, rules, *([cell.replace("|", r"\|") for cell in line] for line in cells)]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    aligned = [">" if number else "<" for number in is_number]
    lines = [
        [f"{cell:{side}{width}}" for cell, side, width in zip(line, aligned, widths, strict=True)]
        for line in (columns, *cells)
    ]
    return "".join("  ".join(line).rstrip() + "\n" for line in lines)


def _readable(value: Any) -> str:
    from rnnlab.callbacks.console import readable

    if isinstance(value, float):
        return "-" if math.isnan(value) else readable(value)
    return str(value)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _told(records: Sequence[Record]) -> list[str]:
    """Return lines about all runs: how many are in which state, and which failed and why."""
    states = Counter(record.state for record in records)
    order = ("finished", "failed", "pruned", "unfinished", "not started")
    counts = ", ".join(f"{states[state]} {state}" for state in order if states[state])
    lines = [f"{len(records)} {'run' if len(records) == 1 else 'runs'}: {counts}"]
    failed = [record for record in records if record.state == "failed"]
    lines += [f"failed: {record.path}: {record.error}" for record in failed[:_MOST_TOLD]]
    if len(failed) > _MOST_TOLD:
        lines.append(f"and {len(failed) - _MOST_TOLD} more that failed")
    return lines


def _shared(records: Iterable[Record], metric: str) -> dict[str, Any]:
    """Return the numbers that are the same in all finished runs with a metric, as baselines of one data set are."""
    shared: dict[str, Any] | None = None
    for record in records:
        if metric in record.metrics:
            kept = record.metrics if shared is None else shared
            shared = {key: value for key, value in kept.items() if record.metrics.get(key) == value}
    return shared or {}


def _picture_path(given: str | None, places: Sequence[str], output: Path | None) -> Path | None:
    if given == "none":
        return None
    if given is not None:
        path = check_output(given)
        if path.suffix != ".png":
            raise UsageError(f"picture={given}: pictures are written as PNG, NAME.png, or picture=none")
        return path
    if output is not None:
        return output.with_suffix(".png")
    only = Path(places[0])
    return (results_dir(only) if len(places) == 1 and only.is_dir() else Path.cwd()) / "report.png"


def _check_apart(output: Path, records: Iterable[Record]) -> None:
    """Refuse an output in place of what a run or a sweep is told by."""
    folder = output.parent.resolve()
    is_run = (folder / CONFIG).exists() and any(record.path.resolve() == folder for record in records)
    if is_run or output.name in (LEDGER, "sweep.yaml"):
        raise UsageError(f"output={output} is among what is read: it needs another place")


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    from rnnlab.callbacks.files import write_text

    write_text(output, text)


def _one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise UsageError(f"{name} must be {' or '.join(allowed)}, got '{value}'{nearest(value, allowed)}")
    return value
