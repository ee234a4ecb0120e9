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
        return False, "Numba is not installed: pip install numba"
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


# Multiprocessors, and bytes of shared memory for one program (163 and 227 KiB). Without a GPU plans are for an H200.
A100, H200 = (108, 166_912), (132, 232_448)
MIN_TILE = 16  # the least that tensor cores take in any dimension


def chip_of(dtype: torch.dtype, device: torch.device) -> tuple[int, int, bool]:
    """Return multiprocessors and shared memory of a device, an H200's if it is no GPU, and torch's setting of TF32."""
    if device.type != "cuda":
        return *H200, False
    properties = torch.cuda.get_device_properties(device)
    sm_count, smem_bytes = properties.multi_processor_count, properties.shared_memory_per_block_optin  # type: ignore[attr-defined]
    return sm_count, smem_bytes, dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
