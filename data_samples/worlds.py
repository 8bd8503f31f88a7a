"""Worlds made of numbers, to ask beforehand when a part of the method pays: `python data_samples/worlds.py FOLDER`.

A world has domains (say cuisines), each with a few dishes, and actions that occur everywhere. A video shows one dish of
one domain, and a step of it one action. A second's features are a sum of random directions, one each for its domain,
dish, action and video, plus noise; no picture is drawn. `README.md` says what each strength stands for.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from transformers import BertTokenizerFast

from vclip import Captions, Corpus, FeatureSpec, PretrainConfig

SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}  # as in bert-base-uncased
WORDS_A_DOMAIN, FILLERS = 6, 60
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class World:
    """What a world is made of.

    Args:
        seed: of everything random.
        domains, dishes, actions: how many there are; dishes a domain.
        videos: of the training corpus.
        tested: domains of the test set; its clips show each action on each of their dishes once. As many others are
            for validation.
        dim: features a second.
        domain, dish, action, video, noise: how strongly each is seen, the standard deviation of its part of a feature.
        lag: standard deviation, in seconds, of the time between a step's middle and its sentence's.
        named: fraction of training sentences that name the dish; all name the action.
        topical: fraction of filler words that belong to the domain.

    Example:
        >>> World(dishes=2).dish
        0.5
    """

    seed: int = 0
    domains: int = 100
    dishes: int = 4
    actions: int = 12
    videos: int = 2000
    tested: int = 12
    dim: int = 64
    domain: float = 1.5
    dish: float = 0.5
    action: float = 1.0
    video: float = 0.5
    noise: float = 1.0
    lag: float = 4.0
    named: float = 0.8
    topical: float = 0.5

    def __post_init__(self):
        if 2 * self.tested > self.domains:
            raise ValueError(f"tested ({self.tested}) must be at most half of domains ({self.domains})")


class Step(NamedTuple):
    """Seconds `start`:`end` in which `action` is done."""

    start: int
    end: int
    action: int


class Video(NamedTuple):
    """One dish of one domain in several steps."""

    domain: int
    dish: int
    seconds: int
    steps: list[Step]


def plan(rng: np.random.Generator, domain: int, dish: int, actions: np.ndarray) -> Video:
    """Steps of 8 to 14 s with gaps of 3 to 8 s."""
    second, steps = int(rng.integers(3, 9)), []
    for action in actions:
        end = second + int(rng.integers(8, 15))
        steps.append(Step(second, end, int(action)))
        second = end + int(rng.integers(3, 9))
    return Video(domain, dish, second, steps)


def plans(world: World, split: str) -> list[Video]:
    """The videos of a split: at random for training, else each (dish, action) of the split's domains once."""
    rng = np.random.default_rng([world.seed, 1 + SPLITS.index(split)])
    if split == "train":
        drawn = ((rng.integers(world.domains), rng.integers(world.dishes)) for _ in range(world.videos))
        return [plan(rng, int(i), int(j), rng.permutation(world.actions)[: rng.integers(6, 9)]) for i, j in drawn]
    order = np.random.default_rng([world.seed, 0]).permutation(world.domains)
    chosen = order[: world.tested] if split == "test" else order[world.tested : 2 * world.tested]
    found = []
    for i in chosen:
        for j in range(world.dishes):
            halves = np.array_split(rng.permutation(world.actions), max(1, world.actions // 6))
            found += [plan(rng, int(i), j, half) for half in halves]
    return found


@dataclass(frozen=True)
class Look:
    """The random direction of each domain, dish and action."""

    world: World
    domain: np.ndarray = field(init=False)
    dish: np.ndarray = field(init=False)
    action: np.ndarray = field(init=False)

    def __post_init__(self):
        w = self.world
        rng = np.random.default_rng([w.seed, 4])
        for name, shape in (("domain", (w.domains,)), ("dish", (w.domains, w.dishes)), ("action", (w.actions,))):
            object.__setattr__(self, name, rng.standard_normal((*shape, w.dim)))

    def features(self, video: Video, rng: np.random.Generator) -> np.ndarray:
        """(T, F): the dish and its domain are seen throughout, the action during its step."""
        w = self.world
        rows = w.noise * rng.standard_normal((video.seconds, w.dim)) + w.video * rng.standard_normal(w.dim)
        rows += w.domain * self.domain[video.domain] + w.dish * self.dish[video.domain, video.dish]
        for step in video.steps:
            rows[step.start : step.end] += w.action * self.action[step.action]
        return rows.astype(np.float32)


def sentence(world: World, video: Video, step: Step, rng: np.random.Generator, named: float) -> str:
    """Six to nine words: the action, perhaps the dish, and fillers."""
    words = [f"action{step.action}"] + [f"dish{video.domain}x{video.dish}"] * (rng.random() < named)
    while len(words) < rng.integers(6, 10):
        topical = rng.random() < world.topical
        words.append(
            f"domain{video.domain}x{rng.integers(WORDS_A_DOMAIN)}" if topical else f"so{rng.integers(FILLERS)}"
        )
    return " ".join(rng.permutation(words))


def narration(world: World, video: Video, rng: np.random.Generator) -> Captions:
    """A sentence of 4 s a step, spoken early or late."""
    middle = np.array([(step.start + step.end) / 2 for step in video.steps])
    start = np.clip(middle + world.lag * rng.standard_normal(len(middle)) - 2, 0, video.seconds - 4)
    text = [sentence(world, video, step, rng, world.named) for step in video.steps]
    order = np.argsort(start, kind="stable")
    return Captions(start[order], start[order] + 4, [text[i] for i in order])


def vocabulary(world: World) -> list[str]:
    """The words of a world, BERT's special tokens at their places."""
    words = [SPECIAL.get(i, f"[unused{i}]") for i in range(104)]
    words += [f"action{i}" for i in range(world.actions)] + [f"so{i}" for i in range(FILLERS)]
    for i in range(world.domains):
        words += [f"dish{i}x{j}" for j in range(world.dishes)] + [f"domain{i}x{j}" for j in range(WORDS_A_DOMAIN)]
    return words


def make(world: World, folder: str | Path) -> Path:
    """Write a world: corpora `train`, `val` and `test`, `tokenizer`, and YouCook2 files of the two to be scored on.

    A test sentence always names the dish; its `recipe_type` is the domain.

    Args:
        world: what it is made of.
        folder: where; one that already holds this world is left as it is.

    Returns:
        The folder.

    Raises:
        ValueError: the folder holds another world.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     small = World(domains=6, tested=2, videos=8)
        ...     len(Corpus.open(make(small, folder) / "test"))
        16
    """
    folder, values = Path(folder), {f.name: getattr(world, f.name) for f in fields(world)}
    if is_world(folder):
        if json.loads((folder / "world.json").read_text(encoding="utf-8")) != values:
            raise ValueError(f"{folder} holds another world: name another folder or remove it")
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as making:  # a kill leaves no half
        _write_all(world, values, Path(making))
        shutil.copytree(making, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("world.json"))
        shutil.copyfile(Path(making) / "world.json", folder / "world.json")
    return folder


def _write_all(world: World, values: dict, folder: Path) -> None:
    look = Look(world)
    for split in SPLITS:
        _write(look, split, plans(world, split), folder)
    words = vocabulary(world)
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}, do_lower_case=True).save_pretrained(
        folder / "tokenizer"
    )
    (folder / "world.json").write_text(json.dumps(values), encoding="utf-8")


def is_world(folder: str | Path) -> bool:
    """Whether `make` has written the folder."""
    return (Path(folder) / "world.json").is_file()


def _write(look: Look, split: str, videos: list[Video], folder: Path) -> None:
    world = look.world
    rng = np.random.default_rng([world.seed, 5 + SPLITS.index(split)])
    spec = FeatureSpec("a world of numbers", f"{world.seed:016x}", 1, 1, "none", "none", "none", None, world.dim)

    def rows() -> Iterator[tuple[str, np.ndarray, Captions]]:
        for i, video in enumerate(videos):
            yield f"{split}{i:05d}", look.features(video, rng), narration(world, video, rng)

    Corpus.create(folder / split, spec, rows(), split=split, licence="CC0-1.0")
    if split == "train":
        return
    database = {}
    for i, video in enumerate(videos):
        steps = [
            {"segment": [step.start, step.end], "id": n, "sentence": sentence(world, video, step, rng, 1.0)}
            for n, step in enumerate(video.steps)
        ]
        database[f"{split}{i:05d}"] = {
            "duration": video.seconds, "subset": "validation", "recipe_type": str(video.domain), "annotations": steps
        }  # fmt: skip
    file = folder / "youcook2" / split / "youcookii_annotations_trainval.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"database": database}), encoding="utf-8")


def epochs_for(steps: int, videos: int, videos_per_batch: int) -> int:
    """The epochs that come nearest to `steps` batches, at least one."""
    return max(1, round(steps / max(1, videos // videos_per_batch)))


def world_base(folder: str | Path, **changes) -> PretrainConfig:
    """The full method at the size of a world: clips of 4 to 14 s, four of each of 16 videos, 2,000 steps."""
    folder = Path(folder)
    n = len(Corpus.open(folder / "train"))
    size = len(vocabulary(World(**json.loads((folder / "world.json").read_text(encoding="utf-8")))))
    tower = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 256}
    tower |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    tower |= {"max_position_embeddings": 96, "vocab_size": size}
    steps = changes.pop("total_steps", 2000)
    values: dict = {
        "corpus": folder / "train", "tokenizer": folder / "tokenizer",
        "model": {"video_config": tower, "text_config": tower},
        "videos_per_batch": 16, "clips_per_video": 4, "candidates": 32, "retrieval_clips": 4,
        "video_seconds": (4, 14), "text_tokens": (6, 16),
        "learning_rate": 3e-3, "warmup_steps": steps // 10, "total_steps": steps,
    }  # fmt: skip
    values |= changes
    values.setdefault("epochs", epochs_for(steps, n, values["videos_per_batch"]))
    return PretrainConfig(**values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for f in fields(World):
        parser.add_argument(f"--{f.name}", type=type(f.default), default=f.default)
    given = vars(parser.parse_args())
    print(make(World(**{name: value for name, value in given.items() if name != "folder"}), given["folder"]))


if __name__ == "__main__":
    main()
