"""The network of each task as ONNX and as a program of torch.export, at other batches and times than its example."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from rnnlab import models
from rnnlab.cli import export as verb
from rnnlab.cli.errors import UsageError
from rnnlab.cli.main import main
from rnnlab.models import exporting
from rnnlab.nn import GRU, LSTM, LRUCell, Recurrent
from tests.cli.test_bad_input import refuse
from tests.covering import few

GRU4, BOTH = partial(GRU, hidden_size=4), partial(LSTM, hidden_size=4, bidirectional=True)
PAIRS = {"source_size": 9, "target_size": 8}
TABLE = {"input_size": 2, "future_size": 1, "num_targets": 1, "horizon": 3, "num_series": 2}
LAYERS = ("TCN", "TimeDelay")  # which stand within models
CASES = {
    "addition": (models.Adder, {"rnn": GRU4}, {"vocab_size": 12, "answer_length": 3}),
    "forecasting": (models.Forecaster, {"rnn": GRU4}, {"input_size": 1, "output_size": 2}),
    "char_lm": (models.CharLM, {"rnn": GRU4}, {"vocab_size": 9}),
    "tagging": (models.Tagger, {"rnn": BOTH}, {"num_words": 9, "num_chars": 8, "num_tags": 3}),
    "seq2seq": (models.EncoderDecoder, {"rnn": GRU4, "attention": "general"}, PAIRS),
    "seq2seq, transformer": (models.TransformerSeq2Seq, {"width": 8, "feed_forward": 8, "num_layers": 1}, PAIRS),
    "ctc": (models.Transcriber, {"rnn": BOTH, "stack": 3}, {"num_features": 4, "num_classes": 5}),
    "listen": (models.Listener, {"rnn": GRU4, "stack": 2}, {"num_features": 4, "num_classes": 5}),
    "words": (models.SegmentTagger, {"rnn": BOTH}, {"num_features": 4, "num_tags": 5}),
    "classification": (models.Classifier, {"rnn": BOTH, "stack": 2}, {"input_size": 2, "num_classes": 3}),
    "delineation": (models.Delineator, {"rnn": BOTH}, {"sample_rate": 250, "num_points": 5}),
    "generation": (models.VectorGenerator, {"rnn": GRU4}, {"vector_size": 4, "num_steps": 7}),
    "series_forecasting": (models.SeriesForecaster, {"rnn": GRU4, "head": "gaussian", "stack": 2}, TABLE),
}


@pytest.fixture
def exported(monkeypatch, tmp_path):
    """Return what exports a model as the verb does, without a run."""

    def export(model, sizes, form):
        parts = SimpleNamespace(sizes=sizes), SimpleNamespace(model=model.eval()), {}
        monkeypatch.setattr("rnnlab.cli.build.load", lambda *_: parts)
        verb.export(tmp_path, form, tmp_path / f"model.{form}", "best", [])
        return tmp_path / f"model.{form}"

    return export


@pytest.mark.parametrize("form", verb.FORMATS)
@pytest.mark.parametrize("task", few(list(CASES), ["addition", "tagging", "seq2seq"]))
def test_networks_of_all_tasks(task, form, exported, capsys):
    onnxruntime = pytest.importorskip("onnxruntime") if form == "onnx" else None
    make, options, sizes = CASES[task]
    torch.manual_seed(0)
    path = exported(make(**options, **sizes), sizes, form)
    told = capsys.readouterr().out
    assert path.stat().st_size > 0 and "greatest difference" in told
    if onnxruntime is not None:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        axes = {axis for one in session.get_inputs() for axis in one.shape if isinstance(axis, str)}
        assert axes and axes <= set(told.partition("free axes: ")[2].splitlines()[0].split(", "))


def test_a_cell_of_recurrent_is_a_program_and_no_onnx(exported):
    model = models.Forecaster(lambda input_size: Recurrent(LRUCell(input_size, 4)), input_size=1, output_size=1)
    assert exported(model, {"input_size": 1}, "pt2").exists()
    with pytest.raises(UsageError, match="ONNX has no operator for the cells of Recurrent"):
        exported(model, {"input_size": 1}, "onnx")


def test_loops_of_python_are_refused(exported, tmp_path):
    model = models.EncoderDecoder(GRU4, **PAIRS, attention="general", input_feeding=True)
    with pytest.raises(UsageError, match="model.input_feeding=true reads its own output"):
        exported(model, PAIRS, "pt2")
    model = models.RecursiveForecaster(GRU4, **TABLE, head="gaussian")
    with pytest.raises(UsageError, match="RecursiveForecaster answers by a loop of Python"):
        exported(model, TABLE, "pt2")
    model = models.Forecaster(partial(GRU4, zoneout=0.1), input_size=1, output_size=1)
    with pytest.raises(UsageError, match="zoneout cannot be exported"):
        exported(model, {"input_size": 1}, "pt2")
    assert not list(tmp_path.iterdir())


def test_a_program_that_says_something_else_is_not_written(exported, monkeypatch, tmp_path):
    monkeypatch.setattr(verb, "_write", lambda *_: 0.5)
    with pytest.raises(UsageError, match="differs from the network by 0.5"):
        exported(models.Forecaster(GRU4, input_size=1, output_size=1), {"input_size": 1}, "pt2")
    assert not list(tmp_path.iterdir())


def test_a_run(addition_run, tmp_path, capsys):
    path = tmp_path / "adder.pt2"
    assert main(["export", f"run_dir={addition_run}", "format=pt2", f"output={path}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(path)
    import rnnlab

    run, questions = rnnlab.load(addition_run), torch.randint(4, 12, (7, 5))
    program = torch.export.load(path).module()
    torch.testing.assert_close(program(questions), run.model(questions))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["format=onxx", "output=x"], "format must be onnx or pt2, got 'onxx', did you mean 'onnx'"),
        (["format=pt2", "output=no/x"], "the folder no does not exist"),
        (["format=pt2", "output=x", "fromat=pt2"], "export has no option 'fromat'"),
        (["format=pt2"], "missing output=..."),
    ],
)
def test_refusals(words, message, addition_run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse(capsys, ["export", f"run_dir={addition_run}", *words], message)
    assert not list(tmp_path.iterdir())


def test_every_model_is_in_the_table_or_refused():
    makes = {name: getattr(models, name) for name in models.__all__}
    nets = {name for name, one in makes.items() if isinstance(one, type) and issubclass(one, torch.nn.Module)}
    known = tuple(kind for kinds in exporting._FORMS for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
    assert {name for name in nets if not issubclass(makes[name], known)} <= {
        "RecursiveForecaster",
        "LinearChainCRF",
        *LAYERS,
    }
