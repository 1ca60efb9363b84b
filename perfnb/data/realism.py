"""How real is a simulated patient? What films show, measured as one would in a real one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfnb.data.anatomy import LABELS
from perfnb.data.patient import Patient

PRE_BOLUS = slice(3, 9)
HEALTHY_TMAX_S = 4.0


@dataclass(frozen=True)
class Published:
    """A published range: low, high, what lies in the middle (None if unknown) and its source.

    `lesion` names the kind of lesion that it holds for; None is every patient.
    """

    low: float
    high: float
    middle: float | None
    source: str
    lesion: str | None = None

    @property
    def band(self) -> tuple[float, ...]:
        """Low, middle where it is known, high."""
        return tuple(part for part in (self.low, self.middle, self.high) if part is not None)


PUBLISHED = {
    "bolus width [s]": Published(9.0, 19.0, 11.0, "5th to 95th percentile of 93 clinical arteries"),
    "signal drop, grey matter [%]": Published(20.0, 50.0, None, "rule of thumb"),
    "tSNR, grey matter": Published(30.0, 75.0, None, "limit at 3 T: {cite:p}`triantafyllou2005`"),
    "CBF, grey matter [ml/100 g/min]": Published(40.0, 70.0, 55.0, "{cite:p}`leenders1990`"),
    "CBF, white matter [ml/100 g/min]": Published(15.0, 30.0, 22.0, "{cite:p}`leenders1990`"),
    "Tmax, healthy tissue [s]": Published(0.0, 4.0, None, "{cite:p}`olivot2009`"),
    "Tmax > 6 s, trunk occlusion [ml]": Published(
        79.3, 146.3, 114.7, "quartiles: {cite:p}`albers2018`", "trunk"
    ),
    "core, trunk occlusion [ml]": Published(
        2.3, 25.6, 9.4, "quartiles: {cite:p}`albers2018`", "trunk"
    ),
}


def measure(patient: Patient) -> dict[str, float]:
    """Measure one patient by the names of PUBLISHED.

    Parameters
    ----------
    patient : Patient
        With noise and at rest; a moved one has no tSNR to speak of.

    Returns
    -------
    dict of float
        What is known of a kind of lesion only is NaN in all other patients; bolus width and flow
        are the truth, signal drop and tSNR read from the films.
    """
    gm, wm = (patient.tissue == LABELS[name] for name in ("GM", "WM"))
    tissue, truth = gm | wm, patient.truth
    healthy = tissue & (truth["Tmax"] < HEALTHY_TMAX_S)
    before, film = patient.series[gm][:, PRE_BOLUS], patient.noise_free[gm]
    level = film[:, PRE_BOLUS].mean(1)
    late_ml = (tissue & (truth["Tmax"] > 6)).sum() * patient.anatomy.voxel_ml
    found = (
        patient.facts["bolus_fwhm_s"],
        100 * np.median(1 - film.min(1) / level),
        np.median(before.mean(1) / before.std(1, ddof=1)),
        truth["CBF"][gm & healthy].mean(),
        truth["CBF"][wm & healthy].mean(),
        np.median(truth["Tmax"][healthy]) if healthy.any() else np.nan,
        late_ml,
        patient.facts["core_ml"],
    )
    kind = patient.facts["lesion"]
    return {
        name: float(value) if known.lesion in (None, kind) else float("nan")
        for (name, known), value in zip(PUBLISHED.items(), found, strict=True)
    }
