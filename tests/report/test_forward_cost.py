"""Operations of a forward pass: hand-computed networks, and what Table IV of FedVote says of its own."""

import pytest
import torch
from torch import nn

from fedsign.cli import register_resolvers
from fedsign.errors import ConfigError
from fedsign.presets import jobs
from fedsign.report.forward_cost import coded_layers, operations, table


def test_a_linear_layer_with_and_without_a_bias():
    """2 samples, 3 inputs, 4 outputs: 2 * 4 outputs of 3 products."""
    images = torch.zeros(2, 3)
    assert operations(nn.Linear(3, 4, bias=False), images) == (24, 16)
    assert operations(nn.Linear(3, 4), images) == (24, 24)


def test_a_convolution_counts_its_padding_and_its_input_channels():
    """One 4x4 image of 2 channels to 3 channels, 3x3 kernels: 48 outputs of 18 products; 12 of them without padding."""
    images = torch.zeros(1, 2, 4, 4)
    assert operations(nn.Conv2d(2, 3, 3, padding=1, bias=False), images) == (48 * 18, 48 * 17)
    assert operations(nn.Conv2d(2, 3, 3, bias=False), images) == (12 * 18, 12 * 17)


def test_binary_layers_multiply_nothing_and_the_rest_does_not_count():
    """Normalisation, pooling and ReLU cost nothing; a binary layer keeps its additions."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.BatchNorm2d(2), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
        nn.Linear(8, 5),
    )  # fmt: skip
    images = torch.zeros(10, 1, 4, 4)
    conv, last = 10 * 32, 10 * 5
    assert operations(model, images) == (conv * 9 + last * 8, conv * 8 + last * 8)
    assert operations(model, images, coded_layers(model, "no-last-layer")) == (last * 8, conv * 8 + last * 8)


def test_other_layers_with_weights_are_refused():
    """Rather than left out of the sum."""
    with pytest.raises(ConfigError, match="LSTM"):
        operations(nn.LSTM(3, 4), torch.zeros(2, 5, 3))


def test_the_networks_of_table_iv():
    """LeNet-5 as the paper counts it; VGG-7 by hand; binary weights leave the last layer's products of 100 images."""
    register_resolvers()
    costs = table(job.config for job in jobs("fedvote/table4")).set_index(["model.name", "weights"])
    lenet5, vgg7 = costs.loc["lenet5", "float"], costs.loc["vgg7", "float"]
    outputs = 100 * (32 * 32 * 32 + 64 * 16 * 16 + 512)  # values that are sums of n products, without a bias
    products = 100 * (32 * 32 * 32 * 75 + 64 * 16 * 16 * 800 + 512 * 4096 + 5120)
    assert (lenet5.multiplications, lenet5.additions) == (products, products - outputs)
    assert f"{lenet5.multiplications:.1e}" == "1.8e+09"  # as printed
    assert f"{lenet5.energy_mj:.1f}" == "8.1"
    pixels = (32**2 * (27 + 1152), 16**2 * (1152 + 2304), 8**2 * (2304 + 4608))
    convolutions = sum(c * p for c, p in zip((128, 256, 512), pixels, strict=True))
    assert vgg7.multiplications == 100 * (convolutions + 8192 * 1024 + 10240)
    assert costs.loc["lenet5", "binary"].multiplications == 100 * 5120
    assert costs.loc["vgg7", "binary"].multiplications == 100 * 10240
    assert costs.loc["lenet5", "binary"].additions == lenet5.additions
