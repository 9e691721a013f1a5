"""Updates compressed after training."""

from cases.draws import LOCAL, streams
from fedsign.codecs import hadamard

CASES = {
    "fedpaq": ("fedpaq", {}, {}),
    "fedpaq-linf": ("fedpaq", {"norm": "linf", "levels": 3}, {"lr_decay": 0.9}),
    "fedpaq-levels": ("fedpaq", {"levels": 100, "server_lr": 0.7}, {}),
    "terngrad": ("terngrad", {}, {}),
    "topk": ("topk", {"ratio": 0.3}, {}),
    "topk-everything": ("topk", {"ratio": 1.0, "server_lr": 0.5}, {"lr_decay": 0.9}),
    "drive": ("drive", {}, {}),
    "drive-unbiased": ("drive", {"scale": "unbiased", "server_lr": 0.5}, {}),
    "eden": ("eden", {}, {}),
    "eden-2": ("eden", {"bits": 2}, {"lr_decay": 0.9}),
    "eden-3-mse": ("eden", {"bits": 3, "scale": "mse"}, {}),
    "eden-4": ("eden", {"bits": 4, "server_lr": 0.5}, {}),
    "sign_update": ("sign_update", {"c": 2.0}, {}),
    "sign_update-clipped": ("sign_update", {"c": 1.0, "server_lr": 0.5}, {}),
}

AT_ZERO = {}  # no sign of zero: it is sent as zero, or as a fair sign whatever its value

FLOORS = {
    "fedpaq": (LOCAL, 0.6),  # 0.760
    "terngrad": (LOCAL, 0.6),  # 0.765
    "topk": (LOCAL, 0.5),  # 0.632
    "drive": (LOCAL, 0.55),  # 0.723
    "eden": (LOCAL, 0.6),  # 0.776
    "sign_update": (LOCAL, 0.55),  # 0.745
}


def draws(method, keys, d):
    """The uniform draws of the rounding, or the signs of the rotation, padded to a power of two."""
    if method in ("drive", "eden"):
        return {"rotation": rotation(1 << (d - 1).bit_length())}
    if method == "topk":
        return {}
    return {"rounding": lambda t, client: streams(t, client).uniform("rounding", d)[0].double().numpy()}


def rotation(length):
    def draw(t, client):
        source = streams(t, client)
        seed = int(source.numpy("rotation", 0).integers(2**32))
        return hadamard._signs(seed, length, source.device).double().numpy()

    return draw
