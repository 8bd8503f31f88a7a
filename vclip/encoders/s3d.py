"""S3D-G, the video network of Miech et al. (2020) whose features VideoCLIP reads; module names are the released ones.

Shapes: B clips, C channels, T frames, H x W pixels; T, H and W even. A second is 30 frames of 224 x 224.
"""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vclip.data.pickles import load_torch
from vclip.data.text import what_is_wrong

Triple = tuple[int, int, int]  # of T, H and W
S3D_FILE = "s3d.safetensors"
# inputs; outputs of the branches 1x1 | 1x1, 3x3x3 | 1x1, 3x3x3 | pool, 1x1 (Szegedy et al. 2015, table 1)
WIDTHS = {
    "mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}


class S3DOutput(NamedTuple):
    video_embedding: Float[Tensor, "B 512"]
    mixed_5c: Float[Tensor, "B 1024"]


class S3D(nn.Module):
    """S3D-G with the released module names (MMPT s3dg.py); `load_s3d` fills it with weights.

    Example:
        >>> net = S3D().eval()
        >>> with torch.inference_mode():
        ...     net(torch.rand(1, 3, 8, 64, 64)).mixed_5c.shape
        torch.Size([1, 1024])
    """

    def __init__(self):
        super().__init__()
        self.conv1 = Convolution(24, 64, (2, 4, 4), padding=(1, 2, 2))
        self.conv_2b = Convolution(64, 64)
        self.conv_2c = SeparableConvolution(64, 192)
        self.gating = SelfGating(192)
        for name, widths in WIDTHS.items():
            self.add_module(name, Inception(*widths))
        self.fc = nn.Linear(1024, 512)

    def forward(self, x: Float[Tensor, "B 3 T H W"]) -> S3DOutput:
        """Embed clips of pixel values in [0, 1]; nothing is subtracted or scaled."""
        x = space_to_depth(x.to(self.fc.weight.dtype))
        # an even kernel padded on both sides gives one position too many, the first
        x = self.conv1(x)[:, :, 1:, 1:, 1:]
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        x = self.gating(self.conv_2c(self.conv_2b(x)))
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        for name in WIDTHS:
            if name == "mixed_4b":
                x = max_pool(x, (3, 3, 3), (2, 2, 2))
            elif name == "mixed_5b":
                x = max_pool(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(name)(x)
        mixed_5c = x.mean((2, 3, 4))
        return S3DOutput(self.fc(mixed_5c), mixed_5c)


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple = (1, 1, 1), padding: Triple = (0, 0, 0)):
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, kernel, padding=padding, bias=False)
        self.bn1 = nn.BatchNorm3d(outputs)

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T2 H2 W2"]:
        return F.relu(self.bn1(self.conv1(x)), inplace=True)


class SeparableConvolution(Convolution):
    """3x3 in space, then 3 in time, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, (1, 3, 3), padding=(0, 1, 1))
        self.conv2 = nn.Conv3d(outputs, outputs, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.bn2 = nn.BatchNorm3d(outputs)

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T H W"]:
        return F.relu(self.bn2(self.conv2(super().forward(x))))


class SelfGating(nn.Module):
    """Every channel times the sigmoid of a linear map of all channels' means."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        return torch.sigmoid(self.fc(x.mean((2, 3, 4))))[:, :, None, None, None] * x


class Inception(nn.Module):
    """Four branches, each gated, side by side."""

    def __init__(self, inputs: int, b0: int, b1_a: int, b1_b: int, b2_a: int, b2_b: int, b3_b: int):
        super().__init__()
        self.conv_b0 = Convolution(inputs, b0)
        self.conv_b1_a = Convolution(inputs, b1_a)
        self.conv_b1_b = SeparableConvolution(b1_a, b1_b)
        self.conv_b2_a = Convolution(inputs, b2_a)
        self.conv_b2_b = SeparableConvolution(b2_a, b2_b)
        self.conv_b3_b = Convolution(inputs, b3_b)
        self.gating_b0 = SelfGating(b0)
        self.gating_b1 = SelfGating(b1_b)
        self.gating_b2 = SelfGating(b2_b)
        self.gating_b3 = SelfGating(b3_b)

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T H W"]:
        b0 = self.gating_b0(self.conv_b0(x))
        b1 = self.gating_b1(self.conv_b1_b(self.conv_b1_a(x)))
        b2 = self.gating_b2(self.conv_b2_b(self.conv_b2_a(x)))
        b3 = self.gating_b3(self.conv_b3_b(F.max_pool3d(x, 3, stride=1, padding=1)))
        return torch.cat([b0, b1, b2, b3], 1)


def space_to_depth(x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T2 H2 W2"]:
    """Blocks of 2 x 2 x 2 positions become channels, ordered (t, h, w, colour)."""
    b, c, t, h, w = x.shape
    if t % 2 or h % 2 or w % 2:
        raise ValueError(f"S3D takes even numbers of frames, rows and columns, not {t} x {h} x {w}")
    x = x.view(b, c, t // 2, 2, h // 2, 2, w // 2, 2)
    return x.permute(0, 3, 5, 7, 1, 2, 4, 6).reshape(b, 8 * c, t // 2, h // 2, w // 2)


def max_pool(x: Float[Tensor, "B C T H W"], kernel: Triple, stride: Triple) -> Float[Tensor, "B C T2 H2 W2"]:
    """TensorFlow's SAME pooling as the original has it: kernel - stride zeros at the far side whatever the size."""
    t, h, w = (k - s for k, s in zip(kernel, stride, strict=True))
    return F.max_pool3d(F.pad(x, (0, w, 0, h, 0, t)), kernel, stride, ceil_mode=True)


def fold(network: S3D) -> S3D:
    """A copy that computes the same in eval mode, to 1e-5 of the largest value, about twice as fast on a CPU.

    Batch norm is folded into the convolutions, channels come last in memory. A 1x3x3 convolution is then one of
    pictures, 3x1x1 one of pictures T high and H * W wide, 1x1x1 a linear map: views, and faster than in 3-D, threefold
    for 3x1x1.
    """
    folded: Any = copy.deepcopy(network).eval()
    first = folded.conv1
    first.conv1, first.bn1 = fuse_conv_bn_eval(first.conv1, first.bn1), nn.Identity()
    first.to(memory_format=torch.channels_last_3d)
    for parent in list(folded.modules()):
        for name, block in parent.named_children():
            if isinstance(block, SeparableConvolution):
                setattr(parent, name, Separable(block))
            elif isinstance(block, Convolution) and block is not first:
                setattr(parent, name, Pointwise(block))
    return folded.requires_grad_(False)


class Pointwise(nn.Module):
    def __init__(self, block: Convolution):
        super().__init__()
        conv = fuse_conv_bn_eval(block.conv1, block.bn1)
        self.weight, self.bias = nn.Parameter(conv.weight.flatten(1)), conv.bias

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T H W"]:
        return F.linear(x.movedim(1, -1), self.weight, self.bias).relu_().movedim(-1, 1)


class Separable(nn.Module):
    def __init__(self, block: SeparableConvolution):
        super().__init__()
        space, time = fuse_conv_bn_eval(block.conv1, block.bn1), fuse_conv_bn_eval(block.conv2, block.bn2)
        self.space = nn.Conv2d(space.in_channels, space.out_channels, 3, padding=1)
        self.time = nn.Conv2d(time.in_channels, time.out_channels, (3, 1), padding=(1, 0))
        self.space.weight, self.space.bias = nn.Parameter(space.weight.squeeze(2)), space.bias
        self.time.weight, self.time.bias = nn.Parameter(time.weight.squeeze(4)), time.bias
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T H W"]:
        b, _, t, h, w = x.shape
        # reshaped with the channels last, which keeps them last in memory where B is 1
        x = self.space(x.transpose(1, 2).flatten(0, 1)).relu_().movedim(1, -1)
        x = self.time(x.reshape(b, t, h * w, -1).movedim(-1, 1)).relu_().movedim(1, -1)
        return x.reshape(b, t, h, w, -1).movedim(-1, 1)


def load_s3d(path) -> S3D:
    """Load S3D, float32 in eval mode, with the released weights; the file's text model (`text_module.*`) is ignored.

    Args:
        path: the released `s3d_howto100m.pth`, or the file or folder in which `convert` put it.

    Raises:
        ValueError: if the file is damaged or does not fit.

    Example:
        >>> load_s3d("s3d_howto100m.pth")  # doctest: +SKIP
    """
    path = Path(path)
    path = path / S3D_FILE if path.is_dir() else path
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else load_torch(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({what_is_wrong(path, error)}): convert the file again") from None
    network = S3D()
    load_strictly(network, {k: v for k, v in weights.items() if not k.startswith("text_module.")}, path)
    return network


def load_strictly(model: nn.Module, weights: dict[str, Tensor], path) -> None:
    """Put a file's weights into a model, float32 and in eval mode from then on; ValueError lists what does not fit."""
    try:
        model.float().eval().load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit: {error}") from None
    if broken := [name for name, value in model.state_dict().items() if not value.isfinite().all()]:
        raise ValueError(f"{path} holds NaN or infinity in {broken}: fetch the file again")
