"""The frame of presets: the resolvers by which one chooses values, and its grid as a list of jobs."""

import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

from fedsign import cli, presets, sweep
from fedsign.errors import ConfigError

FIGURE3 = "signsgd_sim/figure3"
ONE = ("seed=0", "local.batch_size=8", "setting=signsgd_sim/mnist_iid", "method=signsgd_sim/mv_sto_signsgd_sim")
GIVEN = {
    "as it is": ("seed=0", "local.batch_size=8", "setting=signsgd_sim/mnist_dir1"),
    "smoke": (*ONE[1:], "seed=0,1", "scale=smoke"),
    "text": ("seed=0", "local.batch_size=32", "method=signsgd_sim/sgdm,signsgd_sim/signsgd",
             "setting=signsgd_sim/cifar10_central", "+fidelity=text"),
    "another dimension": (*ONE, "algorithm.theta=0.5,0.9", "model=mlp,lenet5"),
    "added": (*ONE, "+partition.note=one,two"),
    "values of other types": (*ONE, "stop.accuracy=0.5,null", "eval.train=true", "dataset.root='a b'", "local.lr=1e-3"),
    "of hydra itself": (*ONE, "hydra.verbose=false", "hydra/launcher=basic"),
}  # fmt: skip


@pytest.fixture
def chosen():
    """``chosen("by:a.b,{1: x}", a={"b": 1})``: what a resolver gives in a config of these values."""
    cli.register_resolvers()

    def go(expression, **values):
        return OmegaConf.create({**values, "value": "${fedsign." + expression + "}"}).value

    return go


@pytest.fixture
def multirun(monkeypatch, tmp_path):
    """``multirun("fedsmu/table9")``: the configs and the overrides of the jobs of Hydra's own sweep."""
    monkeypatch.chdir(tmp_path)
    for name in ("HYDRA_FULL_ERROR", "FEDSIGN_SWEEP"):
        monkeypatch.setenv(name, "")
    found = []

    def note(resolved):
        found.append(({**resolved, "output": "outputs"}, list(sweep.HydraConfig.get().overrides.task)))

    monkeypatch.setattr(sweep, "run_job", note)

    def go(item, *overrides):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["fedsign", "-m", f"+experiment={item}", *overrides])
        cli.main()
        return found

    yield go
    GlobalHydra.instance().clear()


@pytest.mark.parametrize("given", GIVEN)
def test_jobs_are_those_of_the_sweep(multirun, given):
    expected = multirun(FIGURE3, *GIVEN[given])
    found = presets.jobs(FIGURE3, GIVEN[given])
    assert [job.config for job in found] == [config for config, _ in expected]
    assert [{*job.overrides} for job in found] == [{*told} - {f"+experiment={FIGURE3}"} for _, told in expected]


def test_jobs_of_a_preset_whose_dimension_is_a_plain_group(multirun):
    expected = multirun("quickstart", "seed=1,2", "scale=smoke")
    assert [job.config for job in presets.jobs("quickstart", ("seed=1,2", "scale=smoke"))] == [c for c, _ in expected]
    assert len(expected) == 6 and {config["rounds"] for config, _ in expected} == {2}


def test_the_whole_grid_is_the_product_of_its_dimensions():
    found = presets.jobs(FIGURE3, ["seed=0,1", "local.batch_size=8,32", "setting=signsgd_sim/mnist_iid"])
    assert len(found) == 2 * 2 * 4 == len({job.overrides for job in found}) == len({job.key() for job in found})


def test_a_key_is_that_of_what_is_computed():
    base, *others = (
        presets.jobs("quickstart", ["algorithm=fedsmu", *given])[0].key()
        for given in ([], ["hardware.workers=2", "dataset.root=there", "report.title=x"],
                      ["hardware.precision=bf16"], ["seed=1"], ["dataset.synthetic=100"])
    )  # fmt: skip
    assert others[0] == base
    assert len({base, *others[1:]}) == 4


def test_items_that_need_the_same_run_share_its_key():
    given = ["seed=0", "local.batch_size=8,32"]
    of_figure_7 = {job.key() for job in presets.jobs("signsgd_sim/figure7", given)}
    shared = [job for job in presets.jobs(FIGURE3, given) if job.key() in of_figure_7]
    assert len(shared) == 2 * 2  # batch sizes, partitions
    assert {job.config["clients"] for job in shared} == {50}


def test_an_unknown_item_is_told_the_closest_and_all():
    with pytest.raises(ConfigError, match=r"^quickstrt: no such preset \(did you mean 'quickstart'\?\); allowed: .*"):
        presets.jobs("quickstrt")


@pytest.mark.parametrize("wrong", ["rouds=3", "rouds=1,2", "algorithm=fedsm", "algorithm=fedsm,fedavg", "rounds"])
def test_a_wrong_override_is_refused_as_hydra_does(wrong):
    with pytest.raises(HydraException, match=wrong.split("=")[0]):
        presets.jobs("quickstart", [wrong])


def test_by_picks_by_a_key_a_nested_key_or_a_groups_name(chosen):
    assert chosen("by:rounds,{5: 0.1, 6: 0.2}", rounds=6) == 0.2
    assert chosen("by:local.batch_size,{8: a, 32: b}", local={"batch_size": 32}) == "b"
    assert chosen("by:dataset,{mnist: 1, cifar10: 2}", dataset={"name": "cifar10"}) == 2
    assert chosen("by:rounds,{5: null, else: [1, 2]}", rounds=5) is None
    assert chosen("by:rounds,{5: null, else: [1, 2]}", rounds=7) == [1, 2]


def test_by_without_an_entry_names_the_key_and_the_entries(chosen):
    with pytest.raises(Exception, match=r"local\.batch_size=16: the preset has no setting for it; allowed: 8, 32"):
        chosen("by:local.batch_size,{8: a, 32: b}", local={"batch_size": 16})


def test_fidelity_is_the_published_value_but_for_text(chosen):
    assert chosen("fidelity:0.1,0.2") == 0.1
    assert chosen("fidelity:0.1,0.2", fidelity="published") == 0.1
    assert chosen("fidelity:0.1,0.2", fidelity="text") == 0.2
    assert chosen("fidelity:0.1,null", fidelity="text") is None


def test_scaled_is_the_full_value_but_for_an_entry_of_the_scale(chosen):
    assert chosen("scaled:100,{small: 10, smoke: 2}") == 100
    assert chosen("scaled:100,{small: 10, smoke: 2}", scale="full") == 100
    assert chosen("scaled:100,{small: 10, smoke: 2}", scale="small") == 10
    assert chosen("scaled:100,{small: 10}", scale="smoke") == 100
    assert chosen("scaled:${fedsign.by:clients,{1: 7}},{small: 10}", clients=1) == 7
