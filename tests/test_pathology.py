from dataclasses import replace

import numpy as np
import pytest

from perfnb.data.anatomy import draw_anatomy
from perfnb.data.bolus import MTT_LEVELS_S
from perfnb.data.pathology import HELD_OUT_KINDS, KINDS, draw_lesion
from perfnb.data.physiology import draw_perfusion


@pytest.fixture(scope="module")
def brain():
    return draw_anatomy(np.random.default_rng(0))


@pytest.fixture(scope="module")
def lesions(brain):
    rngs = [np.random.default_rng(seed) for seed in range(50)]
    return {cohort: [draw_lesion(cohort, rng, brain) for rng in rngs] for cohort in KINDS}


def lesion_of(kind, brain, cohort="acute", seed=4):
    return draw_lesion(cohort, np.random.default_rng(seed), brain, kind)


def test_every_kind_of_lesion_comes_up(lesions):
    for cohort, kinds in KINDS.items():
        assert {lesion.facts["lesion"] for lesion in lesions[cohort]} == set(kinds)
        assert sum(kinds.values()) == pytest.approx(1.0)


def test_acute_lesion_has_a_core_in_a_penumbra(lesions):
    for lesion in lesions["acute"]:
        assert lesion.flow.min() >= 0.05 and lesion.delay_s.max() <= 12.0
        if lesion.facts["lesion"] not in ("trunk", "branch", "ACA", "PCA"):
            assert not lesion.penumbra.any()
            continue
        deep_core, deep_rim = lesion.core > 0.97, lesion.penumbra > 0.97
        assert (lesion.flow[deep_core] < 0.32).all()
        assert ((lesion.flow[deep_rim] > 0.28) & (lesion.flow[deep_rim] < 0.62)).all()
        assert lesion.delay_s.max() > 2.0


def test_edges_are_soft(lesions):
    lesion = next(one for one in lesions["acute"] if one.facts["lesion"] == "trunk")
    partial = (lesion.penumbra > 0.1) & (lesion.penumbra < 0.9)
    assert partial.sum() > 0.05 * (lesion.penumbra > 0.5).sum()


def test_chronic_lesion_delays_and_disperses_without_a_core(lesions):
    for lesion in lesions["chronic"]:
        assert not lesion.core.any()
        if lesion.facts["lesion"] != "none":
            assert 0.5 < lesion.delay_s.max() <= 5.0
            assert 0.5 < lesion.dispersion_s.max() <= 4.5
            assert lesion.volume.max() > 1.05 and lesion.flow.min() > 0.55


def test_lesion_keeps_to_its_side(brain, lesions):
    for lesion in lesions["acute"] + lesions["chronic"]:
        if lesion.facts["side"] in ("none", "both"):
            assert lesion.facts["lesion"] in ("none", "low output")
            continue
        other = brain.template_mm[0] * (-1 if lesion.facts["side"] == "right" else 1) > 12
        assert lesion.delay_s[other].max() < 0.1 * lesion.delay_s.max()


def test_held_out_lesion_comes_only_when_asked_for_and_on_both_sides(brain, lesions):
    right, left = brain.template_mm[0] > 15, brain.template_mm[0] < -15
    for cohort, kind in HELD_OUT_KINDS.items():
        assert kind not in {lesion.facts["lesion"] for lesion in lesions[cohort]}
        for seed in range(5):
            lesion = lesion_of(kind, brain, cohort, seed)
            assert lesion.facts["lesion"] == kind and lesion.facts["side"] == "both"
            assert min(lesion.delay_s[side].max() for side in (right, left)) > 0.4
    assert lesion_of("emboli", brain).core.max() > 0.5


def test_reopened_artery_feeds_a_core_that_is_lost(brain):
    for seed in range(5):
        lesion = lesion_of("reperfused", brain, seed=seed)
        lost = lesion.core > 0.7
        assert lost.any() and not lesion.penumbra.any()
        assert lesion.flow.min() > 0.95 and lesion.flow[lost].mean() > 1.0
        assert lesion.delay_s.max() <= 1.0


def test_weak_heart_slows_both_sides_most_at_the_border_zones(brain):
    lesion = lesion_of("low output", brain)
    border = brain.border_mm < 3
    assert (lesion.flow < 0.95).all() and not (lesion.core.any() or lesion.penumbra.any())
    assert lesion.delay_s[border].mean() > 2 * lesion.delay_s[brain.border_mm > 15].mean()


def test_scars_have_less_flow(brain):
    none = lesion_of("none", brain)
    bare = replace(brain, gliosis=np.zeros_like(brain.gliosis))
    scarred, plain = (draw_perfusion(np.random.default_rng(1), b, none) for b in (brain, bare))
    loss = 1 - scarred.cbf / plain.cbf
    assert loss.max() > 0.05 and loss.max() <= 0.5
    assert np.abs(loss[:, brain.gliosis < 1e-6]).max() < 1e-5


def test_central_volume_theorem_holds_in_every_compartment(brain, lesions):
    for lesion in lesions["acute"][:5]:
        perfusion = draw_perfusion(np.random.default_rng(1), brain, lesion)
        expected = MTT_LEVELS_S[perfusion.mtt_index]
        np.testing.assert_allclose(60 * perfusion.cbv / perfusion.cbf, expected)


def test_lesion_leaves_the_rest_of_the_brain_alone(brain, lesions):
    none = next(one for one in lesions["acute"] if one.facts["lesion"] == "none")
    trunk = next(one for one in lesions["acute"] if one.facts["lesion"] == "trunk")
    healthy, ill = (draw_perfusion(np.random.default_rng(1), brain, one) for one in (none, trunk))
    far = trunk.penumbra + trunk.core < 1e-4
    np.testing.assert_allclose(healthy.cbf[:, far], ill.cbf[:, far], rtol=1e-3)
    assert healthy.delay_s.min() >= 0 and healthy.delay_s.max() <= 2.0


def test_flow_varies_between_and_within_patients(brain, lesions):
    none = next(one for one in lesions["acute"] if one.facts["lesion"] == "none")
    drawn = [draw_perfusion(np.random.default_rng(seed), brain, none) for seed in range(12)]
    means = np.array([one.cbf[0].mean() for one in drawn])
    assert means.std() / means.mean() > 0.08
    assert all(one.cbf[0].std() / one.cbf[0].mean() > 0.08 for one in drawn)
