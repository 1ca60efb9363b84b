import numpy as np
import pytest

from perfnb.data import vessels
from perfnb.data.anatomy import LABELS, SLAB_MM, draw_anatomy, make_affine
from perfnb.data.warp import LATTICE_SHAPE, Warp, draw_warp, sample, smooth_field


@pytest.fixture(scope="module")
def brains():
    return [draw_anatomy(np.random.default_rng(seed)) for seed in range(3)]


@pytest.fixture(scope="module")
def fine_brain():
    return draw_anatomy(np.random.default_rng(0), (128, 128, 25))


def no_warp():
    still = np.zeros((3, *LATTICE_SHAPE))
    return Warp(np.eye(3), np.eye(3), np.zeros(3), still, still)


def test_fractions_fill_the_mask_and_nothing_else(brains):
    for brain in brains:
        total = brain.gm + brain.wm + brain.csf + brain.arteries + brain.vein
        np.testing.assert_allclose(total[brain.mask], 1.0, atol=1e-6)
        assert not total[~brain.mask].any()
        assert 900 < brain.mask.sum() * brain.voxel_ml < 2300


def test_labels_follow_the_fractions(brains):
    brain = brains[0]
    assert set(np.unique(brain.tissue)) == set(LABELS.values())
    assert brain.gm[brain.tissue == LABELS["GM"]].mean() > 0.6
    assert brain.wm[brain.tissue == LABELS["WM"]].mean() > 0.6
    assert brain.arteries[brain.tissue == LABELS["artery"]].min() > 0.2
    assert (brain.territories > 0).sum() == brain.mask.sum()


def test_brains_differ_and_are_not_symmetric(brains):
    first, second = brains[0], brains[1]
    both = first.mask & second.mask
    assert np.corrcoef(first.gm[both], second.gm[both])[0, 1] < 0.8
    mirrored = first.gm[::-1]
    both = first.mask & first.mask[::-1]
    assert np.corrcoef(first.gm[both], mirrored[both])[0, 1] < 0.9


def test_same_brain_on_a_finer_grid(brains, fine_brain):
    coarse = brains[0]
    for name in ("gm", "wm", "arteries"):
        volumes = [getattr(b, name).sum() * b.voxel_ml for b in (coarse, fine_brain)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.12)
    centres = [b.points_mm.mean(axis=1) for b in (coarse, fine_brain)]
    np.testing.assert_allclose(*centres, atol=3.0)


def test_arteries_hold_voxels_that_are_nearly_pure(brains, fine_brain):
    for brain in (*brains, fine_brain):
        assert (brain.arteries > 0.6).sum() >= 4
        assert (brain.vein > 0.5).sum() >= 4
        assert brain.arterial_delay_s.max() < 2.0


def test_few_slices_show_the_insula_with_its_arteries():
    brain = draw_anatomy(np.random.default_rng(5), (64, 64, 3))
    assert (brain.mask.sum((0, 1)) > 500).all()
    assert (brain.arteries > 0.4).sum() >= 4


def test_slab_hangs_from_the_vertex():
    affine = make_affine((128, 128, 25), 240.0, no_warp())
    np.testing.assert_allclose(np.diag(affine)[:3], (1.875, 1.875, 5.0))
    top = affine[2, 3] + 24 * 5.0 + 2.5
    assert 76 < top < 90 and SLAB_MM == 125.0


def test_warp_and_its_inverse_cancel():
    rng = np.random.default_rng(1)
    warp = draw_warp(rng, ventricles=0.4)
    points = rng.uniform(-50, 50, (3, 500))
    back = warp.to_scanner(warp.to_template(points))
    assert np.abs(warp.to_template(points) - points).mean() > 3.0
    assert np.abs(back - points).max() < 1.0


def test_smooth_field_has_unit_size_and_is_smooth():
    field = smooth_field(np.random.default_rng(2), 24.0)
    assert field.std() == pytest.approx(1.0)
    assert np.abs(np.diff(field, axis=0)).mean() < 0.4
    node = np.array([[-124.0], [-150.0], [-112.0]])
    assert sample(field, node)[0] == pytest.approx(field[0, 0, 0])


def test_tube_keeps_its_volume_on_any_grid():
    tube = vessels.Tube("straight", ((0, 0, -30), (0, 0, 30)), (2.0, 2.0), (0.0, 1.0), paired=False)
    volumes = []
    for shape in ((64, 64, 12), (128, 128, 25)):
        affine = make_affine(shape, 240.0, no_warp())
        rng = np.random.default_rng(3)
        fraction, delay = vessels.draw_tubes(rng, (tube,), no_warp(), affine, shape)
        volumes.append(fraction.sum() * np.diag(affine)[:3].prod())
        assert delay.max() <= 1.0 and not delay[fraction == 0].any()
    assert volumes[0] == pytest.approx(volumes[1], rel=0.02)
    assert volumes[0] == pytest.approx(np.pi * 4 * 60, rel=0.25)  # each patient's calibre varies


def test_territories_are_where_textbooks_put_them():
    points = np.array([[5, 50, 20], [50, -10, 10], [-8, -85, 5], [10, -60, -40]], float).T
    distances = vessels.territory_distances(points)
    nearest = np.array(list(distances))[np.argmin(list(distances.values()), axis=0)]
    assert list(nearest) == ["ACA", "MCA", "PCA", "VB"]
