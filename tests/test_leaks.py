from dataclasses import replace

import numpy as np
import pytest

from perfnb.data import leaks, phantom

SHAPE = (48, 48, 4)
N_TRAIN = 12


@pytest.fixture(scope="module")
def patients():
    cohorts = ("acute", "chronic")
    return [phantom.draw_patient(cohorts[s % 2], s, SHAPE, n_frames=20) for s in range(18)]


def look(patients, change=lambda patient: patient):
    """Looks at patients, each changed first; the last third is for testing."""
    looks = [leaks.look(change(patient), 1200) for patient in patients]
    return looks[:N_TRAIN], looks[N_TRAIN:]


@pytest.fixture(scope="module")
def looks(patients):
    return look(patients)


@pytest.mark.parametrize("source", leaks.SOURCES)
@pytest.mark.parametrize("map_name", leaks.MAPS)
def test_nothing_but_the_bolus_tells_perfusion_beyond_tissue_class(looks, map_name, source):
    assert leaks.known_beyond_tissue(*looks, map_name, source) < leaks.BOUND


def test_tissue_class_is_known_and_is_not_everything(looks):
    assert 0.3 < leaks.known_by_tissue(*looks, "CBF") < 0.9
    assert leaks.known_by_tissue(*looks, "Tmax") < 0.3


def test_perfusion_drawn_from_the_contrast_is_found_out(patients):
    def naive(patient):
        bright = patient.series[..., 5] / np.median(patient.series[..., 5][patient.mask])
        flow = np.float32(50.0) * bright * patient.mask
        return replace(patient, truth=patient.truth | {"CBF": flow})

    assert leaks.known_beyond_tissue(*look(patients, naive), "CBF", "pre-bolus") > 2 * leaks.BOUND


def test_a_symmetric_brain_is_found_out(patients):
    def symmetric(patient):
        both = {
            name: (patient.truth[name] + leaks.mirrored(patient.truth[name], patient.mask)) / 2
            for name in leaks.MAPS
        }
        return replace(patient, truth=patient.truth | both)

    changed = look(patients, symmetric)
    for name in leaks.MAPS:
        assert leaks.known_beyond_tissue(*changed, name, "mirror") > 2 * leaks.BOUND


def test_mirroring_twice_gives_the_volume_back():
    volume = np.random.default_rng(0).uniform(size=(11, 4, 2))
    mask = np.zeros(volume.shape, bool)
    mask[2:8] = True
    once = leaks.mirrored(volume, mask)
    np.testing.assert_array_equal(once[2:8], volume[2:8][::-1])
    np.testing.assert_array_equal(leaks.mirrored(once, mask)[2:8], volume[2:8])
