"""FedEF, EF21 and EF-SignSGD."""

from cases.draws import LOCAL, ONE_GRADIENT, coin

TOP = {"codec": "topk", "ratio": 0.3}  # two of seven entries
HEAVY = {"codec": "heavy_sign", "ratio": 0.5}
AMS = {"server": "ams", "server_lr": 0.1, "eps": 1e-3}

CASES = {
    "fedef": ("fedef", {}, {}),
    "fedef-server_lr": ("fedef", {"server_lr": 0.5}, {"lr_decay": 0.9}),
    "fedef-topk": ("fedef", TOP, {}),
    "fedef-heavy_sign": ("fedef", HEAVY, {}),
    "fedef-identity": ("fedef", {"codec": "identity"}, {}),
    "fedef-ams": ("fedef", AMS, {}),
    "fedef-ams-topk": ("fedef", TOP | AMS | {"beta_1": 0.5, "beta_2": 0.9}, {}),
    "ef21": ("ef21", {}, {}),
    "ef21-topk": ("ef21", TOP | {"server_lr": 0.5}, {}),
    "ef21-sign": ("ef21", {"codec": "sign"}, {}),
    "ef21-heavy_sign": ("ef21", HEAVY, {}),
    "ef21-identity": ("ef21", {"codec": "identity"}, {"lr_decay": 0.9}),
    "ef21-warm_start": ("ef21", TOP | {"warm_start": True}, {}),
    "ef21-warm_start-sign": ("ef21", {"codec": "sign", "warm_start": True}, {}),
    "ef_signsgd": ("ef_signsgd", {}, {}),
    "ef_signsgd-no_momentum": ("ef_signsgd", {"momentum": 0.0}, {}),
    "ef_signsgd-worker": ("ef_signsgd", {"placement": "worker"}, {}),
    "ef_signsgd-block": ("ef_signsgd", {"placement": "block", "momentum": 0.5}, {}),
}

AT_ZERO: dict[str, tuple[str, dict[str, object]]] = {}  # a sign of zero alone has the scale 0: see test_error_feedback

FLOORS = {
    "fedef": (LOCAL, 0.5),  # best accuracy measured with seed 0: 0.673
    "ef21": (LOCAL, 0.45),  # 0.602
    "ef_signsgd": (ONE_GRADIENT, 0.5),  # 0.695
}


def draws(method, keys, d):
    """The coin of Sign(0)."""
    return {"coin": coin(d)}
