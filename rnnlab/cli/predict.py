"""`rnnlab predict`: answer the lines of a file with a trained model."""

from __future__ import annotations

from pathlib import Path

from rnnlab.cli.errors import UsageError
from rnnlab.cli.options import check_output, take


def main(words: list[str]) -> int:
    """Run `rnnlab predict run_dir=DIR input=FILE output=FILE [ckpt=best|last|FILE] [encoding=utf-8]`.

    Answers are UTF-8, whatever the encoding of the input. Return the exit code.
    """
    options, overrides = take(words, required=("run_dir", "input", "output"), optional=("ckpt", "encoding"))
    predict(
        Path(options["run_dir"]),
        Path(options["input"]),
        check_output(options["output"]),
        options.get("ckpt", "best"),
        overrides,
        options.get("encoding"),
    )
    return 0


def predict(
    run_dir: Path, source: Path, target: Path, ckpt: str, overrides: list[str], encoding: str | None = None
) -> None:
    """Read queries from one file and write their answers to another, all of them or none.

    Raises:
        UsageError: no such run, file or checkpoint, or a line that is no query ("file:line: what is wrong").
    """
    import torch

    from rnnlab.callbacks.console import console
    from rnnlab.callbacks.files import write_text
    from rnnlab.cli.build import load

    data, task, _ = load(run_dir, ckpt, overrides)
    try:
        queries = data.read_queries(source, encoding)
    except ValueError as error:
        raise UsageError(str(error)) from error
    with torch.inference_mode():
        outputs = [task.predict_step(batch, 0) for batch in data.query_batches(queries)]
    write_text(target, data.write_answers(queries, outputs))
    console.print(f"{len(queries.inputs)} answers in {target}", markup=False)
