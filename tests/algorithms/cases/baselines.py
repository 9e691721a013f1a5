"""FedAvg, SIGNSGD and distributed SGD with momentum."""

from cases.draws import LOCAL, ONE_GRADIENT, coin

CASES = {
    "fedavg": ("fedavg", {}, {}),
    "fedavg-server_lr": ("fedavg", {"server_lr": 0.5}, {"lr_decay": 0.9}),
    "signsgd": ("signsgd", {"server_lr": 0.05}, {}),
    "signsgd-majority": ("signsgd", {"server_lr": 0.05, "aggregate": "majority"}, {}),
    "signsgd-majority-zero": ("signsgd", {"server_lr": 0.05, "aggregate": "majority", "sign_zero": "zero"}, {}),
    "signsgd-momentum": ("signsgd", {"server_lr": 0.05, "theta": 0.9}, {}),
    "signsgd-look_ahead": ("signsgd", {"server_lr": 0.05, "theta": 0.5, "alpha": 1.0}, {}),
    "signsgd-sim-majority": ("signsgd", {"server_lr": 0.05, "theta": 0.9, "alpha": 9.0, "aggregate": "majority"}, {}),
    "signsgd-server_lr_decay": ("signsgd", {"server_lr": 0.05, "server_lr_decay": 0.8}, {}),
    "signsgd-server_lr_drops": ("signsgd", {"server_lr": 0.5, "server_lr_drops": [1, 2]}, {}),
    "sgdm": ("sgdm", {"server_lr": 0.05, "momentum": 0.9}, {}),
    "sgdm-no_momentum": ("sgdm", {"server_lr": 0.05, "momentum": 0.0}, {}),
}

AT_ZERO = {
    "signsgd": ("signsgd", {"server_lr": 2.0**-6}),
    "signsgd-majority": ("signsgd", {"server_lr": 2.0**-6, "aggregate": "majority"}),
    "signsgd-momentum": ("signsgd", {"server_lr": 2.0**-6, "theta": 0.5}),
}

FLOORS = {
    "fedavg": (LOCAL, 0.6),  # best accuracy measured with seed 0: 0.781
    "signsgd": (ONE_GRADIENT, 0.6),  # 0.765
    "sgdm": (ONE_GRADIENT, 0.55),  # 0.739
}


def draws(method, keys, d):
    """The coin of Sign(0)."""
    return {"coin": coin(d)} if method == "signsgd" else {}
