"""`rnnlab doctor`: what this machine can run, which way each layer would go, and what will not work."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

from rnnlab.cli.errors import UsageError

# Label, text, and whether it is as it should be; None where there is nothing to judge, only less to choose from.
Finding = tuple[str, str, bool | None]

MARKS = {True: "[green]ok[/green]", False: "[red]! [/red]", None: "- "}


def main(words: list[str]) -> int:
    """Run `rnnlab doctor` and return 0: a finding is not a failure."""
    from rnnlab.callbacks.console import console

    if words:
        raise UsageError(f"doctor takes no options, got '{words[0]}'")
    num_problems = 0
    for title, section in SECTIONS.items():
        console.print(f"[bold]{title}[/bold]")
        for label, text, is_fine in section():
            num_problems += is_fine is False
            mark = MARKS[is_fine]
            console.print(f"  {mark} {label:<20}", end="")
            console.print(text, markup=False)
    console.print(f"{num_problems} finding{'s'[: num_problems != 1]} marked with !" if num_problems else "all is well")
    return 0


def _versions() -> Iterator[Finding]:
    import rnnlab
    from rnnlab.cli.provenance import package_versions

    yield "rnnlab", rnnlab.__version__, True
    yield "python", platform.python_version(), True
    for package, version in package_versions().items():
        is_needed = package != "triton" or platform.system() == "Linux"
        yield package, version or "not installed", True if version else False if is_needed else None


def _devices() -> Iterator[Finding]:
    import torch

    yield "cpu", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads", True
    if not torch.cuda.is_available():
        reason = "this torch is built without CUDA" if torch.version.cuda is None else "torch sees no GPU"
        yield "cuda", f"{reason}; trainer.accelerator=cuda will not work", None if torch.version.cuda is None else False
    for index in range(torch.cuda.device_count()):
        capability = ".".join(map(str, torch.cuda.get_device_capability(index)))
        yield f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, capability {capability}", True


def _backends() -> Iterator[Finding]:
    import torch

    from rnnlab import nn

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for backend, obstacle in nn.available_backends(device).items():
            yield (
                f"{backend} on {device}",
                f"will not work: {obstacle}" if obstacle else "can run",
                None if obstacle else True,
            )
        for cell in (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell):
            yield f"{cell.__name__} on {device}", nn.explain_backend(cell(128, 128).to(device)), True


def _data() -> Iterator[Finding]:
    root = os.environ.get("RNNLAB_DATA")
    if root is None:
        yield (
            "data root",
            "RNNLAB_DATA is not set: relative data.path is looked for in the working directory only",
            True,
        )
    else:
        is_there = Path(root).is_dir()
        yield "data root", f"RNNLAB_DATA={root}" + ("" if is_there else ", which is no folder"), is_there


def _records() -> Iterator[Finding]:
    mode = os.environ.get("WANDB_MODE")
    yield "W&B", f"WANDB_MODE={mode}" if mode else "offline, by conf/logger/wandb.yaml; logger=csv does without", True
    where = Path.cwd()
    is_writable = os.access(where, os.W_OK)
    yield "runs", f"{where / 'runs'}" + ("" if is_writable else " cannot be written: use run_dir=DIR"), is_writable


def _kernels() -> Iterator[Finding]:
    from rnnlab_kernels import launch
    from rnnlab_kernels.cache import cache_folder

    if launch.has_numba():
        from rnnlab_kernels.schedules.compiled import keep

        kept, asked = keep.cache_folder(), os.environ.get(keep.VARIABLE)
        if kept is not None:
            yield "compiled for CPU", f"kept in {kept}", True
        else:
            reason = f"{keep.VARIABLE} is empty" if asked == "" else keep.unusable(asked)
            yield "compiled for CPU", f"anew in each process: {reason}", None if asked == "" else False
    folder, reason = cache_folder()
    if folder is None:
        yield "Triton's cache", reason, None
        return
    there = next(part for part in (folder, *folder.parents) if part.exists())
    is_writable = os.access(there, os.W_OK)
    yield "Triton's cache", f"{folder}: {reason}" + ("" if is_writable else "; it cannot be written"), is_writable


SECTIONS: dict[str, Callable[[], Iterator[Finding]]] = {
    "versions": _versions,
    "devices": _devices,
    "backends": _backends,
    "kernels": _kernels,
    "data": _data,
    "records": _records,
}
