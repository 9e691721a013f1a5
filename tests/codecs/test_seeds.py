"""Seeds on the wire."""

import pytest
import torch

from fedsign.codecs import seeds
from fedsign.errors import PayloadError
from fedsign.local.streams import Streams


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5, 2**63 - 1])
def test_a_seed_is_eight_bytes(seed):
    data = seeds.to_bytes(seed)
    assert (data.dtype, tuple(data.shape)) == (torch.uint8, (8,))
    assert seeds.from_bytes(data) == seed


@pytest.mark.parametrize("data", [torch.zeros(7, dtype=torch.uint8), torch.zeros(8), seeds.to_bytes(2**63)])
def test_what_no_one_sends_is_refused(data):
    with pytest.raises(PayloadError):
        seeds.from_bytes(data)


def test_fresh_seeds_differ_between_clients_and_rounds_and_not_with_the_chunk():
    def drawn(round, *clients):
        return seeds.fresh(Streams(0, round, clients, torch.device("cpu")))

    assert drawn(1, 4, 7) == [*drawn(1, 4), *drawn(1, 7)]
    assert len({*drawn(1, 4, 7), *drawn(2, 4, 7)}) == 4


def test_the_seed_of_a_vector_follows_its_values():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert seeds.of(x) == seeds.of(x.clone()) != seeds.of(-x)
