"""Still pictures of executed chapters: what a page shows, for paper and for slides."""

import base64
import html
import io
import re
from dataclasses import dataclass

from PIL import Image

FIGURE = re.compile(r'<figure class="(frames|scroller)".*</figure>', re.DOTALL)
PICTURE = re.compile(r'<img[^>]*src="data:image/png;base64,([^"]+)"')


@dataclass(frozen=True)
class Still:
    """One picture of a page: a PNG file, its caption and its alternative text."""

    png: bytes
    caption: str
    alt: str
    is_interactive: bool = False


def is_interactive(output) -> bool:
    """Tell whether an output is a figure that answers to a slider."""
    return bool(FIGURE.search(_html(output)))


def still(output, options: dict) -> Still | None:
    """Return the picture of an output as it looks before anyone touches it, or None.

    Parameters
    ----------
    output : notebook output
        A PNG, or one of our interactive figures.
    options : dict
        The cell's `mystnb` metadata: caption and alternative text of a PNG, in Markdown.

    Returns
    -------
    Still or None
        None for an output without a picture.
    """
    data = output.get("data", {})
    if "image/png" in data:
        caption = options.get("figure", {}).get("caption", "")
        alt = options.get("image", {}).get("alt", "")
        return Still(base64.b64decode(data["image/png"]), caption, alt)
    found = FIGURE.search(_html(output))
    if not found:
        return None
    text = found[0]
    png = base64.b64decode(PICTURE.search(text)[1])
    if found[1] == "scroller":
        png = _one_of_stack(png, _number(text, "max") + 1, _number(text, "value"))
    return Still(png, _inside(text, "figcaption"), _attribute(text, "alt"), True)


def stills(notebook) -> list[Still]:
    """Return all pictures of an executed chapter, in reading order."""
    found = [
        still(output, cell.metadata.get("mystnb", {}))
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    return [one for one in found if one is not None]


def _html(output) -> str:
    text = output.get("data", {}).get("text/html", "")
    return text if isinstance(text, str) else "".join(text)


def _one_of_stack(png: bytes, n: int, k: int) -> bytes:
    """Cut image k out of n that lie below one another; enlarge it without blurring it."""
    stack = Image.open(io.BytesIO(png)).convert("RGB")
    height = stack.height // n
    part = stack.crop((0, k * height, stack.width, (k + 1) * height))
    file = io.BytesIO()
    part.resize((4 * part.width, 4 * part.height), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def _number(text: str, name: str) -> int:
    return int(re.search(rf'<input[^>]*\s{name}="(\d+)"', text)[1])


def _attribute(text: str, name: str) -> str:
    return html.unescape(re.search(rf'<img[^>]*{name}="([^"]*)"', text)[1])


def _inside(text: str, tag: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return html.unescape(found[1]) if found else ""
