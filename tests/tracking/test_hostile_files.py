"""Files that a bad disk has changed: noticed, whatever the change, and never unpickled."""

import numpy as np
import pytest
import torch
from mutations import mutated

from fedsign.data.arrays import read_npz
from fedsign.data.cache import cached
from fedsign.durable import load_npz, save_npz
from fedsign.errors import DataError, FedsignError
from fedsign.federation.state import ClientStates
from fedsign.tracking.checkpoint import Checkpoints, Snapshot

FILES = 10_000
CPU = torch.device("cpu")


def test_mutated_checkpoint_is_not_gone_back_to(tmp_path, capsys):
    for t in (1, 2):
        checkpoint = Snapshot(t, False, {"x": torch.ones(2) * t}, torch.ones(1), np.zeros(2, np.int8), {"b": 1.0})
        Checkpoints(tmp_path / str(t)).save(checkpoint)
    newest, rng = tmp_path / "2/round_000002.npz", np.random.default_rng(0)
    whole = newest.read_bytes()
    for i in range(FILES):
        newest.write_bytes(mutated(whole, rng))
        with pytest.raises(FedsignError, match="no checkpoint can be used"):
            Checkpoints(tmp_path / "2").load(CPU, lambda slots: True)
        if i % 50 == 0:
            (tmp_path / "1/round_000002.npz").write_bytes(newest.read_bytes())
            (found,) = Checkpoints(tmp_path / "1").load(CPU, lambda slots: True)
            assert found.t == 1
    assert capsys.readouterr().err.count("2/round_000002.npz is damaged") == FILES


def test_mutated_rows_of_state_are_noticed(tmp_path):
    states = ClientStates(tmp_path, ("m",), 3, 4)
    states.write([0, 1, 2], {"m": torch.arange(12.0).view(3, 4)})
    table, file, rng = states.commit(), tmp_path / "state_m.f32", np.random.default_rng(0)
    whole = file.read_bytes()
    used = np.zeros(len(whole), bool)  # the slots that the table refers to
    for client in range(3):
        used[client * 60 : client * 60 + 20] = True
    for _ in range(1000):
        data = mutated(whole, rng)
        file.write_bytes(data)
        changed = np.frombuffer(data[: len(whole)].ljust(len(whole), b"\1"), np.uint8) != np.frombuffer(whole, np.uint8)
        assert states.intact(table) == (not (changed & used).any())


def test_mutated_cache_is_read_from_the_source_again(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSIGN_CACHE", str(tmp_path / "cache"))
    source, rng = tmp_path / "source", np.random.default_rng(0)
    source.write_bytes(b"data")
    arrays = {"x": np.arange(30, dtype=np.uint8).reshape(10, 3), "y": np.arange(10)}
    cached("mine", [source], lambda: arrays)
    (path,) = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()
    for _ in range(300):
        path.write_bytes(mutated(whole, rng))
        found = cached("mine", [source], lambda: arrays)
        assert found.keys() == arrays.keys()
        assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
        assert path.read_bytes()[-32:] == whole[-32:] or load_npz(path).keys() == arrays.keys()


@pytest.mark.filterwarnings("ignore")
def test_mutated_data_of_a_user_are_refused_or_harmless(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "mine.npz"
    x, y = rng.integers(256, size=(11, 3, 3), dtype=np.uint8), np.arange(11) % 3
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    whole, refused = path.read_bytes(), 0
    for _ in range(1000):
        path.write_bytes(mutated(whole, rng))
        try:
            found = read_npz(path)
        except DataError:
            refused += 1
        else:
            assert np.array_equal(found.x_train[..., 0], x) and np.array_equal(found.y_test, y)
    assert refused > 500


class Bomb:
    """Shows that it was unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_pickles_are_not_loaded(tmp_path):
    objects = np.empty(1, dtype=object)
    objects[0] = Bomb()
    save_npz(tmp_path / "round_000001.npz", {"t": objects})
    with pytest.raises(ValueError, match="allow_pickle"):
        load_npz(tmp_path / "round_000001.npz")
