"""One differentiable operator, `rnnlab::run`, that torch.compile and torch.export take as it is, whatever runs inside.

Traced as it stands, a recurrence is a loop that is unrolled, and compiled loops or kernels are a break in the graph.
As an operator it is one node, of which fake kernels say shapes for any T and B. What runs is an engine, found by its
name (schedules/engines.py); all else of a call but tensors goes in a `config`, a string of JSON, since operators take
no other objects. Chains and cells go by their keys, masks by their seeds, which are tensors: under torch.compile nobody
knows their values. Behind its results forward gives out what backward needs: as tensors whose number does not depend
on sizes. What an engine plans it plans when a program runs, for the sizes and the device it then has.

In eager mode the same engines run in an autograd node of their own (schedules/node.py): no copies, second derivatives,
counts of clipping. Nothing imports this module before it is needed: torch.library takes a second to import.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.cells.bind import CELLS_BY_KEY, Cell, find
from rnnlab_kernels.cells.chain import CHAINS_BY_KEY, without_product
from rnnlab_kernels.schedules.additions import Additions, noise_config, noise_of
from rnnlab_kernels.schedules.engines import ENGINES, Call, Tensors
from rnnlab_kernels.schedules.layout import settled
from rnnlab_kernels.schedules.noise import operator  # noqa: F401  register what saved programs run


@torch.compiler.assume_constant_result
def encoded(*config: Any) -> str:
    """Return what `decoded` reads, out of numbers, strings and lists."""
    return json.dumps(config)


def decoded(engine: str, config: str, tensors: Tensors, fake: bool = False) -> tuple[Call, list[Tensor]]:
    """Return the call of a program, and its inputs. A seed is read, which waits for it, unless all is `fake`."""
    method, key, names, given, reverse, noise, limit = _config(engine, json.loads(config), len(tensors))
    count = len(tensors) - len(given)
    flags = dict(zip(given, tensors[count:], strict=True))
    seeds = tuple(
        0 if fake else int(value) for name, value in zip(given, tensors[count:], strict=True) if name == "seed"
    )
    maths = CHAINS_BY_KEY[key] if key in CHAINS_BY_KEY else find(CELLS_BY_KEY, key) if key else None
    clip = None if limit is None else float.fromhex(limit)
    additions = Additions(flags.get("reset"), noise_of(noise, seeds[0] if seeds else 0), clip)
    call = Call(engine, method, maths, tuple(names), reverse, flags.get("mask"), additions, seeds, replays=False)
    inputs = list(tensors[:count])
    if engine == "elementwise" and isinstance(maths, Cell):
        # In programs saved by version 0.1, which had an engine for it: states, then constants.
        chain = without_product(maths)
        engine, method = ("recurrence", "fused") if method == "numba" else ("sequence", "sequence")
        call = call._replace(engine=engine, method=method, maths=chain, names=chain.constants)
        start = len(inputs) - len(chain.constants)
        inputs = [inputs[0], *inputs[start:], *inputs[1:start]]
    return call, inputs


def _config(engine: str, config: list[Any], num_tensors: int) -> list[Any]:
    """Return a config as programs have it now; those saved by version 0.1 had one of another form for each engine."""
    if len(config) == 7:
        return config
    if engine in ("sequence", "stages"):
        key, names, given, reverse, noise, *is_sequence = config
        num_states = len(find(CHAINS_BY_KEY, key).states)
        num_seeds = num_tensors - 1 - len(names) - num_states - len(given)
        method = "" if engine == "stages" else "sequence" if is_sequence[0] else "step"
        return [method, key, names, [*given, *["seed"] * num_seeds], reverse, noise, None]
    if engine == "elementwise":
        method, key, reverse, has_mask = config
        return [method, key, [], ["mask"] if has_mask else [], reverse, [], None]
    method, reverse = config if engine == "scan" else ("", *config)
    return [method, "", [], [], reverse, [], None]


def _on_device(tensors: Tensors) -> AbstractContextManager[Any]:
    return torch.cuda.device(tensors[0].device) if tensors[0].is_cuda else nullcontext()


def _own(values: Sequence[Tensor], given: Tensors) -> Iterator[Tensor]:
    """Yield values contiguous and each in memory of its own, all of it: as a copy unless it is."""
    taken = {value.untyped_storage().data_ptr() for value in given}
    for value in values:
        storage = value.untyped_storage()
        filled = storage.nbytes() == value.numel() * value.element_size()
        if not filled or storage.data_ptr() in taken or not value.is_contiguous() or value.is_conj() or value.is_neg():
            value = value.clone(memory_format=torch.contiguous_format).resolve_conj().resolve_neg()
        taken.add(value.untyped_storage().data_ptr())
        yield value


@torch.library.custom_op("rnnlab::run", mutates_args=())
def run(tensors: Sequence[Tensor], engine: str, config: str, keep: bool) -> list[Tensor]:
    """Run an engine."""
    call, inputs = decoded(engine, config, tensors)
    with _on_device(tensors):
        call = ENGINES[call.engine].planned(call._replace(keep=keep), inputs)
        results, kept = ENGINES[call.engine].forward(call, inputs)
        stacked = [torch.stack(part) if isinstance(part, list) else part for part in kept] if keep else []
        return list(_own([*results, *stacked], tensors))


@run.register_fake
def _(tensors: Sequence[Tensor], engine: str, config: str, keep: bool) -> list[Tensor]:
    call, inputs = decoded(engine, config, tensors, fake=True)
    return ENGINES[call.engine].fake(call._replace(keep=keep), inputs)


@torch.library.custom_op("rnnlab::run_backward", mutates_args=())
def run_backward(
    tensors: Sequence[Tensor],
    kept: Sequence[Tensor],
    grads: Sequence[Tensor],
    given: Sequence[bool],
    needed: Sequence[bool],
    engine: str,
    config: str,
) -> list[Tensor]:
    """Return the gradients of those of `tensors` that are `needed`; `grads` are of the results that have one."""
    remaining = iter(grads)
    upstream = [settled(next(remaining)) if has else None for has in given]
    call, inputs = decoded(engine, config, tensors)
    with _on_device(tensors):
        call = ENGINES[engine].planned(call._replace(keep=True), inputs)
        found = ENGINES[engine].backward(call, inputs, list(kept), upstream, list(needed[: len(inputs)]))
        made = [
            torch.zeros_like(value, memory_format=torch.contiguous_format) if grad is None else grad.to(value.dtype)
            for value, grad, need in zip(inputs, found, needed, strict=False)
            if need
        ]
        return list(_own(made, [*tensors, *kept, *grads]))


@run_backward.register_fake
def _(tensors: Tensors, kept: Tensors, grads: Tensors, given: Any, needed: Any, *_: str) -> list[Tensor]:
    return [value.new_empty(value.shape) for value, need in zip(tensors, needed, strict=True) if need]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    tensors, engine, config, keep = inputs
    call, _ = decoded(engine, config, tensors, fake=True)
    ctx.num_results = ENGINES[engine].num_results(call)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output[0 if ENGINES[engine].keeps_results else ctx.num_results :])
    ctx.num_tensors, ctx.names = len(tensors), (engine, config)
    ctx.needed, ctx.keep = [tensor.requires_grad for tensor in tensors], keep


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    if not ctx.keep:
        raise RuntimeError("this program was exported for inference: it kept nothing for a backward pass")
    saved = ctx.saved_tensors
    results = list(grads)[: ctx.num_results]
    upstream, given = [grad for grad in results if grad is not None], [grad is not None for grad in results]
    tensors, kept = saved[: ctx.num_tensors], saved[ctx.num_tensors :]
    found = iter(run_backward(tensors, kept, upstream, given, ctx.needed, *ctx.names))
    return [next(found) if need else None for need in ctx.needed], None, None, None


def _refuse(ctx: Any, *grads: Any) -> tuple[Any, ...]:
    raise RuntimeError(
        "the backward pass of this recurrence, as one operator, cannot itself be differentiated: for create_graph=True "
        'build the module with backend="reference"'
    )


torch.library.register_autograd("rnnlab::run", _backward, setup_context=_setup)
torch.library.register_autograd("rnnlab::run_backward", _refuse)


def call(engine: str, config: str, tensors: Tensors) -> list[Tensor]:
    """Return the results of an engine and what it keeps, differentiable once."""
    keep = torch.is_grad_enabled() and any([tensor.requires_grad for tensor in tensors])
    keep = keep and not torch.compiler.is_exporting()  # programs are for inference
    return torch.ops.rnnlab.run(list(tensors), engine, config, keep)


def run_call(given: Call, inputs: Tensors) -> list[Tensor]:
    """Return the results of a call as an operator."""
    additions, noise = given.additions, given.additions.noise
    flags = [(name, flag) for name, flag in (("mask", given.mask), ("reset", additions.reset)) if flag is not None]
    if noise is not None and noise.training:
        flags += [("seed", torch.as_tensor(seed)) for seed in given.seeds or (noise.seed,)]
    config = encoded(
        given.method,
        "" if given.maths is None else given.maths.key,
        list(given.names),
        [name for name, _ in flags],
        given.reverse,
        noise_config(noise),
        None if additions.clip is None else float(additions.clip).hex(),
    )
    found = call(given.engine, config, [*inputs, *(flag for _, flag in flags)])
    return found[: ENGINES[given.engine].num_results(given)]
