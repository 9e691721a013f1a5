"""The config: shared keys and their defaults, the checks across keys, and what makes two runs one experiment."""

import copy

import pytest

from fedsign.config import NOT_THE_EXPERIMENT, Config, differing_keys, fingerprint, flat
from fedsign.errors import ConfigError

SHARED = {
    "seed": 0,
    "rounds": 50,
    "clients": 100,
    "cohort": 10,
    "local.epochs": 5,
    "local.steps": None,
    "local.batch_size": 50,
    "local.optimizer": "sgd",
    "local.lr": 0.1,
    "local.lr_decay": 1.0,
    "local.momentum": 0.0,
    "local.weight_decay": 0.0,
    "local.clip_norm": None,
    "eval.every": 1,
    "eval.batch_size": 1000,
    "eval.train": False,
    "stop.accuracy": None,
    "stop.uplink_bits": None,
    "checkpoint.every": None,
    "checkpoint.minutes": 10,
    "on_nan": "stop",
    "resume": "auto",
    "dry_run": False,
}
GROUP_KEYS = [
    "dataset.root", "dataset.augment", "partition.name", "model.name", "algorithm.name", "hardware.device",
    "hardware.workers", "hardware.precision", "hardware.vectorise", "attack.name", "tracking.name",
]  # fmt: skip
ALGORITHM_KEYS = {
    "fedavg": "server_lr weighting aggregator",
    "fed_locallion": "beta_1 beta_2 gamma_1 gamma_2 server_lr sign_zero",
    "fed_globallion": "beta_1 beta_2 gamma_1 gamma_2 sign_zero",
    "fedsmu": "beta_1 beta_2 gamma_1 gamma_2 gamma_1_decay aggregate bits sign_zero",
    "fedsmumc": "beta_1 beta_2 gamma_1 gamma_2 sign_zero",
    "zsign": "z sigma server_lr noise_scale sign_zero",
    "signsgd": "server_lr aggregate theta alpha sign_zero",
    "sgdm": "server_lr momentum",
}
BESIDE = ("output", "dry_run", "resume", "checkpoint", "tracking", "report", "experiment")
EXPERIMENT = (
    "seed", "rounds", "clients", "cohort", "on_nan", "local", "eval", "stop",
    "dataset", "partition", "model", "algorithm", "hardware", "attack",
)  # fmt: skip


@pytest.mark.parametrize(("key", "default"), SHARED.items())
def test_shared_keys_keep_their_names_and_defaults(resolved, key, default):
    values = flat(resolved())
    assert key in values
    assert repr(values[key]) == repr(default)


@pytest.mark.parametrize("key", GROUP_KEYS)
def test_groups_keep_their_keys(resolved, key):
    assert key in flat(resolved())


@pytest.mark.parametrize(("algorithm", "keys"), ALGORITHM_KEYS.items())
def test_methods_keep_their_names_and_keys(resolved, algorithm, keys):
    node = resolved(f"algorithm={algorithm}")["algorithm"]
    assert node["name"] == algorithm
    assert {*keys.split(), "codes"} <= node.keys()


def test_the_default_output_lies_under_outputs(resolved):
    assert resolved()["output"].startswith("outputs/")


def test_the_default_config_is_valid(resolved):
    config = Config(resolved())
    assert (config.clients, config.cohort, config.local.epochs) == (100, 10, 5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["cohort=101"], "cohort=101: .*clients=100"),
        (["local.steps=3"], "local.epochs=5 local.steps=3: exactly one"),
        (["local.epochs=null"], "local.epochs=null local.steps=null: exactly one"),
        (["local.momentum=0.9", "local.optimizer=adam"], "local.momentum=0.9: .*local.optimizer=adam"),
        (["hardware.workers=0"], "hardware.workers=0: must be an integer >= 1 or auto"),
        (["dataset.std=[0.3,0.3]"], "dataset.std=.*one number per channel, 1"),
        (["dataset.std=[0.0]"], "dataset.std=.*> 0"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(resolved, overrides, message):
    with pytest.raises(ConfigError, match=message):
        Config(resolved(*overrides))


@pytest.mark.parametrize("steps", ["local.epochs=null local.steps=3", "local.epochs=2 local.steps=null"])
def test_either_epochs_or_steps(resolved, steps):
    Config(resolved(*steps.split()))


def test_full_participation_is_allowed(resolved):
    assert Config(resolved("cohort=100")).cohort == 100


def test_the_data_may_fix_the_number_of_clients(resolved, targets):
    config = Config(resolved("dataset=consensus", "model=vector", f"dataset.targets={targets}", "clients=3"))
    assert config.clients == 12


def test_the_config_does_not_change_what_it_was_given(resolved):
    given = resolved()
    before = copy.deepcopy(given)
    Config(given)
    assert given == before


@pytest.mark.parametrize(("samples", "steps"), [(1, 2), (50, 2), (51, 4), (120, 6)])
def test_an_epoch_counts_its_last_partial_batch(resolved, samples, steps):
    assert Config(resolved("local.epochs=2")).local.steps_of(samples) == steps


def test_steps_do_not_depend_on_the_samples(resolved):
    local = Config(resolved("local.epochs=null", "local.steps=7")).local
    assert [local.steps_of(samples) for samples in (1, 1000)] == [7, 7]


def test_the_learning_rate_decays_by_the_round(resolved):
    local = Config(resolved("local.lr=0.2", "local.lr_decay=0.5")).local
    assert [local.learning_rate(t) for t in (1, 2, 3)] == pytest.approx([0.2, 0.1, 0.05])


def test_the_data_are_found_under_the_root_else_the_environment_else_the_cache(resolved, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FEDSIGN_DATA", raising=False)
    assert Config(resolved()).dataset.folder() == tmp_path / ".cache/fedsign"
    monkeypatch.setenv("FEDSIGN_DATA", str(tmp_path / "env"))
    assert Config(resolved()).dataset.folder() == tmp_path / "env"
    assert Config(resolved(f"dataset.root={tmp_path / 'root'}")).dataset.folder() == tmp_path / "root"


def test_every_top_level_key_is_either_the_experiment_or_beside_it(resolved):
    assert set(resolved()) == {*BESIDE, *EXPERIMENT}
    assert set(NOT_THE_EXPERIMENT) == {*BESIDE, "fidelity", "scale"}  # of a preset; they act through other keys


@pytest.mark.parametrize("key", BESIDE)
def test_the_fingerprint_ignores_where_and_when(key):
    config = dict.fromkeys([*BESIDE, *EXPERIMENT], "something")
    assert fingerprint(config | {key: "something else"}) == fingerprint(config)


@pytest.mark.parametrize("key", EXPERIMENT)
def test_the_fingerprint_sees_everything_else(key):
    config = dict.fromkeys([*BESIDE, *EXPERIMENT], "something")
    assert fingerprint(config | {key: "something else"}) != fingerprint(config)


@pytest.mark.parametrize(
    "override", ["local.lr=0.05", "algorithm.server_lr=0.5", "eval.every=2", "hardware.precision=bf16"]
)
def test_the_fingerprint_sees_nested_keys(resolved, override):
    assert fingerprint(resolved(override)) != fingerprint(resolved())


def test_the_fingerprint_does_not_depend_on_the_order_of_keys(resolved):
    config = resolved()
    assert fingerprint(dict(reversed(config.items()))) == fingerprint(config)


def test_the_fingerprint_of_a_config_is_that_of_its_resolved_form(resolved):
    config = resolved("algorithm=fedsmu")
    assert Config(config).fingerprint == fingerprint(config)
    assert len(fingerprint(config)) == 16


def test_no_key_differs_between_a_config_and_itself(resolved):
    assert differing_keys(resolved(), resolved("output=elsewhere", "dry_run=true", "checkpoint.every=3")) == []


def test_differing_keys_are_dotted(resolved):
    assert differing_keys(resolved(), resolved("local.lr=0.2", "seed=1")) == ["local.lr", "seed"]


def test_another_choice_of_a_group_is_told_by_its_name_alone(resolved):
    assert differing_keys(resolved(), resolved("algorithm=fedsmu", "rounds=3")) == ["algorithm.name", "rounds"]


def test_two_settings_of_one_method_are_told_by_their_keys(resolved):
    ours, theirs = resolved("algorithm=fedsmu"), resolved("algorithm=fedsmu", "algorithm.bits=3")
    assert differing_keys(ours, theirs) == ["algorithm.bits"]
