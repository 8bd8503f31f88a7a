import os
import re
import subprocess
import sys

import indexes
import numpy as np
import pytest
import torch

from vclip.models.embedding import embed_texts, embed_videos
from vclip.models.windows import embed_seconds, sliding_windows
from vclip.search.identity import (
    embed_each_second,
    embed_sentences,
    embed_windows,
    fingerprint,
    index_name,
    made_by,
    named_encoder,
    sizes,
)


def test_windows_of_many_videos_are_those_of_each():
    model, rng = indexes.model(), np.random.default_rng(0)
    videos = [rng.random((n, 12)).astype(np.float16) for n in (1, 40, 33, 70)]
    for features, z_v in zip(videos, embed_windows(model, videos), strict=True):
        expected = [embed_videos(model, [features[a:b]])[0] for a, b in sliding_windows(len(features))]
        np.testing.assert_allclose(z_v, expected, atol=1e-5)
    for features, h_v in zip(videos, embed_each_second(model, videos), strict=True):
        np.testing.assert_allclose(h_v, embed_seconds(model, [features.astype("f4")])[0], atol=1e-5)


def test_a_shorter_model_has_shorter_windows():
    assert sizes(indexes.model()) == (32, 16) and sizes(indexes.model(max_video_tokens=9)) == (9, 4)
    assert sizes(indexes.model(max_video_tokens=1)) == (1, 1) and sizes(indexes.model(max_video_tokens=64)) == (32, 16)


def test_what_tells_indexes_apart():
    encoder, processor = indexes.Quadrants(), indexes.processor()
    first = made_by(indexes.model(), processor, encoder)
    assert first == made_by(indexes.model(), processor, encoder) and first["encoder"] == "quadrants"
    others = [
        made_by(indexes.model(seed=1), processor, encoder),
        made_by(indexes.model(pooling="cls"), processor, encoder),
        made_by(indexes.model(), processor, indexes.Quadrants(fps=2)),
    ]
    changed = [[name for name in first if first[name] != other[name]] for other in others]
    assert changed == [["model weights"], ["model pooling"], ["fps"]]
    with pytest.raises(ValueError, match="lacks 'dim'"):
        made_by(
            indexes.model(feature_spec={k: v for k, v in encoder.spec.__dict__.items() if k != "dim"}), processor, None
        )


def test_indexes_kept_together_have_names_of_their_own(tmp_path, monkeypatch):
    encoder, processor = indexes.Quadrants(), indexes.processor()
    monkeypatch.chdir(tmp_path)
    made = [
        index_name(indexes.model(), processor, tmp_path / "a", encoder),
        index_name(indexes.model(), processor, tmp_path / "b", encoder),
        index_name(indexes.model(seed=1), processor, tmp_path / "a", encoder),
        index_name(indexes.model(), processor, tmp_path / "a", indexes.Quadrants(fps=2)),
        index_name(indexes.model(), processor, tmp_path / "\udcff", encoder),
    ]
    assert len(set(made)) == len(made) and all(re.fullmatch("index-[0-9a-f]{8}", name) for name in made)
    assert index_name(indexes.model(), processor, "a", encoder) == made[0]


def test_a_missing_projection_is_named(tmp_path):
    spec = indexes.Quadrants().spec.__dict__ | {"encoder": "efficientnet-lite0", "fps": 3, "projection": "0" * 16}
    indexes.model(feature_spec=spec).save_pretrained(tmp_path / "checkpoint")
    model = indexes.VideoCLIPModel.from_pretrained(tmp_path / "checkpoint")
    with pytest.raises(FileNotFoundError, match="projection.safetensors: put there"):
        named_encoder(model)


HUB = """
import indexes
import numpy as np
from pathlib import Path
from dataclasses import asdict
from huggingface_hub import constants
from vclip.encoders.networks import EfficientNetLite0
from vclip.encoders.projection import Projection
from vclip.search.identity import named_encoder
encoder = Projection(EfficientNetLite0(), np.eye(2560, 12, dtype="f4"), np.zeros(12, "f4"))
repository = Path(constants.HF_HUB_CACHE) / "models--me--mine"
for revision in ("1" * 40, "2" * 40):
    folder = repository / "snapshots" / revision
    indexes.model(feature_spec=asdict(encoder.spec)).save_pretrained(folder)
    encoder.save(folder / "projection.safetensors")
(repository / "refs").mkdir()
(repository / "refs" / "main").write_text("2" * 40)
model = indexes.VideoCLIPModel.from_pretrained("me/mine")
assert named_encoder(model).spec == encoder.spec
(folder / "projection.safetensors").unlink()
try:
    named_encoder(model)
except FileNotFoundError as error:
    assert "hf download me/mine --local-dir" in str(error), error
else:
    raise AssertionError("found, but in another revision")
"""


def test_the_projection_of_a_model_of_the_hub_is_that_of_its_revision(tmp_path):
    """Offline, with the files where huggingface_hub keeps what it has fetched."""
    offline = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", HUB], env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_text_without_a_finite_vector_is_named():
    model, processor = indexes.model(), indexes.processor()
    expected = embed_texts(model, processor, ["w1", "w2"])
    np.testing.assert_array_equal(embed_sentences(model, processor, ["w1", "w2"]), expected)
    row = processor.tokenizer.convert_tokens_to_ids("w2")
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "text" in name and "word_embeddings" in name)[row] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity of the text 'w2'"):
        embed_sentences(model, processor, ["w1", "w2"])


def test_a_fingerprint_sees_a_change_of_any_weight():
    model = indexes.model()
    before = fingerprint(model)
    assert fingerprint(indexes.model()) == before != fingerprint(indexes.model(seed=1))
    for weight in model.parameters():
        kept = weight.data.clone()
        for value in (kept * 2 + 1, kept * float("nan")):
            weight.data = value  # which PyTorch's counter of changes does not see
            assert fingerprint(model) != before
        weight.data = kept
    assert fingerprint(model) == before
    assert fingerprint(model.to(torch.bfloat16)) not in ("", before)
