"""VideoCLIP (Xu et al., EMNLP 2021) as a research kit: the names a notebook needs, each loaded when first used."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vclip.browser import RetrievalBrowser
    from vclip.captions import Captions, deduplicate, read_captions
    from vclip.corpus import Corpus, FeatureSpec
    from vclip.embedding import embed_clips, embed_texts, embed_videos
    from vclip.encoders import extract
    from vclip.finetuning import FinetuneConfig, finetune
    from vclip.losses import info_nce, mil_nce
    from vclip.merging import merge
    from vclip.model import VideoCLIPConfig, VideoCLIPModel
    from vclip.moments import MomentIndex
    from vclip.notebook import check_parameters, write_scores
    from vclip.pretrain import PretrainConfig
    from vclip.processing import VideoCLIPProcessor
    from vclip.samplers import AlignedClips, MILNCEClips, OverlappedClips
    from vclip.samples import evaluation_sets, minihowto, picture, thumbnails, training_set
    from vclip.segmenter import VideoCLIPForSegmentation
    from vclip.tasks.evaluation import evaluate
    from vclip.video import read_seconds

_HOMES = {
    "browser": ("RetrievalBrowser",),
    "captions": ("Captions", "deduplicate", "read_captions"),
    "corpus": ("Corpus", "FeatureSpec"),
    "embedding": ("embed_clips", "embed_texts", "embed_videos"),
    "encoders": ("extract",),
    "finetuning": ("FinetuneConfig", "finetune"),
    "losses": ("info_nce", "mil_nce"),
    "merging": ("merge",),
    "model": ("VideoCLIPConfig", "VideoCLIPModel"),
    "moments": ("MomentIndex",),
    "notebook": ("check_parameters", "write_scores"),
    "pretrain": ("PretrainConfig",),
    "processing": ("VideoCLIPProcessor",),
    "samplers": ("AlignedClips", "MILNCEClips", "OverlappedClips"),
    "samples": ("evaluation_sets", "minihowto", "picture", "thumbnails", "training_set"),
    "segmenter": ("VideoCLIPForSegmentation",),
    "tasks.evaluation": ("evaluate",),
    "video": ("read_seconds",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'vclip' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vclip.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
