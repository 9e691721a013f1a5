"""The main job, smaller; and every choice of the config groups."""

import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class
from omegaconf import OmegaConf

from fedsign import cli, presets
from fedsign.config import Config
from fedsign.errors import ConfigError, DataError
from fedsign.report.runs import read
from fedsign.tracking.run_directory import read_summary

CONF = presets.conf_folder()
PARAMETERS = 24_794  # of lenet_small on MNIST
SHRUNK = ["rounds=12", "clients=20", "local.epochs=2"]


def choices(group):
    return sorted(path.relative_to(CONF / group).with_suffix("").as_posix() for path in (CONF / group).rglob("*.yaml"))


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The folder in which the shrunk quickstart ran, and what it printed."""
    folder, threads = tmp_path_factory.mktemp("quickstart"), torch.get_num_threads()
    torch.set_num_threads(1)  # several for a network this small are slower on a busy machine
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("HYDRA_FULL_ERROR", "FEDSIGN_SWEEP"):
            patch.setenv(name, "")
        patch.setattr(sys, "argv", ["fedsign", "+experiment=quickstart", *SHRUNK])
        with (folder / "stdout").open("w") as out:
            patch.setattr(sys, "stdout", out)
            GlobalHydra.instance().clear()
            cli.main()
    torch.set_num_threads(threads)
    runs = [read(path) for path in (folder / "outputs/quickstart").iterdir()]
    return folder, {run.algorithm: run for run in runs}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["fedavg", "fedsmu", "zsign"])
def test_every_method_of_the_quickstart_learns(quickstart, algorithm):
    run = quickstart[1][algorithm]
    assert run.summary["rounds"] == 12
    assert run.summary["final_accuracy"] > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["fedsmu", "zsign"])
def test_one_bit_methods_send_a_bit_per_parameter_and_padding(quickstart, algorithm):
    runs = quickstart[1]
    assert runs["fedavg"].summary["uplink_bits"] == 12 * 10 * 32 * PARAMETERS
    assert runs[algorithm].summary["uplink_bits"] == 12 * 10 * 8 * math.ceil(PARAMETERS / 8)
    assert runs[algorithm].summary["uplink_bits_formula"] == 12 * 10 * PARAMETERS


@pytest.mark.slow
def test_the_quickstart_ends_with_its_table_and_plot(quickstart):
    folder, _ = quickstart
    (sweep,) = (folder / "outputs/sweeps").iterdir()
    table = pd.read_csv(sweep / "comparison.csv", index_col="method")
    assert list(table.index) == ["FedAvg", "FedSMU", "z-SignFedAvg"]
    assert table.loc["FedAvg", "bits_per_parameter"] == 32
    assert table.loc["FedSMU", "bits_per_parameter"] == pytest.approx(1, abs=8 / PARAMETERS)
    assert (sweep / "accuracy_vs_uplink.png").read_bytes().startswith(b"\x89PNG")
    shown = (folder / "stdout").read_text()
    assert all(method in shown for method in table.index)
    assert shown.rstrip().endswith("accuracy_vs_uplink.png")


@pytest.fixture
def composed():
    """``composed("+experiment=...")``: the composed config, with Hydra's own part."""
    cli.register_resolvers()

    def go(*overrides):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", list(overrides), return_hydra_config=True)

    return go


def resolved(cfg):
    values = OmegaConf.to_container(OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"]), resolve=True)
    return {**values, "hardware": {**values["hardware"], "device": "cpu"}}


@pytest.fixture
def needed(tmp_path):
    """``needed("npz")``: overrides that give a dataset what it needs and no data beyond."""
    np.save(tmp_path / "targets.npy", np.eye(3, 4))
    pixels, labels = np.zeros((12, 28, 28), np.uint8), np.arange(12) % 3
    np.savez(tmp_path / "mine.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    given = {
        "consensus": [f"dataset.targets={tmp_path / 'targets.npy'}", "cohort=3"],
        "npz": [f"dataset.root={tmp_path}", "dataset.name=mine", "clients=4", "cohort=2"],
    }
    return lambda dataset: [f"dataset={dataset}", *given.get(dataset, [f"dataset.root={tmp_path / 'empty'}"])]


def kind(group, name):
    node = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    return get_class(node["_target_"]).kind


def dry(run, candidates):
    """The summary of a dry run of the first candidate that is not refused."""
    refusals = []
    for overrides in candidates:
        try:
            return read_summary(run(*overrides, "dry_run=true"))
        except (ConfigError, DataError) as error:
            refusals.append(str(error))
    return pytest.fail("\n".join(refusals) or "nothing fits")


@pytest.mark.parametrize("dataset", choices("dataset"))
def test_every_dataset_runs_dry_with_some_model(run, needed, dataset):
    models = [model for model in ("mlp", *choices("model")) if kind("model", model) == kind("dataset", dataset)]
    assert dry(run, [[*needed(dataset), f"model={model}"] for model in models])["parameters"] > 0


@pytest.mark.parametrize("model", choices("model"))
def test_every_model_runs_dry_on_some_dataset(run, needed, model):
    datasets = [name for name in ("cifar10", *choices("dataset")) if kind("dataset", name) == kind("model", model)]
    found = dry(run, [[*needed(dataset), f"model={model}"] for dataset in datasets])
    assert found["parameters"] == sum(math.prod(t["shape"]) for t in found["tensors"] if t["part"] != "buffer")


@pytest.mark.parametrize("algorithm", choices("algorithm"))
def test_every_method_runs_dry(run, algorithm):
    model = ["dataset=mnist5k", "model=lenet5"] if algorithm == "fedvote" else ["dataset=digits", "model=mlp"]
    overrides = [*model, "clients=10", "cohort=4", f"algorithm={algorithm}"]
    bits = dry(run, [overrides, [*overrides, "local.epochs=null", "local.steps=1"]])["bits_per_round"]
    assert bits["uplink"] > 0 and bits["uplink_formula"] > 0


@pytest.mark.parametrize(
    ("group", "choice"), [(group, name) for group in ("partition", "hardware", "attack") for name in choices(group)]
)
def test_every_other_choice_composes(composed, group, choice):
    assert composed(f"{group}={choice}")[group].name == choice


@pytest.mark.parametrize("tracking", choices("tracking"))
def test_every_way_of_tracking_is_valid(composed, tracking):
    assert Config(resolved(composed(f"tracking={tracking}", "output=unused"))).tracking.name == tracking
