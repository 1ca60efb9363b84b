import numpy as np
import pandas as pd
import pytest

from perfnb.models import hypoperfusion
from perfnb.study import start

TRUTH = np.array([1.0, 2.0, 4.0, 7.0, 9.0])
DELAY = TRUTH / 2  # what a method that knows no dispersion finds of it
TISSUE = np.ones(5, bool)


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """Models of a cohort with one patient, and the writer of that cohort's files."""
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))

    def make(cohort, reference, source="classical"):
        runs = []
        for name, prediction in (("Tmax", reference), ("TTP", 30 + TRUTH)):
            run = start("07_evaluate", "tiny", cohort, name, "pix2pix")
            own = {"prediction": prediction, "reference": prediction, "truth": TRUTH}
            folder = run.run_dir / "evaluation"
            folder.mkdir(parents=True)
            arrays = {f"sub-001/{n}": a for n, a in (own | {"tissue": TISSUE}).items()}
            np.savez(folder / "slices.npz", **arrays)
            runs.append(run)
        (run.data_dir / "controls").mkdir(parents=True)
        np.savez(
            run.data_dir / "controls" / "sub-001.npz",
            **{"noise-free teacher/Tmax": reference, "block-circulant SVD/Tmax": TRUTH},
        )
        row = {"patient": ["sub-001"], "voxel_ml": [1.0], "references": [source]}
        pd.DataFrame(row).to_csv(run.data_dir / "patients.csv", index=False)
        return hypoperfusion.read_outs(runs).set_index("method")

    return make


def test_maps_of_delay_and_their_pupils_are_read_with_their_own_threshold(evaluated):
    table = evaluated("chronic", DELAY)
    assert (table["dice"] == 1).all() and (table["true_ml"] == 2).all()
    of_delay = ["pix2pix", "classical", "noise-free teacher"]
    assert (table.loc[of_delay, "rule"] == "Tmax > 3 s").all()
    assert table.loc["block-circulant SVD", "rule"] == "Tmax > 6 s"
    assert table.loc[hypoperfusion.RULE, "rule"].startswith("TTP")


def test_maps_of_tmax_keep_the_common_threshold(evaluated):
    table = evaluated("acute", TRUTH)
    assert (table.drop(hypoperfusion.RULE)["rule"] == "Tmax > 6 s").all()
    assert (table["dice"] == 1).all()


def test_maps_that_a_user_gave_keep_the_common_threshold(evaluated):
    table = evaluated("chronic", TRUTH, source="given")
    assert table.loc["classical", "rule"] == "Tmax > 6 s" and table.loc["classical", "dice"] == 1
