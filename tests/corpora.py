"""Real corpora, which do not travel with the repository."""

import os
from pathlib import Path

import pytest


def corpus(name: str) -> Path:
    """Return a file below RNNLAB_DATA; without it the test is skipped, and the reason names the path."""
    path = Path(os.environ.get("RNNLAB_DATA", "$RNNLAB_DATA")) / name
    if not path.is_file():
        pytest.skip(f"no file {path}")
    return path
