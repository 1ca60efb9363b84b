"""The five perfusion maps as data: adding a map is adding a line."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MapSpec:
    """How one perfusion map is named, measured, bounded and drawn.

    Attributes
    ----------
    name, long_name : str
        Short name used in files and code, and the term of the OSIPI lexicon.
    unit : str
        Physical unit of the map.
    display : (float, float)
        Colour range of every figure [unit].
    limits : (float, float)
        Values that a reference map is clipped to [unit]; beyond them a deconvolved value is
        noise or an artery, and no reader looks at it.
    cmap : str
        Perceptually even colour map.
    counts_from_start : bool
        Whether the values count from the film's first frame, and change with when it began.
    """

    name: str
    long_name: str
    unit: str
    display: tuple[float, float]
    limits: tuple[float, float]
    cmap: str = "viridis"
    counts_from_start: bool = False


MAPS = {
    m.name: m
    for m in (
        MapSpec("CBF", "cerebral blood flow", "ml/100 g/min", (0, 80), (0, 120), "inferno"),
        MapSpec("CBV", "cerebral blood volume", "ml/100 g", (0, 8), (0, 12), "inferno"),
        MapSpec("MTT", "mean transit time", "s", (0, 16), (0, 24)),
        MapSpec("Tmax", "time to maximum of the residue function", "s", (0, 12), (0, 20)),
        MapSpec("TTP", "time to peak", "s", (15, 50), (0, 120), counts_from_start=True),
    )
}


def spec(map_name: str) -> MapSpec:
    """Return the description of one map; raise ValueError that lists the known ones."""
    if map_name not in MAPS:
        raise ValueError(f"map_name={map_name!r} is unknown; known maps: {', '.join(MAPS)}")
    return MAPS[map_name]
