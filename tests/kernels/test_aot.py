"""Level 2: the compile gate judges what it should. The whole table is `python -m rnnlab_kernels.aot`."""

import pytest

from rnnlab_kernels.cells import CELLS, PARTS
from tests.conftest import INTERPRETING

triton = pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(INTERPRETING, reason="interpreted kernels cannot be compiled")


def test_variants_cover_every_cell_direction_dtype_and_alignment():
    from rnnlab_kernels.aot import variants

    names = [variant.name for variant in variants()]
    assert len(names) == len(set(names)) == len(CELLS) * 2 * 3 * 2 + (len(PARTS) - len(CELLS)) * 2 * 2


@pytest.mark.parametrize("capability", [80, 90])
def test_a_variant_compiles_without_spilling(capability):
    from rnnlab_kernels.aot import compile_variant, variants

    variant = next(v for v in variants() if v.name == "pointwise_bwd gru bf16 aligned")
    report = compile_variant(variant, capability)
    assert report.faults == [] and 0 < report.registers < 128


def test_faults_name_spills_shared_memory_and_registers():
    from rnnlab_kernels.aot import Report

    report = Report("kernel", 90, registers=255, spill_bytes=16, shared_bytes=300_000, num_warps=16)
    assert [fault.split()[0] for fault in report.faults] == ["spills", "shared", "register"]


def test_main_fails_when_nothing_was_compiled(capsys):
    from rnnlab_kernels.aot import main

    assert main(["--only", "no such kernel"]) == 1
