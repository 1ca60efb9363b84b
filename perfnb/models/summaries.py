"""A network as a table: what comes into each layer, what goes out, and how many weights it has."""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor, nn

from perfnb.models.networks import count_parameters


def layer_shapes(
    layers: Mapping[str, nn.Module], network: nn.Module, *inputs: Tensor
) -> pd.DataFrame:
    """Return the shapes on the way through a network, in the order in which layers are called.

    Parameters
    ----------
    layers : {name: nn.Module}
        Parts of the network that are called once.
    network : nn.Module
        Is called once with the inputs, without gradients.
    *inputs : tensors, shape (N, ...)
        What the network is called with.

    Returns
    -------
    DataFrame
        Per layer `in` and `out`, channels first, and `weights`, the numbers that are trained.
    """
    rows, hooks = {}, []
    for name, layer in layers.items():

        def note(module: nn.Module, given: tuple, made: Tensor, name: str = name) -> None:
            rows[name] = (_told(given[0]), _told(made), count_parameters(module))

        hooks.append(layer.register_forward_hook(note))
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return pd.DataFrame.from_dict(rows, orient="index", columns=["in", "out", "weights"])


def _told(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape[1:]))
