"""partition.show: the picture and the sizes, and nothing trained."""

import struct
import subprocess
import sys

import numpy as np
import pytest

from fedsign.errors import ConfigError
from fedsign.report.partition_picture import by_largest_class, class_counts, draw, sizes_text
from fedsign.simulator import Simulator

DIGITS = ["dataset=digits", "model=mlp", "model.hidden=[8]", "clients=10", "cohort=4", "rounds=1", "local.epochs=1"]


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def untrained(monkeypatch):
    """No round can be simulated."""

    def refuse(*arguments):
        raise AssertionError("a round was simulated")

    monkeypatch.setattr(Simulator, "__init__", refuse)


@pytest.mark.parametrize(
    "partition",
    ["iid", "dirichlet", "dirichlet_per_class", "dirichlet_overlap", "labels_per_client", "one_label"],
)
def test_the_picture_is_all_that_is_written(run, untrained, partition):
    folder = run(*DIGITS, f"partition={partition}", "partition.show=true")
    assert [path.name for path in folder.iterdir()] == ["partition.png"]
    assert (folder / "partition.png").read_bytes().startswith(b"\x89PNG")


def test_natural_clients_are_shown_too(run, untrained, tmp_path, capsys):
    x, y = np.zeros((30, 4, 4), dtype=np.uint8), np.arange(30) % 3
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y, owner_train=np.arange(30) // 20)
    run("dataset=npz", "dataset.name=mine", f"dataset.root={tmp_path}", "model=mlp", "partition=natural", "cohort=2",
        "partition.show=true")  # fmt: skip
    assert "clients  2, with 10 to 20 samples, median 15" in capsys.readouterr().out


def test_the_sizes_and_the_place_of_the_picture_are_printed(run, untrained, capsys):
    folder = run(*DIGITS, "partition=iid", "partition.show=true")
    assert capsys.readouterr().out == (
        "clients  10, with 144 to 144 samples, median 144\n"
        "samples  1,440 of 1,442 used\n"
        f"picture  {folder / 'partition.png'}\n"
    )


def test_the_command_ends_with_the_place_of_the_picture(tmp_path):
    command = [sys.executable, "-m", "fedsign", *DIGITS, "partition.show=true", "output=mine"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "picture  mine/partition.png"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["partition.png"]


def test_shared_samples_are_counted_once():
    parts = [np.array([0, 1, 2]), np.array([2, 3]), np.array([2])]
    assert sizes_text(1000, parts) == (
        "clients  3, with 1 to 3 samples, median 2\nsamples  4 of 1,000 used; 6 held, as clients share samples"
    )


def test_what_is_shown_is_what_a_run_has(run, monkeypatch, tmp_path):
    from fedsign.execution import setup

    seen = []
    split = setup.split
    monkeypatch.setattr(setup, "split", lambda *a: seen.append(split(*a)) or seen[-1])
    run(*DIGITS, "partition.show=true")
    run(*DIGITS)
    assert len(seen) == 2
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))


def test_a_run_takes_the_folder_of_a_picture_and_a_picture_that_of_a_run(run, tmp_path):
    output = f"output={tmp_path / 'mine'}"
    run(*DIGITS, "partition.show=true", output)
    folder = run(*DIGITS, output)
    before = content(folder)
    assert {"summary.json", "model.npz", "partition.png"} <= before.keys()
    run(*DIGITS, "partition.show=true", output)
    assert {name: data for name, data in content(folder).items() if name != "partition.png"} == {
        name: data for name, data in before.items() if name != "partition.png"
    }


def test_what_cannot_be_split_is_not_shown_either(run, targets):
    with pytest.raises(ConfigError, match=r"clients=2000: .*at most clients=1442"):
        run(*DIGITS, "clients=2000", "partition.show=true")
    with pytest.raises(ConfigError, match=r"partition\.show=true: dataset=consensus"):
        run("dataset=consensus", "model=vector", f"dataset.targets={targets}", "cohort=4", "partition.show=true")


def test_counts_are_by_client_and_class_that_occurs():
    labels = np.array([7, 0, 7, 2, 2, 0])
    parts = [np.array([0, 2, 3]), np.array([1]), np.array([3, 4, 5])]
    assert class_counts(labels, parts).tolist() == [[0, 1, 2], [1, 0, 0], [1, 2, 0]]


def test_clients_are_sorted_by_largest_class_then_share_then_mean_class():
    counts = np.array([[0, 9, 1, 0], [3, 2, 0, 5], [5, 0, 0, 5], [8, 0, 0, 2], [5, 5, 0, 0], [0, 99, 1, 0]])
    assert by_largest_class(counts).tolist() == [3, 4, 2, 5, 0, 1]


@pytest.mark.parametrize(("clients", "classes"), [(1, 1), (10, 10), (60, 30), (61, 200), (701, 10), (3579, 200)])
def test_every_size_can_be_drawn(tmp_path, clients, classes):
    samples = 4 * max(clients, classes)
    labels = np.arange(samples) % classes
    draw(labels, np.array_split(np.random.default_rng(0).permutation(samples), clients), tmp_path / "partition.png")
    data = (tmp_path / "partition.png").read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert width == 1380
    assert 700 < height < 1300
