"""A fine-tuning run as a small dataclass, with the released recipes."""

from dataclasses import dataclass
from os import PathLike

from vclip.names import refuse_unknown
from vclip.recipe import TrainConfig
from vclip.tasks.localization import PROBABILITIES

# projects/retri/videoclip/{youcook,vttqa,coin,crosstask}_videoclip.yaml
RELEASED: dict[str, dict] = {
    "retrieval": {"epochs": 10, "batch_size": 128},
    "videoqa": {"epochs": 5, "batch_size": 128, "repeats": 20},
    "segmentation": {"epochs": 8, "batch_size": 1, "stride": 8},
    "localization": {"epochs": 5, "batch_size": 1, "stride": 16},
}

# released with fairseq's checkpoint_best, that of the least loss; the other recipes try every epoch on test data
BEST_BY_LOSS = ("segmentation", "localization")

# learning rates and epochs were chosen by scores on validation videos
SAMPLE: dict[str, dict] = {
    "retrieval": {"epochs": 4, "learning_rate": 3e-4},
    "videoqa": {"epochs": 5, "learning_rate": 1e-4, "repeats": 5, "candidates": 48},
    "segmentation": {"epochs": 8, "learning_rate": 1e-3},
    "localization": {"epochs": 5, "learning_rate": 3e-4, "probability": "sigmoid"},
}


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainConfig):
    """What decides a fine-tuning run, beside the fields of `TrainConfig` and the data, which `finetune` is given.

    `paper(task)` is the released recipe, `sample(task)` suits the data that ship.

    checkpoint: folder or hub id of the model to start from, with its processor.
    batch_size: pairs (retrieval, videoqa) or videos (segmentation, localization) a batch, of each process.
    repeats: visits of a clip an epoch, each with a sentence drawn from all of the clip's. All clips come once before
        any comes again, so that hardly a batch contrasts a clip with itself.
    window, stride: a long video is trained in windows of so many seconds, one every `stride` seconds.
    selection: which epoch is the best is decided by the task's score on "validation" data or, "released", on test data,
        there by the least loss for segmentation and localization.
    held_out: share of the training videos that are held out for validation, where no other videos are given for it.
    candidates: sentences of a validation question (videoqa), of which one is right.
    probability: of a step at a second when validation puts steps (localization), see `localization.assign_steps`:
        "softmax" as released, or "sigmoid", which is what the loss trains.
    """

    output: str | PathLike[str] = "runs/finetune"
    checkpoint: str | PathLike[str] = "checkpoint"
    epochs: int = 10
    warmup_steps: int = 122
    batch_size: int = 1
    repeats: int = 1
    window: int = 32
    stride: int = 16
    selection: str = "validation"
    held_out: float = 0.2
    candidates: int = 5
    probability: str = "softmax"

    def __post_init__(self):
        super().__post_init__()
        self._one_of("selection", ("validation", "released"))
        self._one_of("probability", PROBABILITIES)
        self._at_least(1, "batch_size", "repeats", "window", "stride")
        self._at_least(2, "candidates")
        if self.stride > self.window:
            raise ValueError(f"stride ({self.stride} s) above window ({self.window} s) would leave seconds unseen")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is a share between 0 and 1, not {self.held_out}")
        self._plain(paths=("checkpoint",))

    @classmethod
    def paper(cls, task: str, **changes) -> "FinetuneConfig":
        """The released configuration of a task: Adam as in pre-training, a warm-up of 122 updates, 1e6 to decay over.

        Retrieval is YouCook2's; MSR-VTT's is `paper("retrieval", batch_size=224, repeats=20)`, on the split "train" and
        the videos of "test.full" that are not in JSFusion's test. VideoQA has "train" alone. Batches are those of one
        GPU; the authors had 2, and 8 for segmentation.
        `checkpoint` is yours to name.
        Raises TypeError for an unknown task.
        """
        refuse_unknown([task], RELEASED, "task to fine-tune on")
        values: dict = {"precision": "fp16"}
        return cls(**values | RELEASED[task] | changes)

    @classmethod
    def sample(cls, task: str, **changes) -> "FinetuneConfig":
        """The shipped checkpoint on MiniHowTo's training sets, a minute or so on two cores. Raises as `paper`."""
        from vclip.samples import minihowto

        refuse_unknown([task], SAMPLE, "task to fine-tune on")
        values: dict = {"checkpoint": str(minihowto() / "checkpoint"), "warmup_steps": 20, "save_every": 50}
        return cls(**values | RELEASED[task] | SAMPLE[task] | changes)
