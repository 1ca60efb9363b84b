"""Films keep their place, units and values; maps return to the film's own voxels."""

import gzip
import itertools
import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from skimage.transform import resize

from perfnb import grid
from perfnb.data import phantom
from perfnb.grid import Grid
from perfnb.volumes import brain_mask, read_mask, read_series, read_volume, write_volume

TIMES = {"RepetitionTime": 1.5, "EchoTime": 0.03}
SHAPE = (6, 7, 4)
AXES = list(itertools.permutations(range(3)))
SIGNS = [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, 1), (-1, -1, -1)]


def odd_affine(axes=(0, 1, 2), signs=(1, 1, 1), oblique=0.0) -> np.ndarray:
    """Return an affine whose voxel axis i runs along world axis `axes[i]`."""
    rotation = np.eye(3)[:, list(axes)] * signs
    tilt = np.array(
        [[1, 0, 0], [0, np.cos(oblique), -np.sin(oblique)], [0, np.sin(oblique), np.cos(oblique)]]
    )
    return nib.affines.from_matvec(tilt @ rotation @ np.diag([2, 2.5, 5]), [-90, 40, -20])


def write(path, data, affine=None, times=TIMES, slope=None, code=1):
    image = nib.Nifti1Image(data, odd_affine() if affine is None else affine)
    image.set_sform(image.affine, code)
    image.set_qform(image.affine, code)
    image.header.set_xyzt_units("mm", "sec")
    if slope:
        image.header["scl_slope"], image.header["scl_inter"] = slope
    nib.save(image, path)
    if times is not None:
        path.with_name(path.name.split(".")[0] + ".json").write_text(json.dumps(times))
    return path


def film(frames=12, seed=0):
    return np.random.default_rng(seed).uniform(10, 900, (*SHAPE, frames)).astype(np.float32)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "b.dsc.nii.gz"])
def test_series_is_read_as_written_with_its_times(tmp_path, name):
    path = write(tmp_path / name, film())
    stem = name.removesuffix(".gz").removesuffix(".nii")
    (tmp_path / f"{stem}.json").write_text(json.dumps(TIMES))
    series = read_series(path)
    np.testing.assert_array_equal(series.data, film())
    np.testing.assert_allclose(series.affine, odd_affine())
    assert (series.repetition_time_s, series.echo_time_s) == (1.5, 0.03)
    assert series.data.dtype == np.float32


def test_scaled_integers_are_read_as_the_values_they_stand_for(tmp_path):
    stored = np.rint(film()).astype(np.int16)
    path = write(tmp_path / "a.nii.gz", stored, slope=(0.25, -3.0))
    np.testing.assert_allclose(read_series(path).data, stored * 0.25 - 3, rtol=1e-6)


def test_a_fourth_axis_of_one_is_dropped(tmp_path):
    path = write(tmp_path / "a.nii.gz", film()[:, :, :, None])
    np.testing.assert_array_equal(read_series(path).data, film())


def test_given_times_win_over_the_sidecar_and_stand_in_for_it(tmp_path):
    path = write(tmp_path / "a.nii.gz", film())
    assert read_series(path, repetition_time_s=2).repetition_time_s == 2.0
    (tmp_path / "a.json").unlink()
    series = read_series(path, repetition_time_s=2.2, echo_time_s=0.05)
    assert (series.repetition_time_s, series.echo_time_s) == (2.2, 0.05)


def test_voxels_that_are_not_finite_become_zero_and_are_counted(tmp_path):
    data = film()
    data[1, 2, 3, 4], data[0, 0, 0, :] = np.nan, np.inf
    series = read_series(write(tmp_path / "a.nii.gz", data))
    assert series.not_finite == 2
    assert np.isfinite(series.data).all()
    assert (series.data[1, 2, 3] == 0).all()
    assert series.data.astype(bool).all(axis=3).sum() == np.prod(SHAPE) - 2


def test_map_beside_a_film_is_read_on_its_grid_with_finite_values(tmp_path):
    like = read_series(write(tmp_path / "a.nii.gz", film()))
    values = film()[..., 0]
    values[0, 0, :3] = np.nan, np.inf, -np.inf
    path = write(tmp_path / "a_Tmax.nii.gz", values[..., None], times=None)
    found = read_volume(path, like)
    assert found.shape == SHAPE
    np.testing.assert_array_equal(found[0, 0, :3], 0)
    np.testing.assert_array_equal(found[1:], values[1:])


def test_mask_is_read_as_true_and_false(tmp_path):
    like = read_series(write(tmp_path / "a.nii.gz", film()))
    inside = film()[..., 0] > 500
    path = write(tmp_path / "a_mask.nii.gz", inside.astype(np.uint8), times=None)
    np.testing.assert_array_equal(read_mask(path, like), inside)


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.uint8, bool])
def test_volume_is_written_with_the_place_and_units_of_its_film(tmp_path, dtype):
    affine = odd_affine((1, 0, 2), (-1, 1, -1), oblique=0.3)
    source = nib.load(write(tmp_path / "film.nii.gz", film(), affine, code=3))
    values = (film()[..., 0] % 2).astype(dtype)
    path = write_volume(tmp_path / "new" / "map.nii.gz", values, source.affine, source.header)
    image = nib.load(path)
    np.testing.assert_allclose(np.asarray(image.dataobj), values, rtol=1e-6)
    np.testing.assert_allclose(image.affine, source.affine, atol=1e-5)
    for name in ("qform", "sform"):
        (a, code), (b, kept) = (getattr(i, f"get_{name}")(coded=True) for i in (image, source))
        assert code == kept == 3
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert [p.name for p in path.parent.iterdir()] == ["map.nii.gz"]


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (1, 4)])
def test_qform_and_sform_of_the_film_are_kept_each(tmp_path, codes):
    image = nib.Nifti1Image(film(), odd_affine())
    image.set_qform(odd_affine(signs=(1, -1, 1)), codes[0])
    image.set_sform(odd_affine(signs=(-1, 1, 1)), codes[1])
    nib.save(image, tmp_path / "film.nii.gz")
    source = nib.load(tmp_path / "film.nii.gz")
    volume = film()[..., 0]
    found = nib.load(write_volume(tmp_path / "m.nii", volume, source.affine, source.header))
    np.testing.assert_allclose(found.affine, source.affine, atol=1e-5)
    for name, code in zip(("qform", "sform"), codes, strict=True):
        (a, kept), (b, _) = (getattr(i, f"get_{name}")(coded=True) for i in (found, source))
        assert kept == code or codes == (0, 0)
        if code:
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_failed_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    def half(image, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", half)
    with pytest.raises(OSError, match="map.nii.gz could not be written .*PERFNB_HOME"):
        write_volume(tmp_path / "map.nii.gz", film()[..., 0], odd_affine())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("axes", AXES)
def test_grid_turns_every_orientation_to_the_same_and_back(axes, signs):
    canonical = np.random.default_rng(1).uniform(size=SHAPE).astype(np.float32)
    there = np.array([[i, 1] for i in range(3)])
    affine = odd_affine(axes, signs, oblique=0.2)
    own = nib.orientations.ornt_transform(there, nib.io_orientation(affine))
    volume = nib.orientations.apply_orientation(canonical, own)
    grid = Grid.of(affine, volume.shape, max(SHAPE[:2]), SHAPE[2])
    slices = grid.forward(volume)
    x0 = grid.matrix - SHAPE[0]
    np.testing.assert_array_equal(slices[:, :, x0 // 2 : x0 // 2 + SHAPE[0]], canonical.T)
    np.testing.assert_array_equal(grid.backward(slices), volume)
    series = grid.forward(np.stack([volume, volume + 1], axis=3))
    assert series.shape == (SHAPE[2], 2, grid.matrix, grid.matrix)
    np.testing.assert_array_equal(series[:, 0], slices)


@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("axes", AXES)
def test_left_stays_left_on_any_grid(axes, signs):
    """A blob at a place in the world lies at the same place after forward and backward."""
    shape = tuple(np.array((24, 24, 24)))
    affine = nib.affines.from_matvec(np.eye(3)[:, list(axes)] * signs * [3, 3.5, 4], [0, 0, 0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) / 2)
    world = np.array([-15.0, 8.0, 12.0])  # left, front, top
    voxel = nib.affines.apply_affine(np.linalg.inv(affine), world)
    grids = np.meshgrid(*map(np.arange, shape), indexing="ij")
    distance = sum((g - v) ** 2 for g, v in zip(grids, voxel, strict=True))
    blob = np.exp(-distance / 8).astype(np.float32)
    grid = Grid.of(affine, shape, 32, 20)
    slices = grid.forward(blob)
    z, y, x = ndimage.center_of_mass(slices)
    assert x < 15.5 - 3 and y > 15.5 + 1 and z > 9.5 + 1
    back = ndimage.center_of_mass(grid.backward(slices))
    np.testing.assert_allclose(nib.affines.apply_affine(affine, back), world, atol=1.0)


@pytest.mark.parametrize(
    ("shape", "matrix", "slices"), [((96, 112, 19), 64, 12), ((24, 20, 27), 64, 21)]
)
def test_smooth_map_survives_the_way_there_and_back(shape, matrix, slices):
    rng = np.random.default_rng(2)
    volume = ndimage.gaussian_filter(rng.normal(size=shape), [s / 6 for s in shape])
    volume = (volume / np.abs(volume).max()).astype(np.float32)
    grid = Grid.of(odd_affine((1, 0, 2), (-1, 1, 1)), shape, matrix, slices)
    there = grid.forward(volume)
    assert there.shape == (slices, matrix, matrix)
    inner = tuple(slice(n // 6, -n // 6) for n in shape)
    back = grid.backward(there)
    assert back.shape == shape
    assert np.abs(back - volume)[inner].max() < 0.05


def test_mask_stays_true_and_false_on_the_grid():
    inside = np.zeros((20, 24, 5), bool)
    inside[5:15, 6:18, 1:4] = True
    grid = Grid.of(odd_affine(), inside.shape, 64, 10)
    there = grid.forward(inside, order=0)
    assert there.dtype == bool
    assert there.mean() == pytest.approx(inside.mean() * 20 / 24, rel=0.15)
    assert (grid.backward(there, order=0) == inside).mean() > 0.98
    labels = (inside * 3).astype(np.uint8)
    assert set(np.unique(Grid.of(odd_affine(), inside.shape, 16, 3).forward(labels, 0))) == {0, 3}


@pytest.mark.parametrize(
    ("shape", "matrix", "slices"), [((24, 24, 5), 64, 7), ((70, 80, 9), 64, 5)]
)
def test_map_does_not_fade_at_the_edge_of_the_brain(shape, matrix, slices):
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = np.hypot(x, y) < 0.8
    grid = Grid.of(odd_affine((1, 0, 2), (1, -1, 1)), shape, matrix, slices)
    there, mask = grid.forward_inside(np.where(inside, 7, -99), inside), grid.forward(inside, 0)
    np.testing.assert_allclose(there[mask], 7, rtol=1e-5)
    back = grid.backward_inside(np.where(mask, there, -99), mask)
    assert back.dtype == np.float32
    assert set(np.unique(back.round(3))) == {0, 7}
    assert ((back > 0) == inside).mean() > 0.97


def test_volume_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(6, 7, 5\) on a grid of shape \(6, 7, 4\)"):
        Grid.of(odd_affine(), SHAPE, 64, 4).forward(np.zeros((6, 7, 5)))


@pytest.mark.parametrize("cohort", ["acute", "chronic"])
@pytest.mark.parametrize("seed", [0, 1])
def test_brain_of_a_simulated_patient_is_found(cohort, seed):
    patient = phantom.draw_patient(cohort, seed, (48, 48, 8), n_frames=50)
    found = brain_mask(patient.series)
    dice = 2 * (found & patient.mask).sum() / (found.sum() + patient.mask.sum())
    assert dice > 0.9
    np.testing.assert_array_equal(brain_mask(patient.series * 1000), found)


@pytest.mark.parametrize("code", ["RAS", "LAS", "LPS", "PSR", "SLA"])
def test_brain_is_the_same_however_its_voxels_are_stored(code):
    patient = phantom.draw_patient("acute", 2, (48, 56, 10), n_frames=50)
    ras = nib.as_closest_canonical(nib.Nifti1Image(patient.series, patient.affine))
    expected = brain_mask(np.asarray(ras.dataobj))  # its third axis holds the slices
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(ras.affine), nib.orientations.axcodes2ornt(code)
    )
    stored = ras.as_reoriented(turn)
    found = brain_mask(np.asarray(stored.dataobj), stored.affine)
    back = nib.orientations.apply_orientation(found, nib.io_orientation(stored.affine))
    np.testing.assert_array_equal(back, expected)


def test_no_brain_in_a_constant_film():
    with pytest.raises(ValueError, match="constant"):
        brain_mask(np.full((8, 8, 2, 12), 3.0))


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "header", "gzip", "flipped"])
def test_unreadable_files_are_named(tmp_path, damage):
    path = write(tmp_path / "a.nii.gz", (film() // 100).astype(np.int16))
    whole = path.read_bytes()
    plain = bytearray(gzip.decompress(whole))
    content = {
        "truncated": whole[: len(whole) // 2],
        "garbage": b"not a film at all" * 50,
        "empty": b"",
        "header": gzip.compress(bytes(plain[:200])),
        "gzip": gzip.compress(bytes(plain[:2000])),
        "flipped": whole[:900] + b"\x00\xff\x13" * 100 + whole[1200:],
    }[damage]
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.nii.gz cannot be read as NIfTI"):
        read_series(path)


@pytest.mark.parametrize("target", [(9, 7, 4), (20, 7, 11), (9, 30, 4)])
def test_resizing_axis_by_axis_is_what_scikit_image_does_to_the_whole(target):
    volume = np.random.default_rng(4).normal(size=(14, 7, 6)).astype(np.float32)
    smaller = any(n > m for n, m in zip(volume.shape, target, strict=True))
    whole = resize(volume, target, order=1, mode="edge", anti_aliasing=smaller)
    np.testing.assert_allclose(grid._resize(volume, target, order=1), whole, atol=1e-6)
