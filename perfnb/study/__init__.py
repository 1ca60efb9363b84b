"""A run's settings, folders and manifests: chapters meet only in files that say what made them."""

import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from perfnb import __version__
from perfnb.files import file_hash, read_json, write_atomic, write_json  # noqa: F401 (offered)
from perfnb.maps import spec
from perfnb.study.sections import COHORTS, MODELS, PER_COHORT, read_checked

READING = (
    "repetition_time_s",
    "echo_time_s",
    "trained_on",
)  # how films were read, not what was made
PACKAGES = ("numpy", "scipy", "torch", "nibabel", "nilearn", "scikit-image")


@dataclass(frozen=True)
class Run:
    """Frozen settings and folders of one chapter's run; `run["epochs"]` reads one setting."""

    chapter: str
    study: str
    home: Path
    cohort: str | None = None
    map_name: str | None = None
    model_name: str | None = None
    settings: Mapping = field(default_factory=dict)
    started: float = field(default_factory=time.time)

    def __getitem__(self, name: str):
        if name not in self.settings:
            raise KeyError(f"{self.chapter} has no setting {name!r}; it has {list(self.settings)}")
        return self.settings[name]

    @property
    def data_dir(self) -> Path:
        """Prepared patients and slices of the cohort."""
        return self.home / "data" / self.study / cohort_key(self.cohort)

    @property
    def run_dir(self) -> Path:
        """Weights, history and evaluation of one model of one map."""
        name = f"{self.model_name}-{self.map_name}"
        return self.home / "runs" / self.study / cohort_key(self.cohort) / name

    @property
    def results_dir(self) -> Path:
        """Tables and figures of the whole study."""
        return self.home / "results" / self.study

    def sibling(self, chapter: str, **changes) -> "Run":
        """Return the run of another chapter in the same study; `changes` as in `start`."""
        names = {
            "cohort": self.cohort,
            "map_name": self.map_name,
            "model_name": self.model_name,
        } | changes
        return start(chapter, self.study, **names)

    def write_manifest(self, folder: Path, inputs: list[Path] = (), device: str = "cpu") -> Path:
        """Say what made `folder`: written last, so that a folder without it is not trusted."""
        manifest = {
            "chapter": self.chapter,
            "study": self.study,
            "cohort": self.cohort,
            "map_name": self.map_name,
            "model_name": self.model_name,
            "settings": dict(self.settings),
            "inputs": {self.input_name(p): file_hash(p) for p in map(Path, inputs)},
            "versions": package_versions(),
            "device": device,
            "seconds": round(time.time() - self.started, 2),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return write_json(Path(folder) / "manifest.json", manifest)

    def input_name(self, path: Path) -> str:
        """Return how manifests call a file: its place below home, or outside its name alone."""
        path = Path(path)
        return str(path.relative_to(self.home)) if path.is_relative_to(self.home) else path.name

    def _repr_html_(self) -> str:
        rows = {"chapter": self.chapter, "study": self.study, "perfnb": __version__}
        named = ("cohort", "map_name", "model_name")
        rows |= {n: getattr(self, n) for n in named if getattr(self, n)}
        rows |= {k: v for k, v in self.settings.items() if v is not None}
        cells = "".join(f"<tr><th>{k}</th><td>{v}</td></tr>" for k, v in rows.items())
        return f'<table class="perfnb-run"><tbody>{cells}</tbody></table>'


def start(
    chapter: str,
    study: str,
    cohort: str | None = None,
    map_name: str | None = None,
    model_name: str | None = None,
    **overrides,
) -> Run:
    """Begin a chapter: check every name, and let the study fill what is None.

    Parameters
    ----------
    chapter : str
        Name of the chapter, for example `05_train`; the study file is keyed by it.
    study : str
        Name of a file in `workflow/studies`.
    cohort : str, optional
        `acute`, `chronic` or the path of a folder of films.
    map_name, model_name : str, optional
        One of the five maps; `pix2pix` or `temp-pix2pix`.
    **overrides
        Settings of this run; None means "as the study says".

    Raises
    ------
    ValueError
        A name is unknown, or a setting's type is not the study's; lists what is known.
    """
    chapters = read_study(study)["chapters"]
    if chapter not in chapters:
        raise ValueError(f"chapter={chapter!r} is not in study {study}; it has {list(chapters)}")
    if cohort is not None:
        cohort = str(cohort)  # a folder called 2024 is a number to papermill
        cohort_key(cohort)
    if map_name is not None:
        spec(map_name)
    if model_name is not None and model_name not in MODELS:
        raise ValueError(f"model_name={model_name!r} is unknown; known: {', '.join(MODELS)}")
    settings = {k: _for_cohort(v, cohort) for k, v in (chapters[chapter] or {}).items()}
    for name, value in overrides.items():
        _check_override(chapter, settings, name, value)
        if value is not None:
            settings[name] = value
    return Run(chapter, study, home(), cohort, map_name, model_name, settings)


def read_study(study: str) -> dict:
    """Read a study file: `matrix` and `chapters`.

    Raises
    ------
    ValueError
        The study is unknown: lists the known. Its file does not fit: see `sections.read_checked`.
    """
    folder = project_root() / "workflow" / "studies"
    known = sorted(p.stem for p in folder.glob("*.yml"))
    if study not in known:
        raise ValueError(f"study={study!r} is unknown; known studies: {', '.join(known)}")
    path = folder / f"{study}.yml"
    if not re.fullmatch(r"\w[\w-]*", study):
        raise ValueError(f"study={study!r}: rename {path} with letters, digits, - and _ alone")
    return read_checked(path)


def project_root() -> Path:
    """Return the folder that holds `workflow/studies`: above the caller's, or the package's."""
    candidates = [Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[2]]
    for folder in candidates:
        if (folder / "workflow" / "studies").is_dir():
            return folder
    raise FileNotFoundError(
        f"no folder workflow/studies above {Path.cwd()}: run from a clone of the project"
    )


def home() -> Path:
    """Return where data, runs and results go: PERFNB_HOME, or the project's own folder."""
    return Path(os.environ.get("PERFNB_HOME") or project_root()).resolve()


def cohort_key(cohort: str | None) -> str:
    """Return a cohort's folder name; a folder of films gets its name and a hash of its path.

    `acute` and `chronic` are the simulated cohorts; who means a folder of that name writes ./acute.
    """
    if cohort in COHORTS:
        return cohort
    folder = Path(str(cohort or "")).expanduser()
    if not cohort or not folder.is_dir():
        raise ValueError(
            f"cohort={cohort!r} is unknown; expected {', '.join(COHORTS)} or an existing folder "
            "with one NIfTI film a patient"
        )
    slug = re.sub(r"[^A-Za-z0-9]+", "-", folder.resolve().name).strip("-") or "films"
    return f"{slug}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:6]}"


def require(
    path: Path, chapter: str, settings: Mapping | None = None, ignore: tuple[str, ...] = ()
) -> Path:
    """Return `path` if `chapter` made it with these settings; otherwise say what to run.

    Settings named in `ignore` may differ.

    Raises
    ------
    FileNotFoundError
        The folder is missing, or has no manifest because its making was interrupted.
    ValueError
        It was made with other settings.
    """
    path = Path(path)
    made = _read_manifest(path / "manifest.json")
    if made is None:
        state = "was left unfinished" if path.exists() else "is missing"
        raise FileNotFoundError(
            f'{path} {state}. Chapter {chapter} makes it: run it first, or "make book" for all.'
        )
    if made["chapter"] != chapter:
        raise ValueError(f"{path} was made by {made['chapter']}, expected {chapter}")
    if settings is not None:
        found, expected = (
            {k: v for k, v in dict(s).items() if k not in ignore}
            for s in (made["settings"], settings)
        )
        advice = f"Run chapter {chapter} again with this study's settings"
        refuse_other_settings(path, found, expected, advice)
    return path


def refuse_other_settings(path: Path, found: Mapping, expected: Mapping, advice: str) -> None:
    """Raise ValueError that lists each setting in which a folder differs from this run.

    `advice` is the first of the things to do that the message ends with.
    """
    found, expected = json.loads(json.dumps(dict(found))), json.loads(json.dumps(dict(expected)))
    none = "no such setting"  # which is not the same as None
    names = [k for k in {**found, **expected} if found.get(k, none) != expected.get(k, none)]
    if names:
        listed = "; ".join(
            f"{k}: found {found.get(k, none)}, expected {expected.get(k, none)}" for k in names
        )
        raise ValueError(
            f"{path} was made with other settings ({listed}). {advice}, delete the folder, or keep "
            "your settings in a study file of their own in workflow/studies."
        )


def package_versions() -> dict[str, str]:
    """Return the versions of Python, perfnb and the packages that numbers depend on."""
    found = {"python": platform.python_version(), "perfnb": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _for_cohort(value, cohort: str | None):
    per_cohort = isinstance(value, dict) and set(value) <= set(PER_COHORT)
    if not per_cohort or cohort is None:
        return value
    return value[cohort if cohort in COHORTS else "folder"]


def _check_override(chapter: str, settings: Mapping, name: str, value) -> None:
    if name not in settings:
        raise ValueError(f"{chapter} has no parameter {name!r}; it has {sorted(settings)}")
    expected = settings[name]
    if value is None or expected is None:
        return
    whole_for_float = type(expected) is float and type(value) is int
    if type(value) is not type(expected) and not whole_for_float:
        raise ValueError(
            f"{name}={value!r} of {chapter} is a {type(value).__name__}; "
            f"expected a {type(expected).__name__} such as {expected!r}"
        )
    lowest = 1 if type(expected) is int and name != "seed" else 0
    if type(expected) in (int, float) and not value >= lowest:
        raise ValueError(f"{name}={value!r} of {chapter}; expected at least {lowest}")


def _read_manifest(path: Path) -> dict | None:
    try:
        made = json.loads(path.read_text())
        known = isinstance(made, dict) and {"chapter", "settings"} <= set(made)
        return made if known else None
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
