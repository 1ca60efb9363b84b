"""What one output of a network of convolutions sees: by arithmetic, and by its gradient."""

import copy
from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn


def field_and_step(convolutions: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return how many input pixels a side one output sees, and how far apart neighbours look.

    Each convolution adds (kernel - 1) times the product of all strides before it.

    Parameters
    ----------
    convolutions : list of (kernel, stride)
        In the order of the layers.

    Returns
    -------
    (int, int)
        Receptive field and step [pixels].
    """
    field, step = 1, 1
    for kernel, stride in convolutions:
        field += (kernel - 1) * step
        step *= stride
    return field, step


def convolutions_of(network: nn.Module) -> list[tuple[int, int]]:
    """Return kernel and stride of each convolution of a network without branches."""
    found = [m for m in network.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    return [(m.kernel_size[-1], m.stride[-1]) for m in found]


def seen_pixels(network: nn.Module, *inputs: Tensor, output: tuple[int, int]) -> np.ndarray:
    """Find the pixels that can change one output: those where its gradient is not zero.

    Parameters
    ----------
    network : nn.Module
        Returns (N, C, h, w); a copy is asked, in evaluation mode and double precision. Batch norm
        in training mode would mix all pixels.
    inputs : float tensors, shape (N, C, H, W)
        What the network is called with; the last one is asked about.
    output : (int, int)
        Row and column of the output.

    Returns
    -------
    bool array, shape (H, W)
    """
    network = copy.deepcopy(network).eval().double()
    *others, asked = (x.detach().double() for x in inputs)
    asked.requires_grad_(True)
    network(*others, asked)[(0, 0, *output)].backward()
    return (asked.grad != 0).any(dim=0).any(dim=0).numpy()
