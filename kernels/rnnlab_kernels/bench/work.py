"""What is timed: cells, sizes, dtypes and features, in parts that can be run one by one.

T time, B batch, I inputs, H units, L layers, D directions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.cells import CELLS, CHAINS, Cell
from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.schedules.layout import lengths_to_mask
from rnnlab_kernels.schedules.walk import PLAIN, Noise, Walk

FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16
DTYPES = {"fp32": FP32, "fp16": FP16, "bf16": BF16}
# Gates of the cells that torch has.
MODULES = {"rnn_tanh": ("RNN", 1), "gru": ("GRU", 3), "lstm": ("LSTM", 4)}
NAMES = (*MODULES, "peephole_lstm")  # of cells that have weights of torch's shapes
WALKS = {
    "": PLAIN,
    "zoneout": Walk(noise=Noise(1, zoneout=(0.1, 0.1))),
    "recurrent dropout": Walk(noise=Noise(1, recurrent=0.25)),
}


class Work(NamedTuple):
    """One row of a table.

    Attributes:
        cell: name in CELLS or CHAINS.
        dtype: "fp32", "fp16" or "bf16".
        B, T, I, H: sizes.
        layers, bidirectional: of the network.
        ragged: lengths drawn uniformly, half of T on average.
        feature: key of WALKS.
        recurrence: the input part of the gates is given: neither its product nor the gradients of ih are timed.
        tf32: products in TF32, in all arms.
    """

    cell: str
    dtype: str
    B: int
    T: int
    I: int  # noqa: E741
    H: int
    layers: int = 1
    bidirectional: bool = False
    ragged: bool = False
    feature: str = ""
    recurrence: bool = False
    tf32: bool = False

    def words(self) -> str:
        """Return what differs from a plain layer, for a table."""
        parts = [self.cell, self.dtype + (" tf32" if self.tf32 else ""), self.feature]
        parts += [f"{self.layers} layers" if self.layers > 1 else "", "both ways" if self.bidirectional else ""]
        parts += ["ragged" if self.ragged else "", "recurrence only" if self.recurrence else ""]
        return ", ".join(part for part in parts if part)

    def checked(self) -> "list[Work]":
        """Return the same work of sizes that float64 on a CPU checks in moments: small, and as it is but for T."""
        small = self._replace(B=min(self.B, 5), T=min(self.T, 12), I=min(self.I, 16), H=min(self.H, 64))
        return [small, self._replace(T=min(self.T, 4))]


@contextmanager
def precision(work: Work) -> Iterator[None]:
    """Let products be made in TF32 or not, as the work says, in forward and backward of all arms."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = work.tf32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


class Given(NamedTuple):
    """The tensors of one work: what all arms get.

    Attributes:
        x: (T, B, I), or (T, B, N) gates where the recurrence alone is timed.
        weights: by name, for each layer and direction, in torch's order of both.
        states: initial states (B, H), zeros, for each layer and direction.
        mask: (T, B, 1) or None, and the lengths (B,) it was made of.
        upstream: gradient of the output (T, B, D*H).
    """

    x: Tensor
    weights: list[dict[str, Tensor]]
    states: list[tuple[Tensor, ...]]
    mask: Tensor | None
    lengths: Tensor | None
    upstream: Tensor

    def leaves(self) -> list[Tensor]:
        """Return what gradients are taken of."""
        return [self.x, *(weight for weights in self.weights for weight in weights.values())]

    def to(self, dtype: torch.dtype, device: str) -> "Given":
        """Return the same values, rounded to a dtype, as leaves."""

        def move(value: Tensor) -> Tensor:
            return value.detach().to(device, dtype)

        return Given(
            move(self.x).requires_grad_(),
            [{name: move(value).requires_grad_() for name, value in weights.items()} for weights in self.weights],
            [tuple(map(move, state)) for state in self.states],
            None if self.mask is None else self.mask.to(device),
            self.lengths,
            move(self.upstream),
        )


def cell_of(work: Work) -> Cell | Chain:
    """Return the cell that the schedules run."""
    return CHAINS[work.cell] if work.cell in CHAINS else CELLS[work.cell]


def draw(work: Work) -> Given:
    """Return random tensors in float64 on the CPU; the same work gives the same ones."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def uniform(*shape: int) -> Tensor:
        return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) / work.H**0.5

    cell = cell_of(work)
    num_gates = 4 if work.cell in CHAINS else MODULES[work.cell][1]
    rows, directions = num_gates * work.H, 2 if work.bidirectional else 1
    weights = []
    for layer in range(work.layers):
        inputs = work.I if layer == 0 else directions * work.H
        for _ in range(directions):
            own = {"hh": uniform(rows, work.H)}
            if not work.recurrence:
                own |= {"ih": uniform(rows, inputs), "bias_ih": uniform(rows)}
            own["bias_hh"] = uniform(rows)
            if work.cell.startswith("layer_norm"):
                own |= {"gain_hh": 1 + 0.1 * uniform(rows), "gain_c": 1 + 0.1 * uniform(work.H)}
                own["shift_c"] = 0.1 * uniform(work.H)
            if work.cell == "peephole_lstm":
                own |= {name: uniform(work.H) for name in ("p_i", "p_f", "p_o")}
            weights.append(own)
    zeros = tuple(torch.zeros(work.B, work.H, dtype=torch.float64) for _ in cell.states)
    mask = lengths = None
    if work.ragged:
        lengths = torch.randint(1, work.T + 1, (work.B,), generator=generator)
        mask = lengths_to_mask(lengths, work.T)
    x = randn(work.T, work.B, rows if work.recurrence else work.I)
    return Given(x, weights, [zeros] * len(weights), mask, lengths, randn(work.T, work.B, directions * work.H))


# (B, T, H) of the design note, I = H; then sizes off the grid.
MAIN = ((32, 512, 256), (64, 512, 512), (64, 512, 1024), (16, 1024, 768), (16, 1024, 1024), (1, 512, 512))
ODD = ((20, 512, 200), (32, 512, 320), (64, 16, 512), (16, 4096, 256))


def _sizes(*sizes: tuple[int, int, int]) -> list[dict[str, Any]]:
    return [{"B": batch, "T": steps, "I": hidden, "H": hidden} for batch, steps, hidden in sizes]


def parts(cuda: bool) -> dict[str, list[Work]]:
    """Return the rows by part, on a CPU a few small ones of each kind."""
    main = _sizes(*MAIN) if cuda else _sizes((16, 64, 64), (32, 128, 128))
    odd = _sizes(*ODD) if cuda else _sizes((20, 50, 50))
    dtypes = ("fp16", "bf16", "fp32") if cuda else ("fp32",)
    middle, half = main[1], dtypes[0]
    features: list[tuple[str, dict[str, Any]]] = [
        ("lstm", {}),
        ("lstm", {"feature": "zoneout"}),
        ("lstm", {"feature": "recurrent dropout"}),
        ("peephole_lstm", {}),
        ("lstm", {"recurrence": True}),
        ("layer_norm_lstm", {"recurrence": True}),
    ]
    return {
        "lstm": [Work("lstm", dtype, **size) for dtype in dtypes for size in main],
        "gru": [Work("gru", dtype, **size) for dtype in dtypes[:2] for size in main],
        "rnn": [Work("rnn_tanh", dtype, **size) for dtype in dtypes[:1] for size in main],
        "tf32": [Work("lstm", "fp32", **size, tf32=True) for size in main[:3]] if cuda else [],
        "odd": [Work(cell, half, **size) for cell in ("lstm", "gru") for size in odd],
        "shapes": [
            *(Work("lstm", half, **middle, layers=2, bidirectional=both) for both in (False, True)),
            Work("lstm", half, **middle, bidirectional=True),
            *(Work(cell, half, **size, ragged=True) for cell in ("lstm", "gru") for size in main[:2]),
        ],
        "features": [Work(cell, half, **middle, **options) for cell, options in features],
    }
