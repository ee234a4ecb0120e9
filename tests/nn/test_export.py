"""Exported layers: ONNX in its runtime and torch.export programs, at other B and T than those of the example."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rnnlab.nn
from rnnlab.nn.export import export_onnx, export_program, exportable, stack
from tests.nn.cases import build, every_kind, raises, random_state, states
from tests.nn.exporting import CASES, build_tagger

ROOT = Path(__file__).parents[2]
SIZES = [(2, 5), (3, 11), (1, 1), (4, 2)]  # (B, T); the first is the example's
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Export everything in one process, and return the function that opens a file by its name in the runtime."""
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    runtime = pytest.importorskip("onnxruntime")
    directory = tmp_path_factory.mktemp("onnx")
    command = [sys.executable, "-W", "ignore", "-m", "tests.nn.exporting", str(directory)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return lambda name: runtime.InferenceSession(directory / f"{name}.onnx", providers=["CPUExecutionProvider"])


def lengths_for(batch, num_steps):
    """A length of each kind, zero among them."""
    return torch.arange(batch).flip(0).clamp(max=num_steps)


def call(case, module, batch, num_steps):
    """Draw inputs of a size; return them, and what the layer itself makes of them."""
    shape = (batch, num_steps, 3) if module.batch_first else (num_steps, batch, 3)
    x, hx = torch.randn((batch, 3) if case.streaming else shape), random_state(module, batch)
    lengths = [lengths_for(batch, num_steps)] if case.lengths else []
    if case.streaming:
        output, final = module.step(x, hx)
    else:
        output, final = module(x, hx, **({"lengths": lengths[0]} if lengths else {}))
    return (x, list(states(hx)), *lengths), (output, *states(final))


def run(session, inputs):
    names = [given.name for given in session.get_inputs()]
    values = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    return tuple(torch.from_numpy(value) for value in values)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_onnx_layers_run_at_any_size(session, name):
    case, opened = CASES[name], session(name)
    module = case.build()
    for size in SIZES:
        (x, hx, *lengths), expected = call(case, module, *size)
        torch.testing.assert_close(run(opened, (x, *hx, *lengths)), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_onnx_inputs_and_outputs_have_names_and_free_axes(session, name):
    case, opened = CASES[name], session(name)
    parts = ["h", "c"] if case.kind == "LSTM" else ["h"]
    given, returned = opened.get_inputs(), opened.get_outputs()
    extra = ["lengths"] if case.lengths else []
    assert [value.name for value in given] == ["input", *(f"{part}_0" for part in parts), *extra]
    assert [value.name for value in returned] == ["output", *(f"{part}_n" for part in parts)]
    axes = ["batch", "time"] if case.options.get("batch_first") else ["time", "batch"]
    width = 8 if case.options.get("bidirectional") else 4
    assert given[0].shape == [*(["batch"] if case.streaming else axes), 3]
    assert returned[0].shape == [*(["batch"] if case.streaming else axes), width]
    assert given[1].shape == returned[1].shape == [width // 2, "batch", 4]


@pytest.mark.slow
def test_streaming_onnx_equals_one_call(session):
    module, opened = CASES["lstm, streaming"].build(), session("lstm, streaming")
    x, hx = torch.randn(2, 7, 3), random_state(module, 2)
    output, final = module(x, hx)
    state, outputs = states(hx), []
    for x_t in x.unbind(1):
        y_t, *state = run(opened, (x_t, *state))
        outputs.append(y_t)
    torch.testing.assert_close(torch.stack(outputs, 1), output)
    torch.testing.assert_close(tuple(state), states(final))


@pytest.mark.slow
def test_onnx_of_a_model_around_a_layer(session):
    opened, model = session("tagger"), build_tagger()
    for batch, num_steps in SIZES:
        tokens, lengths = torch.randint(11, (batch, num_steps)), lengths_for(batch, num_steps)
        (output,) = run(opened, (tokens, lengths))
        torch.testing.assert_close(output, model(tokens, lengths))


@every_case
def test_programs_run_at_any_size(case):
    module = case.build()
    program = export_program(module, streaming=case.streaming, lengths=case.lengths).module()
    for size in SIZES:
        inputs, expected = call(case, module, *size)
        torch.testing.assert_close(program(*inputs), expected)


def test_programs_of_a_projecting_lstm_and_of_a_parametrised_one():
    module = rnnlab.nn.LSTM(3, 4, 2, proj_size=2).requires_grad_(False)
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    program = export_program(module).module()
    x, hx = torch.randn(9, 3, 3), random_state(module, 3)
    output, final = module(x, hx)
    torch.testing.assert_close(program(x, list(hx)), (output, *final))


@pytest.mark.slow
def test_a_saved_program_runs_in_a_process_that_imports_this_module(tmp_path):
    module = rnnlab.nn.GRU(3, 4)
    torch.export.save(export_program(module), tmp_path / "gru.pt2")
    x, h_0 = torch.randn(9, 3, 3), torch.randn(1, 3, 4)
    torch.save((x, h_0, [part.detach() for part in module(x, h_0)]), tmp_path / "run.pt")
    code = f"""
import torch, rnnlab.nn.export
x, h_0, expected = torch.load({str(tmp_path / "run.pt")!r})
program = torch.export.load({str(tmp_path / "gru.pt2")!r}).module()
torch.testing.assert_close(list(program(x, [h_0])), expected)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@every_kind
@pytest.mark.parametrize("batch", [None, 2])
def test_an_exportable_copy_computes_the_same_in_every_form_of_call(kind, batch):
    module = build(rnnlab.nn, kind, 3, 4, 2, bidirectional=batch is None, batch_first=True)
    copied = exportable(module)
    assert not copied.training and module.training and not any(p.requires_grad for p in copied.parameters())
    assert copied.state_dict().keys() == module.state_dict().keys()
    x = torch.randn(5, 3) if batch is None else torch.randn(batch, 5, 3)
    for hx in (None, random_state(module, batch)):
        actual, expected = copied(x, hx), module(x, hx)
        torch.testing.assert_close((actual[0], *states(actual[1])), (expected[0], *states(expected[1])))
    if batch:
        state = module.initial_state(batch)
        torch.testing.assert_close(copied.step(x[:, 0], state), module.step(x[:, 0], state))
        torch.testing.assert_close(copied.step(x[0, 0]), module.step(x[0, 0]))


@every_kind
@pytest.mark.parametrize("lengths", [None, torch.tensor([5, 0])], ids=["full", "lengths"])
def test_the_operator_keeps_its_contract(kind, lengths):
    module = build(rnnlab.nn, kind, 3, 4, 2, bidirectional=True).requires_grad_(False)
    weights = [getattr(module, name) for name in module._flat_weights_names]
    arguments = (torch.randn(5, 2, 3), list(states(random_state(module, 2))), weights, lengths, module.mode, 2, True)
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(stack, arguments, test_utils=tests)


def test_export_without_its_extra_names_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with raises(ModuleNotFoundError, 'onnx is not installed: pip install "rnnlab[onnx]"'):
        export_onnx(rnnlab.nn.GRU(3, 4), tmp_path / "gru.onnx")


def test_what_cannot_be_exported_says_so(tmp_path):
    with raises(TypeError, "expected a layer of rnnlab.nn, got: Linear; for a model, see `exportable`"):
        export_program(torch.nn.Linear(3, 4))
    with raises(ValueError, "streaming goes without a bidirectional layer"):
        export_program(rnnlab.nn.GRU(3, 4, bidirectional=True), streaming=True)
    with raises(ValueError, "streaming goes without lengths"):
        export_program(rnnlab.nn.GRU(3, 4), streaming=True, lengths=True)
    with raises(ValueError, "ONNX has no projecting LSTM: proj_size must be 0"):
        export_onnx(rnnlab.nn.LSTM(3, 4, proj_size=2), tmp_path / "lstm.onnx")
    with raises(ValueError, "a layer with zoneout cannot be exported"):
        exportable(torch.nn.Sequential(rnnlab.nn.LSTM(3, 4, zoneout=0.1)))
    copied = exportable(rnnlab.nn.GRU(3, 4))
    packed = torch.nn.utils.rnn.pack_sequence([torch.zeros(2, 3)])
    with raises(TypeError, "a PackedSequence cannot be exported: pass the padded batch and lengths="):
        copied(packed)
    with raises(RuntimeError, "input.size(-1) must be equal to input_size. Expected 3, got 4"):
        copied(torch.zeros(5, 2, 4))
