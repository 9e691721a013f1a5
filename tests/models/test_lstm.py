"""The next-character LSTMs equal their recurrence written out."""

import pytest
import torch
from specs import assert_normal, module, spec

from fedsign.config import build
from fedsign.errors import ConfigError
from fedsign.models.parameters import FlatModel, layout

ALPHABET, WINDOW = 80, (20,)


def characters(size, length=20):
    return torch.randint(ALPHABET, (size, length), generator=torch.Generator().manual_seed(1))


def recurrence(w, x, layers):
    """Gates in the order input, forget, cell, output, from a zero state; a linear layer on the last step."""
    sequence = w["embedding.weight"][x].unbind(dim=1)
    for layer in range(layers):
        inner, recurrent = w[f"lstm.weight_ih_l{layer}"], w[f"lstm.weight_hh_l{layer}"]
        bias = sum(w.get(f"lstm.bias_{part}_l{layer}", torch.zeros(())) for part in ("ih", "hh"))
        h = c = torch.zeros(len(x), recurrent.shape[1])
        outputs = []
        for step in sequence:
            i, f, g, o = (step @ inner.T + h @ recurrent.T + bias).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        sequence = outputs
    return sequence[-1] @ w["fc.weight"].T + w.get("fc.bias", 0)


@pytest.mark.parametrize(("name", "layers"), [("char_lstm", 2), ("lstm256", 1)])
def test_it_equals_its_recurrence(name, layers):
    network = module(name, WINDOW, ALPHABET, init_std=0.1).eval()
    x = characters(5)
    torch.testing.assert_close(network(x), recurrence(network.state_dict(), x, layers), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "layers"), [("char_lstm", 2), ("lstm256", 1)])
def test_it_computes_with_the_flat_vector(name, layers):
    network = module(name, WINDOW, ALPHABET).eval()
    flat = FlatModel(network, layout(network, "weights"), torch.device("cpu"))
    other = 0.1 * torch.randn(len(flat.vector), generator=torch.Generator().manual_seed(2))
    flat.vector.copy_(other)
    x = characters(5)
    torch.testing.assert_close(network(x), recurrence(flat.layout.named(other), x, layers), rtol=1e-5, atol=1e-5)


def test_weights_leaves_the_biases_to_the_dense_tail():
    parts = layout(module("char_lstm", WINDOW, ALPHABET), "weights")
    assert (parts.coded, parts.dense, parts.buffers) == (133_520 - 1_600 - 80, 1_600 + 80, 0)
    parts = layout(module("lstm256", WINDOW, ALPHABET), "weights")
    assert (parts.coded, parts.dense, parts.buffers) == (291_456, 0, 0)


def test_fedmrns_tensors_start_with_deviation_one_hundredth():
    for tensor in module("lstm256", WINDOW, ALPHABET).parameters():
        assert_normal(tensor, 0.01)


def test_dropout_zeroes_half_of_the_last_step_in_training_alone():
    network = module("lstm256", WINDOW, ALPHABET)
    seen = {}
    network.dropout.register_forward_hook(lambda layer, given, result: seen.update(given=given[0], result=result))
    network(characters(40))
    kept = seen["result"] != 0
    assert abs(kept.double().mean() - 0.5) < 5 * (0.25 / kept.numel()) ** 0.5
    torch.testing.assert_close(seen["result"][kept], 2 * seen["given"][kept])
    assert torch.equal(network.eval()(characters(3)), network(characters(3)))


@pytest.mark.parametrize("name", ["char_lstm", "lstm256"])
def test_it_takes_text_alone(resolved, name):
    text, image = (build(resolved(f"dataset={data}")["dataset"], "dataset.") for data in ("shakespeare", "cifar10"))
    spec(name).check(text)
    with pytest.raises(ConfigError, match=f"model={name}: takes text datasets, and dataset=cifar10 is of kind image"):
        spec(name).check(image)


@pytest.mark.parametrize("value", [1.0, -0.1])
def test_dropout_must_leave_something(value):
    with pytest.raises(ConfigError, match=rf"model\.dropout={value}: must be a number in \[0, 1\)"):
        spec("char_lstm", dropout=value)
