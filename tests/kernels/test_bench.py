"""The benchmark refuses to time what is wrong, times every arm in turn, and goes on where it stopped."""

import json

import pytest
import torch

from rnnlab_kernels.bench import __main__ as bench
from rnnlab_kernels.bench import arms, gate
from rnnlab_kernels.bench.work import Work, draw, parts
from tests.conftest import INTERPRETING

pytestmark = pytest.mark.skipif(INTERPRETING, reason="times the arms of a CPU")
SMALL = Work("lstm", "fp32", 2, 3, 4, 5)


@pytest.mark.parametrize("cuda", [False, True])
def test_every_part_has_works_whose_tensors_can_be_drawn(cuda):
    for works in parts(cuda).values():
        for work in works:
            given = draw(work.small())
            assert given.upstream.shape[0] == given.x.shape[0] and all(leaf.isfinite().all() for leaf in given.leaves())


@pytest.mark.parametrize(
    "work",
    [
        SMALL,
        SMALL._replace(cell="gru", layers=2, bidirectional=True),
        SMALL._replace(ragged=True),
        SMALL._replace(recurrence=True),
        SMALL._replace(cell="layer_norm_lstm", recurrence=True),
        SMALL._replace(feature="zoneout"),
    ],
    ids=lambda work: work.words(),
)
def test_arms_agree(work):
    found = gate.faults(work, "cpu")
    assert {"loop", "eager"} <= found.keys() and not any(found.values())
    assert ("torch.nn" in found) == (work.cell != "layer_norm_lstm" and not work.recurrence and not work.feature)


def test_a_wrong_arm_has_no_numbers(monkeypatch, tmp_path, capsys):
    def wrong(work, given):
        run = arms.ARMS["loop"](work, given)
        return lambda: 1.01 * run()

    monkeypatch.setitem(arms.ARMS, "eager", wrong)
    monkeypatch.setattr(bench, "parts", lambda cuda: {"lstm": [SMALL]})
    assert bench.main(["--out", str(tmp_path), "--rounds", "2"]) == 1
    assert not (tmp_path / "lstm.json").exists()
    assert "eager is wrong in output" in capsys.readouterr().err


def test_an_arm_that_fails_is_left_out(monkeypatch):
    def broken(work, given):
        raise RuntimeError("no such device\nand more")

    monkeypatch.setitem(arms.ARMS, "fused", broken)
    with pytest.raises(arms.Unavailable, match="RuntimeError: no such device$"):
        arms.build("fused", SMALL, draw(SMALL).to(torch.float32, "cpu"))


def test_parts_are_written_once_and_reported(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "parts", lambda cuda: {"lstm": [SMALL, SMALL._replace(H=9)], "none": []})
    assert bench.main(["--out", str(tmp_path), "--rounds", "2"]) == 0
    part = json.loads((tmp_path / "lstm.json").read_text())
    assert len(part["rows"]) == 2 and {"torch", "commit", "device"} <= part["about"].keys()
    median, p20, p80, first, peak = part["rows"][0]["times"]["forward + backward"]["eager"]
    assert 0 < p20 <= median <= p80 and first > 0 and peak is None
    assert "sequence" in part["rows"][0]["left out"]
    text = (tmp_path / "README.md").read_text()
    assert "| lstm, fp32 | 2, 3, 4, 9 | forward | eager |" in text
    capsys.readouterr()
    assert bench.main(["--out", str(tmp_path)]) == 0 and capsys.readouterr().out == ""
