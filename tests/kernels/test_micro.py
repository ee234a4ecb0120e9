"""The micro-benchmarks' kernels count and add what they should, and compile; their times need a GPU."""

import pytest
import torch

from tests.conftest import INTERPRETING

pytest.importorskip("triton")


@pytest.mark.interpret
@pytest.mark.parametrize("mode", ["barrier", "exchange", "stale"])
def test_exchange_of_a_single_program(mode):
    from rnnlab_kernels.bench.micro import WORDS, exchange

    found = exchange(1, 5, "cpu", mode, cooperative=False)
    assert found.shape == (1, WORDS)
    assert (found == {"barrier": 0, "exchange": 0 + 1 + 2 + 3 + 4, "stale": 0}[mode]).all()


@pytest.mark.interpret
@pytest.mark.parametrize("programs", [3, 108, 132])
def test_parts_are_powers_of_two_whatever_the_chip(programs):
    from rnnlab_kernels.bench.micro import WORDS, exchange

    found = exchange(programs, 0, "cpu", "stale", cooperative=False)
    assert found.shape == (programs, WORDS) and not found.any()


@pytest.mark.interpret
def test_broadcast_reads_both_copies_in_turn():
    from rnnlab_kernels.bench.micro import _broadcast_kernel

    buffer, out = torch.randn(2 * 64), torch.empty(2 * 16)
    _broadcast_kernel[(2,)](buffer, out, 3, SIZE=64, BLOCK=16)
    first, second = buffer.view(2, 4, 16).sum(1)
    torch.testing.assert_close(out.view(2, 16), (2 * first + second).expand(2, 16))


@pytest.mark.skipif(INTERPRETING, reason="interpreted kernels cannot be compiled")
@pytest.mark.parametrize("mode", [(True, True), (True, False), (False, False)], ids=["stale", "exchange", "barrier"])
def test_exchange_compiles_with_its_barrier(mode):
    from rnnlab_kernels.aot import compile_variant
    from rnnlab_kernels.bench.micro import _exchange_kernel
    from rnnlab_kernels.variants import Variant

    types = {"buffer_ptr": "*i32", "barrier_ptr": "*i32", "wrong_ptr": "*i32", "num_steps": "i32"}
    constants = {"PART": 128, "BLOCK": 16_384, "EXCHANGE": mode[0], "CHECK": mode[1]}
    expected = [(r"(?:atom|red)\.\S*release", 1), (r"ld\.\S*acquire", 2)]
    expected += [(r"ld\.global\.cg", None)] if mode[0] else []
    variant = Variant("exchange", _exchange_kernel, types, constants, True, {"num_warps": 8}, expected=tuple(expected))
    assert compile_variant(variant, 90).faults == []
