"""FedSMU and its variants."""

from cases.draws import LOCAL, coin

LION = {"beta_1": 0.9, "beta_2": 0.99, "gamma_1": 0.05, "gamma_2": 0.1}
EQUAL_BETAS = LION | {"beta_2": 0.9}

CASES = {
    "fedsmu": ("fedsmu", LION, {}),
    "fedsmu-equal_betas": ("fedsmu", EQUAL_BETAS, {}),
    "fedsmu-no_momentum": ("fedsmu", LION | {"beta_1": 0.0}, {}),
    "fedsmu-gamma_1_decay": ("fedsmu", LION | {"gamma_1_decay": 0.8}, {}),
    "fedsmu-lr_decay": ("fedsmu", LION, {"lr_decay": 0.8}),
    "fedsmu-majority": ("fedsmu", LION | {"aggregate": "majority"}, {}),
    "fedsmu-majority-zero": ("fedsmu", LION | {"aggregate": "majority", "sign_zero": "zero"}, {}),
    "fedsmu-majority-plus": ("fedsmu", LION | {"aggregate": "majority", "sign_zero": "plus"}, {}),
    "fedsmu-3bits": ("fedsmu", LION | {"bits": 3}, {}),
    "fedsmu-8bits": ("fedsmu", LION | {"bits": 8}, {}),
    "fedsmu-32bits": ("fedsmu", LION | {"bits": 32}, {}),
    "fedsmumc": ("fedsmumc", LION, {}),
    "fedsmumc-equal_betas": ("fedsmumc", EQUAL_BETAS, {"lr_decay": 0.8}),
    "fed_locallion": ("fed_locallion", LION, {}),
    "fed_locallion-server_lr": ("fed_locallion", LION | {"server_lr": 0.5}, {}),
    "fed_globallion": ("fed_globallion", LION, {}),
}

DYADIC = {"beta_1": 0.5, "beta_2": 0.5, "gamma_1": 2.0**-6, "gamma_2": 0.0}
AT_ZERO = {
    "fedsmu": ("fedsmu", DYADIC),
    "fedsmu-majority": ("fedsmu", DYADIC | {"aggregate": "majority"}),
    "fedsmumc": ("fedsmumc", DYADIC),
    "fed_locallion": ("fed_locallion", DYADIC),
    "fed_globallion": ("fed_globallion", DYADIC),
}

FLOORS = {
    "fedsmu": (LOCAL, 0.8),  # 0.909
    "fedsmumc": (LOCAL, 0.75),  # 0.884
    "fed_locallion": (LOCAL, 0.6),  # 0.806
    "fed_globallion": (LOCAL, 0.55),  # 0.719
}


def draws(method, keys, d):
    """The coin of Sign(0)."""
    return {"coin": coin(d)}
