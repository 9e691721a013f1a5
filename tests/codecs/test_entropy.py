"""Entropy coding: lossless, near the entropy, never much longer, and refused rather than believed when broken."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsign.codecs import (
    QSGD,
    EntropyCoded,
    Float32,
    Hadamard,
    Integer,
    ScaledSign,
    Sign,
    Ternary,
    Uniform,
    entropy_coded,
)
from fedsign.codecs.entropy import compress, decompress
from fedsign.errors import ConfigError, PayloadError
from fedsign.local.streams import Streams

CODECS = {
    "sign": Sign("random"),
    "ternary": Ternary(),
    "uniform_3": Uniform(3),
    "integer": Integer(-5, 5),
    "qsgd": QSGD(1, "l2", [100, 901]),
    "qsgd_4": QSGD(4, "linf"),
    "scaled_sign": ScaledSign("plus", [1, 1000]),
    "eden": Hadamard(2, "unbiased"),
}
every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
D = 1001


def encoded(codec, x):
    draws = isinstance(getattr(codec, "codec", codec), Sign | Ternary | QSGD | ScaledSign | Hadamard)
    return codec.encode(x, Streams(0, 1, range(len(x)), x.device)) if draws else codec.encode(x)


def values(codec, n=4, sparse=False):
    """What the codec takes: integers, or numbers in [−1, 1]; nearly all zero if sparse."""
    x = torch.rand(n, D, generator=torch.Generator().manual_seed(1)) * 2 - 1
    if isinstance(codec, Integer):
        x = (5 * x).round()
    return torch.where(torch.arange(D) % 50 == 0, x, 0 * x - (1 if isinstance(codec, Sign) else 0)) if sparse else x


def entropy(symbols):
    p = np.bincount(symbols) / len(symbols)
    p = p[p > 0]
    return -(p * np.log2(p)).sum()


@every_codec
@pytest.mark.parametrize("sparse", [False, True])
def test_what_is_decoded_is_the_same_to_the_bit(codec, sparse):
    x = values(codec, sparse=sparse)
    plain, rows = encoded(codec, x), encoded(EntropyCoded(codec), x)
    assert torch.equal(EntropyCoded(codec).decode(rows, D), codec.decode(plain, D))
    assert torch.equal(EntropyCoded(codec).mean(rows, D), codec.mean(plain, D))
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert torch.equal(EntropyCoded(codec).mean(rows, D, weights), codec.mean(plain, D, weights))


@every_codec
@pytest.mark.parametrize("sparse", [False, True])
def test_a_row_is_at_most_a_byte_longer(codec, sparse):
    plain, rows = (encoded(c, values(codec, sparse=sparse)) for c in (codec, EntropyCoded(codec)))
    for before, after in zip(plain, rows, strict=True):
        assert len(after) <= len(before) + 1 == EntropyCoded(codec).length(D)


@pytest.mark.parametrize("codec", [c for n, c in CODECS.items() if n not in ("eden", "scaled_sign")])
def test_skewed_rows_are_shorter(codec):
    x = values(codec, sparse=True)
    assert all(len(a) < 0.5 * len(b) for a, b in zip(encoded(EntropyCoded(codec), x), encoded(codec, x), strict=True))


def test_fair_signs_are_sent_as_they_are():
    x = values(Sign("plus"))
    for before, after in zip(encoded(Sign("plus"), x), encoded(EntropyCoded(Sign("plus")), x), strict=True):
        assert after.tolist() == [0, *before.tolist()]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("law", ["fair", "skewed", "constant"])
@pytest.mark.parametrize("m", [1, 2, 1000, 300_001])
def test_code_has_the_length_of_the_entropy(k, law, m):
    rng = np.random.default_rng(k)
    p = {"fair": np.ones(2**k), "skewed": 0.2 ** np.arange(2**k), "constant": np.arange(2**k) == 1}[law] * 1.0
    symbols = rng.choice(2**k, size=m, p=p / p.sum()).astype(np.int32)
    code = compress(symbols, k)
    np.testing.assert_array_equal(decompress(code, m, k), symbols)
    tables = 4 * (2**k - 1) * math.ceil(m / 2 ** (14 + k))
    assert 8 * (len(code) - tables) <= 1.0005 * m * entropy(symbols) + 64


def test_frequencies_may_differ_along_the_vector():
    """As between the tensors of a model: half a vector of fair bits and half of zeros costs half its bits."""
    bits = np.random.default_rng(0).integers(2, size=2**18).astype(np.int32)
    bits[: 2**17] = 0
    assert 8 * len(compress(bits, 1)) < 1.01 * 2**17


def test_symbols_are_modelled_and_not_bytes():
    """Integers of ten levels, of which two are common: the code is within a percent of their entropy."""
    x = torch.from_numpy(
        np.random.default_rng(0).choice([-5.0, 0.0, 3.0], size=(1, 200_000), p=[0.1, 0.6, 0.3])
    ).float()
    rows = EntropyCoded(Integer(-5, 5)).encode(x)
    assert 8 * len(rows[0]) < 1.01 * 200_000 * entropy(x[0].numpy().astype(int) + 5) + 2000


def test_off_gives_the_codec_itself():
    assert entropy_coded(CODECS["sign"], False) is CODECS["sign"]
    assert isinstance(entropy_coded(CODECS["sign"], True), EntropyCoded)


def test_floats_have_no_symbols_to_code():
    with pytest.raises(ConfigError, match=r"^algorithm\.entropy_coding=true: [^\n]+$"):
        entropy_coded(Float32(), True)


@every_codec
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_broken_rows_are_refused_or_decode_to_legal_values(codec, data):
    """Any bytes: a value or a PayloadError with the row, never another exception and never an endless loop."""
    rows = encoded(EntropyCoded(codec), values(codec, n=2, sparse=data.draw(st.booleans())))
    row = rows[1].numpy().copy()
    how = data.draw(st.sampled_from(["flip", "cut", "extend", "replace", "tag"]))
    if how == "flip":
        row[data.draw(st.integers(0, len(row) - 1))] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        row = row[: data.draw(st.integers(0, len(row) - 1))]
    elif how == "extend":
        row = np.append(row, np.frombuffer(data.draw(st.binary(min_size=1, max_size=9)), dtype=np.uint8))
    elif how == "tag":
        row[0] = data.draw(st.integers(0, 255))
    else:
        row = np.frombuffer(data.draw(st.binary(max_size=400)), dtype=np.uint8)
    rows[1] = torch.from_numpy(row.copy())
    for decode in (EntropyCoded(codec).decode, EntropyCoded(codec).mean):
        try:
            assert torch.isfinite(decode(rows, D)).all()
        except PayloadError as error:
            assert error.row == 1


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data(), k=st.sampled_from([1, 2, 5]))
def test_changed_code_is_not_believed(data, k):
    """The frequencies that are sent are also a check of what is decoded."""
    symbols = (np.random.default_rng(0).random(3000) < 0.1).astype(np.int32)
    code = compress(symbols, k)
    code[data.draw(st.integers(0, len(code) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PayloadError):
        decompress(code, 3000, k)


def test_frequencies_that_are_not_those_of_the_symbols_are_refused():
    """Of symbols that are all alike the coder keeps nothing, and would decode them under other frequencies too."""
    code = compress(np.zeros(1000, dtype=np.int32), 2)
    assert len(code) == 12
    code[0] ^= 8
    with pytest.raises(PayloadError, match="frequencies that it states"):
        decompress(code, 1000, 2)


@pytest.mark.parametrize("change", ["empty", "tag", "frequencies", "zero word", "more words", "half a word"])
def test_each_broken_part_is_named(change):
    codec = EntropyCoded(Sign("plus"))
    rows = encoded(codec, values(Sign("plus"), n=3, sparse=True))
    row = rows[1]
    assert row[0] == 1
    word = torch.ones(4, dtype=torch.uint8)
    rows[1], match = {
        "empty": (row[:0], "not an entropy-coded row"),
        "tag": (torch.cat([row[:1] + 1, row[1:]]), "not an entropy-coded row"),
        "frequencies": (torch.cat([row[:1], 255 * word, row[5:]]), "exceed the number of symbols"),
        "zero word": (torch.cat([row, 0 * word]), "empty word"),
        "more words": (torch.cat([row, word]), "entropy code"),
        "half a word": (row[:-2], "whole words"),
    }[change]
    with pytest.raises(PayloadError, match=match) as error:
        codec.decode(rows, D)
    assert error.value.row == 1
