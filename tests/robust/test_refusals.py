"""Attacks and rules that cannot be run are refused by one line, before any data is loaded."""

import pytest

from fedsign.algorithms.base import Algorithm
from fedsign.algorithms.zsign import ZSign
from fedsign.config import Config
from fedsign.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["attack.clients=100"], r"attack.clients=100: must be less than the number of clients, 100"),
        (["attack=opposite", "attack.clients=0.999"], r"attack.clients=0.999: must be less"),
        (["attack=opposite", "attack.clients=-1"], r"attack.clients=-1: must be an integer >= 0 or a fraction in \(0"),
        (["attack=opposite", "attack.clients=1.5"], r"attack.clients=1.5: must be"),
        (["attack=opposite", "attack.clients=all"], r"attack.clients=all: must be"),
        (["attack=ipm", "attack.epsilon=0"], r"attack.epsilon=0.*: must be a number > 0"),
        (["attack=sign_flip", "attack.scale=inf"], r"attack.scale=inf: must be a number > 0"),
        (["attack=gaussian", "attack.centre=mean"], r"attack.centre=mean: must be one of zero, own"),
        (["attack=alie", "+attack.epsilon=1"], r"attack.epsilon: no such key"),
    ],
)
def test_an_attack_that_cannot_be_run(resolved, given, message):
    with pytest.raises(ConfigError, match=message):
        Config(resolved(*given))


def test_labels_are_needed_to_be_flipped(resolved, targets):
    given = ("dataset=consensus", "model=vector", f"dataset.targets={targets}", "cohort=3")
    with pytest.raises(ConfigError, match="attack=label_flip: dataset=consensus has no labels"):
        Config(resolved(*given, "attack=label_flip"))


def test_a_method_that_names_no_codec_is_not_attacked_by_messages(resolved, monkeypatch):
    monkeypatch.setattr(ZSign, "message", Algorithm.message)
    with pytest.raises(ConfigError, match="attack=alie: algorithm=zsign does not say"):
        Config(resolved("algorithm=zsign", "attack=alie"))
    for name in ("none", "label_flip"):
        Config(resolved("algorithm=zsign", f"attack={name}", "attack.clients=3"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["aggregator=krum", "f=15"], r"algorithm.aggregator=krum: for algorithm.f=15 .* 2 f \+ 3 = 33 .*cohort=31"),
        (["aggregator=multi_krum", "f=15"], r"multi_krum: .*33 clients"),
        (["aggregator=trimmed_mean", "f=16"], r"trimmed_mean: .*2 f \+ 1 = 33 clients"),
        (["aggregator=krum", "f=0.48"], r"algorithm.f=15 .*33 clients"),
        (["aggregator=multi_krum", "m=32"], r"algorithm.m=32: must be at most cohort=31"),
        (["aggregator=krum", "m=3"], r"algorithm.m=3: must be null with algorithm.aggregator=krum"),
        (["aggregator=median", "weighting=samples"], r"algorithm.weighting=samples: must be uniform with .*median"),
        (["aggregator=medain"], r"algorithm.aggregator=medain: .*did you mean 'median'"),
        (["f=-1"], r"algorithm.f=-1: must be"),
        (["aggregator=multi_krum", "m=0"], r"algorithm.m=0: must be"),
    ],
)
def test_a_rule_that_is_not_defined(resolved, given, message):
    with pytest.raises(ConfigError, match=message):
        Config(resolved("clients=31", "cohort=31", *[f"algorithm.{key}" for key in given]))


@pytest.mark.parametrize("rule", [["aggregator=krum", "f=14"], ["aggregator=trimmed_mean", "f=15"]])
def test_a_rule_at_its_bound_is_allowed(resolved, rule):
    Config(resolved("clients=31", "cohort=31", *[f"algorithm.{key}" for key in rule]))


def test_a_rule_assumes_the_attackers_of_the_config(resolved):
    attacked = ("clients=31", "cohort=31", "attack=opposite", "attack.clients=15")
    with pytest.raises(ConfigError, match=r"krum: for algorithm.f=15 attackers \(by default attack.clients\)"):
        Config(resolved(*attacked, "algorithm.aggregator=krum"))
    assert Config(resolved(*attacked, "algorithm.aggregator=median")).algorithm.f == 15
    config = Config(resolved("attack=alie", "attack.clients=0.3", "algorithm.aggregator=krum"))
    assert (config.algorithm.f, config.cohort) == (0.3, 10)


def test_the_size_of_the_attack_is_checked_where_the_data_name_the_clients(resolved, targets):
    given = ("dataset=consensus", "model=vector", f"dataset.targets={targets}", "cohort=3")
    Config(resolved(*given, "attack.clients=11"))
    with pytest.raises(ConfigError, match=r"attack.clients=12: must be less than the number of clients, 12"):
        Config(resolved(*given, "attack.clients=12"))
