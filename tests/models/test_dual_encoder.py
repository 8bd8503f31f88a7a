from dataclasses import dataclass

import numpy as np
import pytest
import torch

from vclip.data.samplers import OverlappedClips
from vclip.models.config import VideoCLIPConfig
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import WINDOWS_AT_ONCE, VideoCLIP
from vclip.models.windows import sliding_windows
from vclip.tasks.retrieval import text_to_video
from vclip.training.batches import embed_clips

import corpora


@dataclass
class Clip:
    video_id: str
    start: int
    end: int
    sentence: str


@pytest.fixture(scope="module")
def model() -> VideoCLIPModel:
    torch.manual_seed(0)
    config = VideoCLIPConfig(video_config=corpora.TOWER, text_config=corpora.TOWER, video_feature_dim=corpora.DIM)
    return VideoCLIPModel(config).train()


@pytest.fixture(scope="module")
def clip(model) -> VideoCLIP:
    return VideoCLIP(model, VideoCLIPProcessor(corpora.tokenizer()))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return corpora.make(tmp_path_factory.mktemp("corpus") / "c", 6)


def one_by_one(model, processor, texts, videos):
    model.eval()
    with torch.no_grad():
        z_t = [model.get_text_features(**processor(text=text)).pooler_output[0] for text in texts]
        z_v = [model.get_video_features(**processor(videos=video)).pooler_output[0] for video in videos]
    model.train()
    return torch.stack(z_t).numpy(), torch.stack(z_v).numpy()


def test_packed_embedding_equals_one_padded_call_each(model, clip, corpus):
    texts = ["w1 w2 w3", "w4 " * 100, "w5"]
    videos = [np.asarray(corpus.features(i)) for i in range(4)]
    z_t, z_v = one_by_one(model, clip.processor, texts, videos)
    np.testing.assert_allclose(clip.encode_texts(texts), z_t, atol=1e-5)
    np.testing.assert_allclose(clip.encode_clips(videos), z_v, atol=1e-5)
    assert max(len(video) for video in videos) > 32  # a long clip is cut, not averaged


def test_nothing_and_clips_without_seconds(clip):
    assert clip.encode_texts([]).shape == clip.encode_clips([]).shape == (0, 32)
    z_v = clip.encode_clips([np.zeros((0, corpora.DIM)), np.ones((3, corpora.DIM))])
    z_t = clip.encode_texts([""])
    assert z_v.shape == (2, 32) and np.isfinite(z_v).all() and np.isfinite(z_t).all()
    with pytest.raises(ValueError, match="9 wide"):
        clip.encode_clips([np.ones((3, 9))])


def test_it_leaves_the_model_as_it_was(model, corpus):
    videos = np.arange(len(corpus))
    clips = OverlappedClips().sample(corpus, videos, 3, np.random.default_rng(0))
    first, again = (embed_clips(model, corpus, videos, clips) for _ in range(2))
    np.testing.assert_array_equal(first, again)  # no dropout
    assert model.training


def test_text_to_video(model, clip, corpus):
    clips = [Clip("video 1", 2, 9, "w1"), Clip("gone", 0, 5, "w2"), Clip("video 0", 0, 4, "w3")]
    similarity, found = text_to_video(clip, clips, corpus)
    assert found == [0, 2]
    rows = [corpus.features(1)[2:9], corpus.features(0)[0:4]]
    z_t, z_v = one_by_one(model, clip.processor, ["w1", "w3"], rows)
    np.testing.assert_allclose(similarity, z_t @ z_v.T, atol=1e-4)
    with pytest.raises(ValueError, match="none of the 1 clips' videos"):
        text_to_video(clip, clips[1:2], corpus)


def test_seconds_equal_one_window_at_a_time(model, clip):
    rng = np.random.default_rng(0)
    lengths = [75, 0, 1, 32, 33, 75, 16 * WINDOWS_AT_ONCE + 40]  # the last fills more than one batch
    clips = [rng.standard_normal((n, corpora.DIM)).astype(np.float16) for n in lengths]
    got = clip.encode_seconds(clips)
    assert [h_v.shape for h_v in got] == [(n, 32) for n in lengths] and model.training
    z = rng.standard_normal((32, 5)).astype(np.float32)
    model.eval()
    for rows_of, h_v in zip(clips[:-1], got[:-1], strict=True):
        logits = [np.zeros((0, 5))] * len(rows_of)
        for start, end in sliding_windows(len(rows_of)):
            rows = torch.from_numpy(rows_of[start:end]).float()[None]
            with torch.no_grad():
                states = model.get_video_features(rows, attend_cls=False).last_hidden_state[0]
            for t, logit in zip(range(start, end), states.numpy() @ z, strict=True):
                logits[t] = np.concatenate([logits[t], logit[None]])
        # the mean of the logits is the logit of the mean state
        for t, logit in enumerate(logits):
            np.testing.assert_allclose(h_v[t] @ z, logit.mean(axis=0), atol=2e-5)
    model.train()


def test_cls_is_hidden(model, clip):
    features = np.random.default_rng(1).standard_normal((9, corpora.DIM)).astype(np.float32)
    with torch.no_grad():
        model.eval()
        hidden, seen = (
            model.get_video_features(torch.from_numpy(features)[None], attend_cls=attend).last_hidden_state[0].numpy()
            for attend in (False, True)
        )
        model.train()
    (got,) = clip.encode_seconds([features])
    np.testing.assert_allclose(got, hidden, atol=1e-5)
    assert np.abs(got - seen).max() > 1e-3


def test_a_shorter_longest_clip_makes_shorter_windows():
    torch.manual_seed(0)
    sizes = {"video_feature_dim": corpora.DIM, "max_video_tokens": 8}
    narrow = VideoCLIPModel(VideoCLIPConfig(video_config=corpora.TOWER, text_config=corpora.TOWER, **sizes)).eval()
    encoder = VideoCLIP(narrow, VideoCLIPProcessor(corpora.tokenizer(), max_video_tokens=8))
    assert (encoder.longest_clip, encoder.window) == (8, (8, 4))
    rows = np.random.default_rng(2).standard_normal((12, corpora.DIM)).astype(np.float32)
    (whole,) = encoder.encode_seconds([rows])
    parts = encoder.encode_seconds([rows[0:8], rows[4:12]])
    np.testing.assert_allclose(whole[:4], parts[0][:4], atol=1e-5)
    np.testing.assert_allclose(whole[4:8], (parts[0][4:] + parts[1][:4]) / 2, atol=1e-5)
    longer = np.random.default_rng(3).standard_normal((50, corpora.DIM)).astype(np.float32)
    z_v = encoder.encode_clips([rows, rows[:3], longer])
    spans = {0: [(0, 8), (4, 12)], 2: [(start, start + 8) for start in range(0, 25, 4)]}  # of the first 32 s
    for i, of_clip in spans.items():
        parts = encoder.encode_clips([(rows if i == 0 else longer)[start:end] for start, end in of_clip])
        np.testing.assert_allclose(z_v[i], parts.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(z_v[1], encoder.encode_clips([rows[:3]])[0], atol=1e-5)
    moments = encoder.encode_seconds([longer], moments=True)
    np.testing.assert_allclose(moments[0], encoder.encode_seconds([longer[:32]])[0], atol=1e-5)


def test_the_moments_protocol_is_one_padded_call(model, clip):
    rows = [np.random.default_rng(n).standard_normal((n, corpora.DIM)).astype(np.float32) for n in (5, 40)]
    model.eval()
    with torch.no_grad():
        padded = model.get_video_features(**clip.processor(videos=[rows[0], rows[1][:32]])).last_hidden_state.numpy()
    model.train()
    got = clip.encode_seconds(rows, moments=True)
    np.testing.assert_allclose(np.stack(got), padded, atol=1e-5)


def test_clips_do_not_change_each_other(clip):
    exact = np.full((3, corpora.DIM), 0.1, np.float32)
    beside = [np.ones((2, corpora.DIM), np.float16), exact]
    np.testing.assert_allclose(clip.encode_seconds(beside)[1], clip.encode_seconds([exact])[0], atol=1e-6)
    with pytest.raises(ValueError, match="of one width"):
        clip.encode_seconds([exact, np.ones((2, corpora.DIM + 1), np.float32)])
    with pytest.raises(TypeError, match=r"takes a list of sentences: pass \['fry'\]"):
        clip.encode_texts("fry")


def test_encoders_that_embed_otherwise_have_other_identities(clip):
    tower = corpora.TOWER | {"num_attention_heads": 2 * corpora.TOWER["num_attention_heads"]}
    config = VideoCLIPConfig(video_config=tower, text_config=corpora.TOWER, video_feature_dim=corpora.DIM)
    other = VideoCLIPModel(config)
    other.load_state_dict(clip.model.state_dict())
    mine, its = clip.identity, VideoCLIP(other, clip.processor).identity
    assert mine["weights"] == its["weights"] and mine != its
