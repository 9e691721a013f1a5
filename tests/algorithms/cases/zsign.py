"""z-SignFedAvg."""

from cases.draws import LOCAL, coin, streams

ZSIGN = {"sigma": 1.0, "server_lr": 0.5}

CASES = {
    "zsign-no_noise": ("zsign", {"sigma": 0.0, "server_lr": 0.5}, {}),
    "zsign-gaussian": ("zsign", ZSIGN | {"z": 1}, {}),
    "zsign-uniform": ("zsign", ZSIGN | {"z": "inf"}, {}),
    "zsign-2": ("zsign", ZSIGN | {"z": 2}, {}),
    "zsign-0.5": ("zsign", ZSIGN | {"z": 0.5}, {}),
    "zsign-200": ("zsign", ZSIGN | {"z": 200}, {}),
    "zsign-lr_decay": ("zsign", ZSIGN | {"z": 1}, {"lr_decay": 0.8}),
    "zsign-update": ("zsign", {"sigma": 0.2, "server_lr": 0.5, "z": 1, "noise_scale": "update"}, {}),
    "zsign-update-uniform": ("zsign", {"sigma": 0.2, "server_lr": 0.5, "z": "inf", "noise_scale": "update"}, {}),
}

AT_ZERO = {
    "zsign": ("zsign", {"sigma": 0.0, "server_lr": 0.25}),
}

FLOORS = {
    "zsign": (LOCAL, 0.6),  # 0.769
}


def draws(method, keys, d):
    """The noise of the run, and the coin of Sign(0)."""
    return {"noise": z_noise(keys.pop("z", 1), d), "coin": coin(d)}


def z_noise(z, d):
    def draw(t, client):
        source = streams(t, client)
        if z == 1:
            return source.normal("z_noise", d)[0].double().numpy()
        uniform = 2 * source.uniform("z_noise", d)[0].double().numpy() - 1
        if z == "inf":
            return uniform
        radius = source.gamma("z_noise_radius", d, 1 + 1 / (2 * z))[0].double().numpy()
        return uniform * (2 * radius) ** (1 / (2 * z))

    return draw
