"""S3D-G for inference: batch norm folded into the convolutions, channels last, no convolution in three dimensions
but the first.

Shapes: B clips, T frames, H x W pixels, C channels, in this order in memory. In it a 1x3x3 convolution is one of
pictures, a 3x1x1 convolution one of pictures T high and H * W wide, and 1x1x1 a linear map, all of them views, and
each faster on a CPU than its 3-D form, threefold for 3x1x1. Before each pooling are ReLU or gates, so that the
zeros which the original pads with never win: they are left out.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from vclip.encoders.s3d import S3D, WIDTHS, Convolution, S3DOutput, SelfGating, SeparableConvolution, check_even


def fold(network: S3D) -> "FoldedS3D":
    """The function of `network` in eval mode, to 1e-5 of the largest value, about twice as fast on a CPU.

    It has weights of its own, without gradients; the names of `network.state_dict()` are not kept.
    """
    return FoldedS3D(network).eval().requires_grad_(False)


class FoldedS3D(nn.Module):
    def __init__(self, network: S3D):
        super().__init__()
        self.conv1: Any = nn.Conv3d(24, 64, (2, 4, 4))
        _fill(self.conv1, network.conv1.conv1, network.conv1.bn1)
        self.conv_2b = _pointwise(network.conv_2b)
        self.conv_2c = Separable(network.conv_2c)
        self.gating = Gates(network.gating)
        self.mixed = nn.ModuleDict({name: Branches(network.get_submodule(name)) for name in WIDTHS})
        self.fc = copy.deepcopy(network.fc)

    def forward(self, x: Float[Tensor, "B 3 T H W"]) -> S3DOutput:
        """As `S3D.forward`; the computation is in the dtype of the weights."""
        x = F.conv3d(space_to_depth(x.to(self.fc.weight.dtype)), self.conv1.weight).permute(0, 2, 3, 4, 1)
        # the largest value keeps its place under a bias, ReLU or gate: pool first, a quarter is left to compute
        x = pool_space(x, 3).add_(self.conv1.bias).relu_()
        x = self.conv_2c(self.conv_2b(x).relu_())
        x = pool_space(x, 3).mul_(self.gating(x))
        for name, branches in self.mixed.items():
            if name == "mixed_4b":
                x = pool_time(pool_space(x, 3), 3)
            elif name == "mixed_5b":
                x = pool_time(pool_space(x, 2), 2)
            x = branches(x)
        mixed_5c = x.mean((1, 2, 3))
        return S3DOutput(self.fc(mixed_5c), mixed_5c)


class Separable(nn.Module):
    def __init__(self, block: SeparableConvolution):
        super().__init__()
        inputs, outputs = block.conv1.in_channels, block.conv1.out_channels
        self.space = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Conv2d(outputs, outputs, (3, 1), padding=(1, 0))
        _fill(self.space, block.conv1, block.bn1)
        _fill(self.time, block.conv2, block.bn2)

    def forward(self, x: Float[Tensor, "B T H W C"]) -> Float[Tensor, "B T H W D"]:
        x, size = self.space(_pictures(x)).relu_().permute(0, 2, 3, 1), x.shape[:4]
        x = x.reshape(*size[:2], size[2] * size[3], -1).permute(0, 3, 1, 2)
        return self.time(x).relu_().permute(0, 2, 3, 1).reshape(*size, -1)


class Gates(nn.Module):
    def __init__(self, gating: SelfGating):
        super().__init__()
        self.fc = copy.deepcopy(gating.fc)

    def forward(self, x: Float[Tensor, "B T H W C"]) -> Float[Tensor, "B 1 1 1 C"]:
        return torch.sigmoid(self.fc(x.mean((1, 2, 3))))[:, None, None, None]


class Branches(nn.Module):
    def __init__(self, block: Any):  # an Inception
        super().__init__()
        points = (block.conv_b0, block.conv_b1_a, block.conv_b2_a, block.conv_b3_b)
        self.b0, self.b1_a, self.b2_a, self.b3_b = map(_pointwise, points)
        self.b1_b, self.b2_b = Separable(block.conv_b1_b), Separable(block.conv_b2_b)
        gatings = (block.gating_b0, block.gating_b1, block.gating_b2, block.gating_b3)
        self.gatings = nn.ModuleList(map(Gates, gatings))

    def forward(self, x: Float[Tensor, "B T H W C"]) -> Float[Tensor, "B T H W D"]:
        branches = (
            self.b0(x).relu_(),
            self.b1_b(self.b1_a(x).relu_()),
            self.b2_b(self.b2_a(x).relu_()),
            self.b3_b(pool_around(x)).relu_(),
        )
        out = x.new_empty(*x.shape[:4], sum(branch.shape[4] for branch in branches))
        parts = out.split([branch.shape[4] for branch in branches], 4)
        for branch, gates, part in zip(branches, self.gatings, parts, strict=True):
            torch.mul(branch, gates(branch), out=part)
        return out


def space_to_depth(x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T2 H2 W2"]:
    """`s3d.space_to_depth` with the zeros that conv1 needs around, so that no position is computed to be cut off."""
    check_even(x)
    b, c, t, h, w = x.shape
    out = x.new_zeros(b, t // 2 + 1, h // 2 + 3, w // 2 + 3, 2, 2, 2, c)
    blocks = x.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    out[:, :-1, 1:-2, 1:-2] = blocks.permute(0, 2, 4, 6, 3, 5, 7, 1)
    return out.flatten(4).permute(0, 4, 1, 2, 3)


def pool_space(x: Float[Tensor, "B T H W C"], kernel: int) -> Float[Tensor, "B T H2 W2 C"]:
    """Every second position's maximum over the `kernel` x `kernel` that begin there."""
    rows, columns = (side % 2 for side in x.shape[2:4])
    pictures = _pictures(x)
    if rows or columns:
        pictures = F.pad(pictures, (0, columns, 0, rows), value=-torch.inf)
    return F.max_pool2d(pictures, kernel, 2, ceil_mode=True).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


def pool_time(x: Float[Tensor, "B T H W C"], kernel: int) -> Float[Tensor, "B T2 H W C"]:
    """Every second frame's maximum over the `kernel` frames that begin there."""
    out = x[:, ::2].clone()
    for i in range(1, kernel):
        later = x[:, i::2]
        into = out[:, : later.shape[1]]
        torch.maximum(into, later, out=into)
    return out


def pool_around(x: Float[Tensor, "B T H W C"]) -> Float[Tensor, "B T H W C"]:
    """The maximum over the 3 x 3 x 3 around each position."""
    x = F.max_pool2d(_pictures(x), 3, 1, 1).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
    out = x.clone()
    for into, other in ((out[:, 1:], x[:, :-1]), (out[:, :-1], x[:, 1:])):
        torch.maximum(into, other, out=into)
    return out


def _pictures(x: Float[Tensor, "B T H W C"]) -> Float[Tensor, "b C H W"]:
    return x.flatten(0, 1).permute(0, 3, 1, 2)


def _pointwise(block: Convolution) -> nn.Linear:
    linear = nn.Linear(block.conv1.in_channels, block.conv1.out_channels)
    _fill(linear, block.conv1, block.bn1)
    return linear


def _fill(layer: Any, conv: nn.Conv3d, norm: Any) -> None:
    """The layer's weights become the convolution's with the batch norm folded in, channels last."""
    mean, variance = norm.running_mean, norm.running_var
    weight, bias = fuse_conv_bn_weights(conv.weight, None, mean, variance, norm.eps, norm.weight, norm.bias)
    layer.weight = nn.Parameter(weight.movedim(1, -1).contiguous().movedim(-1, 1).view_as(layer.weight))
    layer.bias = bias
