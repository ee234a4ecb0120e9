"""Regularisers of the drop-in layers that act within the recurrence: options, their checks, their masks.

Letters: T time, B batch, H hidden_size.
"""

from difflib import get_close_matches
from typing import Any, NamedTuple, TypedDict

from torch import Tensor

from rnnlab.nn import checks
from rnnlab.nn.clipping import StepClips
from rnnlab.nn.dropout import Zoneout, check_rate, check_zoneout, zoneout_rates
from rnnlab_kernels.cells import Cell
from rnnlab_kernels.schedules.additions import PLAIN, Noise, Walk


class Regularisers(TypedDict, total=False):
    """Keyword arguments that RNN, LSTM and GRU take beyond torch's; `Regularisation` says what they mean."""

    input_dropout: float
    output_dropout: float
    recurrent_dropout: float
    candidate_dropout: float
    weight_dropout: float
    zoneout: Zoneout
    clip_grad_step: float | None


class Regularisation(NamedTuple):
    """What a layer adds to torch's recurrence; all of it is off unless asked for, and then changes no bit.

    Attributes:
        input_dropout: rate of dropout on what each layer reads, one mask a sequence (Gal & Ghahramani, 2016).
        output_dropout: the same on the output of the last layer.
        recurrent_dropout: the same on h_{t-1} where it enters the recurrent product.
        candidate_dropout: rate of dropout on the candidate (g of an LSTM, n of a GRU), anew at each step (Semeniuta et
            al., 2016).
        weight_dropout: rate of DropConnect on the recurrent weights, one mask a call (Merity et al., 2018).
        zoneout: for h, for an LSTM h and c, the probability that a unit keeps its value (Krueger et al., 2017).
        clip_grad_step: the gradient that states hand back over each step is clamped to +-this value.
    """

    input_dropout: float = 0.0
    output_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    candidate_dropout: float = 0.0
    weight_dropout: float = 0.0
    zoneout: tuple[float, ...] = ()
    clip_grad_step: float | None = None

    @classmethod
    def checked(cls, cell: Cell, given: Regularisers) -> "Regularisation":
        """Return the options of a layer of `cell`.

        Raises:
            TypeError: an unknown keyword.
            ValueError: a rate outside [0, 1], zoneout of a state that is not there, a limit that is not positive, or
                dropout of a missing candidate.
        """
        unknown = sorted(set(given) - set(cls._fields))
        if unknown:
            near = get_close_matches(unknown[0], cls._fields, n=1)
            hint = f". Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"RNNBase.__init__() got an unexpected keyword argument {unknown[0]!r}{hint}")
        rates = {name: check_rate(name, p) for name, p in given.items() if name.endswith("dropout")}
        if rates.get("candidate_dropout") and cell.dropped is None:
            raise ValueError(f"candidate_dropout needs a cell with a candidate: {cell.name} has none")
        zoneout, limit = given.get("zoneout", 0.0), given.get("clip_grad_step")
        if limit is not None:
            checks.check_limit("clip_grad_step", limit)
        check_zoneout(zoneout, [cell.states])
        per_state = zoneout_rates(zoneout, cell.states)
        return cls(**rates, zoneout=per_state if any(per_state) else (), clip_grad_step=limit)

    def is_random(self, training: bool) -> bool:
        """Return whether a call draws random masks."""
        rates = (self.recurrent_dropout, self.candidate_dropout, self.weight_dropout, *self.zoneout)
        return training and any((self.input_dropout, self.output_dropout, *rates))

    def inside(self, training: bool) -> str:
        """Name what of it acts inside the recurrence, where torch's own kernels cannot have it; "" if nothing does."""
        if self.zoneout:
            return "zoneout"
        if self.clip_grad_step is not None:
            return "clipping of gradients between steps"
        rates = (self.recurrent_dropout, self.candidate_dropout, self.input_dropout, self.output_dropout)
        return "dropout with one mask a sequence or inside the recurrence" if training and any(rates) else ""

    def walk(self, seed: int | Tensor, training: bool, reset: Tensor | None, clips: StepClips) -> Walk:
        """Return the additions to one walk over time; `reset` is (T, B, 1) or None, `clips` counts what is clipped."""
        noise = None
        if self.zoneout or training and (self.recurrent_dropout or self.candidate_dropout):
            noise = Noise(seed, self.recurrent_dropout, self.candidate_dropout, self.zoneout, training)
        if noise is None and reset is None and self.clip_grad_step is None:
            return PLAIN
        return Walk(reset, noise, self.clip_grad_step, clips)

    def words(self) -> str:
        """Return what differs from the defaults for a module's repr, with a leading comma."""
        changed: dict[str, Any] = {k: v for k, v in self._asdict().items() if v != Regularisation._field_defaults[k]}
        return "".join(f", {name}={value}" for name, value in changed.items())
