"""Masks from a counter: the published generator, one mask on every backend, and numbers that behave like chance."""

import math

import pytest
import torch

from rnnlab_kernels.schedules.noise import counter, draw
from rnnlab_kernels.schedules.noise.counter import keep_threshold, philox
from rnnlab_kernels.schedules.noise.masks import draw_seed, keep_mask
from tests.conftest import INTERPRETING

SHAPES = [(1, 1, 1), (3, 2, 5), (4, 3, 64), (2, 33, 7), (2, 1, 131), (0, 2, 3), (2, 0, 3)]
# Seed, stream and first step, at the edges of their words.
KEYS = [
    (0, 0, 0),
    (-1, 7, 1000),
    (2**63 - 2, 2**31 + 5, 2**31 - 1),
    (0x0123456789ABCDEF, 2**32 - 1, 2**32 - 4),
    (2**31, 2**31, 2**31),
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]

# The known answers that come with the authors' library (Random123, kat_vectors): rounds, counter, key, output.
KNOWN = """
7  00000000 00000000 00000000 00000000  00000000 00000000  5f6fb709 0d893f64 4f121f81 4f730a48
7  ffffffff ffffffff ffffffff ffffffff  ffffffff ffffffff  5207ddc2 45165e59 4d8ee751 8c52f662
7  243f6a88 85a308d3 13198a2e 03707344  a4093822 299f31d0  4dfccaba 190a87f0 c47362ba b6b5242a
10 00000000 00000000 00000000 00000000  00000000 00000000  6627e8d5 e169c58d bc57ac4c 9b00dbd8
10 ffffffff ffffffff ffffffff ffffffff  ffffffff ffffffff  408f276d 41c83b0e a20bc7c6 6d5451fd
10 243f6a88 85a308d3 13198a2e 03707344  a4093822 299f31d0  d16cfe09 94fdcceb 5001e420 24126ea1
"""


def mask(seed=3, stream=0, first=0, shape=(4, 3, 64), p=0.25, dtype=torch.float32):
    return keep_mask(seed, stream, first, shape, p, "cpu", dtype)


def assert_fills_alike(fill, shape, dtype, device="cpu"):
    """Compare a backend with torch's integer operators, bit for bit."""
    expected, actual = torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype, device=device)
    for key in KEYS:
        for threshold in (0, 1 << 22, 1 << 24):
            counter.fill(expected, *key, threshold)
            fill(actual.fill_(-1), *key, threshold)
            assert torch.equal(actual.cpu(), expected), (key, threshold)


@pytest.mark.parametrize("line", KNOWN.strip().splitlines(), ids=lambda line: " ".join(line.split()[:2]))
def test_philox_gives_the_published_words(line):
    rounds, *words = line.split()
    words = [int(word, 16) for word in words]
    counter = tuple(torch.tensor(word) for word in words[:4])
    assert [int(word) for word in philox(counter, tuple(words[4:6]), int(rounds))] == words[6:]


def test_the_layout_of_the_counter_is_the_documented_one():
    seed, stream, first, p = 0x0123456789ABCDEF, 5, 40, 0.3
    whole = mask(seed, stream, first, (3, 4, 11), p)
    for n, b, h in torch.cartesian_prod(*(torch.arange(size) for size in whole.shape)).tolist():
        counter = tuple(torch.tensor(word) for word in (h // 4, b, first + n, stream))
        word = int(philox(counter, (0x89ABCDEF, 0x01234567))[h % 4])
        assert whole[n, b, h] == (word >> 8 >= round(p * 2**24))


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bool], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_numba_gives_torchs_bits(shape, dtype):
    pytest.importorskip("numba")
    from rnnlab_kernels.schedules.noise import by_numba as noise_numba

    assert_fills_alike(noise_numba.fill, shape, dtype)


@pytest.mark.interpret
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [*((shape, torch.float32) for shape in SHAPES), *(((3, 2, 5), dtype) for dtype in DTYPES[1:])],
    ids=str,
)
def test_interpreted_triton_gives_torchs_bits(shape, dtype):
    from rnnlab_kernels.schedules.noise import by_triton as noise_triton

    assert_fills_alike(noise_triton.fill, shape, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (50, 64, 200)], ids=str)
def test_compiled_triton_gives_torchs_bits(shape, dtype):
    from rnnlab_kernels.schedules.noise import by_triton as noise_triton

    assert_fills_alike(noise_triton.fill, shape, dtype, "cuda")
    expected = mask(shape=shape, dtype=dtype)
    assert torch.equal(keep_mask(3, 0, 0, shape, 0.25, "cuda", dtype).cpu(), expected)


@pytest.mark.skipif(INTERPRETING, reason="interpreted kernels cannot be compiled")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("type_name", "hidden"), [("fp32", 128), ("bf16", 63), ("fp64", 1)])
def test_the_kernel_compiles_without_spilling(type_name, hidden, capability):
    pytest.importorskip("triton")
    from rnnlab_kernels.aot import Variant, compile_variant
    from rnnlab_kernels.schedules.noise.by_triton import _keep_mask_kernel, keep_block

    options = dict(keep_block(64, hidden).options)
    constants = {name: options.pop(name) for name in ("BLOCK_B", "BLOCK_H")}
    words = ("key_0", "key_1", "stream", "first", "threshold", "R", "B", "H")
    types = {"out_ptr": f"*{type_name}", **dict.fromkeys(words, "i32")}
    report = compile_variant(
        Variant("keep_mask", _keep_mask_kernel, types, constants, hidden == 128, options), capability
    )
    assert report.faults == [] and report.registers < 64


def test_torch_serves_where_numba_is_missing(monkeypatch):
    expected = mask()
    monkeypatch.setattr(draw.launch, "has_numba", lambda: False)
    assert torch.equal(mask(), expected)
    assert mask(shape=(2, 3, 4)).shape == (2, 3, 4)
    assert keep_mask(3, 0, 0, (2, 3, 4), 0.25, "meta", torch.float32).shape == (2, 3, 4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_are_zero_and_one_in_any_dtype(dtype):
    values = mask(dtype=dtype)
    assert values.dtype == dtype and set(values.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(values.float(), mask())
    assert mask(p=0.0, dtype=dtype).eq(1).all() and mask(p=1.0, dtype=dtype).eq(0).all()


def test_a_window_is_a_slice_of_the_whole():
    whole = mask(shape=(12, 5, 23), first=100)
    assert torch.equal(mask(shape=(4, 5, 23), first=103), whole[3:7])
    assert torch.equal(mask(shape=(12, 2, 23), first=100), whole[:, :2])
    assert torch.equal(mask(shape=(12, 5, 9), first=100), whole[:, :, :9])


def test_more_is_dropped_where_p_is_larger():
    assert (mask(p=0.5) <= mask(p=0.25)).all()


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_the_mean_is_the_probability(p):
    values = mask(shape=(50, 40, 100), p=p, dtype=torch.float64)
    sigma = math.sqrt(p * (1 - p))
    assert abs(values.mean() - (1 - p)) < 4 * sigma / math.sqrt(values.numel())
    for dims in ((1, 2), (0, 2), (0, 1)):  # of each step, each row, each unit; wider, for there are up to 100 of each
        means = values.mean(dims)
        assert (means - (1 - p)).abs().max() < 5 * sigma / math.sqrt(values.numel() / means.numel())


def test_streams_steps_seeds_rows_and_neighbours_are_uncorrelated():
    shape = (40, 30, 100)
    base = mask(shape=shape, p=0.5, dtype=torch.float64) - 0.5
    others = {
        "stream": mask(stream=1, shape=shape, p=0.5) - 0.5,
        "seed": mask(seed=4, shape=shape, p=0.5) - 0.5,
        "high word of the seed": mask(seed=3 + (1 << 32), shape=shape, p=0.5) - 0.5,
        "step": mask(first=1, shape=shape, p=0.5) - 0.5,
        "row": base.roll(1, 1),
        "unit": base.roll(1, 2),
        "group of units": base.roll(4, 2),
    }
    for name, other in others.items():
        correlation = float((base * other).mean() * 4)
        assert abs(correlation) < 4 / math.sqrt(base.numel()), name


def test_seeds_repeat_after_manual_seed_and_differ_otherwise():
    torch.manual_seed(5)
    first = [draw_seed() for _ in range(3)]
    torch.manual_seed(5)
    assert [draw_seed() for _ in range(3)] == first and len(set(first)) == 3
    generator = torch.Generator().manual_seed(5)
    assert draw_seed(generator) == first[0]
    assert all(0 <= seed < 2**63 for seed in first) and max(first) > 2**40


def test_a_seed_is_drawn_for_all_examples_of_a_vmap():
    x = torch.zeros(2)
    assert torch.vmap(lambda a: a + draw_seed() % 2, randomness="same")(x).unique().numel() == 1
    with pytest.raises(RuntimeError, match='randomness="same" works'):
        torch.vmap(lambda a: a + draw_seed(), randomness="different")(x)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_p_is_a_probability(p):
    with pytest.raises(ValueError, match=r"probability in \[0, 1\]"):
        keep_threshold(p)


@pytest.mark.parametrize(
    "wrong", [{"stream": -1}, {"stream": 2**32}, {"first": -1}, {"first": 2**32 - 3}, {"shape": (1, -1, 2)}], ids=str
)
def test_what_does_not_fit_the_counter_is_refused(wrong):
    with pytest.raises(ValueError, match=r"\[0, 2\^32\)"):
        mask(**wrong)
