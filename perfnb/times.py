"""Repetition and echo time in seconds: one definition of what either can be."""

TIME_LIMITS = {"repetition_time_s": (0.2, 10.0), "echo_time_s": (0.003, 0.2)}


def check_echo_time(echo_time_s: float) -> float:
    """Return the echo time [s], or raise ValueError if it cannot be one."""
    return _checked("echo_time_s", echo_time_s, "echo time", "0.030 for 30 ms")


def check_repetition_time(repetition_time_s: float) -> float:
    """Return the repetition time [s], or raise ValueError if it cannot be one."""
    return _checked("repetition_time_s", repetition_time_s, "repetition time", "1.5 for 1500 ms")


def _checked(name: str, value: float, kind: str, example: str) -> float:
    low, high = TIME_LIMITS[name]
    if not low <= value <= high:
        raise ValueError(
            f"{name}={value} is no {kind} in seconds (expected {low:g} to {high:g}); give {example}"
        )
    return float(value)
