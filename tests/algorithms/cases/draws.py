"""What the cases share: the random draws of a run, for a naive loop to be fed with, and short trainings."""

import naive
import numpy as np
import torch

from fedsign.local.streams import Streams
from fedsign.simulator import SERVER

SEED = 3

# Local training of the runs that show that a method learns.
LOCAL = ("rounds=8", "local.epochs=1", "local.batch_size=50")
ONE_GRADIENT = ("rounds=20", "local.batch_size=200")  # a client's whole data


def streams(t, client):
    """The stream of one client, or of the server, in round t."""
    return Streams(SEED, t, [SERVER if client == naive.SERVER else client], torch.device("cpu"))


def coin(d):
    """What Sign(0) is with sign_zero=random."""

    def draw(t, client):
        return np.where(streams(t, client).uniform("sign_zero", d)[0].numpy() < 0.5, 1.0, -1.0)

    return draw
