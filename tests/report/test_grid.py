"""Runs are found by what they computed."""

import json

import pytest
import yaml

from fedsign import presets
from fedsign.errors import ConfigError
from fedsign.report.grid import Index, one_setting


@pytest.fixture
def item(toy):
    return toy.preset("table", kind="table", rows=["method"], columns=["local.batch_size"])


ONE = ("algorithm=fedavg", "local.batch_size=8", "seed=0")


def test_every_setting_has_its_seeds(toy, item):
    for seed in (0, 1):
        toy.run(item, "algorithm=fedavg", "local.batch_size=8", f"seed={seed}", test_accuracy=[0.5])
    grid = toy.grid(item)
    assert (grid.size, grid.found, grid.others) == (8, 2, 0)
    assert len(grid.settings) == 4
    (found,) = [setting for setting in grid.settings if setting.runs]
    assert sorted(found.runs) == [0, 1]
    assert found.values(["method", "local.batch_size"]) == ("FedAvg", 8)


def test_a_run_made_for_another_item_counts(toy, item):
    other = toy.preset("other", kind="curves", title="another")
    toy.run(other, *ONE, test_accuracy=[0.5])
    assert toy.grid(item).found == 1


def test_a_run_of_another_setting_does_not_count(toy, item):
    toy.run(item, *ONE, "local.lr=0.7", test_accuracy=[0.5])
    toy.run(item, *ONE, "hardware.precision=bf16", test_accuracy=[0.5])
    assert toy.grid(item).found == 0


def test_where_it_ran_does_not_matter(toy, item):
    toy.run(item, *ONE, "hardware.workers=2", "dataset.root=elsewhere", "tracking=wandb", test_accuracy=[0.5])
    assert toy.grid(item).found == 1


def test_overrides_change_the_grid(toy, item):
    toy.run(item, *ONE, "rounds=2", test_accuracy=[0.5])
    assert toy.grid(item).found == 0
    grid = toy.grid(item, "rounds=2")
    assert (grid.found, grid.size) == (1, 8)
    assert all(setting.changed for setting in grid.settings)


@pytest.mark.parametrize("override", ["seed=0,1,2", "+fidelity=text", "algorithm=fedavg", "+scale=full"])
def test_what_is_the_papers_stays_the_papers(toy, item, override):
    assert not any(setting.changed for setting in toy.grid(item, override).settings)


def test_other_seeds_count_and_are_told(toy, item):
    toy.run(item, *ONE, test_accuracy=[0.5])
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=7", test_accuracy=[0.5])
    toy.run(item, "algorithm=fedsmu", "local.batch_size=32", "seed=9", test_accuracy=[0.5])
    grid = toy.grid(item)
    assert (grid.size, grid.found, grid.others) == (8, 3, 2)
    assert sorted(seed for setting in grid.settings for seed in setting.runs) == [0, 7, 9]


def test_only_the_seeds_that_are_asked_for_count(toy, item):
    toy.run(item, *ONE, test_accuracy=[0.5])
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=7", test_accuracy=[0.5])
    assert [sorted(s.runs) for s in toy.grid(item, "seed=7").settings if s.runs] == [[7]]


def test_another_seed_is_resolved_and_not_patched(toy):
    params = {"dataset": "consensus", "model": "vector", "dataset.dimension": "3", "seed": "0"}
    item = toy.preset("drawn", params, kind="curves", y="distance")
    path = toy.run(item, "seed=5", distance=[1.0])
    assert yaml.safe_load((path / "config.yaml").read_text())["dataset"]["draw"] == 5
    assert toy.grid(item).others == 1


@pytest.mark.parametrize("status", ["failed", "dry run"])
def test_an_unfinished_run_does_not_count(toy, item, status):
    toy.run(item, *ONE, status=status, test_accuracy=[0.5])
    assert toy.grid(item).found == 0


@pytest.mark.parametrize("text", ["", "[1, 2]", "seed: 1", "a: [", "hardware: 3\nseed: 0", "seed: x\ndataset: {}"])
def test_a_config_that_is_none_is_passed_over(toy, item, text):
    good = toy.run(item, *ONE, test_accuracy=[0.5])
    bad = toy.runs / "bad"
    bad.mkdir()
    (bad / "config.yaml").write_text(text)
    (bad / "summary.json").write_text(json.dumps({"status": "finished"}))
    assert list(Index.of([toy.runs]).paths.values()) == [good]


def test_of_twins_the_first_is_taken(toy, item):
    first = toy.run(item, *ONE, test_accuracy=[0.5])
    toy.run(item, *ONE, test_accuracy=[0.6])
    assert list(Index.of([toy.runs, toy.runs]).paths.values()) == [first]


def test_whole_numbers_are_one_number(toy, item):
    config = presets.jobs(item, ["seed=0"])[0].config
    local = config["local"]
    assert presets.key(config | {"local": local | {"lr": 1}}) == presets.key(config | {"local": local | {"lr": 1.0}})
    assert presets.key(config | {"local": local | {"lr": 1}}) != presets.key(config | {"local": local | {"lr": 1.5}})


def test_keys_that_do_not_tell_settings_apart_are_refused(toy, item):
    grid = toy.grid(item)
    assert one_setting(grid, grid.settings[:1]) is grid.settings[0]
    with pytest.raises(ConfigError, match=r"do not tell apart what differs in local\.batch_size$"):
        one_setting(grid, grid.settings[:2])
