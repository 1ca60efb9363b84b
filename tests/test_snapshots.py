"""A run keeps one slice of a test patient as drawn after each epoch, also if interrupted."""

import numpy as np
import pandas as pd
import pytest
import torch

from perfnb.data.slices import Slices
from perfnb.models import checkpoints, inference, snapshots, training
from perfnb.models.networks import make_generator
from perfnb.study import read_study

SETTINGS = read_study("tiny")["chapters"]["05_train"] | {"epochs": 3, "patience": 9}


@pytest.fixture
def fit(splits, tmp_path):
    """Return a function that trains pix2pix into a folder and returns the run's snapshots."""

    def train(folder="run", restart=False, **changes):
        settings = SETTINGS | {"learning_rate": 2e-3} | changes
        training.fit(tmp_path / folder, "pix2pix", *splits, settings, restart=restart)
        return snapshots.read(tmp_path / folder)

    return train


def test_a_snapshot_is_the_fixed_slice_as_drawn_after_its_epoch(fit, splits, tmp_path):
    kept = fit()
    slab, z = snapshots.fixed_slice(splits[1])
    assert slab.patient == Slices(splits[1].folder, "test", "Tmax").patients[0]
    assert slab.tissue[z].sum() == slab.tissue.sum(axis=(1, 2)).max()
    assert kept.shape == (3, 64, 64) and (kept[:, ~slab.mask[z]] == -1).all()
    assert not np.array_equal(kept[0], kept[2])
    best = pd.read_csv(tmp_path / "run" / "history.csv").validation_mae.idxmin()
    generator = make_generator("pix2pix", 64, 2, 2, "transpose")
    checkpoints.load_weights(generator, tmp_path / "run" / "weights.safetensors")
    drawn = inference.predict(generator, slab.series, slab.mask)
    np.testing.assert_allclose(kept[best], drawn[z], atol=2e-6)


def test_a_cohort_without_test_patients_shows_one_of_validation(splits, monkeypatch):
    monkeypatch.setattr(snapshots, "Slices", lambda *_: Slices(splits[1].folder, "no_aif", "Tmax"))
    assert snapshots.fixed_slice(splits[1])[0].patient == splits[1].patients[0]


def test_interrupted_run_has_the_snapshots_of_an_uninterrupted_one(fit, tmp_path, monkeypatch):
    whole = fit("whole")
    original, calls = checkpoints.save, []

    def interrupt(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(checkpoints, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit("cut")
    assert len(snapshots.read(tmp_path / "cut")) == 2
    np.testing.assert_array_equal(fit("cut"), whole)


def test_snapshots_take_no_part_in_training(fit, tmp_path, monkeypatch):
    fit("with")
    monkeypatch.setattr(snapshots, "keep", lambda *_: torch.rand(0))
    assert len(fit("without")) == 0
    a, b = (checkpoints._read(tmp_path / f / "checkpoint.safetensors") for f in ("with", "without"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert "models/snapshots" not in checkpoints.TRAINING_CODE


def test_restart_forgets_and_a_broken_file_leaves_gaps(fit, splits, tmp_path):
    first = fit()
    assert len(fit(restart=True, seed=5, epochs=2)) == 2
    assert not np.array_equal(snapshots.read(tmp_path / "run"), first[:2])
    (tmp_path / "run" / snapshots.FILE).write_bytes(b"not an array")
    assert len(snapshots.read(tmp_path / "run")) == 0
    generator = make_generator("pix2pix", 64, 2, 2, "transpose")
    snapshots.keep(tmp_path / "run", generator, splits[1], epoch=3)
    kept = snapshots.read(tmp_path / "run")
    assert np.isnan(kept[:2]).all() and np.isfinite(kept[2]).all()


@pytest.mark.parametrize("known", [1, 2, 7, 40, 100])
def test_chosen_epochs_span_the_run_and_are_densest_at_first(known):
    chosen = snapshots.choose_epochs(known, 8)
    assert chosen[0] == 1 and chosen[-1] == known and len(chosen) <= 8
    steps = np.diff(chosen)
    assert (steps > 0).all() and (np.diff(steps) >= -1).all()
    with pytest.raises(ValueError, match="expected at least 1 epoch"):
        snapshots.choose_epochs(0, 8)
