"""MV-sto-signSGD(-SIM), federated too, and Sto-SignSGD."""

from cases.draws import ONE_GRADIENT, coin, streams

MV = {"server_lr": 0.05, "theta": 0.9, "R": 1.0}

CASES = {
    "mv_sto_signsgd": ("mv_sto_signsgd", MV | {"theta": 0.0}, {}),
    "mv_sto_signsgd-sim": ("mv_sto_signsgd", MV | {"R": 0.3}, {}),
    "mv_sto_signsgd-zero": ("mv_sto_signsgd", MV | {"sign_zero": "zero"}, {}),
    "mv_sto_signsgd-plus": ("mv_sto_signsgd", MV | {"sign_zero": "plus"}, {}),
    "mv_sto_signsgd-look_ahead": ("mv_sto_signsgd", MV | {"theta": 0.5, "alpha": 1.0}, {}),
    "mv_sto_signsgd-server_lr_drops": ("mv_sto_signsgd", MV | {"server_lr_drops": [2]}, {}),
    "mv_sto_signsgd-server_lr_decay": ("mv_sto_signsgd", MV | {"server_lr_decay": 0.8}, {}),
    "mv_sto_signsgd-one_local_step": ("mv_sto_signsgd", MV | {"local_steps": 1}, {}),
    "mv_sto_signsgd-federated": ("mv_sto_signsgd", MV | {"local_steps": 5, "alpha": 9.0}, {"lr_decay": 0.8}),
    "sto_signsgd": ("sto_signsgd", {"server_lr": 0.05, "theta": 0.0}, {}),
    "sto_signsgd-momentum": ("sto_signsgd", {"server_lr": 0.05, "theta": 0.9}, {}),
}

AT_ZERO = {}  # a random sign of zero is a fair coin, whatever sign_zero says of the vote

FLOORS = {
    "mv_sto_signsgd": (ONE_GRADIENT, 0.6),  # best accuracy measured with seed 0: 0.764
    "sto_signsgd": (("rounds=60", "local.batch_size=200"), 0.2),  # 0.291; its noise is √d times the gradient
}


def draws(method, keys, d):
    """The uniform draws of the random signs, and the coin of a tied vote."""

    def uniform(t, client):
        return streams(t, client).uniform("sto_sign", d)[0].double().numpy()

    return {"uniform": uniform} | ({"coin": coin(d)} if method == "mv_sto_signsgd" else {})
