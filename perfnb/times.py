"""Times in seconds: what each can be, and what the JSON sidecar beside a film says of them."""

import json
from pathlib import Path

import numpy as np

TIME_LIMITS = {"repetition_time_s": (0.2, 10.0), "echo_time_s": (0.003, 0.2)}
SIDECAR_KEYS = {"repetition_time_s": "RepetitionTime", "echo_time_s": "EchoTime"}


def check_echo_time(echo_time_s: float) -> float:
    """Return the echo time [s], or raise ValueError if it cannot be one."""
    return _checked("echo_time_s", echo_time_s, "echo time", "0.030 for 30 ms")


def check_repetition_time(repetition_time_s: float) -> float:
    """Return the repetition time [s], or raise ValueError if it cannot be one."""
    return _checked("repetition_time_s", repetition_time_s, "repetition time", "1.5 for 1500 ms")


def film_times(path: Path, **given: float | None) -> list[float]:
    """Return a film's times [s], by the names in SIDECAR_KEYS: as given, or as its sidecar says.

    Raises
    ------
    ValueError
        A time is missing or no such time in seconds, or the sidecar is not what it should be.
    """
    sidecar = _sidecar_path(path)
    known = _sidecar(sidecar) if sidecar.is_file() else {}
    times = []
    for name, value in given.items():
        key, (low, high) = SIDECAR_KEYS[name], TIME_LIMITS[name]
        value = known.get(key) if value is None else value
        source = "given" if given[name] is not None else str(sidecar)
        if not isinstance(value, int | float) or isinstance(value, bool):
            place = f"for {key} in {sidecar}" if given[name] is None else f"as parameter {name}"
            raise ValueError(
                f"{path} has no {name}: found {value!r} {place}; expected seconds for {key} in "
                f"{sidecar.name}, or the parameter {name} in seconds"
            )
        if not low <= value <= high:
            hint = ": in milliseconds? divide by 1000" if value > high else ": correct it"
            raise ValueError(
                f"{name}={value} of {path.name} ({source}); expected {low} to {high} s{hint}"
            )
        times.append(float(value))
    return times


def slice_times(path: Path, slices: int, repetition_time_s: float) -> np.ndarray | None:
    """Return when each slice of a film's third axis was taken, shape (slices,) [s], or None.

    Raises
    ------
    ValueError
        They are not one number a slice between 0 and the repetition time, or BIDS's
        `SliceEncodingDirection` names another axis than the third.
    """
    sidecar = _sidecar_path(path)
    known = _sidecar(sidecar) if sidecar.is_file() else {}
    times, direction = known.get("SliceTiming"), known.get("SliceEncodingDirection", "k")
    if times is None:
        return None
    if direction not in ("k", "k-"):
        raise ValueError(
            f"SliceEncodingDirection in {sidecar} is {direction!r}; expected 'k' or 'k-', slices "
            "along the film's third axis: reorder the film's axes, or remove SliceTiming"
        )
    found = np.asarray(times, dtype=float) if np.ndim(times) == 1 else np.empty(0)
    if found.shape != (slices,) or not ((found >= 0) & (found <= repetition_time_s)).all():
        raise ValueError(
            f"SliceTiming in {sidecar} holds {len(found)} times, at most {found.max(initial=0)}; "
            f"expected {slices}, one a slice, from 0 to {repetition_time_s} s; correct or "
            "remove them"
        )
    return found[::-1] if direction == "k-" else found


def _checked(name: str, value: float, kind: str, example: str) -> float:
    low, high = TIME_LIMITS[name]
    if not low <= value <= high:
        raise ValueError(
            f"{name}={value} is no {kind} in seconds (expected {low:g} to {high:g}); give {example}"
        )
    return float(value)


def _sidecar_path(film: Path) -> Path:
    return film.with_name(f"{film.name.removesuffix('.gz').removesuffix('.nii')}.json")


def _sidecar(path: Path) -> dict:
    try:
        known = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}): repair it, or delete it and give the times as "
            "parameters"
        ) from error
    if not isinstance(known, dict):
        raise ValueError(
            f'{path} holds a {type(known).__name__}; expected {{"RepetitionTime": seconds, '
            '"EchoTime": seconds}'
        )
    return known
