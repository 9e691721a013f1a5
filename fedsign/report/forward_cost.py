"""Real multiplications and additions of a forward pass, and their energy (FedVote, Table IV).

What is counted, read off the layers and the shapes that pass through them:

- Convolutions and linear layers as matrix products. An output that sums n products takes n multiplications and n - 1
  additions, and one addition more where the layer has a bias. Products with padding count.
- With binary weights, the layers whose weights the method codes need no multiplication: their products are the inputs
  or their negatives, and subtractions count as additions. The other layers (FedVote's last one) stay in float.

What is not: batch normalisation, ReLU and pooling. The paper cannot have counted a normalisation either: one
multiplication per normalised value is fifty times all the multiplications it gives for a binary LeNet-5.

The paper's float LeNet-5 is met. Its additions are fewer by what fits k*k - 1 additions per k x k window, the sums over
input channels left out (24/25 and 8/9 of the multiplications); those sums are additions and count here. Its VGG-7
takes 12 % fewer multiplications than the released network, and its binary networks a fifth of the multiplications of
the last layer on 100 images; how, it does not say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from fedsign.config import build
from fedsign.errors import ConfigError
from fedsign.models.parameters import BATCH_NORMS, layout
from fedsign.options import Codes

MULTIPLICATION, ADDITION = 3.7e-12, 0.9e-12  # J, of a 32-bit float operation (Hubara et al., 2016; FedVote's [13])


def table(configs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The cost of every config's model with float and with binary weights.

    Args:
        configs: resolved; of each the model, the dataset (for its shapes), `algorithm.codes` (the weights that are
            binary) and `eval.batch_size` (the images of a pass) are used.

    Returns:
        Columns ``model.name``, ``weights`` (float, binary), ``additions``, ``multiplications`` and ``energy_mj`` (mJ).

    Raises:
        ConfigError: a layer has weights and is neither convolutional nor linear.
    """
    rows = []
    for config in configs:
        shape, classes = build(config["dataset"], "dataset.").dimensions()
        codes, batch = config["algorithm"]["codes"], config["eval"]["batch_size"]
        with torch.device("meta"):  # shapes alone: nothing is computed
            model = build(config["model"], "model.").build(shape, classes)
            images = torch.empty(batch, *shape)
        for weights, binary in (("float", set()), ("binary", coded_layers(model, codes))):
            multiplications, additions = operations(model, images, binary)
            energy = multiplications * MULTIPLICATION + additions * ADDITION
            rows.append((config["model"]["name"], weights, additions, multiplications, 1e3 * energy))
    return pd.DataFrame(rows, columns=["model.name", "weights", "additions", "multiplications", "energy_mj"])


def coded_layers(model: nn.Module, codes: Codes) -> set[str]:
    """Names of the layers whose weights a method codes."""
    placed = layout(model, codes)
    return {segment.name.rpartition(".")[0] for segment in placed.segments[: placed.tensors]}


def operations(model: nn.Module, images: Tensor, binary: Iterable[str] = ()) -> tuple[int, int]:
    """Multiplications and additions of one forward pass.

    Args:
        model: any module of convolutional and linear layers.
        images: a batch [B, ...]; of device ``meta``, if the model is.
        binary: names of the layers that have weights in {-1, 1}.

    Raises:
        ConfigError: a layer has weights and is neither convolutional nor linear.
    """
    names, counts = set(binary), [0, 0]

    def count(name: str, layer: nn.Conv2d | nn.Linear, output: Tensor) -> None:
        products = layer.weight[0].numel()
        counts[0] += 0 if name in names else output.numel() * products
        counts[1] += output.numel() * (products - (layer.bias is None))

    handles = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            handles.append(
                layer.register_forward_hook(lambda module, _, output, name=name: count(name, module, output))
            )
        elif not isinstance(layer, BATCH_NORMS) and next(layer.parameters(recurse=False), None) is not None:
            raise ConfigError(
                f"{type(layer).__name__}: must be a convolution or a linear layer to have its cost counted"
            )
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return counts[0], counts[1]
