"""Does a converted model work? Numbers that need no data set, each with what chance would score."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from vclip.embedding import embed_texts, embed_videos, evaluating
from vclip.model import VideoCLIPModel
from vclip.processing import VideoCLIPProcessor

CLIPS, SECONDS = 64, 12
NOISE = 0.1  # standard deviation of the copies, a tenth of the signal's
PARAPHRASES = (
    ("chop the onion into small pieces", "dice up an onion finely"),
    ("bring the water to a boil", "heat the pot until it is bubbling"),
    ("hammer a nail into the wood", "drive the nail through a board with a mallet"),
    ("paint the wall with a roller", "put a coat of colour on the living room walls"),
    ("change the tire of the car", "take off the wheel and put on the spare"),
    ("plant the seeds in the soil", "sow them in the garden bed"),
    ("knead the dough with your hands", "work the bread mix until it is elastic"),
    ("tie your shoe laces", "make a bow on the sneakers"),
    ("comb the hair and braid it", "brush it out and weave it into a plait"),
    ("play a chord on the guitar", "strum the strings of the instrument"),
    ("fold the paper in half", "crease the sheet down the middle for origami"),
    ("brew a cup of coffee", "pour hot water over ground beans for an espresso"),
    ("wash the dog in the bathtub", "give your puppy a bath with shampoo"),
    ("sew a button on the shirt", "stitch it to the fabric with needle and thread"),
    ("beat the eggs with a whisk", "stir yolks and whites until fluffy"),
    ("mow the grass in the yard", "cut the lawn with a machine"),
)


def smoke_scores(model: Any, again: Any, processor: VideoCLIPProcessor | None = None) -> dict[str, float]:
    """Scores of `model`, a VideoCLIPModel or S3D, of which `again` is what was read back from disk.

    Made inputs are looked for among themselves by copies with a little noise, or one word changed: a network that
    collapsed, or one whose normalisation is broken, finds few. With a processor, how-to sentences are looked for by a
    paraphrase: weights in the wrong places find few, which the made inputs do not tell. Chance is one in as many as
    there are.
    Raises ValueError if an output is not finite or `again` does not reproduce it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs = _videoclip if isinstance(model, VideoCLIPModel) else _s3d
        vectors, copies, repeated = outputs(model, again)
    if not np.isfinite(vectors).all() or (difference := float(np.abs(vectors - repeated).max())) > 1e-5:
        raise ValueError("what was written does not reproduce the outputs of what was read: they differ or are NaN")
    scores = {
        "largest difference once reloaded": difference,
        f"made inputs found by noisy copies (R@1, chance {1 / len(vectors):.2g})": _found(vectors, copies),
    }
    if processor is not None:
        sides = [embed_texts(model, processor, texts) for texts in zip(*PARAPHRASES, strict=True)]
        scores[f"sentences found by a paraphrase (R@1, chance {1 / len(PARAPHRASES):.2g})"] = _found(*sides)
    return scores


def _videoclip(model: VideoCLIPModel, again: VideoCLIPModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    config = model.config
    clips = F.normalize(torch.randn(CLIPS, SECONDS, config.video_feature_dim), dim=-1)
    noisy = F.normalize(clips + NOISE * torch.randn_like(clips) / config.video_feature_dim**0.5, dim=-1)
    ids = torch.randint(config.text_config.vocab_size, (CLIPS, 8))
    ids[:, 0], ids[:, -1] = config.cls_token_id, config.sep_token_id
    other = ids.clone()
    other[:, 3] = torch.randint(config.text_config.vocab_size, (CLIPS,))

    def z(m: VideoCLIPModel, clips: torch.Tensor, ids: torch.Tensor) -> np.ndarray:
        with evaluating(m):
            z_t = m.embed_texts(ids.flatten(), torch.full((len(ids),), ids.shape[1]))
        return np.concatenate([embed_videos(m, list(clips.numpy())), z_t.numpy()])

    return z(model, clips, ids), z(model, noisy, other), z(again, clips, ids)


def _s3d(model: Any, again: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    seconds = F.interpolate(torch.rand(8, 3, 4, 8, 8), (8, 64, 64), mode="trilinear")
    noisy = (seconds + NOISE * seconds.std() * torch.randn_like(seconds)).clamp(0, 1)
    with torch.inference_mode():
        rows = [net(x).video_embedding.numpy() for net, x in ((model, seconds), (model, noisy), (again, seconds))]
    return rows[0], rows[1], rows[2]


def _found(vectors: np.ndarray, copies: np.ndarray) -> float:
    """R@1 by cosine: how many copies have their own vector first."""
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True).clip(1e-12) for v in (vectors, copies)]
    return float(np.mean((unit[1] @ unit[0].T).argmax(axis=1) == np.arange(len(vectors))))
