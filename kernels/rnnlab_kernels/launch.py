"""Which inputs the kernels take, and with which blocks they are launched: pure functions, no tuning at run time."""

import importlib.util
from typing import Any, NamedTuple

import torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Block(NamedTuple):
    """A launch: the grid, and the compile-time options of the kernel."""

    grid: tuple[int, int]
    options: dict[str, Any]


def pointwise_block(batch: int, hidden: int) -> Block:
    """Return the launch of a pointwise kernel over a (B, H) tile: about 512 elements a program, rows contiguous."""
    block_h = min(128, 1 << max(hidden - 1, 0).bit_length())
    block_b = 512 // block_h
    grid = (-(-batch // block_b), -(-hidden // block_h))
    # FP fusion is spelled out because its default changes between Triton versions.
    return Block(grid, {"BLOCK_B": block_b, "BLOCK_H": block_h, "num_warps": 4, "enable_fp_fusion": True})


# Looked for once. Constants, since torch.compile can follow neither a search nor a cached function.
HAS_ONEDNN = torch.backends.mkldnn.is_available()
_HAS_TRITON, _HAS_NUMBA = (importlib.util.find_spec(name) is not None for name in ("triton", "numba"))


def triton_version() -> str | None:
    """Return the version of the installed Triton, under whatever name it was installed, or None."""
    if not _HAS_TRITON:
        return None
    import triton

    return triton.__version__


def has_numba() -> bool:
    """Return whether Numba is installed. Does not import it."""
    return _HAS_NUMBA


def fused_supported(device: torch.device, dtype: torch.dtype) -> tuple[bool, str]:
    """Return whether the fused CPU schedule takes such tensors, and the reason in a few words."""
    if device.type != "cpu":
        return False, f"compiled loops run on a CPU, not on {device.type}"
    if dtype != torch.float32:
        return False, f"compiled loops compute in float32, not {str(dtype).removeprefix('torch.')}"
    if not has_numba():
        return False, 'Numba is not installed: pip install "rnnlab[cpu]"'
    return True, "float32 on a CPU, and Numba present"


def is_interpreting() -> bool:
    """Return whether kernels run in Triton's interpreter, on CPU tensors (`TRITON_INTERPRET=1`)."""
    if triton_version() is None:
        return False
    from triton import knobs

    return bool(knobs.runtime.interpret)


# torch.compile cannot follow Triton's reading of the environment. This is what `torch.compiler.assume_constant_result`
# does, which imports the whole compiler to do it: 1.5 seconds that everyone who imports these kernels would wait.
is_interpreting._dynamo_marked_constant = True  # type: ignore[attr-defined]


def supported(device: torch.device, dtype: torch.dtype) -> tuple[bool, str]:
    """Return whether the Triton schedules take such tensors, and the reason in a few words."""
    if triton_version() is None:
        return False, "Triton is not installed"
    if dtype not in DTYPES:
        return False, f"kernels store float32, float16 or bfloat16, not {str(dtype).removeprefix('torch.')}"
    if is_interpreting():
        return device.type == "cpu", "Triton's interpreter runs on CPU tensors"
    if device.type != "cuda":
        return False, f"kernels run on CUDA devices, not on {device.type} (or on CPU tensors under TRITON_INTERPRET=1)"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return False, "kernels are compiled and tested for compute capability 8.0 and above"
    return True, "CUDA device and Triton present"


class SequencePlan(NamedTuple):
    """A launch of the sequence kernels.

    Attributes:
        grid: programs along the units of a head, along rows, and along heads.
        gate_rows: rows of the recurrent weights for each unit, the number of gates rounded up to a power of two.
        options: compile-time options of both kernels.
        registers: the most a thread may take, forward and backward; None leaves it to the compiler.
        partial: backward, programs leave parts of dh for each other instead of reading all gate gradients.
    """

    grid: tuple[int, int, int]
    gate_rows: int
    options: dict[str, Any]
    registers: tuple[int, int] | None = None
    partial: bool = False

    def options_of(self, backwards: bool) -> dict[str, Any]:
        """Return the options of one of the kernels."""
        return self.options if self.registers is None else {**self.options, "maxnreg": self.registers[backwards]}

    @property
    def is_step(self) -> bool:
        """Whether a launch covers one step and reads the weights anew."""
        return not self.options["RESIDENT"]


# Multiprocessors, and bytes of shared memory for one program (163 and 227 KiB). Without a GPU plans are for an H200.
A100, H200 = (108, 166_912), (132, 232_448)
MIN_TILE = 16  # the least that tensor cores take in any dimension


def plan_sequence(
    num_gates: int,
    batch: int,
    hidden: int,
    itemsize: int,
    sm_count: int,
    smem_bytes: int,
    tf32: bool = False,
    heads: int = 1,
) -> tuple[SequencePlan | None, str]:
    """Return the tiles of the sequence kernels for these sizes, None where they do not fit, and the reason in words.

    `hidden` units a head; `tf32` says how fp32 values are multiplied.

    As few programs along units as the slices of the weights allow, since each of them reads all of h at every step. The
    programs of a batch tile wait for each other: all have to be on the chip at once, one a multiprocessor. So a program
    has all registers of one, which the compiler has to be told: it would stop at 80 of them and spill. Backward it also
    spills where it may take all, since it then starts more loads at once than it has room for; the limits are those
    at which no planned variant does (`python -m rnnlab_kernels.aot`).
    """
    if too_large := _beyond_offsets(num_gates, batch, hidden, heads):
        return None, too_large
    if heads > 1 and (hidden % 16 or itemsize == 4):
        return None, "heads and directions side by side would spill registers in fp32, or with odd numbers of units"
    gate_rows = _power_of_two(num_gates)
    # fp32 products are no tensor core's, odd sizes are read element by element: larger blocks would spill registers.
    widest = MIN_TILE if itemsize == 4 else 32 if hidden % 16 else 128
    if heads > 1 or tf32:
        registers = 232, 216
    else:
        registers = 255, 168 if itemsize == 4 else 255
    block_k = min(widest, max(MIN_TILE, _power_of_two(hidden)))
    num_k = -(-hidden // block_k)
    for block_b in (16, 32, 64, 128):
        num_tiles = -(-batch // block_b)
        for units in (128, 64, 32, MIN_TILE):
            num_slices = -(-hidden // units)
            # The slice of the weights, the product in fp32 on its way into another layout, a block of h.
            needed = units * gate_rows * (num_k * block_k * itemsize + 4 * block_b) + (1 << 13)
            too_wide = units > MIN_TILE and units >= 2 * hidden or units > MIN_TILE and hidden % 16
            if too_wide or needed > smem_bytes or units * gate_rows * block_b > 1 << 14:
                continue
            if num_slices > 1 and block_b * hidden * gate_rows > 1 << 16 and itemsize == 2:
                return None, f"{batch} rows take tiles of {block_b}, which at {hidden} units would spill registers"
            if num_slices == 1 or num_slices * num_tiles * heads <= sm_count:
                options = _tiles(units, num_k, block_b, block_k, tf32, resident=True)
                options |= {"num_warps": 8, "num_stages": 1}
                # All gate gradients for each program are more to read than parts of dh, where gates and rows are many.
                partial = num_slices > 1 and itemsize == 2 and hidden >= 768 and batch >= 32 and num_gates > 1
                plan = SequencePlan((num_slices, num_tiles, heads), gate_rows, options, registers, partial)
                return plan, f"weights on the chip, {num_slices} programs a batch tile of {block_b} rows"
            break  # more programs would not help; larger tiles of rows might
    return None, f"the recurrent weights of {hidden} units do not fit on {sm_count} multiprocessors with {batch} rows"


def plan_step(
    num_gates: int, batch: int, hidden: int, itemsize: int, tf32: bool = False, heads: int = 1
) -> tuple[SequencePlan | None, str]:
    """Return the tiles of the same kernels for launches of one step, and the reason in words. Any number of units.

    64 rows of gates a program, the least of which tensor cores take whole blocks, so that many programs share a step.
    """
    if too_large := _beyond_offsets(num_gates, batch, hidden, heads):
        return None, too_large
    gate_rows = _power_of_two(num_gates)
    units = max(MIN_TILE, 64 // gate_rows)
    block_b = min(64 if itemsize == 2 else 32, max(MIN_TILE, _power_of_two(batch)))
    block_k = 64 if itemsize == 2 and hidden % 16 == 0 else MIN_TILE
    grid = -(-hidden // units), -(-batch // block_b), heads
    options = _tiles(units, -(-hidden // block_k), block_b, block_k, tf32, resident=False)
    plan = SequencePlan(grid, gate_rows, options | {"num_warps": 8 if block_b > MIN_TILE else 4, "num_stages": 2})
    return plan, f"product and gates in one launch a step, {grid[0] * grid[1] * heads} programs"


def _tiles(units: int, num_k: int, block_b: int, block_k: int, tf32: bool, resident: bool) -> dict[str, Any]:
    sizes: dict[str, Any] = {"UNITS": units, "NUM_K": num_k, "BLOCK_B": block_b, "BLOCK_K": block_k}
    # FP fusion is spelled out because its default changes between Triton versions.
    return sizes | {"PRECISION": "tf32" if tf32 else "ieee", "RESIDENT": resident, "enable_fp_fusion": True}


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()


def _beyond_offsets(num_gates: int, batch: int, hidden: int, heads: int) -> str:
    """Return why the kernels cannot address tensors of these sizes, or an empty string."""
    if max(batch * heads, hidden) * hidden * num_gates >= 1 << 31:
        return "offsets within a step are 32 bits wide"
    return ""


def chip_of(dtype: torch.dtype, device: torch.device) -> tuple[int, int, bool]:
    """Return multiprocessors and shared memory of a device, an H200's if it is no GPU, and torch's setting of TF32."""
    if device.type != "cuda":
        return *H200, False
    properties = torch.cuda.get_device_properties(device)
    sm_count, smem_bytes = properties.multi_processor_count, properties.shared_memory_per_block_optin  # type: ignore[attr-defined]
    return sm_count, smem_bytes, dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
