"""The structure of the house: no file imports itself through others, and kernels stand on floors.

Imports count wherever they stand, inside functions too: what a file needs, it needs.
"""

import ast
import functools
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.test_imports import FILES, module_name

MODULES = {module_name(path): path for path in FILES}
PREFIX = "rnnlab_kernels."
# The parts of rnnlab_kernels from the ground up: each imports itself and those of lower floors only.
FLOORS = [
    {"launch", "cells", "cache"},
    {"schedules.layout", "schedules.noise"},
    {"schedules.additions", "schedules.recording"},
    {"schedules.engines", "schedules.reference"},
    {"ops"},
    {"schedules.node"},
    {"schedules.stepwise", "schedules.persistent", "schedules.scan", "schedules.library"},
    {"schedules.compiled"},
    {"plan", "variants"},
    {"bench"},
    {"aot", "warmup"},
]


@functools.cache
def needs(module: str) -> set[str]:
    """Return the modules of this project that one imports, those only meant for type checkers aside."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            # A name is a module, or it comes from the one that is named.
            found |= (below & MODULES.keys()) or {node.module}
            if not below <= MODULES.keys():
                found.add(node.module)
    return found & MODULES.keys()


def floor_of(part: str) -> int:
    return next(k for k, parts in enumerate(FLOORS) if part in parts)


def part_of(module: str) -> str:
    """Return the part of rnnlab_kernels that a module belongs to."""
    return max((part for parts in FLOORS for part in parts if f"{module}.".startswith(f"{PREFIX}{part}.")), key=len)


@pytest.mark.parametrize("package", ["rnnlab_kernels", "rnnlab"])
def test_no_file_imports_itself_through_others(package):
    graph = {name: needs(name) for name in MODULES if name.split(".")[0] == package}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(PREFIX) and name.count(".") > 0])
def test_kernels_stand_on_floors(module):
    if module == "rnnlab_kernels.schedules":
        assert not needs(module)
        return
    here = part_of(module)
    for other in needs(module):
        there = part_of(other)
        assert there == here or floor_of(there) < floor_of(here), f"{module} must not import {other}"
