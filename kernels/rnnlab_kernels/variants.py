"""Every kernel variant that is compiled ahead of time: argument types, constants, options (see aot.py)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from rnnlab_kernels.cells import CELLS, CHAINS, PARTS, Cell, bind_triton
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.cells.indrnn import INDRNN_IDENTITY, INDRNN_RELU, INDRNN_TANH
from rnnlab_kernels.launch import A100, DTYPES, H200, Block, plan_sequence, plan_step, pointwise_block
from rnnlab_kernels.schedules.additions import Noise
from rnnlab_kernels.schedules.stepwise.run import working_dtype

TYPE_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
SCAN_TYPES = {**TYPE_NAMES, torch.complex64: "fp32"}  # as the kernels see them: complex values are pairs of fp32
ROW_WIDTHS = {"aligned": 128, "odd": 63}  # hidden sizes, which select block shape and divisibility


class Variant(NamedTuple):
    """One compilation: a kernel, its argument types (nested tuples for tuples of pointers), constants and options.

    `expected` are patterns of PTX instructions that the code must have, with the number of times or None for any.
    """

    name: str
    kernel: Any
    types: dict[str, Any]
    constants: dict[str, Any]
    divisible: bool
    options: dict[str, Any]
    capabilities: tuple[int, ...] = (80, 90)
    expected: tuple[tuple[str, int | None], ...] = ()


def variants() -> Iterator[Variant]:
    """Yield those of the pointwise schedule: cells x directions x dtypes x alignment.

    Gate updates that are part of a longer step, or have a dropped candidate, differ from those in their maths alone:
    for them the two ends do, fp32 with odd rows and bf16 with aligned ones.
    """
    ends = ((torch.float32, "odd"), (torch.bfloat16, "aligned"))
    for cell in PARTS.values():
        every = [(dtype, alignment) for dtype in DTYPES for alignment in ROW_WIDTHS]
        for dtype, alignment in every if cell.name in CELLS else ends:
            yield _pointwise_fwd(cell, dtype, alignment, ROW_WIDTHS[alignment])
            yield _pointwise_bwd(cell, dtype, alignment, ROW_WIDTHS[alignment])


def sequence_variants() -> Iterator[Variant]:
    """Yield those of the schedules that run all of time in one launch, with all gradients wanted.

    Scans: directions x dtypes x (many aligned units, few odd ones), which select the two ends of the tile's shapes,
    along time and in reverse. Element-wise cells, along time and with a mask: cells x directions x dtypes x alignment.
    """
    for dtype in SCAN_TYPES:
        for alignment, width in (("aligned", 1 << 15), ("odd", 63)):
            for reverse in (False, True):
                yield from _scan(dtype, alignment, width, reverse)
    for cell in (INDRNN_TANH, INDRNN_RELU, INDRNN_IDENTITY):
        for dtype in DTYPES:
            for alignment, hidden in ROW_WIDTHS.items():
                yield from _elementwise(cell, dtype, alignment, hidden)


# What the sequence kernels are compiled for, tiles as planned for the chip: cell, dtype, B, H. Weights of one program,
# of several, an odd size, the widest; constants and split gates; fp32 takes tiles of its own. Once more for TF32.
SEQUENCES: tuple[tuple[str, torch.dtype, int, int], ...] = (
    ("lstm", torch.bfloat16, 64, 64),
    ("lstm", torch.bfloat16, 20, 200),
    ("lstm", torch.bfloat16, 64, 512),
    ("lstm", torch.float16, 16, 1024),
    ("lstm", torch.bfloat16, 32, 768),
    ("gru", torch.float16, 32, 768),
    ("lstm", torch.float32, 32, 256),
    ("gru", torch.bfloat16, 16, 128),
    ("gru", torch.bfloat16, 64, 512),
    ("gru", torch.float32, 1, 512),
    ("rnn_tanh", torch.bfloat16, 64, 512),
    ("rnn_tanh", torch.float32, 32, 64),
    ("peephole_lstm", torch.bfloat16, 64, 512),
)

# The same of launches of one step.
STEPS: tuple[tuple[str, torch.dtype, int, int], ...] = (
    ("lstm", torch.bfloat16, 64, 1024),
    ("lstm", torch.float16, 128, 2048),
    ("lstm", torch.float32, 64, 1024),
    ("gru", torch.bfloat16, 20, 200),
    ("rnn_tanh", torch.bfloat16, 1, 512),
)


def planned_variants() -> Iterator[Variant]:
    """Yield the sequence kernels of `SEQUENCES` with the tiles that each chip gets, with masks, resets and biases."""
    for capability, chip in ((80, A100), (90, H200)):
        for name, dtype, batch, hidden in SEQUENCES:
            yield from _sequence(name, dtype, batch, hidden, capability, chip)
        yield from _sequence("lstm", torch.float32, 32, 256, capability, chip, tf32=True)
        for name in ("lstm", "gru"):
            yield from _sequence(name, torch.bfloat16, 64, 512, capability, chip, noise=Noise(0, 0.1, 0.1, (0.1, 0.1)))
        yield from _sequence("lstm", torch.bfloat16, 16, 64, capability, chip, heads=12)
        yield from _sequence("gru", torch.float16, 64, 256, capability, chip, heads=2, reverse=2)
        for name, dtype, batch, hidden in STEPS:
            yield from _sequence(name, dtype, batch, hidden, capability, chip, step=True)
        yield from _sequence("lstm", torch.bfloat16, 16, 64, capability, chip, heads=12, step=True)


def _sequence(
    name: str,
    dtype: torch.dtype,
    batch: int,
    hidden: int,
    capability: int,
    chip: tuple[int, int],
    tf32: bool = False,
    noise: Noise | None = None,
    heads: int = 1,
    reverse: int = 0,
    step: bool = False,
) -> Iterator[Variant]:
    from rnnlab_kernels.schedules.persistent import sequence_triton
    from rnnlab_kernels.schedules.persistent.sequence_call import Call, gates_of

    chain: Chain = CHAINS[name] if name in CHAINS else as_chain(CELLS[name])
    sizes = gates_of(chain).cell.num_gates, batch, hidden, dtype.itemsize
    plan, reason = plan_step(*sizes, tf32, heads) if step else plan_sequence(*sizes, *chip, tf32, heads)
    if plan is None:
        raise ValueError(reason)
    flags = torch.ones(0)  # only whether there are any counts
    call = Call(chain, (), plan, reverse, flags, flags, noise, (0,), True)
    cell, constexprs, waits = call.cell, call.constexprs(), plan.grid[0] > 1 and not plan.is_step
    barriers = int(waits)
    kinds = dict.fromkeys(("constants", "rest", "fresh", "dstate", "dconstants", "parts"), "*fp32")
    kinds |= {"mask": "*u8", "reset": "*u8", "barrier": "*i32", "key": "*i32"}
    for direction, kernel, pointers, strides, constants, rows in (
        (
            "fwd",
            sequence_triton._sequence_fwd_kernel,
            "gates_x weight bias constants mask reset dropped key h rest fresh saved barrier",
            ("stride_saved_t",),
            {
                "GATES_FWD": bind_triton(cell.gates_fwd),
                "HAS_BIAS": True,
                "KEEP_FRESH": call.zone > 0,
                "GATE_ROWS": plan.gate_rows,
            },
            plan.gate_rows * plan.options["UNITS"],
        ),
        (
            "bwd",
            sequence_triton._sequence_bwd_kernel,
            "doutput dstate weight constants mask reset dropped key h rest fresh saved dgates dsplit dconstants "
            "parts barrier",
            ("stride_saved_t",),
            {"GATES_BWD": bind_triton(cell.gates_bwd), "PARTIAL": plan.partial},
            plan.options["BLOCK_K" if plan.partial else "UNITS"],
        ),
    ):
        types = {f"{key}_ptr": kinds.get(key, f"*{TYPE_NAMES[dtype]}") for key in pointers.split()}
        types |= dict.fromkeys(("T", "B", "H", "D", "first_position", "num_positions", *strides), "i32")
        types |= {"candidate_threshold": "i32"}
        types |= dict.fromkeys(("candidate_scale", "zoneout_0", "zoneout_1"), "fp32")
        tensor_core = r"wgmma\.mma_async" if capability == 90 and rows >= 64 else r"mma\.sync"
        expected: list[tuple[str, int | None]] = [] if step else [(r"ld\.global\.cg", None)]
        expected += [(tensor_core, None)] if dtype.itemsize == 2 or tf32 else []
        # One arrival at the end of a step, and a poll before the spin and one in it.
        expected += [(r"(?:atom|red)\.\S*release", barriers), (r"ld\.\S*acquire", 2 * barriers)]
        precision = "tf32" if tf32 else TYPE_NAMES[dtype]
        given = {**constexprs, **plan.options_of(direction == "bwd"), "BARRIER": waits}
        options = {key: value for key, value in given.items() if not key.isupper()}
        constants |= {key: value for key, value in given.items() if key.isupper()}
        title = f"{'step' if step else 'sequence'}_{direction} {name} {precision} {batch}x{hidden}"
        title += ("" if noise is None else " noise") + (f" heads {heads}" if heads > 1 else "")
        title += " both ways" if reverse == 2 else ""
        divisible = hidden % 16 == 0
        yield Variant(title, kernel, types, constants, divisible, options, (capability,), tuple(expected))


def _split_block(hidden: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return _split(pointwise_block(64, hidden))


def _split(block: Block) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the constants of a kernel and the options of the compiler."""
    constants = {name: value for name, value in block.options.items() if name.startswith("BLOCK_")}
    return constants, {name: value for name, value in block.options.items() if name not in constants}


def _pointers(cell: Cell, dtype: torch.dtype) -> dict[str, tuple[str, ...]]:
    """Return the pointer types of the states as given to the gate maths: h in the storage dtype, others wider."""
    storage, work = f"*{TYPE_NAMES[dtype]}", f"*{TYPE_NAMES[working_dtype(dtype)]}"
    by_state = {state: storage if state == "h" else work for state in cell.states}
    return {
        "state": tuple(by_state.values()),
        # What is carried beside states, such as peepholes, is in the working dtype.
        "carried": tuple(by_state.get(state, work) for state in cell.carried),
        "dstate": tuple("*fp32" for _ in cell.states),
        "dcarried": tuple("*fp32" for _ in cell.carried),
    }


def _pointwise_fwd(cell: Cell, dtype: torch.dtype, alignment: str, hidden: int) -> Variant:
    from rnnlab_kernels.schedules.stepwise.kit_triton import _pointwise_fwd_kernel

    storage, pointers = f"*{TYPE_NAMES[dtype]}", _pointers(cell, dtype)
    types = {
        "gates_x_ptr": storage,
        "gates_h_ptr": storage,
        "carried_ptrs": pointers["carried"],
        "state_ptrs": pointers["state"],
        "saved_ptr": storage,
        **dict.fromkeys(("B", "H", "stride_gates_b", "stride_gates_h_b", "stride_saved_s"), "i32"),
    }
    blocks, options = _split_block(hidden)
    constants = {"GATES_FWD": bind_triton(cell.gates_fwd), "HAS_BOTH": True, **_sizes(cell), **blocks}
    name = f"pointwise_fwd {cell.name} {TYPE_NAMES[dtype]} {alignment}"
    return Variant(name, _pointwise_fwd_kernel, types, constants, alignment == "aligned", options)


def _pointwise_bwd(cell: Cell, dtype: torch.dtype, alignment: str, hidden: int) -> Variant:
    from rnnlab_kernels.schedules.stepwise.kit_triton import _pointwise_bwd_kernel

    storage, pointers = f"*{TYPE_NAMES[dtype]}", _pointers(cell, dtype)
    strides = [f"stride_{name}" for name in ("saved_s", "dx_b", "dh_b")]
    types = {
        "dstate_ptrs": pointers["dstate"],
        "saved_ptr": storage,
        "carried_ptrs": pointers["carried"],
        "state_ptrs": pointers["state"],
        "dx_ptr": storage,
        "dh_ptr": storage,
        "dcarried_ptrs": pointers["dcarried"],
        **dict.fromkeys(("B", "H", *strides), "i32"),
    }
    blocks, options = _split_block(hidden)
    constants = {"GATES_BWD": bind_triton(cell.gates_bwd), "HAS_DX": True, "HAS_DH": True, **_sizes(cell), **blocks}
    name = f"pointwise_bwd {cell.name} {TYPE_NAMES[dtype]} {alignment}"
    return Variant(name, _pointwise_bwd_kernel, types, constants, alignment == "aligned", options)


def _scan(dtype: torch.dtype, alignment: str, width: int, reverse: bool) -> Iterator[Variant]:
    from rnnlab_kernels.schedules.scan import by_triton as scan_triton

    blocks, options = _split(scan_triton.scan_block(1, width, dtype.is_complex))
    integers = dict.fromkeys(("T", "N", "stride_t", "stride_r", "stride_a_t", "stride_a_r"), "i32")
    shared = {"REVERSE": reverse, "COMPLEX": dtype.is_complex, **blocks}
    for direction, kernel, pointers, constants in (
        ("fwd", scan_triton._scan_fwd_kernel, "a b h_0 h", shared),
        ("bwd", scan_triton._scan_bwd_kernel, "a h_0 h g da dh dh_0", {**shared, "NEED_A": True}),
    ):
        types = {**dict.fromkeys((f"{name}_ptr" for name in pointers.split()), f"*{SCAN_TYPES[dtype]}"), **integers}
        name = f"scan_{direction} {TYPE_NAMES.get(dtype, 'complex64')} {alignment}"
        name += " reverse" if reverse else ""
        yield Variant(name, kernel, types, constants, alignment == "aligned", options)


def _elementwise(cell: Cell, dtype: torch.dtype, alignment: str, hidden: int) -> Iterator[Variant]:
    from rnnlab_kernels.schedules.persistent import elementwise_triton

    storage, work = f"*{TYPE_NAMES[dtype]}", f"*{TYPE_NAMES[working_dtype(dtype)]}"
    in_work = {"rest", "rest_0", "constants", "dstate", "dconstants"}
    blocks, options = _split(elementwise_triton.elementwise_block(64, hidden))
    shared = {**elementwise_triton.sizes(cell), "HAS_MASK": True, "REVERSE": False, **blocks}
    for direction, kernel, pointers, integers, maths in (
        (
            "fwd",
            elementwise_triton._elementwise_fwd_kernel,
            "gates h_0 rest_0 constants mask h rest saved",
            ("T", "B", "H", "stride_gates_t", "stride_gates_b", "stride_t", "stride_saved_t"),
            {"GATES_FWD": bind_triton(cell.gates_fwd)},
        ),
        (
            "bwd",
            elementwise_triton._elementwise_bwd_kernel,
            "doutput dstate saved h rest h_0 rest_0 constants mask dgates dconstants",
            ("T", "B", "H", "stride_t"),
            {"GATES_BWD": bind_triton(cell.gates_bwd)},
        ),
    ):
        types = {f"{name}_ptr": work if name in in_work else storage for name in pointers.split()}
        types |= {"mask_ptr": "*u8", **dict.fromkeys(integers, "i32")}
        name = f"elementwise_{direction} {cell.name} {TYPE_NAMES[dtype]} {alignment}"
        yield Variant(name, kernel, types, {**maths, **shared}, alignment == "aligned", options)


def _sizes(cell: Cell) -> dict[str, int]:
    return {"G": cell.num_gates, "NUM_MERGED": cell.num_merged, "S": len(cell.saved)}
