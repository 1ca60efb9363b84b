"""A film becomes slices of one size, orientation and level, and its maps come along."""

import json
import logging
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from small_films import AFFINE, preparation, write_film, write_volume
from synthetic_curves import small_series

from perfnb.classical import references
from perfnb.classical.signal import Baseline
from perfnb.data.cohorts import find_cases
from perfnb.data.preparation import SERIES_LIMITS, fit_frames, prepare_patient
from perfnb.data.scaling import STORED
from perfnb.maps import MAPS
from perfnb.volumes import read_series, read_slice_times


def prepared(folder, **changes):
    return prepare_patient(find_cases(folder)[0], preparation(folder, **changes).settings)


def bolus(frames: int, arrival: int = 12, width: int = 10, first: float = 100.0):
    """Return a film (2, 2, 1, frames), dark from `arrival` on for `width` frames, its mask, and
    its baseline; `first` is the signal of the first frame, above steady state."""
    curve = np.full(frames, 100.0)
    curve[arrival : arrival + width] = 60
    curve[0] = first
    series = np.tile(curve, (2, 2, 1, 1)).astype(np.float32)
    return series, np.ones((2, 2, 1), bool), Baseline(1, arrival, arrival, arrival + 1)


def test_shorter_films_repeat_their_last_frame():
    series, mask, baseline = bolus(57)
    series[..., -1] = 7
    fitted, cut = fit_frames(series, mask, baseline, 80, "f")
    assert fitted.shape == (2, 2, 1, 80) and cut == 0
    np.testing.assert_array_equal(fitted[..., :57], series)
    assert (fitted[..., 57:] == 7).all()


@pytest.mark.parametrize("first", [100.0, 300.0])
def test_longer_films_lose_their_end_with_a_warning(caplog, first):
    series, mask, baseline = bolus(91, first=first)
    with caplog.at_level(logging.WARNING):
        fitted, cut = fit_frames(series, mask, baseline, 80, "f.nii")
    np.testing.assert_array_equal(fitted, series[..., :80])
    assert cut == 11
    assert "f.nii has 91 time points: the last 11 are cut" in caplog.text
    assert fit_frames(*bolus(80), 80, "f")[1] == 0


@pytest.mark.parametrize(("arrival", "width"), [(75, 10), (85, 3), (70, 21)])
def test_film_whose_bolus_has_not_passed_is_not_cut(arrival, width):
    with pytest.raises(
        ValueError, match="f.nii has 91 .* not passed within the first 80: cut lead"
    ):
        fit_frames(*bolus(91, arrival, width), 80, "f.nii")


@pytest.mark.parametrize("gain", [1.0, 0.01, 3000.0])
def test_series_has_the_level_of_one_whatever_the_gain(tmp_path, gain):
    path = write_film(tmp_path, "p")
    film = nib.load(path)
    nib.save(nib.Nifti1Image(film.get_fdata(dtype=np.float32) * np.float32(gain), AFFINE), path)
    patient = prepared(tmp_path)
    assert patient.series.shape == (3, 64, 64, 64)
    baseline = slice(patient.facts["baseline_first"], patient.facts["baseline_last"])
    level = np.median(patient.series[:, baseline].transpose(0, 2, 3, 1)[patient.mask].mean(axis=1))
    assert level == pytest.approx(1, abs=0.05)
    assert (patient.series.transpose(0, 2, 3, 1)[~patient.mask] == 0).all()
    assert patient.facts["baseline_level"] == pytest.approx(800 * gain, rel=0.1)


def test_given_maps_are_taken_and_missing_ones_are_made(tmp_path):
    write_film(tmp_path, "p", maps=("Tmax", "CBF"))
    patient = prepared(tmp_path)
    assert set(patient.references) == set(MAPS)
    assert set(patient.computed) == {"CBV", "MTT", "TTP"}
    assert (patient.facts["references"], patient.facts["aif"]) == (
        "given and classical",
        "automatic",
    )
    given = nib.load(tmp_path / "p_Tmax.nii.gz").get_fdata()
    middle = patient.references["Tmax"][patient.mask]
    assert np.median(middle) == pytest.approx(np.median(given[given > 0]), rel=0.1)
    for name, values in patient.references.items():
        assert values.shape == (3, 64, 64) and (values[~patient.mask] == 0).all(), name
        assert np.isfinite(values).all(), name
    assert all(volume.shape == (24, 24, 3) for volume in patient.computed.values())


def test_all_maps_given_leave_nothing_to_make(tmp_path):
    write_film(tmp_path, "p")
    patient = prepared(tmp_path)
    assert patient.computed == {} and patient.truth == {}
    assert (patient.facts["references"], patient.facts["aif"]) == ("given", "")
    assert (patient.tissue == patient.mask).all()
    assert patient.facts["size"] == "24x24x3"
    assert patient.facts["frames"] == 60


def test_film_without_an_artery_comes_back_without_references(tmp_path, caplog):
    path = write_film(tmp_path, "p", maps=())
    series, truth = small_series()
    inside = truth["mask"]
    mean = np.median(series[inside], axis=0)
    level = series[..., :8].mean(axis=-1, keepdims=True) / mean[:8].mean()
    noise = np.random.default_rng(0).normal(0, 8, series.shape)
    flat = np.where(inside[..., None], level * mean + noise, 5)
    nib.save(nib.Nifti1Image(flat.astype(np.float32), AFFINE), path)
    with caplog.at_level(logging.WARNING):
        patient = prepared(tmp_path)
    assert patient.references == {} and patient.computed == {}
    assert patient.facts["aif"] == "none" and patient.facts["aif_reasons"]
    assert "p has no AIF: " in caplog.text
    assert patient.series.any()


def test_brain_is_found_where_no_mask_lies_beside_the_film(tmp_path):
    write_film(tmp_path, "p", mask=False)
    found = prepared(tmp_path).mask
    write_film(tmp_path, "p", mask=True)
    given = prepared(tmp_path).mask
    assert 2 * (found & given).sum() / (found.sum() + given.sum()) > 0.9


def test_brain_is_found_alike_in_other_voxel_orders(tmp_path):
    found = []
    for code in ("RAS", "LAS", "PSR"):
        path = write_film(tmp_path / code, "p", mask=False, maps=())
        image = nib.load(path)
        turn = nib.orientations.axcodes2ornt(code)
        turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), turn)
        nib.save(image.as_reoriented(turn), path)
        found.append(prepared(tmp_path / code).mask)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_the_same_brain_in_other_voxel_orders_gives_the_same_slices(tmp_path):
    """Films stored flipped, transposed or both differ only in how the file lists its voxels."""
    results = []
    for name, code in (("a", "RAS"), ("b", "LPS"), ("c", "PSL")):
        folder = tmp_path / name
        for path in (write_film(folder, "p", maps=("TTP",)), *sorted(folder.glob("p_*.nii.gz"))):
            image = nib.load(path)
            turn = nib.orientations.ornt_transform(
                nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(code)
            )
            nib.save(image.as_reoriented(turn), path)
        results.append(prepared(folder))
    for other in results[1:]:
        np.testing.assert_array_equal(other.mask, results[0].mask)
        np.testing.assert_allclose(other.series, results[0].series, atol=1e-5)
        for name, values in results[0].references.items():
            np.testing.assert_allclose(other.references[name], values, rtol=1e-3, atol=1e-3)
    assert results[1].computed["Tmax"].shape == (24, 24, 3)
    assert results[2].computed["Tmax"].shape == (24, 3, 24)


def test_computed_maps_lie_on_the_films_own_voxels(tmp_path):
    """The delayed quarter of the brain has a high Tmax in whatever order voxels are stored."""
    delayed = small_series()[1]["delayed"]
    write_film(tmp_path, "p", maps=())
    for path in sorted(tmp_path.glob("*.nii.gz")):
        image = nib.load(path)
        nib.save(image.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]])), path)
    turned = nib.orientations.apply_orientation(delayed, np.array([[1, -1], [2, 1], [0, -1]]))
    tmax = prepared(tmp_path).computed["Tmax"]
    assert tmax[turned].mean() > 2 * tmax[~turned & (tmax > 0)].mean()


def test_times_may_be_given_where_there_is_no_sidecar(tmp_path):
    write_film(tmp_path, "p")
    (tmp_path / "p.json").unlink()
    facts = prepared(tmp_path, repetition_time_s=2.0, echo_time_s=0.04).facts
    assert (facts["repetition_time_s"], facts["echo_time_s"]) == (2.0, 0.04)


def test_odd_voxels_in_the_brain_do_no_harm(tmp_path):
    """NaN, zero, negative and constant voxels: the maps stay finite, the rest as it was."""
    path = write_film(tmp_path, "p", maps=())
    plain = prepared(tmp_path)
    film = nib.load(path).get_fdata(dtype=np.float32)
    for x, value in zip((10, 12, 14), (np.nan, 0, -50), strict=True):
        film[x, 16, 1] = value
    film[16, 16, 1] = film[16, 16, 1, 5]
    nib.save(nib.Nifti1Image(film, AFFINE), path)
    odd = prepared(tmp_path)
    assert odd.facts["voxels_not_finite"] == 1
    assert np.isfinite(odd.series).all()
    for name, values in odd.references.items():
        assert np.isfinite(values).all(), name
        close = np.isclose(values, plain.references[name], rtol=0.05, atol=0.2)
        assert close[odd.mask].mean() > 0.9, name


@pytest.mark.parametrize("factor", [50, 1e5, -1e5])
def test_one_hot_voxel_does_not_set_the_scale_of_a_film(tmp_path, caplog, factor):
    path = write_film(tmp_path, "p")
    plain = prepared(tmp_path)
    film = nib.load(path).get_fdata(dtype=np.float32)
    film[12, 12, 1] *= np.float32(factor)
    nib.save(nib.Nifti1Image(film, AFFINE), path)
    hot = prepared(tmp_path)
    lowest, highest = SERIES_LIMITS
    assert hot.series.min() == lowest and hot.series.max() <= highest
    assert np.isfinite(hot.series.astype(STORED)).all()
    level = hot.facts["baseline_level"] / plain.facts["baseline_level"]
    assert np.isclose(hot.series * level, plain.series, atol=1e-3).mean() > 0.997  # all but it
    assert (plain.facts["voxels_clipped"], hot.facts["voxels_clipped"]) == (0, 1)
    assert caplog.text.count("p.nii.gz: 1 voxels of the brain are clipped to 0 to 5 times") == 1


def test_what_speaks_against_a_moved_film_is_told(tmp_path, monkeypatch):
    write_film(tmp_path, "p", maps=())
    still = prepared(tmp_path, corrects_motion=True).facts
    assert still["moved"] == "none" and still["moved_reasons"] == ""
    found = references.correct_motion

    def doubted(*arguments):
        return replace(found(*arguments), ok=False, reasons=("frame 9", "out of view"))

    monkeypatch.setattr(references, "correct_motion", doubted)
    told = prepared(tmp_path, corrects_motion=True).facts
    assert told == still | {"moved_reasons": "frame 9; out of view"}


def test_truth_and_tissue_are_read_where_they_lie(tmp_path):
    write_film(tmp_path, "p", maps=())
    folder = tmp_path / "derivatives" / "truth" / "p"
    folder.mkdir(parents=True)
    inside = small_series()[1]["mask"]
    labels = inside * np.array([1, 2, 3], np.uint8)
    write_volume(folder / "p_tissue.nii.gz", labels.astype(np.uint8))
    write_volume(folder / "p_Tmax.nii.gz", np.where(inside, 3.0, 0).astype(np.float32))
    patient = prepared(tmp_path)
    assert not patient.tissue[0].any()
    assert (patient.tissue[1:] == patient.mask[1:]).all()
    assert set(patient.truth) == {"Tmax"}
    assert np.median(patient.truth["Tmax"][patient.mask]) == pytest.approx(3)


def test_background_in_the_mask_does_not_move_the_baseline(tmp_path):
    """A mask found or drawn a little too wide takes in voxels that hold nothing but noise."""
    write_film(tmp_path, "p", maps=())
    expected = prepared(tmp_path).facts
    wide = ndimage.binary_dilation(small_series()[1]["mask"], iterations=1)
    write_volume(tmp_path / "p_mask.nii.gz", wide.astype(np.uint8))
    found = prepared(tmp_path).facts
    for name in ("baseline_first", "baseline_last"):
        assert abs(found[name] - expected[name]) <= 1, name


def test_tmax_is_corrected_for_the_time_at_which_a_slice_was_taken(tmp_path):
    path = write_film(tmp_path, "p", maps=())
    sidecar = path.with_name("p.json")
    plain = prepared(tmp_path).computed
    times = json.loads(sidecar.read_text())
    slices = nib.load(path).shape[2]
    sidecar.write_text(json.dumps({**times, "SliceTiming": [0.0] * (slices - 1) + [0.5]}))
    late = prepared(tmp_path).computed
    inside = (plain["Tmax"] > 1) & (plain["Tmax"] < 19)
    shift = np.where(inside, late["Tmax"] - plain["Tmax"], np.nan)
    per_slice = np.nanmedian(shift, axis=(0, 1))
    np.testing.assert_allclose(per_slice[-1] - per_slice[:-1], 0.5, atol=0.03)
    np.testing.assert_array_equal(late["TTP"], plain["TTP"])
    sidecar.write_text(json.dumps({**times, "SliceTiming": [0.0, 999.0]}))
    with pytest.raises(ValueError, match="SliceTiming in .*p.json holds 2 times"):
        prepared(tmp_path)


def test_slice_times_may_be_told_from_the_last_slice_to_the_first(tmp_path):
    """BIDS: with the direction "k-", the first time is that of the last slice."""
    told = {
        "k": {"SliceTiming": [0.0, 0.3, 1.2], "SliceEncodingDirection": "k"},
        "k-": {"SliceTiming": [1.2, 0.3, 0.0], "SliceEncodingDirection": "k-"},
        "not said": {"SliceTiming": [0.0, 0.3, 1.2]},
    }
    films = [read_series(write_film(tmp_path / n, "p", maps=(), **t)) for n, t in told.items()]
    for film in films:
        np.testing.assert_array_equal(read_slice_times(film).ravel(), [0.0, 0.3, 1.2])
    made = [prepared(tmp_path / name).computed["Tmax"] for name in ("k", "k-")]
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("direction", ["i", "j-", "K", 3, ["k"]])
def test_slices_along_another_axis_than_the_third_are_refused(tmp_path, direction):
    film = read_series(write_film(tmp_path, "p", maps=(), SliceEncodingDirection=direction))
    assert read_slice_times(film) is None  # no times, no harm
    sidecar = tmp_path / "p.json"
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"SliceTiming": [0, 0.3, 0.6]}))
    found = re.escape(repr(direction))
    with pytest.raises(ValueError, match=f"SliceEncodingDirection in .*p.json is {found}; expec"):
        prepared(tmp_path)


def test_given_maps_are_clipped_to_their_limits(tmp_path, caplog):
    path = write_film(tmp_path, "p", maps=("CBF",))
    given = path.with_name("p_CBF.nii.gz")
    image = nib.load(given)
    wild = image.get_fdata(dtype=np.float32)
    wild[wild.shape[0] // 2, wild.shape[1] // 2, 0] = 5000
    nib.save(nib.Nifti1Image(wild, image.affine), given)
    with caplog.at_level(logging.WARNING):
        patient = prepared(tmp_path)
    assert patient.references["CBF"].max() <= MAPS["CBF"].limits[1]
    assert "p_CBF.nii.gz: " in caplog.text and "are clipped" in caplog.text


def test_zero_voxels_in_the_mask_do_not_count_for_the_level(tmp_path):
    path = write_film(tmp_path, "p", maps=())
    film = nib.load(path)
    everywhere = np.ones(film.shape[:3], np.uint8)
    nib.save(nib.Nifti1Image(everywhere, film.affine), path.with_name("p_mask.nii.gz"))
    assert np.isfinite(prepared(tmp_path).series).all()
