"""The wheel: it carries the configs, and runs away from a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = ("fedsign", "conf", "pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left behind in the checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (copy / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with nothing but the wheel's content, and an environment in which it comes first."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    done = subprocess.run([*pip, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, os.environ | {"PYTHONPATH": str(folder)}


def test_the_wheel_holds_the_package_its_configs_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"fedsign"}
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    assert configs
    assert {f"fedsign/{config}" for config in configs} <= set(names)


def test_the_configs_are_those_of_the_wheel(installed, tmp_path):
    folder, env = installed
    code = "from fedsign import presets; print(presets.conf_folder())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert Path(done.stdout.strip()) == folder / "fedsign/conf"


def test_the_installed_command_runs_in_another_folder(installed, tmp_path):
    folder, env = installed
    command = [str(folder / "bin/fedsign"), "rounds=1", "clients=10", "local.epochs=1"]
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "FedAvg" in done.stdout
    (run,) = (tmp_path / "outputs/runs").iterdir()
    assert {"config.yaml", "metrics.csv", "summary.json", "model.npz"} <= {path.name for path in run.iterdir()}


def test_both_commands_are_installed(installed):
    folder, env = installed
    for name in ("fedsign", "fedsign-report"):
        command = [sys.executable, str(folder / "bin" / name), "--help"]
        assert subprocess.run(command, env=env, capture_output=True).returncode == 0
