"""FedVote, FedMRN and the model compressors."""

import numpy as np
import torch
from toys import flat

from cases.draws import coin, streams
from fedsign.codecs import MaskedNoise, seeds
from fedsign.local import frozen

CASES = {
    "fedvote": ("fedvote", {}, {}),
    "fedvote-lr_decay": ("fedvote", {"a": 0.7, "p_min": 0.05}, {"lr_decay": 0.8}),
    "fedvote-sgd": ("fedvote", {"optimizer": "local"}, {}),
    "fedvote-ternary": ("fedvote", {"levels": 3}, {}),
    "fedvote-reputation": ("fedvote", {"vote": "reputation"}, {}),
    "fedvote-reputation-beta": ("fedvote", {"vote": "reputation", "beta": 0.9, "sign_zero": "plus"}, {}),
    "fedvote-reputation-nu": ("fedvote", {"vote": "reputation", "reference": "nu_weighted"}, {}),
    "fedvote-reputation-cut": ("fedvote", {"vote": "reputation", "cut_below_mean": True, "sign_zero": "zero"}, {}),
    "fedvote-reputation-oracle": (
        "fedvote", {"vote": "reputation", "cut_below_mean": True, "reference": "honest_oracle"}, {},
    ),
    "fedmrn": ("fedmrn", {"noise_scale": 0.3}, {}),
    "fedmrn-small_noise": ("fedmrn", {"noise_scale": 0.05}, {"lr_decay": 0.9}),
    "fedmrn-default_noise": ("fedmrn", {}, {}),
    "fedmrn-gaussian": ("fedmrn", {"noise_scale": 0.2, "noise": "gaussian"}, {}),
    "fedmrn-bernoulli": ("fedmrn", {"noise_scale": 0.2, "noise": "bernoulli"}, {}),
    "fedmrn-signed": ("fedmrn", {"noise_scale": 0.1, "mask": "signed"}, {}),
    "fedmrn-signed-default_noise": ("fedmrn", {"mask": "signed"}, {}),
    "fedmrn-deterministic": ("fedmrn", {"noise_scale": 0.1, "stochastic_masking": False}, {}),
    "fedmrn-signed-deterministic": (
        "fedmrn", {"noise_scale": 0.1, "mask": "signed", "stochastic_masking": False}, {},
    ),
    "fedmrn-not_progressive": ("fedmrn", {"noise_scale": 0.3, "progressive_masking": False}, {}),
    "fedmrn-signed-not_progressive": (
        "fedmrn", {"noise_scale": 0.1, "mask": "signed", "progressive_masking": False}, {},
    ),
    "fedmrn-neither": (
        "fedmrn", {"noise_scale": 0.1, "stochastic_masking": False, "progressive_masking": False}, {},
    ),
    "fedmrn-after_training": ("fedmrn", {"noise_scale": 0.3, "after_training": True}, {}),
    "fedmrn-signed-after_training": (
        "fedmrn", {"noise_scale": 0.1, "mask": "signed", "after_training": True, "stochastic_masking": False}, {},
    ),
    "fedpm": ("fedpm", {}, {}),
    "fedpm-eps": ("fedpm", {"eps": 0.2}, {"lr_decay": 0.8}),
    "fedpm-sgd": ("fedpm", {"optimizer": "local"}, {"lr": 10.0}),
    "fedmask": ("fedmask", {}, {}),
    "fedmask-eps": ("fedmask", {"eps": 0.3}, {}),
    "hidenseek": ("hidenseek", {}, {}),
    "hidenseek-dense": ("hidenseek", {"sparsity": 0.0, "eps": 0.3}, {}),
    "hidenseek-sparse": ("hidenseek", {"sparsity": 0.8}, {}),
    "fedsparsify": ("fedsparsify", {"sparsity": 0.5}, {}),
    "fedsparsify-dense": ("fedsparsify", {"sparsity": 0.0}, {"lr_decay": 0.9}),
    "fedsparsify-polynomial": ("fedsparsify", {"sparsity": 0.8, "schedule": "polynomial"}, {}),
    "fedsparsify-frequency": (
        "fedsparsify", {"sparsity": 0.8, "schedule": "polynomial", "frequency": 3, "exponent": 1.5}, {},
    ),
    "fedsparsify-server": ("fedsparsify", {"sparsity": 0.5, "prune": "server"}, {}),
    "fedsparsify-server-polynomial": (
        "fedsparsify", {"sparsity": 0.8, "schedule": "polynomial", "prune": "server"}, {},
    ),
}  # fmt: skip

AT_ZERO = {}

# Their weights are rounded at random, or confined to a few values: a run may end further from the optimum than x_0 = 0.
WANDERING = {case for case, (method, _, _) in CASES.items() if method not in ("fedmrn", "fedsparsify")}
WANDERING |= {"fedmrn-signed", "fedmrn-signed-not_progressive", "fedmrn-signed-after_training"}
WANDERING |= {"fedmrn-signed-deterministic"}

MASKED = ("rounds=5", "local.epochs=5", "local.batch_size=20")
BINARY = ("model=lenet5", "model.channels=[8,16]", "model.hidden=64", "rounds=4", "local.epochs=5", "local.lr=0.05")
FLOORS = {
    "fedvote": (BINARY, 0.8),  # 0.941
    "fedmrn": (MASKED, 0.55),  # 0.724
    "fedpm": (MASKED, 0.5),  # 0.735
    "fedmask": (MASKED, 0.7),  # 0.868
    "hidenseek": (MASKED, 0.7),  # 0.895
    "fedsparsify": (MASKED, 0.75),  # 0.902
}


def draws(method, keys, d):
    """The noise of a run, its uniform draws, its frozen weights and its coin for tied votes."""
    seed = seeds.of(torch.zeros(d))
    start = {
        "scores": frozen.scores(seed, d, torch.device("cpu")).double().numpy(),
        "signs": np.sign(frozen.signed_constants(seed, 1.0, flat(d), torch.device("cpu")).double().numpy()),
    }
    if method == "fedvote":
        return {"uniform": uniform(d), "coin": coin(d)}
    if method == "fedmrn":
        return {"uniform": uniform(d), "noise": noise(keys, d)}
    if method == "hidenseek":
        scores = lambda k: frozen.scores(seed, k, torch.device("cpu")).double().numpy()  # noqa: E731
        return {"scores": scores, "normal": frozen.normals(seed, flat(d), torch.device("cpu"))[1].double().numpy()}
    return {} if method == "fedsparsify" else start | {"uniform": uniform(d)}


def uniform(d):
    def draw(t, client, what):
        source = streams(t, client)
        if what == "mask":
            return source.uniform("mask", d)[0].double().numpy()
        generator = source.generator("step", 0)
        return [torch.rand(d, generator=generator) for _ in range(what)][-1].double().numpy()

    return draw


def noise(keys, d):
    signed = keys.get("mask") == "signed"
    codec = MaskedNoise(signed, keys.pop("noise", "uniform"), keys.pop("noise_scale", 0.005 if signed else 0.01))

    def draw(t, client):
        seed = int(streams(t, client).numpy("seed", 0).integers(2**63))
        return codec.noise([seed], d, torch.device("cpu"))[0].double().numpy()

    return draw
