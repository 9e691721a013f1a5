"""Shakespeare from texts per role and from LEAF's json, against slices of the texts."""

import json
import math

import numpy as np
import pytest
import torch
from refusals import refusal

from fedsign.config import build
from fedsign.data import shakespeare, tasks
from fedsign.data.shakespeare import ALPHABET, encode
from fedsign.errors import ConfigError

pytestmark = pytest.mark.usefixtures("cache")

WINDOW = 80
FOLDER = "shakespeare"
ALL = {"roles": None, "train_windows": None, "test_windows": None}


def text(length, seed=0):
    return "".join(np.random.default_rng([length, seed]).choice(list(ALPHABET), length))


def samples(text):
    """All windows of a text, each with the character that follows."""
    return [(text[i : i + WINDOW], text[i + WINDOW]) for i in range(len(text) - WINDOW)]


def split(text, fraction):
    """Training and test samples of a role by LEAF's rule."""
    every = samples(text)
    n = int(fraction * len(every))
    return every[:n], every[n + WINDOW - 1 :]


def decoded(task):
    """Training samples of each role, and the test samples, as texts."""

    def pairs(inputs, targets):
        rows = inputs(torch.arange(len(targets)))
        return [
            ("".join(ALPHABET[i] for i in x), ALPHABET[y]) for x, y in zip(rows.tolist(), targets.tolist(), strict=True)
        ]

    every = pairs(task.train_inputs, task.y_train)
    train = [
        [sample for sample, owner in zip(every, task.owners, strict=True) if owner == role]
        for role in range(max(task.owners) + 1)
    ]
    return train, pairs(task.test_inputs, task.y_test)


def joined(lists):
    return [sample for part in lists for sample in part]


@pytest.fixture
def dataset(resolved, nodes, tmp_path):
    """``dataset(roles=3)``: the options object; by default all roles and all windows."""

    def make(**values):
        node = nodes.get("dataset") or nodes.setdefault("dataset", resolved("dataset=shakespeare")["dataset"])
        return build(node | {"root": str(tmp_path)} | ALL | values, "dataset.")

    return make


@pytest.fixture
def task(dataset):
    return lambda **values: tasks.load(dataset(**values), torch.device("cpu"))


@pytest.fixture
def write_texts(tmp_path):
    """Texts of roles by name; their folder."""

    def write(texts):
        folder = tmp_path / FOLDER / "by_play_and_character"
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in texts.items():
            (folder / f"{name}.txt").write_text(content, encoding="utf-8", newline="\n")
        return folder

    return write


@pytest.fixture
def write_json(tmp_path):
    """Samples of users by name, for each of the two splits; the path of the written file."""

    def write(which, users, name="all_data"):
        folder = tmp_path / FOLDER / which
        folder.mkdir(parents=True, exist_ok=True)
        data = {user: {"x": [x for x, _ in pairs], "y": [y for _, y in pairs]} for user, pairs in users.items()}
        content = {"users": list(users), "num_samples": [len(p) for p in users.values()], "user_data": data}
        (folder / f"{name}.json").write_text(json.dumps(content))
        return folder / f"{name}.json"

    return write


ROLES = {"HAMLET": text(500), "ANTONY": text(420), "ROMEO": text(611)}
TEXTS = [ROLES[name] for name in sorted(ROLES)]


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.75])
def test_windows_of_role_texts_are_slices_of_them(task, write_texts, fraction):
    write_texts(ROLES)
    train, test = decoded(task(train_fraction=fraction))
    assert train == [split(role, fraction)[0] for role in TEXTS]
    assert test == joined(split(role, fraction)[1] for role in TEXTS)


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.75])
def test_no_character_is_in_a_training_and_in_a_test_window(dataset, write_texts, fraction):
    write_texts({"A": text(500)})
    windows = dataset(train_fraction=fraction).load()
    n = int(fraction * (500 - WINDOW))
    seen = [set(), set()]
    for characters, starts in zip(seen, (windows.train, windows.test), strict=True):
        characters.update(position for start in starts for position in range(start, start + WINDOW))
    assert not seen[0] & seen[1]
    assert min(seen[1]) == max(seen[0]) + 1  # and no more is left out than that takes
    assert (len(windows.train), len(windows.test)) == (n, 500 - WINDOW - n - 79)


def test_no_window_reaches_into_another_role(dataset, write_texts):
    write_texts({name: letter * 300 for name, letter in (("A", "a"), ("B", "b"), ("C", "c"))})
    windows = dataset(train_fraction=0.5).load()
    for start in (*windows.train, *windows.test):
        assert len(set(windows.text[start : start + WINDOW + 1])) == 1


@pytest.mark.parametrize(("length", "kept"), [(0, False), (80, False), (100, False), (238, False), (239, True)])
def test_role_without_a_window_for_both_splits_is_left_out(task, write_texts, length, kept):
    write_texts({"A": text(300), "B": text(length), "C": text(400)})
    train, _ = decoded(task(train_fraction=0.5))
    expected = [text(300), text(length), text(400)] if kept else [text(300), text(400)]
    assert train == [split(role, 0.5)[0] for role in expected]


def test_texts_that_are_all_too_short_are_refused_naming_their_folder(dataset, write_texts):
    folder = write_texts({"A": text(100), "B": "", "C": text(80)})
    message = refusal(dataset(train_fraction=0.5).load)
    assert str(folder) in message
    assert "80 characters" in message


@pytest.mark.parametrize("content", [b"\xff\xfe\xfa", "caf\u00e9".encode("latin-1") * 100])
def test_undecodable_text_is_refused_naming_it(dataset, write_texts, content):
    path = write_texts({"A": text(300), "B": text(300)}) / "B.txt"
    path.write_bytes(content)
    assert str(path) in refusal(dataset().load)


def test_text_that_is_a_folder_is_refused_naming_it(dataset, write_texts):
    path = write_texts({"A": text(300)}) / "B.txt"
    path.mkdir()
    assert str(path) in refusal(dataset().load)


def test_alphabet_is_leafs_in_its_order():
    assert len(ALPHABET) == len(set(ALPHABET)) == 80
    assert encode(ALPHABET).tolist() == list(range(80))
    assert ALPHABET == "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"


@pytest.mark.parametrize("unknown", [*"\t\x00#$%*+/<=@\\^_`{|~\x7f\x80é\xff—’…Ω字😀\ufeff", "\ud800"], ids=ascii)
def test_character_outside_the_alphabet_is_read_as_a_space(unknown):
    assert encode(f"ab{unknown}c").tolist() == encode("ab c").tolist()


def test_unknown_characters_do_not_move_the_others(task, write_texts):
    role = text(300)
    write_texts({"A": role[:90] + "’é😀" + role[93:]})
    train, _ = decoded(task(train_fraction=0.5))
    assert train[0] == split(role[:90] + "   " + role[93:], 0.5)[0]


# LEAF's json


def leaf(texts, fraction=0.5):
    """Both splits of users by name."""
    parts = {name: split(content, fraction) for name, content in texts.items()}
    return [{name: part[i] for name, part in parts.items()} for i in range(2)]


def test_windows_of_json_are_given_back(task, write_json):
    train, test = leaf(ROLES)
    write_json("train", train)
    write_json("test", test)
    assert decoded(task()) == ([train[name] for name in ROLES], joined(test[name] for name in ROLES))


def test_consecutive_windows_of_json_become_text_again(dataset, write_json):
    train, test = leaf(ROLES)
    write_json("train", train)
    write_json("test", test)
    windows = dataset().load()
    lengths = [len(pairs) + WINDOW for pairs in (*train.values(), *test.values())]
    assert len(windows.text) == sum(lengths)
    first = windows.text[: lengths[0]]
    assert "".join(ALPHABET[i] for i in first) == ROLES["HAMLET"][: lengths[0]]


ORDERS = {
    "reversed": lambda pairs: pairs[::-1],
    "shuffled": lambda pairs: [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))],
    "with_gaps": lambda pairs: [pair for i, pair in enumerate(pairs) if i % 7 not in (3, 4)],
    "every_other": lambda pairs: pairs[::2],
    "repeated": lambda pairs: joined([pair, pair] for pair in pairs),
    "another_target": lambda pairs: [(x, "x" if i % 5 == 0 else y) for i, (x, y) in enumerate(pairs)],
    "one": lambda pairs: pairs[:1],
    "two_texts": lambda pairs: pairs[:20] + samples(text(120, seed=9)) + pairs[20:],
    "one_letter": lambda pairs: [("a" * WINDOW, "a")] * 9 + [("a" * WINDOW, "b")] * 2 + [("a" * WINDOW, "a")],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_windows_of_json_in_any_order_are_given_back(task, write_json, order):
    train, test = [{name: order(pairs) for name, pairs in part.items()} for part in leaf(ROLES)]
    write_json("train", train)
    write_json("test", test)
    assert decoded(task()) == ([train[name] for name in ROLES], joined(test[name] for name in ROLES))


def test_users_of_the_two_splits_are_matched_by_name(task, write_json):
    train, test = leaf(ROLES)
    write_json("train", train)
    write_json("test", dict(reversed(test.items())))
    assert decoded(task())[1] == joined(test[name] for name in ROLES)


def test_users_may_be_spread_over_files(task, write_json):
    train, test = leaf(ROLES)
    for i, name in enumerate(sorted(ROLES)):
        write_json("train", {name: train[name]}, f"part{i}")
        write_json("test", {name: test[name]}, f"part{2 - i}")
    expected = [train[name] for name in sorted(ROLES)], joined(test[name] for name in sorted(ROLES))
    assert decoded(task()) == expected


def test_users_of_one_split_alone_are_left_out(task, write_json):
    train, test = leaf(ROLES)
    write_json("train", {name: train[name] for name in ("HAMLET", "ANTONY")})
    write_json("test", {name: test[name] for name in ("ROMEO", "HAMLET")})
    assert decoded(task()) == ([train["HAMLET"]], test["HAMLET"])


def test_json_comes_before_texts(task, write_json, write_texts):
    write_texts({"A": text(400, seed=5)})
    train, test = leaf(ROLES)
    write_json("train", train)
    assert decoded(task(train_fraction=0.5))[0] == [split(text(400, seed=5), 0.5)[0]]  # one split of json is not enough
    write_json("test", test)
    assert decoded(task())[0] == [train[name] for name in ROLES]


X, Y = ["a" * WINDOW, "b" * WINDOW], ["c", "d"]
MALFORMED = {
    "not_json": "user_data",
    "empty": "",
    "truncated": json.dumps({"user_data": {"A": {"x": X, "y": Y}}})[:-30],
    "undecodable": b"\xff\xfe{}",
    "a_list": "[]",
    "a_number": "7",
    "no_user_data": '{"users": []}',
    "user_data_is_a_list": '{"user_data": []}',
    "user_is_a_list": {"A": [X, Y]},
    "no_windows_key": {"A": {"y": Y}},
    "no_targets_key": {"A": {"x": X}},
    "a_target_too_few": {"A": {"x": X, "y": Y[:1]}},
    "a_target_too_many": {"A": {"x": X, "y": [*Y, "e"]}},
    "user_without_samples": {"A": {"x": [], "y": []}},
    "short_window": {"A": {"x": [X[0], "b" * 79], "y": Y}},
    "long_window": {"A": {"x": [X[0], "b" * 81], "y": Y}},
    "long_target": {"A": {"x": X, "y": ["c", "dd"]}},
    "empty_target": {"A": {"x": X, "y": ["c", ""]}},
    "numbers_for_windows": {"A": {"x": [1, 2], "y": Y}},
    "numbers_for_targets": {"A": {"x": X, "y": [1, 2]}},
    "windows_are_lists_of_numbers": {"A": {"x": [[0] * WINDOW] * 2, "y": Y}},
    "null_for_windows": {"A": {"x": None, "y": Y}},
    "number_for_all_windows": {"A": {"x": 2, "y": 2}},
}


@pytest.mark.parametrize("which", ["train", "test"])
@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_json_is_refused_naming_it(dataset, write_json, content, which):
    paths = {name: write_json(name, {"A": samples(text(200))}) for name in ("train", "test")}
    if isinstance(content, dict):
        content = json.dumps({"user_data": content})
    paths[which].write_bytes(content if isinstance(content, bytes) else content.encode())
    assert str(paths[which]) in refusal(dataset().load)


@pytest.mark.parametrize("which", ["train", "test"])
def test_split_without_users_is_refused_naming_its_folder(dataset, write_json, which):
    write_json("train" if which == "test" else "test", {"A": samples(text(200))})
    paths = [write_json(which, {}, name) for name in ("part0", "part1")]
    assert str(paths[0].parent) in refusal(dataset().load)


def test_file_without_users_among_others_is_taken(task, write_json):
    train, test = leaf(ROLES)
    write_json("train", train)
    write_json("train", {}, "another")
    write_json("test", test)
    assert decoded(task())[0] == [train[name] for name in ROLES]


def test_absent_data_says_what_to_place_where(dataset, tmp_path):
    assert not dataset().is_here()
    message = refusal(dataset().load)
    for part in ("dataset=shakespeare", "train/*.json", "by_play_and_character/*.txt", str(tmp_path / FOLDER), "leaf"):
        assert part in message


@pytest.mark.parametrize("source", ["texts", "json"])
def test_either_form_counts_as_here(dataset, write_texts, write_json, source):
    if source == "texts":
        write_texts(ROLES)
    else:
        write_json("train", leaf(ROLES)[0])
        assert not dataset().is_here()
        write_json("test", leaf(ROLES)[1])
    assert dataset().is_here()


# Which roles and which of their windows


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
