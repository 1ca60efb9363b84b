"""Where patients come from: simulated cohorts and folders of films, through one interface.

A cohort is a folder with one NIfTI film a patient. Beside a film may lie its times
(`<film>.json`), its mask (`<patient>_mask.nii.gz`) and its maps (`<patient>_Tmax.nii.gz`, ...).
Simulated patients are written in the same way, with their truth under `derivatives/truth`.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from perfnb.data import phantom
from perfnb.files import explain_unwritable
from perfnb.maps import MAPS
from perfnb.study import COHORTS, write_json

SUFFIXES = ("_dsc", "_perf", "_pwi", "_bold")
SPLITS = ("train", "validation", "test")
NO_AIF = "no_aif"
READERS = (  # the other modules draw the phantom
    *("__init__", "cohorts", "controls", "leaks", "prebolus", "preparation"),
    *("realism", "scaling", "slices", "truths", "twins"),
)
TRUTH = Path("derivatives") / "truth"


@dataclass(frozen=True)
class Case:
    """The files of one patient; mask, maps and truth may be missing."""

    patient: str
    series_path: Path
    mask_path: Path | None = None
    map_paths: dict[str, Path] = field(default_factory=dict)
    truth_paths: dict[str, Path] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """Every file that the preparation of this patient reads."""
        optional = [self.mask_path, *self.map_paths.values(), *self.truth_paths.values()]
        sidecar = self.series_path.with_name(f"{_stem(self.series_path)}.json")
        found = [self.series_path, sidecar, *optional]
        return [p for p in found if p is not None and p.is_file()]


def find_cases(folder: Path) -> list[Case]:
    """List the patients of a folder, in alphabetical order.

    Every NIfTI file counts as a film, at any depth, unless its name ends in `_mask` or a map's
    name, or it lies under `derivatives`. The patient is the file name without `_dsc` and the like.

    Raises
    ------
    FileNotFoundError
        There is no film.
    ValueError
        Two films belong to the same patient.
    """
    folder = Path(str(folder))  # 2024 is a number to papermill
    found = (p for p in folder.rglob("*.nii*") if p.name.endswith((".nii", ".nii.gz")))
    files = {p for p in found if not p.name.startswith(".")}
    truth = {_stem(p): p for p in files if TRUTH.as_posix() in p.as_posix()}
    others = {_stem(p): p for p in sorted(files) if TRUTH.as_posix() not in p.as_posix()}
    endings = ("_mask", *(f"_{name}" for name in MAPS))
    films = sorted(
        p
        for p in files
        if "derivatives" not in p.relative_to(folder).parts and not _stem(p).endswith(endings)
    )
    if not films:
        raise FileNotFoundError(
            f"{folder} holds no film: expected one 4-D NIfTI file a patient, such as "
            "patient1.nii.gz with its times in patient1.json"
        )
    patients = [_patient(p) for p in films]
    double = sorted({name for name in patients if patients.count(name) > 1})
    if double:
        raise ValueError(f"{folder} holds more than one film of {double}: keep one film a patient")
    return [_case(*pair, others, truth) for pair in zip(patients, films, strict=True)]


def make_phantoms(
    folder: Path, cohort: str, count: int, shape: tuple[int, int, int], seed: int, **options
) -> list[Case]:
    """Draw simulated patients into a folder, or find them there if they were drawn before.

    Patient i of a cohort is the same whatever the count; a folder drawn with another shape, seed
    or option is replaced. A patient whose drawing was interrupted is drawn again. `options` go to
    `phantom.draw_patient`, such as motion="drawn" or held_out="scanner".
    """
    recipe = {"phantom": _phantom_hash(), "cohort": cohort, "shape": list(shape), "seed": seed}
    recipe |= options
    stamp = folder / "phantom.json"
    with explain_unwritable(folder):
        if not stamp.is_file() or json.loads(stamp.read_text()) != recipe:
            stamp.unlink(missing_ok=True)  # first, so that a half-emptied folder is not believed
            shutil.rmtree(folder, ignore_errors=True)
            write_json(stamp, recipe)
        for i in range(count):
            name = f"sub-{i + 1:03d}"
            done = folder / TRUTH / name / "done"
            if not done.is_file():
                drawn = patient_seed(cohort, seed, i)
                patient = phantom.draw_patient(cohort, drawn, shape, **options)
                phantom.write_patient(patient, folder, name)
                done.touch()
    return find_cases(folder)[:count]


def scan_again(case: Case, noise_draw: int = 1) -> phantom.Patient:
    """Draw a simulated patient once more: the same brain, bolus and motion, other noise.

    Raises
    ------
    ValueError
        The film is not of a simulated patient of this folder.
    """
    folder = case.series_path.parents[2]
    stamp, told = (
        folder / "phantom.json", folder / TRUTH / case.patient / f"{case.patient}_truth.json",
    )  # fmt: skip
    if not (stamp.is_file() and told.is_file()):
        raise ValueError(f"{case.series_path} is no simulated film: it cannot be scanned again")
    recipe, seed = json.loads(stamp.read_text()), json.loads(told.read_text())["seed"]
    known = ("phantom", "cohort", "shape", "seed")
    options = {name: value for name, value in recipe.items() if name not in known}
    shape = tuple(recipe["shape"])
    return phantom.draw_patient(recipe["cohort"], seed, shape, noise_draw=noise_draw, **options)


def patient_seed(cohort: str, seed: int, index: int) -> int:
    """Return the seed of one simulated patient: different in every cohort and study seed."""
    key = (COHORTS.index(cohort), index)
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1)[0])


def split_patients(
    patients: Sequence[str], sizes: Sequence[float], seed: int
) -> dict[str, list[str]]:
    """Divide patients at random into training, validation and test.

    Parameters
    ----------
    patients : sequence of str
        Names.
    sizes : three numbers
        Whole numbers of patients that add up, or fractions (at least one patient each).
    seed : int
        Decides who goes where.

    Raises
    ------
    ValueError
        The cohort is too small, or the numbers don't add up.
    """
    count = len(patients)
    if count < len(SPLITS):
        raise ValueError(
            f"{count} patient(s) cannot be split into {', '.join(SPLITS)}: expected at least "
            f"{len(SPLITS)}; to apply a trained model without training, give trained_on='acute'"
        )
    if all(isinstance(n, int) for n in sizes):
        numbers = list(sizes)
    else:
        held_out = [max(1, round(count * fraction)) for fraction in sizes[1:]]
        numbers = [count - sum(held_out), *held_out]
    if sum(numbers) != count or min(numbers) < 1:
        raise ValueError(f"split={list(sizes)} does not divide {count} patients into {SPLITS}")
    order = np.random.default_rng(seed).permutation(count)
    borders = np.cumsum(numbers)[:-1]
    groups = np.split(order, borders)
    return {
        name: sorted(patients[i] for i in group) for name, group in zip(SPLITS, groups, strict=True)
    }


def _phantom_hash() -> str:
    """Return a hash of the modules that draw patients: a changed phantom draws them anew."""
    modules = sorted(Path(__file__).parent.glob("*.py"))
    drawing = [p for p in modules if p.stem not in READERS]
    return hashlib.sha256(b"".join(p.read_bytes() for p in drawing)).hexdigest()[:16]


def _case(patient: str, film: Path, others: dict[str, Path], truth: dict[str, Path]) -> Case:
    start = f"{patient}_"
    beside = {
        name: others[f"{stem}_{name}"]
        for stem in (_stem(film), patient)
        for name in ("mask", *MAPS)
        if f"{stem}_{name}" in others
    }
    return Case(
        patient,
        film,
        beside.pop("mask", None),
        beside,
        {
            stem.removeprefix(start): p
            for stem, p in sorted(truth.items())
            if stem.startswith(start)
        },
    )


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _patient(path: Path) -> str:
    stem = _stem(path)
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem


def check_splits(
    members: Mapping[str, Sequence[str]], planned: Mapping[str, Sequence[str]], of_own: bool
) -> None:
    """Raise ValueError if nobody of a planned split has a reference.

    Not where the models are another cohort's (`of_own` false): they need no patient with one.
    """
    empty = [name for name in SPLITS if planned[name] and not members[name]]
    if empty and of_own:
        raise ValueError(
            f"no patient is left for {', '.join(empty)}: {len(members[NO_AIF])} have no AIF "
            f"({', '.join(members[NO_AIF])}). Give more films, or reference maps beside them"
        )
