"""Curves with known truth: a digital reference object in the manner of Kudo et al. 2013."""

import numpy as np

from perfnb.classical.deconvolution import PER_100_G

FINE_S = 0.02


def arterial_input(repetition_time_s, n_frames, arrival_s=None, scale_s=1.5):
    """AIF of unit scale on a fine grid: (t - t0)^3 exp(-(t - t0) / scale)."""
    t = np.arange(0, n_frames * repetition_time_s, FINE_S)
    since = np.clip(t - (10 * repetition_time_s if arrival_s is None else arrival_s), 0, None)
    return since**3 * np.exp(-since / scale_s)


def sampled(curve, repetition_time_s, n_frames):
    """A fine curve at the frame times."""
    return curve[..., np.round(np.arange(n_frames) * repetition_time_s / FINE_S).astype(int)]


def tissue_curve(aif, cbv, mtt, delay, shape="exponential"):
    """Fine tissue curve of CBV [ml/100 g], MTT [s] and delay [s] for a fine AIF."""
    t = np.arange(len(aif)) * FINE_S
    residue = np.exp(-t / mtt) if shape == "exponential" else (t < mtt).astype(float)
    curve = np.convolve(aif, residue)[: len(aif)] * FINE_S * cbv / PER_100_G / mtt
    shift = int(round(delay / FINE_S))
    return np.roll(curve, shift) if shift <= 0 else np.pad(curve, (shift, 0))[: len(curve)]


def reference_object(repetition_time_s=1.4, n_frames=80, echo_time_s=0.029, snr=None, repeats=4):
    """Tissue curves (N, T), the AIF (T,) and the truth (dict of (N,)) of a reference object."""
    fine = arterial_input(repetition_time_s, n_frames)
    truth = [
        (cbv, mtt, delay)
        for cbv in (1, 2, 4)
        for mtt in (2, 4, 6, 8, 12, 16, 24)
        for delay in np.arange(0, 8.1, 2)
    ]
    gain = -np.log(0.6) / echo_time_s / tissue_curve(fine, 4, 4, 0).max()
    fine = fine * gain
    curves = np.array([tissue_curve(fine, *row) for row in truth])
    tissue = np.repeat(sampled(curves, repetition_time_s, n_frames), repeats, axis=0)
    if snr is not None:
        noise = np.random.default_rng(5).normal(0, 1 / snr, (2, *tissue.shape))
        signal = np.hypot(np.exp(-echo_time_s * tissue) + noise[0], noise[1])
        tissue = -np.log(signal / signal[:, :9].mean(axis=1, keepdims=True)) / echo_time_s
    cbv, mtt, delay = np.repeat(np.array(truth, float), repeats, axis=0).T
    truth = {"CBF": 60 * cbv / mtt, "CBV": cbv, "MTT": mtt, "Tmax": delay}
    return tissue, sampled(fine, repetition_time_s, n_frames), truth


def small_series(
    snr=50.0, seed=0, repetition_time_s=1.5, n_frames=60, echo_time_s=0.03, arrival_frame=12
):
    """A round brain (24, 24, 3) of tissue with one artery, one vein and a delayed quarter.

    Returns the series (X, Y, Z, T) and a dict: mask, artery, vein, delayed (X, Y, Z), aif (T,),
    delay_s, bolus_frame.
    """
    rng = np.random.default_rng(seed)
    fine = arterial_input(repetition_time_s, n_frames, arrival_s=arrival_frame * repetition_time_s)
    fine = 240 * fine / fine.max()
    x, y, _ = np.meshgrid(np.arange(24) - 11.5, np.arange(24) - 11.5, np.arange(3), indexing="ij")
    mask = np.hypot(x, y) < 10
    delayed = mask & (x > 1) & (y > 1)
    artery = mask & (np.abs(x + 4) <= 1) & (np.abs(y + 4) <= 1)
    vein = mask & (np.abs(x) <= 1) & (y < -7)
    curves = np.zeros((*mask.shape, len(fine)))
    curves[mask] = tissue_curve(fine, 4, 5, 1)
    curves[delayed] = tissue_curve(fine, 4, 8, 6)
    curves[vein] = tissue_curve(fine, 25, 4, 3)
    curves[artery] = 0.25 * fine  # partial volume: maps come out four times too high
    change = sampled(curves, repetition_time_s, n_frames)
    brightness = mask * rng.uniform(600, 1000, (*mask.shape, 1))[..., 0]
    signal = brightness[..., None] * np.exp(-echo_time_s * change)
    signal[..., 0] *= 1.3
    signal[..., 1] *= 1.05
    noise = rng.normal(0, 800 / snr, (2, *signal.shape))
    return np.hypot(signal + noise[0], noise[1]).astype(np.float32), {
        "mask": mask,
        "artery": artery,
        "vein": vein,
        "delayed": delayed,
        "aif": sampled(fine, repetition_time_s, n_frames),
        "delay_s": {"normal": 1, "delayed": 6},
        "bolus_frame": arrival_frame,
    }
