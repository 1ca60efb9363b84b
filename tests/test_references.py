from dataclasses import replace

import numpy as np
import pytest
from synthetic_curves import small_series

from perfnb.classical import references
from perfnb.classical.aif import NoAIF, find_aif
from perfnb.classical.deconvolution import METHODS
from perfnb.classical.references import reference_maps, smooth_in_plane
from perfnb.data.phantom import draw_patient
from perfnb.maps import MAPS

TR, TE, VOXEL = 1.5, 0.03, (3.75, 3.75)


def made(series, truth, voxel_size_mm=VOXEL, **options):
    return reference_maps(series, truth["mask"], TR, TE, voxel_size_mm, **options)


def test_maps_are_complete_finite_limited_and_empty_outside():
    series, truth = small_series()
    references = made(series, truth)
    assert list(references.maps) == list(MAPS)
    for name, values in references.maps.items():
        low, high = MAPS[name].limits
        assert values.shape == truth["mask"].shape and values.dtype == np.float32
        assert np.isfinite(values).all() and low <= values.min() and values.max() <= high
        assert (values[~truth["mask"]] == 0).all()


def test_delayed_tissue_is_late_and_slow():
    series, truth = small_series()
    maps = made(series, truth).maps
    normal = truth["mask"] & ~truth["delayed"] & ~truth["artery"] & ~truth["vein"]
    late = maps["Tmax"][truth["delayed"]].mean() - maps["Tmax"][normal].mean()
    assert late == pytest.approx(truth["delay_s"]["delayed"] - truth["delay_s"]["normal"], abs=1.0)
    assert maps["TTP"][truth["delayed"]].mean() > maps["TTP"][normal].mean() + 3
    assert maps["CBF"][truth["delayed"]].mean() < maps["CBF"][normal].mean()


def test_maps_do_not_depend_on_gain_or_coil_sensitivity():
    series, truth = small_series(snr=1000)
    shading = np.linspace(0.5, 2, 24)[:, None, None, None]
    plain, shaded = made(series, truth).maps, made(0.01 * series * shading, truth).maps
    for name in MAPS:
        np.testing.assert_allclose(shaded[name], plain[name], rtol=0.01, atol=0.05)


def test_holes_are_filled_by_their_neighbours():
    series, truth = small_series()
    holes = np.argwhere(truth["delayed"])[::10]
    broken = series.copy()
    for value, (x, y, z) in zip([0, np.nan, -5, 700] * 9, holes, strict=False):
        broken[x, y, z] = value
    whole, filled = made(series, truth), made(broken, truth)
    index = tuple(holes.T)
    assert not filled.usable[index].any()
    assert np.isfinite(filled.maps["Tmax"]).all()
    assert abs(filled.maps["Tmax"][index] - whole.maps["Tmax"][index]).mean() < 1.5


def test_smoothing_keeps_the_background_out():
    usable = np.zeros((16, 16, 1), bool)
    usable[4:12, 4:12] = True
    curves = np.where(usable[..., None], 7.0, -1e4) * np.ones(5)
    smooth = smooth_in_plane(curves, usable, (2.0, 4.0), 3.0)
    np.testing.assert_allclose(smooth[usable], 7.0, rtol=1e-9)


def test_smoothing_has_the_width_in_millimetres():
    curves = np.zeros((41, 41, 1, 1))
    curves[20, 20] = 1
    smooth = smooth_in_plane(curves, np.ones((41, 41, 1), bool), (1.0, 2.0), 4.0)[:, :, 0, 0]
    for axis, voxel_mm in ((1, 1.0), (0, 2.0)):
        line = smooth.sum(axis=axis)
        width = np.sqrt((line * ((np.arange(41) - 20) * voxel_mm) ** 2).sum() / line.sum())
        assert width == pytest.approx(4.0, rel=0.02)


def test_smoothing_brings_tmax_nearer_to_the_truth():
    series, truth = small_series(snr=20)
    inside = truth["delayed"]
    spread = [made(series, truth, smoothing_mm=s).maps["Tmax"][inside].std() for s in (0, 2.6)]
    assert spread[1] < spread[0]


def test_without_an_artery_there_is_no_map_but_the_user_can_give_one():
    series, truth = small_series()
    series[truth["artery"]] = series[12, 15, 1]
    with pytest.raises(NoAIF) as refusal:
        made(series, truth)
    assert refusal.value.reasons
    assert made(series, truth, aif_mask=truth["vein"]).aif.ok


def test_bad_input_is_named():
    series, truth = small_series()
    with pytest.raises(ValueError, match="repetition_time_s=1500"):
        reference_maps(series, truth["mask"], 1500, TE, VOXEL)
    with pytest.raises(ValueError, match="echo_time_s=30"):
        reference_maps(series, truth["mask"], TR, 30, VOXEL)
    with pytest.raises(ValueError, match="voxel_size_mm"):
        reference_maps(series, truth["mask"], TR, TE, (0, 1))
    with pytest.raises(ValueError, match="expected \\(X, Y, Z, T\\)"):
        reference_maps(series[:, :, 0], truth["mask"], TR, TE, VOXEL)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_whole_maps_that_tell_late_tissue(method):
    series, truth = small_series()
    maps = made(series, truth, method=method).maps
    normal = truth["mask"] & ~truth["delayed"] & ~truth["artery"] & ~truth["vein"]
    assert list(maps) == list(MAPS)
    assert all(np.isfinite(values).all() for values in maps.values())
    late = np.median(maps["Tmax"][truth["delayed"]]) - np.median(maps["Tmax"][normal])
    assert late > 2.0


def test_motion_is_taken_out_before_anything_else():
    still, moved = (
        draw_patient("acute", 4, (48, 48, 6), motion=motion) for motion in ("none", "considerable")
    )
    size = tuple(np.abs(np.diag(moved.affine)[:3]))
    times = (still.repetition_time_s, still.echo_time_s)

    def ttp(patient, **options):
        given = {"aif_mask": still.arteries, **options}
        return reference_maps(patient.series, still.mask, *times, size, **given).maps["TTP"]

    brain, best = still.mask, ttp(still)
    left, right = (np.abs(ttp(moved, corrects_motion=c) - best)[brain].mean() for c in (1, 0))
    assert left < 0.7 * right


def test_tissue_is_taken_out_only_of_films_that_were_put_back_into_place(monkeypatch):
    asked = []

    def find(*args, resampled=False, **more):
        asked.append(resampled)
        return find_aif(*args, resampled=resampled, **more)

    monkeypatch.setattr(references, "find_aif", find)
    for motion in ("none", "considerable"):
        patient = draw_patient("acute", 4, (48, 48, 6), motion=motion)
        size = tuple(np.abs(np.diag(patient.affine)[:3]))
        given = (patient.series, patient.mask, patient.repetition_time_s, patient.echo_time_s, size)
        for corrects, rescales in ((True, True), (True, False), (False, True)):
            how = {"corrects_motion": corrects, "rescale_by_vein": rescales}
            reference_maps(*given, **how, aif_mask=patient.arteries)
    assert asked == [False, False, False, True, False, False]


def test_given_curve_is_taken_for_the_input():
    series, truth = small_series()
    found = made(series, truth)
    again = made(series, truth, aif_curve=found.aif.curve)
    assert again.aif_source == "given" and not again.aif.voxels.any()
    for name in MAPS:
        np.testing.assert_allclose(again.maps[name], found.maps[name], rtol=1e-4, atol=1e-3)
    twice = made(series, truth, aif_curve=2 * found.aif.curve).maps["CBF"]
    np.testing.assert_allclose(2 * twice, found.maps["CBF"], rtol=1e-2, atol=0.5)


def test_expert_looks_elsewhere_before_giving_up(monkeypatch):
    series, truth = small_series()
    looked = []

    def find(*args, side=None, **more):
        looked.append(side)
        found = find_aif(*args, **more)
        return replace(found, ok=len(looked) == 2, reasons=("late",))

    monkeypatch.setattr(references, "find_aif", find)
    assert made(series, truth).aif_source == "replaced"
    assert looked == [None, "healthier"]
    with pytest.raises(NoAIF, match="late"):
        made(series, truth, search="contralateral")
    assert looked[2:] == ["healthier", None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "FFT"}, "method='FFT' is unknown; known: SVD, block-circulant SVD"),
        ({"search": "by hand"}, "search='by hand' is unknown; known: automatic, contralateral"),
        ({"corrects_motion": True}, "motion needs three voxel sizes"),
    ],
)
def test_unknown_choices_are_refused(options, message):
    series, truth = small_series()
    with pytest.raises(ValueError, match=message):
        made(series, truth, **options)
