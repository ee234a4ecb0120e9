"""One ReLU layer with W ~ N(0, 1.5/n): states and gradients shrink by sqrt(3/4) a step."""

from rnnlab.studies import relu
from rnnlab.studies.outcome import Outcome


def study(size: int = 1000, num_steps: int = 51, num_draws: int = 20) -> Outcome:
    """Measure 50 steps; `rnnlab.studies.relu` has the theory."""
    return relu.study(1.5, f"ReLU layer of {size} units, input at t = 1 only", size, num_steps, num_draws)
