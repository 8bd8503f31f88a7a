"""Fine-tuning on labels: retrieval, VideoQA, segmentation and localization over the loop of pre-training."""

from vclip.finetuning.config import FinetuneConfig
from vclip.finetuning.run import FinetuneRun, finetune

__all__ = ["FinetuneConfig", "FinetuneRun", "finetune"]
