"""`rnnlab export`: a run's network as a file that needs no rnnlab to be read, compared with the network it was."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.options import check_apart, check_output, files_of_run, take

FORMATS = ("onnx", "pt2")
_OPTIONS = ("run_dir", "format", "output", "ckpt")
_SIZES = ((2, 5), (3, 9), (1, 4))  # rows and steps: of the example, and those at which both are compared
_MOST = 1e-4  # by how much they may differ, of the greatest value


def main(words: list[str]) -> int:
    """Run `rnnlab export run_dir=DIR format=onnx|pt2 output=FILE [ckpt=best|last|FILE]` and return the exit code."""
    options, overrides = take(words, required=("run_dir", "format", "output"), optional=("ckpt",))
    for key in (word.partition("=")[0] for word in overrides):
        if "." not in key:
            raise UsageError(f"export has no option '{key}'{nearest(key, _OPTIONS)}; it takes {', '.join(_OPTIONS)}")
    form = options["format"]
    if form not in FORMATS:
        raise UsageError(f"format must be {' or '.join(FORMATS)}, got '{form}'{nearest(form, FORMATS)}")
    run_dir, ckpt, output = Path(options["run_dir"]), options.get("ckpt", "best"), check_output(options["output"])
    check_apart(output, files_of_run(run_dir, ckpt))
    export(run_dir, form, output, ckpt, overrides)
    return 0


def export(run_dir: Path, form: str, output: Path, ckpt: str, overrides: list[str]) -> None:
    """Write the network of a run with free batch and time, and tell by how much it differs at other sizes.

    Args:
        run_dir, ckpt, overrides: the run, as for `rnnlab.cli.build.load`.
        form: 'onnx' or 'pt2', a program of torch.export.
        output: the file.

    Raises:
        UsageError: no such run; the network cannot be exported, with the reason; a package is missing; or what was
            exported does something else. Nothing is written then.
    """
    import torch

    from rnnlab.callbacks.files import write_atomically
    from rnnlab.cli.build import load
    from rnnlab.models.exporting import Exported, form_of
    from rnnlab.nn import Recurrent
    from rnnlab.nn.export import exportable

    data, task, _ = load(run_dir, ckpt, overrides)
    if form == "onnx" and any(isinstance(module, Recurrent) for module in task.model.modules()):
        raise UsageError("ONNX has no operator for the cells of Recurrent: format=pt2, or rnn=lstm, gru or rnn")
    if form == "onnx" and any(getattr(module, "proj_size", 0) for module in task.model.modules()):
        raise UsageError("ONNX has no LSTM with a projection: format=pt2")
    torch.manual_seed(0)
    try:
        how = form_of(task.model, data.sizes)
        module = Exported(exportable(task.model), how).eval()
        example = tuple(how.example(*_SIZES[0]).values())
        dims = tuple({axis: torch.export.Dim.AUTO for axis in axes} for axes in how.axes.values())
        with _quiet(), torch.no_grad():
            program = torch.export.export(module, example, dynamic_shapes=(dims,))
            _check_free(program, how)
            whole = Exported(task.model, how).eval()
            cases = [how.example(*sizes) for sizes in _SIZES[1:]]
            expected = [whole(*inputs.values()) for inputs in cases]

            def write(part: Path) -> None:
                error = _write(program, form, part, how, cases, expected)
                if not error <= _MOST:  # nor NaN
                    raise UsageError(f"what was exported differs from the network by {error:.2g} of its values")
                print(f"greatest difference at other batches and times: {error:.2g} of the greatest value")

            write_atomically(output, write)
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        raise UsageError(str(error)) from error
    except Exception as error:  # a type for each part of torch's exporters
        reason = (str(error).splitlines() or [""])[0]
        raise UsageError(f"{type(task.model).__name__} of run_dir={run_dir} cannot be exported: {reason}") from error
    print(
        f"inputs: {', '.join(f'{name} {tuple(tensor.shape)}' for name, tensor in cases[0].items())}, free axes: "
        f"{', '.join(dict.fromkeys(axis for axes in how.axes.values() for axis in axes.values()))}"
    )
    print(output)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch's exporters warn of and log from the screen."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _check_free(program: Any, how: Any) -> None:
    """Refuse a program that holds for the sizes of its example alone.

    Raises:
        ValueError: an axis became fixed.
    """
    given = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in _user_inputs(program)]
    for node, (name, axes) in zip(given, how.axes.items(), strict=True):
        for axis, called in axes.items():
            if isinstance(node.meta["val"].shape[axis], int):
                raise ValueError(f"torch.export fixed axis '{called}' of {name}")


def _user_inputs(program: Any) -> set[str]:
    return set(program.graph_signature.user_inputs)


def _write(program: Any, form: str, part: Path, how: Any, cases: list, expected: list) -> float:
    """Write a program and return the greatest relative difference of what the file says."""
    import torch

    if form == "pt2":
        if any("rnnlab" in str(node.target) for node in program.graph.nodes):
            print("it has operators of rnnlab: torch.export.load(FILE) comes after `import rnnlab.nn.export`")
        with part.open("wb") as file:
            torch.export.save(program, file)
        with part.open("rb") as file:
            loaded = torch.export.load(file)
        try:
            found = [loaded.module()(*inputs.values()) for inputs in cases]
        except AssertionError:  # a guess about strides that a batch of one does not meet, and that nothing depends on
            found = [loaded.module(check_guards=False)(*inputs.values()) for inputs in cases]
            print("for all sizes: torch.export.load(FILE).module(check_guards=False)")
    else:
        from rnnlab.nn.export import onnx_translations

        names = list(how.axes)
        onnx = torch.onnx.export(
            program,
            input_names=names,
            output_names=["output"],
            dynamic_shapes=(tuple(how.axes.values()),),  # which have their names in the file
            custom_translation_table=onnx_translations(),
            verbose=False,
        )
        assert onnx is not None
        onnx.save(part)
        found = [torch.from_numpy(values) for values in _run_onnx(part, cases)]
    return max(
        float((one - other).abs().max() / other.abs().max().clamp(min=1e-12))
        for one, other in zip(found, expected, strict=True)
    )


def _run_onnx(path: Path, cases: list[dict[str, Any]]) -> list[Any]:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "onnxruntime is not installed, and what is exported is compared: pip install onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    used = {one.name for one in session.get_inputs()}
    return [
        session.run(None, {name: tensor.numpy() for name, tensor in inputs.items() if name in used})[0]
        for inputs in cases
    ]
