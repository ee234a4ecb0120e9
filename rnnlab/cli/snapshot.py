"""The code of jobs that start later: a copy in the sweep's directory, which nobody edits."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import rnnlab
import rnnlab_kernels
from rnnlab.cli import plugins
from rnnlab.cli.errors import UsageError
from rnnlab.cli.groups import conf_dir
from rnnlab.cli.provenance import SNAPSHOT, git_state

CODE = "code"  # in a sweep's directory
_UNUSED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def check_clean() -> None:
    """Refuse code that is not that of a commit.

    Raises:
        UsageError: the clone has changes.
    """
    if git_state()[1]:
        changed = _git("status", "--short").splitlines()
        raise UsageError(
            f"code=clean: {len(changed)} files of {_root()} are not as committed, such as {changed[0][3:]}; commit "
            "them, or let code=copy queue them as they are"
        )


def take(sweep_dir: Path) -> Path:
    """Copy rnnlab, its kernels, its configuration and the plugins in use, and return the folder, for Python's path.

    It is named after its content: the same code is copied once. Beside the packages are git.json, the commit, and
    changes.diff, what was changed of it.
    """
    sources = {"rnnlab": Path(rnnlab.__file__).parent, "rnnlab_kernels": Path(rnnlab_kernels.__file__).parent}
    if conf_dir().parent != sources["rnnlab"]:
        sources["conf"] = conf_dir()
    sources |= plugins.folders()
    commit, is_dirty = git_state()
    state = {"git_commit": commit, "git_dirty": is_dirty}
    folder = sweep_dir.absolute() / CODE / _digest(sources, json.dumps(state))
    if folder.exists():
        return folder
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name, source in sources.items():
        shutil.copytree(source, part / name, ignore=_UNUSED)
    (part / SNAPSHOT).write_text(json.dumps(state) + "\n", encoding="utf-8")
    if is_dirty:
        (part / "changes.diff").write_text(_git("diff", "HEAD"), encoding="utf-8")
    try:
        part.rename(folder)
    except OSError:
        if not folder.exists():  # or another launcher was faster
            raise
    return folder


def _digest(sources: dict[str, Path], state: str) -> str:
    content = hashlib.sha256(state.encode())
    for name, source in sources.items():
        for path in sorted(source.rglob("*")):
            if path.is_file() and not _UNUSED(str(path.parent), list(path.relative_to(source).parts)):
                content.update(f"{name}/{path.relative_to(source)}\0".encode())
                content.update(path.read_bytes())
    return content.hexdigest()[:12]


def _root() -> Path:
    return Path(rnnlab.__file__).parents[1]


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(_root()), *words], capture_output=True, text=True, check=True).stdout
