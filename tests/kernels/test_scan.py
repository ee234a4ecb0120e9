"""The linear scan: every method against the plain loop, with every gradient, at both ends of time."""

import pytest
import torch

from rnnlab_kernels import launch
from rnnlab_kernels.schedules.scan.linear_scan import choose_method, linear_scan, supports
from tests.conftest import INTERPRETING
from tests.kernels.problems import assert_within_ratio
from tests.tolerances import EPS, FLOAT64, RATIO

SIZES = [(1, 1, 1), (2, 3, 5), (3, 2, 7), (17, 3, 63), (64, 1, 9), (130, 5, 20)]
SIZE_IDS = ["x".join(map(str, size)) for size in SIZES]
needs_numba = pytest.mark.skipif(not launch.has_numba(), reason="Numba is not installed")
CPU_METHODS = ["sequential", "parallel", pytest.param("numba", marks=needs_numba)]
DIRECTIONS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)


@pytest.fixture
def poisoned_empty(monkeypatch):
    """Make uninitialised memory hold NaN, complex memory included."""
    for owner, name in ((torch, "empty_like"), (torch.Tensor, "new_empty")):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, original=original, **k: original(*a, **k).fill_(float("nan")))


def make_inputs(size, dtype=torch.float64, coefficients="any"):
    """Return a, b, h_0: leaf tensors; |a| <= 1, some or all of it at the edges if asked for."""
    a = torch.rand(size, dtype=dtype) * (torch.randn(size, dtype=dtype) * 100).sgn()
    if coefficients == "zero":
        a = torch.where(torch.rand(size) < 0.5, 0, a)
    elif coefficients == "one":
        a = (torch.randn(size, dtype=dtype) * 100).sgn()
    return [x.requires_grad_() for x in (a, torch.randn(size, dtype=dtype), torch.randn(size[1:], dtype=dtype))]


def run(inputs, method, reverse=False, expand=lambda a, b: a):
    """Return h and the gradient of every input, for a random upstream gradient."""
    a, b, h_0 = inputs
    h = linear_scan(expand(a, b), b, h_0, reverse=reverse, method=method)
    seed = torch.randn(h.shape, generator=torch.Generator().manual_seed(3), dtype=torch.complex128)
    grads = torch.autograd.grad(h, inputs, (seed if h.is_complex() else seed.real).to(h.dtype))
    return dict(zip(("h", "da", "db", "dh_0"), (h.detach(), *grads), strict=True))


def assert_same(actual, expected, **tolerance):
    for name, value in expected.items():
        ends = {"": slice(None)}
        if value.dim() == 3:
            ends |= {" at t=0": slice(0, 1), " at t=T-1": slice(-1, None)}
        for label, end in ends.items():
            message = lambda text, where=name + label: f"{where}: {text}"  # noqa: E731
            torch.testing.assert_close(actual[name][end], value[end], **tolerance, msg=message)


@DIRECTIONS
@DTYPES
@pytest.mark.parametrize("size", SIZES, ids=SIZE_IDS)
@pytest.mark.parametrize("method", CPU_METHODS)
def test_methods_match_the_loop(method, size, dtype, reverse, poisoned_empty):
    inputs = make_inputs(size, dtype)
    assert_same(run(inputs, method, reverse), run(inputs, "loop", reverse), **FLOAT64)


@DIRECTIONS
@DTYPES
@pytest.mark.parametrize("coefficients", ["zero", "one"])
@pytest.mark.parametrize("method", CPU_METHODS)
def test_coefficients_at_the_edges(method, coefficients, dtype, reverse, poisoned_empty):
    inputs = make_inputs((33, 2, 5), dtype, coefficients)
    assert_same(run(inputs, method, reverse), run(inputs, "loop", reverse), **FLOAT64)


def cut_in_two(method, dtype, reverse, size=(21, 2, 3), cut=11):
    """Yield (actual, expected) of a row that a zero coefficient cuts, NaN before it or infinite gradients after it.

    What is on one side of the cut is that of a run on this side alone.
    """
    a, b, h_0 = (x.detach() for x in make_inputs(size, dtype))
    after, before = (slice(0, cut), slice(cut, None)) if reverse else (slice(cut, None), slice(0, cut))
    first = cut - 1 if reverse else cut
    a[first] = 0
    for bad in (float("nan"), float("inf")):
        broken, start = b.clone(), torch.full_like(h_0, bad)
        broken[before][3] = bad
        found = run([x.requires_grad_() for x in (a.clone(), broken, start)], method, reverse)
        own = [x.clone().requires_grad_() for x in (a[after], b[after], torch.zeros_like(h_0))]
        yield found["h"][after], linear_scan(*own, reverse=reverse, method="loop").detach()
        leaves = [x.clone().requires_grad_() for x in (a, b, h_0)]
        h = linear_scan(*leaves, reverse=reverse, method=method)
        upstream = torch.ones_like(h)
        upstream[after] = bad
        grads = torch.autograd.grad(h, leaves, upstream)
        own = [x.clone().requires_grad_() for x in (a[before], b[before], h_0)]
        h = linear_scan(*own, reverse=reverse, method="loop")
        expected = torch.autograd.grad(h, own, torch.ones_like(h))
        yield from ((grads[k][before], expected[k][...]) for k in (0, 1))
        yield grads[2], expected[2]


@DIRECTIONS
@DTYPES
@pytest.mark.parametrize("method", CPU_METHODS)
def test_a_coefficient_of_zero_forgets_what_is_not_finite(method, dtype, reverse, poisoned_empty):
    for actual, expected in cut_in_two(method, dtype, reverse):
        torch.testing.assert_close(actual, expected, **FLOAT64)


EXPANDED = {
    "over time": (1, 3, 7),
    "over rows": (9, 1, 7),
    "over time and rows": (1, 1, 7),
    "over units": (9, 3, 1),
    "over all": (1, 1, 1),
}


@DIRECTIONS
@DTYPES
@pytest.mark.parametrize("which", EXPANDED)
@pytest.mark.parametrize("method", CPU_METHODS)
def test_expanded_coefficients(method, which, dtype, reverse, poisoned_empty):
    _, b, h_0 = make_inputs((9, 3, 7), dtype)
    inputs = [make_inputs(EXPANDED[which], dtype)[0], b, h_0]
    actual, expected = (run(inputs, name, reverse, torch.Tensor.expand_as) for name in (method, "loop"))
    assert_same(actual, expected, **FLOAT64)


@pytest.mark.parametrize("method", CPU_METHODS)
def test_any_strides_and_lazy_conjugates(method, poisoned_empty):
    inputs = [x.detach().mT.contiguous().mT.requires_grad_() for x in make_inputs((6, 3, 5), torch.complex128)]

    def call(name):
        a, b, h_0 = inputs
        h = linear_scan(a.conj(), b.conj(), h_0.conj(), method=name)
        return dict(zip(("da", "db", "dh_0"), torch.autograd.grad(h.sum().real + h[0].imag.sum(), inputs), strict=True))

    assert_same(call(method), call("loop"), **FLOAT64)


@DIRECTIONS
@DTYPES
@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("method", CPU_METHODS)
def test_first_and_second_derivatives(method, num_steps, dtype, reverse):
    inputs = make_inputs((num_steps, 1, 2), dtype)
    assert torch.autograd.gradcheck(lambda *x: linear_scan(*x, reverse=reverse, method=method), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: linear_scan(*x, reverse=reverse, method=method), inputs)


@pytest.mark.parametrize("method", CPU_METHODS)
@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_one_input_alone_gets_its_gradient(method, wanted, poisoned_empty):
    inputs = [x.detach().requires_grad_(k == wanted) for k, x in enumerate(make_inputs((4, 2, 3)))]

    def call(name):
        return torch.autograd.grad(linear_scan(*inputs, method=name).pow(2).sum(), inputs[wanted])

    torch.testing.assert_close(call(method), call("loop"), **FLOAT64)


@pytest.mark.parametrize("method", ["loop", *CPU_METHODS])
@pytest.mark.parametrize("size", [(3, 0, 4), (3, 2, 0)], ids=str)
def test_no_rows_and_no_units(method, size):
    assert {name: value.shape for name, value in run(make_inputs(size), method).items()} == {
        "h": size,
        "da": size,
        "db": size,
        "dh_0": size[1:],
    }


def test_expanded_coefficients_of_no_rows():
    a, h_0 = torch.rand(4).expand(3, 0, 4).requires_grad_(), torch.zeros(0, 4)
    h = linear_scan(a, torch.zeros(3, 0, 4), h_0, method="numba")
    (da,) = torch.autograd.grad(h.sum(), a)
    assert h.shape == da.shape == (3, 0, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("method", ["sequential", "parallel"])
def test_half_precision_accumulates_in_float32(method, dtype):
    inputs = [x.detach().to(dtype).requires_grad_() for x in make_inputs((130, 2, 9))]
    exact = run([x.detach().double().requires_grad_() for x in inputs], "loop")
    same_dtype, actual = run(inputs, "loop"), run(inputs, method)
    for name, value in exact.items():
        assert_within_ratio(actual[name], same_dtype[name], value, name, RATIO, EPS[dtype])


@needs_numba
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
def test_compiled_loops_in_single_precision(dtype, poisoned_empty):
    inputs = make_inputs((130, 5, 21), dtype)
    assert_close_in_single(inputs, run(inputs, "auto"))


def test_twice_backward_is_bitwise_equal():
    inputs = make_inputs((17, 3, 5), torch.float32)
    first, second = run(inputs, "auto"), run(inputs, "auto")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_choose_method(monkeypatch):
    cpu, cuda, other = torch.device("cpu"), torch.device("cuda"), torch.device("mps")
    monkeypatch.setattr(launch, "has_numba", lambda: True)
    assert choose_method(cpu, torch.float32)[0] == choose_method(cpu, torch.complex64)[0] == "numba"
    assert choose_method(cpu, torch.float64)[0] == choose_method(cpu, torch.bfloat16)[0] == "sequential"
    monkeypatch.setattr(launch, "has_numba", lambda: False)
    method, reason = choose_method(cpu, torch.float32)
    assert method == "sequential" and "pip install numba" in reason
    assert choose_method(other, torch.float32)[0] == "parallel"
    monkeypatch.setattr(launch, "supported", lambda device, dtype: (dtype in launch.DTYPES, "asked"))
    assert choose_method(cuda, torch.float32)[0] == choose_method(cuda, torch.complex64)[0] == "triton"
    assert choose_method(cuda, torch.float64)[0] == choose_method(cuda, torch.complex128)[0] == "parallel"


def test_what_does_not_fit_is_refused():
    a, b, h_0 = (x.detach() for x in make_inputs((4, 2, 3)))
    with pytest.raises(ValueError, match="shape of b"):
        linear_scan(a[:, :1], b, h_0)
    with pytest.raises(ValueError, match="h_0 must be"):
        linear_scan(a, b, h_0[0])
    with pytest.raises(ValueError, match="one dtype"):
        linear_scan(a.float(), b, h_0)
    with pytest.raises(ValueError, match="floating point"):
        linear_scan(a.long(), b.long(), h_0.long())
    with pytest.raises(ValueError, match="T >= 1"):
        linear_scan(a[:0], b[:0], h_0)
    with pytest.raises(ValueError, match="method must be"):
        linear_scan(a, b, h_0, method="quick")
    with pytest.raises(RuntimeError, match="numba.*half precision"):
        linear_scan(a.half(), b.half(), h_0.half(), method="numba")


# Triton's interpreter: the kernels as they are, on CPU tensors. It scans element by element in Python, hence the tiles.


@pytest.fixture
def small_tiles(monkeypatch, poisoned_empty):
    from rnnlab_kernels.schedules.scan import by_triton as scan_triton

    def scan_block(num_rows, width, is_complex):
        return launch.Block((num_rows * -(-width // 4), 1), {"BLOCK_T": 8, "BLOCK_N": 4})

    monkeypatch.setattr(scan_triton, "scan_block", scan_block)


def assert_close_in_single(inputs, actual, *args, **kwargs):
    """Assert default tolerance against double precision, or, where the loop is off by more, the ratio rule."""
    wide = [x.detach().to(torch.promote_types(x.dtype, torch.float64)).requires_grad_() for x in inputs]
    exact, same_dtype = run(wide, "loop", *args, **kwargs), run(inputs, "loop", *args, **kwargs)
    for name, value in exact.items():
        if not torch.allclose(actual[name], value.to(actual[name].dtype), rtol=1.3e-6, atol=1e-5):
            parts = [torch.view_as_real(x).flatten(-2) if x.is_complex() else x for x in (actual[name], value)]
            loop = torch.view_as_real(same_dtype[name]).flatten(-2) if value.is_complex() else same_dtype[name]
            assert_within_ratio(parts[0], loop, parts[1], name, RATIO, EPS[torch.float32])


SINGLE = pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)


@pytest.mark.interpret
@DIRECTIONS
@SINGLE
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 2, 7), (33, 1, 5)], ids=str)
def test_interpreted_kernels_match_the_loop(size, dtype, reverse, small_tiles):
    inputs = make_inputs(size, dtype)
    assert_close_in_single(inputs, run(inputs, "triton", reverse), reverse)


@pytest.mark.slow
@pytest.mark.interpret
@SINGLE
def test_interpreted_kernels_with_the_tiles_of_a_gpu(dtype, poisoned_empty):
    inputs = make_inputs((70, 1, 2), dtype)
    assert_close_in_single(inputs, run(inputs, "triton"))


@pytest.mark.interpret
@SINGLE
@pytest.mark.parametrize("coefficients", ["zero", "one"])
def test_interpreted_kernels_at_the_edges(coefficients, dtype, small_tiles):
    inputs = make_inputs((20, 1, 3), dtype, coefficients)
    assert_close_in_single(inputs, run(inputs, "triton"))


@pytest.mark.interpret
@DIRECTIONS
@SINGLE
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # numpy, of NaN made on purpose
def test_interpreted_kernels_forget_what_is_not_finite(dtype, reverse, small_tiles):
    for actual, expected in cut_in_two("triton", dtype, reverse):
        torch.testing.assert_close(actual, expected)


@pytest.mark.interpret
@DIRECTIONS
@SINGLE
@pytest.mark.parametrize("which", EXPANDED)
def test_interpreted_kernels_with_expanded_coefficients(which, dtype, reverse, small_tiles):
    _, b, h_0 = make_inputs((9, 3, 7), dtype)
    inputs = [make_inputs(EXPANDED[which], dtype)[0], b, h_0]
    expand = torch.Tensor.expand_as
    assert_close_in_single(inputs, run(inputs, "triton", reverse, expand), reverse, expand)


@pytest.mark.interpret
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_interpreted_kernels_in_half_precision(dtype, small_tiles):
    inputs = [x.detach().to(dtype).requires_grad_() for x in make_inputs((33, 2, 5))]
    exact = run([x.detach().double().requires_grad_() for x in inputs], "loop")
    same_dtype, actual = run(inputs, "loop"), run(inputs, "triton")
    for name, value in exact.items():
        assert_within_ratio(actual[name], same_dtype[name], value, name, RATIO, EPS[dtype])


@pytest.mark.interpret
@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_interpreted_kernels_with_one_gradient_wanted(wanted, small_tiles):
    inputs = [x.detach().requires_grad_(k == wanted) for k, x in enumerate(make_inputs((9, 1, 3), torch.float32))]

    def call(method):
        return torch.autograd.grad(linear_scan(*inputs, method=method).pow(2).sum(), inputs[wanted])

    torch.testing.assert_close(call("triton"), call("loop"))


@pytest.mark.interpret
@SINGLE
def test_interpreted_kernels_have_second_derivatives(dtype, small_tiles):
    inputs = make_inputs((5, 2, 3), dtype)

    def call(method):
        h = linear_scan(*inputs, method=method)
        grads = torch.autograd.grad(h.abs().pow(2).sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(grad.abs().pow(2).sum() for grad in grads), inputs)

    torch.testing.assert_close(call("triton"), call("loop"), rtol=1e-5, atol=1e-5)


def test_triton_is_refused_on_a_cpu_without_the_interpreter():
    taken, _ = supports("triton", torch.device("cpu"), torch.float32)
    assert taken == (INTERPRETING and launch.triton_version() is not None)


@pytest.mark.skipif(INTERPRETING or launch.triton_version() is None, reason="kernels cannot be compiled here")
@pytest.mark.parametrize("name", ["scan_bwd fp32 odd", "scan_bwd complex64 aligned reverse"])
def test_kernels_compile_without_spilling(name):
    from rnnlab_kernels.aot import compile_variant, scan_variants

    variants = {variant.name: variant for variant in scan_variants()}
    assert len([other for other in variants if other.startswith("scan")]) == 2 * 4 * 2 * 2
    assert [compile_variant(variants[name], capability).faults for capability in (80, 90)] == [[], []]
