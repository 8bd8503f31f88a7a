from dataclasses import dataclass

import numpy as np
import pytest
import torch

from vclip.data.samplers import OverlappedClips
from vclip.models.config import VideoCLIPConfig
from vclip.models.embedding import embed_texts, embed_videos
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
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
def corpus(tmp_path_factory):
    return corpora.make(tmp_path_factory.mktemp("corpus") / "c", 6)


def one_by_one(model, processor, texts, videos):
    model.eval()
    with torch.no_grad():
        z_t = [model.get_text_features(**processor(text=text)).pooler_output[0] for text in texts]
        z_v = [model.get_video_features(**processor(videos=video)).pooler_output[0] for video in videos]
    model.train()
    return torch.stack(z_t).numpy(), torch.stack(z_v).numpy()


def test_packed_embedding_equals_one_padded_call_each(model, corpus):
    processor = VideoCLIPProcessor(corpora.tokenizer())
    texts = ["w1 w2 w3", "w4 " * 100, "w5"]
    videos = [np.asarray(corpus.features(i)) for i in range(4)]
    z_t, z_v = one_by_one(model, processor, texts, videos)
    np.testing.assert_allclose(embed_texts(model, processor, texts), z_t, atol=1e-5)
    np.testing.assert_allclose(embed_videos(model, videos), z_v, atol=1e-5)
    assert max(len(video) for video in videos) > 32  # a long clip is cut, not averaged


def test_nothing_and_clips_without_seconds(model):
    processor = VideoCLIPProcessor(corpora.tokenizer())
    assert embed_texts(model, processor, []).shape == embed_videos(model, []).shape == (0, 32)
    z_v = embed_videos(model, [np.zeros((0, corpora.DIM)), np.ones((3, corpora.DIM))])
    z_t = embed_texts(model, processor, [""])
    assert z_v.shape == (2, 32) and np.isfinite(z_v).all() and np.isfinite(z_t).all()
    with pytest.raises(ValueError, match="9 wide"):
        embed_videos(model, [np.ones((3, 9))])


def test_it_leaves_the_model_as_it_was(model, corpus):
    videos = np.arange(len(corpus))
    clips = OverlappedClips().sample(corpus, videos, 3, np.random.default_rng(0))
    first, again = (embed_clips(model, corpus, videos, clips) for _ in range(2))
    np.testing.assert_array_equal(first, again)  # no dropout
    assert model.training


def test_text_to_video(model, corpus):
    processor = VideoCLIPProcessor(corpora.tokenizer())
    clips = [Clip("video 1", 2, 9, "w1"), Clip("gone", 0, 5, "w2"), Clip("video 0", 0, 4, "w3")]
    similarity, found = text_to_video(model, processor, clips, corpus)
    assert found == [0, 2]
    rows = [corpus.features(1)[2:9], corpus.features(0)[0:4]]
    z_t, z_v = one_by_one(model, processor, ["w1", "w3"], rows)
    np.testing.assert_allclose(similarity, z_t @ z_v.T, atol=1e-4)
    with pytest.raises(ValueError, match="none of the 1 clips' videos"):
        text_to_video(model, processor, clips[1:2], corpus)
