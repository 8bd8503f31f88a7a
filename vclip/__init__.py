"""VideoCLIP (Xu et al., EMNLP 2021) as a research kit: the names a user types, each loaded when first used."""

import ast
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vclip.data.captions import Captions, deduplicate, read_captions
    from vclip.data.corpus import Corpus
    from vclip.data.extraction import extract, merge
    from vclip.data.samplers import AlignedClips, Clips, MILNCEClips, OverlappedClips
    from vclip.data.spec import FeatureSpec
    from vclip.data.video import read_seconds
    from vclip.datasets._records import Dataset
    from vclip.datasets.minihowto import minihowto
    from vclip.encoders.loading import from_spec, load_encoder
    from vclip.encoders.networks import AutoModelEncoder, EfficientNetLite0, Projection, S3DEncoder
    from vclip.encoders.s3d import S3D, load_s3d
    from vclip.losses import info_nce, mil_nce
    from vclip.models.config import VideoCLIPConfig, VideoCLIPTextConfig, VideoCLIPVideoConfig
    from vclip.models.convert import convert, load_videoclip
    from vclip.models.dual_encoder import DualEncoder
    from vclip.models.loading import load
    from vclip.models.processor import VideoCLIPProcessor
    from vclip.models.segmenter import VideoCLIPForSegmentation
    from vclip.models.videoclip import VideoCLIPModel, VideoCLIPOutput
    from vclip.models.videoclip_encoder import VideoCLIP
    from vclip.scrubber import Scrubber
    from vclip.search.browser import RetrievalBrowser
    from vclip.search.index import Hit, MomentIndex
    from vclip.tasks.evaluate import evaluate
    from vclip.training.checkpoint import Run
    from vclip.training.clusters import VideoIndex, sample_clusters, video_vectors
    from vclip.training.config import FinetuneConfig, PretrainConfig, learning_rate
    from vclip.training.finetune import finetune
    from vclip.training.pretrain import pretrain

# the imports above are the one list of public names: read from this file, not run
_TREE = ast.parse(Path(__file__).read_text(encoding="utf-8"))
_HOME: dict[str, str] = {}
for _node in ast.walk(_TREE):
    if isinstance(_node, ast.ImportFrom) and (_node.module or "").startswith("vclip."):
        _HOME.update({alias.name: str(_node.module) for alias in _node.names})
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'vclip' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
