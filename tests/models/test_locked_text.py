"""A video tower on top of a dual encoder: the dual encoder averaged at first, and what the tower adds afterwards."""

import numpy as np
import pytest
import tiny_models
import torch
from torch import nn
from videos import write_video

import vclip
from vclip.models.config import VideoCLIPConfig
from vclip.models.hub import unit
from vclip.models.locked_text import LockedText
from vclip.models.windows import sliding_windows
from vclip.training.config import PretrainConfig
from vclip.training.pretrain import new_model

import corpora

LONGEST = 12


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return vclip.load(tiny_models.tiny("clip", tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def corpus(base, tmp_path_factory):
    return corpora.on_top(tmp_path_factory.mktemp("corpora") / "train", base, n=4)


def on_top(corpus, added: float = 0.0, **model) -> LockedText:
    """A model before its first step; or one whose tower adds something, with a last LayerNorm of size `added`."""
    torch.manual_seed(0)
    sizes = {"max_video_tokens": LONGEST, "video_config": {"num_hidden_layers": 2}} | model
    locked = new_model(PretrainConfig(text="locked", temperature=0.05, model=sizes), corpus)
    norm = locked.video_model.encoder.layer[-1].output.LayerNorm
    if added:
        nn.init.normal_(norm.weight, std=added)
        nn.init.normal_(norm.bias, std=added)
    return LockedText(locked.eval())


@pytest.fixture(scope="module")
def clips(base):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, base.dim)).astype(np.float32) * 9 for n in (1, 5, LONGEST, LONGEST + 1, 40, 3)]


def test_before_the_first_step_it_is_the_dual_encoder_averaged(base, corpus, clips):
    clip = on_top(corpus)
    np.testing.assert_allclose(clip.encode_clips(clips), base.encode_clips(clips), atol=1e-5)
    for moments in (False, True):
        pairs = zip(clip.encode_seconds(clips, moments), base.encode_seconds(clips, moments), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    texts = ["w1 w2", ""]
    np.testing.assert_allclose(clip.encode_texts(texts), base.encode_texts(texts), atol=1e-6)
    nothing = np.zeros((0, base.dim), np.float32)
    assert not clip.encode_clips([nothing]).any() and clip.encode_clips([]).shape == (0, base.dim)


def test_the_tower_is_added_to_unit_features_and_seconds_are_averaged(corpus, clips):
    """One clip after the other, through the padded tower, whose last row of states is [SEP] and first [CLS]."""
    model = on_top(corpus, added=0.5).model
    x = [torch.nn.functional.normalize(torch.from_numpy(clip[:LONGEST]), dim=-1) for clip in clips]
    with torch.inference_mode():
        together = model.embed_videos(torch.cat(x) * 3, torch.tensor([len(rows) for rows in x]))
        for z_v, rows in zip(together, x, strict=True):
            states = model.get_video_features(rows[None]).last_hidden_state[0]
            total = torch.stack([second + state for second, state in zip(rows, states, strict=True)]).mean(dim=0)
            torch.testing.assert_close(z_v, total / total.norm(), atol=1e-5, rtol=0)
            assert not torch.allclose(z_v, rows.mean(dim=0) / rows.mean(dim=0).norm(), atol=0.05)


def test_a_long_clip_is_the_mean_over_windows_that_overlap(corpus, clips):
    clip = on_top(corpus, added=0.5)
    (long,) = (rows for rows in clips if len(rows) == 40)
    total, count = np.zeros((40, clip.dim)), np.zeros((40, 1))
    for start, end in sliding_windows(40, *clip.window):
        with torch.inference_mode():
            h_v = clip.model.embed_seconds(torch.from_numpy(long[start:end]), torch.tensor([end - start]))
        total[start:end] += h_v.numpy()
        count[start:end] += 1
    np.testing.assert_allclose(clip.encode_seconds([long])[0], unit(total / count), atol=1e-5)
    np.testing.assert_allclose(clip.encode_clips([long])[0], unit((total / count).mean(axis=0)), atol=1e-5)


def test_it_searches_videos(base, corpus, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.mov", "b.mov"):
        pictures = list(rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8))
        write_video(tmp_path / name, range(0, 20_000, 1000), pictures)
    clip = on_top(corpus)
    np.testing.assert_allclose(clip.encode_video(tmp_path / "a.mov"), base.encode_video(tmp_path / "a.mov"), atol=1e-5)
    assert {hit.video for hit in clip.index(tmp_path).search("w1", k=9)} == {"a.mov", "b.mov"}


def test_its_identity_names_tower_and_dual_encoder(base, corpus):
    mine, other = on_top(corpus).identity, on_top(corpus, added=0.5).identity
    assert mine["base"] == other["base"] == base.identity and mine["weights"] != other["weights"]
    assert on_top(corpus).identity == mine != on_top(corpus, max_video_tokens=9).identity


def test_the_tower_is_as_wide_as_the_features_and_as_deep_as_the_papers():
    sizes = VideoCLIPConfig(text="locked", video_feature_dim=768).video_config
    assert (sizes.hidden_size, sizes.num_attention_heads, sizes.intermediate_size) == (768, 12, 3072)
    assert sizes.num_hidden_layers == 6
    with pytest.raises(ValueError, match="hidden_size is 32 for videos and 384 for texts"):
        VideoCLIPConfig(text="locked", video_feature_dim=384, video_config={"hidden_size": 32})


def test_features_that_are_not_a_dual_encoders_are_refused(base, corpus, tmp_path):
    for encoder, projection in (("efficientnet-lite0", None), (base.spec.encoder, "0" * 16)):
        made = corpora.make(
            tmp_path / projection if projection else tmp_path / "plain", 4, encoder=encoder, projection=projection
        )
        with pytest.raises(ValueError, match="needs the features of a dual encoder's own encoder"):
            on_top(made)
    other = corpora.on_top(tmp_path / "other", base, n=4, weights="0" * 16)
    with pytest.raises(ValueError, match="not those that the .* found here expects .weights: '0000000000000000'"):
        on_top(other)
