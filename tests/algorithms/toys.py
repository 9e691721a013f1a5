"""A method taken out of the simulator: its client and server called by hand on given numbers."""

import dataclasses

import numpy as np
import torch
from omegaconf import OmegaConf

from fedsign import config, presets
from fedsign.algorithms.base import Round
from fedsign.local.streams import Streams
from fedsign.local.training import LocalTraining, Trained
from fedsign.models.parameters import Layout, Segment
from fedsign.simulator import SERVER


def algorithm(name, **keys):
    """The method alone, with the defaults of its yaml but for the given keys."""
    files = {"algorithm": f"algorithm/{name}.yaml", "attack": "attack/none.yaml"}
    root = OmegaConf.create({group: OmegaConf.load(presets.conf_folder() / file) for group, file in files.items()})
    root["rounds"] = OmegaConf.load(presets.conf_folder() / "config.yaml")["rounds"]
    return config.build(OmegaConf.to_container(root, resolve=True)["algorithm"] | keys, "algorithm.")


def attack(name, **keys):
    """The attack alone, with the defaults of its yaml but for the given keys."""
    node = OmegaConf.load(presets.conf_folder() / "attack" / f"{name}.yaml")
    return config.build(OmegaConf.to_container(node) | keys, "attack.")


class Given(LocalTraining):
    """Local training whose outcome is given: every client ends at x - lr * v, and its gradient is v [n, d]."""

    def __init__(self, v, lr=1.0):
        self.v, self.lr = v, lr

    def train(self, x, *, correction=None, weights=None, optimizer=None, steps=None):
        return Trained(x - self.lr * self.v)

    def gradient(self, x):
        return self.v

    def log(self, name, values):
        pass


def streams(clients, t=1, seed=11):
    return Streams(seed, t, clients, torch.device("cpu"))


def flat(d):
    return Layout((Segment("x", 0, d, (d,)),), coded=d, dense=0, buffers=0, tensors=1)


def round_of(n, d, t=1, samples=None, steps=None):
    """What the server knows of round t with clients 0 to n - 1."""
    return Round(
        t=t,
        clients=list(range(n)),
        samples=torch.tensor(samples or [1] * n),
        steps=torch.tensor(steps or [1] * n),
        population=n,
        lr=1.0,
        layout=flat(d),
        streams=streams([SERVER], t),
        log=lambda name, value: None,
    )


def bits_of(row, d):
    return np.unpackbits(row.numpy(), count=d).astype(bool)


def fair_signs(n, d, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).choice([-1.0, 1.0], size=(n, d)).astype(np.float32))


def split(case):
    """``"fedsmu algorithm.bits=3"`` as overrides."""
    return [f"algorithm={case.split()[0]}", *case.split()[1:]]


class Watch:
    """Stands in for tracker, progress and interrupts: keeps the server's and the clients' state after every round.

    Attributes:
        servers, states: before the first round and after each; the clients' states have a row per client.
        cohorts: of each round.
    """

    received = None

    def __init__(self, simulator):
        self.simulator, self.cohorts, self.servers, self.states = simulator, [], [], []
        self.look()

    def look(self):
        clients = list(range(self.simulator.config.clients))
        self.servers.append(dict(self.simulator.server))
        self.states.append(self.simulator.states.read(clients, torch.device("cpu")))

    def cohort(self, t, clients):
        self.cohorts.append(clients)
        self.look()

    def metrics(self, row):
        pass

    def update(self, *progress):
        pass

    def sync(self):
        pass


def lion(gradient, x, lr, weight_decay, beta_1=0.9, beta_2=0.99):
    """x after 20 steps of Lion (Chen et al., 2023)."""
    m = np.zeros_like(x)
    for _ in range(20):
        g = gradient(x)
        update = np.sign(beta_1 * m + (1 - beta_1) * g) + weight_decay * x
        m = beta_2 * m + (1 - beta_2) * g
        x = x - lr * update
    return x


def through_bytes(data):
    """A row as it comes out of another process."""
    return torch.tensor(list(bytes(data.numpy())), dtype=torch.uint8)


def client_through_bytes(original):
    """An algorithm's `client` to which nothing but bytes is broadcast."""

    def wrapped(self, downlink, state, local, streams):
        return original(self, {k: through_bytes(v) for k, v in downlink.items()}, state, local, streams)

    return wrapped


def server_through_bytes(original):
    """An algorithm's `server` to which nothing but bytes is sent."""

    def wrapped(self, server, uplink, round):
        return original(self, server, {k: [through_bytes(r) for r in v] for k, v in uplink.items()}, round)

    return wrapped


def server_in_another_order(original):
    """An algorithm's `server` that meets its cohort of seven in another order."""
    order = [4, 0, 6, 2, 5, 1, 3]

    def wrapped(self, server, uplink, round):
        clients, samples, steps = [round.clients[i] for i in order], round.samples[order], round.steps[order]
        uplink = {name: [rows[i] for i in order] for name, rows in uplink.items()}
        round = dataclasses.replace(round, clients=clients, samples=samples, steps=steps)
        return original(self, server, uplink, round)

    return wrapped
