"""What is timed: cells, sizes, dtypes and features, in parts that can be run one by one.

T time, B batch, I inputs, H units, L layers, D directions, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, embedding, linear

from rnnlab_kernels.cells import CELLS, CHAINS, Cell
from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.schedules.additions import PLAIN, Additions, Noise
from rnnlab_kernels.schedules.layout import lengths_to_mask
from rnnlab_kernels.schedules.stepwise.frame import working_dtype

FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16
DTYPES = {"fp32": FP32, "fp16": FP16, "bf16": BF16}
# Gates of the cells that torch has.
MODULES = {"rnn_tanh": ("RNN", 1), "gru": ("GRU", 3), "lstm": ("LSTM", 4)}
NAMES = (*MODULES, "peephole_lstm", "cifg")  # of cells that have weights of torch's shapes
# Cells that torch has not, by their gates.
NUM_GATES = {
    **{name: num_gates for name, (_, num_gates) in MODULES.items()},
    "peephole_lstm": 4,
    "cifg": 3,
    "gru_reset_before": 3,
    "layer_norm_lstm": 4,
    "layer_norm_gru": 3,
    "layer_norm_rnn_tanh": 1,
}
ADDITIONS = {
    "": PLAIN,
    "zoneout": Additions(noise=Noise(1, zoneout=(0.1, 0.1))),
    "recurrent dropout": Additions(noise=Noise(1, recurrent=0.25)),
    "candidate dropout": Additions(noise=Noise(1, candidate=0.25)),
    "resets": PLAIN,  # where they are is drawn with the tensors
}
RESETS = 0.05  # of all steps: episodes of 20 steps
VOCABULARY = 96  # of the characters a training step is taken on


class Work(NamedTuple):
    """One row of a table.

    Attributes:
        cell: name in CELLS or CHAINS.
        dtype: "fp32", "fp16" or "bf16".
        B, T, I, H: sizes.
        layers, bidirectional: of the network.
        ragged: lengths drawn uniformly, half of T on average.
        feature: key of ADDITIONS.
        recurrence: the input part of the gates is given: neither its product nor the gradients of ih are timed.
        tf32: products in TF32, in all arms.
        training: a model of characters, embedding before and linear layer and cross entropy behind the layers, of which
            whole training steps are timed as well.
        heads: of the recurrent weights, each of H / heads units that read each other alone.
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
    training: bool = False
    heads: int = 1

    def words(self) -> str:
        """Return what differs from a plain layer, for a table."""
        parts = [self.cell, self.dtype + (" tf32" if self.tf32 else ""), self.feature]
        parts += [f"{self.layers} layers" if self.layers > 1 else "", "both ways" if self.bidirectional else ""]
        parts += ["ragged" if self.ragged else "", "recurrence only" if self.recurrence else ""]
        parts += ["characters" if self.training else "", f"{self.heads} heads" if self.heads > 1 else ""]
        return ", ".join(part for part in parts if part)

    def checked(self) -> "list[Work]":
        """Return the same work of sizes that float64 on a CPU checks in moments: small, and as it is but for T."""
        hidden = self.H if self.heads > 1 else min(self.H, 64)
        small = self._replace(B=min(self.B, 5), T=min(self.T, 12), I=min(self.I, 16), H=hidden)
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


class Head(NamedTuple):
    """What makes a model of characters of the layers: their input is the embedding of tokens, their output is scored.

    Attributes:
        tokens: (T, B), read from the embedding, which stands in the place of x.
        targets: (T, B).
        weight: (V, D*H) of the linear layer, and its bias (V,).
    """

    tokens: Tensor
    targets: Tensor
    weight: Tensor
    bias: Tensor

    def loss(self, output: Tensor) -> Tensor:
        """Return the mean cross entropy of the layers' output (T, B, D*H), in the working dtype."""
        logits = linear(output, self.weight, self.bias).flatten(0, 1)
        return cross_entropy(logits.to(working_dtype(logits.dtype)), self.targets.flatten())


class Given(NamedTuple):
    """The tensors of one work: what all arms get.

    Attributes:
        x: (T, B, I), or (T, B, N) gates where the recurrence alone is timed, or the embedding (V, I) of characters.
        weights: by name, for each layer and direction, in torch's order of both.
        states: initial states (B, H), zeros, for each layer and direction.
        mask: (T, B, 1) or None, and the lengths (B,) it was made of.
        upstream: gradient of the output (T, B, D*H), or of the loss.
        additions: the feature.
        head: of a model of characters.
    """

    x: Tensor
    weights: list[dict[str, Tensor]]
    states: list[tuple[Tensor, ...]]
    mask: Tensor | None
    lengths: Tensor | None
    upstream: Tensor
    additions: Additions = PLAIN
    head: Head | None = None

    def inputs(self) -> Tensor:
        """Return what enters the first layer (T, B, ...)."""
        return self.x if self.head is None else embedding(self.head.tokens, self.x)

    def named_leaves(self) -> dict[str, Tensor]:
        """Return what gradients are taken of, by names of its own for each."""
        found = {"x": self.x}
        for k, own in enumerate(self.weights):
            found |= {f"{name} {k}": weight for name, weight in own.items()}
        return found if self.head is None else {**found, "head": self.head.weight, "head bias": self.head.bias}

    def leaves(self) -> list[Tensor]:
        """Return what gradients are taken of."""
        return list(self.named_leaves().values())

    def to(self, dtype: torch.dtype, device: str) -> "Given":
        """Return the same values, rounded to a dtype, as leaves."""

        def move(value: Tensor) -> Tensor:
            return value.detach().to(device, dtype)

        head, reset = self.head, self.additions.reset
        if head is not None:
            weights = (move(weight).requires_grad_() for weight in (head.weight, head.bias))
            head = Head(head.tokens.to(device), head.targets.to(device), *weights)
        return Given(
            move(self.x).requires_grad_(),
            [{name: move(value).requires_grad_() for name, value in weights.items()} for weights in self.weights],
            [tuple(map(move, state)) for state in self.states],
            None if self.mask is None else self.mask.to(device),
            self.lengths,
            move(self.upstream) if head is None else self.upstream.to(device, working_dtype(dtype)),
            self.additions if reset is None else self.additions._replace(reset=reset.to(device)),
            head,
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
    rows, directions = NUM_GATES[work.cell] * work.H, 2 if work.bidirectional else 1
    weights = []
    for layer in range(work.layers):
        inputs = work.I if layer == 0 else directions * work.H
        for _ in range(directions):
            # With the reset gate before the product, the candidate's product is one of its own.
            recurrent = 2 * work.H if work.cell == "gru_reset_before" else rows
            own = {"hh": uniform(recurrent, work.H)}
            if work.heads > 1:
                own = {"hh": uniform(work.heads, recurrent // work.heads, work.H // work.heads)}
            if not work.recurrence:
                own |= {"ih": uniform(rows, inputs), "bias_ih": uniform(rows)}
            own["bias_hh"] = uniform(recurrent)
            if work.cell == "gru_reset_before":
                own |= {"nh": uniform(work.H, work.H), "bias_nh": uniform(work.H)}
            if work.cell in ("layer_norm_lstm", "layer_norm_gru"):
                own["gain_hh"] = 1 + 0.1 * uniform(rows)
            if work.cell == "layer_norm_lstm":
                own |= {"gain_c": 1 + 0.1 * uniform(work.H), "shift_c": 0.1 * uniform(work.H)}
            if work.cell == "layer_norm_rnn_tanh":
                own |= {"gain": 1 + 0.1 * uniform(work.H), "shift": 0.1 * uniform(work.H)}
            if work.cell == "peephole_lstm":
                own |= {name: uniform(work.H) for name in ("p_i", "p_f", "p_o")}
            weights.append(own)
    zeros = tuple(torch.zeros(work.B, work.H, dtype=torch.float64) for _ in cell.states)
    states = [zeros] * len(weights)
    mask = lengths = None
    if work.ragged:
        lengths = torch.randint(1, work.T + 1, (work.B,), generator=generator)
        mask = lengths_to_mask(lengths, work.T)
    additions = ADDITIONS[work.feature]
    if work.feature == "resets":
        additions = additions._replace(reset=torch.rand(work.T, work.B, 1, generator=generator) < RESETS)
    if work.training:
        tokens, targets = torch.randint(VOCABULARY, (2, work.T, work.B), generator=generator)
        head = Head(tokens, targets, uniform(VOCABULARY, directions * work.H), uniform(VOCABULARY))
        one = torch.ones((), dtype=torch.float64)
        return Given(randn(VOCABULARY, work.I), weights, states, mask, lengths, one, additions, head)
    x = randn(work.T, work.B, rows if work.recurrence else work.I)
    return Given(x, weights, states, mask, lengths, randn(work.T, work.B, directions * work.H), additions)


# (B, T, H), I = H, the most telling first: of the design note; then sizes off the grid.
MIDDLE = (64, 512, 512)
MAIN = (MIDDLE, (16, 1024, 768), (64, 512, 1024), (32, 512, 256), (1, 512, 512), (16, 1024, 1024))
ODD = ((20, 512, 512), (64, 512, 200), (20, 512, 200), (32, 512, 320), (1, 512, 200), (16, 4096, 256))
SHORT = ((64, 16, 512),)
HEADS = (16, 1024, 768), 12  # FlashRNN's own measure, whose input part is given


def _sizes(*sizes: tuple[int, int, int]) -> list[dict[str, Any]]:
    return [{"B": batch, "T": steps, "I": hidden, "H": hidden} for batch, steps, hidden in sizes]


# Plain layers of the same size are in the parts of their cells. A layer norm of the input part is made for all steps at
# once, outside of the recurrence: those cells are timed without it, as are the plain ones beside them.
FEATURES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("lstm", {"recurrence": True}),
    ("layer_norm_lstm", {"recurrence": True}),
    ("lstm", {"feature": "zoneout"}),
    ("peephole_lstm", {}),
    ("lstm", {"feature": "recurrent dropout"}),
    ("lstm", {"feature": "resets"}),
    ("lstm", {"feature": "candidate dropout"}),
    ("cifg", {}),
    ("gru", {"recurrence": True}),
    ("layer_norm_gru", {"recurrence": True}),
    ("gru_reset_before", {}),
    ("gru", {"feature": "resets"}),
    ("layer_norm_rnn_tanh", {}),
)
# Lengths, directions and layers.
SHAPES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("lstm", {"ragged": True}),
    ("lstm", {"bidirectional": True}),
    ("gru", {"ragged": True}),
    ("gru", {"bidirectional": True}),
    ("lstm", {"layers": 2}),
    ("gru", {"layers": 2}),
    ("lstm", {"layers": 2, "bidirectional": True}),
    ("gru", {"layers": 2, "bidirectional": True}),
)


def parts(cuda: bool) -> dict[str, list[Work]]:
    """Return the rows by part, the most telling first in each; on a CPU a few small ones of each kind."""
    main = _sizes(*MAIN) if cuda else _sizes((32, 128, 128), (16, 64, 64))
    odd = _sizes(*ODD) if cuda else _sizes((20, 50, 50))
    short = _sizes(*SHORT) if cuda else []
    dtypes = ("fp16", "bf16", "fp32") if cuda else ("fp32",)
    middle, half = main[0], dtypes[0]
    if cuda:
        trained = Work("lstm", "bf16", 64, 256, 512, 512, layers=2, training=True)
    else:
        trained = Work("lstm", "fp32", 16, 32, 64, 64, layers=2, training=True)
    return {
        "lstm": [Work("lstm", dtype, **size) for size in main for dtype in dtypes],
        "features": [Work(cell, half, **middle, **options) for cell, options in FEATURES],
        "training": [trained],
        "heads": [
            Work("lstm", dtype, **_sizes(HEADS[0])[0], recurrence=True, heads=HEADS[1]) for dtype in ("bf16", "fp16")
        ]
        if cuda
        else [Work("lstm", "fp32", 4, 8, 48, 48, recurrence=True, heads=3)],
        "shapes": [
            *(Work(cell, half, **middle, **options) for cell, options in SHAPES),
            *(Work(cell, half, **main[1], ragged=True) for cell in ("lstm", "gru")),
        ],
        "gru": [Work("gru", dtype, **size) for size in main for dtype in dtypes],
        "odd": [Work(cell, half, **size) for size in odd for cell in ("lstm", "gru")],
        "rnn": [Work("rnn_tanh", dtype, **size) for size in main for dtype in dtypes[:2]],
        "tf32": [Work("lstm", "fp32", **size, tf32=True) for size in main] if cuda else [],
        "short": [Work(cell, half, **size) for cell in ("lstm", "gru") for size in short],
    }
