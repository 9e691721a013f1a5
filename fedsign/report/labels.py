"""How keys of the config and their values are written in tables and figures: in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import get_class

METHOD = "method"  # the key that is not one of the config

NAMES = {
    "mnist": "MNIST",
    "mnist5k": "MNIST (5 000)",
    "fmnist": "Fashion-MNIST",
    "emnist": "EMNIST",
    "svhn": "SVHN",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tinyimagenet": "Tiny-ImageNet",
    "shakespeare": "Shakespeare",
    "consensus": "consensus problem",
    "lenet": "LeNet",
    "lenet5": "LeNet-5",
    "vgg7": "VGG-7",
    "resnet18": "ResNet-18",
    "resnet20": "ResNet-20",
    "resnet32": "ResNet-32",
    "resnet56": "ResNet-56",
    "resnet110": "ResNet-110",
    "vit_s": "ViT-S",
    "mlp": "MLP",
    "iid": "IID",
    "dirichlet": "Dir({alpha})",
    "dirichlet_overlap": "Dir({alpha})",
    "dirichlet_per_class": "Dir({alpha}) per class",
    "labels_per_client": "{labels} labels a client",
    "one_label": "one label a client",
    "natural": "natural",
}
VALUES = {
    "partition.alpha": "α = {}",
    "partition.labels": "{} labels a client",
    "clients": "{} clients",
    "cohort": "{} a round",
    "rounds": "{} rounds",
    "local.batch_size": "batch size {}",
    "local.steps": "{} local steps",
    "local.epochs": "{} local epochs",
    "local.lr": "lr {}",
    "algorithm.server_lr": "server lr {}",
    "algorithm.bits": "{} bit",
    "algorithm.sigma": "σ = {}",
    "algorithm.gamma_1": "γ₁ = {}",
    "algorithm.gamma_2": "γ₂ = {}",
    "algorithm.beta_1": "β₁ = {}",
    "algorithm.beta_2": "β₂ = {}",
    "algorithm.noise": "{} noise",
    "dataset.dimension": "d = {}",
    "attack.clients": "{} attackers",
    "attack.name": "attack {}",
}
AXES = {
    "round": "round",
    "uplink_bits": "uplink bits, all clients, cumulative",
    "uplink_bits_formula": "uplink bits as the paper counts, cumulative",
    "total_bits": "uplink + 0.1 downlink bits, cumulative",
    "test_accuracy": "test accuracy (%)",
    "global_train_accuracy": "training accuracy (%)",
    "validation_accuracy": "validation accuracy (%)",
    "train_loss": "training loss",
    "test_loss": "test loss",
    "distance": "distance to the optimum",
    "mu_index": "magnitude uniformity",
    "algorithm.sigma": "noise scale σ",
    "algorithm.noise_scale": "magnitude of the noise α",
    "algorithm.gamma_1": "γ₁",
    "attack.clients": "attackers",
    "clients": "clients",
    "cohort": "clients a round",
    "partition.alpha": "Dirichlet α",
    "local.steps": "local steps",
    "local.epochs": "local epochs",
    "local.batch_size": "batch size",
}


def method(config: Mapping[str, Any]) -> str:
    """What the paper calls the method of a flat config, else its own name."""
    return str(config.get("report.method") or get_class(config["algorithm._target_"]).title)  # type: ignore[attr-defined]


def label(keys: Sequence[str], config: Mapping[str, Any]) -> str:
    """How the values of keys are told, separated by commas.

    Args:
        keys: dotted keys, or ``method``.
        config: dotted key to value.
    """
    return ", ".join(part for part in parts(keys, config) if part)


def parts(keys: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """The same key by key; empty where another says it."""
    return [_value(key, config, keys) for key in keys]


def head(key: str) -> str:
    """The head of a column that holds the values of a key."""
    return key.removesuffix(".name").rpartition(".")[2].replace("_", " ")


def axis(key: str) -> str:
    """How an axis is called."""
    if key in AXES:
        return AXES[key]
    words = key.rpartition(".")[2].replace("_", " ")
    return f"{words} (%)" if key.endswith("_accuracy") else words


def _value(key: str, config: Mapping[str, Any], beside: Sequence[str]) -> str:
    if key == METHOD:
        return method(config)
    value = config.get(key)
    if key == "partition.name":
        details = {name.removeprefix("partition."): plain(v) for name, v in config.items()}
        return NAMES.get(str(value), str(value)).format_map(details)
    if value is None or (key in ("partition.alpha", "partition.labels") and "partition.name" in beside):
        return ""  # the name of the partition says it
    if key == "cohort" and "clients" in config:
        return f"{value} of {config['clients']} clients"
    if key == "clients" and "cohort" in beside:
        return ""
    if key.endswith(".name"):
        return NAMES.get(str(value), str(value))
    return VALUES.get(key, key.rpartition(".")[2].replace("_", " ") + " = {}").format(plain(value))


def plain(value: Any) -> str:
    """A value as short as it goes: 0.1, 100, true."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
