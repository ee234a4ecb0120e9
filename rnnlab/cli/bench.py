"""`rnnlab bench`: layers of rnnlab.nn against torch.nn on this machine, side by side in one process.

Every arm of a row runs in turn, round after round, so that a slow moment of the machine meets all of them; ratios are
medians over rounds of the time of an arm over the baseline's in the same round. A row is timed only after its arms
agree. The baseline is torch.nn's layer, or for a cell, `cell=mylab.MyCell`, the plain loop over it.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.memory import keep_freed_memory
from rnnlab.cli.options import check_output, take

SIZES = ((32, 50, 1, 20), (128, 32, 12, 128), (64, 128, 64, 256), (32, 64, 512, 512))  # (B, T, I, H)
Size = tuple[int, int, int, int]
MODULES = ("RNN", "LSTM", "GRU")
ARMS = ("auto", "eager", "fused")


class Row(NamedTuple):
    """One line of the table. Times in milliseconds."""

    module: str
    size: Size
    trained: bool
    backend: str
    baseline_ms: float
    times_ms: dict[str, float]
    ratios: dict[str, tuple[float, float, float]]  # median, 20th and 80th percentile of arm over baseline


def main(words: list[str]) -> int:
    """Run `rnnlab bench [cell=NAME] [rounds=20] [output=FILE.json]` and return the exit code."""
    options, rest = take(words, required=(), optional=("cell", "rounds", "output"))
    if rest:
        raise UsageError(f"bench takes cell=, rounds= and output=, got '{rest[0]}'")
    rounds = options.get("rounds", "20")
    if not rounds.isdigit() or int(rounds) < 3:
        raise UsageError(f"rounds must be an integer of at least 3, got '{rounds}'")
    output = check_output(options["output"]) if "output" in options else None
    make = None if "cell" not in options else _cell(options["cell"])
    names, baseline = (MODULES, "torch") if make is None else ([options["cell"].rpartition(".")[2]], "loop")
    rows = []
    keep_freed_memory()  # as in training
    arms = _arms()
    ratios = " | ".join(f"{arm} / {baseline}" for arm in arms)
    print(f"| (B, T, I, H) | module | pass | {baseline} ms | auto | {ratios} |")
    print("| --- " * (5 + len(arms)) + "|")
    for size in SIZES:
        for name in names:
            layers = _plain_layers(name, size, arms) if make is None else _cell_layers(make, size, arms)
            for trained in (False, True):
                row = measure(name, layers, size, trained, int(rounds))
                rows.append(row._asdict())
                print(_line(row), flush=True)
    if output is not None:
        _write(output, rows, int(rounds))
    return 0


def _line(row: Row) -> str:
    ratios = " | ".join(f"{middle:.2f} ({low:.2f}-{high:.2f})" for middle, low, high in row.ratios.values())
    kind = "forward + backward" if row.trained else "forward"
    return f"| {row.size} | {row.module} | {kind} | {row.baseline_ms:.2f} | {row.backend} | {ratios} |"


def _arms() -> tuple[str, ...]:
    """Return the backends that run here."""
    from rnnlab import nn

    obstacles = nn.available_backends("cpu")
    return tuple(arm for arm in ARMS if not obstacles.get(arm))


def _cell(target: str) -> Callable[..., Any]:
    """Return the class of a cell: one of rnnlab.nn by its name, or of a plugin by its path.

    Raises:
        UsageError: there is no such cell.
    """
    from rnnlab import nn
    from rnnlab.cli import plugins
    from rnnlab.cli.instantiate import instantiate

    if "." not in target:
        cells = [name for name in nn.__all__ if name.endswith("Cell")]
        if target not in cells:
            raise UsageError(f"no cell of rnnlab is called '{target}'{nearest(target, cells)}")
        return getattr(nn, target)
    if not target.startswith("rnnlab."):
        plugins.load([target.partition(".")[0]])
    return instantiate({"_target_": target, "_partial_": True})


def _plain_layers(module: str, size: Size, arms: tuple[str, ...]) -> dict[str, Any]:
    import torch

    from rnnlab import nn

    layers = {"torch": getattr(torch.nn, module)(*size[2:])}
    return layers | {arm: getattr(nn, module)(*size[2:], backend=arm) for arm in arms}


def _cell_layers(make: Callable[..., Any], size: Size, arms: tuple[str, ...]) -> dict[str, Any]:
    from rnnlab import nn

    try:
        return {
            name: nn.Recurrent(make(*size[2:]), backend=backend)
            for name, backend in {"loop": "reference", **{arm: arm for arm in arms}}.items()
        }
    except (TypeError, ValueError) as error:
        raise UsageError(f"the cell cannot be built as CELL(input_size, hidden_size): {error}") from error


def measure(module: str, layers: dict[str, Any], size: Size, trained: bool, rounds: int) -> Row:
    """Time one module at one size: forward without autograd, or forward and backward from a random gradient.

    Args:
        module: its name.
        layers: the baseline, then the arms; all get the baseline's weights.
        size: (B, T, I, H).
        trained: backward too.
        rounds: how often each runs in turn.

    Raises:
        RuntimeError: the arms do not compute the same.
    """
    import torch

    from rnnlab import nn

    batch, num_steps, num_inputs, _ = size
    baseline, *arms = layers
    for arm in arms:
        layers[arm].load_state_dict(layers[baseline].state_dict())
    torch.manual_seed(0)
    x = torch.randn(num_steps, batch, num_inputs)
    with torch.no_grad():
        grad = torch.randn_like(layers[baseline](x)[0])
    _check(layers, x, grad)

    def run(layer: Any) -> None:
        if not trained:
            with torch.no_grad():
                layer(x)
            return
        layer(x)[0].backward(grad)
        layer.zero_grad(set_to_none=True)

    times: dict[str, list[float]] = {name: [] for name in layers}
    repeats = _repeats(lambda: run(layers[baseline]))
    for _ in range(rounds + 1):
        for name, layer in layers.items():
            start = time.perf_counter()
            for _ in range(repeats):
                run(layer)
            times[name].append(1e3 * (time.perf_counter() - start) / repeats)
    times = {name: values[1:] for name, values in times.items()}  # the first round warms up
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {arm: _spread([a / b for a, b in zip(times[arm], times[baseline], strict=True)]) for arm in arms}
    backend = nn.explain_backend(layers["auto"], x).split(" ")[1]
    return Row(module, size, trained, backend, medians[baseline], medians, ratios)


def _check(layers: dict[str, Any], x: Any, grad: Any) -> None:
    """Refuse to time what is wrong: outputs and gradients of all arms must agree with the baseline's."""
    expected: list[Any] = []
    for name, layer in layers.items():
        output = layer(x)[0]
        output.backward(grad)
        results = [output.detach(), *(parameter.grad for parameter in layer.parameters())]
        layer.zero_grad(set_to_none=True)
        expected = expected or results
        for ours, theirs in zip(results, expected, strict=True):
            error = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))
            if not error < 1e-4:
                raise RuntimeError(
                    f"backend {name} differs from {next(iter(layers))} by {error:.1e}: no timing of a wrong result"
                )


def _repeats(call: Callable[[], None]) -> int:
    """Return how often to run within one round so that it lasts about 20 ms."""
    call()
    start = time.perf_counter()
    call()
    return max(1, round(0.02 / (time.perf_counter() - start)))


def _spread(values: list[float]) -> tuple[float, float, float]:
    cuts = statistics.quantiles(values, n=5)
    return round(statistics.median(values), 3), round(cuts[0], 3), round(cuts[-1], 3)


def _write(path: Path, rows: list[dict[str, Any]], rounds: int) -> None:
    import torch

    from rnnlab.callbacks.files import write_json
    from rnnlab.cli.provenance import provenance

    machine = {"processor": _processor(), "threads": torch.get_num_threads(), "system": platform.system()}
    write_json(path, {"machine": machine, "provenance": provenance(), "rounds": rounds, "rows": rows})


def _processor() -> str:
    """Return the processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
