import numpy as np
import pytest

from perfnb.data import phantom, realism


@pytest.fixture(scope="module")
def measured():
    return [
        realism.measure(phantom.draw_patient("acute", s, (48, 48, 6), 50)) for s in range(6, 12)
    ]


def test_patients_lie_near_the_published_ranges(measured):
    for name, known in realism.PUBLISHED.items():
        values = np.array([one[name] for one in measured])
        values = values[np.isfinite(values)]
        assert values.size, name
        assert 0.7 * known.low <= np.median(values) <= 1.5 * known.high, name


def test_what_holds_for_one_lesion_is_measured_in_that_lesion_only(measured):
    name = "core, trunk occlusion [ml]"
    assert sum(np.isfinite(one[name]) for one in measured) == 3
    assert all(np.isfinite(one["tSNR, grey matter"]) for one in measured)


def test_published_bands_are_in_order():
    for known in realism.PUBLISHED.values():
        assert list(known.band) == sorted(known.band) and known.source
