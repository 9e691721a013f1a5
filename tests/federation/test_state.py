"""Per-client state: rows that stay, sparse files, and checkpoints that later writes cannot touch."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsign.errors import FedsignError
from fedsign.federation.state import ClientStates

CPU = torch.device("cpu")
CLIENTS, D = 6, 5


@pytest.fixture
def states(tmp_path):
    return ClientStates(tmp_path, ("m", "c"), CLIENTS, D)


def rows(n, value):
    """Recognisable states of n clients."""
    return {"m": torch.full((n, D), float(value)), "c": torch.full((n, D), -float(value))}


def first_column(store, clients=range(CLIENTS)):
    read = store.read(list(clients), CPU)
    assert torch.equal(read["c"], -read["m"])
    return read["m"][:, 0].tolist()


def test_state_is_zero_before_the_first_write(states):
    read = states.read([4, 0], CPU)
    assert set(read) == {"m", "c", "new"}
    assert all(torch.equal(read[name], torch.zeros(2, D)) for name in ("m", "c"))
    assert all(read[name].dtype == torch.float32 for name in ("m", "c"))


def test_client_is_new_until_its_first_write_whatever_it_writes(states):
    assert states.read([0, 1, 2], CPU)["new"].tolist() == [True, True, True]
    states.write([1], rows(1, 0))
    assert states.read([0, 1, 2], CPU)["new"].tolist() == [True, False, True]


def test_going_back_makes_later_clients_new_again(states):
    states.write([1], rows(1, 1))
    table = states.commit()
    states.write([2], rows(1, 1))
    states.restore([table])
    assert states.read([0, 1, 2], CPU)["new"].tolist() == [True, False, True]


def test_state_before_the_first_write_may_be_given(tmp_path):
    start = torch.arange(float(D))
    states = ClientStates(tmp_path, ("m", "x"), CLIENTS, D, {"x": start})
    states.write([2], {"m": torch.ones(1, D), "x": -torch.ones(1, D)})
    read = states.read([2, 0], CPU)
    assert torch.equal(read["x"], torch.stack([-torch.ones(D), start]))
    assert torch.equal(read["m"], torch.stack([torch.ones(D), torch.zeros(D)]))


def test_rows_are_read_back_in_the_order_asked_for(states):
    written = {name: torch.randn(3, D, generator=torch.Generator().manual_seed(0)) for name in ("m", "c")}
    states.write([1, 3, 4], written)
    read = states.read([4, 1, 3], CPU)
    assert all(torch.equal(read[name], written[name][[2, 0, 1]]) for name in ("m", "c"))


def test_absent_clients_keep_their_state(states):
    states.write([0, 2], rows(2, 1))
    states.write([2, 5], rows(2, 2))
    assert first_column(states) == [1, 0, 2, 0, 0, 2]


def test_changing_what_was_read_or_written_changes_no_state(states):
    written = rows(1, 3)
    states.write([1], written)
    written["m"].zero_()
    states.read([1], CPU)["m"].zero_()
    assert first_column(states, [1]) == [3]


def test_files_take_the_space_of_the_rows_written(tmp_path):
    d = 2**18
    states = ClientStates(tmp_path, ("m",), 500, d)
    file = tmp_path / "state_m.f32"
    assert file.stat().st_blocks == 0
    states.write([3, 400], {"m": torch.ones(2, d)})
    states.commit()
    assert 2 * d * 4 <= file.stat().st_blocks * 512 < 10 * d * 4


def reopened(folder, table, clients=CLIENTS):
    """The store as a resumed run finds it."""
    states = ClientStates(folder, ("m", "c"), clients, D)
    assert states.intact(table)
    states.restore([table])
    return states


def test_commit_survives_any_number_of_later_writes(tmp_path, states):
    states.write([0, 1], rows(2, 1))
    table = states.commit()
    for value in range(2, 12):
        states.write([1, 2], rows(2, value))
        assert first_column(states) == [1, value, value, 0, 0, 0]
    assert first_column(reopened(tmp_path, table)) == [1, 1, 0, 0, 0, 0]


def test_commit_can_be_gone_back_to_without_reopening(states):
    states.write([0, 1], rows(2, 1))
    table = states.commit()
    states.write([1, 2], rows(2, 2))
    states.restore([table])
    assert first_column(states) == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("back_to", [2, 3])
def test_last_two_commits_are_kept(tmp_path, states, back_to):
    tables, expected = [], []
    for value in (1, 2, 3, 4):
        states.write([0, value], rows(2, value))
        tables.append(states.commit())
        expected.append(first_column(states))
    for value in range(5, 9):
        states.write(list(range(CLIENTS)), rows(CLIENTS, value))
    assert first_column(reopened(tmp_path, tables[back_to])) == expected[back_to]


def test_run_that_dies_again_and_again_finds_the_same_commit(tmp_path, states):
    states.write([0, 1], rows(2, 1))
    table = states.commit()
    for value in (5, 6, 7):
        states.write([0, 1, 2], rows(3, value))
        states = reopened(tmp_path, table)
        assert first_column(states) == [1, 1, 0, 0, 0, 0]


def test_store_starts_from_zero_until_a_commit_is_gone_back_to(tmp_path, states):
    states.write([0, 1], rows(2, 1))
    states.commit()
    assert first_column(ClientStates(tmp_path, ("m", "c"), CLIENTS, D)) == [0] * CLIENTS


def test_table_of_a_commit_does_not_move_with_later_writes(states):
    states.write([0], rows(1, 1))
    table = states.commit()
    before = table.copy()
    states.write([0, 1], rows(2, 2))
    assert np.array_equal(table, before)


steps = st.one_of(
    st.just("commit"),
    st.sampled_from(["restore last", "restore first kept"]),
    st.lists(st.integers(0, CLIENTS - 1), min_size=1, max_size=CLIENTS, unique=True),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(history=st.lists(steps, max_size=25))
def test_any_history_reads_as_plain_copies_would(history):
    with tempfile.TemporaryDirectory() as folder:
        states = ClientStates(Path(folder), ("m", "c"), CLIENTS, D)
        current, kept = [0.0] * CLIENTS, []
        for value, step in enumerate(history, start=1):
            if step == "commit":
                kept = [*kept[-1:], (states.commit(), current)]
            elif isinstance(step, list):
                states.write(step, rows(len(step), value))
                current = [value if client in step else old for client, old in enumerate(current)]
            elif kept:
                kept = [kept[-1] if step == "restore last" else kept[0]]
                current = kept[0][1]
                states = reopened(Path(folder), kept[0][0])
            assert first_column(states) == current


def test_older_of_two_commits_stays_whole_after_going_back_to_the_newer(tmp_path, states):
    tables = []
    for value in (1, 2):
        states.write([0, 1], rows(2, value))
        tables.append(states.commit())
    states = ClientStates(tmp_path, ("m", "c"), CLIENTS, D)
    states.restore(tables[::-1])
    states.write([0, 1, 2], rows(3, 3))
    assert states.intact(tables[0]) and states.intact(tables[1])
    assert first_column(reopened(tmp_path, tables[0])) == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("clients", [CLIENTS - 1, CLIENTS + 1])
def test_table_of_other_clients_is_not_intact(states, clients):
    assert not states.intact(np.full(clients, -1, np.int8))


@pytest.mark.parametrize("d", [D - 1, D + 1])
def test_rows_of_another_length_are_not_intact(tmp_path, states, d):
    states.write([0, 1], rows(2, 1))
    table = states.commit()
    assert states.intact(table)
    assert not ClientStates(tmp_path, ("m", "c"), CLIENTS, d).intact(table)


@pytest.mark.parametrize("missing", ["m", "c"])
def test_commit_whose_files_are_gone_is_not_intact(tmp_path, states, missing):
    states.write([0], rows(1, 1))
    table = states.commit()
    (tmp_path / f"state_{missing}.f32").unlink()
    assert not ClientStates(tmp_path, ("m", "c"), CLIENTS, D).intact(table)


def test_damage_anywhere_in_a_row_is_noticed(tmp_path, states):
    states.write([2], rows(1, 1))
    table, file = states.commit(), tmp_path / "state_c.f32"
    whole = file.read_bytes()
    for place in range(len(whole) - 4 * D - 4, len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        assert not states.intact(table)
        with pytest.raises(FedsignError, match="the state of client 2 is damaged"):
            states.read([0, 2], CPU)
    file.write_bytes(whole)
    assert states.intact(table)
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert not states.intact(table)


def test_rows_are_on_the_disk_when_they_are_committed(tmp_path, states, monkeypatch):
    synced, fsync = [], os.fsync

    def note(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    states.write([0], rows(1, 1))
    monkeypatch.setattr(os, "fsync", note)
    states.commit()
    assert sorted(synced) == ["state_c.f32", "state_m.f32"]


def test_commit_before_the_first_write_needs_no_files(tmp_path, states):
    table = states.commit()
    states.discard()
    assert first_column(reopened(tmp_path, table)) == [0] * CLIENTS


def test_discarded_state_leaves_no_files(tmp_path, states):
    states.write([0], rows(1, 1))
    states.discard()
    assert list(tmp_path.iterdir()) == []


def test_method_without_state_leaves_no_files(tmp_path):
    states = ClientStates(tmp_path / "none", (), CLIENTS, D)
    states.write([0, 1], {})
    assert states.read([0, 1], CPU) == {}
    states.restore([states.commit()])
    states.discard()
    assert not (tmp_path / "none").exists()
