"""Options classes: what a wrong value is told."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from fedsign.errors import ConfigError
from fedsign.options import Momentum, Positive, PositiveInt, closest, options, validated


@options
class Inner:
    size: PositiveInt
    rate: Positive | None
    momentum: Momentum
    flag: bool
    kind: Literal["sgd", "adam"]
    width: Literal[1, 3]
    shape: tuple[PositiveInt, PositiveInt]
    hidden: tuple[PositiveInt, ...]
    label: str
    even: Annotated[int, Field(multiple_of=2, description="an even integer")]


GOOD = {
    "size": 3, "rate": 0.5, "momentum": 0.9, "flag": True, "kind": "sgd", "width": 1, "shape": [2, 4], "hidden": [],
    "label": "a", "even": 4,
}  # fmt: skip


def message(prefix="", **changes):
    with pytest.raises(ConfigError) as caught:
        validated(Inner, GOOD | changes, prefix)
    return str(caught.value)


def test_good_values_build_the_object():
    assert validated(Inner, GOOD).size == 3


def test_a_list_becomes_a_tuple():
    assert validated(Inner, GOOD | {"hidden": [64, 64]}).hidden == (64, 64)


def test_an_integer_is_a_number():
    assert validated(Inner, GOOD | {"rate": 2}).rate == 2.0


def test_the_object_is_frozen():
    with pytest.raises(AttributeError):
        validated(Inner, GOOD).size = 4


@pytest.mark.parametrize("prefix", ["", "local.", "outer.inner."])
def test_an_unknown_key_is_told_the_closest_and_all_that_exist(prefix):
    text = message(prefix, siz=3)
    assert text.startswith(f"{prefix}siz: ")
    assert "did you mean 'size'" in text
    assert all(prefix + key in text for key in GOOD)


def test_an_unknown_key_like_no_other_gets_no_hint():
    assert "did you mean" not in message(zzzzzz=3)


@pytest.mark.parametrize("prefix", ["", "local."])
def test_a_missing_key_is_named_with_what_it_must_be(prefix):
    with pytest.raises(ConfigError, match=rf"^{prefix}size: missing.*an integer >= 1"):
        validated(Inner, {k: v for k, v in GOOD.items() if k != "size"}, prefix)


@pytest.mark.parametrize(
    ("key", "value", "shown", "allowed"),
    [
        ("size", 0, "0", "an integer >= 1"),
        ("size", -3, "-3", "an integer >= 1"),
        ("size", 2.0, "2.0", "an integer >= 1"),
        ("size", "abc", "abc", "an integer >= 1"),
        ("size", True, "true", "an integer >= 1"),
        ("size", None, "null", "an integer >= 1"),
        ("rate", 0, "0", "a number > 0 or null"),
        ("rate", float("inf"), "inf", "a number > 0 or null"),
        ("rate", float("nan"), "nan", "a number > 0 or null"),
        ("rate", True, "true", "a number > 0 or null"),
        ("rate", "0.1", "0.1", "a number > 0 or null"),
        ("momentum", 1, "1", "a number in [0, 1)"),
        ("momentum", -0.1, "-0.1", "a number in [0, 1)"),
        ("flag", 1, "1", "true or false"),
        ("flag", "yes", "yes", "true or false"),
        ("kind", "rmsprop", "rmsprop", "one of sgd, adam"),
        ("width", 2, "2", "one of 1, 3"),
        ("label", 3, "3", "a text"),
        ("hidden", 3, "3", "a list, each an integer >= 1"),
        ("even", 3, "3", "an even integer"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "a.b."])
def test_a_wrong_value_is_told_what_is_allowed(key, value, shown, allowed, prefix):
    assert message(prefix, **{key: value}) == f"{prefix}{key}={shown}: must be {allowed}"


def test_a_misspelt_literal_gets_a_hint():
    assert message("local.", kind="adm") == "local.kind=adm: must be one of sgd, adam (did you mean 'adam'?)"


def test_a_wrong_entry_of_a_list_names_the_list():
    text = message("model.", hidden=[64, 0])
    assert text.startswith("model.hidden") and "each an integer >= 1" in text


@pytest.mark.parametrize("value", [[2], [2, 4, 6]])
def test_a_list_of_the_wrong_length_is_shown_and_told_the_length(value):
    text = message("model.", shape=value)
    assert text.startswith(f"model.shape=[{','.join(map(str, value))}]")
    assert "missing" not in text and "a list of 2" in text


@pytest.mark.parametrize("changes", [{"siz": 3}, {"size": 0}, {"kind": "x"}, {"hidden": "x"}, {"shape": []}])
def test_every_message_is_one_line(changes):
    assert "\n" not in message("local.", **changes)


@pytest.mark.parametrize(("value", "expected"), [("fedsm", "'fedsmu'"), ("zsgn", "'zsign'")])
def test_closest_names_the_nearest(value, expected):
    assert expected in closest(value, ["fedavg", "fedsmu", "zsign"])


def test_closest_is_empty_where_nothing_is_near():
    assert closest("qqqq", ["fedavg", "fedsmu"]) == ""


def test_a_key_whose_name_a_method_has_is_told_by_the_key():
    @options
    class Chosen:
        kind: Annotated[Literal["sgd", "ams"], Field(alias="server")]

        def server(self):
            return self.kind

    assert validated(Chosen, {"server": "ams"}).server() == "ams"
    with pytest.raises(ConfigError, match=r"^x\.server=adam: must be one of sgd, ams \(did you mean 'ams'\?\)$"):
        validated(Chosen, {"server": "adam"}, "x.")
    with pytest.raises(ConfigError, match=r"^x\.kind: no such key.*; allowed: x\.server$"):
        validated(Chosen, {"server": "sgd", "kind": "sgd"}, "x.")
    with pytest.raises(ConfigError, match=r"^x\.server: missing; it must be one of sgd, ams$"):
        validated(Chosen, {}, "x.")
