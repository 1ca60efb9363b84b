import numpy as np
import pytest
from scipy import ndimage
from synthetic_curves import arterial_input, sampled, small_series, tissue_curve

from perfnb.classical.aif import NoAIF, find_aif
from perfnb.classical.aif_features import arrival_time, curve_features, delays
from perfnb.classical.aif_given import read_curve
from perfnb.classical.aif_verdict import motion_at_peak, tissue_misfit
from perfnb.classical.relaxivity import (
    arterial_concentration,
    arterial_delta_r2star,
    linearised,
    tissue_concentration,
)
from perfnb.classical.signal import delta_r2star, find_baseline, usable_voxels

TR, TE = 1.5, 0.03


def curves_of(series, mask):
    baseline = find_baseline(series, mask)
    return delta_r2star(series, TE, baseline), usable_voxels(series, mask, baseline), baseline


def found_in(series, mask, **options):
    curves, usable, baseline = curves_of(series, mask)
    return find_aif(curves, usable, TR, baseline.arrival, **options)


@pytest.mark.parametrize("snr", [20, 50, 100])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_artery_is_found_and_neither_vein_nor_tissue_nor_noise(snr, seed):
    series, truth = small_series(snr, seed)
    aif = found_in(series, truth["mask"])
    assert aif.ok and aif.reasons == ()
    assert 3 <= aif.voxels.sum() <= 4
    assert (aif.voxels & ~truth["artery"]).sum() == 0
    assert np.corrcoef(aif.curve, truth["aif"])[0, 1] > 0.995
    assert aif.curve.shape == (series.shape[-1],)


def test_purest_voxels_are_taken_and_partial_volume_rims_are_left():
    series, truth = small_series(50)
    core = truth["artery"] & ndimage.binary_erosion(truth["artery"], np.ones((2, 2, 1), bool))
    rim = truth["artery"] & ~core
    tissue = series[12, 15, 1] / series[12, 15, 1, 3:8].mean()
    level = series[rim][:, 3:8].mean(axis=1, keepdims=True)
    series[rim] = 0.5 * series[rim] + 0.5 * level * tissue
    aif = found_in(series, truth["mask"])
    assert core.sum() >= 3
    assert (aif.voxels & core).sum() >= 3 and not (aif.voxels & rim).any()


def test_roughness_does_not_discard_a_true_artery_in_a_noisy_film():
    series, truth = small_series(20)
    curves, usable, baseline = curves_of(series, truth["mask"])
    features = curve_features(curves[truth["artery"]], TR, baseline.arrival)
    assert (features["roughness"] < 2.2).mean() > 0.9
    assert found_in(series, truth["mask"]).ok


@pytest.mark.parametrize("snr", [20, 100])
@pytest.mark.parametrize("has_vein", [True, False])
def test_without_an_artery_neither_vein_nor_tissue_nor_noise_is_taken(snr, has_vein):
    series, truth = small_series(snr)
    curves, usable, baseline = curves_of(series, truth["mask"])
    usable &= ~truth["artery"] & (has_vein | ~truth["vein"])
    aif = find_aif(curves, usable, TR, baseline.arrival)
    assert not aif.ok and aif.reasons
    assert not (aif.voxels & truth["vein"]).any()


def test_noise_alone_is_no_aif():
    noise = np.random.default_rng(0).normal(0, 1, (16, 16, 3, 60))
    aif = find_aif(noise, np.ones((16, 16, 3), bool), TR, 10)
    assert not aif.ok and aif.reasons


def test_a_single_voxel_is_no_brain():
    series, truth = small_series()
    curves, usable, baseline = curves_of(series, truth["mask"])
    alone = np.zeros_like(usable)
    alone[tuple(np.argwhere(truth["artery"])[0])] = True
    assert not find_aif(curves, alone, TR, baseline.arrival).ok


def test_slice_times_move_the_curve_to_the_frames_start():
    series, truth = small_series(1000)
    fine = 60 * arterial_input(TR, 60, 12 * TR) / arterial_input(TR, 60, 12 * TR).max()
    times = np.array([0.0, 0.5, 1.0])
    shift = (times / 0.02).astype(int)
    late = np.stack([sampled(np.roll(fine, -n), TR, 60) for n in shift])
    x, y, z = np.nonzero(truth["artery"])
    series[x, y, z] = 800 * np.exp(-TE * late[z])
    aif = found_in(series, truth["mask"], slice_times_s=times)
    true = arrival_time(sampled(fine, TR, 60), TR)
    assert arrival_time(aif.curve, TR) == pytest.approx(true, abs=0.1)
    plain = found_in(series, truth["mask"])
    assert arrival_time(plain.curve, TR) < true - 0.2


def test_vein_tells_how_much_tissue_is_in_the_arterial_voxels():
    series, truth = small_series(200)
    fine = arterial_input(TR, 60, 12 * TR)
    pure = tissue_curve(fine / fine.max(), 100 * 0.73 / 1.04, 4, 3)  # all of it, later and wider
    series[truth["vein"]] = 800 * np.exp(-TE * 60 * 1.4 * sampled(pure, TR, 60))
    plain = found_in(series, truth["mask"])
    scaled = found_in(series, truth["mask"], rescale_by_vein=True)
    factor = plain.measures["partial_volume"]
    assert plain.measures["partial_volume_known"] and plain.measures["vein_voxels"] >= 2
    assert factor == pytest.approx(1.4, rel=0.05)
    np.testing.assert_allclose(scaled.curve, factor * plain.curve, rtol=1e-5)


def two_sided(late=0.0):
    """A round brain with an artery on each side; tissue of the low side is late."""
    series, truth = small_series(100)
    mirrored = truth["artery"][::-1]
    series[mirrored] = series[truth["artery"]]
    low = truth["mask"] & (np.arange(24) < 12)[:, None, None]
    tissue = low & ~truth["artery"] & ~truth["vein"]
    if late:
        frames = np.arange(60)
        moved = [np.interp(frames - late / TR, frames, row) for row in series[tissue]]
        series[tissue] = np.array(moved)
    return series, truth


@pytest.mark.parametrize(("side", "expected"), [("left", 0), ("right", 1), ("healthier", 1)])
def test_rater_takes_lateral_arteries_of_the_side_asked_for(side, expected):
    series, truth = two_sided(late=2.0)
    series[truth["delayed"]] = series[5, 12, 1] if side == "left" else series[15, 8, 1]
    aif = found_in(series, truth["mask"], side=side)
    x = np.nonzero(aif.voxels)[0]
    assert 3 <= len(x) <= 4 and ((x > 11.5) == bool(expected)).all()


def test_the_users_voxels_are_taken_and_judged():
    series, truth = small_series()
    curves, usable, baseline = curves_of(series, truth["mask"])
    aif = find_aif(curves, usable, TR, baseline.arrival, aif_mask=truth["vein"])
    assert aif.ok
    assert any("leads that of tissue" in reason for reason in aif.reasons)
    np.testing.assert_array_equal(aif.voxels, truth["vein"])
    np.testing.assert_allclose(aif.curve, curves[truth["vein"]].mean(axis=0), rtol=1e-4)


def test_the_users_curve_is_taken_and_judged():
    series, truth = small_series()
    aif = found_in(series, truth["mask"], aif_curve=truth["aif"])
    assert aif.ok and aif.reasons == () and not aif.voxels.any()
    np.testing.assert_allclose(aif.curve, truth["aif"], rtol=1e-5)
    late = found_in(series, truth["mask"], aif_curve=np.roll(truth["aif"], 6))
    assert late.reasons


BAD_CURVES = {
    "short": (lambda c: c[:-1], r"shape \(59,\).*60 frames"),
    "long": (lambda c: np.r_[c, 0], r"shape \(61,\).*60 frames"),
    "constant": (lambda c: np.full_like(c, 3.0), "constant"),
    "negative": (lambda c: -c, "mostly negative"),
    "first": (lambda c: np.r_[c.max() * 2, c[1:]], "peaks in frame 0"),
    "nan": (lambda c: np.where(np.arange(60) == 7, np.nan, c), "not a number at frame 7"),
}


@pytest.mark.parametrize("fault", BAD_CURVES)
def test_a_curve_that_cannot_be_an_input_is_named(fault):
    series, truth = small_series()
    change, message = BAD_CURVES[fault]
    with pytest.raises(ValueError, match=message):
        found_in(series, truth["mask"], aif_curve=change(truth["aif"].astype(float)))


def test_bad_options_are_named():
    series, truth = small_series()
    for options, message in (
        ({"aif_mask": np.zeros_like(truth["mask"])}, "aif_mask is empty"),
        ({"aif_mask": truth["mask"][1:]}, "aif_mask has shape"),
        ({"side": "top"}, "side='top'"),
        ({"side": "left", "aif_curve": truth["aif"]}, "exclude each other"),
        ({"motion": np.zeros((59, 6))}, "motion has shape"),
        ({"slice_times_s": np.zeros(4)}, "slice_times_s has shape"),
        ({"slice_times_s": np.array([0.0, 500.0, 1000.0])}, "in milliseconds"),
    ):
        with pytest.raises(ValueError, match=message):
            found_in(series, truth["mask"], **options)


def write(path, times, values, header="time_s\tdR2star"):
    rows = [f"{t:.3f}\t{v:.5f}" for t, v in zip(times, values, strict=True)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_tables_are_read_with_or_without_times(tmp_path):
    _, truth = small_series()
    curve = truth["aif"]
    timed = write(tmp_path / "a.tsv", np.arange(60) * TR, curve)
    np.testing.assert_allclose(read_curve(timed, 60, TR), curve, atol=1e-4)
    plain = tmp_path / "b.tsv"
    plain.write_text("\n".join(f"{v:.5f}" for v in curve))
    np.testing.assert_allclose(read_curve(plain, 60, TR), curve, atol=1e-4)


def test_bad_tables_are_named(tmp_path):
    curve = small_series()[1]["aif"]
    times = np.arange(60) * TR
    irregular = np.where(np.arange(60) > 30, times + 0.7, times)
    for table, message in (
        (write(tmp_path / "a.tsv", irregular, curve), "time step 2.2 s after row 31"),
        (write(tmp_path / "b.tsv", times / 1.5, curve), "repetition time 1.5 s throughout"),
        (write(tmp_path / "c.tsv", times, curve, "t\tsignal"), "columns t, signal"),
        (write(tmp_path / "d.tsv", times[1:], curve[1:]), r"shape \(59,\)"),
        (write(tmp_path / "e.tsv", times, -curve), "mostly negative"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            read_curve(table, 60, TR)
        assert table.name in str(caught.value)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_curve(tmp_path / "none.tsv", 60, TR)
    (tmp_path / "f.tsv").write_text("1\n2\nthree\n")
    with pytest.raises(ValueError, match="expected numbers"):
        read_curve(tmp_path / "f.tsv", 60, TR)


def test_motion_at_the_peak_is_told_and_held_against_the_input():
    series, truth = small_series()
    motion = np.zeros((60, 6))
    motion[14:22, 2] = 3.0
    motion[14:22, 3] = np.rad2deg(4.0 / 50)
    aif = found_in(series, truth["mask"], motion=motion)
    assert aif.measures["motion_mm"] == pytest.approx(5.0)
    assert not aif.ok and "head 5.0 mm away" in aif.reasons[0]
    assert "motion_mm" not in found_in(series, truth["mask"]).measures
    after = np.roll(motion, 30, axis=0)
    assert motion_at_peak(after, truth["aif"], 12) == 0


def test_wrong_inputs_do_not_explain_the_tissue_and_right_ones_do():
    fine = arterial_input(TR, 60, 12 * TR)
    true = sampled(fine, TR, 60)
    tissue = sampled(tissue_curve(fine, 4, 5, 1), TR, 60)
    step = np.where(np.arange(60) >= 14, true.max(), 0.0)
    late = sampled(tissue_curve(fine, 25, 9, 5), TR, 60)
    misfit, delay_s = tissue_misfit(np.stack([true, step, late]), tissue, TR, 12)
    assert misfit[0] < 0.002 and delay_s[0] == pytest.approx(1.0, abs=0.5)
    assert misfit[1] > 0.05
    assert misfit[2] > 0.012 or delay_s[2] < -0.5


def test_delays_are_measured_between_frames():
    fine = arterial_input(TR, 60, 12 * TR)
    rows = np.stack([0.7 * sampled(np.roll(fine, n), TR, 60) for n in (0, 10, 25)])
    found = delays(rows, sampled(fine, TR, 60), TR)
    np.testing.assert_allclose(found, [0, 0.2, 0.5], atol=0.1)


def test_refusal_lists_its_reasons():
    error = NoAIF(("too late", "too wide"))
    assert error.reasons == ("too late", "too wide") and "too late; too wide" in str(error)
    for way_out in ("aif_mask", "reference maps of your own beside the film", "leave this patient"):
        assert way_out in str(error)


@pytest.mark.parametrize("field", [1.5, 3.0])
def test_arterial_concentration_inverts_the_quadratic_law(field):
    concentration = np.array([-1.0, 0.0, 0.5, 3.0, 10.0])
    rate = arterial_delta_r2star(concentration, field)
    np.testing.assert_allclose(arterial_concentration(rate, field), concentration, atol=1e-12)
    assert rate[4] / rate[3] > 10 / 3  # more than proportional


def test_linearised_curve_keeps_its_area_and_loses_height():
    curve = small_series()[1]["aif"]
    flat = linearised(curve, 3.0)
    assert flat.sum() == pytest.approx(curve.sum())
    assert flat.max() < 0.9 * curve.max()
    with pytest.raises(ValueError, match="no area"):
        linearised(-curve, 3.0)
    with pytest.raises(ValueError, match="known at 1.5 or 3 T"):
        linearised(curve, 7.0)
    with pytest.raises(ValueError, match="relaxivity=0"):
        tissue_concentration(curve, 0)
    np.testing.assert_allclose(tissue_concentration(curve, 2.0), curve / 2)
