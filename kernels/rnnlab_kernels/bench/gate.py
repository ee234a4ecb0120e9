"""What is wrong is not timed: every arm against the plain loop in float64, for output and gradients.

An arm's error may be twice that of torch in the same dtype, the plain loop's or torch.nn's, whichever is larger, plus
`ROUNDINGS` of the largest value: those of torch are single digits of roundings, and now and then none. Who is not ours,
torch.nn among them, may have twice that. At a small size of the same work, and at its own size but for T, where our
schedules run by the same plan. Our own arms must also give the same bits twice. Who compiles anew for each size is
checked at its own alone.
"""

from collections.abc import Callable, Container
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.bench.arms import (
    ARMS,
    COMPILED,
    COMPILED_STEPS,
    OURS,
    Unavailable,
    build,
    check_device,
    failure,
    network,
    scored,
)
from rnnlab_kernels.bench.work import DTYPES, Given, Work, draw, precision
from rnnlab_kernels.schedules.reference import reference

RATIO, ROUNDINGS = 2.0, 4.0
YARDSTICKS = ("loop", "torch.nn")


class Verdict(NamedTuple):
    """What is wrong with an arm, "" if nothing is; and the largest ratio of its errors to torch's."""

    wrong: str
    ratio: float


def results(run: object, given: Given) -> dict[str, Tensor]:
    """Return the output and the gradient of each leaf, in float64 on the CPU; None where there is none."""
    output = run()  # type: ignore[operator]
    grads = torch.autograd.grad(output, given.leaves(), given.upstream, allow_unused=True)
    found = {"output": output, **{f"d{name}": grad for name, grad in zip(given.named_leaves(), grads, strict=True)}}
    return {name: value.detach().double().cpu() for name, value in found.items() if value is not None}


def check(
    work: Work,
    device: str,
    without: Container[str] = (),
    note: Callable[[str], None] = lambda name: None,
    seen: dict[Any, dict[str, Verdict]] | None = None,
) -> dict[str, Verdict]:
    """Return the verdict on each arm that runs this work; none at a size where the plain loop, their measure, cannot.

    Args:
        work: a row.
        device: "cpu" or "cuda".
        without: arms that are left out.
        note: called with the name of each arm before it runs.
        seen: verdicts at sizes that were checked before, for rows that are the same but for their own size.
    """
    found: dict[str, Verdict] = {}
    seen = {} if seen is None else seen
    # The compiled loop takes any work of few steps, and long to compile: only where it is timed.
    names = [name for name in ARMS if name != "loop, compiled" or work.T <= COMPILED_STEPS]
    names = [name for name in names if name not in without]
    with precision(work):
        for own_size, size in enumerate(work.checked()):
            chosen = [name for name in names if own_size or name not in COMPILED]
            key = size, *chosen
            if key not in seen:
                seen[key] = _check(size, chosen, device, note)
            for arm, (wrong, ratio) in seen[key].items():
                before = found.get(arm, Verdict("", 0.0))
                found[arm] = Verdict(", ".join(filter(None, (before.wrong, wrong))), max(before.ratio, ratio))
    return found


def _check(work: Work, names: list[str], device: str, note: Callable[[str], None]) -> dict[str, Verdict]:
    dtype, given = DTYPES[work.dtype], draw(work)
    exact_given = given.to(dtype, "cpu").to(torch.float64, "cpu")  # the same rounded values
    exact = results(scored(network(reference, work, exact_given), exact_given), exact_given)
    rounding = 2.0**-10 if work.tf32 else torch.finfo(dtype).eps
    errors: dict[str, dict[str, float]] = {}
    differing: dict[str, list[str]] = {}
    found: dict[str, Verdict] = {}
    for name in names:
        note(name)
        try:
            own = given.to(dtype, device)
            run, _ = build(name, work, own)
            actual = results(run, own)
            again = results(run, own) if name in OURS else actual
        except Unavailable:
            continue
        except Exception as error:  # on another than its first call
            found[name] = Verdict(f"a later call: {failure(error)}", float("inf"))
            if device == "cuda":
                check_device(name, error)
            continue
        errors[name] = {key: _error(actual.get(key), value) / rounding for key, value in exact.items()}
        differing[name] = [key for key, value in actual.items() if not torch.equal(value, again[key])]
    if "loop" not in errors:
        return {}
    if any(error == float("inf") for error in errors["loop"].values()):
        return {name: Verdict("nothing to compare with: the plain loop is not finite", 0.0) for name in errors}
    sound = [name for name in YARDSTICKS if name in errors and not _beyond(errors[name], errors["loop"], 2 * RATIO)]
    yardstick = {key: max(errors[name][key] for name in sound) for key in exact}
    for name, own_errors in errors.items():
        wrong = _beyond(own_errors, yardstick, RATIO if name in OURS else 2 * RATIO)
        wrong += [f"{key} of two runs" for key in differing[name]]
        ratio = max(own_errors[key] / max(yardstick[key], 1.0) for key in exact)
        found[name] = Verdict(", ".join(wrong), ratio)
    return found


def _error(actual: Tensor | None, exact: Tensor) -> float:
    """Return the largest error relative to the largest value, infinite for what is missing or not finite."""
    if actual is None or not actual.isfinite().all():
        return float("inf")
    return float((actual - exact).abs().max() / exact.abs().max().clamp_min(1e-30))


def _beyond(errors: dict[str, float], yardstick: dict[str, float], ratio: float) -> list[str]:
    return [key for key, error in errors.items() if not error <= ratio * yardstick[key] + ROUNDINGS]
