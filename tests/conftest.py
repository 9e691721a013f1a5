"""What the tests share: configs composed from `conf/`, and runs made in this process."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: runs fork, and several tests run at a time

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from fedsign import cli, job, presets


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Arrays that a test reads are cached for this session alone."""
    os.environ["FEDSIGN_CACHE"] = str(tmp_path_factory.mktemp("arrays"))


@pytest.fixture
def resolved(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """``resolved("algorithm=fedsmu", "rounds=3")``: the plain dict that a command line resolves to."""

    def build(*overrides: str) -> dict[str, Any]:
        cli.register_resolvers()
        with initialize_config_dir(str(presets.conf_folder()), version_base="1.3"):
            cfg = compose("config", list(overrides))
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)

    return build


@pytest.fixture
def run(resolved: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """``run("algorithm=fedsmu")``: run it in this process; the run directory."""
    count = iter(range(1000))

    def go(*overrides: str) -> Path:
        if not any(o.startswith("output=") for o in overrides):
            overrides = (*overrides, f"output={tmp_path / f'run{next(count)}'}")
        config = resolved(*overrides)
        job.run(config)
        return Path(config["output"])

    return go


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    """A consensus problem of 12 clients in 7 dimensions: float npy [12, 7]."""
    path = tmp_path / "targets.npy"
    np.save(path, np.random.default_rng(3).normal(size=(12, 7)))
    return path


@pytest.fixture
def fedsign(monkeypatch, tmp_path, capfd):
    """``fedsign("rounds=3")``: the command in this process, below tmp_path; exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("HYDRA_FULL_ERROR", "FEDSIGN_SWEEP"):
        monkeypatch.setenv(name, "")

    def go(*arguments):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["fedsign", *arguments])
        capfd.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        return status, *capfd.readouterr()

    yield go
    GlobalHydra.instance().clear()
