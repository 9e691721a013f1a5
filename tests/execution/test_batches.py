"""Batches: shuffled epochs, alone and side by side."""

import itertools

import numpy as np
import pytest
import torch

from fedsign.execution.batches import CohortBatches, shuffled_epochs

SIZES = (5, 12, 1)
BATCH = 4


class Samples:
    """A sample is its index; augmentation adds one draw per sample and one integer."""

    def batch(self, indices, rng):
        draws = rng.random(len(indices)) + rng.integers(0, 9, size=(2, len(indices))).sum(axis=0)
        return indices.float() + torch.from_numpy(np.asarray(draws, dtype=np.float32)) / 100, indices


def parts():
    starts = np.cumsum([0, *SIZES])
    return [torch.arange(a, b) for a, b in itertools.pairwise(starts)]


def streams(purpose):
    return [np.random.default_rng([purpose, i]) for i in range(len(SIZES))]


def epochs():
    return [shuffled_epochs(n, BATCH, order) for n, order in zip(SIZES, streams(0), strict=True)]


def alone(i, steps):
    part, augment = parts()[i], streams(1)[i]
    return [Samples().batch(part[torch.from_numpy(j)], augment) for j in itertools.islice(epochs()[i], steps)]


def test_an_epoch_shows_every_sample_once_and_the_last_batch_is_smaller():
    seen = [targets.tolist() for _, targets in alone(1, 3)]
    assert [len(batch) for batch in seen] == [4, 4, 4]
    assert sorted(itertools.chain(*seen)) == list(range(5, 17))
    assert [len(targets) for _, targets in alone(0, 4)] == [4, 1, 4, 1]


def test_epochs_are_shuffled_anew():
    first, second = (torch.cat([t for _, t in alone(1, 6)][k : k + 3]).tolist() for k in (0, 3))
    assert first != second
    assert sorted(first) == sorted(second)


@pytest.mark.parametrize("steps", [(4, 9, 3), (1, 1, 1), (7, 2, 5)])
def test_clients_side_by_side_see_what_they_see_alone(steps):
    laid_out = CohortBatches(Samples(), parts(), epochs(), streams(1), BATCH, steps)
    together = [laid_out.at(k) for k in range(max(steps))]
    for i, count in enumerate(steps):
        for k, (inputs, targets) in enumerate(alone(i, count)):
            padded, labels, weights = (values[i] for values in together[k])
            real = len(targets)
            assert torch.equal(padded[:real], inputs)
            assert torch.equal(labels[:real], targets)
            assert torch.equal(weights, torch.tensor([1 / real] * real + [0.0] * (BATCH - real)))
        for k in range(count, max(steps)):
            assert not together[k][2][i].any()
