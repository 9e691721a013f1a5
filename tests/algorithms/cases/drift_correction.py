"""SCAFFOLD, SCALLION and SCAFCOM."""

from cases.draws import LOCAL, coin, streams

CASES = {
    "scaffold": ("scaffold", {}, {}),
    "scaffold-server_lr": ("scaffold", {"server_lr": 0.5}, {"lr_decay": 0.9}),
    "scallion": ("scallion", {}, {}),
    "scallion-2bits": ("scallion", {"levels": 1, "alpha": 0.05, "server_lr": 0.5}, {}),
    "scallion-identity": ("scallion", {"codec": "identity", "alpha": 0.5}, {"lr_decay": 0.9}),
    "scafcom": ("scafcom", {}, {}),
    "scafcom-topk": ("scafcom", {"ratio": 0.3, "beta": 0.5, "server_lr": 0.5}, {}),
    "scafcom-sign": ("scafcom", {"codec": "sign"}, {}),
    "scafcom-heavy_sign": ("scafcom", {"codec": "heavy_sign", "ratio": 0.5}, {}),
    "scafcom-identity": ("scafcom", {"codec": "identity", "beta": 0.5}, {"lr_decay": 0.9}),
}

AT_ZERO: dict[str, tuple[str, dict[str, object]]] = {}  # a sign of zero alone has the scale 0: see test_error_feedback

LONGER = ("rounds=25", "eval.every=5", *LOCAL[1:])  # c grows with alpha n/N a round
FLOORS = {
    "scaffold": (LOCAL, 0.6),  # best accuracy measured with seed 0: 0.765
    "scallion": (LONGER, 0.6),  # 0.788
    "scafcom": (LONGER, 0.55),  # 0.748
}


def draws(method, keys, d):
    """What QSGD rounds with, and the coin of Sign(0)."""
    if method == "scallion":
        return {"rounding": lambda t, client: streams(t, client).uniform("rounding", d)[0].double().numpy()}
    return {} if method == "scaffold" else {"coin": coin(d)}
