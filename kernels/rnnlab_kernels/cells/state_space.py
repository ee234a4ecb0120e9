"""Nonlinear state space network: the transition and the observation are small networks (Pascanu et al., 2014, "How to
construct deep recurrent neural networks": deep transition and deep output).

    h_t = f(x_t, h_{t-1}) = act_state(U tanh(W x_t + b_ih + R h_{t-1} + b_hh) + c)
    y_t = g(h_t)                                 outside of the recurrence, for all steps at once

Gate maths are the activations of elman.py.
"""

from rnnlab_kernels.cells.chain import Chain, Gates, Norm, Product, made_once
from rnnlab_kernels.cells.elman import ACTIVATIONS


@made_once
def state_space(state_activation: str) -> Chain:
    """Return the chain for act_state "tanh", "relu", "sigmoid" or "identity"."""
    stages: list[Product | Norm | Gates] = [
        Product("recurrent", ("h_prev",), "hh", "bias_hh"),
        Gates(ACTIVATIONS["tanh"], ("hidden",), (), "recurrent"),
    ]
    if state_activation == "identity":
        stages.append(Product("h", ("hidden",), "uh", "bias_uh"))
    else:
        stages.append(Product("transition", ("hidden",), "uh", "bias_uh"))
        stages.append(Gates(ACTIVATIONS[state_activation], ("h",), (), "transition", first=None))
    return Chain(f"state_space_{state_activation}", ("h",), tuple(stages))
