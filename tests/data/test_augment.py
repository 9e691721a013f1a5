"""Flip and crop of a batch against a loop over its images."""

import math

import numpy as np
import pytest
import torch

from fedsign.data.augment import flip_and_crop


def images(b, h=6, w=5, c=3):
    return torch.rand(b, h, w, c, generator=torch.Generator().manual_seed(0)) + 1


def augmented(x, padding, probability, seed=0):
    return flip_and_crop(x, padding, probability, np.random.default_rng(seed))


def naive(x, padding, probability, seed=0):
    """One image at a time, with the same draws: flips, row and column offsets, crops."""
    rng = np.random.default_rng(seed)
    b, h, w, c = x.shape
    flips = rng.random(b) < 0.5
    top, left = rng.integers(0, 2 * padding + 1, size=(2, b))
    crops = rng.random(b) < probability
    out = np.zeros((b, h, w, c), dtype=np.float32)
    for i in range(b):
        image = x[i].numpy()
        image = image[:, ::-1] if flips[i] else image
        canvas = np.zeros((h + 2 * padding, w + 2 * padding, c), dtype=np.float32)
        canvas[padding : padding + h, padding : padding + w] = image
        row, column = (top[i], left[i]) if crops[i] else (padding, padding)
        out[i] = canvas[row : row + h, column : column + w]
    return torch.from_numpy(out)


@pytest.mark.parametrize("padding", [1, 2, 4])
@pytest.mark.parametrize("probability", [0.3, 0.5, 1.0])
@pytest.mark.parametrize(("h", "w", "c"), [(6, 5, 3), (8, 8, 1)])
def test_batch_equals_a_loop_over_images_with_the_same_draws(padding, probability, h, w, c):
    x = images(64, h, w, c)
    assert torch.equal(augmented(x, padding, probability), naive(x, padding, probability))


@pytest.mark.parametrize("padding", [0, 3])
def test_without_crops_each_image_is_itself_or_its_mirror(padding):
    x = images(200)
    out = augmented(x, padding, 0.0)
    mirrored = np.random.default_rng(0).random(200) < 0.5
    assert torch.equal(out[mirrored], x[mirrored].flip(2))
    assert torch.equal(out[~mirrored], x[~mirrored])


def test_small_crop_probability_leaves_nearly_all_images_in_place():
    x = images(1000)
    out = augmented(x, 2, 1e-6)
    in_place = ((out == x) | (out == x.flip(2))).flatten(1).all(dim=1)
    assert in_place.all()


def test_images_are_flipped_half_of_the_time():
    b = 20_000
    out = augmented(torch.arange(3.0).view(1, 1, 3, 1).expand(b, 1, 3, 1), 0, 1.0)
    flipped = (out[:, 0, 0, 0] == 2).sum().item()
    assert abs(flipped - b / 2) < 5 * math.sqrt(b / 4)  # SE of a binomial count


def test_images_are_cropped_with_the_stated_probability_at_uniform_offsets():
    b, padding, probability = 20_000, 2, 0.4
    x = torch.zeros(b, 5, 5, 1)
    x[:, 2, 2] = 1
    count = augmented(x, padding, probability).sum(dim=0)[..., 0]
    p = torch.full((5, 5), probability / 25)
    p[2, 2] += 1 - probability
    assert ((count - b * p).abs() < 5 * (b * p * (1 - p)).sqrt()).all()  # SE of a binomial count


def test_flips_and_crops_are_independent():
    b = 20_000
    x = torch.zeros(b, 3, 4, 1)
    x[:, 1, 1], x[:, 1, 2] = 1, 2
    out = augmented(x, 1, 0.5)[..., 0]
    moved_up = out[:, 0].sum(dim=1) > 0
    flipped = (out.flatten(1).argmax(dim=1) % 4) < (out == 1).flatten(1).int().argmax(dim=1) % 4
    both, p = (moved_up & flipped)[moved_up].float().mean().item(), 0.5
    assert abs(both - p) < 5 * math.sqrt(p * (1 - p) / moved_up.sum().item())  # SE of a binomial share


def test_what_lies_outside_the_image_is_zero():
    x = images(500, 4, 4, 2)
    out = augmented(x, 4, 1.0)
    assert (out == 0).any(dim=(1, 2, 3)).any()
    assert (out[out != 0] >= 1).all()


@pytest.mark.parametrize("shape", [(1, 6, 5, 3), (7, 5, 6, 1), (3, 32, 32, 3)])
@pytest.mark.parametrize("padding", [0, 4])
def test_shape_and_type_stay(shape, padding):
    out = augmented(images(*shape), padding, 1.0)
    assert out.shape == shape
    assert out.dtype == torch.float32


def test_input_stays_as_it_was():
    x = images(20)
    before = x.clone()
    augmented(x, 2, 1.0)
    assert torch.equal(x, before)


def test_same_stream_gives_the_same_images():
    x = images(20)
    assert torch.equal(augmented(x, 2, 1.0, seed=3), augmented(x, 2, 1.0, seed=3))
    assert not torch.equal(augmented(x, 2, 1.0, seed=3), augmented(x, 2, 1.0, seed=4))
