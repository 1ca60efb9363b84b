"""The ONNX file draws in physical units what torch draws from the prepared slices."""

import builtins
import json

import numpy as np
import onnxruntime
import pytest
import torch

from perfnb.data.scaling import Scaling, begun
from perfnb.models import checkpoints, export, inference
from perfnb.models.networks import make_generator

SETTINGS = {"ngf": 2, "unet_ngf": 2}
LEADS = (5, -4)


def model(folder, model_name, upsampling, data):
    """Leave a run folder of a network with statistics of its own; return the network."""
    torch.manual_seed(3)
    generator = make_generator(model_name, 64, 2, 2, upsampling)
    for module in generator.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d | torch.nn.ConvTranspose2d):
            torch.nn.init.normal_(module.weight, 0, 0.1)
        elif hasattr(module, "running_mean"):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    checkpoints.save_weights(generator, folder / "weights.safetensors")
    settings = SETTINGS | {"upsampling": upsampling}
    made = {"model_name": model_name, "map_name": "Tmax", "settings": settings}
    (folder / "manifest.json").write_text(json.dumps(made))
    (folder / "training.json").write_text(json.dumps({"data": data}))
    return generator


@pytest.mark.parametrize("upsampling", ["transpose", "nearest"])
@pytest.mark.parametrize("model_name", ["pix2pix", "temp-pix2pix"])
def test_file_draws_what_torch_draws(splits, tmp_path, model_name, upsampling):
    slices = splits[0]
    generator = model(tmp_path, model_name, upsampling, slices.fingerprint)
    path = export.export_onnx(tmp_path, slices.folder, tmp_path / "Tmax.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert (told["map"], told["unit"], told["frames"], told["matrix"]) == ("Tmax", "s", "64", "64")
    assert float(told["repetition_time_s"]) == slices.scaling.repetition_time_s
    lowest, highest = slices.scaling.ranges["Tmax"]
    for count, lead in zip((3, 1), LEADS, strict=True):  # not the slices it was written with
        slab = slices.patient(slices.patients[0])
        scaled, mask = slab.series[:count], slab.mask[:count]
        film = np.where(mask[:, None], slices.scaling.backward("series", scaled), 0)
        arrival = np.array(slices.scaling.arrival_frame - lead)  # let the file move the film
        (drawn,) = session.run(None, {"series": film, "mask": mask, "arrival": arrival})
        moved = begun(scaled, lead)
        expected = slices.scaling.backward("Tmax", inference.predict(generator, moved, mask))
        assert drawn.shape == (count, 64, 64) and (drawn[~mask] == 0).all()
        close = 1e-4 * (highest - lowest)
        np.testing.assert_allclose(drawn[mask], expected[mask], rtol=0, atol=close)
        assert np.ptp(expected[mask]) > 10 * close


@pytest.mark.parametrize(("map_name", "frame"), [("TTP", 12), ("Tmax", None)])
def test_file_that_moves_no_film_asks_for_no_arrival(splits, tmp_path, map_name, frame):
    generator = make_generator("pix2pix", 64, 2, 2, "nearest").eval()
    scaling = Scaling({"series": (0.0, 2.0), map_name: (0.0, 20.0)}, frame)
    drawing = export.Drawing(generator, scaling, map_name)
    series, mask = torch.rand(2, 64, 64, 64), torch.ones(2, 64, 64, dtype=torch.bool)
    assert not drawing.moves
    seen = torch.from_numpy(scaling.film(map_name, series.numpy(), mask.numpy(), 3))
    with torch.inference_mode():
        np.testing.assert_allclose(
            drawing(series, mask), 10 * generator(seen)[:, 0] + 10, atol=1e-3
        )


def test_scaling_of_another_cohort_is_refused(splits, tmp_path):
    model(tmp_path, "pix2pix", "transpose", "of other slices")
    with pytest.raises(
        ValueError, match="was trained on other slices than those now in .* their scaling"
    ):
        export.export_onnx(tmp_path, splits[0].folder, tmp_path / "Tmax.onnx")
    assert not (tmp_path / "Tmax.onnx").exists()


def test_folder_without_a_model_is_named(splits, tmp_path):
    with pytest.raises(FileNotFoundError, match="manifest.json is missing: .*05_train"):
        export.export_onnx(tmp_path, splits[0].folder, tmp_path / "Tmax.onnx")


def test_missing_package_says_how_to_get_it(splits, tmp_path, monkeypatch):
    original = builtins.__import__

    def lacking(name, *arguments, **options):
        if name == "onnx":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(ImportError, match=r"onnx is missing: pip install -e '\.\[onnx\]'"):
        export.export_onnx(tmp_path, splits[0].folder, tmp_path / "Tmax.onnx")
