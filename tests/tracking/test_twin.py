"""A finished run of the same config under another item is not trained again."""

import json
import os
import signal
from pathlib import Path

import pytest

from fedsign.tracking.progress import RoundProgress
from fedsign.tracking.run_directory import read_summary

# A run that both figures need.
SHARED = ("scale=smoke", "seed=0", "local.batch_size=8", "setting=signsgd_sim/mnist_iid", "hydra.mode=RUN")
FIGURE3 = ("+experiment=signsgd_sim/figure3", *SHARED, "method=signsgd_sim/mv_sto_signsgd_sim")
FIGURE7 = ("+experiment=signsgd_sim/figure7", *SHARED, "clients=50")


@pytest.fixture
def printed(fedsign):
    """``printed("rounds=3")``: what the command printed, which ended well."""

    def go(*arguments):
        status, out, _ = fedsign(*arguments)
        assert status == 0
        return out

    return go


@pytest.fixture
def trained(tmp_path):
    """``trained()``: the folders of runs, relative to where the command ran."""
    return lambda: sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("metrics.csv"))


@pytest.fixture
def first(printed, trained):
    """The folder of a finished run of Figure 3."""
    printed(*FIGURE3)
    (folder,) = trained()
    assert folder.startswith("outputs/signsgd_sim/figure3/")
    return folder


@pytest.mark.parametrize("given", [[], ["hardware.workers=1"], ["report.title=other"]])
def test_the_run_of_another_item_is_taken(printed, trained, tmp_path, first, given):
    out = printed(*FIGURE7, *given)
    assert f"{first}: the same run, finished already; resume=never starts over" in out
    assert "final accuracy" in out  # its table
    assert trained() == [first]
    assert not any((tmp_path / "outputs").glob("signsgd_sim/figure7/*"))


def test_a_sweep_counts_it_as_its_own(printed, trained, tmp_path, first):
    printed("-m", *FIGURE7[:-2], "clients=50,30")
    assert len(trained()) == 2
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "outputs/sweeps").rglob("jobs/*.json"))]
    assert [record["status"] for record in records] == ["finished", "finished"]
    assert records[0]["output"] == str(tmp_path / first)


@pytest.mark.parametrize("given", ["output=mine", "resume=never", "seed=1", "local.lr=0.05"])
def test_a_place_of_its_own_starting_over_and_another_config_train(printed, trained, first, given):
    assert "the same run" not in printed(*FIGURE7, given)
    assert len(trained()) == 2


@pytest.mark.parametrize("status", ["failed", "dry run", None])
def test_a_run_that_is_not_finished_is_no_twin(printed, trained, tmp_path, first, status):
    path = tmp_path / first / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": status}))
    assert "the same run" not in printed(*FIGURE7)
    assert len(trained()) == 2


def test_a_run_of_a_like_name_and_another_config_is_no_twin(printed, trained, tmp_path, first):
    path = tmp_path / first / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "0" * 16}))
    assert "the same run" not in printed(*FIGURE7)
    assert len(trained()) == 2


def test_a_run_that_has_begun_goes_on_in_its_own_place(fedsign, printed, trained, monkeypatch):
    def stop(self, t, row, uplink_bits):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RoundProgress, "update", stop)
        assert fedsign(*FIGURE7)[0] == 128 + signal.SIGTERM
    printed(*FIGURE3)
    assert len(trained()) == 2
    assert "the same run" not in printed(*FIGURE7)
    (second,) = (folder for folder in trained() if "figure7" in folder)
    assert read_summary(Path(second))["status"] == "finished"


def test_a_dry_run_is_made(printed, first):
    assert "uplink" in printed(*FIGURE7, "dry_run=true")
