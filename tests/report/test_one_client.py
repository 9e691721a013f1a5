"""What reports measure on one client: histograms of Figure 3 of FedVote, times of Figure 6 of FedMRN."""

import numpy as np
import pandas as pd
import pytest
import torch

from fedsign.codecs import Float32, Sign
from fedsign.config import Config
from fedsign.execution.serial import SerialTraining
from fedsign.report import histograms, local_times

SMALL = ["model=lenet5", "model.channels=[2,4]", "model.hidden=8", "local.epochs=null", "local.steps=1", "clients=2"]
SMALL += ["cohort=1", "partition=iid", "dataset=mnist", "dataset.synthetic=40", "local.batch_size=20"]


@pytest.fixture
def clock(monkeypatch):
    """Local training takes 3 s, encoding 1 s, and nothing else any time."""
    time = [0.0]
    monkeypatch.setattr(local_times.time, "perf_counter", lambda: time[0])

    def taking(cls, method, seconds):
        original = getattr(cls, method)

        def slow(*arguments, **options):
            time[0] += seconds
            return original(*arguments, **options)

        monkeypatch.setattr(cls, method, slow)

    taking(SerialTraining, "train", 3.0)
    taking(SerialTraining, "gradient", 5.0)
    taking(Sign, "encode", 1.0)
    return time


def test_training_and_compression_are_told_apart(resolved, clock):
    """Also of a method that takes one gradient; what is not a client's work does not count."""
    methods = ["fedvote", "fedavg", "signsgd"]
    times = local_times.table(resolved(*SMALL, f"algorithm={method}") for method in methods)
    assert list(times["method"]) == ["FedVote", "FedAvg", "SIGNSGD"]
    assert np.allclose(times[["training_s", "compression_s"]], [[3, 1], [3, 0], [5, 1]])


def test_the_histogram_of_updates_is_that_of_what_is_sent(resolved):
    """delta = x - y: FedAvg's client sends it."""
    config = Config(resolved(*SMALL, "algorithm=fedavg", "local.lr=1"))
    quantity, values = histograms.measured(config)
    client = histograms.one_client(config)
    rows = client.send(client.training())
    sent = Float32().decode(next(iter(rows.values())), len(values))[0]
    assert quantity == "update"
    assert values.abs().max() > 0
    torch.testing.assert_close(sent, values, rtol=1e-4, atol=1e-6)


def test_probabilities_are_those_that_votes_are_drawn_with(resolved):
    """The client's votes agree with pi: their mean within each bin of pi is 2 pi - 1."""
    config = Config(resolved(*SMALL, "algorithm=fedvote", "model.hidden=256", "local.lr=0.01"))
    quantity, pi = histograms.measured(config)
    client = histograms.one_client(config)
    votes = Sign("plus").decode(client.send(client.training())["w"], len(pi))[0]
    assert quantity == "probability"
    assert pi.min() >= 0 and pi.max() <= 1
    error = votes - (2 * pi - 1)
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (pi >= low) & (pi < low + 0.25)
        assert error[inside].mean().abs() < 5 / inside.sum().sqrt()


def test_tables_count_every_weight_and_are_drawn(resolved, tmp_path):
    """Bins add up to d; both figures are written."""
    counted = histograms.table(resolved(*SMALL, f"algorithm={method}") for method in ("fedavg", "fedvote"))
    config = Config(resolved(*SMALL, "algorithm=fedvote"))
    sums = counted.groupby("method")["count"].sum()
    assert sums["FedVote"] == histograms.one_client(config).built.layout.coded
    histograms.draw(counted, tmp_path / "histograms.png")
    times = pd.DataFrame({"method": ["A", "B"], "training_s": [2.0, 3.0], "compression_s": [0.1, 0.2]})
    local_times.draw(times, tmp_path / "times.png")
    assert all((tmp_path / name).stat().st_size > 0 for name in ("histograms.png", "times.png"))
