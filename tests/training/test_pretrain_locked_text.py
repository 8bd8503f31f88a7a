"""Pre-training on top of a dual encoder whose text side is locked."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from safetensors.torch import load_file
from stops import Forked, after_rows, kill_when

import vclip
from vclip.data.corpus import Corpus
from vclip.data.spec import weights_hash
from vclip.datasets import youcook2
from vclip.models.locked_text import LockedText
from vclip.training.batches import packed_tensors
from vclip.training.checkpoint import read_log
from vclip.training.config import FinetuneConfig, PretrainConfig
from vclip.training.finetune import finetune
from vclip.training.pretrain import pretrain

import corpora

pytestmark = pytest.mark.filterwarnings("ignore:.*overlap in time")  # the made videos are short


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A tiny CLIP, and corpora of its features."""
    folder = tmp_path_factory.mktemp("data")
    base = vclip.load(tiny_models.tiny("clip", folder / "clip"))
    corpora.on_top(folder / "train", base, n=48)
    corpora.on_top(folder / "val", base, n=12, seed=1)
    return folder


def config(data: Path, output: Path, **changes) -> PretrainConfig:
    model = {"max_video_tokens": 16, "video_config": {"num_hidden_layers": 1}}
    values = {"text": "locked", "temperature": 0.05, "tokenizer": "none", "model": model, "text_tokens": (4, 12)}
    return corpora.pretrain_config(data, output, **values | changes)


def pretrain_on_one_thread(config: PretrainConfig) -> None:
    torch.set_num_threads(1)
    pretrain(config)


def tensors(output: Path) -> dict[str, bytes]:
    files = ("best/model.safetensors", "last/model.safetensors", "state.safetensors")
    return {f"{file}:{name}": v.numpy().tobytes() for file in files for name, v in load_file(output / file).items()}


def test_it_learns_and_the_text_side_stays_as_it_was(data, tmp_path):
    base = vclip.load(data / "clip")
    run = pretrain(config(data, tmp_path / "run", epochs=12))
    assert np.mean(run.losses[-6:]) < np.mean(run.losses[:6]) - 0.1
    assert run.scores[-1]["validation_loss"] < run.scores[0]["validation_loss"]
    clip = vclip.load(run.checkpoint)
    assert isinstance(clip, LockedText) and clip.name == "run/best"
    assert weights_hash(clip.base.model.state_dict()) == weights_hash(base.model.state_dict())
    assert not any("text" in name for name in load_file(run.checkpoint / "model.safetensors"))
    features = [Corpus.open(data / "val").features(i) for i in range(12)]
    z_v = run.clip.encode_clips(features)
    np.testing.assert_array_equal(clip.encode_clips(features), z_v)
    assert not np.allclose(z_v, base.encode_clips(features), atol=0.05)


def test_the_first_batch_is_the_dual_encoders_own(data, tmp_path):
    """z_v of its clips averaged, z_t of the clips' captions joined."""
    base, corpus = vclip.load(data / "clip"), Corpus.open(data / "train")
    from vclip.training.pretrain import new_model

    torch.manual_seed(0)
    clip = LockedText(new_model(config(data, tmp_path / "run"), corpus).eval())
    corpus, videos = corpus.tokenize(clip.tokenizer), np.array([3, 7])
    drawn = vclip.OverlappedClips((3, 16), (4, 12)).sample(corpus, videos, 5, np.random.default_rng(0))
    with torch.inference_mode():
        z_v, z_t = clip.model.embed_packed(*packed_tensors(clip.model, corpus, videos, drawn)[:4])
    for i in range(10):
        video, (start, end, first, last) = videos[i // 5], (field[i] for field in drawn)
        text = " ".join(corpus.captions(video).text[first:last])
        np.testing.assert_allclose(z_v[i], base.encode_clips([corpus.features(video)[start:end]])[0], atol=1e-5)
        np.testing.assert_allclose(z_t[i], base.encode_texts([text])[0], atol=1e-5)


@pytest.mark.long
def test_killed_or_prolonged_it_ends_with_the_same_tensors(data, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the killed process: sums in another order differ in the last bit
    pretrain(config(data, tmp_path / "whole", epochs=2))
    run = config(data, tmp_path / "killed", epochs=1)
    kill_when(partial(Forked, pretrain_on_one_thread, run), tmp_path / "killed", after_rows(7), 0.0)
    pretrain(run)
    pretrain(config(data, tmp_path / "killed", epochs=2))
    torch.set_num_threads(threads)
    assert tensors(tmp_path / "killed") == tensors(tmp_path / "whole")
    assert read_log(tmp_path / "killed") == read_log(tmp_path / "whole")


def test_mini_batches_have_the_whole_batchs_gradient(data, tmp_path):
    model = config(data, tmp_path).model
    model["video_config"] |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    runs = [
        pretrain(config(data, tmp_path / str(size), epochs=1, retrieval=False, model=model, mini_batch_size=size))
        for size in (None, 5)
    ]
    np.testing.assert_allclose(runs[0].losses, runs[1].losses, atol=1e-4)


def test_evaluate_scores_it_and_fine_tuning_refuses_it(data, tmp_path):
    run = pretrain(config(data, tmp_path / "run", epochs=1))
    records = youcook2.load(vclip.minihowto() / "youcook2" / "val")
    rows = ((name, np.ones((40, 16)) + np.eye(40, 16, i), None) for i, name in enumerate(records.video_ids[:8]))
    made = Corpus.create(tmp_path / "made", Corpus.open(data / "val").spec, rows)
    report = vclip.evaluate(run.clip, records, made)
    assert report.n > 8 and report.about["model"]["base"] == run.clip.identity["base"]
    with pytest.raises(ValueError, match="run/best has no text tower"):
        finetune(
            FinetuneConfig.sample("retrieval", checkpoint=run.checkpoint, output=tmp_path / "tuned"), records, made
        )


@pytest.mark.parametrize("wrong", [{"temperature": 1.0}, {"sampler": "mil_nce"}, {"bert": "bert-base-uncased"}])
def test_what_a_locked_text_cannot_take_is_refused(wrong):
    with pytest.raises(ValueError, match="text 'locked' needs a temperature below 1, and takes no bert"):
        PretrainConfig(**{"text": "locked", "temperature": 0.05} | wrong)


def test_a_corpus_of_another_encoders_features_is_refused(tmp_path):
    run = config(vclip.minihowto(), tmp_path, tokenizer="none")
    with pytest.raises(ValueError, match="a dual encoder's own encoder, not those of .*'efficientnet-lite0'"):
        pretrain(run)
