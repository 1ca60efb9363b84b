"""A training that was killed while it wrote goes on with the same command, bit for bit."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import kills  # noqa: E402


@pytest.fixture(scope="module")
def whole(splits, tmp_path_factory):
    """Return the folder of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    assert kills.ended(kills.in_child(lambda: kills.train(splits[0].folder, folder))) == 0
    return folder


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("half written", "checkpoint.safetensors"),
        ("before rename", "checkpoint.safetensors"),
        ("after rename", "weights.safetensors"),
    ],
)
def test_killed_training_goes_on_and_ends_like_one_that_was_not(
    splits, whole, tmp_path, stage, name
):
    folder = tmp_path / "run"
    assert kills.killed_at_stage(splits[0].folder, folder, stage, name, nth=2)
    assert kills.same(folder, whole)
    assert kills.done_twice(folder) == 1
