"""FedSMU's ResNet-18 is torchvision's with its normalisations replaced."""

import pytest
import torch
from specs import assert_normal, module, spec
from torch import nn
from torchvision.models import resnet18

from fedsign.errors import ConfigError


def group_normalised(groups, classes):
    """torchvision's network, every batch normalisation replaced afterwards, as the released code does by hand."""
    network = resnet18(num_classes=classes)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.GroupNorm(groups, child.num_features))
    return network


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def shaken(network):
    """The network with every parameter and running statistic moved away from where it started."""
    generator = torch.Generator().manual_seed(2)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.2 * torch.rand(tensor.shape, generator=generator))
            tensor.add_(0.01 * torch.rand(tensor.shape, generator=generator))
    return network


@pytest.mark.parametrize(("side", "classes", "groups"), [(32, 10, 2), (64, 200, 2), (32, 10, 32)])
def test_it_equals_torchvisions_with_group_normalisation(side, classes, groups):
    ours = shaken(module("resnet18", (3, side, side), classes, groups=groups))
    theirs = group_normalised(groups, classes)
    theirs.load_state_dict(ours.state_dict())
    x = images(4, 3, side, side)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_with_batch_normalisation_it_equals_torchvisions(training):
    ours = shaken(module("resnet18", (3, 64, 64), 10, norm="batch"))
    theirs = resnet18(num_classes=10)
    theirs.load_state_dict(ours.state_dict())
    x = images(4, 3, 64, 64)
    torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_start_kaiming_normal_by_fan_out(channels):
    for layer in module("resnet18", (channels, 32, 32), 10).modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            assert_normal(layer.weight, (2 / fan_out) ** 0.5)


def test_groups_must_divide_the_narrowest_layer():
    with pytest.raises(ConfigError, match=r"model\.groups=3: must be one of 1, 2, 4, 8, 16, 32, 64"):
        spec("resnet18", groups=3)
