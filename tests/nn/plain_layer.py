"""RNN, LSTM and GRU with everything they have beyond torch's, written out as plain loops.

Letters: T time, B batch, I input_size, H hidden_size, P proj_size or H, L layers, D directions.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from rnnlab.nn.options import INPUT, OUTPUT, WEIGHT, Regularisation
from rnnlab_kernels.schedules.additions import CANDIDATE, RECURRENT, ZONEOUT
from rnnlab_kernels.schedules.noise.masks import draw_seed, keep_mask
from tests.nn.cases import states
from tests.nn.plain import DTYPE, clamped

States = tuple[Tensor, ...]


def bits(seed: int, stream: int, *shape: int, p: float) -> Tensor:
    """Return the mask that a seed means, 0 or 1."""
    full = (1,) * (3 - len(shape)) + shape
    return keep_mask(seed, stream, 0, full, p, "cpu", DTYPE).view(shape)  # type: ignore[arg-type]


def kept(seed: int, stream: int, *shape: int, p: float) -> Tensor:
    """Return the mask, scaled."""
    return bits(seed, stream, *shape, p=p) / (1 - p)


def one_step(x: Tensor, state: States, read: Tensor, weights: list[Tensor], drop: Tensor) -> States:
    """Take a step, h multiplied by `read` where it enters the product, the candidate by `drop`.

    An LSTM has two states; a GRU has three times as many rows of weights as units.
    """
    weight_ih, weight_hh, bias_ih, bias_hh, *projection = weights
    h, *c = state
    a, b = linear(x, weight_ih, bias_ih), linear(h * read, weight_hh, bias_hh)
    if c:
        i, f, g, o = (a + b).chunk(4, -1)
        new = f.sigmoid() * c[0] + i.sigmoid() * g.tanh() * drop
        h = o.sigmoid() * new.tanh()
        return (linear(h, *projection) if projection else h), new
    if len(weight_ih) == 3 * h.shape[1]:
        (ar, az, an), (br, bz, bn) = a.chunk(3, -1), b.chunk(3, -1)
        z, n = (az + bz).sigmoid(), (an + (ar + br).sigmoid() * bn).tanh() * drop
        return ((1 - z) * n + z * h,)
    return ((a + b).tanh(),)


def one_direction(
    options: Regularisation, training: bool, x: Tensor, state: States, weights: list[Tensor], seed: int, **call: Any
) -> tuple[Tensor, States]:
    """Run over x (T, B, I); `call` has mask and starts (T, B, 1), the limit of gradients, and the direction."""
    mask, starts, limit, reverse = (call[name] for name in ("mask", "starts", "limit", "reverse"))
    zoneout = options.zoneout or (0.0,) * len(state)
    steps, read, drops = len(x), torch.ones(()), torch.ones(len(x))
    keep = [torch.full((steps,), p, dtype=DTYPE) for p in zoneout]
    if training:
        read = kept(seed, RECURRENT, *state[0].shape, p=options.recurrent_dropout)
        drops = kept(seed, CANDIDATE, steps, *state[-1].shape, p=options.candidate_dropout)
        keep = [1 - bits(seed, ZONEOUT + n, steps, *s.shape, p=zoneout[n]) for n, s in enumerate(state)]
    if reverse:  # nothing passes from the first step of a sequence to the step before it
        starts = torch.cat([starts[1:], torch.zeros_like(starts[:1])])
    outputs = [x] * steps
    for t in range(steps)[:: -1 if reverse else 1]:
        state = tuple(torch.where(starts[t], 0, clamped(part, limit, mask[t])) for part in state)
        new = one_step(x[t], state, read, weights, drops[t])
        new = tuple(z[t] * old + (1 - z[t]) * s for z, old, s in zip(keep, state, new, strict=True))
        state = tuple(torch.where(mask[t], s, old) for s, old in zip(new, state, strict=True))
        outputs[t] = torch.where(mask[t], state[0], 0)
    return torch.stack(outputs), state


def plainly(
    module: Any, x: Tensor, hx: Any, lengths: list[int] | None = None, reset: Tensor | None = None, limit: float = 0.0
) -> tuple[Tensor, Any]:
    """Do what the docstrings say, step by step, with the masks of the numbers that a call would draw now."""
    options: Regularisation = module.regularisation
    training, directions, names = module.training, module.num_directions, module._flat_weights_names
    weights = {name: getattr(module, name) for name in names}
    is_random = training and any(options._replace(clip_grad_step=None, zoneout=any(options.zoneout)))
    seeds = [draw_seed() if is_random else 0 for _ in states(hx)[0]]
    mask = torch.arange(len(x))[:, None, None] < torch.tensor(lengths or [len(x)] * x.shape[1])[:, None]
    starts = torch.zeros_like(mask) if reset is None else reset[..., None] & mask
    finals: list[States] = []
    for k, seed in enumerate(seeds):
        layer, direction = divmod(k, directions)
        if not direction:
            source, outputs = x, []
            if training:
                source = x * kept(seed, INPUT, *x.shape[1:], p=options.input_dropout)
        suffix = f"_l{layer}" + ("_reverse" if direction else "")
        own = [weights[name] for name in names if name.endswith(suffix)]
        for n, place in enumerate((1, -1)[: 1 + bool(module.proj_size)] if training else ()):  # weight_hh, weight_hr
            own[place] = own[place] * kept(seed, WEIGHT + n, *own[place].shape, p=options.weight_dropout)
        start, call = tuple(state[k] for state in states(hx)), {"mask": mask, "starts": starts, "limit": limit}
        y, final = one_direction(options, training, source, start, own, seed, **call, reverse=direction == 1)
        outputs.append(y)
        finals.append(final)
        x = torch.cat(outputs, -1) if direction == directions - 1 else x
    if training:
        x = x * kept(seeds[-directions], OUTPUT, *x.shape[1:], p=options.output_dropout)
    last = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
    return x, last if len(last) > 1 else last[0]
