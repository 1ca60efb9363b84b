"""Train one model without a notebook, in as many processes as there are GPUs.

``accelerate launch --num_processes 4 -m perfnb.models.launch --study paper --cohort acute
--map-name Tmax --model-name temp-pix2pix``

``torchrun --nproc_per_node 2 -m perfnb.models.launch ... --device cpu`` takes two processes where
there is no GPU; accelerate starts a single one there.

The run is the one that chapter 05 (or 06, with ``--chapter``) makes: opened afterwards, the chapter
finds it complete, draws its figures and writes its manifest.
"""

import argparse
import os

from perfnb import study as studies
from perfnb.data.slices import Slices
from perfnb.files import end_with
from perfnb.models import devices, training

# Set by accelerate launch, and by torchrun, which starts several processes for it.
LAUNCHERS = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")


def train(
    chapter: str,
    study: str,
    cohort: str,
    map_name: str,
    model_name: str,
    device: str = "auto",
    init_from: str | None = None,
    restart: bool = False,
) -> str:
    """Train as a chapter does, and return in one sentence how it ended.

    Parameters
    ----------
    chapter : str
        `05_train`, or `06_finetune`, which starts from the model of `init_from`.
    study, cohort, map_name, model_name, device : str
        As in the chapter.
    init_from : str, optional
        A cohort whose model of `05_train` is the start: for `06_finetune`, and only there.
    restart : bool
        As in the chapter.

    Raises
    ------
    ValueError
        `06_finetune` without `init_from`, or `05_train` with it.
    """
    if chapter == "06_finetune" and init_from is None:
        raise ValueError(
            "06_finetune starts from a trained model, found no init_from: give its cohort, such "
            "as --init-from acute"
        )
    if chapter == "05_train" and init_from is not None:
        raise ValueError(
            f"05_train starts from nothing, found init_from={init_from!r}: leave it out, or "
            "fine-tune with --chapter 06_finetune"
        )
    run = studies.start(chapter, study, cohort, map_name, model_name)
    prepared = run.sibling("04_prepare")
    studies.require(run.data_dir, "04_prepare", prepared.settings, ignore=studies.READING)
    splits = [Slices(run.data_dir, split, map_name) for split in ("train", "validation")]
    weights = None
    if init_from is not None:
        source = run.sibling("05_train", cohort=init_from)
        weights = studies.require(source.run_dir, "05_train", source.settings)
        weights = weights / "weights.safetensors"
    device = devices.choose_device(device)
    training.fit(
        run.run_dir, model_name, *splits, run.settings, weights, device=device, restart=restart
    )
    return training.describe(studies.read_json(run.run_dir / "training.json"))


def main() -> None:
    """Read the command line and train; a process of a launcher ends when the launcher does."""
    if any(name in os.environ for name in LAUNCHERS):
        end_with(os.getppid())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chapter", default="05_train", choices=["05_train", "06_finetune"])
    for name in ("study", "cohort", "map-name", "model-name"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--init-from")
    parser.add_argument("--restart", action="store_true")
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
