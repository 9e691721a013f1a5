"""The code in the documentation runs as printed."""

import re
import subprocess
import sys
from pathlib import Path

import fedsign

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), flags=re.S)


def test_what_is_quoted_of_a_shipped_method_is_what_it_runs():
    package = Path(fedsign.__file__).parent
    shipped = [path.read_text() for folder in ("algorithms", "local") for path in (package / folder).glob("*.py")]
    quoted = blocks("architecture.md", "py")
    assert len(quoted) == 5
    assert all(any(block in text for text in shipped) for block in quoted)


def test_worked_example_runs_from_its_own_folder(tmp_path):
    (source,) = blocks("add_an_algorithm.md", "python")
    (config,) = blocks("add_an_algorithm.md", "yaml")
    (tmp_path / "scaled_sign.py").write_text(source)
    (tmp_path / "conf" / "algorithm").mkdir(parents=True)
    (tmp_path / "conf" / "algorithm" / "scaled_sign.yaml").write_text(config)
    command = [sys.executable, "-m", "fedsign", "--config-dir", "conf", "algorithm=scaled_sign", "dataset=digits"]
    arguments = ["model=mlp", "clients=10", "partition=iid", "rounds=5", "output=out"]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "scaled sign" in done.stdout
    accuracy = float((tmp_path / "out" / "metrics.csv").read_text().splitlines()[-1].split(",")[4])
    assert accuracy > 0.5
