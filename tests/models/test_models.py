"""Models as the configs name them: exact counts of the papers, and the functions they compute."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from fedsign.config import build
from fedsign.errors import ConfigError
from fedsign.models.parameters import layout

COLOUR, GREY = (3, 32, 32), (1, 28, 28)


@pytest.fixture
def spec(resolved):
    """``spec("lenet", "model.channels=[128,128]")``: the options object of a model's yaml."""
    return lambda name, *overrides: build(resolved(f"model={name}", *overrides)["model"], "model.")


@pytest.fixture
def dataset(resolved):
    return lambda *overrides: build(resolved(*overrides)["dataset"], "dataset.")


@pytest.mark.parametrize(
    ("name", "overrides", "shape", "classes", "codes", "count"),
    [
        ("lenet", (), COLOUR, 10, "all", 797_962),
        ("lenet", (), COLOUR, 10, "weights", 797_248),
        ("lenet", (), COLOUR, 100, "all", 815_332),
        ("lenet", (), COLOUR, 100, "weights", 814_528),
        ("lenet", ("model.channels=[128,128]",), COLOUR, 10, "weights", 1_723_648),
        ("mlp", (), GREY, 10, "all", 55_050),
        ("lenet_small", (), GREY, 10, "all", 24_794),
        ("vector", (), (7,), 0, "all", 7),
    ],
)
def test_number_of_coded_values(spec, name, overrides, shape, classes, codes, count):
    parts = layout(spec(name, *overrides).build(shape, classes), codes)
    assert parts.coded == count
    assert parts.buffers == 0


@pytest.mark.parametrize(
    ("name", "shape"), [("lenet", COLOUR), ("lenet_small", GREY), ("mlp", GREY), ("mlp", (2, 3, 5))]
)
def test_output_has_one_value_per_class(spec, name, shape):
    assert spec(name).build(shape, 7)(torch.zeros(4, *shape)).shape == (4, 7)


def test_lenet_equals_the_published_order_of_relu_then_pooling(spec):
    ours = spec("lenet").build(COLOUR, 10)
    published = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 64, 5), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2, 2),
            conv2=nn.Conv2d(64, 64, 5), relu2=nn.ReLU(), pool2=nn.MaxPool2d(2, 2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(1600, 384), relu3=nn.ReLU(), fc2=nn.Linear(384, 192), relu4=nn.ReLU(), fc3=nn.Linear(192, 10),
        )
    )  # fmt: skip
    published.load_state_dict(ours.state_dict())
    x = torch.randn(8, *COLOUR, generator=torch.Generator().manual_seed(0))
    outputs = [network(x) for network in (ours, published)]
    torch.testing.assert_close(*outputs, rtol=1e-6, atol=1e-6)
    for output in outputs:
        output.square().sum().backward()
    for name, parameter in published.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, rtol=1e-4, atol=1e-4)


def test_lenet_of_one_hidden_layer_names_its_layers_in_order(spec):
    names = [n for n, _ in spec("lenet_small").build(GREY, 10).named_parameters() if n.endswith("weight")]
    assert names == ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"]


def test_mlp_computes_its_formula(spec):
    mlp = spec("mlp", "model.hidden=[6,5]").build((2, 2), 3)
    w = dict(mlp.named_parameters())
    x = torch.randn(9, 2, 2, generator=torch.Generator().manual_seed(0))
    h = x.flatten(1)
    for i in (1, 2):
        h = (h @ w[f"fc{i}.weight"].T + w[f"fc{i}.bias"]).clamp(min=0)
    torch.testing.assert_close(mlp(x), h @ w["fc3.weight"].T + w["fc3.bias"])


def test_vector_starts_at_zero_and_gives_its_distance_from_the_targets(spec):
    module = spec("vector").build((7,), 0)
    y = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    assert [(n, p.tolist()) for n, p in module.named_parameters()] == [("x", [0.0] * 7)]
    assert torch.equal(module(y), -y)


@pytest.mark.parametrize("name", ["lenet", "mlp"])
def test_parameters_are_a_function_of_torchs_seed(spec, name):
    built = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        built.append(nn.utils.parameters_to_vector(spec(name).build(COLOUR, 10).parameters()))
    assert torch.equal(built[0], built[1])
    assert not torch.equal(built[0], built[2])


@pytest.mark.parametrize(("model", "data"), [("vector", "mnist5k"), ("lenet", "consensus"), ("mlp", "consensus")])
def test_model_refuses_a_dataset_of_the_other_kind(spec, dataset, model, data):
    with pytest.raises(ConfigError, match=f"model={model}: takes .* dataset={data} is of kind"):
        spec(model).check(dataset(f"dataset={data}"))


def test_lenet_refuses_images_that_its_convolutions_shrink_to_nothing(spec, dataset, tmp_path):
    digits = dataset("dataset=digits", f"dataset.root={tmp_path}")
    with pytest.raises(ConfigError, match=r"at least 16x16 pixels.* 8x8"):
        spec("lenet").check(digits)
    spec("mlp").check(digits)


@pytest.mark.parametrize("side", [16, 17, 19, 20, 33])
def test_lenet_takes_every_image_from_its_smallest_on(spec, side):
    lenet = spec("lenet_small")
    assert lenet.smallest == 16
    assert lenet.build((1, side, side + 3), 10)(torch.zeros(2, 1, side, side + 3)).shape == (2, 10)
