"""Shakespeare as the tests write it."""

import json

import pytest
import torch
from plays import ALL, FOLDER

from fedsign.config import build
from fedsign.data import tasks


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
