"""Files beside the corpora: tokenizer, the truth about every step, test sets in YouCook2's format, thumbnails."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import work
from narration import captions, narrate, step_sentence
from PIL import Image
from tokenizers import BertWordPieceTokenizer
from tqdm.auto import tqdm
from transformers import BertTokenizerFast
from vocabulary import ACTIONS, THINGS, TOPICS
from world import Plan

from vclip.data.video import read_seconds

SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}  # as in bert-base-uncased
VOCABULARY = 1200
THUMBNAIL = 96  # pixels


def write_tokenizer(videos: list[Plan], folder: Path) -> None:
    """Lower-case WordPiece trained on the training captions, special ids as BERT's, gaps filled with [unused]."""
    texts = [text for plan in videos for text in captions(narrate(plan)).text]
    texts += [word for _, names in THINGS.values() for word in names]  # a synonym rarely said still gets whole words
    trainer = BertWordPieceTokenizer(lowercase=True)
    trainer.train_from_iterator(texts, vocab_size=VOCABULARY - 104, min_frequency=2, show_progress=False,
                                special_tokens=["[UNK]"])  # fmt: skip
    learnt = sorted(trainer.get_vocab(), key=trainer.get_vocab().__getitem__)
    fixed = {i: name for name, i in SPECIAL.items()}
    words = [fixed.get(i, f"[unused{i}]") for i in range(104)] + [w for w in learnt if w not in SPECIAL]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}, do_lower_case=True)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(folder)


def write_truth(splits: dict[str, list[Plan]], path: Path) -> None:
    """One row a step. `narrated` is the second at which it is first spoken of."""
    rows = []
    for split, videos in splits.items():
        for plan in videos:
            spoken = narrate(plan)
            for i, step in enumerate(plan.steps):
                narrated = min(u.start for u in spoken if u.step == i)
                rows.append({"split": split, "video_id": plan.video_id, "topic": plan.topic, "step": i,
                             "start": step.start, "end": step.end, "action": step.action, "thing": step.thing,
                             "narrated": round(narrated, 3)})  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_youcook2(videos: list[Plan], folder: Path, subset: str = "validation") -> None:
    """`youcookii_annotations_trainval.json` as the official file is laid out; recipe_type is the topic's number.

    The training subset, 2,683 steps, is written without white space.
    """
    database = {}
    for plan in videos:
        rng = np.random.default_rng([plan.seed, 11])
        database[plan.video_id] = {
            "duration": float(plan.seconds),
            "subset": subset,
            "recipe_type": str(list(TOPICS).index(plan.topic)),
            "annotations": [
                {"segment": [step.start, step.end], "id": i, "sentence": step_sentence(step, rng)}
                for i, step in enumerate(plan.steps)
            ],
            "video_url": plan.video_id,
        }
    folder.mkdir(parents=True, exist_ok=True)
    compact = subset == "training"
    text = json.dumps({"database": database}, indent=None if compact else 1, separators=(",", ":") if compact else None)
    (folder / "youcookii_annotations_trainval.json").write_text(text + "\n", encoding="utf-8")


def two_a_step(plan: Plan) -> set[int]:
    """Each step's second second and its last but one."""
    return {second for step in plan.steps for second in (step.start + 1, step.end - 2)}


def write_thumbnails(
    videos: list[Plan], path: Path, seconds: Callable[[Plan], set[int]] = two_a_step, quality: int = 60
) -> None:
    """A jpeg of the first frame of each of a video's `seconds`: (video_id, second, jpeg)."""
    rows = []
    for plan in tqdm(videos, desc="thumbnails", unit="video"):
        wanted = seconds(plan)
        for second, frames in enumerate(read_seconds(work.kept(plan, "mp4"), 1, THUMBNAIL)):
            if second in wanted:
                jpeg = io.BytesIO()
                Image.fromarray(frames[0]).save(jpeg, "JPEG", quality=quality)
                rows.append({"video_id": plan.video_id, "second": second, "jpeg": jpeg.getvalue()})
    pq.write_table(pa.Table.from_pylist(rows), path)


def names() -> dict[str, list[str]]:
    """The labels of the probes in the order of their numbers."""
    return {"action": list(ACTIONS), "thing": list(THINGS), "topic": list(TOPICS)}
