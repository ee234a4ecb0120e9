"""What the gradients of pre-activations at all steps come to: those of the input and of the weights, all at once.

T time, B batch, N columns of the input part, W width of a value.
"""

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from rnnlab_kernels.cells.chain import Gates, Product
from rnnlab_kernels.schedules.layout import zero_rows
from rnnlab_kernels.schedules.stepwise.frame import Frame
from rnnlab_kernels.schedules.stepwise.products import bind_product, scratch, weight_gradient


class Gradients:
    """The gradients of pre-activations over time, as buffers, and what is made of them when the loop is done.

    Attributes:
        dx: (T, B, N).
        dpre: by the value, (T, B, W).
        dconstants: (R, H), any rows, which are summed.
        dweights: of norms, summed already.
        sums: of dx by that name and of dpre, over all rows, those that have been made.
        inside: the places among T*B of the rows that dx and dpre have, then as (R, W): the gradients of the others are
            zeros. None if they have all.
        is_in_order: whether the gradient of x has its rows in the order of x as it was given, not in the frame's.
        joined: whether the loop itself forms those of weights and of the input, `dinput`: then there is nothing of dx
            and dpre but sums.
    """

    def __init__(self, frame: Frame, joined: bool = False, inside: Tensor | None = None) -> None:
        self.frame, self.joined, self.inside, self.is_in_order = frame, joined, inside, False
        self.dinput: Tensor | None = None
        chain, x = frame.chain, frame.given
        shape = (frame.num_steps, frame.batch) if inside is None else (len(inside),)
        self.dpre: dict[str, Tensor] = {}
        self.dconstants: dict[str, Tensor] = {}
        self.dweights: dict[str, Tensor] = {}
        self.sums: dict[str, Tensor] = {}
        if joined:
            return
        # An input part without weight is an input itself: its gradient is handed out, not scratch.
        self.dx = scratch("dx", x, *shape, frame.num_columns) if "ih" in frame.weights else x.new_empty(x.shape)
        plan = frame.plan
        for stage in chain.stages:
            for name in stage.out if isinstance(stage, Gates) else (stage.out,):
                if name in plan.into_dx:
                    self.dpre[name] = self.dx
                elif not isinstance(stage, Gates) or name in plan.recurrent_parts:
                    self.dpre[name] = scratch(f"d{name}", x, *shape, frame.width[name])

    def _sum(self, name: str, grad: Tensor | None) -> Tensor:
        """Return the sum over all rows of the gradient of a value (R, W), or of "dx"; None if it is summed already."""
        name = "dx" if name in self.frame.plan.into_dx else name
        if name not in self.sums and grad is not None:
            self.sums[name] = grad.sum(0, dtype=self.frame.work)
        return self.sums[name]

    def finish(self, named: Mapping[str, Tensor], needed: tuple[bool, ...]) -> list[Tensor | None]:
        """Return the gradients of x and of the weights, in the order of `call.names`.

        Args:
            named: values at all steps (T, B, W).
            needed: for x, the weights and the initial states.
        """
        frame, weights, inside = self.frame, self.frame.weights, self.inside

        def flat(value: Tensor, name: str) -> Tensor:
            if value.dim() == 2:
                return value
            rows = value.flatten(0, 1)
            if inside is None or self._has_all():
                return rows
            room = scratch(f"inside {name}", rows, len(inside), rows.shape[1])
            return torch.index_select(rows, 0, inside, out=room)

        names = frame.call.names
        wanted = dict(zip(names, needed[1:], strict=False))
        parts: list[tuple[str, Tensor]] = []
        dinput = self.dinput
        if not self.joined:
            flat_dx = flat(self.dx, "dx")
        if self.joined:
            if wanted.get("bias_ih"):
                parts.append(("bias_ih", self.sums["dx"]))
        elif "ih" not in weights:
            dinput = self.dx
        else:
            if needed[0]:
                dinput = self._spread(bind_product(weights["ih"].t(), len(flat_dx))(flat_dx))
            if wanted["ih"]:
                parts.append(("ih", weight_gradient(flat_dx, self._input())))
            if wanted.get("bias_ih"):
                parts.append(("bias_ih", self._sum("dx", flat_dx)))
        for stage in frame.chain.stages:
            if isinstance(stage, Product):
                dpre = None
                if not self.joined:
                    dpre = flat_dx if stage.out in frame.plan.into_dx else flat(self.dpre[stage.out], f"d{stage.out}")
                if dpre is not None and wanted[stage.weight]:
                    source = flat(self._sources(stage, named), f"source of {stage.out}")
                    parts.append((stage.weight, weight_gradient(dpre, source)))
                if stage.bias is not None and wanted.get(stage.bias):
                    parts.append((stage.bias, self._sum(stage.out, dpre)))
        found: dict[str, Tensor] = {}
        for name, grad in parts:
            found[name] = found[name] + grad if name in found else grad  # stages may share a weight
        found |= self.dweights
        for name, grad in self.dconstants.items():
            found[name] = grad.sum(0)
        grads = [dinput]
        given: set[int] = set()
        for name in names:
            if name not in found:
                grads.append(None)
                continue
            grad = found[name].to(weights[name].dtype)
            if id(grad) in given:  # of two biases that are added: each gets memory of its own
                grad = grad.clone()
            given.add(id(grad))
            grads.append(grad)
        return grads

    def _has_all(self) -> bool:
        return self.inside is None or len(self.inside) == self.frame.num_steps * self.frame.batch

    @cached_property
    def _places(self) -> Tensor:
        """Return where the rows that are inside stand in x as it was given."""
        inside, order, batch = self.inside, self.frame.order, self.frame.batch
        assert inside is not None
        return inside if order is None else inside - inside % batch + order[inside % batch]

    def _spread(self, rows: Tensor) -> Tensor:
        """Return the gradient of x (T, B, I) from its rows."""
        shape = self.frame.given.shape
        if self._has_all():
            return rows.view(shape)
        self.is_in_order = True
        return rows.new_zeros(shape).flatten(0, 1).index_copy_(0, self._places, rows).view(shape)

    def _input(self) -> Tensor:
        """Return the rows of x that are inside (R, I)."""
        frame, mask = self.frame, self.frame.call.mask
        if self._has_all() or mask is None or self.inside is None:
            return frame.x.flatten(0, 1)
        rows = frame.given.flatten(0, 1).index_select(0, self._places)
        return zero_rows(rows, mask.expand(-1, frame.batch, 1).flatten().index_select(0, self.inside))

    def _sources(self, stage: Product, named: Mapping[str, Tensor]) -> Tensor:
        """Return what a product multiplied at all steps (T, B, K)."""
        masks = self.frame.masks.sources
        parts = list(map(named.__getitem__, stage.sources))
        for k, name in enumerate(stage.sources):
            parts[k] = parts[k] * masks[name] if name in masks else parts[k]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, -1)).to(self.frame.given.dtype)
