"""Figures that answer to sliders, in a page without kernel and without network.

Every frame is drawn beforehand and lies in the page itself; a few lines of plain JavaScript show
the one that the sliders point to. Without JavaScript the first frame stays, and no slider is seen.
"""

import base64
import hashlib
import html
import io
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import matplotlib as mpl
from IPython.display import HTML
from matplotlib.figure import Figure
from PIL import Image

DPI = 120
PNG_START = "data:image/png;base64,"
SCRIPT = """
for (const box of document.querySelectorAll('[data-slider="%s"]')) {
  const told = JSON.parse(box.querySelector("script[type='application/json']").textContent);
  const image = box.querySelector("img"), inputs = [...box.querySelectorAll("input")];
  const show = () => {
    let k = 0;
    inputs.forEach((input, i) => {
      const word = told.labels[i][input.value];
      k = k * told.labels[i].length + Number(input.value);
      input.setAttribute("aria-valuetext", word);
      input.parentElement.querySelector("output").textContent = word;
    });
    image.src = "data:image/png;base64," + told.frames[k];
    image.alt = told.alts[k];
  };
  inputs.forEach((input) => input.addEventListener("input", show));
  box.querySelector("[hidden]").hidden = false;
  show();
}
"""


def slider(
    frames: Callable[..., Figure] | Iterable[Figure | bytes],
    controls: Mapping[str, Sequence[object]],
    alt: str,
    caption: str = "",
    start: Sequence[int] | None = None,
) -> HTML:
    """Show one of many frames, chosen by one slider or more.

    Parameters
    ----------
    frames : function, or figures or PNG files (bytes)
        A function draws the figure for one position of each slider. Otherwise one frame for each
        combination, the last slider running fastest. All have one size.
    controls : {name: values}
        The sliders: a name with its unit, and the value or word of each position.
    alt : str
        What the frames show, for those who do not see them; the positions are added.
    caption : str
        Plain text below the sliders.
    start : ints, or None
        Position of each slider at first, and of the frame seen without JavaScript; None: all 0.

    Returns
    -------
    HTML

    Raises
    ------
    ValueError
        A slider without a name or labels, a number of frames or a start that does not fit them,
        frames of different size, no alternative text.
    """
    labels = {name: [str(label) for label in values] for name, values in controls.items()}
    start = _checked(labels, alt, start)
    if callable(frames):
        frames = itertools.starmap(frames, itertools.product(*controls.values()))
    pictures = _pictures(frames, labels)
    told = [", ".join(parts) for parts in itertools.product(*_named(labels))]
    alts = [f"{alt.rstrip('.')}; {words}" for words in told]
    data = {"labels": list(labels.values()), "frames": pictures, "alts": alts}
    key = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:12]
    first = 0
    for name, place in zip(labels, start, strict=True):
        first = first * len(labels[name]) + place
    return HTML(
        f'<figure class="frames" data-slider="{key}">'
        f'<img src="{PNG_START}{pictures[first]}" alt="{html.escape(alts[first])}"'
        ' style="max-width: 100%">'
        f'<div role="group" aria-label="{html.escape(alt)}" hidden>{_inputs(labels, start)}</div>'
        + (f"<figcaption>{html.escape(caption)}</figcaption>" if caption else "")
        + f'<script type="application/json">{_for_script(data)}</script>'
        f"<script>{SCRIPT % key}</script></figure>"
    )


def to_png(figure: Figure) -> bytes:
    """PNG file of a figure, as wide as its page says; without maps, 256 colours are enough."""
    file = io.BytesIO()
    with mpl.rc_context({"savefig.bbox": "standard"}):  # a tight box would differ per frame
        figure.savefig(file, format="png", dpi=DPI)
    picture = Image.open(file).convert("RGB")
    if not any(ax.images for ax in figure.axes):
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    small = io.BytesIO()
    picture.save(small, "PNG", optimize=True)
    return small.getvalue()


def _checked(labels: dict, alt: str, start: Sequence[int] | None) -> list[int]:
    """Start positions, after a look at everything but the frames."""
    if not labels or not all(name and values for name, values in labels.items()):
        raise ValueError(f"controls={labels}: expected at least one name with its labels")
    if not alt.strip():
        raise ValueError("alt is empty: say what the frames show, for those who do not see them")
    start = [0] * len(labels) if start is None else list(start)
    sizes = [len(values) for values in labels.values()]
    if len(start) != len(sizes) or not all(0 <= k < n for k, n in zip(start, sizes, strict=True)):
        raise ValueError(f"start={start} does not fit sliders of {sizes} positions")
    return start


def _pictures(frames: Iterable[Figure | bytes], labels: dict) -> list[str]:
    """Frames as base64 text, checked in number and size."""
    expected = math.prod(len(values) for values in labels.values())
    files = [frame if isinstance(frame, bytes) else to_png(frame) for frame in frames]
    if len(files) != expected:
        raise ValueError(
            f"{len(files)} frames for sliders of {[len(v) for v in labels.values()]} positions: "
            f"expected {expected}, the last slider running fastest"
        )
    sizes = {Image.open(io.BytesIO(file)).size for file in files}
    if len(sizes) > 1:
        raise ValueError(f"frames have {len(sizes)} sizes, {sorted(sizes)}: expected one")
    return [base64.b64encode(file).decode() for file in files]


def _named(labels: dict) -> list[list[str]]:
    """Each slider's positions with its name before them."""
    return [[f"{name} {label}" for label in values] for name, values in labels.items()]


def _inputs(labels: dict, start: Sequence[int]) -> str:
    """One labelled slider per control; arrow keys move it, as the browser does by itself."""
    rows = []
    for (name, values), k in zip(labels.items(), start, strict=True):
        word = html.escape(values[k])
        rows.append(
            f'<div><label><span>{html.escape(name)}</span> <input type="range" min="0" step="1"'
            f' max="{len(values) - 1}" value="{k}" aria-valuetext="{word}">'
            f" <output>{word}</output></label></div>"
        )
    return "".join(rows)


def _for_script(data: dict) -> str:
    """JSON that cannot end the script element it lies in."""
    return json.dumps(data, ensure_ascii=False).replace("</", "<\\/")
