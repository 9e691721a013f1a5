"""The CIFAR ResNets equal a network put together from torchvision's blocks."""

import pytest
import torch
from specs import assert_normal, module, spec
from torch import nn
from torchvision.models.resnet import BasicBlock

from fedsign.errors import ConfigError

COLOUR = (3, 32, 32)


class OptionA(nn.Module):
    """Every other pixel, between as many zero channels before as after."""

    def forward(self, x):
        x = x[:, :, ::2, ::2]
        zeros = torch.zeros(x.shape[0], x.shape[1] // 2, *x.shape[2:])
        return torch.cat([zeros, x, zeros], dim=1)


def from_torchvision(depth, norm):
    """Stem, blocks and head, in the order of ours."""
    blocks, inputs = [], 16
    for outputs in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            wider = outputs > inputs
            shortcut = OptionA() if wider else None
            blocks.append(BasicBlock(inputs, outputs, 2 if wider else 1, shortcut, norm_layer=norm))
            inputs = outputs
    stem = [nn.Conv2d(3, 16, 3, padding=1, bias=False), norm(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def quarter_groups(channels):
    """4, 8 and 16 groups of 16, 32 and 64 channels."""
    return nn.GroupNorm({16: 4, 32: 8, 64: 16}[channels], channels)


@pytest.mark.parametrize(("norm", "theirs"), [("batch", nn.BatchNorm2d), ("group", quarter_groups)])
@pytest.mark.parametrize("depth", [20, 32, 56])
@pytest.mark.parametrize("training", [True, False])
def test_it_equals_torchvisions_blocks_with_parameter_free_shortcuts(norm, theirs, depth, training):
    ours = module(f"resnet{depth}", COLOUR, 10, norm=norm)
    generator = torch.Generator().manual_seed(2)
    state = [t for t in ours.state_dict().values() if t.is_floating_point()]
    for tensor in state:
        tensor.mul_(1 + 0.2 * torch.rand(tensor.shape, generator=generator))
    reference = from_torchvision(depth, theirs)
    for mine, other in zip(state, [t for t in reference.state_dict().values() if t.is_floating_point()], strict=True):
        other.copy_(mine)
    x = torch.randn(4, 3, 32, 32, generator=generator)
    outputs = [network.train(training)(x) for network in (ours, reference)]
    scale = outputs[1].abs().max()
    torch.testing.assert_close(*(output / scale for output in outputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("depth", [20, 32, 56, 110])
def test_depth_counts_the_layers_with_weights(depth):
    assert (
        sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in module(f"resnet{depth}", COLOUR, 10).modules())
        == depth
    )


@pytest.mark.parametrize("depth", [20, 110])
def test_weights_start_kaiming_normal_by_fan_in(depth):
    network = module(f"resnet{depth}", COLOUR, 10)
    for key, tensor in network.named_parameters():
        if tensor.dim() >= 2:
            assert_normal(tensor, (2 / tensor[0].numel()) ** 0.5)
        elif key == "fc.bias":
            assert (tensor.abs() < 1 / 8).all()
            assert (tensor != 0).any()
        else:
            assert (tensor == (1 if key.endswith("weight") else 0)).all()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 14), (3, 64, 64)])
def test_any_image_fits(shape):
    assert module("resnet20", shape, 10)(torch.zeros(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(
    ("key", "value", "allowed"), [("depth", 21, "20, 32, 44, 56, 110"), ("group_size", 3, "1, 2, 4, 8, 16")]
)
def test_wrong_values_are_refused_by_name(key, value, allowed):
    with pytest.raises(ConfigError, match=f"model.{key}={value}: must be one of {allowed}"):
        spec("resnet20", **{key: value})
