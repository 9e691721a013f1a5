"""How keys and values are written."""

import pytest

from fedsign.report.labels import axis, head, label, parts

CONFIG = {
    "algorithm._target_": "fedsign.algorithms.fedsmu.FedSMU",
    "dataset.name": "cifar10",
    "partition.name": "dirichlet",
    "partition.alpha": 0.25,
    "clients": 100,
    "cohort": 10,
    "local.batch_size": 8,
    "local.lr": 0.1,
    "attack.made_up": True,
}
IID = {"partition.name": "iid"}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (["method"], "FedSMU"),
        (["dataset.name", "partition.name"], "CIFAR-10, Dir(0.25)"),
        (["partition.name", "partition.alpha"], "Dir(0.25)"),
        (["partition.alpha"], "α = 0.25"),
        (["cohort"], "10 of 100 clients"),
        (["cohort", "clients"], "10 of 100 clients"),
        (["clients"], "100 clients"),
        (["local.batch_size", "local.lr"], "batch size 8, lr 0.1"),
        (["attack.made_up"], "made up = true"),
        (["nowhere"], ""),
        ([], ""),
    ],
)
def test_values_are_told_as_in_a_paper(keys, text):
    assert label(keys, CONFIG) == text


def test_the_papers_name_of_a_method_comes_first():
    assert label(["method"], CONFIG | {"report.method": "Ours"}) == "Ours"


def test_an_iid_partition_has_no_alpha():
    assert label(["partition.name", "partition.alpha"], IID) == "IID"
    assert (
        label(["partition.name"], {"partition.name": "labels_per_client", "partition.labels": 3}) == "3 labels a client"
    )


def test_parts_keep_their_places():
    assert parts(["dataset.name", "partition.alpha", "partition.name"], CONFIG) == ["CIFAR-10", "", "Dir(0.25)"]


def test_heads_and_axes():
    assert [head("dataset.name"), head("local.batch_size"), head("method")] == ["dataset", "batch size", "method"]
    assert axis("test_accuracy") == "test accuracy (%)"
    assert axis("binary_accuracy") == "binary accuracy (%)"
    assert axis("clipped_fraction") == "clipped fraction"
