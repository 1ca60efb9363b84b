"""From perfusion to film: tissue curves, their signal, and the truths that they imply.

Partial volume mixes signals, never maps: each voxel adds the signals of its grey matter, white
matter, fluid, artery and vein.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfnb.classical.deconvolution import DENSITY, KAPPA_H
from perfnb.classical.references import RELAXIVITY_RATIO
from perfnb.data import bolus
from perfnb.data.acquisition import Protocol, scalp, slice_offsets
from perfnb.data.anatomy import Anatomy
from perfnb.data.bolus import Bolus, Library
from perfnb.data.pathology import Lesion
from perfnb.data.physiology import Perfusion

FLOW_UNIT = DENSITY / KAPPA_H / 6000.0  # ml/100 g/min to 1/s of voxel volume
VENOUS_DELAY_S, VENOUS_TRANSIT_S = 2.5, 5.0
MIN_TISSUE = 0.05
ARTERIAL = ("linear", "quadratic")
QUADRATIC = {1.5: (7.62, 0.574), 3.0: (0.493, 2.62)}
"""dR2* of arterial blood is p C + q C**2: p [1/s/mM] and q [1/s/mM**2] by field strength [T]
(1.5 T: van Osch et al., MRM 49:1067, 2003; 3 T: Akbudak et al., Proc ISMRM 2004, as used by Kjolby
et al., MRM 61:1300, 2009)."""
LEAK_PER_S = {"core": 0.008, "penumbra": 0.003}
"""Share of the tissue curve's integral that leakage takes away a second, the K2 of Boxerman et al.
(AJNR 27:859, 2006): agent outside the vessels brightens a T1-weighted film."""


@dataclass(frozen=True)
class Passage:
    """One bolus passing through one brain: everything that the film and the truths need.

    `arterial` is one of ARTERIAL; `has_leak` lets agent leak where the lesion is.
    """

    anatomy: Anatomy
    perfusion: Perfusion
    lesion: Lesion
    injection: Bolus
    protocol: Protocol
    n_frames: int
    table: Library
    arterial: str = "linear"
    has_leak: bool = False

    @property
    def frames_s(self) -> np.ndarray:
        """Start of each frame, shape (T,) [s]."""
        return np.arange(self.n_frames) * self.protocol.repetition_time_s

    @property
    def offset_s(self) -> np.ndarray:
        """How long after the frame's start each mask voxel is read, shape (N,) [s]."""
        mask, protocol = self.anatomy.mask, self.protocol
        offsets = slice_offsets(mask.shape[2], protocol.repetition_time_s, protocol.slice_order)
        return offsets[np.nonzero(mask)[2]]

    @property
    def rows(self) -> np.ndarray:
        """Library rows of GM and WM in each mask voxel, shape (2, N)."""
        index = self.perfusion.dispersion_index
        return np.stack([self.table.row(mtt, index) for mtt in self.perfusion.mtt_index])


def bolus_signal(passage: Passage) -> list[tuple[np.ndarray, np.ndarray]]:
    """Signal of pure GM, WM, artery and vein relative to before the bolus.

    Parameters
    ----------
    passage : Passage
        Bolus and brain.

    Returns
    -------
    list of (voxels, signal)
        Indices of mask voxels that hold the compartment, shape (M,), and exp(-TE dR2*), (M, T).
    """
    anatomy, perfusion = passage.anatomy, passage.perfusion
    start, frames = passage.offset_s - perfusion.delay_s, passage.frames_s
    parts = []
    for part, row, cbf in zip((anatomy.gm, anatomy.wm), passage.rows, perfusion.cbf, strict=True):
        voxels = np.nonzero(part[anatomy.mask] > 0)[0]
        curve = bolus.read_curves(passage.table.tissue, row[voxels], start[voxels], frames)
        scale = RELAXIVITY_RATIO * FLOW_UNIT * cbf[voxels, None]
        rate = scale.astype(np.float32) * curve
        if passage.has_leak:
            rate = _leaking(passage, voxels, rate)
        parts.append((voxels, rate))
    parts += [_arterial(passage), _venous(passage)]
    return [(voxels, np.exp(-passage.protocol.echo_time_s * rate)) for voxels, rate in parts]


def _leaking(passage: Passage, voxels: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Tissue dR2* less what leaked agent takes away, shape (M, T)."""
    lesion = passage.lesion
    leak = LEAK_PER_S["core"] * lesion.core + LEAK_PER_S["penumbra"] * lesion.penumbra
    leak = (leak[voxels, None] * passage.protocol.repetition_time_s).astype(np.float32)
    return rate - leak * np.cumsum(rate, axis=1)


def arterial_rate(passage: Passage, curves: np.ndarray) -> np.ndarray:
    """dR2* of pure arterial blood as the film sees it, for curves proportional to concentration.

    Where it is quadratic, a bolus of the mean dose has the same peak as in the linear case; larger
    doses then look too large, and the curve's foot and second passage too small.
    """
    if passage.arterial == "linear":
        return curves
    p, q = QUADRATIC[passage.protocol.field_strength_t]
    peak = passage.protocol.arterial_peak
    amount = (np.sqrt(p * p + 4 * q * peak) - p) / (2 * q) * curves / peak
    return p * amount + q * amount * amount


def _arterial(passage: Passage) -> tuple[np.ndarray, np.ndarray]:
    """Mask voxels with artery and their arterial dR2*, shape (M, T); lesions make it late."""
    anatomy, lesion, curve = passage.anatomy, passage.lesion, passage.injection.curve
    voxels = np.nonzero(anatomy.arteries[anatomy.mask] > 0)[0]
    levels = bolus.DISPERSION_LEVELS_S
    kernels = bolus.dispersion_kernel(passage.injection.kernel, levels, 400)
    curves = np.stack([curve, *(np.convolve(curve, k)[: curve.size] for k in kernels)])
    spread = 0.5 * lesion.dispersion_s[voxels]
    row = np.where(spread < levels[0], 0, 1 + bolus.nearest_level(spread, levels))
    late = anatomy.arterial_delay_s[anatomy.mask][voxels] + 0.7 * lesion.delay_s[voxels]
    start = passage.offset_s[voxels] - late
    curves = arterial_rate(passage, curves)
    return voxels, bolus.read_curves(curves, row, start, passage.frames_s)


def _venous(passage: Passage) -> tuple[np.ndarray, np.ndarray]:
    """Mask voxels with vein and their dR2*: the arterial curve after a whole transit, (M, T)."""
    anatomy, curve = passage.anatomy, passage.injection.curve
    voxels = np.nonzero(anatomy.vein[anatomy.mask] > 0)[0]
    transit = bolus.dispersion_kernel("gamma", np.array([VENOUS_TRANSIT_S]), 400)[0]
    curves = arterial_rate(passage, np.convolve(curve, transit)[None, : curve.size])
    late = VENOUS_DELAY_S + anatomy.venous_delay_s[anatomy.mask][voxels]
    row = np.zeros(voxels.size, int)
    start = passage.offset_s[voxels] - late
    return voxels, bolus.read_curves(curves, row, start, passage.frames_s)


def make_film(
    passage: Passage, baseline: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, float]:
    """Add up the signals of the compartments.

    Parameters
    ----------
    passage : Passage
        Bolus and brain.
    baseline : float array, shape (5, N)
        Steady-state signal of pure GM, WM, CSF, artery and vein in each mask voxel [a.u.].
    start : float array, shape (5, T)
        Approach of each compartment to its steady state.

    Returns
    -------
    film : float32 array, shape (X, Y, Z, T)
        Noise-free series [a.u.].
    level : float
        Median baseline inside the mask [a.u.].
    """
    anatomy = passage.anatomy
    mask = anatomy.mask
    parts = (anatomy.gm, anatomy.wm, anatomy.csf, anatomy.arteries, anatomy.vein)
    amount = (baseline * np.stack([part[mask] for part in parts])).astype(np.float32)
    start = start.astype(np.float32)
    signal = amount[2][:, None] * start[2]
    for compartment, (voxels, drop) in zip((0, 1, 3, 4), bolus_signal(passage), strict=True):
        drop = drop.astype(np.float32, copy=False)
        drop *= start[compartment]
        drop *= amount[compartment][voxels, None]
        signal[voxels] += drop
    level = float(np.median(amount.sum(0)))
    film = np.repeat(
        scalp(mask, anatomy.affine, 0.2 * level).astype(np.float32)[..., None],
        passage.n_frames, axis=-1,
    )  # fmt: skip
    film[mask] = signal
    return film, level


def find_truth(passage: Passage) -> dict[str, np.ndarray]:
    """Truth of every map: what a perfect measurement at this resolution would show.

    Parameters
    ----------
    passage : Passage
        Bolus and brain.

    Returns
    -------
    dict of float32 arrays, shape (X, Y, Z)
        CBF, CBV per 100 g of the whole voxel; MTT = 60 CBV / CBF; delay and mean dispersion; Tmax,
        the peak of delayed, dispersed residue; TTP of the tissue curve from frame 0, as seen in
        the slice. 0 outside the mask and where tissue fills less than MIN_TISSUE.
    """
    anatomy, perfusion, mask = passage.anatomy, passage.perfusion, passage.anatomy.mask
    share = np.stack([anatomy.gm[mask], anatomy.wm[mask]])
    flows = share * perfusion.cbf
    cbf, cbv = flows.sum(0), (share * perfusion.cbv).sum(0)
    rows, weights = tuple(passage.rows), tuple(flows)
    vectors = {
        "CBF": cbf,
        "CBV": cbv,
        "MTT": 60.0 * cbv / np.maximum(cbf, 1e-9),
        "delay": perfusion.delay_s,
        "dispersion": perfusion.dispersion_s,
        "Tmax": perfusion.delay_s + bolus.mixture_peak(passage.table.response, rows, weights),
        "TTP": perfusion.delay_s
        + bolus.mixture_peak(passage.table.tissue, rows, weights)
        - passage.offset_s,
    }
    enough = share.sum(0) >= MIN_TISSUE
    truth = {}
    for name, vector in vectors.items():
        truth[name] = np.zeros(mask.shape, np.float32)
        truth[name][mask] = np.where(enough, vector, 0.0)
    return truth
