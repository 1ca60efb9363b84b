"""Rules for the findings F8 and F9, written before any result was looked at.

Each takes a table and returns what the paper claims, the rule, what was measured, and a verdict:
"confirmed", "refuted" or "undecided". What is not significant confirms nothing.
"""

import numpy as np
import pandas as pd

from perfnb.metrics import causes, statistics

LEVEL = 0.05
CONSIDERABLE = ("considerable", "bolus")  # motion that counts as such in F8
AIF_SHAPE = {
    "aif_height": "height",
    "aif_width_s": "width",
    "aif_peak_s": "time of the peak",
    "aif_partial_volume": "partial-volume factor",
}
STRIKING = 0.5  # size of a rank correlation that an eye would see
NETWORKS = ("pix2pix", "temp-pix2pix")

F8 = {
    "finding": "F8",
    "claim": "Where motion makes an AIF impossible, both networks still give a map of Tmax, and "
    "pix2pix gives the better one.",
    "rule": "Error: mean absolute error of Tmax in tissue against the truth, mean over a "
    "patient's films; paired two-sided Wilcoxon tests over patients at p < 0.05. A map is given "
    "if both networks have a lower error than the constant in films without an AIF. The better "
    "one is looked for in films without an AIF in which the head moved considerably; where fewer "
    "than {minimum} patients have such a film, in all films in which it moved considerably. "
    "Confirmed: a map is given and pix2pix has the lower error. Refuted: a network has a higher "
    "error than the constant, or temp-pix2pix has the lower error. Undecided: all else.",
}
F9 = {
    "finding": "F9",
    "claim": "The shape of the AIF has no striking influence on the quality of the map.",
    "rule": "Rank correlation within cohorts of each feature of the AIF (height, width, time of "
    "the peak, partial-volume factor) with the whole-slice SSIM of temp-pix2pix, for every map; "
    "Holm's correction over all of them; a correlation of {striking} or more is striking. "
    "Refuted: one is striking with p < 0.05. Confirmed: every 95 % interval lies within "
    "±{striking}. Undecided: all else.",
}


def judge_f8(films: pd.DataFrame) -> dict[str, str]:
    """Apply the rule of F8.

    Parameters
    ----------
    films : DataFrame
        One row per patient, film and model, with the columns patient, motion (the phantom's
        word), has_aif (bool), model (both networks and the constant) and error (of Tmax in
        tissue against the truth [s]).

    Returns
    -------
    dict
        finding, claim, rule, measured, verdict.
    """
    _check(films, ("patient", "motion", "has_aif", "model", "error"))
    without = films[~films["has_aif"].astype(bool)]
    beats = {name: _compare(without, name, "constant") for name in NETWORKS}
    moved = films["motion"].isin(CONSIDERABLE)
    chosen, which = films[moved & ~films["has_aif"].astype(bool)], "moved considerably, no AIF"
    if chosen["patient"].nunique() < statistics.MIN_PAIRS:
        chosen, which = films[moved], "moved considerably, with or without AIF"
    duel = _compare(chosen, *NETWORKS)
    measured = [
        f"{name} {_words(test, name, 'the constant')} (no AIF)" for name, test in beats.items()
    ]
    measured.append(f"{NETWORKS[0]} {_words(duel, *NETWORKS)} ({which})")
    given = all(_side(test) == "lower" for test in beats.values())
    if "higher" in map(_side, [*beats.values(), duel]):
        verdict = "refuted"
    else:
        verdict = "confirmed" if given and _side(duel) == "lower" else "undecided"
    rule = F8["rule"].format(minimum=statistics.MIN_PAIRS)
    return F8 | {"rule": rule, "measured": "; ".join(measured), "verdict": verdict}


def judge_f9(patients: pd.DataFrame, seed: int, repeats: int = 5000) -> dict[str, str]:
    """Apply the rule of F9.

    Parameters
    ----------
    patients : DataFrame
        One row per test patient, map and model, with the columns cohort, map, model, SSIM (whole
        slices, against the reference) and those of AIF_SHAPE.
    seed, repeats : int
        Of the permutations.

    Returns
    -------
    dict
        finding, claim, rule, measured, verdict.
    """
    _check(patients, ("cohort", "map", "model", "SSIM", *AIF_SHAPE))
    rows = patients[patients["model"] == NETWORKS[1]]
    rule = F9["rule"].format(striking=STRIKING)
    found = causes.search(rows, list(AIF_SHAPE), "SSIM", seed, ("model", "map"), repeats)
    found = found[found["p"].notna()]
    if found.empty:
        return F9 | {"rule": rule, "measured": "too few patients", "verdict": "undecided"}
    clear = found[(found["rho"].abs() >= STRIKING) & (found["p_holm"] < LEVEL)]
    inside = (found["low"] > -STRIKING) & (found["high"] < STRIKING)
    top = found.loc[found["rho"].abs().idxmax()]
    ends = f"95 % {top['low']:+.2f} to {top['high']:+.2f}"
    measured = (
        f"{len(found)} correlations, {len(clear)} striking; the strongest: "
        f"{AIF_SHAPE[top['cause']]} with {top['map']}, ρ {top['rho']:+.2f} ({ends}), "
        f"p {top['p']:.2g}, Holm {top['p_holm']:.2g}, {top['n']} patients; "
        f"{int(inside.sum())} intervals lie within ±{STRIKING}"
    )
    verdict = "refuted" if len(clear) else "confirmed" if inside.all() else "undecided"
    return F9 | {"rule": rule, "measured": measured, "verdict": verdict}


def _compare(films: pd.DataFrame, first: str, second: str) -> tuple:
    """Test, mean errors of both models; the test is None with too few patients."""
    means = films.pivot_table(index="patient", columns="model", values="error")
    means = means.reindex(columns=[first, second]).dropna()
    a, b = means[first].to_numpy(), means[second].to_numpy()
    test = statistics.paired_wilcoxon(a, b) if len(a) >= statistics.MIN_PAIRS else None
    return test, len(a), a, b


def _side(compared: tuple) -> str:
    """Whether the first model's error is "lower", "higher" or "not shown" to be either."""
    test = compared[0]
    if test is None or not test.p < LEVEL:
        return "not shown"
    return "lower" if test.effect_size < 0 else "higher"


def _words(compared: tuple, first: str, second: str) -> str:
    """Numbers of one comparison as text."""
    test, n, a, b = compared
    if not n:
        return "has no patient"
    means = f"{np.mean(a):.2f} s, {second} {np.mean(b):.2f} s, {int((a < b).sum())} of {n} lower"
    return f"{means}, " + ("too few to test" if test is None else f"p {test.p:.2g}")


def _check(table: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """Stop at a table that lacks a column."""
    lost = [name for name in columns if name not in table]
    if lost:
        raise ValueError(f"the table has no columns {lost}; it has {list(table.columns)}")
