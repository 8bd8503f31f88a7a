"""What fine-tuning learns, whatever the task: examples in random order, a loss, a score on validation videos."""

import copy
import importlib
from collections.abc import Callable
from types import ModuleType

import numpy as np
from accelerate import Accelerator
from torch import Tensor, nn

from vclip.corpus import Corpus
from vclip.datasets import Dataset
from vclip.embedding import evaluating
from vclip.finetuning.config import BEST_BY_LOSS, FinetuneConfig
from vclip.model import VideoCLIPModel
from vclip.processing import VideoCLIPProcessor
from vclip.tasks.comparison import HEADLINES
from vclip.trainer import RETRIEVAL, VALIDATION, random_stream

CONTRASTED = ("retrieval", "videoqa")
LOSS = "validation_loss"
ORDER = RETRIEVAL  # the stream that batches are drawn from, as in pre-training


class TaskLoss(nn.Module):
    """A task's `loss` as a module."""

    def __init__(self, model: VideoCLIPModel, loss: Callable[..., Tensor]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.loss(self.model, *inputs)


class Labels:
    """The objective of `finetune`; a batch holds positions in the task's `items`.

    `task` is a module of this package with the functions `new_model`, `items`, `inputs`, `loss`, `scored`,
    `options` and `traits`; `vclip.tasks` has the module of the same name, which scores `scored` with `options`.
    Raises ValueError if nothing can be trained on or validated on.
    """

    def __init__(
        self,
        task: ModuleType,
        config: FinetuneConfig,
        accelerator: Accelerator,
        model: VideoCLIPModel,
        processor: VideoCLIPProcessor,
        training: tuple[Dataset, Corpus],
        validation: tuple[Dataset, Corpus],
    ):
        self.task, self.config, self.accelerator = task, config, accelerator
        name = task.__name__.rpartition(".")[2]
        self.model, self.processor = model, processor
        self.loss: nn.Module = TaskLoss(model, task.loss)
        self.items, self.corpus = task.items(*training), training[1]
        self.validation_items, self.validation_corpus = task.items(*validation), validation[1]
        for items, (dataset, corpus) in ((self.items, training), (self.validation_items, validation)):
            if not items:
                raise ValueError(f"{dataset} has nothing to use: no annotated video of it is in {corpus}")
        if name in CONTRASTED and min(config.batch_size, len(self.items), len(self.validation_items)) < 2:
            raise ValueError(
                f"{name} tells clips from one another, so a batch and the validation data need two at least; "
                f"batch_size is {config.batch_size}, and there are {len(self.items)} clips to train on and "
                f"{len(self.validation_items)} for validation"
            )
        if accelerator.num_processes > -(-len(self.items) * config.repeats // config.batch_size):
            raise ValueError(
                f"{len(self.items)} examples make fewer batches than the {accelerator.num_processes} processes: "
                f"lower batch_size ({config.batch_size})"
            )
        self.scored = copy.copy(task.scored(*validation, config, random_stream(config.seed, 0, 0, VALIDATION)))
        self.scored.tasks = (name,)
        self.chosen_by = chosen_by(name, config)
        self.examine = importlib.import_module(f"vclip.tasks.{name}").examine

    def batches(self, epoch: int, write: Callable[[dict], None]) -> list[np.ndarray]:
        """Every example `repeats` times, each time in a new random order; the last batch may be smaller."""
        rng = random_stream(self.config.seed, epoch, 0, ORDER)
        order = np.concatenate([rng.permutation(len(self.items)) for _ in range(self.config.repeats)])
        return _in_batches(order, self.config.batch_size)

    def inputs(self, batch: np.ndarray, rng: np.random.Generator) -> tuple:
        """The task's, for the examples at these positions."""
        items = [self.items[i] for i in batch]
        return self.task.inputs(self.model, self.processor, self.corpus, items, self.config, rng)

    def validate(self) -> tuple[dict, float] | None:
        """The loss, a mean over batches, and the task's scores on the validation videos; `chosen_by` chooses."""
        losses, rng = [], random_stream(self.config.seed, 1, 0, VALIDATION)
        with evaluating(self.model), self.accelerator.autocast():
            for batch in _in_batches(np.arange(len(self.validation_items)), self.config.batch_size):
                items = [self.validation_items[i] for i in batch]
                inputs = self.task.inputs(self.model, self.processor, self.validation_corpus, items, self.config, rng)
                losses.append(float(self.task.loss(self.model, *inputs)))
            found = self.examine(
                self.model, self.processor, self.scored, self.validation_corpus, **self.task.options(self.config)
            )
        row = {LOSS: float(np.mean(losses)), **found["scores"], "n": found["n"]}
        return row, row[self.chosen_by] if self.chosen_by == LOSS else -row[self.chosen_by]


def chosen_by(task: str, config: FinetuneConfig) -> str:
    """What the best epoch is best by: the task's headline score, or the loss where the released recipe goes by that."""
    return LOSS if config.selection == "released" and task in BEST_BY_LOSS else HEADLINES[task]


def _in_batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[first : first + size].astype(np.int64) for first in range(0, len(order), size)]
