"""A run directory belongs to one config, and knows whether it is new, half done or finished."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from fedsign.config import Config
from fedsign.durable import write_text
from fedsign.errors import ConfigError
from fedsign.tracking.run_directory import CONFIG_HEADER, RunDirectory, read_summary


@pytest.fixture
def claim(resolved, tmp_path):
    """``claim("rounds=3")``: the run directory of that config, at tmp_path/run."""

    def go(*overrides):
        return RunDirectory(Config(resolved(f"output={tmp_path / 'run'}", *overrides)))

    return go


def test_a_new_folder_is_created_and_nothing_is_written(claim):
    directory = claim()
    assert directory.status == "new"
    assert list(directory.path.iterdir()) == []


def test_a_folder_with_metrics_is_unfinished(claim):
    (claim().path / "metrics.csv").write_text("")
    assert claim().status == "unfinished"


@pytest.mark.parametrize(
    ("status", "expected"),
    [("finished", "finished"), ("stopped", "finished"), ("dry run", "new"), ("failed", "new"), (None, "new")],
)
def test_the_status_is_what_the_summary_says(claim, status, expected):
    claim().write_summary({"status": status})
    assert claim().status == expected


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"finished"'])
def test_a_summary_that_cannot_be_read_is_empty(claim, content):
    directory = claim()
    (directory.path / "summary.json").write_text(content)
    assert directory.summary() == {}
    assert claim().status == "new"


def test_resume_never_makes_it_new(claim):
    claim().write_summary({"status": "finished"})
    assert claim("resume=never").status == "new"


def test_a_dry_run_does_not_replace_a_finished_run(claim):
    claim().write_summary({"status": "finished"})
    with pytest.raises(ConfigError, match=r"^output=.*finished run"):
        claim("dry_run=true")


def test_the_same_experiment_shares_its_folder(claim):
    claim().write_config()
    assert claim("checkpoint.every=2", "tracking=wandb", "report.target_accuracy=0.9").status == "new"


def test_another_experiment_is_refused_and_the_keys_are_named(claim):
    claim().write_config()
    with pytest.raises(ConfigError, match=r"^output=.*different config \(local\.lr, seed\)"):
        claim("seed=1", "local.lr=0.3")


def test_the_list_of_differing_keys_is_short(claim):
    claim().write_config()
    with pytest.raises(ConfigError) as caught:
        claim("seed=1", "local.lr=0.3", "rounds=3", "clients=20", "cohort=5", "eval.every=2")
    assert ", ..." in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[", "text", "- 1\n- 2\n", "\x00", b"\xff\xfe\xfa"])
def test_a_config_that_is_none_is_refused_in_one_line(claim, content):
    file = claim().path / "config.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=r"^output=.*config\.yaml") as caught:
        claim()
    assert "\n" not in str(caught.value)


def test_the_config_reads_back_as_it_was_resolved(claim, resolved, tmp_path):
    directory = claim("algorithm=fedsmu")
    directory.write_config()
    text = (directory.path / "config.yaml").read_text()
    stored = yaml.safe_load(text)
    assert text.startswith(CONFIG_HEADER)
    assert stored.pop("hydra")["run"] == {"dir": "${output}"}
    assert stored == resolved(f"output={tmp_path / 'run'}", "algorithm=fedsmu")


def test_starting_removes_the_end_of_the_run_before(claim):
    directory = claim()
    directory.write_summary({"status": "finished"})
    directory.write_model({"w": np.ones(3)})
    (directory.path / "error.txt").write_text("Traceback")
    claim("resume=never").write_config()
    assert claim().status == "new"
    assert [path.name for path in directory.path.iterdir()] == ["config.yaml"]


def test_the_model_is_never_seen_half_written(claim, monkeypatch):
    directory = claim()
    directory.write_model({"w": np.ones(3)})

    def die(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    for step in ((os, "fsync"), (Path, "replace"), (np, "savez")):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr(*step, die)
            directory.write_model({"w": np.zeros(4)})
        with np.load(directory.path / "model.npz") as file:
            assert np.array_equal(file["w"], np.ones(3))
        assert [path.name for path in directory.path.iterdir()] == ["model.npz"]


def test_a_path_below_a_file_is_refused(resolved, tmp_path):
    (tmp_path / "file").write_text("")
    for output in ("file", "file/below"):
        with pytest.raises(ConfigError, match=rf"^output={tmp_path / output}: cannot be created"):
            RunDirectory(Config(resolved(f"output={tmp_path / output}")))


def test_a_folder_that_is_not_writable_is_refused(claim, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match=r"^output=.*not writable"):
        claim()


def test_text_is_never_seen_half_written(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_text(path, '{"status": "old"}')

    def die(self, target):
        raise OSError("power cut")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="power cut"):
        patch.setattr(Path, "replace", die)
        write_text(path, json.dumps({"status": "new"}))
    assert read_summary(tmp_path) == {"status": "old"}
    write_text(path, json.dumps({"status": "new"}))
    assert read_summary(tmp_path) == {"status": "new"}


def test_the_summary_of_no_run_is_empty(tmp_path):
    assert read_summary(tmp_path / "nowhere") == {}
