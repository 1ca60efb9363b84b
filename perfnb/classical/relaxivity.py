"""From the change of the relaxation rate to the concentration of contrast agent.

In tissue the change is proportional to concentration; in the blood of an artery it grows with its
square (Kjolby et al. 2006, Magn Reson Med 56:187). A linear conversion overrates the arterial peak
against its tail.
"""

from __future__ import annotations

import numpy as np

ARTERIAL = {1.5: (7.62, 0.574), 3.0: (0.493, 2.62)}
"""delta R2* of arterial blood [1/s] = p C + q C^2, C in mM: p and q by field strength [T], in human
blood of haematocrit 40 %, gadolinium-DTPA. 1.5 T: van Osch et al. 2003, Magn Reson Med 49:1067;
3 T: Akbudak et al. 2004, Proc ISMRM 11."""


def arterial_concentration(delta_r2star: np.ndarray, field_strength_t: float) -> np.ndarray:
    """Concentration in arterial blood by the quadratic relation.

    Parameters
    ----------
    delta_r2star : float array, any shape
        Change of relaxation rate of arterial blood [1/s]; what noise makes negative stays so.
    field_strength_t : float
        1.5 or 3 [T].

    Returns
    -------
    float array, same shape
        Concentration [mM].

    Raises
    ------
    ValueError
        No relation is known at this field strength.
    """
    linear, square = _coefficients(field_strength_t)
    rate = np.asarray(delta_r2star, float)
    root = np.sqrt(linear**2 + 4 * square * np.abs(rate))
    return np.sign(rate) * (root - linear) / (2 * square)


def arterial_delta_r2star(concentration_mm: np.ndarray, field_strength_t: float) -> np.ndarray:
    """Change of relaxation rate of arterial blood [1/s] at a concentration [mM]; see ARTERIAL."""
    linear, square = _coefficients(field_strength_t)
    concentration = np.asarray(concentration_mm, float)
    return linear * concentration + square * concentration * np.abs(concentration)


def tissue_concentration(delta_r2star: np.ndarray, relaxivity: float) -> np.ndarray:
    """Concentration in tissue [mM]: delta R2* [1/s] over the relaxivity [1/s/mM].

    Raises
    ------
    ValueError
        The relaxivity is not above zero.
    """
    if not relaxivity > 0:
        raise ValueError(f"relaxivity={relaxivity}; expected one above zero, in 1/s/mM")
    return np.asarray(delta_r2star, float) / relaxivity


def linearised(curve: np.ndarray, field_strength_t: float) -> np.ndarray:
    """Arterial curve proportional to concentration, with the area of the given one.

    Deconvolution takes arterial and tissue curves for proportional to concentration; this gives it
    the arterial shape that is. The area is kept, since no linear relaxivity fits a quadratic law:
    the absolute scale stays that of the ratio of relaxivities.

    Parameters
    ----------
    curve : float array, shape (T,)
        Delta R2* of arterial blood [1/s].
    field_strength_t : float
        1.5 or 3 [T].

    Returns
    -------
    float array, shape (T,)
        In 1/s, for the deconvolution.

    Raises
    ------
    ValueError
        Unknown field strength, or a curve without area.
    """
    concentration = arterial_concentration(curve, field_strength_t)
    area, wanted = concentration.sum(), float(np.sum(curve))
    if not (area > 0 and wanted > 0):
        raise ValueError("arterial curve has no area; expected a bolus above zero")
    return concentration * (wanted / area)


def _coefficients(field_strength_t: float) -> tuple[float, float]:
    if field_strength_t not in ARTERIAL:
        known = " or ".join(f"{field:g}" for field in ARTERIAL)
        raise ValueError(
            f"field_strength_t={field_strength_t}; the arterial relaxivity is known at {known} T"
        )
    return ARTERIAL[field_strength_t]
