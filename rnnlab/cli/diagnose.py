"""`rnnlab diagnose`: pictures of what a trained run has learned."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.options import count, label_number, results_dir, take

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OPTIONS = ("input", "length", "ckpt", "encoding", "label")
_LENGTH = 1000
_MAPS = 6
_SOUNDS = 4
_STRIPS = 5
_WAVES = 4
_ONE_BATCH = {
    "_target_": "lightning.pytorch.Trainer",
    "accelerator": "cpu",
    "limit_train_batches": 1,
    "limit_val_batches": 0,
}


def main(words: list[str]) -> int:
    """Run `rnnlab diagnose run_dir=DIR [input=FILE [encoding=utf-8]] [length=1000] [label=NAME] [ckpt=best|last|FILE]`.

    Return the exit code.
    """
    from rnnlab.analysis.text_grid import MOST_CHARACTERS

    options, overrides = take(words, required=("run_dir",), optional=_OPTIONS)
    for key in (word.partition("=")[0] for word in overrides):
        if "." not in key:
            raise UsageError(f"diagnose has no option '{key}'{nearest(key, ('run_dir', *_OPTIONS))}")
    length = count("length", options["length"], 2, MOST_CHARACTERS) if "length" in options else None
    source, encoding = options.get("input"), options.get("encoding")
    ckpt, label = options.get("ckpt", "best"), options.get("label")
    diagnose(Path(options["run_dir"]), source, length, ckpt, overrides, encoding, label)
    return 0


def diagnose(
    run_dir: Path,
    source: str | None,
    length: int | None,
    ckpt: str,
    overrides: list[str],
    encoding: str | None = None,
    label: str | None = None,
) -> list[Path]:
    """Write the pictures that there are for a run of this kind into its figures/, and return their paths.

    Those of a `source` have its name behind theirs, as beats_heart.png, beside those of the validation part. Where the
    run directory is read-only, `rnnlab.cli.options.results_dir` says where they go.

    A character model reads a passage: its learning curve in bits, how much each character surprised it, and the hidden
    units that follow quotes, brackets and the like. A tagger: learning curves, and which tags of the validation part
    it takes for which, and so a classifier with classes. A model of pairs: learning curves, and what it looks at while
    it answers. A model of sounds trained by CTC: learning curves, and how likely each symbol is to it over time. A
    delineator: learning curves, and the beats it finds in stretches of a record, beside the annotated ones if there are
    any. A generator: learning curves, and waves beside what it writes. Any other run: learning curves. Any run: how
    gradients go back through its recurrent layers, by epoch with callback `gradient_flow`; without it, and without a
    `source`, from the first training batch of the checkpoint's epoch, if the data can be read.

    Args:
        run_dir: an existing run.
        source: file or pattern of files to take the passage from, file of sources, sound or folder of sounds, or
            record; None for the validation part.
        length: characters of the passage; None for 1000.
        ckpt: 'best', 'last' or the path of a checkpoint.
        overrides: `key=value` words that change the run's configuration.
        encoding: of `source`, as Python names it; None for that of the data.
        label: of `source`, for a character model that is told labels, or of the validation text wanted.

    Raises:
        UsageError: no such run, checkpoint, file or setting, or an option that means nothing for this kind of run.
    """
    from rnnlab.analysis.plots import learning_curves
    from rnnlab.analysis.text_plots import learning_curve_bits
    from rnnlab.callbacks.console import console
    from rnnlab.callbacks.ledger import read_rows
    from rnnlab.cli import rundir
    from rnnlab.cli.build import load
    from rnnlab.cli.reading import choose_passage, draw_reading

    rundir.read_config(run_dir)
    results = results_dir(run_dir)
    try:
        rows = read_rows(run_dir / "metrics.csv")
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not rows:
        raise UsageError(f"{run_dir / 'metrics.csv'} is missing or empty: no epoch of this run was finished")
    data, task, checkpoint = load(run_dir, ckpt, overrides)
    name = checkpoint["rnnlab"]["config"]["name"]
    is_character_model = getattr(data, "vocabulary", None) is not None
    has_sounds, has_records = hasattr(data, "frame_seconds"), hasattr(data, "records")
    has_pairs = hasattr(data, "pairs") and not has_sounds
    draws_posteriors = has_sounds and hasattr(task, "aligned")
    if (not is_character_model and length is not None) or (
        not (is_character_model or has_pairs or draws_posteriors or has_records) and source is not None
    ):
        kinds = ", models of pairs and of CTC, and delineators"
        option, kinds = ("length", "") if length is not None else ("input", kinds)
        raise UsageError(f"{option} is for character models{kinds}, run_dir={run_dir} holds a run of {name}")
    numbers = _final_numbers(run_dir)
    condition = getattr(task.model, "condition", None)
    number = label_number(label, getattr(data, "labels", ()), condition, needed=source is not None)
    try:
        if is_character_model:
            length = length or _LENGTH
            passage = choose_passage(data, source, 2 * length, encoding, number)
            figures = draw_reading(
                task.model, data.vocabulary, passage, length, f"{name}, epoch {checkpoint['epoch'] + 1}"
            )
            figures["learning_curve"] = learning_curve_bits(rows, numbers, f"Learning curve of {name}")
        else:
            figures = {"learning_curves": learning_curves(rows, numbers, f"Learning curves of {name}")}
            if hasattr(data, "tags") or hasattr(data, "classes"):
                figures["confusion_val"] = _confusion(data, task, name)
            elif has_pairs:
                figures |= _attention(data, task, name, source, encoding)
            elif draws_posteriors:
                figures["posteriors"] = _posteriors(data, task, name, source)
            elif has_records:
                figures["beats"] = _beats(data, task, name, source, encoding)
            elif hasattr(data, "longer"):
                figures["waves"] = _waves(data, task, name)
        flow = _gradient_flow(run_dir, ckpt, overrides, name, records=source is None)
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    if source is not None:
        name = re.sub(r"[^\w-]+", "-", Path(source).stem).strip("-")
        figures = {key if "curve" in key else f"{key}_{name}": figure for key, figure in figures.items()}
    figures |= flow
    if figures.keys() == {"learning_curves"}:
        console.print(f"{name}: learning curves are all there is for this task", markup=False)
    paths = [_save(results, figure_name, figure) for figure_name, figure in sorted(figures.items())]
    for path in paths:
        console.print(str(path), markup=False)
    return paths


def _final_numbers(run_dir: Path) -> dict[str, float]:
    """Return what metrics.json holds, baselines among it; nothing, with a note, if the run was not finished."""
    path = run_dir / "metrics.json"
    if not path.is_file():
        print(f"rnnlab: {path} is missing, the learning curves go without baselines", file=sys.stderr)
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def _confusion(data: Any, task: Any, name: str) -> Figure:
    """Count which tag or class of the validation part (rows) was taken for which (columns), and draw it."""
    import torch

    from rnnlab.analysis.confusion import confusion_matrix

    data.setup()
    is_tagger = hasattr(data, "tags")
    names = data.tags if is_tagger else data.classes
    number = len(names)
    counts = torch.zeros(number * number, dtype=torch.int64)
    with torch.inference_mode():
        for batch in data.val_dataloader():
            if is_tagger:
                true, given = batch.tags, task.model.decode(batch)
            else:
                true, given = batch.labels, task.predict_step(batch).argmax(dim=1)
            is_known = true >= 0
            counts += torch.bincount(true[is_known] * number + given[is_known], minlength=len(counts))
    title = f"{'Tags' if is_tagger else 'Classes'} of the validation part ({name})"
    return confusion_matrix(counts.view(number, number).numpy(), names.symbols, title)


def _attention(data: Any, task: Any, name: str, source: str | None, encoding: str | None) -> dict[str, Figure]:
    """Draw what a model looks at while it answers the first sources of a file, or some of the validation part."""
    from rnnlab.analysis.alignment import attention_maps
    from rnnlab.callbacks.console import console
    from rnnlab.callbacks.pairs import alignments

    if source is None:
        data.setup()
    queries = None if source is None else data.read_queries(source, encoding)
    maps = alignments(data, task, _MAPS, queries)
    if not maps:
        console.print(f"{name}: no picture of attention, the model has none", markup=False)
        return {}
    asked = "validation part" if source is None else Path(source).name
    return {"attention": attention_maps(maps, f"Attention, {asked} ({name})")}


def _posteriors(data: Any, task: Any, name: str, source: str | None) -> Figure:
    """Draw what a model expects over time of the first sounds of a folder, or of some of the validation part."""
    from rnnlab.analysis.posteriors import posteriors
    from rnnlab.callbacks.sounds import heard

    if source is None:
        data.setup()
    queries = None if source is None else data.read_queries(source)
    asked = "validation part" if source is None else Path(source).name
    title = f"Posteriors over time, {asked} ({name})"
    return posteriors(heard(data, task, _SOUNDS, queries), list(data.symbols), title)


def _beats(data: Any, task: Any, name: str, source: str | None, encoding: str | None) -> Figure:
    """Draw what a delineator finds in stretches of a record, or in records of the validation part."""
    from rnnlab.analysis.heart_beats import heart_beats
    from rnnlab.callbacks.heart_beats import strips_of

    queries = None if source is None else data.read_queries(source, encoding)
    asked = "the validation part" if source is None else Path(source).name
    return heart_beats(strips_of(data, task, _STRIPS, queries), f"Beats of {asked} ({name})")


def _waves(data: Any, task: Any, name: str) -> Figure:
    """Draw what a generator writes beside the waves of the test part, past what it was trained on too."""
    from rnnlab.callbacks.waves import picture

    data.setup()
    return picture(data, task, name, _WAVES)


def _gradient_flow(run_dir: Path, ckpt: str, overrides: list[str], name: str, records: bool) -> dict[str, Figure]:
    """Draw what the run recorded of its gradients, or else record a batch, if that is wanted and can be done."""
    from rnnlab.analysis.gradient_flow import gradient_flow
    from rnnlab.callbacks.console import console
    from rnnlab.callbacks.gradient_flow import FILE, layers_of, read_numbers, record_batch
    from rnnlab.cli import rundir
    from rnnlab.cli.compose import override
    from rnnlab.cli.measure import interruptible, restored

    if (run_dir / FILE).is_file():
        rows = read_numbers(run_dir / FILE)
        if not any(row.layer for row in rows):
            console.print(f"{name}: no picture of gradient flow: {FILE} has no recorded layer", markup=False)
            return {}
        return {"gradient_flow": gradient_flow(rows, f"Gradient flow of {name}")}
    if not records:
        return {}
    config = override(rundir.read_config(run_dir), overrides)
    try:
        run, checkpoint, _ = restored({**config, "trainer": _ONE_BATCH}, run_dir, ckpt, says_notes=False)
        if not any(layers_of(run.task)):
            return {}
        with interruptible(run.trainer):
            rows = record_batch(run.trainer, run.task, run.data, checkpoint["epoch"])
        return {"gradient_flow": gradient_flow(rows, f"Gradient flow of {name}, a training batch")}
    except (UsageError, ValueError) as error:
        console.print(f"{name}: no picture of gradient flow: {error}", markup=False)
        return {}


def _save(folder: Path, name: str, figure: Figure) -> Path:
    """Save a figure as PNG where those of training are."""
    from rnnlab.callbacks.figures import write_png

    path = folder / "figures" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, figure)
    return path
