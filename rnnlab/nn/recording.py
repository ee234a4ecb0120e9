"""How large the gradients are that flow back through a layer, step by step, as its backward pass meets them.

    with layer.record() as recording:
        loss(layer(x)).backward()
    recording[0].state["h"]  # norms of dL/dh_t, (T, B)

Letters: T time, B batch, H hidden_size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rnnlab.nn.backend import is_transformed
from rnnlab_kernels.schedules.recording import Flow as Squares

if TYPE_CHECKING:
    from rnnlab.nn.unroll import Side


class Flow(NamedTuple):
    """The gradients of one layer and direction in a backward pass: norms over its units, each (T, B), by name.

    All are zero outside a row's length, and of gradients as they are before `clip_grad_step`. Of a linear recurrence
    that runs as a scan, or whose state is complex, there is no `gate` and no `recurrent`; of a cell that states no gate
    maths only `state`.

    Attributes:
        state: of dL/ds_t, the state after step t as gate maths give it: all of it, what it owes to the step's other
            states included.
        gate: of the pre-activations of the gates.
        direct: of what step t hands back to a state before it element by element: the cell path of an LSTM, dc_t * f_t.
        recurrent: of what it hands back through the recurrent weights.
        values: what the gate maths kept, (T, B, H), the activated gates among it, of a minLSTM q_f and q_i, see
            `rnnlab_kernels.cells.min_rnn`; empty unless asked for.
    """

    state: dict[str, Tensor]
    gate: dict[str, Tensor]
    direct: dict[str, Tensor]
    recurrent: dict[str, Tensor]
    values: dict[str, Tensor]

    def over_batch(self, kind: str) -> dict[str, Tensor]:
        """Return the norms (T,) over all rows of `kind`: "state", "gate", "direct" or "recurrent"."""
        return {name: torch.linalg.vector_norm(norms, dim=1) for name, norms in getattr(self, kind).items()}

    def direct_share(self) -> Tensor:
        """Return which share of the squared gradient that step t hands back takes the direct way, (T,).

        NaN of none, and so at every step of a cell that states no gate maths.
        """
        like = next(iter(self.state.values()), torch.empty(0, 0))
        nothing = like.new_zeros(len(like))
        direct, recurrent = (
            sum((norms.square().sum(1) for norms in ways.values()), nothing) for ways in (self.direct, self.recurrent)
        )
        return direct / (direct + recurrent)


class Recording:
    """What `layer.record()` gives: a `Flow` for each layer and direction, of the last call of `forward` with gradients.

    Calls of `step` are one call of as many steps, until a backward pass has come through them.

    Example:
        >>> import torch, rnnlab.nn
        >>> layer = rnnlab.nn.LSTM(3, 4)
        >>> with layer.record() as recording:
        ...     layer(torch.zeros(5, 2, 3))[0].sum().backward()
        >>> len(recording), recording[0].state["c"].shape
        (1, torch.Size([5, 2]))
    """

    def __init__(self, values: bool) -> None:
        self.values = values
        self._sides: list[_Direction] | list[_Steps] = []

    def of_call(self, backwards: Sequence[bool], num_steps: int) -> list[_Direction]:
        """Return what records each layer and direction of a call, by whether they start at the end."""
        self._sides = sides = [_Direction(self.values, num_steps, reverse) for reverse in backwards]
        return sides

    def put_back(self, order: Tensor) -> None:
        """Tell rows of the last call in an order (B,) of their own: it has run them in another."""
        for side in self._sides:
            assert isinstance(side, _Direction)
            side.order = order

    def of_step(self, num_layers: int) -> list[_Direction]:
        """Return what records each layer of a step, which goes on with those before it."""
        sides = [side for side in self._sides if isinstance(side, _Steps) and not side.is_told]
        if len(sides) != num_layers:
            sides = [_Steps(self.values) for _ in range(num_layers)]
        self._sides = sides
        return [side.next() for side in sides]

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Become None in copies: nothing would end the recording of a copied layer."""
        return type(None), ()

    def __len__(self) -> int:
        return len(self._sides)

    def __getitem__(self, index: int) -> Flow:
        """Return the flow of layer and direction `index`, in the order of torch's states.

        Raises:
            IndexError: there is none.
            RuntimeError: no backward pass has come through it.
        """
        return self._sides[index].flow()


class _Direction:
    """What records one layer and direction of a call, piece by piece where it runs in windows."""

    def __init__(self, values: bool, num_steps: int, reverse: bool) -> None:
        self.values, self.num_steps, self.reverse = values, num_steps, reverse
        self.order: Tensor | None = None
        self._pieces: list[Squares] = []

    def __call__(self, flow: Squares) -> None:
        if sum(map(_steps_of, self._pieces)) + _steps_of(flow) > self.num_steps:
            self._pieces = []  # of an earlier pass through the same graph
        self._pieces.append(flow)

    @property
    def is_told(self) -> bool:
        """Whether a gradient has come."""
        return bool(self._pieces)

    def flow(self) -> Flow:
        if not self._pieces:
            raise RuntimeError(_NONE_CAME)
        missing = self.num_steps - sum(map(_steps_of, self._pieces))  # of windows that no gradient came to
        kinds: dict[str, dict[str, Tensor]] = {kind: {} for kind in ("state", "gate", "direct", "recurrent", "value")}
        for kind, name in self._pieces[0]:
            parts = [piece[kind, name] for piece in self._pieces]
            # The window that comes last in a call comes first in its backward pass.
            parts.insert(0, parts[0].new_full((missing, *parts[0].shape[1:]), torch.nan if kind == "value" else 0.0))
            whole = torch.cat(parts if self.reverse else parts[::-1])
            whole = whole if self.order is None else whole.index_select(1, self.order)
            kinds[kind][name] = whole if kind == "value" else whole.sqrt()
        return Flow(*kinds.values())


class _Steps:
    """What records one layer in calls of `step`, one after the other."""

    def __init__(self, values: bool) -> None:
        self.values = values
        self._steps: list[_Direction] = []

    def next(self) -> _Direction:
        """Return what records the next step."""
        self._steps.append(_Direction(self.values, 1, False))
        return self._steps[-1]

    @property
    def is_told(self) -> bool:
        """Whether a gradient has come to any of them."""
        return any(step.is_told for step in self._steps)

    def flow(self) -> Flow:
        flows = [step.flow() if step.is_told else None for step in self._steps]
        like = next((flow for flow in flows if flow is not None), None)
        if like is None:
            raise RuntimeError(_NONE_CAME)
        kinds: dict[str, dict[str, Tensor]] = {}
        for kind, named in like._asdict().items():
            nothing = torch.nan if kind == "values" else 0.0
            kinds[kind] = {
                name: torch.cat([torch.full_like(one, nothing) if f is None else getattr(f, kind)[name] for f in flows])
                for name, one in named.items()
            }
        return Flow(**kinds)


class OfComplex:
    """Tells a recorder of one complex state h, as a scan does, what a chain tells of its two parts, `names`."""

    def __init__(self, recorder: Callable[[Squares], None], names: Sequence[str]) -> None:
        self.recorder, self.names = recorder, names
        self.values = False  # gates of two parts are none of h

    def __call__(self, flow: Squares) -> None:
        kinds = ("state", "direct")
        self.recorder({(kind, "h"): torch.stack([flow[kind, part] for part in self.names]).sum(0) for kind in kinds})


_NONE_CAME = "no gradient has come through this call: call backward on what the layer gave"


def _steps_of(flow: Squares) -> int:
    return len(next(iter(flow.values()))) if flow else 0


class Recordable:
    """What can record the gradients that flow back through it."""

    recording: Recording | None = None

    @contextmanager
    def record(self, values: bool = False) -> Iterator[Recording]:
        """Let calls of `forward` and of `step` within the context record the gradients of their backward pass.

        Norms cost some percent of a step. `backend="auto"` takes one that records: the compiled one on a CPU, Triton's
        pointwise one on CUDA; torch's own kernels and those of one launch do not.

        Args:
            values: keep what the gate maths kept, the activated gates among it, too.

        Raises:
            RuntimeError: in calls, where a backend asked for by name records nothing, under torch.compile, or within
                transforms of torch.func.
        """
        before, self.recording = self.recording, Recording(values)
        try:
            yield self.recording
        finally:
            self.recording = before


def recorded(recording: Recording, sides: Sequence[Side], x: Tensor, is_step: bool) -> Sequence[Side]:
    """Return the directions of the layers of a call on x (T, B, I), so that their backward passes are recorded.

    Args:
        is_step: whether it is a call of `step`, T = 1.

    Raises:
        RuntimeError: the call is being compiled or transformed.
    """
    if not torch.is_grad_enabled():
        return sides
    if torch.compiler.is_compiling():
        raise RuntimeError("compiled programs record no gradients: leave torch.compile or layer.record()")
    if is_transformed():
        raise RuntimeError("transforms of torch.func record no gradients: leave them or layer.record()")
    if is_step:
        recorders = recording.of_step(len(sides))
    else:
        recorders = recording.of_call([side.reverse for side in sides], len(x))
    return [
        side._replace(additions=side.additions._replace(recorder=recorder))
        for side, recorder in zip(sides, recorders, strict=True)
    ]
