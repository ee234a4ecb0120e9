"""The linear recurrence h_t = a_t * h_{t-1} + b_t, element by element, for one (T, B, H) sequence.

It is what minGRU, LRU, S4D and other recurrences without a product between units come to once their gates are known.
The composition of two steps is a step again,

    (a_2, b_2) after (a_1, b_1) = (a_2 a_1, a_2 b_1 + b_2)                      (Blelloch, 1990, section 1.4)

so that a device may work on all of time at once. Gradient, given g_t = dL/dh_t (conjugates matter to complex values):

    dh_t = g_t + conj(a_{t+1}) dh_{t+1}       the same recurrence the other way round, over coefficients one step later
    db_t = dh_t     da_t = dh_t conj(h_{t-1})     dh_0 = conj(a_1) dh_1

| method | how | work, depth |
| --- | --- | --- |
| loop | plain autograd: the oracle | T, T |
| sequential | one torch operator a step into one buffer | T, T |
| parallel | torch: pairs of steps merged, recursively | 2 T, 2 log T |
| numba | one compiled pass on a CPU | T, T |
| triton | associative scans over chunks of time, a carry from chunk to chunk | T log(chunk), T / chunk |

No method divides or takes logarithms: a = 0 and |a| = 1 are ordinary values. Where a_t is 0 nothing of h_{t-1} is left,
and nothing of dh_t reaches it, be they infinite or NaN: this is how a sequence starts anew in the midst of a row.

T time, B batch, H units. Saved for backward: a and h_0 as given, and h.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rnnlab_kernels import launch
from rnnlab_kernels.schedules import node
from rnnlab_kernels.schedules.engines import Call, Engine, Kept, Tensors
from rnnlab_kernels.schedules.layout import HALF, compact, step_order, work

METHODS = ("loop", "sequential", "parallel", "numba", "triton")


def supports(method: str, device: torch.device, dtype: torch.dtype) -> tuple[bool, str]:
    """Return whether a method takes such tensors, and the reason in a few words."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)} or auto, not {method!r}")
    if method == "triton":
        return launch.supported(device, torch.float32 if dtype == torch.complex64 else dtype)
    if method == "numba":
        if dtype in HALF:
            return False, "compiled loops compute in the dtype given, and not in half precision"
        return launch.fused_supported(device, torch.float32)
    return True, "torch's operators take every device and dtype"


def choose_method(device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Return the method that `method="auto"` stands for, and the reason in a few words."""
    if device.type == "cpu":
        taken, reason = supports("numba", device, dtype)
        if taken and dtype in (torch.float32, torch.complex64):
            return "numba", "single precision on a CPU, and Numba present"
        return "sequential", reason if not taken else "double precision on a CPU"
    taken, reason = supports("triton", device, dtype) if device.type == "cuda" else (False, f"device {device.type}")
    return ("triton" if taken else "parallel"), reason


def left(a: Tensor, y: Tensor) -> Tensor:
    """Return `y` as a product with `a` takes it: 0 times what is not finite is 0."""
    return y.masked_fill((a == 0) & ~torch.isfinite(y), 0)


def _sequential(a: Tensor, b: Tensor, h_0: Tensor, reverse: bool) -> Tensor:
    a, b, state, h = work(a), work(b), work(h_0), torch.empty_like(b, memory_format=torch.contiguous_format)
    out = h if h.dtype == b.dtype else torch.empty_like(b)
    a_steps, b_steps, out_steps = a.expand_as(b).unbind(0), b.unbind(0), out.unbind(0)
    has_zeros = bool((a == 0).any())
    for t in step_order(len(b), reverse):
        state = left(a_steps[t], state) if has_zeros else state
        state = torch.addcmul(b_steps[t], a_steps[t], state, out=out_steps[t])
    return h if out is h else h.copy_(out)


def _merge(a: Tensor, b: Tensor, h_0: Tensor, out: Tensor) -> None:
    """Write h into `out`: first at every second step, from pairs of steps, then at those between."""
    num_steps, is_constant = len(b), len(a) == 1
    if num_steps > 1:
        pairs = num_steps // 2
        even, odd = (a, a) if is_constant else (a[0 : 2 * pairs : 2], a[1::2])
        _merge(odd * left(odd, even), torch.addcmul(b[1::2], odd, left(odd, b[0 : 2 * pairs : 2])), h_0, out[1::2])
    torch.addcmul(b[0], a[0], left(a[0], h_0), out=out[0])
    if num_steps > 2:
        a_rest = a if is_constant else a[2::2]
        torch.addcmul(b[2::2], a_rest, left(a_rest, out[1:-1:2]), out=out[2::2])


def _parallel(a: Tensor, b: Tensor, h_0: Tensor, reverse: bool) -> Tensor:
    a, b_work, start = work(a), work(b), work(h_0)
    if reverse:
        a, b_work = a.flip(0), b_work.flip(0)
    out = torch.empty_like(b_work, memory_format=torch.contiguous_format)
    _merge(a, b_work, start, out)
    return (out.flip(0) if reverse else out).to(b.dtype)


def forward(method: str, a: Tensor, b: Tensor, h_0: Tensor, reverse: bool) -> Tensor:
    """Return h (T, B, H), contiguous, for any strides of the arguments."""
    a = compact(a)
    b, h_0 = b.resolve_conj().resolve_neg(), h_0.resolve_conj().resolve_neg()
    if not b.numel():
        return torch.empty_like(b, memory_format=torch.contiguous_format)
    if method == "numba":
        from rnnlab_kernels.schedules.scan.by_numba import forward as run
    elif method == "triton":
        from rnnlab_kernels.schedules.scan.by_triton import forward as run
    else:
        run = {"sequential": _sequential, "parallel": _parallel}[method]
    return run(a, b, h_0, reverse)


def backward(
    method: str, a: Tensor, h_0: Tensor, h: Tensor, g: Tensor, reverse: bool, need_a: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return da (None unless needed), db, dh_0, without a graph."""
    if method in ("numba", "triton") and g.numel():
        if method == "numba":
            from rnnlab_kernels.schedules.scan.by_numba import backward as run
        else:
            from rnnlab_kernels.schedules.scan.by_triton import backward as run
        a, g, h_0 = compact(a), g.resolve_conj().resolve_neg(), h_0.resolve_conj().resolve_neg()
        return run(a, h_0, h, g, reverse, need_a)
    dh = _scan_back(method, a, g, reverse)
    first, rest, before = (-1, slice(None, -1), slice(1, None)) if reverse else (0, slice(1, None), slice(None, -1))
    da = None
    if need_a:
        da = torch.empty_like(dh)
        torch.mul(dh[rest], h[before].conj(), out=da[rest])
        torch.mul(dh[first], h_0.conj(), out=da[first])
    return da, dh, left(a[first], dh[first]) * a[first].conj()


def _scan_back(method: str, a: Tensor, g: Tensor, reverse: bool, with_graph: bool = False) -> Tensor:
    """Return dh: the scan of g the other way, which starts from the gradient of the last step visited."""
    if len(g) == 1:
        return g.clone()
    scan = _differentiable if with_graph else forward
    if reverse:
        return torch.cat((g[:1], scan(method, a[:-1].conj(), g[1:], g[0], False)))
    return torch.cat((scan(method, a[1:].conj(), g[:-1], g[-1], True), g[-1:]))


def _differentiable(method: str, a: Tensor, b: Tensor, h_0: Tensor, reverse: bool) -> Tensor:
    return node.run(Call("scan", method, reverse=reverse), a, b, h_0)[0]


class Scan(Engine):
    """The methods as an engine. Inputs: a, b, h_0."""

    keeps_results = True

    def num_results(self, call: Call) -> int:
        return 1

    def forward(self, call: Call, inputs: Tensors) -> tuple[list[Tensor], Kept]:
        a, b, h_0 = inputs
        return [forward(call.method, a, b, h_0, bool(call.reverse))], []

    def fake(self, call: Call, inputs: Tensors) -> list[Tensor]:
        return [inputs[1].new_empty(inputs[1].shape)]

    def backward(
        self, call: Call, inputs: Tensors, kept: Kept, grads: Sequence[Tensor | None], needed: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        (a, _, h_0), (h,) = inputs, kept
        g = torch.zeros_like(h) if grads[0] is None else grads[0]
        return backward(call.method, a, h_0, h, g, bool(call.reverse), needed[0])

    def backward_with_graph(
        self, call: Call, inputs: Tensors, kept: Kept, grads: Sequence[Tensor | None], needed: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        (a, _, h_0), (h,) = inputs, kept
        g = torch.zeros_like(h) if grads[0] is None else grads[0]
        dh = _scan_back(call.method, a, g, bool(call.reverse), with_graph=True)
        start = h_0.unsqueeze(0)
        before = torch.cat((h[1:], start) if call.reverse else (start, h[:-1]))
        first = -1 if call.reverse else 0
        return dh * before.conj(), dh, left(a[first], dh[first]) * a[first].conj()


def _loop(a: Tensor, b: Tensor, h_0: Tensor, reverse: bool) -> Tensor:
    dtype = b.dtype
    a_steps, b_steps, state = work(a).unbind(0), work(b).unbind(0), work(h_0)
    outputs: list[Tensor] = [state] * len(b_steps)
    for t in step_order(len(b_steps), reverse):
        state = a_steps[t] * left(a_steps[t], state) + b_steps[t]
        outputs[t] = state
    return torch.stack(outputs).to(dtype)


def _check(a: Tensor, b: Tensor, h_0: Tensor) -> None:
    if b.dim() != 3 or b.shape[0] < 1:
        raise ValueError(f"b must be (T, B, H) with T >= 1, got {tuple(b.shape)}")
    if a.shape != b.shape:
        raise ValueError(f"a must have the shape of b, {tuple(b.shape)} (a.expand_as(b) is free), got {tuple(a.shape)}")
    if h_0.shape != b.shape[1:]:
        raise ValueError(f"h_0 must be (B, H) = {tuple(b.shape[1:])}, got {tuple(h_0.shape)}")
    if not a.dtype == b.dtype == h_0.dtype:
        raise ValueError(f"a, b and h_0 must have one dtype, got {a.dtype}, {b.dtype} and {h_0.dtype}")
    if not (b.is_floating_point() or b.is_complex()):
        raise ValueError(f"a, b and h_0 must be floating point or complex, not {b.dtype}")


def linear_scan(a: Tensor, b: Tensor, h_0: Tensor, *, reverse: bool = False, method: str = "auto") -> Tensor:
    """Return all h_t = a_t * h_{t-1} + b_t, element by element; differentiable any number of times.

    The result is kept for backward, as that of `torch.tanh` is: to change it in place, clone it first.

    Args:
        a: (T, B, H) coefficients, T >= 1; 0 leaves nothing of the state before, whatever that is. An expanded tensor,
            such as one coefficient a unit at all steps, is not copied; its gradient is formed at full size before
            autograd sums it.
        b: (T, B, H) what is added.
        h_0: (B, H) the state before the first step visited.
        reverse: from the last step to the first; `h_0` then stands after the last.
        method: one of `METHODS`, or "auto", which `choose_method` settles.

    All three have one dtype: float32, float64, complex64, complex128, or float16 and bfloat16, which are computed in
    fp32 from the first step to the last and rounded when stored.

    Returns:
        h (T, B, H) aligned with `b`, contiguous.

    Raises:
        ValueError: shapes or dtypes do not fit together, or there is no such method.
        RuntimeError: the method asked for does not take such tensors.
    """
    _check(a, b, h_0)
    if method == "auto":
        method, _ = choose_method(b.device, b.dtype)
    taken, reason = supports(method, b.device, b.dtype)
    if not taken:
        raise RuntimeError(f"linear_scan: method {method!r} cannot run here: {reason}")
    if method == "loop":
        return _loop(a, b, h_0, reverse)
    return _differentiable(method, a, b, h_0, reverse)
