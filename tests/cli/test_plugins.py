"""A package from outside: the folder of CONTRIBUTING.md, trained, resumed, evaluated and asked, from the wheel."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_wheel

from rnnlab.cli import plugins
from rnnlab.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FOLDER = PAGE[PAGE.index("## A package of your own") : PAGE.index("## A new schedule")]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the package of the page, and nothing else."""
    folder = tmp_path_factory.mktemp("outside")
    cell = re.search(r"```python\n(.*?class UGRNNCell.*?)```", PAGE, re.DOTALL)
    files = dict(re.findall(r"`(mylab/[\w/.]+)`: [^\n]+\n\n```\w+\n(.*?)```", FOLDER, re.DOTALL))
    assert len(files) == 3
    for name, text in {**files, "mylab/__init__.py": "", "mylab/cells.py": cell[1]}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def fresh(monkeypatch, workplace):
    """Run in that folder, in a process that has imported no plugin yet."""
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.setattr(plugins, "_imported", [])
    monkeypatch.setattr(plugins, "_conf_dirs", [])
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


@pytest.mark.slow
def test_the_folder_of_the_page_from_the_wheel(workplace, tmp_path, monkeypatch):
    source, installed = tmp_path / "source", tmp_path / "installed"
    for name in ("rnnlab", "kernels", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    monkeypatch.chdir(source)
    zipfile.ZipFile(source / build_wheel(str(source))).extractall(installed)

    def rnnlab(*words):
        code = "import sys; from rnnlab.cli.main import main; sys.exit(main())"
        result = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=workplace,
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    train = ["train", "plugins=[mylab]", "experiment=adding", "logger=csv", "trainer.accelerator=cpu"]
    rnnlab(*train, "run_dir=adding", "trainer.max_epochs=2", "rnn.cell.hidden_size=8")
    assert "plugins:\n- mylab" in (workplace / "adding/config.yaml").read_text()
    (workplace / "adding/metrics.json").unlink()  # as if it had been killed before its final numbers
    rnnlab("train", "run_dir=adding", "resume=true")
    metrics = json.loads((workplace / "adding/metrics.json").read_text())
    assert "test/mse" in rnnlab("evaluate", "run_dir=adding")
    assert metrics["baseline/mean/test/mse"] == pytest.approx(1 / 6, abs=0.05)
    (workplace / "questions.txt").write_text("0.1 0.5* 0.3 0.2*\n0.9* 0.5 0.8* 0.2\n")
    rnnlab("predict", "run_dir=adding", "input=questions.txt", "output=answers.txt")
    assert len([float(line) for line in (workplace / "answers.txt").read_text().splitlines()]) == 2


@pytest.mark.slow
def test_the_folder_of_the_page_learns(fresh, capsys):
    words = ["plugins=[mylab]", "experiment=adding", "logger=csv", "trainer.accelerator=cpu", "trainer.max_epochs=12"]
    assert main(["train", *words, "data.num_steps=4", "run_dir=learns"]) == 0
    metrics = json.loads(Path("learns/metrics.json").read_text())
    assert metrics["test/mse"] < 0.2 * metrics["baseline/mean/test/mse"]
    assert main(["evaluate", "run_dir=learns"]) == 0
    assert capsys.readouterr().out.count("best baseline mean beaten: test/mse") == 2  # of train, of evaluate


@pytest.mark.slow
def test_a_folder_of_settings_and_a_package_on_the_path(workplace, tmp_path):
    shutil.copytree(workplace / "mylab", tmp_path / "lib" / "mylab", ignore=shutil.ignore_patterns("conf"))
    (tmp_path / "settings" / "experiment").mkdir(parents=True)
    shutil.copy(workplace / "mylab/conf/experiment/adding.yaml", tmp_path / "settings/experiment/mine.yaml")
    places = [str(place) for place in (ROOT, ROOT / "kernels", tmp_path / "lib")]
    small = ["logger=csv", "trainer.accelerator=cpu", "trainer.max_epochs=1", "rnn.cell.hidden_size=4"]

    def rnnlab(*words):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        command = [sys.executable, "-m", "rnnlab", *words]
        result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr

    mine = ["plugins=[mylab]", "--config-dir=settings", "experiment=mine", *small]
    rnnlab("train", *mine, "run_dir=one")
    rnnlab("evaluate", "run_dir=one")
    rnnlab("train", "-m", *mine, "seed=0,1", "sweep_dir=several")
    found = [path.parent.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("metrics.json"))]
    assert found == ["one", "several/seed=0", "several/seed=1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnn._target_=mylab.cells.UGRNNCell"], r"add plugins=\[mylab\]"),
        (["plugins=[mylap]"], "no plugin 'mylap': it is neither installed nor in the working directory"),
        (["plugins=[os]"], "'os' comes with Python"),
        (["plugins=[mylab.data]"], "takes names of Python packages"),
        (["plugins=7"], "takes names of Python packages"),
        (["plugins=[mylab]", "experiment=addign"], "did you mean 'adding'"),
        (["plugins=[broken]"], "plugin 'broken' cannot be imported: ZeroDivisionError"),
    ],
)
def test_refusals(words, message, fresh, workplace, capsys):
    (workplace / "broken.py").write_text("1 / 0\n")
    assert main(["train", *words, "logger=csv", "run_dir=refused"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and re.search(message, lines[0]), lines
    assert not Path("refused").exists()


def test_a_run_whose_plugin_is_not_there(fresh, workplace, tmp_path, capsys, addition_run):
    run_dir = shutil.copytree(addition_run, tmp_path / "run")
    config = run_dir / "config.yaml"
    config.write_text(config.read_text().replace("plugins: []", "plugins: [elsewhere]"))
    assert main(["evaluate", f"run_dir={run_dir}"]) == 2
    assert "no plugin 'elsewhere'" in capsys.readouterr().err
