"""`rnnlab predict`: answer the lines of a file, or sounds, with a trained model."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from rnnlab.cli import answering
from rnnlab.cli.errors import UsageError
from rnnlab.cli.options import check_apart, check_output, count, files_of_run, flag, take


def main(words: list[str]) -> int:
    """Run `rnnlab predict run_dir=DIR input=FILE output=FILE [ckpt=best|last|FILE] [encoding=utf-8]`.

    Models of pairs of sequences and of sounds take `n_best=N` and `beam=K` too: how many answers are given, and
    searched among. The input of models of sounds is a sound or a folder of them; with `times=true`, of those trained by
    CTC, NAME.times.tsv beside the output NAME.SUFFIX has file, symbol, start and end in seconds. They read a sound of
    more than data.eval_max_frames in parts, so that its length costs no memory. Classifiers write a line
    "name<TAB>class<TAB>probability" a sequence of a .ts, .tsv, .txt or .csv file, or a sound. Models of tables forecast
    `horizon=STEPS`, by default those of training. A character model that is told labels writes
    "text<TAB>label<TAB>probability" a line. Delineators read a record of PhysioNet or CSV, and write a line a beat, or
    annotations to an output that ends in .atr.

    `-` is stdin as input and stdout as output, where nothing but answers goes. Answers are UTF-8, whatever the encoding
    of the input. Return the exit code.
    """
    options, overrides = take(
        words,
        required=("run_dir", "input", "output"),
        optional=("ckpt", "encoding", "n_best", "beam", "times", "horizon"),
    )
    times = flag("times", options.get("times", "false"))
    if times and options["output"] == "-":
        raise UsageError("times=true writes a second file beside output=FILE, which cannot be -")
    predict(
        Path(options["run_dir"]),
        None if options["input"] == "-" else Path(options["input"]),
        None if options["output"] == "-" else check_output(options["output"]),
        options.get("ckpt", "best"),
        overrides,
        options.get("encoding"),
        {name: count(name, options[name]) for name in ("n_best", "beam") if name in options},
        times,
        count("horizon", options["horizon"]) if "horizon" in options else None,
    )
    return 0


def predict(
    run_dir: Path,
    source: Path | None,
    target: Path | None,
    ckpt: str,
    overrides: list[str],
    encoding: str | None = None,
    search: dict[str, int] | None = None,
    times: bool = False,
    horizon: int | None = None,
) -> None:
    """Read queries from one file and write their answers to another, all of them or none.

    Args:
        run_dir, ckpt, overrides: the model, as for `rnnlab.cli.build.load`.
        source: file of queries, or folder of sounds; None for stdin.
        target: file of answers; None for stdout.
        encoding: of the queries, as Python names it; None for that of the data.
        search: `n_best` and `beam` of a task that searches, in place of its own; a beam is at least as wide as n_best.
        times: write beside `target` when each symbol was heard.
        horizon: steps to forecast; None for those of training.

    Raises:
        UsageError: no such run, file or checkpoint, a line that is no query ("file:line: what is wrong"), or a target
            that is among what is read.
    """
    from rnnlab.callbacks.console import console
    from rnnlab.callbacks.files import write_atomically, write_text
    from rnnlab.cli.build import load
    from rnnlab.data.files import places_of

    targets = [] if target is None else [target, target.with_suffix(".times.tsv")] if times else [target]
    for one in targets:
        check_apart(one, [*files_of_run(run_dir, ckpt), *([] if source is None else places_of(source))])
    with redirect_stdout(sys.stderr if target is None else sys.stdout):
        data, task, _ = load(run_dir, ckpt, overrides)
        if search:
            answering.set_search(task, search, run_dir)
        if times and not hasattr(task, "timed_step"):
            raise UsageError(f"times=true is for models of sounds trained by CTC, run_dir={run_dir} holds none")
        if horizon is not None:
            answering.ask_horizon(data, horizon, run_dir)
        with _stdin_file() if source is None else nullcontext(source) as path:  # sounds are read more than once
            given = str(path) if source is None else ""
            try:
                queries = data.read_queries(path, encoding)
                for one in targets:
                    check_apart(one, queries.files)
                for note in answering.notes_on(task, queries):
                    print(f"rnnlab: {_named(note, given)}", file=sys.stderr)
                outputs = answering.outputs_of(data, queries, task.timed_step if times else task.predict_step)
                if times:
                    outputs, spans = map(list, zip(*outputs, strict=True))
                content = data.encode_answers(queries, outputs, "" if target is None else target.suffix)
            except ValueError as error:  # no query, or what a model cannot read: more symbols than it has positions for
                raise UsageError(_named(str(error), given)) from error
    if times:
        write_text(targets[1], _named(data.write_times(queries, spans), given))
    content = content.replace(given.encode("utf-8"), b"stdin") if given else content
    if target is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    write_atomically(target, lambda part: part.write_bytes(content))
    console.print(f"{data.told(queries, outputs)} in {target}", markup=False)


@contextmanager
def _stdin_file() -> Iterator[Path]:
    """Keep what came from stdin in a file, which data modules may read more than once."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


def _named(text: str, given: str) -> str:
    """Return a text with 'stdin' for the name of the file that it was brought to, if it was."""
    return text.replace(given, "stdin") if given else text
