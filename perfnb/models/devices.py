"""Where training runs: processor or GPU, one process or several, full or half precision.

`accelerate launch` starts several processes. They share each batch and compute together what one
process would have computed alone: batch statistics and gradients are summed over all of them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

# What torch, CUDA's libraries and Metal say, each in an error of its own.
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def choose_device(name: str = "auto") -> str:
    """Return the torch device to use: `auto` takes a GPU where there is one.

    Raises ValueError where a GPU is asked for and torch does not find it.
    """
    found = {"cpu": 1, "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0}
    found["mps"] = int(torch.backends.mps.is_available())
    if name == "auto":
        return "cuda" if found["cuda"] else "cpu"
    kind, _, number = name.partition(":")
    if kind not in found or not (number.isdecimal() or name == kind):
        raise ValueError(f"device={name!r} is unknown; expected auto, cpu or cuda")
    if int(number or 0) >= found[kind]:
        raise ValueError(
            f"device={name!r} but torch finds {found[kind] or 'no'} GPU: use device='cpu' or 'auto'"
        )
    return name


def make_accelerator(device: str = "cpu", precision: str = "fp32") -> Accelerator:
    """Return the accelerator that places, scales and synchronises a training.

    Parameters
    ----------
    device : str
        Of torch. Several GPUs are taken one a process, as `accelerate launch` numbers them.
    precision : str
        `fp32`, `bf16` or `fp16` (GPUs only) for the arithmetic of the networks' layers; weights,
        batch statistics and losses stay in float32.

    Raises
    ------
    ValueError
        Unknown precision, or one that the device does not have; a device that is not there.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} is unknown; known: {', '.join(PRECISIONS)}")
    if precision == "fp16" and not device.startswith("cuda"):
        raise ValueError(f"precision='fp16' needs a GPU, device={device!r}: take bf16 or fp32")
    # Another training of this session may have had other settings, and another device.
    AcceleratorState._reset_state(reset_partial_state=process_count() == 1)
    if device.startswith("cuda:"):  # accelerate takes the current one
        torch.cuda.set_device(device)
    made = Accelerator(cpu=device.startswith("cpu"), mixed_precision=PRECISIONS[precision])
    if made.device.type != device.split(":")[0]:
        raise ValueError(f"device={device!r} is not to be had: accelerate took {made.device}")
    return made


@contextmanager
def explain_memory(settings: Mapping) -> Iterator[None]:
    """Turn torch's words for a lack of memory into some that say what to lower.

    Raises
    ------
    MemoryError
        Names the settings; other errors pass unchanged.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        in_words = any(words in str(error) for words in NO_MEMORY)
        if not (in_words or isinstance(error, MemoryError | torch.OutOfMemoryError)):
            raise
        words = (str(error).splitlines() or ["MemoryError"])[0]  # Python's own has none
        raise MemoryError(
            f"training does not fit into memory ({words}): lower batch_size "
            f"(now {settings['batch_size']}), ngf (now {settings['ngf']}) or chapter 04's matrix; "
            "the last whole epoch is kept"
        ) from error


def process_count() -> int:
    """Return how many processes train together; 1 without `accelerate launch`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def total(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes; gradients don't flow through it."""
    if process_count() > 1:
        values = values.detach().clone()
        dist.all_reduce(values)
    return values


def own_share(batch: Tensor) -> Tensor:
    """Return this process's slices of a whole batch (N, ...).

    Raises
    ------
    ValueError
        The batch can't be divided into equal shares.
    """
    count = process_count()
    if len(batch) % count:
        raise ValueError(
            f"a batch of {len(batch)} slices does not divide among {count} processes: give a "
            "batch_size that is a multiple of their number"
        )
    return batch[dist.get_rank() :: count] if count > 1 else batch


def average_gradients(network: nn.Module) -> None:
    """Give all processes the mean of their gradients: that of the loss of the whole batch."""
    if process_count() == 1:
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = total(torch.cat([g.flatten() for g in gradients])) / process_count()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
