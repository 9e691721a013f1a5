"""What Byzantine clients send in a round, out of what the honest ones do."""

import dataclasses
import itertools

import byzantine
import byzfl
import numpy as np
import pytest
import torch
from scipy import stats
from toys import algorithm, attack, round_of

from fedsign.codecs import Float32, Mask, Uniform
from fedsign.robust.attacks import z_max
from fedsign.robust.messages import forge


def sent_by(method, v, t=1):
    """The messages [n, d] of clients, encoded by the one part of the method."""
    n, d = v.shape
    round = round_of(n, d, t)
    ((part, codec),) = method.message({}, round).items()
    return {part: codec.write(v, round.streams)}, codec


def forged(name, method, v, attackers, **keys):
    """What arrives [n, d] where the clients meant to send v and some of them are attackers."""
    uplink, codec = sent_by(method, v)
    before = {part: list(rows) for part, rows in uplink.items()}
    n, d = v.shape
    forge(attack(name, **keys), method, {}, uplink, dataclasses.replace(round_of(n, d), attackers=frozenset(attackers)))
    ((part, rows),) = uplink.items()
    for i in set(range(n)) - set(attackers):
        assert torch.equal(rows[i], before[part][i])
    return codec.decode(rows, d).numpy()


def normal(n=7, d=500, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32))


def test_attackers_are_drawn_once_over_all_clients_and_fewer_are_a_part_of_more():
    drawn = [attack("opposite", clients=f).attackers(3, 31) for f in range(31)]
    assert [len(ids) for ids in drawn] == list(range(31))
    assert all(fewer < more for fewer, more in itertools.pairwise(drawn))
    assert drawn[15] <= set(range(31))
    assert drawn[15] == attack("ipm", clients=15).attackers(3, 31) != drawn[14]
    assert drawn[15] != attack("ipm", clients=15).attackers(4, 31)


def test_every_client_is_an_attacker_equally_often():
    times, opposite = np.zeros(10), attack("opposite", clients=3)
    for seed in range(2000):
        times[list(opposite.attackers(seed, 10))] += 1
    assert stats.chisquare(times).pvalue > 1e-3  # slightly conservative: counts of a seed are negatively correlated


@pytest.mark.parametrize(
    ("share", "clients", "number"), [(0.29, 100, 29), (0.07, 100, 7), (0.25, 10, 3), (0.01, 10, 0)]
)
def test_a_fraction_is_of_all_clients_to_the_nearest(share, clients, number):
    assert len(attack("opposite", clients=share).attackers(0, clients)) == number


def test_sign_flip_reverses_its_own_message():
    v = normal()
    arrived = forged("sign_flip", algorithm("fedavg"), v, [1, 4], scale=2.5)
    np.testing.assert_array_equal(arrived[[1, 4]], -2.5 * v[[1, 4]])


@pytest.mark.parametrize("name", ["opposite", "ipm", "alie"])
@pytest.mark.parametrize("method", ["fedavg", "signsgd"])
def test_an_omniscient_attack_is_a_function_of_the_honest_messages_alone(name, method):
    v = normal()
    other = v.clone()
    other[[1, 4]] = normal(seed=1)[[1, 4]]
    ours, theirs = (forged(name, algorithm(method), given, [1, 4]) for given in (v, other))
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours[1], ours[4])


@pytest.mark.parametrize("rule", byzantine.RULES)
def test_opposite_is_the_opposite_of_what_the_rule_makes_of_the_honest(rule):
    v = normal(13)
    method = algorithm("fedavg", aggregator=rule, f=4)
    arrived = forged("opposite", method, v, [0, 5, 6, 12])
    honest = [row.numpy().astype(np.float64) for i, row in enumerate(v) if i not in (0, 5, 6, 12)]
    np.testing.assert_allclose(arrived[5], -byzantine.RULES[rule](honest, 4), atol=1e-5)


def test_opposite_of_a_mean_by_samples_weighs_the_honest_by_theirs():
    v, samples = normal(4), [10, 20, 30, 40]
    method = algorithm("fedavg", weighting="samples")
    uplink, codec = sent_by(method, v)
    round = dataclasses.replace(round_of(4, 500, samples=samples), attackers=frozenset([3]))
    forge(attack("opposite"), method, {}, uplink, round)
    arrived = codec.decode(uplink["Delta"], 500)[3]
    torch.testing.assert_close(arrived, -(v[0] + 2 * v[1] + 3 * v[2]) / 6, rtol=0, atol=1e-6)


@pytest.mark.parametrize("zero", ["random", "plus", "zero"])
def test_opposite_of_votes_is_the_sign_against_their_sum(zero):
    """Sixteen honest votes may tie: then the codec's own Sign(0)."""
    v = normal(31, seed=2)
    arrived = forged("opposite", algorithm("signsgd", sign_zero=zero), v, range(16, 31))
    votes = torch.sign(v[:16]).sum(dim=0).numpy()
    for row in arrived[16:]:
        np.testing.assert_array_equal(row[votes != 0], -np.sign(votes[votes != 0]))
    ties = arrived[16:][:, votes == 0]
    assert ties.size and {"random": {-1, 1}, "plus": {1}, "zero": {0}}[zero] == set(ties.reshape(-1).tolist())


def test_ipm_is_the_mean_of_the_honest_times_minus_epsilon():
    v = normal()
    arrived = forged("ipm", algorithm("fedavg"), v, [2], epsilon=0.1)
    np.testing.assert_allclose(arrived[2], -0.1 * np.delete(v.numpy(), 2, axis=0).mean(axis=0), atol=1e-6)


def test_alie_of_15_among_31_is_1534_deviations_below_the_mean():
    v = normal(31)
    arrived = forged("alie", algorithm("fedavg"), v, range(15))
    honest = v[15:].numpy().astype(np.float64)
    np.testing.assert_allclose(arrived[0], honest.mean(axis=0) - 1.5341 * honest.std(axis=0), atol=1e-4)
    given = forged("alie", algorithm("fedavg"), v, range(15), z=0.3)
    np.testing.assert_allclose(given[0], honest.mean(axis=0) - 0.3 * honest.std(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("n", "f", "z"),
    [
        (31, 15, stats.norm.ppf(15 / 16)),
        (50, 24, stats.norm.ppf(24 / 26)),  # the paper's own example: 2 supporters of 26
        (31, 1, 0.0),  # 15 supporters of 30
        (10, 1, stats.norm.ppf(4 / 9)),  # five of nine, beyond the mean
        (10, 6, stats.norm.ppf(3 / 4)),  # a majority already
        (2, 1, 0.0),
    ],
)
def test_z_of_alie(n, f, z):
    assert z_max(n, f) == pytest.approx(z, abs=1e-9)


def test_byzfl_agrees_on_alie_and_ipm():
    """ByzFL adds τ deviations, with the divisor n − 1."""
    v = normal(31)
    honest, z = v[15:], z_max(31, 15)
    alie = byzfl.ALittleIsEnough(tau=-z * np.sqrt(15 / 16))(honest)
    np.testing.assert_allclose(forged("alie", algorithm("fedavg"), v, range(15))[3], alie, atol=1e-5)
    ipm = byzfl.InnerProductManipulation(tau=0.5)(honest)
    np.testing.assert_allclose(forged("ipm", algorithm("fedavg"), v, range(15))[3], ipm, atol=1e-6)


@pytest.mark.parametrize(("centre", "own"), [("zero", 0), ("own", 1)])
def test_gaussian_noise_has_its_law(centre, own):
    d = 40_000
    v = normal(4, d)
    arrived = forged("gaussian", algorithm("fedavg"), v, [1, 2], sigma=200.0, centre=centre)
    noise = (arrived - own * v.numpy())[[1, 2]] / 200
    assert stats.kstest(noise.reshape(-1), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise)[0, 1]) < 5 / np.sqrt(d)


@pytest.mark.parametrize("method", ["fedavg", "signsgd"])
def test_random_bits_are_fair_and_independent(method):
    d = 40_000
    arrived = forged("random_bits", algorithm(method), normal(4, d), [1, 2])[[1, 2]]
    assert set(arrived.reshape(-1).tolist()) == {-1, 1}
    assert abs(arrived.mean()) < 5 / np.sqrt(2 * d)
    assert abs((arrived[0] * arrived[1]).mean()) < 5 / np.sqrt(d)


def test_noise_differs_from_round_to_round():
    method, v = algorithm("fedavg"), normal(2)
    rows = []
    for t in (1, 2):
        uplink, _ = sent_by(method, v, t)
        forge(
            attack("gaussian"), method, {}, uplink, dataclasses.replace(round_of(2, 500, t), attackers=frozenset([0]))
        )
        rows.append(uplink["Delta"][0])
    assert not torch.equal(*rows)


@pytest.mark.parametrize("name", ["opposite", "ipm", "alie"])
def test_without_an_honest_client_there_is_nothing_to_oppose(name):
    v = normal(3)
    np.testing.assert_array_equal(forged(name, algorithm("fedavg"), v, range(3)), v.numpy())


def test_parts_of_a_message_are_attacked_each_and_others_are_left():
    method, (n, d) = algorithm("fedsmumc"), (5, 60)
    round = dataclasses.replace(round_of(n, d), attackers=frozenset([0, 3]))
    v, m = normal(n, d), normal(n, d, seed=1)
    codecs = method.message({}, round)
    uplink = {"u": codecs["u"].encode(v, round.streams), "m": codecs["m"].encode(m, round.streams)}
    uplink["scale"] = scale = Float32().encode(torch.ones(n, 1))
    forge(attack("opposite"), method, {}, uplink, round)
    honest = [1, 2, 4]
    assert torch.equal(codecs["u"].decode(uplink["u"], d)[3], -torch.sign(torch.sign(v[honest]).sum(dim=0)))
    torch.testing.assert_close(codecs["m"].decode(uplink["m"], d)[3], -m[honest].mean(dim=0), rtol=0, atol=1e-6)
    assert uplink["scale"] is scale


def test_a_codec_per_client_reads_and_writes_its_own_row(monkeypatch):
    method, (n, d) = algorithm("sgdm"), (4, 30)
    codecs = [Uniform(3), Uniform(8), Float32(), Uniform(3)]
    v = normal(n, d).clamp(-1, 1)
    monkeypatch.setattr(type(method), "message", lambda self, server, round: {"g": codecs})
    uplink = {"g": [codec.encode(v[i : i + 1])[0] for i, codec in enumerate(codecs)]}
    read = torch.stack([codec.decode([row], d)[0] for codec, row in zip(codecs, uplink["g"], strict=True)])
    forge(attack("opposite"), method, {}, uplink, dataclasses.replace(round_of(n, d), attackers=frozenset([2, 3])))
    wanted = -(read[0] + read[1]) / 2
    torch.testing.assert_close(codecs[2].decode([uplink["g"][2]], d)[0], wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(codecs[3].decode([uplink["g"][3]], d)[0], torch.round(3 * wanted) / 3, rtol=0, atol=1e-6)


def test_levels_are_cut_to_their_range():
    method = algorithm("fedsmu", bits=8)
    v = normal().clamp(-1, 1)
    arrived = forged("gaussian", method, v, [2], sigma=200.0)[2]
    assert set(arrived.tolist()) >= {-1, 1} and np.mean(np.abs(arrived) == 1) > 0.98


def test_an_empty_row_is_neither_read_nor_written(monkeypatch):
    """EF21's warm start: a part that only some of the clients have."""
    method, (n, d) = algorithm("sgdm"), (5, 30)
    v = normal(n, d)
    monkeypatch.setattr(type(method), "message", lambda self, server, round: {"g": Float32()})
    uplink = {"g": Float32().encode(v)}
    for i in (1, 4):
        uplink["g"][i] = uplink["g"][i][:0]
    forge(attack("opposite"), method, {}, uplink, dataclasses.replace(round_of(n, d), attackers=frozenset([3, 4])))
    assert len(uplink["g"][1]) == len(uplink["g"][4]) == 0
    arrived = Float32().decode([uplink["g"][3]], d)[0]
    torch.testing.assert_close(arrived, -(v[0] + v[2]) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["fedpm", "fedmask"])
def test_mask_bits_are_read_and_written_as_signs(method):
    """The opposite of mask bits is their majority, inverted; the server reads them as 0 and 1."""
    bits = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
    uplink = {"m": Mask().encode(bits.bool())}
    round = dataclasses.replace(round_of(4, 4), attackers=frozenset([3]))
    forge(attack("opposite"), algorithm(method), {}, uplink, round)
    assert Mask().decode(uplink["m"], 4)[3].tolist() == [0, 0, 1, 1]
    forge(attack("sign_flip"), algorithm(method), {}, uplink, round)
    assert Mask().decode(uplink["m"], 4)[3].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("name", ["opposite", "sign_flip"])
def test_hidenseek_is_attacked_in_the_weights_that_it_keeps(name):
    method = algorithm("hidenseek", sparsity=0.5)
    honest = torch.arange(20) % 3 == 0
    uplink = {"m": Mask().encode(honest.expand(3, 20))}
    forge(attack(name), method, {}, uplink, dataclasses.replace(round_of(3, 40), attackers=frozenset([0])))
    assert torch.equal(Mask().decode(uplink["m"], 20), torch.stack([~honest, honest, honest]).float())
