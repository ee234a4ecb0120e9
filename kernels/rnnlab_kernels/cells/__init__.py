"""Gate maths, once per cell."""

from rnnlab_kernels.cells.bind import Cell, bind_numba, bind_torch, bind_triton
from rnnlab_kernels.cells.elman import RNN_RELU, RNN_TANH
from rnnlab_kernels.cells.gru import GRU
from rnnlab_kernels.cells.lstm import LSTM

CELLS: dict[str, Cell] = {cell.name: cell for cell in (RNN_TANH, RNN_RELU, LSTM, GRU)}

__all__ = ["CELLS", "GRU", "LSTM", "RNN_RELU", "RNN_TANH", "Cell", "bind_numba", "bind_torch", "bind_triton"]
