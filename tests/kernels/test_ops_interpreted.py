"""Level 1: whole sequences as one operator, for torch.compile and torch.export, against the same call in eager mode."""

import subprocess
import sys
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from rnnlab_kernels.cells import CELLS, CHAINS
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.schedules.additions import Additions, Noise
from tests.covering import few
from tests.kernels.problems import make_problem
from tests.kernels.test_chains import make
from tests.kernels.test_ops import Recorder, checked

pytestmark = pytest.mark.interpret
Named = dict[str, Tensor]
I, H = 3, 16  # noqa: E741  the letters of all docstrings; heads side by side have multiples of 16 units


class Case(NamedTuple):
    """A schedule, and a layer that it runs: `both_ways` and heads in one launch take half precision."""

    schedule: str
    chain: Chain
    reverse: bool = False
    heads: int = 1
    dtype: torch.dtype = torch.float32


LSTM, GRU = as_chain(CELLS["lstm"]), as_chain(CELLS["gru"])
CASES = {
    "sequence": Case("sequence", CHAINS["peephole_lstm"], True),
    "heads": Case("sequence", GRU, heads=2, dtype=torch.float16),
    "step": Case("step", LSTM, True, heads=2),
    "both ways": Case("both_ways", LSTM, dtype=torch.float16),
    "norms": Case("sequence", CHAINS["layer_norm_lstm_state"], True),
    "two products": Case("sequence", CHAINS["gru_reset_before"]),
}
FLAGS = ("mask", "reset", "seed")
EACH = pytest.mark.parametrize("name", few(CASES, ("step", "norms")))
PLAIN = [(name, ()) for name in ("both ways", "two products")]
EVERY = pytest.mark.parametrize(
    ("name", "given"),
    few([*((name, FLAGS) for name in CASES), *PLAIN], [("two products", FLAGS)], several=True),
    ids=lambda value: value if isinstance(value, str) else "all" if value else "plain",
)
ENDS = pytest.mark.parametrize("name", few(["sequence", "both ways", "two products"], ["both ways"]))


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def schedule(name: str) -> Any:
    # Imported late: outside the interpreter's process these modules would fix the kernels as compiled ones.
    from rnnlab_kernels.schedules.persistent import api

    return getattr(api, name)


def inputs_of(case: Case, num_steps: int, batch: int, given: tuple[str, ...] = ()) -> tuple[Named, Named]:
    """Return leaves by name, x first, then weights and states, those of a second direction behind "~"; and flags."""
    size = (num_steps, batch, I, H * case.heads)
    inputs: Named = {}
    for suffix in ("", "~")[: 2 if case.schedule == "both_ways" else 1]:
        named = case.chain.name in CHAINS
        own = (make(case.chain.name, size) if named else make_problem(CELLS[case.chain.name], size)).inputs
        if case.heads > 1:
            own["hh"] = own["hh"].view(case.heads, -1, H * case.heads)[..., :H]
        inputs |= {f"{key}{suffix}": value for key, value in own.items() if f"{key}{suffix}" != "x~"}
    leaves = {key: value.detach().to(case.dtype).requires_grad_() for key, value in inputs.items()}
    flags = {"mask": torch.rand(num_steps, batch, 1) < 0.7, "reset": torch.rand(num_steps, batch, 1) < 0.3}
    flags["seed"] = torch.tensor(2**40 + 5)
    return leaves, {name: flags[name] for name in given}


def additions_of(case: Case, flags: Named, training: bool = True) -> list[Additions]:
    if "seed" not in flags:
        return [Additions(flags.get("reset"))] * 2
    rates = 0.3, 0.4, (0.3, 0.2)[: case.chain.num_states]
    return [
        Additions(flags.get("reset"), Noise(seed, *rates, training, 5)) for seed in (flags["seed"], flags["seed"] + 1)
    ]


def call(case: Case, leaves: Named, flags: Named, training: bool = True) -> tuple[Tensor, ...]:
    """Return output and last states."""
    run, mask, additions = schedule(case.schedule), flags.get("mask"), additions_of(case, flags, training)
    sides = []
    for suffix in ("", "~"):
        ends = [f"{state}_0{suffix}" for state in case.chain.states]
        skipped = [f"x{suffix}", *ends]
        weights = {key.removesuffix("~"): leaf for key, leaf in leaves.items() if key.endswith("~") == (suffix == "~")}
        weights = {key: leaf for key, leaf in weights.items() if f"{key}{suffix}" not in skipped}
        sides.append((weights, tuple(leaves[key] for key in ends if key in leaves)))
    (weights, state_0), (back, back_0) = sides
    if case.schedule == "both_ways":
        output, finals = run(case.chain, leaves["x"], [state_0, back_0], [weights, back], mask, additions=additions)
        return output, *finals[0], *finals[1]
    output, state_n = run(case.chain, leaves["x"], state_0, weights, mask, reverse=case.reverse, additions=additions[0])
    return output, *state_n


def results(function: Any, case: Case, leaves: Named, flags: Named) -> list[Tensor]:
    """Return results and the gradients of all leaves."""
    found = function(case, leaves, flags)
    upstream = [torch.linspace(-1, 1, value.numel()).view_as(value).to(value) for value in found]
    return [*found, *torch.autograd.grad(found, list(leaves.values()), upstream)]


@pytest.mark.slow
@EVERY
def test_compiled_it_computes_the_same_at_any_size(name, given):
    case = CASES[name]
    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for num_steps, batch in ((4, 5), (2, 7)):  # none of features or heads at first: it would be taken for it
            leaves, flags = inputs_of(case, num_steps, batch, given)
            expected = results(call, case, leaves, flags)
            torch.testing.assert_close(results(compiled, case, leaves, flags), expected)


@ENDS
def test_it_is_one_operator(name):
    targets: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        targets.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    leaves, flags = inputs_of(CASES[name], 2, 5, FLAGS)
    with torch.no_grad():
        expected = call(CASES[name], leaves, flags, False)
        compiled = torch.compile(call, fullgraph=True, dynamic=True, backend=backend)
        torch.testing.assert_close(compiled(CASES[name], leaves, flags, False), expected)
    assert targets.count("rnnlab.run") == 1 and len(targets) < 60


@EVERY
def test_torchs_checks(name, given, monkeypatch):
    case, recorder = CASES[name], Recorder(monkeypatch)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    leaves, flags = inputs_of(case, 2, 3, given)
    call(case, {key: leaf.detach() for key, leaf in leaves.items()}, flags)
    monkeypatch.undo()
    checked(recorder, leaves_gaps="mask" in flags)
    engine, config, tensors = recorder.arguments[-1]
    every = torch.ops.rnnlab.run(tensors, engine, config, True)
    count = 1 + case.chain.num_states
    needed = [tensor.is_floating_point() for tensor in tensors]
    grads = torch.ops.rnnlab.run_backward(
        tensors, every[count:], every[:1], [True] + [False] * (count - 1), needed, engine, config
    )
    memory = [value.untyped_storage().data_ptr() for value in (*every, *grads) if value.numel()]
    assert len({*memory} - {tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(memory)


class Layer(nn.Module):
    """A call with weights and flags as its own; x and states are of any T and B."""

    def __init__(self, case: Case, leaves: Named, seeds: Named) -> None:
        super().__init__()
        self.case, self.training_noise = case, bool(seeds)
        self.names = {key: f"p{k}" for k, key in enumerate(leaves) if key != "x" and "_0" not in key}
        for key, name in self.names.items():
            self.register_parameter(name, nn.Parameter(leaves[key].detach()))
        for key, seed in seeds.items():
            self.register_buffer(key, seed)

    def forward(self, values: Named) -> tuple[Tensor, ...]:
        leaves = {key: getattr(self, name) for key, name in self.names.items()} | values
        flags = {key: leaves.pop(key) for key in FLAGS if key in leaves}
        flags |= {"seed": self.seed} if self.training_noise else {}
        return call(self.case, leaves, flags)


@EVERY
def test_exported_it_runs_at_any_size(name, given):
    case, time, batch = CASES[name], Dim("time"), Dim("batch")

    def values_of(leaves: Named, flags: Named) -> Named:
        own = {key: leaf.detach() for key, leaf in leaves.items() if key == "x" or "_0" in key}
        return own | {key: flag for key, flag in flags.items() if key != "seed"}

    leaves, flags = inputs_of(case, 2, 5, given)
    module = Layer(case, leaves, {key: flag for key, flag in flags.items() if key == "seed"})
    values = values_of(leaves, flags)
    shapes = {key: {0: batch} if "_0" in key else {0: time, 1: batch} for key in values}
    program = torch.export.export(module, (values,), dynamic_shapes=(shapes,))
    other = values_of(*inputs_of(case, 3, 7, given))
    torch.testing.assert_close(program.module()(other), module(other))
    with pytest.raises(RuntimeError, match="exported for inference"):
        program.module()(other)[0].sum().backward()


@ENDS
def test_second_derivatives_name_the_reference_backend(name):
    leaves, flags = inputs_of(CASES[name], 2, 3)
    output = torch.compile(call, fullgraph=True, backend="eager")(CASES[name], leaves, flags)[0]
    (grad,) = torch.autograd.grad(output.square().sum(), leaves["x"], create_graph=True)
    with pytest.raises(RuntimeError, match='backend="reference"'):
        grad.sum().backward()


@ENDS
def test_no_rows(name):
    leaves, flags = inputs_of(CASES[name], 2, 0, FLAGS)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    found = results(compiled, CASES[name], leaves, flags)
    torch.testing.assert_close(found, results(call, CASES[name], leaves, flags))


def test_gradients_that_nobody_needs():
    case = CASES["sequence"]
    leaves, flags = inputs_of(case, 2, 3)
    for key in ("x", "hh", "c_0"):
        leaves[key].requires_grad_(False)
    wanted = [leaf for leaf in leaves.values() if leaf.requires_grad]
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    found, expected = (torch.autograd.grad(run(case, leaves, flags)[0].sum(), wanted) for run in (compiled, call))
    torch.testing.assert_close(found, expected)


REFUSED = {
    "sequence": (Case("sequence", CHAINS["dense_peephole_lstm"]), "multiplies something else"),
    "step": (Case("step", CHAINS["layer_norm_gru"]), "more than one product"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_schedule_never_runs_is_refused_while_traced(name):
    case, reason = REFUSED[name]
    leaves, flags = inputs_of(case, 2, 3)
    with pytest.raises(ValueError, match=f"cannot run this: .*{reason}"):
        torch.compile(call, backend="eager")(case, leaves, flags)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=reason):
        torch.compile(call, backend="eager", fullgraph=True)(case, leaves, flags)


def test_sizes_and_walks_that_do_not_fit_and_plans_are_refused():
    case = CASES["heads"]._replace(dtype=torch.float32)  # heads side by side, in fp32
    leaves, flags = inputs_of(case, 2, 3)
    with pytest.raises(ValueError, match="cannot run this: heads and directions"):
        torch.compile(call, backend="eager", fullgraph=True, dynamic=True)(case, leaves, flags)
    case = CASES["sequence"]
    leaves, _ = inputs_of(case, 2, 3)
    x, state_0 = leaves.pop("x"), (leaves.pop("h_0"), leaves.pop("c_0"))
    from rnnlab_kernels.schedules.persistent.tiles import plan_step

    plan, _ = plan_step(LSTM, 3, H, 4)
    for options, reason in (
        ({"additions": Additions(clip=1.0)}, "pointwise schedule"),
        ({"plan": plan}, "give no plan"),
    ):
        with pytest.raises(torch._dynamo.exc.Unsupported, match=reason):
            torch.compile(schedule("step"), backend="eager", fullgraph=True)(case.chain, x, state_0, leaves, **options)


@pytest.mark.slow
def test_a_saved_program_finds_its_engine_in_a_new_process(tmp_path):
    case, file = CASES["sequence"], tmp_path / "program.pt2"
    leaves, _ = inputs_of(case, 2, 3)
    values = {key: leaves[key].detach() for key in ("x", "h_0", "c_0")}
    module = Layer(case, leaves, {})
    torch.export.save(torch.export.export(module, (values,)), file)
    torch.save((values, module(values)[0].detach()), tmp_path / "expected.pt")
    script = f"""
import torch, rnnlab.nn.export
values, expected = torch.load({str(tmp_path / "expected.pt")!r})
torch.testing.assert_close(torch.export.load({str(file)!r}).module()(values)[0], expected)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)
