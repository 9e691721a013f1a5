"""Tasks: batches, losses and evaluation against naive computations."""

import numpy as np
import pytest
import torch
from torch import nn

from fedsign.config import build
from fedsign.data import tasks
from fedsign.data.augment import flip_and_crop

CPU = torch.device("cpu")
MEAN, STD = (0.2, 0.5, 0.7), (0.3, 0.25, 1.5)
N_TRAIN, N_TEST = 40, 23


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    content = {
        "x_train": rng.integers(0, 256, (N_TRAIN, 4, 5, 3), dtype=np.uint8),
        "y_train": rng.integers(0, 6, N_TRAIN),
        "x_test": rng.integers(0, 256, (N_TEST, 4, 5, 3), dtype=np.uint8),
        "y_test": rng.integers(0, 6, N_TEST),
    }
    np.savez(tmp_path / "mine.npz", **content)
    return content


@pytest.fixture
def classification(images, resolved, tmp_path):
    def make(*overrides):
        shared = (f"dataset.root={tmp_path}", "dataset.name=mine", "dataset.classes=6", "dataset.crop_padding=1")
        node = resolved("dataset=npz", *shared, *overrides)["dataset"]
        return tasks.load(build(node, "dataset."), CPU)

    return make


NORMALISED = (f"dataset.mean={list(MEAN)}", f"dataset.std={list(STD)}")


def by_hand(x):
    """uint8 [N, H, W, C] to normalised float64 [N, C, H, W]."""
    return ((x / 255 - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(60, 6))


@pytest.fixture
def consensus(resolved, targets):
    return tasks.load(build(resolved("dataset=consensus", f"dataset.targets={targets}")["dataset"], "dataset."), CPU)


@pytest.fixture
def vector(resolved):
    module = build(resolved("model=vector")["model"], "model.").build((7,), 0)
    module.x.data = torch.linspace(-1, 2, 7)
    return module


def test_batch_is_normalised_per_channel(classification, images):
    task = classification(*NORMALISED)
    chosen = [7, 0, 31]
    x, y = task.batch(torch.tensor(chosen), np.random.default_rng(0))
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x.numpy(), by_hand(images["x_train"][chosen]), rtol=0, atol=1e-5)
    assert y.tolist() == images["y_train"][chosen].tolist()


def test_pixels_without_normalisation_lie_in_the_unit_interval(classification, images):
    x, _ = classification().batch(torch.arange(5), np.random.default_rng(0))
    np.testing.assert_allclose(x.numpy(), images["x_train"][:5].transpose(0, 3, 1, 2) / 255, rtol=0, atol=1e-6)


def test_measured_statistics_are_those_of_all_training_pixels(classification, images):
    x, _ = classification("dataset.mean=train", "dataset.std=train").batch(torch.arange(5), np.random.default_rng(0))
    pixels = images["x_train"] / 255
    expected = (pixels[:5] - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(x.numpy(), expected.transpose(0, 3, 1, 2), rtol=0, atol=1e-5)


def test_test_split_has_statistics_of_its_own_where_they_are_given(classification, images):
    task = classification(*NORMALISED, "dataset.test_mean=[0.0,0.1,0.2]", "dataset.test_std=[1.0,2.0,4.0]")
    own = (images["x_test"] / 255 - np.array([0, 0.1, 0.2])) / np.array([1, 2, 4])
    np.testing.assert_allclose(
        task.test_inputs(torch.arange(N_TEST)).numpy(), own.transpose(0, 3, 1, 2), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(
        task.train_inputs(torch.arange(N_TRAIN)).numpy(), by_hand(images["x_train"]), rtol=0, atol=1e-5
    )


def test_batch_leaves_the_stored_pixels_alone(classification, images):
    task = classification(*NORMALISED)
    task.batch(torch.arange(N_TRAIN), np.random.default_rng(0))
    assert np.array_equal(task.x_train.numpy(), images["x_train"])


def test_augmentation_is_applied_after_normalisation_and_from_the_given_stream(classification, images):
    augmented = ("dataset.augment=true", "dataset.crop_probability=0.5")
    x, _ = classification(*NORMALISED, *augmented).batch(torch.arange(30), np.random.default_rng(4))
    plain = torch.from_numpy(by_hand(images["x_train"][:30]).transpose(0, 2, 3, 1)).float()
    expected = flip_and_crop(plain, 1, 0.5, np.random.default_rng(4)).permute(0, 3, 1, 2)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-5)


def test_loss_is_the_mean_cross_entropy(classification):
    outputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 5, 2, 2, 1, 3, 4, 0])
    logits = outputs.double().numpy()
    naive = np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, labels, strict=True)])
    assert classification().loss(outputs, labels).item() == pytest.approx(naive, rel=1e-5)


def naive_evaluation(network, images, split):
    network.eval()
    correct, loss = 0, 0.0
    with torch.no_grad():
        for x, label in zip(by_hand(images[f"x_{split}"]), images[f"y_{split}"], strict=True):
            logits = network(torch.from_numpy(x).float()[None])[0].double().numpy()
            correct += int(np.argmax(logits) == label)
            loss += np.log(np.exp(logits).sum()) - logits[label]
    return correct / len(images[f"y_{split}"]), loss / len(images[f"y_{split}"])


@pytest.mark.parametrize("batch_size", [1, 7, N_TEST, 1000])
def test_evaluation_equals_a_loop_over_images(classification, images, network, batch_size):
    columns = classification(*NORMALISED).evaluate(network, "test", batch_size)
    accuracy, loss = naive_evaluation(network, images, "test")
    assert columns == {"test_accuracy": accuracy, "test_loss": pytest.approx(loss, rel=1e-5)}
    assert 0 < accuracy < 1


def test_evaluation_on_the_training_split_is_not_augmented(classification, images, network):
    columns = classification(*NORMALISED, "dataset.augment=true").evaluate_training_samples(network, "global_train", 9)
    accuracy, loss = naive_evaluation(network, images, "train")
    assert columns == {"global_train_accuracy": accuracy, "global_train_loss": pytest.approx(loss, rel=1e-5)}


def test_evaluation_changes_nothing_in_the_model(classification, network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    columns = classification(*NORMALISED).evaluate(network, "ema", 5)
    assert set(columns) == {"ema_accuracy", "ema_loss"}
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_labels_and_shape_are_those_of_the_data(classification, images):
    task = classification()
    assert (task.shape, task.classes) == ((3, 4, 5), 6)
    assert np.array_equal(task.labels, images["y_train"])


def test_consensus_gradient_is_exactly_the_difference(consensus, vector, targets):
    y = np.load(targets).astype(np.float32)
    for client in range(12):
        inputs, labels = consensus.batch(torch.tensor([client]), np.random.default_rng(0))
        vector.zero_grad()
        consensus.loss(vector(inputs), labels).backward()
        assert torch.equal(vector.x.grad, vector.x.detach() - torch.from_numpy(y[client]))


def test_consensus_loss_is_half_the_squared_distance(consensus, vector, targets):
    inputs, labels = consensus.batch(torch.tensor([4]), np.random.default_rng(0))
    expected = 0.5 * np.sum((vector.x.detach().numpy() - np.load(targets)[4]) ** 2)
    assert consensus.loss(vector(inputs), labels).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("prefix", "columns"), [("test", ("objective", "distance")), ("z", ("z_objective", "z_distance"))]
)
def test_consensus_is_evaluated_by_objective_and_distance(consensus, vector, targets, prefix, columns):
    x, y = vector.x.detach().double().numpy(), np.load(targets)
    objective = np.mean([0.5 * np.sum((x - row) ** 2) for row in y])
    distance = np.linalg.norm(x - y.mean(axis=0))
    expected = {columns[0]: pytest.approx(objective, rel=1e-5), columns[1]: pytest.approx(distance, rel=1e-5)}
    assert consensus.evaluate(vector, prefix, 5) == expected


def test_distance_vanishes_at_the_mean_of_the_targets(consensus, vector, targets):
    vector.x.data = torch.from_numpy(np.load(targets).mean(axis=0)).float()
    assert consensus.evaluate(vector, "test", 5)["distance"] < 1e-6


def test_consensus_has_one_client_per_target(consensus):
    assert consensus.shape == (7,)
    assert len(consensus.labels) == 12
