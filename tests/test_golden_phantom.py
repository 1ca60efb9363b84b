"""The phantom is frozen: what it draws changes only together with its version."""

import json

import numpy as np
import pytest
from golden_phantom import GOLDEN, VARIANTS, summary

from perfnb.data import phantom

HELP = (
    "the phantom draws other patients than version {} did: if that is meant, bump PHANTOM_VERSION "
    "in perfnb/data/phantom.py and run `python tests/golden_phantom.py`"
)


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


def test_golden_numbers_belong_to_this_version(golden):
    assert golden["version"] == phantom.PHANTOM_VERSION, "run `python tests/golden_phantom.py`"
    assert set(golden) == {"version", *VARIANTS}


@pytest.mark.parametrize("name", VARIANTS)
def test_patients_are_those_of_the_frozen_version(golden, name):
    found = summary(name)
    assert set(found) == set(golden[name]), HELP.format(golden["version"])
    for key, numbers in golden[name].items():
        size = max(np.abs(numbers).max(), 1e-6)
        message = f"{name}, {key}: {HELP.format(golden['version'])}"
        np.testing.assert_allclose(
            found[key], numbers, rtol=1e-4, atol=1e-4 * size, err_msg=message
        )
