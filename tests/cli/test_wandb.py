"""The offline W&B run, read back from its own datastore file."""

import json
import struct

import pytest
import yaml
from wandb.proto.wandb_internal_pb2 import Record
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from rnnlab.callbacks.ledger import read_rows
from rnnlab.cli.errors import UsageError
from rnnlab.cli.groups import conf_dir
from rnnlab.cli.loggers import build_loggers
from rnnlab.cli.main import main
from tests.cli.conftest import TINY

# The file is a LevelDB log: after a header of its own, blocks that hold chunks of (checksum, length, type, data).
MAGIC, BLOCK, CHUNK_HEADER = b":W&B", 32_768, struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_records(path):
    content = path.read_bytes()
    assert content.startswith(MAGIC)
    position, data = CHUNK_HEADER.size, b""
    while position + CHUNK_HEADER.size <= len(content):
        if BLOCK - position % BLOCK < CHUNK_HEADER.size:  # too little room for a chunk: zeros
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = CHUNK_HEADER.unpack_from(content, position)
        position += CHUNK_HEADER.size
        chunk = content[position : position + length]
        data = chunk if kind in (FULL, FIRST) else data + chunk
        position += length
        if kind in (FULL, LAST):
            yield Record.FromString(data)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "wandb"
    assert main(["train", "--debug", f"run_dir={run_dir}", *TINY, "tags=[trial]", "logger.wandb.log_model=true"]) == 0
    return run_dir


@pytest.fixture(scope="module")
def records(run_dir):
    (path,) = run_dir.glob("wandb/offline-run-*/*.wandb")
    return list(read_records(path))


@pytest.fixture(scope="module")
def history(records):
    """Every logged item as (key, value)."""
    items = [
        item for record in records if record.WhichOneof("record_type") == "history" for item in record.history.item
    ]
    return [("/".join(item.nested_key) or item.key, json.loads(item.value_json)) for item in items]


def test_run_is_named_and_grouped(records):
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    assert (run.project, run.run_group, run.job_type, list(run.tags)) == ("rnnlab", "addition/lstm", "train", ["trial"])


def test_name_tells_the_overrides(records):
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    assert run.display_name.startswith("addition/lstm seed=0 data.digits=2 data.num_questions=400")


def logger_of(config, tmp_path):
    """Return what the W&B logger of a configuration would pass to `wandb.init`."""
    (logger,) = build_loggers(config, tmp_path)
    return logger._wandb_init


def test_settings_of_the_logger_are_obeyed_or_refused(run_dir, tmp_path):
    config = yaml.safe_load((run_dir / "config.yaml").read_text())

    def with_wandb(**settings):
        return {**config, "logger": {"wandb": {**config["logger"]["wandb"], **settings}}}

    own = {"name": "mine", "group": "ours", "job_type": "test", "tags": ["a"], "settings": {"console": "wrap"}}
    found = logger_of(with_wandb(**own), tmp_path)
    assert [found[key] for key in ("name", "group", "job_type", "tags")] == ["mine", "ours", "test", ["a"]]
    assert found["settings"]["console"] == "wrap" and found["settings"]["silent"]
    assert not logger_of(config, tmp_path)["settings"].get("x_disable_stats")  # system metrics are on
    assert logger_of({**config, "logger": config["logger"]["wandb"]}, tmp_path)["group"]  # of an older run
    for key in ("id", "save_dir", "config"):
        with pytest.raises(UsageError, match=f"logger.wandb.{key}"):
            logger_of(with_wandb(**{key: "x"}), tmp_path)


def test_jobs_of_a_sweep_are_grouped_by_its_directory(run_dir, tmp_path):
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    config["provenance"]["sweep"] = "runs/addition/lstm/sweep_1"
    found = logger_of(config, tmp_path)
    assert (found["group"], found["job_type"]) == ("addition/lstm/sweep_1", "sweep")


def test_the_commit_is_in_its_own_field(records, run_dir):
    commit = yaml.safe_load((run_dir / "config.yaml").read_text())["provenance"]["git_commit"]
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    assert commit is None or run.git.commit == commit


def test_checkpoints_are_an_artifact(records):
    kept = [
        record.artifact if record.HasField("artifact") else record.request.log_artifact.artifact for record in records
    ]
    (artifact,) = [artifact for artifact in kept if artifact.type == "model"]
    assert {entry.path for entry in artifact.manifest.contents} == {"best.ckpt", "last.ckpt"}


def sweep_yaml():
    """Return the sweep that conf/README.md shows."""
    text = (conf_dir() / "README.md").read_text(encoding="utf-8")
    return yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])


def test_the_agent_of_a_sweep_finds_its_run(tmp_path, monkeypatch):
    """What `wandb agent` does, but for the server: the command of the documented sweep, and its environment."""
    sweep = sweep_yaml()
    drawn = {key: {"value": spec.get("values", [0.01])[0]} for key, spec in sweep["parameters"].items()}
    words = {"${args_no_hyphens}": create_sweep_command_args({"args": drawn})["args_no_hyphens"]}
    command = [word for part in sweep["command"] for word in words.get(part, [part])]
    assert command[:2] == ["rnnlab", "train"] and "logger.wandb.mode=online" in command
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
    monkeypatch.setenv("WANDB_RUN_ID", "run45678")
    command = [word for word in command[1:] if word != "logger.wandb.mode=online"]
    assert main([*command, f"run_dir={tmp_path / 'run'}", *TINY, "trainer.max_epochs=1", "callbacks=none"]) == 0
    (path,) = tmp_path.glob("run/wandb/offline-run-*/*.wandb")
    (run,) = (record.run for record in read_records(path) if record.WhichOneof("record_type") == "run")
    assert (run.run_id, run.sweep_id) == ("run45678", "sweep123")
    names = {"/".join(item.nested_key) or item.key for r in read_records(path) for item in r.history.item}
    assert sweep["metric"]["name"] in names


def test_config_commit_and_versions_are_there(records, run_dir):
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    config = {update.key: json.loads(update.value_json) for update in run.config.update}
    assert config["data"]["digits"] == 2
    assert config["rnn"]["_target_"] == "rnnlab.nn.LSTM"
    provenance = config["provenance"]
    assert provenance["id"] == run.run_id
    assert provenance["versions"].keys() >= {"rnnlab", "torch", "lightning", "triton"}
    assert provenance.keys() >= {"git_commit", "git_dirty"}


def test_metrics_of_every_epoch_and_the_final_ones_are_there(history):
    for key in ("train/loss", "val/loss", "val/exact_match", "time/epoch_s"):
        assert len([value for name, value in history if name == key]) >= 2, key
    assert {"final/test/exact_match", "final/val/loss", "time/fit_s"} <= {name for name, _ in history}


def test_curves_hold_what_was_measured_in_training(records, run_dir):
    """Two epochs, two points a curve, all of an epoch at one step."""
    steps = {}
    for record in records:
        row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for name in row.keys() & {"train/loss", "val/loss", "time/epoch_s"}:
            steps.setdefault(name, []).append(row["trainer/global_step"])
    assert len(steps) == 3 and len(set(map(tuple, steps.values()))) == 1
    assert [step + 1 for step in steps["val/loss"]] == [int(row["step"]) for row in read_rows(run_dir / "metrics.csv")]
    metrics = json.loads((run_dir / "metrics.json").read_text())
    final = {
        "/".join(item.nested_key) or item.key: json.loads(item.value_json)
        for record in records
        for item in record.history.item
    }
    assert all(final[f"final/{name}"] == value for name, value in metrics.items())


def test_figures_are_there(history, run_dir):
    assert ("figures/learning_curves/_type", "images/separated") in history
    assert list(run_dir.glob("wandb/offline-run-*/files/media/images/figures/learning_curves*.png"))


def test_sample_table_is_there(history, run_dir):
    assert ("samples/_type", "table-file") in history
    (path,) = run_dir.glob("wandb/offline-run-*/files/media/table/samples*.json")
    content = json.loads(path.read_text())
    assert content["columns"] == ["epoch", "question", "answer", "prediction", "is_correct"]
    assert [row[0] for row in content["data"]] == [0] * 10 + [1] * 10


def test_resume_keeps_the_id_and_logs_the_whole_history(run_dir):
    former = set(run_dir.glob("wandb/offline-run-*"))
    (run_dir / "metrics.json").unlink()
    assert main(["train", f"run_dir={run_dir}", "resume=true"]) == 0
    (resumed,) = set(run_dir.glob("wandb/offline-run-*")) - former
    assert {path.name.rsplit("-", 1)[1] for path in former} == {resumed.name.rsplit("-", 1)[1]}
    (path,) = resumed.glob("*.wandb")
    items = [item for record in read_records(path) for item in record.history.item]
    losses = [item for item in items if list(item.nested_key) == ["train/loss"]]
    assert len(losses) == 2
