"""Bytes that a broken or hostile client sends: refused, or another message that an honest one could have sent."""

import numpy as np
import pytest
import torch
from mutations import MUTATIONS
from specimens import SPECIMENS, classes

from fedsign.errors import PayloadError

PAYLOADS = 10_000  # over all codecs
LENGTHS = (1, 7, 8, 9, 63, 64, 65, 130)


def test_every_codec_has_specimens():
    missing = classes() - {type(specimen.codec) for specimen in SPECIMENS.values()}
    assert not missing, f"add specimens of {[cls.__name__ for cls in missing]} to tests/codecs/specimens.py"


@pytest.mark.parametrize("name", SPECIMENS)
def test_mutated_payload_is_refused_or_a_legal_message(name):
    specimen, rng = SPECIMENS[name], np.random.default_rng(0)
    payloads = {d: specimen.encode(torch.from_numpy(rng.uniform(-1, 1, (4, d)).astype(np.float32))) for d in LENGTHS}
    refused = 0
    for i in range(-(-PAYLOADS // len(SPECIMENS))):
        d = LENGTHS[i % len(LENGTHS)]
        rows = [row.clone() for row in payloads[d]]
        bad = int(rng.integers(4))
        mutate = MUTATIONS[rng.integers(len(MUTATIONS))]
        rows[bad] = torch.from_numpy(mutate(rows[bad].numpy().copy(), rng).copy())
        try:
            values = specimen.codec.decode(rows, d)
        except PayloadError as error:
            refused += 1
            assert error.row == bad, (mutate.__name__, d)
            if i % 8:
                continue
            with pytest.raises(PayloadError) as caught:
                specimen.codec.mean(rows, d)
            assert caught.value.row == bad, (mutate.__name__, d)
        else:
            assert specimen.variable or len(rows[bad]) == specimen.codec.length(d), (mutate.__name__, d)
            assert values.shape == (4, d) and values.dtype == torch.float32
            assert torch.isfinite(values).all()
            assert all(specimen.legal(row) for row in values), (mutate.__name__, d)
            if i % 8:
                continue
            mean = specimen.codec.mean(rows, d)
            assert torch.allclose(mean, values.mean(dim=0), rtol=1e-4, atol=1e-6) or not torch.isfinite(values.sum())
    assert refused > 0


@pytest.mark.parametrize("name", SPECIMENS)
@pytest.mark.parametrize(
    "row",
    [
        torch.zeros(0, dtype=torch.uint8),
        torch.zeros(1, 9, dtype=torch.uint8),
        torch.zeros((), dtype=torch.uint8),
        torch.zeros(9, dtype=torch.float32),
        torch.zeros(2**20, dtype=torch.uint8),
    ],
    ids=["empty", "matrix", "scalar", "floats", "huge"],
)
def test_row_of_another_form_is_refused(name, row):
    specimen = SPECIMENS[name]
    rows = [*specimen.encode(torch.ones(2, 65)), row]
    for decode in (specimen.codec.decode, specimen.codec.mean):
        with pytest.raises(PayloadError) as error:
            decode(rows, 65)
        assert error.value.row == 2
