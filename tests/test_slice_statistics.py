"""Statistics of the slice: what the published code did, beside what `predict` does."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from perfnb.models import slice_statistics
from perfnb.models.inference import predict
from perfnb.models.networks import make_generator


@pytest.fixture(params=["pix2pix", "temp-pix2pix"])
def generator(request):
    torch.manual_seed(2)
    return make_generator(request.param, 64, 2, 2, "transpose").eval()


def series_and_mask(splits):
    slab = splits[1].patient(splits[1].patients[0])
    return slab.series, slab.mask


def test_each_slice_is_drawn_in_training_mode_by_itself(generator, splits):
    series, mask = series_and_mask(splits)
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    drawn = slice_statistics.predict_by_own(generator, series, mask)
    alone = slice_statistics.predict_by_own(generator, series[1:2], mask[1:2])
    np.testing.assert_array_equal(drawn[1:2], alone)
    assert drawn.shape == mask.shape and (drawn[~mask] == -1).all()
    assert not generator.training
    assert all(torch.equal(before[k], v) for k, v in generator.state_dict().items())
    whole = slice_statistics.predict_by_own(generator, series, mask, len(mask))
    assert np.abs(whole - drawn)[mask].max() > 1e-3  # neighbours share their statistics
    with torch.no_grad():
        expected = generator.train()(torch.tensor(series[1:2]), torch.tensor(mask[1:2]))[0, 0]
    np.testing.assert_allclose(drawn[1][mask[1]], expected.numpy()[mask[1]], atol=1e-6)


def test_both_kinds_agree_where_the_stored_statistics_are_those_of_the_slice(generator, splits):
    series, mask = (x[1:2] for x in series_and_mask(splits))
    assert (
        np.abs(
            predict(generator, series, mask)
            - slice_statistics.predict_by_own(generator, series, mask)
        ).max()
        > 1e-3
    )
    for norm in (m for m in generator.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        norm.momentum = 1.0
    generator.train()(torch.tensor(series), torch.tensor(mask))
    both = (f(generator, series, mask) for f in (predict, slice_statistics.predict_by_own))
    np.testing.assert_allclose(*both, atol=0.05)  # stored is the variance of a sample: n - 1


def test_comparison_scores_all_ways_and_counts_patients(generator, splits):
    table = slice_statistics.compare(generator, splits[0])
    assert len(table) == 3 * len(splits[0].patients)
    assert np.isfinite(table[["MAE", "SSIM", "tissue_MAE"]].to_numpy()).all()
    running, own, whole = (table[table.statistics == kind] for kind in slice_statistics.KINDS)
    for one, other in ((running, own), (own, whole)):
        assert (one.MAE.to_numpy() != other.MAE.to_numpy()).all()
    means, said = slice_statistics.summarise(table, "s")
    assert means.loc["running", "SSIM"] == pytest.approx(running.SSIM.mean())
    wins = int((running.tissue_MAE.to_numpy() > own.tissue_MAE.to_numpy()).sum())
    assert f"of the slice in {wins} of {len(running)}, those of the patient" in said


def test_without_references_there_is_nothing_to_compare():
    empty = pd.DataFrame(columns=["patient", "statistics", "MAE", "SSIM", "tissue_MAE"])
    assert "nothing to compare" in slice_statistics.summarise(empty, "s")[1]
