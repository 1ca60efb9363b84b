"""Draw the idea and the networks as SVG: `python book/images/draw.py` rewrites the pictures.

The drawings are narrow, so that their text stays readable on a phone, and stand on their own light
card, so that they read the same on a light and on a dark page.
"""

from pathlib import Path

WIDTH = 440
BLUE, GREEN, ORANGE, GREY = "#dbe8f6", "#dcefdc", "#fbe6d0", "#eceff1"
INK, LINE = "#1b2733", "#52616f"
SIZES = (64, 32, 16, 8, 4, 2)
FACTORS = (1, 2, 4, 8, 8, 8)
FRAMES = (80, 40, 20, 10, 5, 2, 1)


def text(x: float, y: float, words: str, size: int = 14, weight: str = "normal") -> str:
    """Centred words."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="middle">{words}</text>'
    )


def box(x: float, y: float, width: float, words: list[str], fill: str, height: float = 40) -> str:
    """Rounded box with one or two lines of words; the first is bold."""
    lines = [f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" '
             f'fill="{fill}" stroke="{LINE}"/>']  # fmt: skip
    middle, n = y + height / 2 + 5, len(words)
    for i, word in enumerate(words):
        weight = "bold" if i == 0 else "normal"
        lines.append(text(x + width / 2, middle + (i - (n - 1) / 2) * 16, word, 13, weight))
    return "\n".join(lines)


def arrow(x1: float, y1: float, x2: float, y2: float, dashed: bool = False) -> str:
    """Line with a head; dashed for a skip connection, or for who teaches whom."""
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{LINE}" '
        f'stroke-width="1.6"{dash} marker-end="url(#head)"/>'
    )


def card(height: float, title: str, parts: list[str]) -> str:
    """Whole picture: a light card with a title."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
            f'font-family="Helvetica, Arial, sans-serif" fill="{INK}">',
            f"<title>{title}</title>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{LINE}"/></marker>'
            "</defs>",
            f'<rect width="{WIDTH}" height="{height:g}" rx="10" fill="#ffffff"/>',
            text(WIDTH / 2, 26, title, 16, "bold"),
            *parts,
            "</svg>\n",
        ]
    )


def width_name(factor: int, base: str) -> str:
    """Name a number of channels."""
    return base if factor == 1 else f"{factor} {base}"


def unet(top: float, entry: list[str], base: str) -> tuple[list[str], float]:
    """Six halvings down on the left, six doublings up on the right, skips between."""
    wide, step = 150, 58
    left = [box(10, top, wide, entry, GREY)]
    right = [box(WIDTH - 10 - wide, top, wide, ["128 × 128 · 1", "tanh: the map"], ORANGE)]
    for level in range(1, 6):
        x, y = 10 + 7 * level, top + step * level
        size, factor = SIZES[level - 1], FACTORS[level - 1]
        words = [f"{size} × {size}", width_name(factor, base)]
        mirrored = WIDTH - x - wide
        left += [box(x, y, wide, words, BLUE), arrow(x + wide / 2, y - 18, x + wide / 2, y - 1)]
        right += [
            box(mirrored, y, wide, words, GREEN),
            arrow(mirrored + wide / 2, y - 1, mirrored + wide / 2, y - 17),
            arrow(x + wide + 2, y + 20, mirrored - 2, y + 20, dashed=True),
        ]
    y = top + step * 6 + 6
    words = ["2 × 2", width_name(FACTORS[-1], base)]
    left.append(box(WIDTH / 2 - wide / 2, y, wide, words, BLUE))
    left.append(arrow(120, y - 24, 150, y + 8))
    right.append(arrow(WIDTH - 150, y + 8, WIDTH - 120, y - 22))
    return left + right, y + 40


def legend(y: float, rows: list[tuple[str, str]]) -> list[str]:
    """Coloured squares with words, one a line."""
    parts = []
    for i, (fill, words) in enumerate(rows):
        line = y + 22 * i
        parts.append(f'<rect x="16" y="{line:g}" width="14" height="14" rx="3" fill="{fill}" '
                     f'stroke="{LINE}"/>')  # fmt: skip
        parts.append(f'<text x="38" y="{line + 12:g}" font-size="13">{words}</text>')
    return parts


UNET_ROWS = [
    (BLUE, "down: convolution 4 × 4, stride 2; batch norm; LeakyReLU"),
    (GREEN, "up: transposed convolution 4 × 4; batch norm; ReLU"),
]


def draw_pix2pix() -> str:
    """Time as channels into a U-Net."""
    parts, bottom = unet(46, ["128 × 128 · 80", "frames as channels"], "ngf")
    rows = [*UNET_ROWS, (GREY, "dashed: features handed across and stacked")]
    return card(
        bottom + 92, "pix2pix: the U-Net sees 80 channels", parts + legend(bottom + 18, rows)
    )


def draw_temporal() -> str:
    """Six convolutions over time, then a U-Net."""
    parts = [text(WIDTH / 2, 50, "1. over time, voxel by voxel: 80 frames become one")]
    y, longest = 62, 250.0
    for i, frames in enumerate(FRAMES):
        words = f"{frames} frame{'s' if frames > 1 else ''}"
        length = max(longest * frames / FRAMES[0], 5)
        channels = "1" if i == 0 else width_name(FACTORS[i - 1], "ngf")
        fill = GREY if i == 0 else "#b9d3ee"
        parts.append(f'<rect x="16" y="{y + 4:g}" width="{length:g}" height="18" rx="3" '
                     f'fill="{fill}" stroke="{LINE}"/>')  # fmt: skip
        parts.append(text(316, y + 18, words, 13, "bold"))
        parts.append(text(396, y + 18, f"× {channels}", 13))
        y += 30
    parts.append(text(WIDTH / 2, y + 26, "2. over space: the U-Net sees the 8 ngf features"))
    stack, bottom = unet(y + 42, ["128 × 128 · 8 ngf", "no time left"], "unet_ngf")
    rows = [("#b9d3ee", "convolution over 4 frames, stride 2; batch norm; LeakyReLU"), *UNET_ROWS]
    return card(bottom + 92, "temp-pix2pix: time first, then space",
                parts + stack + legend(bottom + 18, rows))  # fmt: skip


def draw_discriminator() -> str:
    """Patches of a pair: real, or generated."""
    wide, x = 250, (WIDTH - 250) / 2
    parts = [
        box(14, 46, 196, ["series", "128 × 128 · 80"], GREY),
        box(230, 46, 196, ["map", "reference or prediction · 1"], ORANGE),
        arrow(112, 88, 190, 112),
        arrow(328, 88, 250, 112),
    ]
    rows = [
        ("128 × 128 · 81", "one stack", GREY),
        ("64 × 64 · ndf", "stride 2; batch norm; LeakyReLU", BLUE),
        ("32 × 32 · 2 ndf", "stride 2; batch norm; LeakyReLU", BLUE),
        ("16 × 16 · 4 ndf", "stride 2; batch norm; LeakyReLU", BLUE),
        ("8 × 8 · 1", "stride 2: one verdict a patch", GREEN),
    ]
    y = 114
    for i, (size, what, fill) in enumerate(rows):
        parts.append(box(x, y, wide, [size, what], fill))
        if i:
            parts.append(arrow(WIDTH / 2, y - 16, WIDTH / 2, y - 1))
        y += 57
    parts.append(text(WIDTH / 2, y + 4, "every verdict looks at a patch of 46 × 46 voxels", 13))
    return card(y + 20, "PatchGAN: is this pair real?", parts)


def wave(x: float, y: float, width: float) -> str:
    """Signal of one voxel: a baseline, the dark wave of the bolus, and back."""
    signal = [0, 0, 0, 0, 4, 18, 30, 27, 18, 11, 7, 6, 6, 5, 5, 5]
    step = width / (len(signal) - 1)
    points = " ".join(f"{x + i * step:g},{y + dip:g}" for i, dip in enumerate(signal))
    return f'<polyline points="{points}" fill="none" stroke="{INK}" stroke-width="2"/>'


def draw_idea() -> str:
    """Two ways from film to map, and the truth beside them."""
    middle = WIDTH / 2
    parts = [
        f'<rect x="95" y="44" width="250" height="92" rx="6" fill="{GREY}" stroke="{LINE}"/>',
        text(middle, 64, "film of a brain slice", 13, "bold"),
        wave(130, 78, 180),
        text(middle, 128, "signal of one voxel over time", 12),
        text(114, 174, "the classical way", 13, "bold"),
        text(326, 174, "the learned way", 13, "bold"),
        arrow(170, 138, 124, 156),
        arrow(270, 138, 316, 156),
        box(14, 186, 200, ["find an artery", "and have it checked"], GREEN),
        arrow(114, 228, 114, 247),
        box(14, 250, 200, ["deconvolve", "every voxel, by the artery"], GREEN),
        arrow(114, 292, 114, 311),
        box(226, 186, 200, ["a generator", "pix2pix or temp-pix2pix"], BLUE, height=104),
        arrow(326, 292, 326, 311),
        box(14, 314, 200, ["reference", "what an expert would use"], ORANGE),
        box(226, 314, 200, ["prediction", "needs no artery"], ORANGE),
        arrow(196, 312, 240, 294, dashed=True),
        text(168, 306, "teaches", 12),
        arrow(150, 356, 190, 384),
        arrow(290, 356, 250, 384),
        box(95, 387, 250, ["truth", "known, as patients are simulated"], GREY),
    ]
    return card(444, "From the film to the map", parts)


def main() -> None:
    """Write the pictures."""
    folder = Path(__file__).parent
    drawings = {
        "idea.svg": draw_idea(),
        "pix2pix.svg": draw_pix2pix(),
        "temp-pix2pix.svg": draw_temporal(),
        "discriminator.svg": draw_discriminator(),
    }
    for name, svg in drawings.items():
        (folder / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
