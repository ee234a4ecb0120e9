"""The lectures' demonstrations: each measures what theory says of recurrent networks, and draws both.

A study is a file here with a function `study(**sizes) -> Outcome` that draws its numbers from torch's default
generator; its sizes have defaults that take less than a minute on two cores. Nothing heavy is imported here.
"""

QUESTIONS = {
    "exploding": "ReLU layer with W ~ N(0, 3/n): do states and gradients grow as mean-field theory says?",
    "vanishing": "ReLU layer with W ~ N(0, 1.5/n): do states and gradients die out as mean-field theory says?",
    "activations": "sigmoid, tanh, ReLU, identity at scales 0.25 to 4: do gradients vanish wherever units saturate?",
    "eigenvalues": "linear network: does the long run depend on the eigenvalues of W alone, whatever the input?",
    "stability": "bounded input, unbounded output: which cells and weights, and which not?",
    "carousel": "LSTM, GRU and Elman net: how much of a gradient comes along the cell path, how much through R?",
    "jacobians": "singular values of Jacobian products over distance: what do trained and random cells let through?",
    "bptt": "exact gradient against truncation at k steps: how large is the bias, by task?",
}
