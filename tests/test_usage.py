"""What Hydra and OmegaConf refuse, as one line."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedsign import cli, presets
from fedsign.usage import one_line


@pytest.fixture
def told():
    """``told("rouds=3")``: the line that a command line is answered with."""

    def go(*arguments):
        cli.register_resolvers()
        with (
            pytest.raises((HydraException, OmegaConfBaseException)) as caught,
            initialize_config_dir(str(presets.conf_folder()), version_base="1.3"),
        ):
            cfg = compose("config", list(arguments))
            OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        return one_line(caught.value, arguments, presets.conf_folder())

    return go


@pytest.mark.parametrize(
    ("arguments", "key", "closest", "allowed"),
    [
        (["rouds=3"], "rouds", "rounds", ["cohort", "local", "algorithm"]),
        (["modle=mlp"], "modle", "model", ["dataset", "rounds"]),
        (["local.epoch=3"], "local.epoch", "local.epochs", ["local.steps", "local.lr"]),
        (["dataset.rot=x"], "dataset.rot", "dataset.root", ["dataset.augment"]),
        (["algorithm.server_l=1"], "algorithm.server_l", "algorithm.server_lr", ["algorithm.weighting"]),
    ],
)
def test_an_unknown_key_is_told_the_closest_and_its_siblings(told, arguments, key, closest, allowed):
    line = told(*arguments)
    assert line.startswith(f"{key}: no such key (did you mean '{closest}'?); allowed: ")
    assert all(name in line for name in allowed)


def test_the_siblings_of_a_key_are_those_of_the_chosen_method(told):
    line = told("rounds=3", "algorithm=fedsmu", "algorithm.gama_1=1")
    assert "did you mean 'algorithm.gamma_1'" in line
    assert "algorithm.sign_zero" in line and "weighting" not in line


def test_a_key_below_nothing_is_told_where_to_look(told):
    assert told("nothing.at.all=3").startswith("nothing.at.all: no such key")


def test_private_keys_are_not_offered(told):
    assert "_target_" not in told("algorithm.target=x")


@pytest.mark.parametrize(
    ("argument", "named", "closest", "allowed"),
    [
        ("algorithm=fedsm", "algorithm=fedsm", "fedsmu", ["fedavg", "zsign"]),
        ("dataset=mnst5k", "dataset=mnst5k", "mnist5k", ["cifar10", "npz"]),
        ("+experiment=quickstrt", "experiment=quickstrt", "quickstart", []),
        ("+experiment=fedsmu/tabel9", "experiment=fedsmu/tabel9", "fedsmu/table9", ["quickstart"]),
    ],
)
def test_an_unknown_choice_is_told_the_closest_and_all(told, argument, named, closest, allowed):
    line = told(argument)
    assert line.startswith(f"{named}: no such choice (did you mean '{closest}'?); allowed: ")
    assert all(name in line for name in allowed)


def test_a_choice_like_no_other_gets_no_hint(told):
    line = told("model=qqqqqq")
    assert "did you mean" not in line and "lenet_small" in line


def test_a_preset_without_its_plus_is_told_of_it(told):
    assert "+experiment=" in told("experiment=quickstart")


@pytest.mark.parametrize("arguments", [["scale=smoke"], ["rounds=3", "scale=smoke"]])
def test_a_scale_without_a_preset_is_told_both_ways(told, arguments):
    assert told(*arguments) == "scale: belongs to a preset, +experiment=...; without one +scale=smoke"


@pytest.mark.parametrize("arguments", [["fidelity=text"], ["+experiment=quickstart", "fidelity=text"]])
def test_fidelity_without_its_plus_is_told_of_it(told, arguments):
    assert told(*arguments) == "fidelity: is added with a plus, +fidelity=text"


def test_a_value_for_which_a_preset_has_no_setting_is_told_those_it_has(told):
    given = ("+setting=signsgd_sim/cifar10_central", "+method=signsgd_sim/signsgd_sim", "local.batch_size=16")
    assert told(*given) == "local.batch_size=16: the preset has no setting for it; allowed: 128, 32, 8"


@pytest.mark.parametrize("argument", ["rounds=1,2", "algorithm=fedavg,fedsmu"])
def test_several_values_without_a_sweep_are_told_of_m(told, argument):
    line = told(argument)
    assert argument in line and "-m" in line


def test_a_mandatory_value_is_named(told):
    assert told("dataset=npz").startswith("dataset.name: must be given")


@pytest.mark.parametrize("argument", ["rounds", "rounds=[1", "local={lr:"])
def test_a_broken_override_is_named_and_told_its_form(told, argument):
    line = told(argument)
    assert argument in line
    assert "=" in line.replace(argument, "")


@pytest.mark.parametrize(
    ("argument", "named"),
    [("+rounds=3", "rounds"), ("~nothing", "nothing"), ("local.lr=${nothing}", "nothing"), ("algorithm=", "algorithm")],
)
def test_any_other_refusal_names_the_key(told, argument, named):
    assert named in told(argument)


@pytest.mark.parametrize(
    "argument",
    ["rouds=3", "algorithm=fedsm", "rounds=1,2", "dataset=npz", "rounds", "+rounds=3", "~nothing", "local.lr=${x}"],
)
def test_every_answer_is_one_line(told, argument):
    line = told(argument)
    assert line and "\n" not in line


def test_a_wrong_choice_beside_a_wrong_key_does_not_hide_the_error(tmp_path):
    error = HydraException("Could not override 'rouds'.")
    assert one_line(error, ["algorithm=nonsense"], tmp_path).startswith("rouds: no such key")


def test_the_cause_is_told_where_the_message_lacks_it():
    error = HydraException("Something went wrong")
    error.__cause__ = ValueError("the reason\nmore")
    assert one_line(error, [], presets.conf_folder()) == "Something went wrong: the reason"


def test_an_error_without_words_is_named_by_its_kind():
    assert one_line(HydraException(""), [], presets.conf_folder()) == "HydraException"
