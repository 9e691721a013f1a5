"""The flat vector: order and place of a model's tensors, and views that are the model."""

import pytest
import torch
from torch import nn

from fedsign.errors import ConfigError
from fedsign.models.parameters import FlatModel, layout

CPU = torch.device("cpu")


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3), nn.BatchNorm1d(3)
    )


class Scale(nn.Module):
    """One vector of parameters and no matrix."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(4))


@pytest.fixture
def model():
    return convolutional()


def flat(module, codes="all"):
    return FlatModel(module, layout(module, codes), CPU)


@pytest.mark.parametrize("codes", ["all", "weights"])
def test_segments_are_contiguous_and_cover_the_vector(model, codes):
    parts = layout(model, codes)
    assert [s.start for s in parts.segments] == [0, *(s.stop for s in parts.segments[:-1])]
    assert all(s.stop - s.start == torch.Size(s.shape).numel() for s in parts.segments)
    assert parts.segments[-1].stop == parts.parameters + parts.buffers == parts.coded + parts.tail


def test_all_codes_every_parameter_but_those_of_batch_norms_in_the_modules_order(model):
    parts = layout(model, "all")
    assert [s.name for s in parts.segments[:4]] == ["0.weight", "0.bias", "4.weight", "4.bias"]
    assert [s.name for s in parts.segments[4:8]] == ["1.weight", "1.bias", "5.weight", "5.bias"]
    assert (parts.coded, parts.dense, parts.tensors) == (18 + 2 + 24 + 3, 4 + 6, 4)
    assert parts.sizes == (18, 2, 24, 3)


def test_affine_parameters_of_a_group_norm_are_coded_like_any_other():
    group_norm = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4))
    assert layout(group_norm, "all").dense == 0
    assert layout(group_norm, "weights").dense == 4 + 4 + 4


def test_weights_puts_biases_and_affine_parameters_in_the_dense_tail(model):
    parts = layout(model, "weights")
    assert [s.name for s in parts.segments[:2]] == ["0.weight", "4.weight"]
    assert [s.name for s in parts.segments[2:8]] == ["0.bias", "1.weight", "1.bias", "4.bias", "5.weight", "5.bias"]
    assert (parts.coded, parts.dense, parts.tensors) == (18 + 24, 2 + 4 + 3 + 6, 2)
    assert parts.sizes == (18, 24)


@pytest.mark.parametrize("codes", ["all", "weights"])
def test_running_statistics_come_last_and_batch_counters_not_at_all(model, codes):
    parts = layout(model, codes)
    assert [s.name for s in parts.segments[-4:]] == [
        f"{i}.running_{statistic}" for i in (1, 5) for statistic in ("mean", "var")
    ]
    assert parts.buffers == 2 * 2 + 2 * 3
    assert not any("num_batches" in s.name for s in parts.segments)


def test_model_without_weights_cannot_code_weights():
    affine = nn.Sequential(nn.GroupNorm(2, 4), nn.GroupNorm(2, 4))
    for codes in ("weights", "no-last-layer"):
        with pytest.raises(ConfigError, match=rf"algorithm\.codes={codes}"):
            layout(affine, codes)
    assert layout(affine, "all").coded == 16


@pytest.mark.parametrize("codes", ["all", "weights", "no-last-layer"])
def test_a_model_that_is_one_vector_is_coded_whatever_is_said(codes):
    assert (layout(Scale(), codes).coded, layout(Scale(), codes).frozen) == (4, ())


def network():
    """Two hidden layers with biases, a normalisation with parameters, and a last layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)
    )


def test_no_last_layer_codes_the_weights_of_the_other_layers():
    parts = layout(network(), "no-last-layer")
    assert [s.name for s in parts.segments[:4]] == ["0.weight", "4.weight", "1.weight", "1.bias"]
    assert (parts.coded, parts.dense, parts.buffers, parts.tensors) == (18 + 40, 2 + 2, 2 + 2, 2)
    assert parts.frozen == ("0.bias", "4.bias", "6.weight", "6.bias")


def test_what_is_frozen_is_not_in_the_vector_and_has_no_gradient():
    model = network()
    parts = flat(model, "no-last-layer")
    assert len(parts.vector) == 18 + 40 + 4 + 4
    model(torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(2))).square().sum().backward()
    assert all(dict(model.named_parameters())[name].grad is None for name in parts.layout.frozen)
    assert (parts.gradient != 0).any()


def test_the_last_layer_stays_as_it_was_and_other_biases_are_zero():
    before, model = network().state_dict(), network()
    parts = flat(model, "no-last-layer")
    parts.vector.fill_(7.0)
    tensors, state = parts.named(parts.vector), model.state_dict()
    assert tensors.keys() == {name for name in state if "num_batches" not in name}
    for name in ("6.weight", "6.bias"):
        assert torch.equal(tensors[name], before[name]) and torch.equal(state[name], before[name])
    for name in ("0.bias", "4.bias"):
        assert (state[name] == 0).all() and (tensors[name] == 0).all()
    assert (tensors["0.weight"] == 7).all()


@pytest.mark.parametrize("codes", ["all", "weights"])
def test_vector_starts_as_the_modules_tensors(codes):
    parts = flat(convolutional(), codes)
    for name, tensor in convolutional().state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(parts.layout.named(parts.vector)[name], tensor)


@pytest.mark.parametrize("codes", ["all", "weights"])
def test_writing_the_vector_changes_the_module(model, codes):
    parts = flat(model, codes)
    parts.vector.copy_(torch.arange(len(parts.vector)))
    state = model.state_dict()
    for s in parts.layout.segments:
        assert torch.equal(state[s.name], torch.arange(s.start, s.stop).float().view(s.shape))


def test_rewritten_vector_computes_as_a_model_with_these_tensors(model):
    parts = flat(model, "weights")
    other = torch.randn(len(parts.vector), generator=torch.Generator().manual_seed(1)).abs()
    parts.vector.copy_(other)
    fresh = convolutional()
    fresh.load_state_dict({n: t.clone() for n, t in parts.layout.named(other).items()}, strict=False)
    x = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    assert torch.equal(model.eval()(x), fresh.eval()(x))


@pytest.mark.parametrize("codes", ["all", "weights"])
def test_backward_fills_the_flat_gradient_and_adds_to_it(model, codes):
    parts, fresh = flat(model, codes), convolutional()
    x = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    for times in (1, 2):
        model(x).square().sum().backward()
        fresh(x).square().sum().backward()
        assert parts.gradient.shape == (parts.layout.parameters,)
        for s in parts.layout.segments[:8]:
            expected = dict(fresh.named_parameters())[s.name].grad
            torch.testing.assert_close(
                parts.gradient[s.start : s.stop].view(s.shape), expected, msg=f"{s.name} {times}"
            )
    parts.gradient.zero_()
    assert all((p.grad == 0).all() for p in model.parameters())


def test_training_moves_the_running_statistics_in_the_vector(model):
    parts = flat(model)
    before = parts.vector.clone()
    model.train()(torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(2)))
    moved = parts.vector != before
    assert not moved[: parts.layout.parameters].any()
    assert moved[parts.layout.parameters :].all()


def test_named_views_share_the_vector(model):
    parts = flat(model)
    parts.layout.named(parts.vector)["4.bias"].fill_(7.0)
    assert (model[4].bias == 7).all()
