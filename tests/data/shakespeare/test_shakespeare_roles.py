"""Which roles and windows are kept, and what a batch is."""

import math

import numpy as np
import pytest
import torch
from plays import ROLES, TEXTS, WINDOW, decoded, joined, leaf, samples, split, text
from refusals import refusal

from fedsign.config import build
from fedsign.data import shakespeare
from fedsign.data.shakespeare import ALPHABET, encode
from fedsign.errors import ConfigError

pytestmark = pytest.mark.usefixtures("cache")


def windows_of(lengths, write_json):
    """Users with so many training and test windows each, of one letter, so that a window tells its role."""
    parts = ({}, {})
    for role, counts in enumerate(lengths):
        for part, count in zip(parts, counts, strict=True):
            part[f"role{role}"] = samples(text(count + WINDOW, seed=role))
    for which, part in zip(("train", "test"), parts, strict=True):
        write_json(which, part)
    return [list(part.values()) for part in parts]


def runs_of(part, whole):
    """Where a list of samples lies within another, None if it is not a consecutive part."""
    starts = [i for i in range(len(whole) - len(part) + 1) if whole[i : i + len(part)] == part]
    return starts[0] if starts else None


def test_only_roles_with_more_windows_than_asked_for_are_kept(task, write_json):
    lengths = [(31, 13), (30, 13), (31, 12), (60, 40), (29, 50), (31, 13)]
    train, test = windows_of(lengths, write_json)
    loaded = task(train_windows=30, test_windows=12)
    kept, tested = decoded(loaded)
    assert len(kept) == 3
    for part, role in zip(kept, (0, 3, 5), strict=True):
        assert len(part) == 30
        assert runs_of(part, train[role]) is not None
    for part, role in zip((tested[:12], tested[12:24], tested[24:]), (0, 3, 5), strict=True):
        assert runs_of(part, test[role]) is not None


def test_too_many_roles_are_refused_with_how_many_there_are(dataset, write_json):
    windows_of([(31, 13), (30, 13), (31, 13)], write_json)
    dataset(roles=2, train_windows=30, test_windows=12).load()
    message = refusal(dataset(roles=3, train_windows=30, test_windows=12).load, ConfigError)
    assert "dataset.roles=3" in message
    assert "2 roles" in message


@pytest.mark.parametrize("roles", [1, None])
def test_no_role_that_is_long_enough_is_refused(dataset, write_json, roles):
    windows_of([(31, 13), (30, 13)], write_json)
    message = refusal(dataset(roles=roles, train_windows=400, test_windows=12).load, ConfigError)
    assert "0 roles" in message


def test_no_user_of_both_splits_is_refused(dataset, write_json):
    write_json("train", {"A": samples(text(200))})
    write_json("test", {"B": samples(text(200))})
    assert "0 roles" in refusal(dataset().load, ConfigError)


def chosen(loaded, whole):
    """Roles that were kept and where the windows of each start."""
    return [(role, runs_of(part, w)) for part in loaded for role, w in enumerate(whole) if runs_of(part, w) is not None]


def test_draws_are_those_of_the_dataset(task, write_json):
    train, _ = windows_of([(50, 20)] * 8, write_json)
    draws = [
        chosen(decoded(task(roles=4, train_windows=20, test_windows=9, draw=draw))[0], train) for draw in (0, 0, 1, 2)
    ]
    assert all(len(draw) == 4 and draw == sorted(draw) for draw in draws)
    assert draws[0] == draws[1]
    assert draws[0] != draws[2] != draws[3] != draws[0]
    assert len({start for _, start in joined(draws)}) > 3


def test_draws_do_not_depend_on_the_runs_seed(resolved, write_json, tmp_path):
    windows_of([(50, 20)] * 8, write_json)
    choice = ("dataset=shakespeare", f"dataset.root={tmp_path}", "dataset.roles=4")
    lengths = ("dataset.train_windows=20", "dataset.test_windows=9")
    loaded = [build(resolved(*choice, *lengths, f"seed={s}")["dataset"], "dataset.").load() for s in (0, 1)]
    assert np.array_equal(loaded[0].train, loaded[1].train)
    assert np.array_equal(loaded[0].test, loaded[1].test)


def test_roles_and_starts_are_drawn_uniformly(dataset, write_json):
    windows_of([(31, 13)] * 4, write_json)
    draws, kept, late = 400, np.zeros(4), np.zeros(4)
    for draw in range(draws):
        windows = dataset(roles=1, train_windows=30, test_windows=12, draw=draw).load()
        role, start = divmod(int(windows.train[0]), 31 + WINDOW)
        kept[role] += 1
        late[role] += start
    assert (abs(kept - draws / 4) < 5 * math.sqrt(draws * 3 / 16)).all()  # SE of a binomial count
    assert (abs(late - kept / 2) < 5 * np.sqrt(kept / 4)).all()


def test_windows_of_a_split_are_all_kept_where_none_are_asked_for(task, write_json):
    train, test = windows_of([(31, 13), (40, 20)], write_json)
    assert decoded(task(train_windows=None, test_windows=None)) == (train, joined(test))
    assert decoded(task(train_windows=None, test_windows=5))[0] == train
    assert decoded(task(train_windows=5, test_windows=None))[1] == joined(test)


def test_owners_are_numbered_without_gaps(task, write_json):
    windows_of([(10, 13), (31, 13), (12, 13), (45, 20)], write_json)
    assert task(train_windows=30, test_windows=12).owners.tolist() == [0] * 30 + [1] * 30


def test_fraction_must_leave_something_for_testing(dataset):
    dataset(train_fraction=0.99).check()
    assert "dataset.train_fraction=1" in refusal(dataset(train_fraction=1.0).check, ConfigError)


# Memory, cache, task


def test_text_of_roles_is_kept_once(dataset, write_texts):
    write_texts({"A": text(5000), "B": text(3000)})
    windows = dataset().load()
    assert windows.text.dtype == np.uint8
    assert windows.text.nbytes == 8000
    assert windows.train.shape == windows.owner_train.shape


def test_text_of_json_is_kept_about_once(dataset, write_json):
    train, test = leaf({"A": text(5000), "B": text(3000)})
    write_json("train", train)
    write_json("test", test)
    windows = dataset().load()
    assert windows.text.dtype == np.uint8
    assert windows.text.nbytes < 1.01 * 8000


def test_texts_are_read_once(task, write_texts, monkeypatch):
    write_texts(ROLES)
    first = decoded(task())
    monkeypatch.setattr(shakespeare, "_from_texts", lambda *args: pytest.fail("read again"))
    assert decoded(task()) == first
    assert len(decoded(task(roles=1))[0]) == 1


def test_json_is_read_once(task, write_json, monkeypatch):
    for which, part in zip(("train", "test"), leaf(ROLES), strict=True):
        write_json(which, part)
    first = decoded(task())
    monkeypatch.setattr(shakespeare, "_from_json", lambda *args: pytest.fail("read again"))
    assert decoded(task()) == first


def test_another_fraction_is_not_taken_from_the_cache(task, write_texts):
    write_texts(ROLES)
    for fraction in (0.5, 0.75, 0.5):
        assert decoded(task(train_fraction=fraction))[0] == [split(role, fraction)[0] for role in TEXTS]


def test_changed_text_is_read_again(task, write_texts):
    write_texts({"A": text(300)})
    task(train_fraction=0.5)
    write_texts({"A": text(310)})
    assert decoded(task(train_fraction=0.5))[0] == [split(text(310), 0.5)[0]]


def test_batch_is_of_windows_and_the_characters_after_them(task, write_texts):
    write_texts({"A": text(400), "B": text(300)})
    loaded = task(train_fraction=0.5)
    train = joined(split(role, 0.5)[0] for role in (text(400), text(300)))
    chosen = [200, 3, 3, 0, 161]
    x, y = loaded.batch(torch.tensor(chosen), np.random.default_rng(0))
    assert (x.shape, y.shape) == ((5, WINDOW), (5,))
    assert x.dtype == y.dtype == torch.int64
    assert x.tolist() == [encode(train[i][0]).tolist() for i in chosen]
    assert y.tolist() == [ALPHABET.index(train[i][1]) for i in chosen]


def test_shape_labels_and_owners_are_those_of_the_data(task, dataset, write_texts):
    write_texts(ROLES)
    loaded = task()
    assert (loaded.shape, loaded.classes) == dataset().dimensions() == ((WINDOW,), 80)
    assert loaded.labels.dtype == np.int64
    assert loaded.labels.tolist() == loaded.y_train.tolist()
    assert len(loaded.owners) == len(loaded.labels)


def test_evaluation_counts_the_characters_that_are_right(task, write_texts):
    write_texts({"A": text(400), "B": text(300)})

    class Last(torch.nn.Module):
        def forward(self, x):
            assert x.shape[1:] == (WINDOW,)
            return 10.0 * torch.nn.functional.one_hot(x[:, -1], 80)

    test = joined(split(role, 0.5)[1] for role in (text(400), text(300)))
    right = sum(x[-1] == y for x, y in test)
    columns = task(train_fraction=0.5).evaluate(Last(), "test", 17)
    assert columns["test_accuracy"] == right / len(test)
    loss = math.log(79 + math.exp(10)) - 10 * right / len(test)
    assert columns["test_loss"] == pytest.approx(loss, rel=1e-5)
