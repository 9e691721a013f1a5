"""The two forms of Shakespeare, and what is wrong with a file."""

import json

import numpy as np
import pytest
from plays import FOLDER, ROLES, TEXTS, WINDOW, decoded, joined, leaf, samples, split, text
from refusals import refusal

from fedsign.data.shakespeare import ALPHABET, encode

pytestmark = pytest.mark.usefixtures("cache")


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
