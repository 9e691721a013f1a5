"""The vision transformer equals one put together from torch's encoder layers."""

import pytest
import torch
from specs import assert_normal, module, spec
from torch import nn

from fedsign.config import build
from fedsign.errors import ConfigError

SMALL = {"patch": 4, "width": 24, "depth": 3, "heads": 3, "mlp_ratio": 2}


def encoder_layer(block, width, heads):
    """torch's pre-norm layer with the weights of one of our blocks."""
    hidden = block.fc1.out_features
    layer = nn.TransformerEncoderLayer(
        width, heads, hidden, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    copies = {
        "self_attn.in_proj_": block.attn.qkv, "self_attn.out_proj.": block.attn.proj,
        "linear1.": block.fc1, "linear2.": block.fc2, "norm1.": block.norm1, "norm2.": block.norm2,
    }  # fmt: skip
    layer.load_state_dict({f"{k}{part}": getattr(m, part) for k, m in copies.items() for part in ("weight", "bias")})
    return layer


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 20)])
def test_it_equals_torchs_encoder_layers(shape):
    ours = module("vit_s", shape, 7, **SMALL)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    x = torch.randn(4, *shape, generator=generator)
    patches = x.unfold(2, 4, 4).unfold(3, 4, 4)  # [B, C, rows, columns, 4, 4]
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(4, -1, shape[0] * 16)
    h = patches @ ours.patches.weight.flatten(1).T + ours.patches.bias
    h = torch.cat([ours.token.repeat(4, 1, 1), h], dim=1) + ours.positions
    for block in ours.blocks:
        h = encoder_layer(block, 24, 3)(h)
    expected = ours.head(nn.functional.layer_norm(h, (24,), ours.norm.weight, ours.norm.bias, eps=1e-6)[:, 0])
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


def test_blocks_start_differently():
    first, second, _ = module("vit_s", (3, 16, 16), 7, **SMALL).blocks
    assert not torch.equal(first.fc1.weight, second.fc1.weight)


def test_weights_tokens_and_positions_start_with_deviation_two_hundredths():
    for key, tensor in module("vit_s", (3, 32, 32), 10, depth=2).named_parameters():
        if tensor.dim() >= 2:
            assert_normal(tensor, 0.02)
        else:
            assert (tensor == (1 if "norm" in key and key.endswith("weight") else 0)).all()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("patch", r"model\.patch=5: must divide the height and width of an image, and .* has 32x32"),
        ("heads", r"model\.heads=5: must divide model\.width=384"),
    ],
)
def test_values_that_do_not_divide_are_refused(resolved, key, message):
    dataset = build(resolved("dataset=cifar10")["dataset"], "dataset.")
    spec("vit_s").check(dataset)
    with pytest.raises(ConfigError, match=message):
        spec("vit_s", **{key: 5}).check(dataset)
