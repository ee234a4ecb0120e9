"""One ReLU layer with W ~ N(0, 3/n): states and gradients grow by sqrt(3/2) a step."""

from rnnlab.studies import relu
from rnnlab.studies.outcome import Outcome


def study(size: int = 1000, num_steps: int = 51, num_draws: int = 20) -> Outcome:
    """Measure 50 steps; `rnnlab.studies.relu` has the theory."""
    return relu.study(3.0, f"ReLU layer of {size} units, input at t = 1 only", size, num_steps, num_draws)
