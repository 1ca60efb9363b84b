"""A trained generator as one ONNX file that takes films in their own units and returns maps.

The file needs neither this library nor torch: any ONNX runtime draws maps with it.
"""

import json
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfnb import __version__
from perfnb.data.slices import BACKGROUND, Scaling, read_scaling
from perfnb.files import write_atomic
from perfnb.maps import spec
from perfnb.models import voxels
from perfnb.models.evaluation import load_generator, refuse_other_slices
from perfnb.models.folding import fold
from perfnb.models.temporal import SLOPE

OPSET = 17
AXES = "series (Z, T, H, W): Z to the head, H to the front, W to the right of the patient"


class Drawing(nn.Module):
    """A generator with its scaling: film in, map in physical units out.

    Parameters
    ----------
    generator : nn.Module
        Of `perfnb.models.networks`.
    scaling : Scaling
        Of the cohort that it was trained on.
    map_name : str
        The map that it draws.
    """

    def __init__(self, generator: nn.Module, scaling: Scaling, map_name: str):
        super().__init__()
        path = getattr(generator, "temporal", None)
        folded = fold(generator)
        if path is not None:
            folded.temporal = VoxelPath(folded.temporal.matrices, folded.temporal.offsets)
        self.generator = folded.to(memory_format=torch.contiguous_format)
        self.film, self.map = scaling.ranges["series"], scaling.ranges[map_name]
        self.moves = scaling.arrival_frame is not None and not spec(map_name).counts_from_start
        self.arrives = scaling.arrival_frame

    def forward(self, series: Tensor, mask: Tensor, arrival: Tensor | None = None) -> Tensor:
        """Map a film (Z, T, H, W) and its mask (Z, H, W) to a map (Z, H, W).

        `arrival`, int64 of no axis, is the frame in which the bolus arrives; where `moves` is set.
        """
        if self.moves:
            frames = torch.arange(series.shape[1]) - self.arrives + arrival
            series = series.index_select(1, frames.clamp(0, series.shape[1] - 1))
        inside = mask[:, None]
        (low, high), (lowest, highest) = self.film, self.map
        scaled = torch.where(inside, (series - low) * (2 / (high - low)) - 1, -1.0)
        drawn = self.generator(scaled, mask)
        physical = (drawn + 1) * ((highest - lowest) / 2) + lowest
        return torch.where(inside, physical, 0.0)[:, 0]


class VoxelPath(nn.Module):
    """The folded temporal path on brain voxels, in operations that ONNX has.

    One more voxel, always background, stands in for all that lies outside the mask.
    """

    def __init__(self, matrices: list[Tensor], offsets: list[Tensor]):
        super().__init__()
        self.matrices, self.offsets = nn.ParameterList(matrices), nn.ParameterList(offsets)

    def forward(self, series: Tensor, mask: Tensor) -> Tensor:
        """Map a series (N, T, H, W) to features (N, C, H, W)."""
        frames, inside = series.shape[1], mask.flatten()
        curves = series.transpose(0, 1).reshape(frames, -1)[:, inside.nonzero()[:, 0]]
        x = F.pad(curves, (0, 1), value=float(BACKGROUND))[:, None]  # (T, 1, voxels + 1)
        for matrix, offset in zip(self.matrices, self.offsets, strict=True):
            out = len(x) // voxels.STRIDE
            padded = F.pad(x, (0, 0, 0, 0, 1, 1))  # no frame before the first, none after the last
            taps = [padded[tap : tap + voxels.STRIDE * out : voxels.STRIDE] for tap in range(4)]
            x = F.leaky_relu(torch.matmul(matrix, torch.cat(taps, 1)) + offset, SLOPE)
        place = torch.where(inside, inside.long().cumsum(0) - 1, inside.long().sum())
        features = x[0].index_select(1, place)
        return features.view(-1, *mask.shape).transpose(0, 1)


def export_onnx(model_dir: Path, data_dir: Path, path: Path) -> Path:
    """Write a trained generator with its scaling as ONNX.

    The graph takes `series`, float32 (Z, T, H, W), on the study's grid: the signal divided by the
    median baseline signal of the brain, as `data.preparation.Prepared.series` has it; and `mask`,
    bool (Z, H, W). Unless the map counts from the film's start, or the study leaves films as they
    come, it takes `arrival`, too: int64 without axes, the frame in which the bolus arrives
    (`classical.baseline.Baseline.arrival`). It returns `map`, float32 (Z, H, W), in the map's
    unit, 0 outside the mask. Z may be any number; T, H and W are the study's. The file's
    `metadata_props` name map, unit, frames, repetition time, matrix, axes and version.

    Parameters
    ----------
    model_dir : Path
        A run folder with its weights and `manifest.json`, as chapters 05 and 06 leave it.
    data_dir : Path
        The prepared cohort that it was trained on, for scaling and size.
    path : Path
        The file to write, such as `Tmax.onnx`.

    Raises
    ------
    ImportError
        The optional package `onnx` is not installed.
    FileNotFoundError, ValueError
        The folders lack what they should hold, or don't fit together.
    """
    _require_onnx()
    made, prepared = (_manifest(folder) for folder in (model_dir, data_dir))
    refuse_other_slices(Path(model_dir), Path(data_dir))
    frames, matrix = (prepared["settings"][name] for name in ("frames", "matrix"))
    generator = load_generator(Path(model_dir), frames)
    scaling = read_scaling(data_dir)
    drawing = Drawing(generator, scaling, made["map_name"]).eval()
    with write_atomic(Path(path)) as temporary:
        write_graph(drawing, frames, matrix, temporary)
        told = {
            "map": made["map_name"],
            "unit": spec(made["map_name"]).unit,
            "frames": frames,
            "repetition_time_s": scaling.repetition_time_s,
            "matrix": matrix,
        }
        _label(temporary, told)
    return Path(path)


def write_graph(drawing: Drawing, frames: int, matrix: int, path: Path) -> None:
    """Write a drawing for slices of this many frames, and pixels a side, as ONNX."""
    series = torch.zeros(2, frames, matrix, matrix)
    given = {"series": series, "mask": torch.ones(2, matrix, matrix, dtype=torch.bool)}
    given |= {"arrival": torch.tensor(drawing.arrives)} if drawing.moves else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of the exporter that needs no more packages
        torch.onnx.export(
            drawing,
            tuple(given.values()),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(given),
            output_names=["map"],
            dynamic_axes={name: {0: "Z"} for name in ("series", "mask", "map")},
        )


def _label(path: Path, told: dict) -> None:
    """Write into an ONNX file what its user must know (`metadata_props`)."""
    import onnx

    model = onnx.load(str(path))
    told = told | {"axes": AXES, "perfnb": __version__}
    onnx.helper.set_model_props(model, {name: str(value) for name, value in told.items()})
    onnx.save(model, str(path))


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "the package onnx is missing: pip install -e '.[onnx]' -c requirements.lock"
        ) from error


def _manifest(folder: Path) -> dict:
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: chapter 04_prepare makes the data's, 05_train the model's"
        )
    return json.loads(path.read_text())
