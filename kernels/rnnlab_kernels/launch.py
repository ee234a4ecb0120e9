"""Which inputs the kernels take, and with which blocks they are launched: pure functions, no tuning at run time."""

import importlib.util
from functools import cache
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


@cache
def triton_version() -> str | None:
    """Return the version of the installed Triton, under whatever name it was installed, or None."""
    if importlib.util.find_spec("triton") is None:
        return None
    import triton

    return triton.__version__


@cache
def has_numba() -> bool:
    """Return whether Numba is installed. Does not import it."""
    return importlib.util.find_spec("numba") is not None


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
