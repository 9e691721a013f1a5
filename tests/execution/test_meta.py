"""A whole round on a device without values: nothing in it may look at a number or lie on another device."""

import pytest
import torch
from test_workers import METHODS, NEEDS, problem

from fedsign import simulator
from fedsign.codecs import seeds
from fedsign.config import Config
from fedsign.execution import setup
from fedsign.local.streams import Streams
from fedsign.simulator import Simulator

META = torch.device("meta")
LOOKS = {  # methods whose messages have to be looked at
    "drive": "the seeds of its rotations are read from the bytes", "eden": "as drive",
    "topk": "the shortest coding of the places has the length that they give it", "fedsparsify": "k is counted",
}  # fmt: skip


@pytest.fixture
def valueless(monkeypatch):
    """What meets the host by its nature: draws that start from it, and clients' state that is kept on it."""
    for draw in ("uniform", "normal"):
        monkeypatch.setattr(Streams, draw, lambda self, purpose, d: torch.empty(len(self.clients), d, device=META))
    monkeypatch.setattr(Streams, "generator", lambda self, purpose, row: None)
    monkeypatch.setattr(simulator, "ClientStates", States)
    monkeypatch.setattr(seeds, "from_bytes", lambda data: 0)
    monkeypatch.setattr(seeds, "of", lambda x: 0)
    monkeypatch.setattr(setup, "device_of", lambda config: META)


class States:
    """Clients' state that stays on the device."""

    def __init__(self, folder, names, clients, d, start):
        self.names, self.d = names, d

    def read(self, clients, device):
        state = {name: torch.empty(len(clients), self.d, device=device) for name in self.names}
        return state | {"new": torch.empty(len(clients), dtype=torch.bool, device=device)}

    def write(self, clients, states):
        check(states[name] for name in self.names)

    def written(self, clients):
        pass

    intact = None


def check(tensors):
    for tensor in tensors:
        assert tensor.device == META


@pytest.mark.parametrize("vectorise", ["false", "true"])
@pytest.mark.parametrize("method", sorted({*METHODS} - {*LOOKS}))
def test_a_round_looks_at_no_number(valueless, resolved, method, vectorise):
    if method in NEEDS:
        vectorise = "false"  # a model with batch statistics
    config = Config(resolved(*problem(method), f"hardware.vectorise={vectorise}", "eval.mu_index=false"))
    made = Simulator(config, setup.build(config))
    columns = made._round(1, [0, 2, 5])
    check([value for name, value in made.server.items() if name != "seed"] + [made.tail])
    check(value for value in columns.values() if isinstance(value, torch.Tensor))
    assert made.counters["uplink_bits"] > 0


@pytest.mark.parametrize("method", LOOKS)
def test_a_message_that_has_to_be_looked_at_is(valueless, resolved, method):
    config = Config(resolved(*problem(method), "eval.mu_index=false"))
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        Simulator(config, setup.build(config))._round(1, [0, 2, 5])


def test_a_stray_look_at_a_number_is_found(valueless, resolved, monkeypatch):
    config = Config(resolved(*problem("fedsmu"), "eval.mu_index=false"))
    client = type(config.algorithm).client

    def curious(self, downlink, state, local, streams):
        sent, state = client(self, downlink, state, local, streams)
        assert float(state["m"].mean()) < 1
        return sent, state

    monkeypatch.setattr(type(config.algorithm), "client", curious)
    with pytest.raises(RuntimeError, match="meta"):
        Simulator(config, setup.build(config))._round(1, [0, 2, 5])
