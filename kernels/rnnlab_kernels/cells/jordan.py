"""Jordan network (Jordan, 1986, "Attractor dynamics and parallelism in a connectionist sequential machine").

The recurrence goes through the output: a memory of past outputs, one running average a unit of output, is fed back.

    h_t = act(W x_t + b_ih + R m_{t-1} + b_hh)
    y_t = act_out(V h_t + c)
    m_t = a * m_{t-1} + (1 - a) * y_t            0 <= a < 1, a constant of the chain (O,)

With a = 0 the memory is the last output alone. Activations are cells of elman.py, the running average is

    AVERAGE   gradient, given dm: dy = dm * (1 - a)   dm_{t-1} = dm * a   da = dm * (m_{t-1} - y_t)   saved y
"""

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.chain import Chain, Gates, Norm, Product, made_once
from rnnlab_kernels.cells.elman import ACTIVATIONS
from rnnlab_kernels.cells.vocabulary import fma


def _fwd(gates, carried):
    (y,) = gates
    m_prev, a = carried
    return (fma(a, m_prev - y, y),), (y,)


def _bwd(dstate, saved, carried, state):
    (dm,) = dstate
    (y,) = saved
    m_prev, a = carried
    dm_prev = dm * a
    return (dm - dm_prev,), (dm_prev, dm * (m_prev - y))


AVERAGE = Cell("average", ("y",), ("m",), ("m", "a"), ("y",), 0, _fwd, _bwd)


@made_once
def jordan(activation: str, output_activation: str) -> Chain:
    """Return the chain for two of the activations "tanh", "relu", "sigmoid", "identity"."""
    stages: list[Product | Norm | Gates] = [
        Product("recurrent", ("m_prev",), "hh", "bias_hh"),
        Gates(ACTIVATIONS[activation], ("hidden",), (), "recurrent"),
    ]
    if output_activation == "identity":
        stages.append(Product("y", ("hidden",), "out", "bias_out"))
    else:
        stages.append(Product("output", ("hidden",), "out", "bias_out"))
        stages.append(Gates(ACTIVATIONS[output_activation], ("y",), (), "output", first=None))
    stages.append(Gates(AVERAGE, ("m",), ("m_prev", "decay"), "y", first=None))
    return Chain(f"jordan_{activation}_{output_activation}", ("m",), tuple(stages), "y", ("decay",))
