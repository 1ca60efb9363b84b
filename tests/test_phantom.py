import functools
import json

import nibabel as nib
import numpy as np
import pytest

from perfnb.classical.deconvolution import DENSITY, KAPPA_H
from perfnb.data import bolus, phantom
from perfnb.data.anatomy import LABELS
from perfnb.data.pathology import HELD_OUT_KINDS

SMALL = (48, 48, 5)


@pytest.fixture(scope="module")
def acute():
    return [phantom.draw_patient("acute", seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def chronic():
    return phantom.draw_patient("chronic", 1)


def tissue_of(patient):
    return np.isin(patient.tissue, (LABELS["GM"], LABELS["WM"]))


def delta_r2star(patient):
    """Noise-free delta R2* [1/s], from the last frames before the bolus on."""
    series = patient.noise_free
    last = int(patient.facts["bolus_arrival_s"] / patient.repetition_time_s)
    baseline = series[..., last - 2 : last].mean(-1, keepdims=True)
    curve = -np.log(np.maximum(series, 1e-3) / np.maximum(baseline, 1e-3)) / patient.echo_time_s
    curve[..., : last - 2] = 0
    return curve


def test_same_seed_same_patient_bit_for_bit(acute):
    again = phantom.draw_patient("acute", 1)
    np.testing.assert_array_equal(again.series, acute[0].series)
    for name, truth in again.truth.items():
        np.testing.assert_array_equal(truth, acute[0].truth[name])
    assert again.facts == acute[0].facts


def test_seeds_and_cohorts_are_different_patients(acute, chronic):
    assert acute[0].facts["global_flow"] != acute[1].facts["global_flow"]
    assert acute[0].facts["global_flow"] != chronic.facts["global_flow"]
    assert (acute[0].mask != acute[1].mask).mean() > 0.01


@pytest.fixture(scope="module")
def draw():
    """Draw small variants of one patient, each once."""
    return functools.cache(lambda **changes: phantom.draw_patient("acute", 8, SMALL, 50, **changes))


def same(first, second, *names):
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)


def test_parts_draw_from_their_own_streams(draw):
    longer = phantom.draw_patient("acute", 8, SMALL, n_frames=60)
    plain = draw()
    np.testing.assert_allclose(longer.noise_free[..., :50], plain.noise_free, rtol=1e-5)
    np.testing.assert_array_equal(longer.truth["Tmax"], plain.truth["Tmax"])
    assert longer.facts["snr"] == plain.facts["snr"]


def test_motion_and_noise_come_alone_or_together(draw):
    still, moved = draw(), draw(motion="considerable")
    clean, moved_clean = draw(noise=False), draw(noise=False, motion="considerable")
    assert same(clean, still, "noise_free", "mask") and same(moved_clean, moved, "noise_free")
    assert same(moved, moved_clean, "motion") and np.abs(moved.motion).max() > 1.0
    assert not still.motion.any() and not clean.motion.any()
    np.testing.assert_array_equal(clean.series, clean.noise_free)
    assert np.abs(moved_clean.series - clean.series)[..., -1].max() > 50
    np.testing.assert_array_equal(moved_clean.series[..., 0], clean.series[..., 0])
    noise = moved.series - moved_clean.series
    inside = noise[still.mask].std()
    assert inside == pytest.approx((still.series - clean.series)[still.mask].std(), rel=0.05)


def test_second_noise_draw_is_the_same_patient_with_independent_noise(draw):
    draws = [draw(), draw(noise_draw=1), draw(noise_draw=2)]
    clean = draws[0].noise_free
    noises = [(one.series - clean)[one.mask][:, 1:].ravel() for one in draws]
    assert all(same(one, draws[0], "noise_free", "motion") for one in draws)
    assert noises[1].std() == pytest.approx(noises[0].std(), rel=0.3)
    apart = np.abs(np.corrcoef(noises) - np.eye(3))
    assert apart.max() < 0.2  # breathing may coincide in part
    assert draws[1].facts["snr"] == draws[0].facts["snr"]


def test_considerable_nod_during_the_bolus(draw):
    nodding = draw(motion="bolus")
    start = nodding.facts["bolus_arrival_s"] / nodding.repetition_time_s
    steps = np.abs(np.diff(nodding.motion, axis=0)).max(1)
    assert start - 1 <= steps.argmax() <= start + 20 / nodding.repetition_time_s
    assert np.abs(nodding.motion).max() > 1.0 and nodding.facts["motion"] == "bolus"


def test_drawn_motion_moves_as_if_asked_for(draw):
    drawn = draw(motion="drawn")
    assert same(drawn, draw(motion=drawn.facts["motion"]), "series", "motion")


@pytest.mark.parametrize("cohort", ["acute", "chronic"])
def test_held_out_parts_are_met_only_when_asked_for(cohort):
    plain, residue, lesion, scanner = (
        phantom.draw_patient(cohort, 3, SMALL, 50, held_out=part)
        for part in (None, *("residue", "lesion", "scanner"))
    )
    assert residue.facts["residue"] == bolus.HELD_OUT_RESIDUE != plain.facts["residue"]
    assert lesion.facts["lesion"] == HELD_OUT_KINDS[cohort] != plain.facts["lesion"]
    assert scanner.repetition_time_s != plain.repetition_time_s
    assert scanner.echo_time_s > plain.echo_time_s
    assert same(residue, plain, "mask", "core") and same(lesion, plain, "mask", "aif")
    np.testing.assert_array_equal(residue.truth["CBF"], plain.truth["CBF"])
    assert (residue.truth["Tmax"] != plain.truth["Tmax"]).any()
    drop = 1 - (scanner.noise_free / np.maximum(scanner.noise_free[..., 8:9], 1)).min(-1)
    assert 0.15 < np.median(drop[scanner.tissue == LABELS["GM"]]) < 0.6


def test_no_patient_draws_what_is_held_out():
    rng = np.random.default_rng(0)
    residues = {bolus.draw_bolus(rng, 15.0, 60.0, 40.0).residue for _ in range(100)}
    assert residues == set(bolus.RESIDUES) - {bolus.HELD_OUT_RESIDUE}


def test_quadratic_blood_leaves_tissue_alone_and_sharpens_arteries(draw):
    linear, quadratic = draw(noise=False), draw(noise=False, arterial="quadratic")
    free = (linear.anatomy.arteries + linear.anatomy.vein == 0) & linear.mask
    np.testing.assert_array_equal(linear.series[free], quadratic.series[free])
    pure = linear.anatomy.arteries > 0.5
    curves = [delta_r2star(one)[pure].mean(0) for one in (linear, quadratic)]
    late = curves[0].argmax() + 8
    assert curves[1][late:].mean() < 0.6 * curves[0][late:].mean()
    assert same(linear, quadratic, "aif")


def test_leakage_brightens_the_lesion_late_and_nothing_else(draw):
    tight, leaky = draw(noise=False), draw(noise=False, leakage=True)
    ratio = leaky.series / np.maximum(tight.series, 1e-3)
    assert ratio[tight.core][:, -1].mean() > 1.01
    np.testing.assert_allclose(ratio[tight.core][:, 5], 1.0, atol=1e-3)
    far = tight.mask & (tight.truth["delay"] < 1.0)
    assert np.abs(ratio[far][:, -1] - 1).max() < 0.01


def test_films_have_the_acquisition_of_their_cohort(acute, chronic):
    for patient in acute:
        assert (patient.repetition_time_s, patient.echo_time_s) == (2.22, 0.036)
        assert 50 <= patient.series.shape[-1] <= 75
        assert patient.facts["bolus_arrival_s"] >= 8 * patient.repetition_time_s
    assert (chronic.repetition_time_s, chronic.echo_time_s) == (1.39, 0.029)
    assert chronic.series.shape[-1] == 80
    assert chronic.series.dtype == np.float32 and np.isfinite(chronic.series).all()


def test_the_passage_fits_into_the_film(acute, chronic):
    for patient in (*acute, chronic):
        seconds = patient.series.shape[-1] * patient.repetition_time_s
        assert patient.truth["TTP"].max() < seconds - 20


def test_truth_is_physiology(acute, chronic):
    for patient in (*acute, chronic):
        truth, flow = patient.truth, patient.facts["global_flow"]
        gm, wm = (patient.tissue == LABELS[name] for name in ("GM", "WM"))
        healthy = ~(patient.core | patient.penumbra)
        assert 42 < truth["CBF"][gm & healthy].mean() / flow < 64
        assert 18 < truth["CBF"][wm & healthy].mean() / flow < 30
        assert 3.0 < truth["CBV"][gm].mean() < 5.2
        assert 1.5 < truth["CBV"][wm].mean() < 3.0
        inside = tissue_of(patient)
        mtt = 60 * truth["CBV"][inside] / truth["CBF"][inside]
        np.testing.assert_allclose(truth["MTT"][inside], mtt, rtol=1e-5)
        assert (truth["Tmax"][inside] >= truth["delay"][inside] - 0.05).all()
        assert not any(volume[~patient.mask].any() for volume in truth.values())


def test_signal_drops_as_in_a_clinical_film(acute, chronic):
    for patient in (*acute, chronic):
        curve = delta_r2star(patient)
        drop = 1 - np.exp(-patient.echo_time_s * curve.max(-1))
        assert 0.22 < np.median(drop[patient.tissue == LABELS["GM"]]) < 0.52
        pure = patient.anatomy.arteries > 0.8
        assert 0.5 < np.median(drop[pure]) < 0.88
        assert drop[patient.mask].max() < 0.9


def test_film_agrees_with_its_true_volume_and_time_to_peak(acute):
    patient = acute[1]
    pure = (patient.anatomy.gm > 0.97) & ~(patient.core | patient.penumbra)
    curve = delta_r2star(patient)[pure]
    area = curve.sum(1) / (patient.facts["relaxivity_ratio"] * patient.aif.sum())
    cbv = 100 * KAPPA_H / DENSITY * area
    assert pure.sum() > 20
    np.testing.assert_allclose(np.median(cbv / patient.truth["CBV"][pure]), 1.0, atol=0.08)
    seen = curve.argmax(1) * patient.repetition_time_s
    assert np.abs(seen - patient.truth["TTP"][pure]).max() <= 0.75 * patient.repetition_time_s


def test_arteries_come_first_and_veins_last(acute):
    patient = acute[0]
    curve = delta_r2star(patient)
    peak = curve.argmax(-1) * patient.repetition_time_s
    gm = (patient.tissue == LABELS["GM"]) & ~(patient.core | patient.penumbra)
    artery = np.median(peak[patient.anatomy.arteries > 0.6])
    assert artery < np.median(peak[gm])
    assert np.median(peak[patient.anatomy.vein > 0.7]) > artery + 3.0


def test_frames_before_the_bolus_do_not_give_flow_away(acute):
    for patient in acute:
        inside = tissue_of(patient) & ~(patient.core | patient.penumbra)
        flow = patient.truth["CBF"][inside]
        baseline = patient.noise_free[..., 7][inside]
        anatomy = [getattr(patient.anatomy, name)[inside] for name in ("gm", "wm", "csf")]
        known = explained(anatomy, flow)
        assert explained([*anatomy, baseline, baseline**2], flow) - known < 0.05
        assert explained([baseline, baseline**2], flow) < 0.4
        assert known < 0.97


def explained(columns, target):
    """Part of the target's variance that a linear fit explains."""
    design = np.stack([*columns, np.ones_like(target)], axis=1)
    fit = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return 1 - np.var(target - fit) / np.var(target)


def test_written_patient_reads_back(tmp_path, acute):
    patient = acute[0]
    path = phantom.write_patient(patient, tmp_path, "sub-001")
    assert path == tmp_path / "sub-001" / "perf" / "sub-001_dsc.nii.gz"
    image = nib.load(path)
    np.testing.assert_allclose(image.affine, patient.affine, atol=1e-4)
    assert image.get_data_dtype() == np.int16 and image.dataobj.slope != 1
    np.testing.assert_allclose(image.get_fdata(), patient.series, atol=patient.series.max() / 32000)
    sidecar = json.loads(path.with_name("sub-001_dsc.json").read_text())
    assert (sidecar["RepetitionTime"], sidecar["EchoTime"]) == (2.22, 0.036)
    assert sidecar["SoftwareVersions"] == phantom.PHANTOM_VERSION
    folder = tmp_path / "derivatives" / "truth" / "sub-001"
    for name, truth in patient.truth.items():
        written = nib.load(folder / f"sub-001_{name}.nii.gz").get_fdata()
        np.testing.assert_allclose(written, truth, rtol=1e-6)
    facts = json.loads((folder / "sub-001_truth.json").read_text())
    np.testing.assert_allclose(facts["aif"], patient.aif)
    assert facts["facts"]["lesion"] == patient.facts["lesion"]
    names = {file.name for file in folder.iterdir()}
    assert {f"sub-001_{n}.nii.gz" for n in ("mask", "core", "vein", "tissue")} <= names


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cohort": "stroke"}, "acute, chronic"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"shape": (64, 64)}, "shape"),
        ({"n_frames": 5}, "n_frames=5"),
        ({"motion": "wild"}, "none, mild, considerable, bolus, drawn"),
        ({"noise_draw": -1}, "noise_draw=-1"),
        ({"held_out": "hospital"}, "residue, scanner, lesion"),
        ({"arterial": "cubic"}, "linear, quadratic"),
    ],
)
def test_wrong_parameters_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        phantom.draw_patient(**({"cohort": "acute", "seed": 0} | wrong))
