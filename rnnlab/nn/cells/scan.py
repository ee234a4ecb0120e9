"""Cells that are linear in their state: given x, a step is h_t = a_t * h_{t-1} + b_t element by element.

So all steps can be computed at once, by a scan, when their coefficients are known: another class of models than cells
whose gates see the state. Letters: T time, B batch, I inputs, H units, O outputs.
"""

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from rnnlab.nn.cells.base import check_bias, check_size, present, uniform_parameters
from rnnlab.nn.state import autocast_dtype
from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain, without_product
from rnnlab_kernels.cells.lru import LRU
from rnnlab_kernels.cells.min_rnn import MIN_GRU, MIN_LSTM


class Hidden(NamedTuple):
    """State of a cell that scans: h (B, H), complex for LRUCell and SelectiveLRUCell."""

    h: Tensor


class ScanCell(nn.Module):
    """A cell linear in its state. A subclass writes `coefficients`, and `outputs` if h is not what it gives out.

    One whose h is its output may also state its `maths`, gates from `pre_activations` to h, which is the faster route
    where time is walked step by step anyway: on a CPU. So may one whose step is a chain of several stages, with what
    the chain reads in `walk` and what is made of its output in `walked`; a complex h is two states of it.

    Attributes:
        input_size: I.
        hidden_size: H.
    """

    chain = None
    maths: Cell | Chain | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if isinstance(cls.maths, Cell):
            without_product(cls.maths)  # made now, since torch.compile can look chains up and not make them

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = check_size("input_size", input_size), check_size("hidden_size", hidden_size)

    @property
    def output_size(self) -> int:
        """Features of what a step gives out."""
        return self.hidden_size

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and b, each (..., H), of h_t = a_t * h_{t-1} + b_t, for x (..., I)."""
        raise NotImplementedError

    def outputs(self, h: Tensor, x: Tensor) -> Tensor:
        """Return what the steps give out (..., O), for their states h (..., H) and inputs x (..., I)."""
        return h

    def pre_activations(self, x: Tensor) -> Tensor:
        """Return the gates (..., G*H) that `maths` reads, for x (..., I)."""
        raise NotImplementedError

    def walk(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return input and weights of `maths` as a chain, for x (T, B, I)."""
        return self.pre_activations(x), {}

    def walked(self, y: Tensor, x: Tensor) -> Tensor:
        """Return what the steps give out (T, B, O), for what the chain does, and x."""
        return y

    def initial_state(self, batch_size: int, device: Any = None, dtype: Any = None) -> Hidden:
        """Return zeros (B, H), on the device and in the dtype of the weights unless told otherwise."""
        like = next(self.parameters())
        return Hidden(
            torch.zeros(batch_size, self.hidden_size, device=device or like.device, dtype=dtype or like.dtype)
        )

    def forward(self, x_t: Tensor, state: Any = None) -> tuple[Tensor, Hidden]:
        """Advance by one step: x_t (B, I) and a state to y_t (B, O) and the new state."""
        if state is None:
            state = self.initial_state(x_t.shape[0], x_t.device, x_t.dtype)
        a, b = self.coefficients(x_t)
        h = (a * state[0] + b).to(state[0].dtype)
        y = self.outputs(h, x_t)
        return (y.clone() if y is h else y), Hidden(h)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class _MinCell(ScanCell):
    """Gates that see the input alone: weight_ih (G*H, I), bias_ih (G*H,); "single" is True."""

    maths: Cell
    gates: ClassVar[tuple[str, ...]]

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool | str = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.bias = check_bias(bias)
        rows = self.maths.num_gates * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size, device=device, dtype=dtype))
        self.bias_ih = nn.Parameter(torch.empty(rows, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/sqrt(H), 1/sqrt(H)), as torch does."""
        uniform_parameters(self)

    def respawn(self, input_size: int) -> Any:
        """Return a cell like this one with another `input_size`; its parameters are drawn anew."""
        like = self.weight_ih
        return type(self)(input_size, self.hidden_size, self.bias, like.device, like.dtype)

    def pre_activations(self, x: Tensor) -> Tensor:
        """Return W x + b (..., G*H) for x (..., I)."""
        return linear(x, self.weight_ih, self.bias_ih)

    def walk(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return x and its weights; gates where they are something else, or the product is to be cast."""
        if type(self).pre_activations is not _MinCell.pre_activations or autocast_dtype(x.device) is not None:
            return super().walk(x)
        return x, present(ih=self.weight_ih, bias_ih=self.bias_ih)


class MinGRUCell(_MinCell):
    """minGRU (Feng et al., 2024, "Were RNNs all we needed?", section 3.1): gates z n, state h.

    z = sigmoid(W_z x_t + b_z)   n = W_n x_t + b_n
    h_t = (1 - z) * h_{t-1} + z * n                     z is 1 - z of GRUCell
    """

    maths, gates, keeps = MIN_GRU, MIN_GRU.gates, ("z", -1)

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, n = self.pre_activations(x).chunk(2, -1)
        return torch.sigmoid(-z), torch.sigmoid(z) * n


class MinLSTMCell(_MinCell):
    """minLSTM (Feng et al., 2024, section 3.2): gates f i n, no output gate, state h.

    f, i = sigmoid(.)   n = .                           of W x_t + b
    h_t = f / (f + i) * h_{t-1} + i / (f + i) * n
    """

    maths, gates = MIN_LSTM, MIN_LSTM.gates

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f, i, n = self.pre_activations(x).chunk(3, -1)
        # log(f / i), with which f / (f + i) cannot become 0 / 0.
        ratio = softplus(-i) - softplus(-f)
        return torch.sigmoid(ratio), torch.sigmoid(-ratio) * n


class LRUCell(ScanCell):
    """Linear recurrent unit (Orvieto et al., 2023, "Resurrecting recurrent neural networks for long sequences").

        h_t = lambda * h_{t-1} + gamma * (B x_t)            lambda = exp(-exp(nu) + i exp(theta)), |lambda| < 1
        y_t = Re(C h_t) + D x_t

    h (B, H) and lambda, B, C are complex; gamma = exp(gamma_log) is learned. For weights in half precision the
    recurrence is in complex64. Parameters are real: nu, theta, gamma_log (H,), b_real, b_imag (H, I), c_real, c_imag
    (O, H), d (O, I).

    Initially lambda is uniform on the ring between the two radii, gamma = sqrt(1 - |lambda|^2), which keeps the
    variance of h at that of the input, B ~ N(0, 1/(2 I)) and C ~ N(0, 1/H) in each part, D ~ N(0, 1/I).

    Args:
        output_size: O, H unless given.
        r_min, r_max: radii of the ring, 0 <= r_min < r_max < 1.
        max_phase: phases are drawn from (0, max_phase), in radians.
    """

    maths = LRU
    is_selective = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        r_min: float = 0.0,
        r_max: float = 0.99,
        max_phase: float = 2 * math.pi,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        outputs = hidden_size if output_size is None else check_size("output_size", output_size)
        if not 0 <= r_min < r_max < 1:
            raise ValueError(f"radii must satisfy 0 <= r_min < r_max < 1, got: {r_min} and {r_max}")
        if not 0 < max_phase <= 2 * math.pi:
            raise ValueError(f"max_phase must be in (0, 2 pi], got: {max_phase}")
        self.r_min, self.r_max, self.max_phase = r_min, r_max, max_phase

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.nu, self.theta, self.gamma_log = (empty(hidden_size) for _ in range(3))
        self.b_real, self.b_imag = (empty(hidden_size, input_size) for _ in range(2))
        self.c_real, self.c_imag = (empty(outputs, hidden_size) for _ in range(2))
        self.d = empty(outputs, input_size)
        self.weight_theta = empty(hidden_size, input_size) if self.is_selective else None
        self.reset_parameters()

    @property
    def output_size(self) -> int:
        return self.d.shape[0]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters as the class says (ring initialisation: lemma 3.2 of the paper)."""
        # Never exactly 0: its logarithm is taken.
        radius, phase = (torch.rand(self.hidden_size, dtype=torch.float64).clamp_min(1e-6) for _ in range(2))
        squared = radius * (self.r_max**2 - self.r_min**2) + self.r_min**2
        self.nu.copy_((-0.5 * squared.log()).log())
        self.theta.copy_((self.max_phase * phase).log())
        self.gamma_log.copy_(0.5 * torch.log1p(-squared))
        for weight in (self.b_real, self.b_imag):
            nn.init.normal_(weight, std=(2 * self.input_size) ** -0.5)
        for weight in (self.c_real, self.c_imag):
            nn.init.normal_(weight, std=self.hidden_size**-0.5)
        nn.init.normal_(self.d, std=self.input_size**-0.5)
        if self.weight_theta is not None:
            nn.init.zeros_(self.weight_theta)

    def respawn(self, input_size: int) -> "LRUCell":
        """Return a cell like this one with another `input_size`; its parameters are drawn anew."""
        ring = (self.r_min, self.r_max, self.max_phase)
        return type(self)(input_size, self.hidden_size, self.output_size, *ring, self.d.device, self.d.dtype)

    def eigenvalues(self) -> Tensor:
        """Return lambda (H,), complex."""
        nu, theta = _single(self.nu), _single(self.theta)
        return torch.polar(torch.exp(-torch.exp(nu)), torch.exp(theta))

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return lambda and gamma * (B x), complex (..., H), for x (..., I)."""
        gamma = torch.exp(_single(self.gamma_log))
        b = torch.complex(*(gamma * _single(linear(x, weight)) for weight in (self.b_real, self.b_imag)))
        return self.eigenvalues().expand_as(b), b

    def outputs(self, h: Tensor, x: Tensor) -> Tensor:
        """Return Re(C h) + D x (..., O) for states h (..., H) and inputs x (..., I)."""
        real, imag = h.real.to(x.dtype), h.imag.to(x.dtype)
        return linear(real, self.c_real) - linear(imag, self.c_imag) + linear(x, self.d)

    def walk(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return x and the weights of its chain."""
        gamma, eigenvalues = torch.exp(self.gamma_log).unsqueeze(1), self.eigenvalues()
        return x, {
            "ih": torch.cat((gamma * self.b_real, gamma * self.b_imag)),
            "lambda_re": eigenvalues.real,
            "lambda_im": eigenvalues.imag,
            "out": torch.cat((self.c_real, -self.c_imag), 1),
        }

    def walked(self, y: Tensor, x: Tensor) -> Tensor:
        """Return y + D x."""
        return y + linear(x, self.d)

    def initial_state(self, batch_size: int, device: Any = None, dtype: Any = None) -> Hidden:
        """Return complex zeros (B, H); `dtype` is that of the input, or a complex one."""
        real = torch.promote_types(dtype or self.d.dtype, torch.float32)
        complex_dtype = torch.promote_types(real, torch.complex64)
        return Hidden(torch.zeros(batch_size, self.hidden_size, device=device or self.d.device, dtype=complex_dtype))


class SelectiveLRUCell(LRUCell):
    """An LRU whose input says how far its state turns, as selective state spaces do (Gu and Dao, 2023, section 3).

        lambda_t = exp(-exp(nu) + i (exp(theta) + V x_t))

    All else is as in `LRUCell`. With an input that stays the same, each unit is an oscillator at a frequency which that
    input chooses. V, weight_theta (H, I), is zero at first: the cell starts as an LRU.
    """

    is_selective = True

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return lambda_t and gamma * (B x), complex (..., H), for x (..., I)."""
        eigenvalues, b = super().coefficients(x)
        assert self.weight_theta is not None
        turn = _single(linear(x, self.weight_theta))
        return eigenvalues * torch.polar(torch.ones_like(turn), turn), b


def _single(x: Tensor) -> Tensor:
    """Return `x` in at least single precision, the least that complex numbers have."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
