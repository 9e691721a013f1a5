"""Ranks: who trains whom, and that all of them know the same."""

import os
import signal
import time
from itertools import chain, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsign.errors import FedsignError
from fedsign.execution.launch import launch
from fedsign.execution.ranks import LostRankError, Ranks


def shares(samples, size, machines=1, pinned=False):
    cohort = list(range(10, 10 + len(samples)))
    per_machine = size // machines
    every = [Ranks(r, size, r // per_machine, machines) for r in range(size)]
    return cohort, [ranks.share(cohort, samples, pinned) for ranks in every]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.integers(1, 5))
def test_every_client_has_one_rank_and_keeps_its_place(samples, size):
    cohort, parts = shares(samples, size)
    assert sorted(chain(*parts)) == cohort
    assert all(a < b for part in parts for a, b in pairwise(part))


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.integers(1, 5))
def test_the_longest_share_is_at_most_four_thirds_of_the_best(samples, size):
    """Graham's bound for longest first; the best is at least the mean and the longest client."""
    cohort, parts = shares(samples, size)
    loads = [sum(samples[cohort.index(c)] for c in part) for part in parts]
    ranked = sorted(samples, reverse=True)
    pairs = ranked[size - 1] + ranked[size] if len(samples) > size else 0  # two of the size + 1 longest share a rank
    best = max(sum(samples) / size, ranked[0], pairs)
    assert max(loads) <= (4 / 3) * best + 1e-9 or max(loads) == best


def test_longest_first_by_hand():
    assert shares([5, 9, 4, 4, 2], 2)[1] == [[11, 13], [10, 12, 14]]


def test_a_client_with_state_stays_on_the_machine_of_its_id():
    cohort, parts = shares([3, 1, 4, 1, 5, 9, 2, 6], size=4, machines=2, pinned=True)
    assert sorted(parts[0] + parts[1]) == [c for c in cohort if c % 2 == 0]
    assert sorted(parts[2] + parts[3]) == [c for c in cohort if c % 2 == 1]


def rows_of(client):
    """Rows whose lengths differ from client to client; one may be empty."""
    return {
        "a": torch.full((client % 4,), client, dtype=torch.uint8),
        "b": torch.tensor([client / 7], dtype=torch.float64).view(torch.uint8),
    }


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_rows_come_back_in_the_order_of_the_cohort(workers):
    cohort = [9, 2, 5, 7]

    def body(ranks):
        mine = ranks.share(cohort, [1, 1, 1, 1], pinned=False)
        for _ in range(3):
            kept, rows = ranks.gather(cohort, mine, {n: [rows_of(c)[n] for c in mine] for n in ("a", "b")})
        return kept, rows, ranks.agree(ranks.rank)

    kept, rows, largest = launch(workers, body)
    assert kept == cohort
    assert largest == workers - 1
    for i, client in enumerate(cohort):
        assert torch.equal(rows["a"][i], rows_of(client)["a"])
        assert float(rows["b"][i].view(torch.float64)) == client / 7


def test_more_ranks_than_clients(workers=4):
    def body(ranks):
        mine = ranks.share([3], [10], pinned=False)
        kept, rows = ranks.gather([3], mine, {"a": [torch.ones(5, dtype=torch.uint8)]} if mine else {})
        return kept, rows["a"][0].tolist()

    assert launch(workers, body) == ([3], [1] * 5)


def test_clients_that_were_dropped_are_left_out():
    def body(ranks):
        mine = [4] if ranks.first else []
        return ranks.gather([4, 6], mine, {"a": [torch.ones(1, dtype=torch.uint8)]} if mine else {})

    kept, rows = launch(2, body)
    assert kept == [4] and len(rows["a"]) == 1


@pytest.mark.parametrize("workers", [1, 3])
def test_measurements_come_back_in_their_order(workers):
    found = launch(workers, lambda ranks: ranks.each(7, lambda i: torch.tensor([i, i / 3])))
    assert torch.equal(torch.stack(found), torch.tensor([[i, i / 3] for i in range(7)]).double())


def test_no_measurement_is_none():
    assert launch(2, lambda ranks: ranks.each(0, lambda i: torch.ones(1))) == []


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_one_rank_is_raised_on_all(failing):
    def body(ranks):
        return ranks.gather([1], [], {}, error="client 1: no" if ranks.rank == failing else None)

    with pytest.raises(FedsignError, match="client 1: no"):
        launch(2, body)


def test_what_a_rank_raises_by_itself_reaches_the_first():
    def body(ranks):
        if ranks.rank == 1:
            raise FedsignError("the disk is full")
        return ranks.agree(0)

    with pytest.raises(FedsignError, match="the disk is full"):
        launch(2, body)


@pytest.mark.parametrize("busy", ["waiting", "training"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1])
def test_a_dead_rank_ends_the_others_at_once(busy, number):
    """Whether the first waits for it or is in the middle of its own work."""

    def body(ranks):
        if ranks.rank == 1:
            os.kill(os.getpid(), number)
        if ranks.rank == 0 and busy == "training":
            time.sleep(60)
        return ranks.agree(0)

    started = time.monotonic()
    with pytest.raises(LostRankError, match=rf"worker 1 ended by {number.name}.*goes on"):
        launch(3, body)
    assert time.monotonic() - started < 10


def test_ranks_end_with_the_first():
    """Killed by the kernel when their parent is: none is left behind."""
    read, write = os.pipe()

    def body(ranks):
        if not ranks.first:
            os.write(write, b"here\n")
            time.sleep(60)
        ranks.agree(0)

    first = os.fork()
    if first == 0:
        launch(3, body)
        os._exit(0)
    with os.fdopen(read) as lines:
        os.close(write)
        assert [lines.readline() for _ in range(2)] == ["here\n"] * 2
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        assert lines.read() == ""  # their end of the pipe closes when they are gone
