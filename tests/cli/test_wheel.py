"""What the wheel carries: both packages and conf/, without the settings of this machine."""

import shutil
import zipfile
from pathlib import Path

from hatchling.build import build_wheel

ROOT = Path(__file__).parents[2]


def test_wheel_holds_conf_without_the_machine(tmp_path, monkeypatch):
    for name in ("rnnlab", "kernels", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "conf" / "machine").mkdir(exist_ok=True)
    (tmp_path / "conf" / "machine" / "local.yaml").write_text("paths:\n  root: /mine\n")
    monkeypatch.chdir(tmp_path)
    names = set(zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path))).namelist())
    assert {"rnnlab/conf/train.yaml", "rnnlab/cli/main.py", "rnnlab_kernels/__init__.py"} <= names
    assert not [name for name in names if "conf/machine" in name or name.startswith(("conf/", "kernels/"))]
