"""The three networks of the paper: U-Net generator, temporal generator, PatchGAN discriminator.

Sources: Kossen et al. 2023, section 2.3 and figure 3; Isola et al. 2017 (pix2pix).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfnb.models.normalisation import BatchNorm2d
from perfnb.models.temporal import TemporalPath

DEPTH = 6
WIDTHS = (1, 2, 4, 8, 8, 8)
INIT_STD = 0.02


class UNet(nn.Module):
    """U-Net of six down- and six up-sampling layers with skip connections.

    Parameters
    ----------
    in_channels : int
        80 frames in pix2pix; the features of the temporal path in temp-pix2pix.
    ngf : int
        Filters of the first layer; the deeper ones have 2, 4, 8, 8, 8 times as many.
    upsampling : str
        `transpose`: ConvTranspose (paper). `nearest`: nearest-neighbour up-sampling and a 3x3
        convolution with reflection padding (published code), free of checkerboard patterns.

    Notes
    -----
    As in pix2pix the first layer and the bottleneck (1x1 pixel at 64x64) have no batch norm.
    """

    def __init__(self, in_channels: int, ngf: int = 64, upsampling: str = "transpose"):
        super().__init__()
        widths = [ngf * w for w in WIDTHS]
        sources = [in_channels, *widths[:-1]]
        self.down = nn.ModuleList(
            _down(sources[i], widths[i], norm=0 < i < DEPTH - 1) for i in range(DEPTH)
        )
        targets = [1, *widths[:-1]]
        self.up = nn.ModuleList(
            _up(widths[i] * (1 if i == DEPTH - 1 else 2), targets[i], upsampling, last=i == 0)
            for i in reversed(range(DEPTH))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, 1, H, W) in [-1, 1]; H and W multiples of 64."""
        if x.shape[-1] % 2**DEPTH or x.shape[-2] % 2**DEPTH:
            raise ValueError(
                f"slices of {tuple(x.shape[-2:])} pixels; six halvings need multiples of 64"
            )
        skips = []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        x = self.up[0](skips.pop())
        for layer in self.up[1:]:
            x = layer(torch.cat([x, skips.pop()], dim=1))
        return torch.tanh(x)


class Pix2PixGenerator(nn.Module):
    """pix2pix: a U-Net that sees the frames of the film as channels."""

    def __init__(self, frames: int = 80, ngf: int = 64, upsampling: str = "transpose"):
        super().__init__()
        self.frames = frames
        self.unet = UNet(frames, ngf, upsampling)

    def forward(self, series: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map a series (N, T, H, W) to a map (N, 1, H, W); the mask is not used."""
        _check_frames(series, self.frames)
        return self.unet(series)


class TempPix2PixGenerator(nn.Module):
    """temp-pix2pix: six convolutions over time, then the U-Net ("early fusion")."""

    def __init__(
        self,
        frames: int = 80,
        ngf: int = 128,
        unet_ngf: int = 16,
        upsampling: str = "transpose",
    ):
        super().__init__()
        self.frames = frames
        self.temporal = TemporalPath(frames, [ngf * w for w in WIDTHS])
        self.unet = UNet(self.temporal.out_channels, unet_ngf, upsampling)

    def forward(self, series: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map a series (N, T, H, W) to a map (N, 1, H, W).

        `mask` (N, H, W), bool, says where the series differs from its one background value;
        None computes every pixel.
        """
        _check_frames(series, self.frames)
        return self.unet(self.temporal(series, mask))


class PatchDiscriminator(nn.Module):
    """PatchGAN on (series, map) pairs: one verdict for each patch of the slice.

    Three convolutions with batch norm and LeakyReLU and one more, kernel 4, all of stride 2
    (paper); `strides=(2, 2, 1, 1)` is the published code's choice with a 34x34 receptive field.
    The verdicts are logits: the paper's sigmoid is part of the loss, applied once.
    """

    def __init__(self, frames: int = 80, ndf: int = 64, strides: tuple[int, ...] = (2, 2, 2, 2)):
        super().__init__()
        widths = [frames + 1, ndf, 2 * ndf, 4 * ndf, 1]
        layers: list[nn.Module] = []
        for i, stride in enumerate(strides):
            last = i == len(strides) - 1
            layers.append(nn.Conv2d(widths[i], widths[i + 1], 4, stride, 1, bias=last))
            if not last:
                layers += [BatchNorm2d(widths[i + 1]), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, series: Tensor, perfusion_map: Tensor) -> Tensor:
        """Judge pairs (N, T, H, W), (N, 1, H, W); logits (N, 1, h, w), positive means real."""
        return self.judge(self.look(series), perfusion_map)

    def look(self, series: Tensor) -> Tensor:
        """Return what the first layer sees of a series: the same whatever map comes with it."""
        return self._first(series, slice(0, -1))

    def judge(self, seen: Tensor, perfusion_map: Tensor) -> Tensor:
        """Judge maps (N, 1, H, W) beside a series that was looked at."""
        return self.layers[1:](seen + self._first(perfusion_map, slice(-1, None)))

    def _first(self, images: Tensor, channels: slice) -> Tensor:
        """Apply the first layer to some of its channels; a convolution sums over them."""
        first = self.layers[0]
        return F.conv2d(images, first.weight[:, channels], None, first.stride, first.padding)


def make_generator(
    model_name: str, frames: int, ngf: int, unet_ngf: int, upsampling: str
) -> nn.Module:
    """Build the generator that a study names, with initialised weights."""
    if model_name == "pix2pix":
        generator = Pix2PixGenerator(frames, ngf, upsampling)
    elif model_name == "temp-pix2pix":
        generator = TempPix2PixGenerator(frames, ngf, unet_ngf, upsampling)
    else:
        raise ValueError(f"model_name={model_name!r} is unknown; known: pix2pix, temp-pix2pix")
    return generator.apply(initialise)


def initialise(module: nn.Module) -> None:
    """Draw weights as pix2pix does: N(0, 0.02), batch norm around 1, no bias."""
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, INIT_STD)
    elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
        nn.init.normal_(module.weight, 1.0, INIT_STD)
    if getattr(module, "bias", None) is not None and not isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def count_parameters(module: nn.Module) -> int:
    """Return the number of trained numbers in a network."""
    return sum(p.numel() for p in module.parameters())


def _check_frames(series: Tensor, frames: int) -> None:
    if series.shape[1] != frames:
        raise ValueError(
            f"a film of {series.shape[1]} frames; this network sees {frames}: prepare the film for "
            "them, as perfnb.data.preparation does"
        )


def _down(source: int, target: int, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(source, target, 4, 2, 1, bias=not norm)]
    if norm:
        layers.append(BatchNorm2d(target))
    return nn.Sequential(*layers, nn.LeakyReLU(0.2))


def _up(source: int, target: int, upsampling: str, last: bool) -> nn.Sequential:
    if upsampling == "transpose":
        layers: list[nn.Module] = [nn.ConvTranspose2d(source, target, 4, 2, 1, bias=last)]
    elif upsampling == "nearest":
        layers = [
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.ReflectionPad2d(1),
            nn.Conv2d(source, target, 3, bias=last),
        ]
    else:
        raise ValueError(f"upsampling={upsampling!r} is unknown; known: transpose, nearest")
    return nn.Sequential(*layers, *([] if last else [BatchNorm2d(target), nn.ReLU()]))
