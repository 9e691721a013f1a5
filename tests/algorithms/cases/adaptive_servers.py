"""FedAMS and FedCAMS."""

from cases.draws import LOCAL, coin

CASES = {
    "fedams": ("fedams", {"server_lr": 0.3}, {}),
    "fedams-eps": ("fedams", {"server_lr": 0.1, "eps": 0.1, "beta_1": 0.5, "beta_2": 0.9}, {"lr_decay": 0.9}),
    "fedams-small_eps": ("fedams", {"server_lr": 0.05, "eps": 1e-6}, {}),
    "fedcams": ("fedcams", {"server_lr": 0.3}, {}),
    "fedcams-topk": ("fedcams", {"server_lr": 0.1, "codec": "topk", "ratio": 0.3}, {}),
    "fedcams-identity": ("fedcams", {"server_lr": 0.05, "codec": "identity", "eps": 1e-6}, {}),
}

AT_ZERO: dict[str, tuple[str, dict[str, object]]] = {}  # a sign of zero alone has the scale 0: see test_error_feedback

FLOORS = {
    "fedams": ((*LOCAL, "local.lr=0.01"), 0.45),  # best accuracy measured with seed 0: 0.628
    "fedcams": (("rounds=25", "eval.every=5", *LOCAL[1:], "local.lr=0.01"), 0.7),  # 0.869
}


def draws(method, keys, d):
    """The coin of Sign(0)."""
    return {"coin": coin(d)} if method == "fedcams" else {}
