"""Figures: take arrays and map names, open no files, return a matplotlib `Figure`.

Slices are (H, W) with H = Y and W = X, drawn with the origin at the lower left. Every map has one
colour range, from `perfnb.maps`; every error is drawn symmetric about zero.
"""

from perfnb.plots.games import losses_by_step
from perfnb.plots.graphs import agreement, curves, head_motion, sparkline, training_history
from perfnb.plots.interactive import slider
from perfnb.plots.lines import Panel, panels
from perfnb.plots.look import COLOURS, show_source, style
from perfnb.plots.ranges import ranges
from perfnb.plots.scatter import dots, scatter
from perfnb.plots.scores import score_bars, skill_dots
from perfnb.plots.scroll import scroller
from perfnb.plots.slices import film_strip, map_grid, map_rows, masks_outline, montage
from perfnb.plots.strips import map_strip
from perfnb.plots.tiles import tiles

__all__ = [
    "COLOURS",
    "Panel",
    "agreement",
    "curves",
    "dots",
    "film_strip",
    "head_motion",
    "losses_by_step",
    "map_grid",
    "map_rows",
    "map_strip",
    "masks_outline",
    "montage",
    "panels",
    "ranges",
    "score_bars",
    "scatter",
    "scroller",
    "show_source",
    "skill_dots",
    "slider",
    "sparkline",
    "style",
    "tiles",
    "training_history",
]
