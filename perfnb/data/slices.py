"""Prepared slices on disk: memory-mapped, split by patient, scaled to [-1, 1] on reading."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from torch.utils.data import Dataset

from perfnb.data.cohorts import NO_AIF, SPLITS, Case, check_splits, split_patients
from perfnb.data.preparation import Prepared, prepare_patient
from perfnb.data.scaling import (  # noqa: F401 (offered)
    BACKGROUND,
    STORED,
    Scaling,
    check_arrival,
    check_ranges,
    check_same_time,
    read_scaling,
    write_scaling,
)
from perfnb.files import explain_unwritable, read_table, reserve, write_atomic, write_json
from perfnb.maps import MAPS
from perfnb.study import COHORTS, Run
from perfnb.volumes import write_volume

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slab:
    """One patient's slices as the networks see them; (Z, T, H, W) and (Z, H, W).

    The bolus comes `lead` frames later than in the scanner's film (earlier where below 0).
    """

    patient: str
    lead: int
    series: np.ndarray
    mask: np.ndarray
    tissue: np.ndarray
    reference: np.ndarray  # scaled
    reference_physical: np.ndarray
    truth: np.ndarray | None  # physical


class Slices(Dataset):
    """The slices of one split and map of a prepared cohort.

    Parameters
    ----------
    folder : Path
        `data/<study>/<cohort>`, written by `write_cohort`.
    split : str
        `train`, `validation`, `test` or `no_aif`.
    map_name : str
        One of the maps that were prepared.
    scaling : Scaling, optional
        That of the cohort whose model will see these slices; by default the folder's own.
    """

    def __init__(self, folder: Path, split: str, map_name: str, scaling: Scaling | None = None):
        self.folder, self.map_name = Path(folder), map_name
        members = json.loads((self.folder / "split.json").read_text())
        index = read_table(self.folder / "slices" / "index.csv")
        self._rows = {p: g.index.to_numpy() for p, g in index.groupby("patient")}
        self._owner = index.patient.to_list()
        self._arrival = index.groupby("patient").arrival.first()
        self._arrays = {
            p.stem: np.load(p, mmap_mode="r") for p in (self.folder / "slices").glob("*.npy")
        }
        if f"reference_{map_name}" not in self._arrays:
            raise ValueError(f"{folder} holds no map {map_name}: add it to 04_prepare's maps")
        known = members[split] if split == NO_AIF else filter(self._has_reference, members[split])
        self.patients: list[str] = list(known)
        self._index = np.concatenate([self._rows[p] for p in self.patients] or [np.empty(0, int)])
        self.scaling = scaling or read_scaling(self.folder)
        self.fingerprint = json.loads((self.folder / "slices" / "fingerprint.json").read_text())

    @property
    def frames(self) -> int:
        """Time points of each series."""
        return self._arrays["series"].shape[1]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> dict:
        row = int(self._index[i])
        mask = np.array(self._arrays["mask"][row])
        return {
            "series": self._film(self._owner[row], row, mask),
            "reference": self._reference(row, mask)[None],
            "mask": mask,
            "patient": self._owner[row],
        }

    def patient(self, patient: str) -> Slab:
        """Return all slices of one patient."""
        rows = self._rows[patient]
        rows = slice(rows[0], rows[-1] + 1)
        mask = np.array(self._arrays["mask"][rows])
        truth = np.array(self._arrays[f"truth_{self.map_name}"][rows])
        return Slab(
            patient,
            self.scaling.lead(self.map_name, self._arrival[patient]),
            self._film(patient, rows, mask),
            mask,
            np.array(self._arrays["tissue"][rows]),
            self._reference(rows, mask),
            np.array(self._arrays[f"reference_{self.map_name}"][rows]),
            None if np.isnan(truth).any() else truth,
        )

    def scaled_reference(self, patient: str) -> np.ndarray:
        """Return one patient's scaled reference (Z, H, W) alone: the series is not read."""
        rows = self._rows[patient]
        rows = slice(rows[0], rows[-1] + 1)
        return self._reference(rows, np.array(self._arrays["mask"][rows]))

    def _has_reference(self, patient: str) -> bool:
        first = self._arrays[f"reference_{self.map_name}"][self._rows[patient][0]]
        return not np.isnan(first).any()

    def _film(self, patient: str, rows, mask: np.ndarray) -> np.ndarray:
        series = self._arrays["series"][rows]
        return self.scaling.film(self.map_name, series, mask, self._arrival[patient])

    def _reference(self, rows, mask: np.ndarray) -> np.ndarray:
        values = self._arrays[f"reference_{self.map_name}"][rows]
        return self.scaling.inside(self.map_name, values, mask)


def write_cohort(run: Run, cases: Sequence[Case], scaling: Scaling | None = None) -> pd.DataFrame:
    """Prepare every patient and write `slices/`, `split.json`, `scaling.json`, `patients.csv`.

    Patients without an AIF keep their slices but no reference; they form the split `no_aif`.

    Parameters
    ----------
    run : Run
        Of chapter `04_prepare`.
    cases : sequence of Case
        The patients' files.
    scaling : Scaling, optional
        Another cohort's, to apply its models: all patients are then for testing.

    Returns
    -------
    DataFrame
        One row a patient.

    Raises
    ------
    ValueError
        Settings, repetition times or maps that don't fit; no patient left for a split.
    """
    if scaling is not None and run.cohort in COHORTS:
        raise ValueError(
            f"trained_on={run['trained_on']!r} is for a folder of films; the cohort {run.cohort} "
            "has patients to train on: leave trained_on out"
        )
    check_arrival(run["arrival_frame"], run["frames"])
    patients = [case.patient for case in cases]
    if scaling is None:
        split = split_patients(patients, run["split"], run["seed"])
    else:
        split = dict.fromkeys(SPLITS[:2], []) | {"test": patients}
    folder = run.data_dir
    with _draft(folder) as draft:
        arrays = _open_arrays(draft, len(cases), run)
        table, ranges = _fill(arrays, cases, run, split, scaling and scaling.repetition_time_s)
        time_s = float(table.repetition_time_s.median())
        scaling = scaling or Scaling(ranges, run["arrival_frame"], time_s)
        members = {s: table.patient[table.split == s].to_list() for s in (*SPLITS, NO_AIF)}
        check_splits(members, split, of_own=run["trained_on"] is None)
        check_ranges(scaling)
        _write_index(draft, table, run["slices"])
        fingerprint = _fingerprint(arrays, scaling, members, table)
        del arrays
        write_json(draft / "fingerprint.json", fingerprint)
        shutil.rmtree(folder / "slices", ignore_errors=True)
        draft.rename(folder / "slices")
        write_json(folder / "split.json", members)
        write_scaling(folder, scaling)
        with write_atomic(folder / "patients.csv") as temporary:
            table.to_csv(temporary, index=False)
    return table


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """Yield a new folder for slices, removed on failure; what was prepared before is distrusted."""
    draft = folder / "slices.partial"
    try:
        with explain_unwritable(folder):
            (folder / "manifest.json").unlink(missing_ok=True)
            for old in (draft, folder / "references"):
                shutil.rmtree(old, ignore_errors=True)
            draft.mkdir(parents=True)
            yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fill(
    arrays: Mapping[str, np.ndarray], cases: Sequence[Case], run: Run, split: Mapping, time_s
) -> tuple[pd.DataFrame, dict[str, tuple[float, float]]]:
    """Prepare every patient into `arrays`; return a row a patient and the training ranges.

    All films must have the repetition time `time_s`, or, where it is None, that of the first one.
    """
    rows, ranges = [], {}
    for i, case in enumerate(cases):
        prepared = prepare_patient(case, run.settings)
        found_s = prepared.facts["repetition_time_s"]
        time_s = time_s or found_s
        check_same_time(case.patient, found_s, time_s)
        _store(arrays, i, prepared)
        _write_computed(run.data_dir / "references", case, prepared)
        rows.append({"split": _split_of(case.patient, split, prepared)} | prepared.facts)
        if rows[-1]["split"] == "train":
            _widen(ranges, prepared)
    return pd.DataFrame(rows), {name: tuple(limits) for name, limits in ranges.items()}


def _open_arrays(folder: Path, patients: int, run: Run) -> dict[str, np.ndarray]:
    shape = (patients * run["slices"], run["matrix"], run["matrix"])
    kinds = {"mask": bool, "tissue": bool, "series": STORED}
    kinds |= {f"{k}_{n}": np.float32 for k in ("reference", "truth") for n in run["maps"]}
    shapes = {"series": (shape[0], run["frames"], *shape[1:])}
    arrays = {}
    for name, kind in kinds.items():
        path = folder / f"{name}.npy"
        arrays[name] = open_memmap(path, "w+", kind, shapes.get(name, shape))
        reserve(path)
    return arrays


def _store(arrays: Mapping[str, np.ndarray], i: int, prepared: Prepared) -> None:
    n = len(prepared.mask)
    rows = slice(i * n, (i + 1) * n)
    arrays["series"][rows] = prepared.series
    arrays["mask"][rows], arrays["tissue"][rows] = prepared.mask, prepared.tissue
    for kind, maps in (("reference", prepared.references), ("truth", prepared.truth)):
        for name in MAPS:
            if f"{kind}_{name}" in arrays:
                arrays[f"{kind}_{name}"][rows] = maps.get(name, np.nan)


def _split_of(patient: str, split: Mapping[str, list[str]], prepared: Prepared) -> str:
    if not prepared.references:
        return NO_AIF
    return next(name for name, members in split.items() if patient in members)


def _widen(ranges: dict[str, list[float]], prepared: Prepared) -> None:
    inside = prepared.mask
    values = {"series": prepared.series.transpose(0, 2, 3, 1)[inside]}
    for name, found in (values | {n: m[inside] for n, m in prepared.references.items()}).items():
        low, high = ranges.get(name, (np.inf, -np.inf))
        ranges[name] = [min(low, float(found.min())), max(high, float(found.max()))]


def _write_computed(folder: Path, case: Case, prepared: Prepared) -> None:
    if prepared.computed:
        film = nib.load(case.series_path)
        for name, volume in prepared.computed.items():
            path = folder / f"{case.patient}_{name}.nii.gz"
            write_volume(path, volume, film.affine, film.header)


def _write_index(folder: Path, table: pd.DataFrame, slices: int) -> None:
    index = table[["patient", "arrival"]].loc[table.index.repeat(slices)]
    index.insert(1, "z", list(range(slices)) * len(table))
    index.to_csv(folder / "index.csv", index=False)


def _fingerprint(
    arrays: Mapping[str, np.ndarray], scaling: Scaling, members: Mapping, table: pd.DataFrame
) -> str:
    told = [scaling.ranges, scaling.arrival_frame, members, table.arrival.to_list()]
    digest = hashlib.sha256(json.dumps(told, default=list).encode())
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
