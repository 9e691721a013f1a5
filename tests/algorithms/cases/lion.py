"""FedLion and Distributed Lion."""

from cases.draws import LOCAL, coin

LION = {"beta_1": 0.9, "beta_2": 0.99}
DLION = LION | {"lr": 0.05, "weight_decay": 0.1}
STALE = DLION | {"sync": False}

CASES = {
    "fedlion": ("fedlion", LION | {"lr": 0.02}, {}),
    "fedlion-equal_betas": ("fedlion", {"beta_1": 0.5, "beta_2": 0.5, "lr": 0.02}, {"lr_decay": 0.8}),
    "dlion": ("dlion", DLION, {}),
    "dlion-majority": ("dlion", DLION | {"aggregate": "majority"}, {}),
    "dlion-majority-zero": ("dlion", DLION | {"aggregate": "majority", "sign_zero": "zero"}, {}),
    "dlion-stale": ("dlion", STALE, {}),
    "dlion-stale-zero": ("dlion", STALE | {"sign_zero": "zero"}, {}),
    "dlion-stale-majority": ("dlion", STALE | {"aggregate": "majority"}, {}),
    "dlion-stale-majority-zero": ("dlion", STALE | {"aggregate": "majority", "sign_zero": "zero"}, {}),
    "dlion-stale-majority-plus": ("dlion", STALE | {"aggregate": "majority", "sign_zero": "plus"}, {}),
}

DYADIC = {"beta_1": 0.5, "beta_2": 0.5, "lr": 2.0**-6, "weight_decay": 0.0}
AT_ZERO = {
    "dlion": ("dlion", DYADIC),
    "dlion-majority": ("dlion", DYADIC | {"aggregate": "majority"}),
    "dlion-stale": ("dlion", DYADIC | {"sync": False}),
    "dlion-stale-majority": ("dlion", DYADIC | {"sync": False, "aggregate": "majority"}),
}

FLOORS = {
    "fedlion": (LOCAL, 0.65),  # best accuracy measured with seed 0: 0.806
    "dlion": (LOCAL, 0.7),  # 0.842
}


def draws(method, keys, d):
    """The coin of Sign(0)."""
    return {"coin": coin(d)} if method == "dlion" else {}
