"""``fedsign plan``: its counts against hand computation, and what it says."""

import json
import math
import subprocess
import sys

import pytest
import torch
import yaml

from fedsign import cli, presets
from fedsign.config import Config
from fedsign.execution import setup
from fedsign.plan import cli as plan
from fedsign.plan import timing
from fedsign.plan.work import Survey, groups_of_cost

CPU = torch.device("cpu")
DIGITS = ("dataset=digits", "model=mlp", "model.hidden=[16]", "clients=10", "cohort=4", "rounds=5")
DIGITS = (*DIGITS, "local.epochs=2", "local.batch_size=20")
D = 64 * 16 + 16 + 16 * 10 + 10
STEPS = 2 * math.ceil(144 / 20)  # 1 442 images over ten clients
CENTRAL = ("dataset.root=nowhere", "setting=signsgd_sim/mnist_iid", "seed=0", "local.batch_size=8")


@pytest.fixture
def work(resolved):
    """``work("rounds=3")``: the work of that run."""
    return lambda *overrides: Survey().work(Config(resolved(*overrides)))


@pytest.mark.parametrize(("algorithm", "bits"), [("fedavg", 32 * D), ("fedsmu", 8 * math.ceil(D / 8))])
def test_steps_uplink_and_evaluated_images_are_those_of_a_run(work, run, algorithm, bits):
    found = work(*DIGITS, f"algorithm={algorithm}", "eval.every=2")
    assert (found.size, found.client_steps, found.steps) == (144, STEPS, 5 * 4 * STEPS)
    assert found.uplink == 5 * 4 * bits
    assert found.evaluated == 3 * 355  # rounds 2, 4 and 5
    folder = run(*DIGITS, f"algorithm={algorithm}", "eval.every=2")
    assert json.loads((folder / "summary.json").read_text())["uplink_bits"] == found.uplink


def test_a_method_of_one_gradient_takes_one_step(work):
    assert work(*DIGITS, "algorithm=sgdm").steps == 5 * 4
    federated = work(*DIGITS, "algorithm=mv_sto_signsgd", "algorithm.local_steps=7")
    assert federated.steps == 5 * 4 * 8  # seven local steps, and the gradient where they end


def test_local_steps_do_not_depend_on_sizes(work):
    assert work(*DIGITS, "local.epochs=null", "local.steps=3").steps == 5 * 4 * 3


def test_unequal_clients_count_by_their_mean(work, resolved):
    unequal = (*DIGITS, "partition=dirichlet_per_class", "partition.alpha=0.3")
    config = Config(resolved(*unequal))
    sizes = setup.build(config).executor.samples(list(range(10)))
    assert len({*sizes}) > 1
    steps = [2 * math.ceil(n / 20) for n in sizes]
    assert work(*unequal).steps == pytest.approx(5 * 4 * sum(steps) / 10)


def test_what_is_held_out_is_not_trained_on_but_evaluated(work):
    found = work(*DIGITS, "dataset.validation=0.5", "eval.train=true")
    assert (found.size, found.client_steps) == (72, 2 * math.ceil(72 / 20))
    assert found.evaluated == 5 * (355 + 10 * 72 + 1442)


def test_every_model_of_a_method_is_evaluated(work):
    found = work("dataset=mnist5k", "model=lenet5", "algorithm=fedvote", "rounds=4")
    assert found.models == 3 and found.evaluated == 4 * 3 * 1000


@pytest.mark.parametrize(
    ("given", "size", "tests"),
    [
        (("dataset=cifar10", "model=lenet"), 500, 10_000),
        (("dataset=cifar10", "model=lenet", "dataset.validation=0.1"), 450, 10_000 + 5_000),
        (("dataset=shakespeare", "model=char_lstm", "partition=natural"), 2000, 40_000),
        (("dataset=emnist", "model=emnist_cnn", "partition=natural", "clients=1000"), 240, 40_000),
    ],
)
def test_without_the_data_clients_are_of_equal_sizes(work, given, size, tests):
    found = work(*given, "dataset.root=nowhere", "rounds=1")
    assert found.assumed and found.size == size
    assert found.steps == 10 * 5 * math.ceil(size / 50)
    assert found.evaluated == tests


def test_a_consensus_problem_has_no_images_to_evaluate(work, targets):
    found = work("dataset=consensus", "model=vector", f"dataset.targets={targets}", "cohort=12", "rounds=3")
    assert (found.steps, found.evaluated, found.uplink) == (3 * 12 * 5, 0, 3 * 12 * 32 * 7)


def test_runs_of_one_cost_differ_in_numbers_alone(work):
    given = [
        (), ("seed=1", "local.lr=0.3", "rounds=9"), ("algorithm=fedsmu",),
        ("algorithm=fedsmu", "algorithm.gamma_1=1.0"), ("local.batch_size=10",), ("model.hidden=[8]",),
    ]  # fmt: skip
    works = [work(*DIGITS, *overrides) for overrides in given]
    assert sorted(groups_of_cost(works, precise=True).values()) == [[0, 1], [2, 3], [4], [5]]
    assert sorted(groups_of_cost(works, precise=False).values()) == [[0, 1, 2, 3], [4], [5]]


def test_flops_are_those_of_the_matrix_products(resolved):
    counted = timing.arithmetic(Config(resolved(*DIGITS)))
    first, second = 64 * 16, 16 * 10
    forward, weights, inputs = first + second, first + second, second  # of the images themselves no gradient is taken
    assert counted.flops == 2 * 20 * (forward + weights + inputs)
    assert counted.calls > 10


MODELS = sorted(path.stem for path in (presets.conf_folder() / "model").glob("*.yaml"))
OF_KIND = {"image": "dataset=cifar10", "text": "dataset=shakespeare", "vector": "dataset=consensus"}


@pytest.mark.parametrize("model", MODELS)
def test_every_model_can_be_counted(resolved, model):
    target = yaml.safe_load((presets.conf_folder() / f"model/{model}.yaml").read_text())["_target_"]
    kind = {"CharLstm": "text", "Vector": "vector"}.get(target.rsplit(".", 1)[1], "image")
    dataset = "dataset=emnist" if model == "emnist_cnn" else OF_KIND[kind]
    drawn = ("dataset.dimension=5",) if kind == "vector" else ()
    counted = timing.arithmetic(Config(resolved(dataset, f"model={model}", *drawn, "local.batch_size=2")))
    assert (counted.flops > 0) == (kind != "vector") and counted.calls > 0


@pytest.mark.parametrize(
    "given",
    [
        DIGITS,
        (*DIGITS, "algorithm=sgdm"),
        (*DIGITS, "algorithm=scaffold", "attack=sign_flip", "attack.clients=3", "partition=dirichlet_per_class"),
        ("dataset=mnist5k", "model=lenet5", "algorithm=fedvote", "cohort=2", "dataset.validation=0.1"),
        ("dataset=shakespeare", "model=char_lstm", "partition=natural", "dataset.root=nowhere", "cohort=3"),
        ("dataset=consensus", "model=vector", "dataset.dimension=9", "clients=4", "cohort=2"),
    ],
)
def test_a_measurement_gives_seconds_per_step_and_per_sample(work, given):
    found = work(*given)
    counted = timing.arithmetic(found.config)
    for speed in (timing.measure(found, counted, 0.2), timing.on_a_gpu(found.config, counted)):
        assert 0 < speed.step < math.inf and 0 <= speed.sample < math.inf
        assert speed.of(found) >= found.steps * speed.step > 0


@pytest.fixture
def planned(monkeypatch, tmp_path, capsys):
    """``planned("rounds=3")``: what ``fedsign plan`` prints, with a second of measurement."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "SECONDS", 1.0)

    def go(*arguments):
        cli.register_resolvers()
        plan.main(arguments)
        return capsys.readouterr().out

    return go


def cells(out, method):
    """The columns of a method's row."""
    (line,) = (line for line in out.splitlines() if line.startswith(f"{method}  "))
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_a_preset_has_a_row_per_method_and_a_total(planned):
    out = planned("+experiment=quickstart", *DIGITS, "seed=0,1")
    assert out.startswith("quickstart: 6 runs\n")
    one_bit, full = 5 * 4 * 8 * math.ceil(D / 8), 5 * 4 * 32 * D
    assert cells(out, "FedAvg")[1:5] == ["2", "2", f"{2 * 5 * 4 * STEPS:,}", "774 kbit"] and full == 774_400
    assert cells(out, "FedSMU")[5] == plan.uplink_text(2 * one_bit)
    assert cells(out, "all")[1:6] == ["6", "6", f"{6 * 5 * 4 * STEPS:,}", "24.3 kbit to 774 kbit",
                                      plan.uplink_text(2 * full + 4 * one_bit)]  # fmt: skip
    assert "measured for" in out and "an estimate, not measured" in out
    assert "Not here" not in out


def test_a_plain_command_is_one_run(planned):
    out = planned(*DIGITS)
    assert out.startswith("plan: 1 run\n") and cells(out, "FedAvg")[1:3] == ["1", "1"]
    assert not [line for line in out.splitlines() if line.startswith("all")]


def test_what_several_jobs_share_is_run_once(planned):
    out = planned("-m", *DIGITS, "report.title=a,b")
    assert out.startswith("plan: 2 runs, 1 of them distinct\n") and cells(out, "FedAvg")[1] == "1"


@pytest.mark.parametrize("status", ["finished", "stopped", "failed"])
def test_a_finished_run_need_not_be_run(planned, tmp_path, resolved, status):
    folder = tmp_path / "outputs/runs/somewhere"
    folder.mkdir(parents=True)
    fingerprint = Config(resolved(*DIGITS)).fingerprint
    (folder / "summary.json").write_text(json.dumps({"status": status, "fingerprint": fingerprint}))
    row = cells(planned(*DIGITS, "seed=0,1"), "FedAvg")
    assert row[1:4] == ["2", "2" if status == "failed" else "1", f"{2 * 5 * 4 * STEPS:,}"]


def test_data_that_are_not_here_are_named(planned):
    out = planned("+experiment=signsgd_sim/figure3", *CENTRAL, "rounds=2", "method=signsgd_sim/mv_signsgd")
    assert "Not here: mnist. Their clients are taken to be of equal sizes." in out
    assert cells(out, "MV-SIGNSGD")[3] == "100"  # two rounds of fifty workers and a gradient each


def test_more_combinations_than_can_be_measured_are_said(planned, monkeypatch):
    monkeypatch.setattr(plan, "MOST_CLASSES", 1)
    out = planned("+experiment=quickstart", *DIGITS)
    assert "one method for each model and batch size (3 combinations are too many)" in out


def test_dry_runs_cost_nothing(planned):
    assert planned(*DIGITS, "dry_run=true") == "plan: 1 run; dry runs, which train nothing\n"


def test_nothing_is_written(planned, tmp_path):
    planned(*DIGITS)
    assert [*tmp_path.rglob("*")] == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("+experiment=quickstrt", "quickstrt: no such preset (did you mean 'quickstart'?); allowed: "),
        ("+experiment=quickstart rouds=3", "rouds: no such key (did you mean 'rounds'?); allowed: "),
        ("local.lr=-1", "local.lr=-1: must be a number > 0"),
        ("--cfg job", "--cfg: no such option; see fedsign plan --help"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, line):
    done = subprocess.run(
        [sys.executable, "-m", "fedsign", "plan", *arguments.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"fedsign: error: {line}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_helps(planned, flag):
    out = planned(flag)
    assert "fedsign plan +experiment=PAPER/ITEM" in out and "estimate" in out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.3, "< 1 s"), (40, "40 s"), (119, "119 s"), (210, "3.5 min"), (7200, "2 h"), (864_000, "10 days")],
)
def test_durations_are_said_as_people_do(seconds, text):
    assert plan.time_text(seconds) == text


@pytest.mark.parametrize(
    ("bits", "text"), [(8e9, "8 Gbit = 1 GB"), (1000, "1 kbit = 125 B"), (8e15, "8 Pbit = 1e+03 TB")]
)
def test_bits_are_said_in_bytes_too(bits, text):
    assert plan.uplink_text(bits) == text
