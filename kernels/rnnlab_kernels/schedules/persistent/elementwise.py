"""The whole sequence of a cell without a recurrent product in one compiled loop or one launch.

Such a cell takes its gates from the input alone; the state before a step and constants of each unit, such as IndRNN's
recurrent weight, enter its gate maths element by element:

    state_t, saved_t = gates_fwd(gates_x_t, (carried states_{t-1}, constants))

No unit of no row waits for another, so that one loop, or one program, runs a unit from the first step to the last.
Backward goes the same way back and calls `gates_bwd`; gradients of constants are summed over time where they arise,
for each row apart, and over rows afterwards: fp32 throughout, no atomics.

| method | how |
| --- | --- |
| loop | plain autograd: the oracle |
| numba | one compiled loop on a CPU, float32 |
| triton | one launch, of the kernels of api.py: a chain without a product; fp32, fp16, bf16 storage, fp32 registers |

T time, B batch, H units, G gates, K states, S saved values, C constants. Saved for backward:

| tensor | shape | dtype |
| --- | --- | --- |
| initial states, constants, mask | as given | as given |
| h | (T, B, H) | dtype of gates_x |
| further states | (T, B, K-1, H) | working dtype |
| what the cell keeps | (T, B, S, H) | dtype of gates_x |

This is what numba saves, and gates_x as given, out of which it computes the gradients again when a graph of them is
asked for.
"""

import importlib
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from rnnlab_kernels import launch
from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.bind import CELLS_BY_KEY
from rnnlab_kernels.cells.chain import Chain, Gates, made_once
from rnnlab_kernels.schedules import engines, node
from rnnlab_kernels.schedules.engines import Call, Engine, Kept, backward_through
from rnnlab_kernels.schedules.layout import as_bytes, settled, step_order, work, zero_padding

Tensors = tuple[Tensor, ...]
METHODS = ("loop", "numba", "triton")


def cell_of(call: Call) -> Cell:
    """Return what a call of this engine runs."""
    assert isinstance(call.maths, Cell)
    return call.maths


def carried_states(cell: Cell) -> tuple[int, ...]:
    """Return the positions in `cell.states` of what `cell.carried` starts with; the rest of it is constants."""
    names = [name for name in cell.carried if name in cell.states]
    if tuple(names) != cell.carried[: len(names)]:
        raise ValueError(f"cell {cell.name}: carried names its states first, then its constants: {cell.carried}")
    return tuple(cell.states.index(name) for name in names)


@made_once
def _chain_of(key: str) -> Chain:
    cell = CELLS_BY_KEY[key]
    num_carried = len(carried_states(cell))
    before, constants = cell.carried[:num_carried], cell.carried[num_carried:]
    update = Gates(cell, cell.states, (*(f"{name}_prev" for name in before), *constants))
    return Chain(cell.name, cell.states, (update,), cell.states[0], constants)


def supports(method: str, device: torch.device, dtype: torch.dtype) -> tuple[bool, str]:
    """Return whether a method takes such tensors, and the reason in a few words."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)} or auto, not {method!r}")
    if method == "numba":
        return launch.fused_supported(device, dtype)
    if method == "triton":
        return launch.supported(device, dtype)
    return True, "torch's operators take every device and dtype"


def choose_method(device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Return the method that `method="auto"` stands for, and the reason in a few words."""
    method = "numba" if device.type == "cpu" else "triton"
    taken, reason = supports(method, device, dtype)
    return (method if taken else "loop"), reason


def _loop(
    cell: Cell, gates_x: Tensor, state_0: Tensors, constants: Tensors, mask: Tensor | None, reverse: bool
) -> tuple[Tensor, ...]:
    gates_fwd, dtype, carried = cell.torch_fwd, gates_x.dtype, carried_states(cell)
    if mask is not None:
        gates_x = zero_padding(gates_x, mask)
    gates = [gate.unbind(0) for gate in work(gates_x).unflatten(-1, (cell.num_gates, -1)).unbind(-2)]
    state, fixed = tuple(map(work, state_0)), tuple(map(work, constants))
    outputs: list[Tensor] = [state[0]] * len(gates_x)
    for t in step_order(len(gates_x), reverse):
        new, _ = gates_fwd(tuple(gate[t] for gate in gates), (*(state[k] for k in carried), *fixed))
        if mask is not None:
            new = tuple(torch.where(mask[t], a, b) for a, b in zip(new, state, strict=True))
        state = new
        outputs[t] = state[0]
    output = torch.stack(outputs).to(dtype)
    # Copies: gate maths may hand on what they were given.
    return output if mask is None else zero_padding(output, mask), *(value.to(dtype, copy=True) for value in state)


def run_forward(
    call: Call, gates_x: Tensor, state_0: Sequence[Tensor], constants: Sequence[Tensor]
) -> tuple[list[Tensor], Tensors]:
    """Return output and last states; and h, the other states and what the cell keeps, at all steps."""
    h, rest, saved = _kernels().forward(call, gates_x, *_stacked(gates_x, state_0, constants))
    last = 0 if call.reverse else -1
    # Copies: what is saved is not given out, so that callers may change the results in place.
    output = h.clone() if call.mask is None else zero_padding(h, call.mask.unsqueeze(-1).bool())
    results = [output, h[last].clone(), *(value.to(h.dtype, copy=True) for value in rest[last].unbind(1))]
    return results, (h, rest, saved)


def run_backward(
    call: Call,
    dtype: torch.dtype,
    state_0: Sequence[Tensor],
    constants: Sequence[Tensor],
    kept: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> Tensors:
    """Return the gradients of gates_x, which has a `dtype`, initial states and constants."""
    h, rest, saved = kept
    h_0, rest_0, fixed = _stacked(h.new_empty(0, dtype=dtype), state_0, constants)
    doutput, *dstate_n = grads
    if doutput is None:
        doutput = torch.zeros_like(h)
    zeros = torch.zeros_like(work(h_0))
    dstate = torch.stack([zeros if grad is None else work(grad) for grad in dstate_n], 1)
    dgates, dconstants = _kernels().backward(
        call, settled(doutput).contiguous(), dstate, h, rest, saved, h_0, rest_0, fixed
    )
    return (dgates, *dstate.unbind(1), *dconstants.sum(0).unbind(0))


class Elementwise(Engine):
    """The compiled loop as an engine. Inputs: gates_x, initial states, constants."""

    def _parts(self, call: Call, inputs: Sequence[Tensor]) -> tuple[Call, Sequence[Tensor], Sequence[Tensor]]:
        """Return the call with a mask of bytes, initial states and constants."""
        split = 1 + len(cell_of(call).states)
        return call._replace(mask=as_bytes(call.mask)), inputs[1:split], inputs[split:]

    def forward(self, call: Call, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Kept]:
        if call.method == "triton":  # in programs saved by version 0.1, which had a kernel for it
            cell = cell_of(call)
            chain, split = _chain_of(cell.key), 1 + len(cell.states)
            call = call._replace(engine="sequence", method="sequence", maths=chain, names=chain.constants)
            inputs = inputs[0], *inputs[split:], *inputs[1:split]
            engine = engines.ENGINES[call.engine]
            return engine.forward(engine.planned(call, inputs), inputs)
        call, state_0, constants = self._parts(call, inputs)
        given = [settled(tensor) for tensor in (*state_0, *constants)]
        num_states = len(state_0)
        results, kept = run_forward(call, settled(inputs[0]), given[:num_states], given[num_states:])
        return results, list(kept)

    def fake(self, call: Call, inputs: Sequence[Tensor]) -> list[Tensor]:
        call, state_0, _ = self._parts(call, inputs)
        gates_x, (batch, hidden) = inputs[0], state_0[0].shape
        num_steps = gates_x.shape[0]
        found = [gates_x.new_empty(num_steps, batch, hidden), *(gates_x.new_empty(value.shape) for value in state_0)]
        if call.keep:
            found += [gates_x.new_empty(num_steps, batch, hidden)]
            found += [gates_x.new_empty(num_steps, batch, len(state_0) - 1, hidden, dtype=torch.float32)]
            found += [gates_x.new_empty(num_steps, batch, len(cell_of(call).saved), hidden)]
        return found

    def backward(
        self,
        call: Call,
        inputs: Sequence[Tensor],
        kept: Kept,
        grads: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> Sequence[Tensor | None]:
        call, state_0, constants = self._parts(call, inputs)
        found = run_backward(call, inputs[0].dtype, state_0, constants, kept, grads)
        return [grad.to(value.dtype) for value, grad in zip(inputs, found, strict=True)]

    def backward_with_graph(
        self,
        call: Call,
        inputs: Sequence[Tensor],
        kept: Kept,
        grads: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> Sequence[Tensor | None]:
        cell, mask, reverse = cell_of(call), call.mask, bool(call.reverse)
        split = 1 + len(cell.states)

        def run(gates_x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
            return _loop(cell, gates_x, rest[: split - 1], rest[split - 1 :], mask, reverse)

        return backward_through(run, inputs, grads, needed)


def _stacked(gates_x: Tensor, state_0: Sequence[Tensor], constants: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return h_0 (B, H), the other initial states (B, K-1, H) and the constants (C, H), all contiguous."""
    like = work(gates_x.new_empty(0))
    rest = [value.to(like.dtype) for value in state_0[1:]]
    fixed = [value.to(like.dtype) for value in constants]
    h_0 = state_0[0].to(gates_x.dtype).contiguous()
    return (
        h_0,
        torch.stack(rest, 1) if rest else like.new_empty(len(h_0), 0, h_0.shape[1]),
        torch.stack(fixed) if fixed else like.new_empty(0, h_0.shape[1]),
    )


def _check(cell: Cell, gates_x: Tensor, state_0: Tensors, constants: Tensors, mask: Tensor | None) -> None:
    if cell.split:
        raise ValueError(f"cell {cell.name} has gates with a recurrent part: it needs a schedule with a product")
    if gates_x.dim() != 3 or gates_x.shape[0] < 1 or gates_x.shape[2] % cell.num_gates:
        raise ValueError(f"gates_x must be (T, B, {cell.num_gates}*H) with T >= 1, got {tuple(gates_x.shape)}")
    batch, hidden = gates_x.shape[1], gates_x.shape[2] // cell.num_gates
    if [value.shape for value in state_0] != [(batch, hidden)] * len(cell.states):
        shapes = [tuple(value.shape) for value in state_0]
        raise ValueError(f"state_0 must be {len(cell.states)} tensors of ({batch}, {hidden}), got {shapes}")
    names = cell.carried[len(carried_states(cell)) :]
    if [value.shape for value in constants] != [(hidden,)] * len(names):
        shapes = [tuple(value.shape) for value in constants]
        raise ValueError(f"constants {names} must have the shape ({hidden},), got {shapes}")
    if mask is not None and (mask.dtype != torch.bool or mask.shape != (*gates_x.shape[:2], 1)):
        raise ValueError(f"mask must be boolean and {(*gates_x.shape[:2], 1)}, got {mask.dtype} {tuple(mask.shape)}")


def _kernels() -> ModuleType:
    return importlib.import_module("rnnlab_kernels.schedules.persistent.loop_numba")  # which imports this


def elementwise(
    cell: Cell,
    gates_x: Tensor,
    state_0: Tensors,
    *,
    constants: Tensors = (),
    mask: Tensor | None = None,
    reverse: bool = False,
    method: str = "auto",
) -> tuple[Tensor, Tensors]:
    """Run a cell without a recurrent product over a sequence.

    Args:
        cell: gate maths with no split gates; `carried` names states first, then constants.
        gates_x: (T, B, G*H) pre-activations, T >= 1, any strides.
        state_0: K tensors (B, H), in the order of `cell.states`.
        constants: tensors (H,), in the order in which `cell.carried` names them after the states.
        mask: (T, B, 1) boolean or None. Where False, a row's state is held and its output is zero.
        reverse: from the last step to the first.
        method: one of `METHODS`, or "auto", which `choose_method` settles.

    Returns:
        output (T, B, H), h at each step, aligned with `gates_x`, and the states after the last visited step, all in
        the dtype of `gates_x`. States are carried in fp32 where that is half precision.

    Raises:
        ValueError: the tensors do not fit the cell or each other, or there is no such method.
        RuntimeError: the method asked for does not take such tensors; or, from the backward pass of "triton", a graph
            of the gradients was asked for.
    """
    _check(cell, gates_x, state_0, constants, mask)
    if method == "auto":
        method, _ = choose_method(gates_x.device, gates_x.dtype)
    taken, reason = supports(method, gates_x.device, gates_x.dtype)
    if not taken:
        raise RuntimeError(f"elementwise: method {method!r} cannot run here: {reason}")
    if method == "loop" or not gates_x.numel():
        output, *state_n = _loop(cell, gates_x, state_0, constants, mask, reverse)
        return output, tuple(state_n)
    if method == "triton":
        from rnnlab_kernels.schedules.persistent.api import sequence

        chain = _chain_of(cell.key)
        return sequence(
            chain, gates_x, state_0, dict(zip(chain.constants, constants, strict=True)), mask, reverse=reverse
        )
    call = Call("elementwise", method, cell, reverse=reverse, mask=mask)
    output, *state_n = node.run(call, gates_x, *state_0, *constants)
    return output, tuple(state_n)
