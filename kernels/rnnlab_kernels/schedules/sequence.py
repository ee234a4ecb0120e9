"""The whole sequence in one Triton launch: recurrent weights stay on the chip, time runs inside the kernel.

For cells that are one product with h_{t-1} and one gate update, as torch's are, and for peepholes, which are constants
of the update. The kernels are in sequence_triton.py, the choice of tiles in `launch.sequence_plan`. Outside the launch,
as products over T*B rows: the input part of the gates before it; dx and the gradients of all weights after it. Inside,
backward only writes gate gradients.

Where one program has all units of its rows, no program waits for another. Where several share them, all wait at a
barrier after each step, in a cooperative launch. Triton's interpreter runs one program after the other, so that there
such a launch covers one step.

T time, B batch, H units, G gates, K states, S saved values, C constants. Saved for backward:

| tensor | shape | dtype |
| --- | --- | --- |
| x, weights, initial states, mask, reset | as given | as given |
| h, its initial value included | (T+1, B, H) | dtype of x |
| further states, likewise | (T+1, B, K-1, H) | fp32 |
| with zoneout, the states before it | (T, B, K, H) | fp32 |
| what the gate update keeps (activated gates) | (T, B, S, H) | dtype of x |

A step outside the mask holds its states in these, too; the output is zero there.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from rnnlab_kernels.cells import Cell, bind_triton
from rnnlab_kernels.cells.chain import Chain, Gates, Product
from rnnlab_kernels.launch import SequencePlan, is_interpreting, sequence_plan
from rnnlab_kernels.schedules.layout import Weights, named_weights, settled, zero_padding
from rnnlab_kernels.schedules.noise import as_int32, keep_threshold, key_words
from rnnlab_kernels.schedules.walk import PLAIN, Noise, Walk, draw_masks

Tensors = tuple[Tensor, ...]


class Call(NamedTuple):
    """One call: all that is not differentiated. `mask` and `reset` are (T, B) bytes or None."""

    chain: Chain
    names: tuple[str, ...]  # of the weights
    plan: SequencePlan
    reverse: bool
    mask: Tensor | None
    reset: Tensor | None
    noise: Noise | None
    keep: bool

    @property
    def gates(self) -> Gates:
        return gates_of(self.chain)

    @property
    def drops_candidate(self) -> bool:
        noise = self.noise
        return noise is not None and noise.training and noise.candidate > 0 and self.gates.cell.dropped is not None

    @property
    def cell(self) -> Cell:
        """The gate maths: the variant that takes a mask, when candidates are dropped."""
        cell = self.gates.cell
        return cell.dropped if self.drops_candidate and cell.dropped is not None else cell

    @property
    def zone(self) -> int:
        """0 without zoneout, 1 where it is drawn, 2 in expectation."""
        noise = self.noise
        if noise is None or not any(noise.zoneout):
            return 0
        return 1 if noise.training else 2

    def dropped(self, h_0: Tensor) -> Tensor | None:
        """Return the mask (B, H) of what a step multiplies of the state before, scaled, or None."""
        noise = self.noise
        if noise is None or not noise.training or not noise.recurrent:
            return None
        only = Walk(noise=noise._replace(candidate=0.0, zoneout=()))
        return draw_masks(only, self.chain, (h_0,) * self.chain.num_states, 1).sources["h_prev"]

    def random(self) -> dict[str, Any]:
        """Return the arguments of both kernels from which they make masks."""
        noise = self.noise or Noise(0)
        words = [as_int32(word) for word in key_words(int(noise.seed))]
        rates = [*noise.zoneout, 0.0, 0.0][:2]
        scale = 1.0 if noise.candidate == 1 else 1 / (1 - noise.candidate)
        return {
            "key_0": words[0],
            "key_1": words[1],
            "first_step": noise.first,
            "candidate_threshold": keep_threshold(noise.candidate),
            "candidate_scale": scale,
            **{f"zoneout_{k}": float(keep_threshold(p)) if noise.training else 1 - p for k, p in enumerate(rates)},
        }

    def constexprs(self) -> dict[str, Any]:
        """Return the compile-time arguments that both kernels take."""
        cell = self.cell
        states = [name for name in cell.carried if name in cell.states]
        return {
            "CARRIED": tuple(cell.states.index(name) for name in states),
            "G": cell.num_gates,
            "SPLIT": cell.split,
            "K": len(cell.states),
            "C": len(cell.carried) - len(states) - self.drops_candidate,
            "S": len(cell.saved),
            "HAS_MASK": self.mask is not None,
            "HAS_RESET": self.reset is not None,
            "HAS_DROPPED": self.noise is not None and self.noise.training and self.noise.recurrent > 0,
            "HAS_CANDIDATE": self.drops_candidate,
            "ZONE": self.zone,
            "REVERSE": self.reverse,
            **self.plan.options,
        }


def supports(chain: Chain) -> tuple[bool, str]:
    """Return whether a chain is one product with h and one gate update, and the reason in a few words."""
    stages = chain.stages
    if len(stages) != 2 or not isinstance(stages[0], Product) or not isinstance(stages[1], Gates):
        return False, f"a step of {chain.name} is more than one product and one gate update"
    product, gates = stages[0], stages[1]
    states = tuple(f"{name}_prev" for name in gates.cell.carried if name in gates.cell.states)
    constants = gates.carried[len(states) :]
    whole = product.sources == ("h_prev",) and gates.recurrent == product.out and gates.first == 0
    whole = whole and gates.out == chain.states == gates.cell.states and chain.output == chain.states[0] == "h"
    if not whole or gates.carried[: len(states)] != states or not set(constants) <= {*chain.constants}:
        return False, f"the product and the gate update of {chain.name} are wired in another way"
    return True, "one product and one gate update"


def gates_of(chain: Chain) -> Gates:
    """Return the gate update of a chain that `supports` takes."""
    return next(stage for stage in chain.stages if isinstance(stage, Gates))


def plan_for(
    chain: Chain, walk: Walk, batch: int, hidden: int, dtype: torch.dtype, device: torch.device
) -> tuple[SequencePlan | None, str]:
    """Return the tiles for a chain, None where the schedule cannot run it, and the reason in a few words."""
    possible, reason = supports(chain)
    if possible and walk.clip is not None:
        possible, reason = False, "clipping between steps takes the pointwise schedule"
    return sequence_plan(gates_of(chain).cell.num_gates, batch, hidden, dtype, device) if possible else (None, reason)


def _launch(kernel: Any, call: Call, batch: int, num_steps: int, backwards: bool, **arguments: Any) -> None:
    """Run all positions: in one launch, or one by one where programs cannot wait for each other."""
    plan = call.plan
    alone = plan.grid[0] == 1
    barrier = not alone and not is_interpreting()
    semaphores = torch.zeros(plan.grid[1], dtype=torch.int32, device=call_device(arguments))
    size = num_steps if alone or barrier else 1
    starts = range(0, num_steps, size)
    for first in reversed(starts) if backwards else starts:
        kernel[plan.grid](
            barrier_ptr=semaphores,
            T=num_steps,
            B=batch,
            first_position=first,
            num_positions=size,
            BARRIER=barrier,
            **call.random(),
            **arguments,
            **call.constexprs(),
            **({"launch_cooperative_grid": True} if barrier else {}),
        )


def call_device(arguments: Mapping[str, Any]) -> torch.device:
    """Return the device of a launch's tensors."""
    return next(value.device for value in arguments.values() if isinstance(value, Tensor))


def _slots(buffer: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """Return the states before and after each step as views of a buffer (T+1, B, ...)."""
    return (buffer[1:], buffer[:-1]) if reverse else (buffer[:-1], buffer[1:])


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, *tensors: Tensor) -> Tensors:
        from rnnlab_kernels.schedules.sequence_triton import _sequence_fwd_kernel

        ctx.set_materialize_grads(False)
        weights = dict(zip(call.names, tensors, strict=False))
        state_0 = tensors[len(call.names) :]
        cell, (num_steps, batch), hidden = call.cell, x.shape[:2], state_0[0].shape[1]
        source = x if call.mask is None else zero_padding(x, call.mask.unsqueeze(-1).bool())
        gates_x = _input_part(call, source, weights)
        h = x.new_empty(num_steps + 1, batch, hidden)
        rest = x.new_empty(num_steps + 1, batch, len(state_0) - 1, hidden, dtype=torch.float32)
        start = num_steps if call.reverse else 0
        h[start].copy_(state_0[0])
        for k, value in enumerate(state_0[1:]):
            rest[start, :, k].copy_(value)
        saved = x.new_empty(num_steps if call.keep else 1, batch, len(cell.saved), hidden)
        steps = num_steps if call.zone and call.keep else 0
        fresh = x.new_empty(steps, batch, len(state_0), hidden, dtype=torch.float32)
        bias, dropped = weights.get("bias_hh"), call.dropped(state_0[0])
        _launch(
            _sequence_fwd_kernel,
            call,
            batch,
            num_steps,
            False,
            gates_x_ptr=gates_x,
            weight_ptr=settled(weights["hh"]).contiguous(),
            bias_ptr=h if bias is None else settled(bias)[cell.num_merged * hidden :].contiguous(),
            constants_ptr=_constants(call, weights, h),
            mask_ptr=h if call.mask is None else call.mask,
            reset_ptr=h if call.reset is None else call.reset,
            dropped_ptr=h if dropped is None else dropped,
            h_ptr=h,
            rest_ptr=rest,
            fresh_ptr=fresh,
            saved_ptr=saved,
            H=hidden,
            stride_saved_t=saved.stride(0) if call.keep else 0,
            GATES_FWD=bind_triton(cell.gates_fwd),
            HAS_BIAS=bias is not None,
            KEEP_FRESH=steps > 0,
            GATE_ROWS=call.plan.gate_rows,
        )
        # Masks are saved as tensors are, so that autograd notices when one was written into.
        ctx.call = call._replace(mask=None, reset=None)
        if call.keep:
            ctx.save_for_backward(call.mask, call.reset, x, *tensors, h, rest, fresh, saved)
        last = 0 if call.reverse else num_steps
        output = _slots(h, call.reverse)[1]
        output = output.clone() if call.mask is None else zero_padding(output, call.mask.unsqueeze(-1).bool())
        return output, h[last].clone(), *(value.to(x.dtype, copy=True) for value in rest[last].unbind(1))

    @staticmethod
    def backward(ctx: Any, doutput: Tensor | None, *dstate_n: Tensor | None) -> tuple[Tensor | None, ...]:
        from rnnlab_kernels.schedules.sequence_triton import _sequence_bwd_kernel

        if torch.is_grad_enabled():
            raise RuntimeError(
                "the fused backward pass of this recurrence cannot itself be differentiated: for create_graph=True "
                'build the module with backend="reference"'
            )
        mask, reset, x, *tensors, h, rest, fresh, saved = ctx.saved_tensors
        call: Call = ctx.call._replace(mask=mask, reset=reset)
        weights = dict(zip(call.names, tensors, strict=False))
        cell, (num_steps, batch), hidden = call.cell, x.shape[:2], h.shape[2]
        dropped = call.dropped(tensors[len(call.names)])
        dstate = torch.stack([_dstate(grad, h) for grad in dstate_n], 1)
        constants = _constants(call, weights, h)
        num_constants = call.constexprs()["C"]
        dconstants = torch.zeros(batch, num_constants, hidden, dtype=torch.float32, device=x.device)
        dgates = x.new_empty(num_steps, batch, cell.num_gates * hidden)
        dsplit = x.new_empty(num_steps, batch, cell.split * hidden)
        _launch(
            _sequence_bwd_kernel,
            call,
            batch,
            num_steps,
            True,
            doutput_ptr=torch.zeros_like(h[1:]) if doutput is None else settled(doutput).contiguous(),
            dstate_ptr=dstate,
            weight_ptr=settled(weights["hh"]).contiguous(),
            constants_ptr=constants,
            mask_ptr=h if mask is None else mask,
            reset_ptr=h if reset is None else reset,
            dropped_ptr=h if dropped is None else dropped,
            h_ptr=h,
            rest_ptr=rest,
            fresh_ptr=fresh,
            saved_ptr=saved,
            dgates_ptr=dgates,
            dsplit_ptr=dsplit,
            dconstants_ptr=dconstants,
            H=hidden,
            stride_saved_t=saved.stride(0),
            GATES_BWD=bind_triton(cell.gates_bwd),
        )
        grads = _finish(call, x, weights, h, dropped, dgates, dsplit, dconstants, dstate, ctx.needs_input_grad[1:])
        return (None, *(grad if need else None for grad, need in zip(grads, ctx.needs_input_grad[1:], strict=True)))


def _dstate(grad: Tensor | None, h: Tensor) -> Tensor:
    return torch.zeros(h.shape[1:], dtype=torch.float32, device=h.device) if grad is None else grad.float()


def _constants(call: Call, weights: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """Return the constants of the gate update (C, H) in fp32."""
    values = [weights[name].float().reshape(-1) for name in call.gates.carried if name in call.chain.constants]
    return torch.stack(values) if values else like.new_empty(0, like.shape[-1], dtype=torch.float32)


def _input_part(call: Call, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Return the input part of the gates (T, B, G*H) with every bias that is added to it whole."""
    merged = call.gates.cell.num_merged * (weights["hh"].shape[0] // call.gates.cell.num_gates)
    bias, recurrent = weights.get("bias_ih"), weights.get("bias_hh")
    if recurrent is not None:
        whole = torch.cat([recurrent[:merged], torch.zeros_like(recurrent[merged:])])
        bias = whole if bias is None else bias + whole
    if "ih" in weights:
        return linear(x, weights["ih"], bias).contiguous()
    return (settled(x) if bias is None else x + bias).contiguous()


def _finish(
    call: Call,
    x: Tensor,
    weights: Mapping[str, Tensor],
    h: Tensor,
    dropped: Tensor | None,
    dgates: Tensor,
    dsplit: Tensor,
    dconstants: Tensor,
    dstate: Tensor,
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Return the gradients of x, the weights in their order, and the initial states."""
    cell, hidden = call.gates.cell, h.shape[2]
    wanted = dict(zip(call.names, needed[1:], strict=False))
    recurrent = dgates
    if cell.split:
        recurrent = torch.cat([dgates[..., : cell.num_merged * hidden], dsplit], -1)
    flat_x, flat_h = dgates.flatten(0, 1), recurrent.flatten(0, 1)
    found: dict[str, Tensor] = {}
    dx: Tensor | None = dgates
    if "ih" in weights:
        dx = (flat_x @ weights["ih"]).view_as(x) if needed[0] else None
        if wanted["ih"]:
            source = x if call.mask is None else zero_padding(x, call.mask.unsqueeze(-1).bool())
            found["ih"] = flat_x.t() @ source.flatten(0, 1)
    if wanted.get("bias_ih"):
        found["bias_ih"] = flat_x.sum(0, dtype=torch.float32)
    if wanted.get("bias_hh"):
        found["bias_hh"] = flat_h.sum(0, dtype=torch.float32)
    if wanted["hh"]:
        before = _slots(h, call.reverse)[0]
        if call.reset is not None:
            before = zero_padding(before, call.reset.unsqueeze(-1) == 0)
        if dropped is not None:
            before = before * dropped
        found["hh"] = flat_h.t() @ before.flatten(0, 1)
    constants = [name for name in call.gates.carried if name in call.chain.constants]
    found |= {name: dconstants[:, k].sum(0) for k, name in enumerate(constants)}
    # The step before the first is no step of the kernel: what h_0 gets through its product is made here.
    first = -1 if call.reverse else 0
    dh_0 = recurrent[first].float() @ weights["hh"].float()
    if call.reset is not None:
        dh_0 = dh_0.masked_fill(call.reset[first].unsqueeze(-1) != 0, 0)
    if dropped is not None:
        dh_0 = dh_0 * dropped
    dstate_0 = [dstate[:, 0] + dh_0, *dstate[:, 1:].unbind(1)]
    dweights = [
        found[name].to(weights[name].dtype).view_as(weights[name]) if name in found else None for name in call.names
    ]
    return [dx, *dweights, *(grad.to(h.dtype) for grad in dstate_0)]


def _steps(flags: Tensor | None) -> Tensor | None:
    """Return (T, B, 1) booleans as (T, B) bytes."""
    return None if flags is None else flags.expand(-1, -1, 1).squeeze(-1).contiguous().view(torch.uint8)


def sequence(
    cell: Cell | Chain,
    x: Tensor,
    state_0: Tensors,
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    walk: Walk = PLAIN,
    plan: SequencePlan | None = None,
) -> tuple[Tensor, Tensors]:
    """Run one layer in one direction in one launch each way. Arguments and results as in `schedules.eager.eager`.

    Args:
        plan: tiles; those of `launch.sequence_plan` unless given.

    Raises:
        ValueError: the cell is more than a product and a gate update, the walk has clipping, or the recurrent weights
            do not fit on the chip.
    """
    chain, named = named_weights(cell, weights)
    planned, reason = plan_for(chain, walk, x.shape[1], state_0[0].shape[1], x.dtype, x.device)
    plan = plan or planned
    if planned is None or plan is None:
        raise ValueError(f"the sequence schedule cannot run this: {reason}")
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *named.values(), *state_0))
    call = Call(chain, tuple(named), plan, reverse, _steps(mask), _steps(walk.reset), walk.noise, keep)
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        output, *state_n = _Sequence.apply(call, x, *named.values(), *state_0)
    return output, tuple(state_n)
