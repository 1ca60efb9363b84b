"""A film or a stack of slices to scroll through, in a notebook and in the built book alike."""

import base64
import html
import io
import json
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML

SHOW = (  # plain JavaScript in the tag itself: no kernel, no network, no script to load
    "const box = this.closest('figure'), bar = box.querySelector('input');"
    "box.querySelector('img').style.transform ="
    " 'translateY(' + -100 * bar.value / (Number(bar.max) + 1) + '%)';"
    "box.querySelector('output').value = JSON.parse(box.dataset.labels)[bar.value];"
)
TURN = (
    "event.preventDefault(); const bar = this.closest('figure').querySelector('input');"
    "if (event.deltaY > 0) bar.stepUp(); else bar.stepDown();"
    "bar.dispatchEvent(new Event('input'));"
)


def scroller(
    frames: np.ndarray,
    labels: Sequence[str],
    alt: str,
    caption: str = "",
    start: int = 0,
    sides: tuple[str, str] = ("R", "L"),
) -> HTML:
    """Grey images on one scale, scrolled by a slider, the wheel or the arrow keys.

    Parameters
    ----------
    frames : float array, shape (N, H, W)
        Rows from the lower edge up, as in all figures. In radiological convention the patient's
        right is the image's left: turn volumes whose X runs to the right with `[::-1]`.
    labels : list of str
        What each image is, such as "12.2 s" or "slice 4".
    alt : str
        What is seen, for those who cannot see it.
    caption : str
        Text below.
    start : int
        The image shown first.
    sides : (str, str)
        Letters at the image's left and right edge.

    Returns
    -------
    HTML
        One figure; it carries its images and needs neither kernel nor network.

    Raises
    ------
    ValueError
        Not (N, H, W), not one label per image, or no such first image.
    """
    frames = np.asarray(frames, float)
    if frames.ndim != 3 or len(frames) != len(labels) or not 0 <= start < len(frames):
        raise ValueError(
            f"frames has shape {frames.shape}, {len(labels)} labels and start={start}: "
            "expected (N, H, W), N labels and a start from 0 to N - 1"
        )
    n, height, width = frames.shape
    edge = "position:absolute; top:45%; color:#fff; font:0.8rem sans-serif; opacity:0.8;"
    quote = html.escape
    return HTML(
        f'<figure class="scroller" style="max-width:22rem; margin:0 0 1rem 0"'
        f' data-labels="{quote(json.dumps(list(labels)))}">'
        f'<div style="position:relative; overflow:hidden; background:#000;'
        f' aspect-ratio:{width}/{height}" onwheel="{quote(TURN)}">'
        f'<img alt="{quote(alt)}" src="data:image/png;base64,{_stack(frames)}"'
        f' style="display:block; width:100%; max-width:none; border-radius:0;'
        f' transform:translateY({-100 * start / n}%)">'
        f'<span style="{edge} left:0.3rem">{quote(sides[0])}</span>'
        f'<span style="{edge} right:0.3rem">{quote(sides[1])}</span></div>'
        f'<input type="range" min="0" max="{n - 1}" value="{start}" style="width:100%"'
        f' aria-label="scroll" oninput="{quote(SHOW)}">'
        f"<output>{quote(labels[start])}</output>"
        f"<figcaption>{quote(caption)}</figcaption></figure>"
    )


def _stack(frames: np.ndarray) -> str:
    """All images below one another on one grey scale, as a PNG in base64."""
    low, high = np.nanpercentile(frames, [0.5, 99.8])
    stacked = np.nan_to_num(frames[:, ::-1], nan=low).reshape(-1, frames.shape[2])
    file = io.BytesIO()
    plt.imsave(file, stacked, cmap="gray", vmin=low, vmax=max(high, low + 1e-9), format="png")
    return base64.b64encode(file.getvalue()).decode()
