import numpy as np
import pytest

from perfnb.data.anatomy import draw_anatomy
from perfnb.data.bolus import MTT_LEVELS_S
from perfnb.data.pathology import KINDS, draw_lesion
from perfnb.data.physiology import draw_perfusion


@pytest.fixture(scope="module")
def brain():
    return draw_anatomy(np.random.default_rng(0))


@pytest.fixture(scope="module")
def lesions(brain):
    rngs = [np.random.default_rng(seed) for seed in range(30)]
    return {cohort: [draw_lesion(cohort, rng, brain) for rng in rngs] for cohort in KINDS}


def test_every_kind_of_lesion_comes_up(lesions):
    for cohort, kinds in KINDS.items():
        assert {lesion.facts["lesion"] for lesion in lesions[cohort]} == set(kinds)
        assert sum(kinds.values()) == pytest.approx(1.0)


def test_acute_lesion_has_a_core_in_a_penumbra(lesions):
    for lesion in lesions["acute"]:
        assert lesion.flow.min() >= 0.05 and lesion.delay_s.max() <= 12.0
        if lesion.facts["lesion"] in ("none", "stenosis"):
            assert not lesion.core.any()
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
        if lesion.facts["lesion"] == "none":
            assert (lesion.flow == 1).all()
            continue
        other = brain.template_mm[0] * (-1 if lesion.facts["side"] == "right" else 1) > 12
        assert lesion.delay_s[other].max() < 0.1 * lesion.delay_s.max()


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
