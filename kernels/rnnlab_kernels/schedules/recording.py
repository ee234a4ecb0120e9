"""What a backward pass says of the gradients that go through it, step by step: how large they are, and by which way.

A recorder is called once for each pass, with tensors by (kind, name):

| kind | tensor | of |
| --- | --- | --- |
| state | (T, B) | dL/ds_t of a state: all of it, what comes through the step's other states included |
| gate | (T, B) | the pre-activation of a gate, see `gates_told`; of a split one its input part |
| direct | (T, B) | what step t hands back to a state before it element by element: by gate maths or zoneout |
| recurrent | (T, B) | what it hands back through products |
| value | (T, B, H) | what gate maths kept and gates they hand on; by their names, memory that others read |

Those of (T, B) are sums of squares over the units, before gradients are clipped. All are zero outside a row's length,
direct and recurrent ones where a row is reset.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.chain import Chain, Gates
from rnnlab_kernels.cells.trace import trace
from rnnlab_kernels.schedules.layout import work

Key = tuple[str, str]
Flow = Mapping[Key, Tensor]
Recorder = Callable[[Flow], None]


def obstacle_to_recording(chain: Chain, drops_candidate: bool) -> str:
    """Return why a hand-written backward pass does not know the whole gradient of a state, or an empty string."""
    for stage in chain.stages:
        if isinstance(stage, Gates):
            cell = stage.cell.dropped if drops_candidate and stage.cell.dropped is not None else stage.cell
            if cell.gates_total is None and _is_coupled(cell):
                return f"gates_total of {cell.name} is not given: what one state owes to another would be missing"
    return ""


def gates_told(chain: Chain, stage: Gates) -> tuple[str, ...]:
    """Return the names of an update's gates in a flow, with what it writes before those that another one has, too."""
    others = [other for other in chain.stages if isinstance(other, Gates) and other is not stage]
    taken = {name for other in others for name in other.cell.gates}
    return tuple(f"{stage.out[0]}_{name}" if name in taken else name for name in stage.cell.gates)


def gates_given(chain: Chain, stage: Gates) -> list[tuple[str, int]]:
    """Return name and place of the activated gates that an update gives out, for a later stage, in place of keeping."""
    names = enumerate(zip(stage.cell.states, stage.out, strict=True))
    return [(own, k) for k, (own, out) in names if own in stage.cell.gates and out not in chain.states]


@cache
def _is_coupled(cell: Cell) -> bool:
    """Return whether a new state is made of another one."""
    traced = trace(cell)
    for place in traced.state:
        seen, left = set[int](), list(traced.graph.arguments(place))
        while left:
            if (here := left.pop()) not in seen:
                seen.add(here)
                left += traced.graph.arguments(here)
        if seen & {*traced.state}:
            return True
    return False


class Tape:
    """The gradients that a loop in Python goes past, by kind and name, until it is done."""

    def __init__(self) -> None:
        self._steps: dict[Key, dict[int, Tensor]] = {}
        self._told: dict[Key, dict[int, Tensor]] = {}

    def add(self, kind: str, name: str, t: int, grad: Tensor) -> None:
        steps = self._steps.setdefault((kind, name), {})
        steps[t] = steps[t] + grad if t in steps else grad

    def close(self) -> None:
        """Let the gradients so far be whole. What is summed at once is in the nearest cache, and is not kept."""
        for key, steps in self._steps.items():
            told = self._told.setdefault(key, {})
            told |= steps if key[0] == "value" else {t: _norms(grad) for t, grad in steps.items()}
            steps.clear()

    def flow(self, num_steps: int) -> dict[Key, Tensor]:
        """Return sums of squares (T, B), and values as they are (T, B, W)."""
        self.close()
        found = {}
        for key, steps in self._told.items():
            empty = torch.zeros_like(next(iter(steps.values())))  # of a step that no gradient came to
            stacked = torch.stack([steps.get(t, empty) for t in range(num_steps)])
            found[key] = stacked if key[0] == "value" else stacked.square()
        return found


def squares(grad: Tensor) -> Tensor:
    """Return the sums of squares over the units of a gradient (..., W), at least in single precision."""
    return _norms(grad).square()


def _norms(grad: Tensor) -> Tensor:
    return torch.linalg.vector_norm(work(grad), dim=-1)  # one pass, also over complex numbers


def within(flow: dict[Key, Tensor], mask: Tensor | None, reset: Tensor | None) -> dict[Key, Tensor]:
    """Return a flow with kept values of the steps in `mask` (T, B, 1) alone, and nothing handed back where `reset`
    (T, B, 1) says that a row begins anew."""
    found = dict(flow)
    for (kind, name), value in flow.items():
        if mask is not None and kind == "value":
            found[kind, name] = value.masked_fill(~mask, 0)
        if reset is not None and kind in _BACK:
            found[kind, name] = value.masked_fill(reset[..., 0], 0)
    return found


_BACK = ("direct", "recurrent")


class Hooks:
    """The same of a plain loop, by hooks on what it computes; autograd calls them in any order.

    `inputs` are all that the loop reads, to be read in their place: when their gradients are complete, so is the tape.
    """

    def __init__(self, additions: Any, mask: Tensor | None, num_steps: int, *inputs: Tensor) -> None:
        self.tape, self.kept, self.recorder, self.num_steps = Tape(), Tape(), additions.recorder, num_steps
        self.mask, self.reset = mask, additions.reset
        leaf = torch.zeros((), requires_grad=True)  # so that autograd comes by, whatever needs a gradient
        _, *self.inputs = _WhenDone.apply(self._tell, leaf, *inputs)

    def watch(self, kind: str, name: str, t: int, value: Tensor) -> Tensor:
        """Put the whole gradient of a value on tape."""
        if value.requires_grad:
            value.register_hook(lambda grad: self.tape.add(kind, name, t, grad.detach()))
        return value

    def see(self, kind: str, name: str, t: int, value: Tensor) -> Tensor:
        """Return a view of a value: what comes by it alone is put on tape."""
        return self.watch(kind, name, t, value.view_as(value))

    def keep(self, name: str, t: int, value: Tensor) -> None:
        """Put what gate maths kept on tape, if it is wanted."""
        if self.recorder.values:
            self.kept.add("value", name, t, value.detach())

    def _tell(self) -> None:
        flow = self.tape.flow(self.num_steps) | self.kept.flow(self.num_steps)
        self.recorder(within(flow, self.mask, self.reset))
        self.tape = Tape()  # of the next backward pass through the same graph


class _WhenDone(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tell: Callable[[], None], *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.tell = tell
        return tuple(value.view_as(value) for value in inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        ctx.tell()
        return (None, None, *grads[1:])
