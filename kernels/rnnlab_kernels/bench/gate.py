"""What is wrong is not timed: every arm against the plain loop in float64, for output and gradients.

The bar is twice the error of the plain loop in the arm's own dtype, plus one rounding, each relative to the largest
value, at a small size of the same work. Our own arms must also give the same bits twice.
"""

import torch
from torch import Tensor

from rnnlab_kernels.bench.arms import ARMS, Unavailable, build, network
from rnnlab_kernels.bench.work import DTYPES, Given, Work, draw
from rnnlab_kernels.schedules.reference import reference

RATIO = 2.0
OURS = ("eager", "fused", "pointwise", "sequence")


def results(run: object, given: Given) -> dict[str, Tensor]:
    """Return the output and the gradient of each leaf, in float64 on the CPU; None where there is none."""
    output = run()  # type: ignore[operator]
    grads = torch.autograd.grad(output, given.leaves(), given.upstream, allow_unused=True)
    names = ["x", *(f"{name} {k}" for k, own in enumerate(given.weights) for name in own)]
    found = {"output": output, **{f"d{name}": grad for name, grad in zip(names, grads, strict=True)}}
    return {name: value.detach().double().cpu() for name, value in found.items() if value is not None}


def faults(work: Work, device: str) -> dict[str, str]:
    """Return, for each arm that runs this work, what is wrong with it: "" if nothing is."""
    work = work.small()
    dtype, given = DTYPES[work.dtype], draw(work)
    exact_given = given.to(dtype, "cpu").to(torch.float64, "cpu")  # the same rounded values
    exact = results(network(reference, work, exact_given), exact_given)
    plain_given = given.to(dtype, device)
    plain = results(network(reference, work, plain_given), plain_given)
    found = {}
    for name in ARMS:
        own = given.to(dtype, device)
        try:
            run = build(name, work, own)
        except Unavailable:
            continue
        actual = results(run, own)
        wrong = [key for key, value in exact.items() if not _close(actual[key], plain[key], value, dtype, work.tf32)]
        if name in OURS:
            again = results(run, own)
            wrong += [f"{key} of two runs" for key, value in actual.items() if not torch.equal(value, again[key])]
        found[name] = ", ".join(wrong)
    return found


def _close(actual: Tensor, plain: Tensor, exact: Tensor, dtype: torch.dtype, tf32: bool) -> bool:
    scale = float(exact.abs().max())
    rounding = 2.0**-10 if tf32 else torch.finfo(dtype).eps
    allowed = RATIO * float((plain - exact).abs().max()) + rounding * scale
    return bool(actual.isfinite().all()) and float((actual - exact).abs().max()) <= allowed
