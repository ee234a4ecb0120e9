"""The import contract: imports run one way, and optional or heavy packages load when they are first used."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a room may import of this project, besides itself.
ALLOWED = {
    "rnnlab_kernels": set(),
    "rnnlab": set(),
    "rnnlab.__main__": {"rnnlab.cli"},
    "rnnlab.nn": {"rnnlab_kernels"},
    "rnnlab.models": {"rnnlab.nn", "rnnlab.decoding"},
    "rnnlab.baselines": set(),
    "rnnlab.decoding": set(),
    "rnnlab.data": {"rnnlab.baselines"},
    "rnnlab.tasks": {"rnnlab.models", "rnnlab.nn", "rnnlab.data", "rnnlab.baselines", "rnnlab.decoding"},
    "rnnlab.analysis": {"rnnlab.nn"},
    "rnnlab.studies": {"rnnlab.analysis", "rnnlab.nn", "rnnlab.data"},
    "rnnlab.callbacks": {"rnnlab.analysis", "rnnlab.decoding", "rnnlab.nn", "rnnlab.sweeps"},
    "rnnlab.sweeps": set(),
    "rnnlab.cli": {
        *("rnnlab", "rnnlab.nn", "rnnlab.models", "rnnlab.data", "rnnlab.tasks", "rnnlab.callbacks"),
        *("rnnlab.analysis", "rnnlab.decoding", "rnnlab.studies", "rnnlab.sweeps"),
        "rnnlab_kernels",  # where compiled kernels are kept is a matter of the process
    },
}
# What a room may not import from outside, anywhere in its files.
FORBIDDEN = {
    "rnnlab_kernels": {"lightning", "hydra", "omegaconf", "wandb", "matplotlib", "statsmodels", "torchmetrics", "rich"},
    "rnnlab.nn": {"lightning", "hydra", "omegaconf", "wandb", "matplotlib", "statsmodels", "torchmetrics", "rich"},
    "rnnlab.models": {"lightning", "hydra", "omegaconf", "wandb"},
    "rnnlab.baselines": {"lightning", "hydra", "omegaconf", "wandb", "torch"},
    "rnnlab.decoding": {"lightning", "hydra", "omegaconf", "wandb"},
    "rnnlab.data": {"hydra", "omegaconf", "wandb"},
    "rnnlab.tasks": {"hydra", "omegaconf", "wandb"},
    "rnnlab.callbacks": {"hydra", "omegaconf"},
    "rnnlab.studies": {"lightning", "hydra", "omegaconf", "wandb"},
    "rnnlab.sweeps": {"torch", "lightning", "hydra", "wandb", "matplotlib"},
}
FILES = sorted([*(ROOT / "rnnlab").rglob("*.py"), *(ROOT / "kernels" / "rnnlab_kernels").rglob("*.py")])


def module_name(path: Path) -> str:
    base = ROOT / "kernels" if ROOT / "kernels" in path.parents else ROOT
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "rnnlab" and ".".join(parts[:2]) in ALLOWED else parts[0]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and module of every import in a file, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            # `from rnnlab import nn` imports a room, `from rnnlab.nn import LSTM` a name in one.
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "rnnlab" else [node.module]
            )
            yield from ((node.lineno, name) for name in names)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_run_one_way(path):
    here = room(module_name(path))
    assert here in ALLOWED, f"{here} is not in the table of this test"
    for line, module in imports(path):
        top = module.split(".")[0]
        if top in ("rnnlab", "rnnlab_kernels"):
            assert room(module) in ALLOWED[here] | {here}, f"{path}:{line}: {here} must not import {module}"
        assert top not in FORBIDDEN.get(here, set()), f"{path}:{line}: {here} must not import {module}"
        assert top not in ("experiments", "tests", "conf"), f"{path}:{line}: {module} is not part of the package"


def run_python(code: str) -> None:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("rnnlab", ["torch", "lightning", "hydra", "wandb", "matplotlib", "statsmodels"]),
        ("rnnlab.cli.main", ["torch", "lightning", "hydra", "wandb", "matplotlib", "rich"]),
        ("rnnlab.callbacks.figures", ["torch", "lightning", "hydra", "wandb", "matplotlib"]),
        ("rnnlab.nn", ["lightning", "hydra", "wandb", "matplotlib", "statsmodels", "torchmetrics"]),
        ("rnnlab.nn, rnnlab_kernels.plan", ["torch._dynamo", "torch._inductor", "triton", "numba"]),
        ("rnnlab_kernels", ["rnnlab", "lightning", "hydra", "wandb", "matplotlib"]),
        # Lightning itself loads matplotlib, by way of torchmetrics.
        pytest.param(
            "rnnlab.cli.fit, rnnlab.data, rnnlab.models, rnnlab.tasks",
            ["wandb", "statsmodels", "pandas", "pyarrow"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_import_leaves_out(module, absent):
    run_python(f"import sys, {module}; found = set({absent}) & sys.modules.keys(); assert not found, found")


@pytest.mark.parametrize("module", ["rnnlab_kernels", "rnnlab.nn"])
def test_import_without_triton(module):
    run_python(f"import sys; sys.modules['triton'] = None; import {module}")
