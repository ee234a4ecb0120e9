"""rnnlab: a laboratory for recurrent networks.

Importing this package is free: layers live in `rnnlab.nn`, tasks in `rnnlab.tasks`, the command line in
`rnnlab.cli`, and each loads what it needs when it is imported. `rnnlab.load(run_dir)` opens a trained run.
"""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # by its name: this room imports no other

    return import_module("rnnlab.cli.loading").load
