"""What a study file must hold: the sections, keys and types of one that has every key."""

import functools
from collections.abc import Mapping
from pathlib import Path

import yaml

from perfnb.maps import MAPS

COHORTS = ("acute", "chronic")
MODELS = ("pix2pix", "temp-pix2pix")
PER_COHORT = (*COHORTS, "folder")
# What may be null, and a value of the type that it has otherwise.
OPTIONAL = {
    "arrival_frame": 12,
    "repetition_time_s": 1.5,
    "echo_time_s": 0.03,
    "trained_on": "acute",
}
# What the networks take: each halves a picture, and time, six times.
ALLOWED = {
    "matrix": (range(64, 2**31, 64), "a multiple of 64, for six halvings"),
    "frames": (range(64, 128), "64 to 127, for six halvings"),
    "cohorts": (COHORTS, f"one of {', '.join(COHORTS)}"),
    "maps": (tuple(MAPS), f"one of {', '.join(MAPS)}"),
    "models": (MODELS, f"one of {', '.join(MODELS)}"),
}


def read_checked(path: Path) -> dict:
    """Read a study and compare it with `small`, which has every key, and `small` with `tiny`.

    Parameters
    ----------
    path : Path
        A file in `workflow/studies`.

    Returns
    -------
    dict
        `matrix` and `chapters`; text that is a number where one is expected (to YAML 1e-4 is text)
        has become it.

    Raises
    ------
    ValueError
        Names the file, and each unknown, missing or mistyped key with its section.
    """
    known, faults = _every_key(path.parent, path.stem == "small"), []
    study = _section("the file", _load(path), known, faults)
    if faults:
        raise ValueError(
            f"{path.name} does not fit: {'; '.join(faults)}. Correct it in "
            f"{path.parent}, where small.yml has every key"
        )
    return study


@functools.cache
def _every_key(folder: Path, of_small: bool) -> dict:
    return _load(folder / "tiny.yml") if of_small else read_checked(folder / "small.yml")


def _load(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def _section(where: str, found: object, known: Mapping, faults: list[str]) -> dict:
    """Return what a section holds of the known keys; note down every other and every misfit."""
    if not isinstance(found, dict):
        faults.append(f"{where} holds {found!r}, expected {', '.join(known)}")
        return {}
    for what, one, other in (("unknown", found, known), ("missing", known, found)):
        names = [str(name) for name in one if name not in other]
        if names:
            faults.append(f"{where}: {what} {', '.join(names)}")
    read = {}
    for name in filter(known.__contains__, found):
        if isinstance(known[name], dict) and set(known[name]) != set(PER_COHORT):
            read[name] = _section(name, found[name], known[name], faults)
            continue
        try:
            read[name] = _fit(name, found[name], OPTIONAL.get(name, known[name]))
        except ValueError as error:
            faults.append(f"{where}: {name} is {found[name]!r}, expected {error}")
    return read


def _fit(name: str, value: object, known: object) -> object:
    """Return a value of the type of `known`, or raise ValueError that says what was expected."""
    if isinstance(value, dict):
        if set(value) != set(PER_COHORT):
            raise ValueError(f"one value for each of {', '.join(PER_COHORT)}")
        of_each = known if isinstance(known, dict) else dict.fromkeys(PER_COHORT, known)
        return {cohort: _fit(name, value[cohort], of_each[cohort]) for cohort in value}
    if isinstance(known, dict):  # one value for all cohorts
        known = known["folder"]
    if isinstance(known, list):
        if not isinstance(value, list) or not value:
            raise ValueError(f"a list such as {known}")
        return [_fit(name, one, known[0]) for one in value]
    if value is None and name in OPTIONAL:
        return value
    return _one(name, value, known)


def _one(name: str, value: object, known: object) -> object:
    kinds = (float, int) if type(known) is float else (type(known),)
    if type(known) is float and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            pass  # refused below
    is_number = type(known) in (float, int)
    if type(value) not in kinds or is_number and not 0 <= value < float("inf"):
        least = " of at least 0" if is_number else ""
        raise ValueError(f"{type(known).__name__}{least} such as {known!r}")
    allowed, words = ALLOWED.get(name, ((value,), ""))
    if value not in allowed:
        raise ValueError(words)
    return value
