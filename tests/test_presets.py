"""Every preset: its whole grid is valid at full scale, and a part that covers it runs at ``scale=smoke``."""

from pathlib import Path

import pytest

from fedsign import cli, job, presets
from fedsign.config import Config, flat
from fedsign.report import labels

ITEMS = presets.names()
COMPUTED = ("fedvote/table4", "fedvote/figure3", "fedmrn/figure6")  # by the report; their jobs tell sizes alone
LARGE_MODELS = ("resnet18", "vit_s", "resnet56", "resnet110")
JOBS_OF_A_GRID = 3

done = set()  # what this process has run: keys of jobs, and (model, dataset) of large models


def covering(item):
    """Overrides of jobs in which every value of the grid occurs; of the seeds the first, of a tuning grid a few."""
    cli.register_resolvers()
    values = {}
    with presets.initialize_config_dir(str(presets.conf_folder()), version_base="1.3"):
        for overrides in presets._grid([f"+experiment={item}"], ()):
            for override in overrides:
                name, _, value = override.partition("=")
                values.setdefault(name, {})[value] = None
    choices = {name: list(found)[:1] if name == "seed" else list(found) for name, found in values.items()}
    count = max((len(found) for found in choices.values()), default=1)
    if "/grid" in item:
        count = min(count, JOBS_OF_A_GRID)
    return [[f"{name}={found[i % len(found)]}" for name, found in choices.items()] for i in range(count)]


def is_large(config):
    return config["model"]["name"] in LARGE_MODELS or config["dataset"]["name"] == "tinyimagenet"


@pytest.mark.parametrize("item", ITEMS)
def test_runs_at_smoke_scale(item, resolved, tmp_path):
    """Two rounds of every value of the grid.

    A job that another preset has run in this process is not run again. Of large models (ResNet-18, -56 and -110,
    ViT-S) and Tiny-ImageNet one job per model and dataset is trained; the others are only validated. Of a tuning grid
    the first three values of every dimension run: its methods run in the other presets.
    """
    for number, overrides in enumerate(covering(item)):
        output = f"output={tmp_path / str(number)}"
        config = resolved(f"+experiment={item}", *overrides, "scale=smoke", "hardware.workers=1", output)
        Config(config)
        keys = {presets.key(config) + str(config["dry_run"])}
        if is_large(config):
            keys.add((config["model"]["name"], config["dataset"]["name"]))
        if keys & done:
            continue
        done.update(keys)
        assert job.run(config)["status"] == ("dry run" if item in COMPUTED else "finished"), overrides


@pytest.mark.parametrize("item", ITEMS)
def test_whole_grid_is_valid(item):
    """At full scale; of the seeds, which change nothing else, the first. Every key of the report is one of a job."""
    cli.register_resolvers()
    seeds = [override for override in covering(item)[0] if override.startswith("seed=")]
    jobs = presets.jobs(item, seeds)
    for found in jobs:
        Config(found.config)
    known = {labels.METHOD}.union(*(flat(found.config) for found in jobs))
    report = jobs[0].config["report"]
    assert {key for part in ("rows", "columns", "curves", "panels") for key in report[part]} <= known


@pytest.mark.parametrize("item", ITEMS)
def test_header_names_the_command(item):
    text = Path(presets.conf_folder(), "experiment", f"{item}.yaml").read_text()
    header = text.partition("defaults:")[0]
    assert f"fedsign -m +experiment={item}" in header.replace("\n# ", " ")
