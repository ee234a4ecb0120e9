"""Gate maths, once per cell, and the chains of stages that more than one gate update take.

`CELLS` are gate updates that make a cell with one recurrent product; `CHAINS` are cells of other shapes, one of each
kind; `PARTS` is all gate maths there are, by the names of their cells.
"""

from rnnlab_kernels.cells.bind import Cell, bind_numba, bind_torch, bind_triton
from rnnlab_kernels.cells.chain import Chain, Gates, as_chain, without_product
from rnnlab_kernels.cells.cifg import CIFG
from rnnlab_kernels.cells.elman import RNN_IDENTITY, RNN_RELU, RNN_SIGMOID, RNN_TANH
from rnnlab_kernels.cells.gru import GRU
from rnnlab_kernels.cells.gru_reset_before import GRU_RESET_BEFORE
from rnnlab_kernels.cells.indrnn import INDRNN_IDENTITY, INDRNN_RELU, INDRNN_TANH
from rnnlab_kernels.cells.jordan import jordan
from rnnlab_kernels.cells.layer_norm import LAYER_NORM_GRU, LAYER_NORM_LSTM, LAYER_NORM_RNN
from rnnlab_kernels.cells.lru import LRU
from rnnlab_kernels.cells.lstm import LSTM
from rnnlab_kernels.cells.min_rnn import MIN_GRU, MIN_LSTM
from rnnlab_kernels.cells.narx import narx
from rnnlab_kernels.cells.peephole import DENSE_PEEPHOLE_LSTM, PEEPHOLE_LSTM
from rnnlab_kernels.cells.state_space import state_space

CELLS: dict[str, Cell] = {cell.name: cell for cell in (RNN_TANH, RNN_RELU, RNN_SIGMOID, RNN_IDENTITY, LSTM, GRU, CIFG)}
# Made now, since torch.compile can look them up and not make them.
for _cell in CELLS.values():
    as_chain(_cell)
as_chain(LSTM, projection=True)
# One element-by-element update without a product, by activation.
INDRNN: dict[str, Chain] = {
    cell.name.removeprefix("indrnn_"): without_product(cell) for cell in (INDRNN_TANH, INDRNN_RELU, INDRNN_IDENTITY)
}
CHAINS: dict[str, Chain] = {
    chain.name: chain
    for chain in (
        *INDRNN.values(),
        *map(without_product, (MIN_GRU, MIN_LSTM)),
        LRU,
        PEEPHOLE_LSTM,
        DENSE_PEEPHOLE_LSTM,
        GRU_RESET_BEFORE,
        LAYER_NORM_RNN["tanh"],
        *LAYER_NORM_LSTM.values(),
        LAYER_NORM_GRU,
        jordan("tanh", "sigmoid"),
        jordan("sigmoid", "identity"),
        state_space("tanh"),
        state_space("identity"),
        narx(1),
        narx(3),
    )
}


def _parts() -> dict[str, Cell]:
    stages = (stage for chain in (*map(as_chain, CELLS.values()), *CHAINS.values()) for stage in chain.stages)
    plain = [stage.cell for stage in stages if isinstance(stage, Gates)]
    return {cell.name: cell for cell in (*plain, *(cell.dropped for cell in plain if cell.dropped is not None))}


PARTS: dict[str, Cell] = _parts()

__all__ = [
    "CELLS",
    "CHAINS",
    "GRU",
    "INDRNN",
    "LSTM",
    "PARTS",
    "RNN_RELU",
    "RNN_TANH",
    "Cell",
    "bind_numba",
    "bind_torch",
    "bind_triton",
]
