import indexes
import numpy as np
import pytest

from vclip.embedding import embed_videos
from vclip.moments.model import embed_each_second, embed_windows, made_by, named_encoder, sizes
from vclip.tasks.windows import embed_seconds, sliding_windows


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


def test_a_missing_projection_is_named(tmp_path):
    spec = indexes.Quadrants().spec.__dict__ | {"encoder": "efficientnet-lite0", "fps": 3, "projection": "0" * 16}
    indexes.model(feature_spec=spec).save_pretrained(tmp_path / "checkpoint")
    model = indexes.VideoCLIPModel.from_pretrained(tmp_path / "checkpoint")
    with pytest.raises(FileNotFoundError, match="checkpoint/projection.safetensors"):
        named_encoder(model)
