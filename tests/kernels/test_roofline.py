"""The roofline by numbers worked out by hand, and where its inputs come from."""

import pytest

from rnnlab_kernels.bench.roofline import ASSUMED, Chip, chip_of, step_us

H200 = ASSUMED["H200"]
MICRO = {
    "about": {"highest clock MHz": "2000"},
    "multiprocessors": 100,
    "shared memory": 200_000,
    "barrier us": {"8": 1.0, "32": 1.5, "128": 2.0},
    "broadcast TB/s": {"16 KiB": 3.0, "64 KiB": 4.0},
    "product TFLOP/s": {"fp16": 700.0, "fp32": 50.0},
}


def test_a_step_forward_is_broadcast_and_barrier():
    # 2 MiB of weights. On 32 programs: 32 x 64 x 512 x 2 bytes at 5.5 TB/s 0.381 us, 64 KiB of weights at 224 GB/s
    # 0.293 us, 0.134 GFLOP at 790 TFLOP/s 0.170 us. On 16 the weights take 0.585 us, on 64 the broadcast 0.763 us.
    assert step_us(H200, 4, 64, 512, "fp16", backward=False) == pytest.approx(1.2 + 0.3813, abs=1e-3)


def test_a_step_backward_reads_the_gradients_of_all_gates():
    # On 16 programs: 16 x 64 x 4 x 512 x 2 bytes at 5.5 TB/s 0.763 us; more programs read more.
    assert step_us(H200, 4, 64, 512, "bf16", backward=True) == pytest.approx(1.2 + 0.7626, abs=1e-3)


def test_one_program_waits_for_nobody():
    # 128 KiB of weights fit in one multiprocessor: 131,072 bytes at 224 GB/s.
    assert step_us(H200, 4, 16, 128, "fp16", backward=False) == pytest.approx(0.5851, abs=1e-3)


def test_a_product_that_takes_longest():
    # fp32: 2 x 4 x 128 x 512^2 FLOP at 67 TFLOP/s 4.006 us.
    assert step_us(H200, 4, 128, 512, "fp32", backward=False) == pytest.approx(1.2 + 4.0064, abs=1e-3)


def test_weights_that_do_not_fit_have_no_roofline():
    assert step_us(H200, 4, 16, 2048, "fp32", backward=False) is None  # 64 MiB on 128 programs of 227 KiB
    assert step_us(H200._replace(tflops={}), 4, 16, 512, "fp32", backward=False) is None


def test_a_barrier_is_that_of_the_next_larger_number_of_programs():
    chip = Chip({}, 1.0, {8: 1.0, 32: 1.5}, 1.0, 132, 1)
    assert [chip.barrier(programs) for programs in (1, 2, 8, 16, 32, 64)] == [0.0, 1.0, 1.0, 1.5, 1.5, 1.5]


def test_inputs_are_those_measured_where_there_are_any():
    expected = Chip({"fp16": 700.0, "fp32": 50.0}, 4.0, {8: 1.0, 32: 1.5, 128: 2.0}, 2.0, 100, 200_000)
    assert chip_of("NVIDIA H200", MICRO) == (expected, "measured inputs")
    assert chip_of("Another", MICRO) == (expected, "measured inputs")
    assert chip_of("NVIDIA H200", None) == (H200, "assumed inputs")
    part = {key: value for key, value in MICRO.items() if key in ("barrier us", "multiprocessors", "shared memory")}
    chip, source = chip_of("NVIDIA H200", part)
    assert chip.barrier_us == expected.barrier_us and chip.l2_tb_s == H200.l2_tb_s
    assert source == "measured inputs, assumed: clock, l2, tflops"


@pytest.mark.parametrize("micro", [None, {"barrier us": {"8": 1.0}}, {"about": {"highest clock MHz": "[N/A]"}}])
def test_of_an_unknown_device_nothing_is_said(micro):
    assert chip_of("x86_64", micro) == (None, "no roofline: nothing is known of x86_64")
