"""Shakespeare, next character (McMahan et al., 2017; LEAF): windows of 80 characters, a client per speaking role.

A sample is a position in the text; windows are cut when a batch is made and never stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from fedsign.data.arrays import Array
from fedsign.data.cache import cached
from fedsign.data.dataset import Kind, SampledDataset
from fedsign.data.synthetic import owners, synthetic_tests
from fedsign.errors import ConfigError, DataError
from fedsign.options import Fraction, PositiveInt, Seed, options
from fedsign.randomness import generator

WINDOW = 80
ALPHABET = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"  # LEAF's 80 characters
UNKNOWN = ALPHABET.index(" ")  # what a character outside the alphabet is read as


@dataclass(frozen=True)
class Windows:
    """Text and where its samples start.

    Attributes:
        text: positions in the alphabet, uint8 [characters].
        train, test: first character of each window, int64; the target is the character after its 80.
        owner_train: role of each training window.
    """

    text: Array
    train: Array
    test: Array
    owner_train: Array


@options
class Shakespeare(SampledDataset):
    """LEAF's json files, or one text file per role.

    Attributes:
        roles: how many roles are kept, drawn among those that are long enough; null keeps all of them.
        train_windows, test_windows: consecutive windows kept of each role, from a random start; null keeps all.
        train_fraction: of a role's windows, the first, where the source is a text per role; then 79 windows are left
            out, so that no test window overlaps a training window, and the rest is for testing (LEAF's rule).
        draw: seed of the draws above, which belong to the data and not to a run.
    """

    kind: ClassVar[Kind] = "text"

    roles: PositiveInt | None
    train_windows: PositiveInt | None
    test_windows: PositiveInt | None
    train_fraction: Fraction
    draw: Seed

    def dimensions(self) -> tuple[tuple[int, ...], int]:
        """A window, and the characters of the alphabet."""
        return (WINDOW,), len(ALPHABET)

    def is_here(self) -> bool:
        """Whether one of the two forms is there."""
        return self.synthetic is not None or bool(self._json("train") and self._json("test")) or bool(self._texts())

    def training_samples(self) -> int | None:
        """Number of windows that are trained on, where the config fixes it."""
        if self.synthetic:
            return self.synthetic
        return self.roles * self.train_windows if self.roles and self.train_windows else None

    def test_samples(self) -> int | None:
        """Number of windows that are tested on, where the config fixes it."""
        if self.synthetic:
            return synthetic_tests(self.synthetic)
        return self.roles * self.test_windows if self.roles and self.test_windows else None

    def check(self) -> None:
        """Refuse a fraction that leaves nothing for testing."""
        if self.train_fraction == 1:
            raise ConfigError("dataset.train_fraction=1: must be below 1; nothing would be left for testing")

    def load(self) -> Windows:
        """Read, keep the roles and windows that the config asks for. Raises DataError naming the file."""
        if self.synthetic:
            return random_windows(self.synthetic)
        arrays = self._all()
        later = np.arange(1, int(arrays["owner_train"].max()) + 1)  # windows lie role by role
        train = np.split(arrays["train"], np.searchsorted(arrays["owner_train"], later))
        test = np.split(arrays["test"], np.searchsorted(arrays["owner_test"], later))
        # FedDyn's and FedSMU's rule: more than 2 000 training windows and more than 400 test windows
        long = [
            role
            for role in range(len(train))
            if len(train[role]) > (self.train_windows or 0) and len(test[role]) > (self.test_windows or 0)
        ]
        wanted = len(long) if self.roles is None else self.roles
        if wanted > len(long) or not long:
            given = "null" if self.roles is None else self.roles
            raise ConfigError(f"dataset.roles={given}: {len(long)} roles are long enough for the windows asked for")
        kept = long if self.roles is None else sorted(generator(self.draw, "roles").permutation(long)[:wanted])
        trains = [self._run(train[role], self.train_windows, "train", role) for role in kept]
        tests = [self._run(test[role], self.test_windows, "test", role) for role in kept]
        owners = np.repeat(np.arange(len(kept)), [len(windows) for windows in trains])
        return Windows(arrays["text"], np.concatenate(trains), np.concatenate(tests), owners)

    def _run(self, windows: Array, wanted: int | None, purpose: str, role: int) -> Array:
        if wanted is None:
            return windows
        start = int(generator(self.draw, purpose, client=role).integers(len(windows) - wanted + 1))
        return windows[start : start + wanted]

    def _all(self) -> dict[str, Array]:
        train, test = self._json("train"), self._json("test")
        if train and test:
            return cached(self.name, [*train, *test], lambda: _from_json(train, test))
        texts = self._texts()
        if not texts:
            raise DataError(
                f"dataset={self.name}: place LEAF's train/*.json and test/*.json, or by_play_and_character/*.txt, "
                f"under {self.folder() / 'shakespeare'}; github.com/TalwalkarLab/leaf makes both"
            )
        name = f"{self.name}-{self.train_fraction}"
        return cached(name, texts, lambda: _from_texts(texts, self.train_fraction))

    def _json(self, split: str) -> list[Path]:
        return sorted((self.folder() / "shakespeare" / split).glob("*.json"))

    def _texts(self) -> list[Path]:
        return sorted((self.folder() / "shakespeare" / "by_play_and_character").glob("*.txt"))


def random_windows(samples: int) -> Windows:
    """Windows of random characters: `samples` for training, then a tenth as many, at least one, for testing."""
    tests = synthetic_tests(samples)
    text = generator(0, "synthetic").integers(len(ALPHABET), size=samples + tests + WINDOW, dtype=np.uint8)
    starts = np.arange(samples + tests)
    return Windows(text, starts[:samples], starts[samples:], owners(samples))


def encode(text: str) -> Array:
    """Positions in the alphabet, uint8; a character outside it is read as a space."""
    table = np.full(256, UNKNOWN, dtype=np.uint8)
    table[np.frombuffer(ALPHABET.encode(), dtype=np.uint8)] = np.arange(len(ALPHABET))
    return table[np.minimum(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4"), 255)]


def _from_texts(files: list[Path], train_fraction: float) -> dict[str, Array]:
    """All windows of roles of which each file holds one; roles too short for a window of each split are left out."""
    texts, train, test, at = [], [], [], 0
    for path in files:
        try:
            text = encode(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not a readable text ({error})") from None
        windows = np.arange(len(text) - WINDOW)
        split = int(train_fraction * len(windows))
        if split == 0 or split + WINDOW - 1 >= len(windows):
            continue
        texts.append(text)
        train.append(at + windows[:split])
        test.append(at + windows[split + WINDOW - 1 :])
        at += len(text)
    if not texts:
        raise DataError(f"{files[0].parent}: no role is longer than a window of {WINDOW} characters and its target")
    return _joined(texts, train, test)


def _from_json(train_files: list[Path], test_files: list[Path]) -> dict[str, Array]:
    """All windows of LEAF's two sets of files; users in the order of the training files."""
    texts: list[Array] = []
    at = 0
    starts: dict[str, dict[str, Array]] = {"train": {}, "test": {}}
    for split, files in (("train", train_files), ("test", test_files)):
        for user, windows, targets in (sample for path in files for sample in _users(path)):
            text, first = _unrolled(windows, targets)
            starts[split][user] = at + first
            texts.append(text)
            at += len(text)
    users = list(starts["train"])
    for split, files in (("train", train_files), ("test", test_files)):
        if not starts[split]:
            raise DataError(f"{files[0].parent}: no user has a sample")
    nothing = np.empty(0, dtype=np.int64)
    return _joined(texts, [starts["train"][u] for u in users], [starts["test"].get(u, nothing) for u in users])


def _users(path: Path) -> Iterator[tuple[str, Array, Array]]:
    """User, windows [n, 80] and targets [n] of a LEAF file."""
    try:
        users = json.loads(path.read_text())["user_data"]
        samples = [(user, data["x"], data["y"]) for user, data in users.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a LEAF file with user_data, each with x and y ({error})") from None
    for user, x, y in samples:
        if not all(isinstance(part, list) and all(isinstance(text, str) for text in part) for part in (x, y)):
            raise DataError(f"{path}: the x and y of user {user} are not lists of texts")
        if len(x) != len(y) or not x:
            raise DataError(
                f"{path}: user {user} has {len(x)} windows and {len(y)} targets; expected as many, at least one"
            )
        if any(len(window) != WINDOW for window in x) or any(len(target) != 1 for target in y):
            raise DataError(
                f"{path}: user {user} has a window of another length; expected {WINDOW} characters and 1 after"
            )
        yield user, encode("".join(x)).reshape(-1, WINDOW), encode("".join(y))


def _unrolled(windows: Array, targets: Array) -> tuple[Array, Array]:
    """A text that contains the windows, and where each starts; one that goes on from the last adds a character."""
    goes_on = (windows[1:, :-1] == windows[:-1, 1:]).all(axis=1) & (windows[1:, -1] == targets[:-1])
    new = np.concatenate([[True], ~goes_on])
    length = np.where(new, WINDOW + 1, 1)  # characters that a sample adds
    ends = np.cumsum(length)
    text = np.empty(ends[-1], dtype=np.uint8)
    text[ends - 1] = targets
    for i in np.flatnonzero(new):  # once per run of consecutive windows
        text[ends[i] - WINDOW - 1 : ends[i] - 1] = windows[i]
    return text, ends - 1 - WINDOW


def _joined(texts: list[Array], train: list[Array], test: list[Array]) -> dict[str, Array]:
    roles = np.arange(len(train))
    return {
        "text": np.concatenate(texts),
        "train": np.concatenate(train),
        "test": np.concatenate(test),
        "owner_train": np.repeat(roles, [len(t) for t in train]),
        "owner_test": np.repeat(roles, [len(t) for t in test]),
    }
