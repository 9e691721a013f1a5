"""The command ``fedsign``: compose, validate, run. No science in it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedsign import job, presets, sweep, usage
from fedsign.config import NOT_THE_EXPERIMENT, fingerprint
from fedsign.errors import FedsignError, InputError
from fedsign.interrupt import Interrupted
from fedsign.tracking.run_directory import CONFIG_HEADER, ENDED, remove_if_empty

LONGEST_NAME = 100  # characters of the overrides in a run directory's name


def main() -> None:
    """Entry point. Exit status: 0, 1 for a failed run, 2 for a wrong config, 130 or 143 after a signal."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing; the printing is done here
    os.environ["FEDSIGN_SWEEP"] = time.strftime("%Y-%m-%d_%H-%M-%S") + f"_{os.getpid()}"
    register_resolvers()
    if sys.argv[1:2] == ["plan"]:
        from fedsign.plan import cli as plan

        with reported(sys.argv[2:]):
            plan.main(sys.argv[2:])
        return
    arguments = sys.argv[1:] = _run_again(sys.argv[1:])
    with reported(arguments), sweep.interrupts:
        hydra.main(version_base="1.3", config_path=str(presets.conf_folder()), config_name="config")(_task)()


def register_resolvers() -> None:
    """The ``${fedsign....}`` interpolations of conf/config.yaml."""
    OmegaConf.register_new_resolver("fedsign.run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("fedsign.absolute", lambda path: str(Path(path).absolute()), replace=True)
    for name, resolver in (("by", presets.by), ("fidelity", presets.fidelity), ("scaled", presets.scaled)):
        OmegaConf.register_new_resolver(f"fedsign.{name}", resolver, replace=True)


@contextlib.contextmanager
def reported(arguments: Sequence[str], program: str = "fedsign") -> Iterator[None]:
    """Turn what a user can get wrong into one line and an exit status; FEDSIGN_DEBUG=1 shows the traceback."""
    debug = os.environ.get("FEDSIGN_DEBUG", "") not in ("", "0")
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        if debug:
            raise
        _fail(program, usage.one_line(error, arguments, presets.conf_folder()), 2)
    except ValueError as error:
        if debug or not str(error).startswith("Config group override"):
            raise
        _fail(program, usage.empty_choice(arguments, presets.conf_folder()), 2)
    except FedsignError as error:
        if debug:
            raise
        _fail(program, str(error), 2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt as interrupted:
        if not {"-m", "--multirun"}.isdisjoint(arguments):
            print(f"the sweep goes on with: {shlex.join(['fedsign', *arguments])}", file=sys.stderr)
        sys.exit(128 + interrupted.number if isinstance(interrupted, Interrupted) else 130)
    except RuntimeError as error:
        if debug or "slurm" not in str(error):  # what submitit raises where there is no SLURM
            raise
        _fail(program, f"hardware=slurm: {error}", 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # Hydra could not create the run directory
        if debug:
            raise
        _fail(program, f"output: {f'{error.filename}: ' if error.filename else ''}{error.strerror}", 2)


def _task(cfg: DictConfig) -> float | None:
    with reported(sys.argv[1:]):  # here too, before Hydra adds lines of its own
        resolved: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            if job.TORCHRUN:
                raise InputError("torchrun starts one run; a sweep takes hydra/launcher= or hardware.workers=")
            return sweep.run_job(resolved)
        try:
            summary = job.run(resolved)
        except InputError:
            remove_if_empty(Path(str(resolved.get("output"))))
            raise
        if summary["status"] in ENDED:
            from fedsign.report.summary import report

            folder = Path(summary.get("output", resolved["output"]))
            print(report([folder], folder))
        return summary.get("best_accuracy")


def run_name(*, _root_: DictConfig) -> str:
    """Folder of a run under ``outputs/``: experiment, overrides, and a hash of the resolved config.

    The resolver ``${fedsign.run_name:}``. A sweep started again finds its runs under the same names, whatever numbers
    the launcher gives its jobs.
    """
    kept = [str(key) for key in _root_ if key not in ("hydra", "output")]  # scale and fidelity choose values of others
    resolved: Any = OmegaConf.to_container(OmegaConf.masked_copy(_root_, kept), resolve=True)
    given = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    left_out = (*NOT_THE_EXPERIMENT, "experiment", "hardware.workers")
    told = [o for o in given if not {o.lstrip("+~").split("=")[0], re.split(r"[.=]", o.lstrip("+~"))[0]} & {*left_out}]
    text = re.sub(r"[^\w.,=+-]+", "-", ",".join(told))[:LONGEST_NAME].strip("-,") or str(resolved["algorithm"]["name"])
    kind = "-dry" if _root_.get("dry_run") is True else ""
    return f"{_root_.get('experiment') or 'runs'}/{text}-{fingerprint(resolved)[:8]}{kind}"


def _run_again(arguments: list[str]) -> list[str]:
    """Let ``--config-dir RUN --config-name config`` mean the config of that run, which has the name of our own."""
    for i, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name not in ("--config-dir", "-cd"):
            continue
        folder = Path(value or (arguments[i + 1] if i + 1 < len(arguments) else ""))
        if (folder / "config.yaml").is_file() and _is_of_a_run(folder / "config.yaml"):
            rest = arguments[i + 1 :] if value else arguments[i + 2 :]
            return [*arguments[:i], "--config-path", str(folder.absolute()), *rest]
    return arguments


def _is_of_a_run(path: Path) -> bool:
    return path.read_text(errors="replace").startswith(CONFIG_HEADER)


def _fail(program: str, message: str, status: int) -> None:
    print(f"{program}: error: {message}", file=sys.stderr)
    sys.exit(status)
