import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import indexes
import numpy as np
import pytest
import torch
from videos import write_video

from vclip.data.corpus import Corpus
from vclip.data.extraction import extract
from vclip.datasets.minihowto import minihowto
from vclip.models.loading import load
from vclip.models.windows import sliding_windows
from vclip.search.index import MomentIndex, standing_out
from vclip.search.vectors import SENTENCES
from vclip.training.pretrain import pretrain

import corpora
from corpora import TOWER

SECONDS = (3, 20, 33, 50, 70, 1)
QUERY = "w3 w17 w5"


@pytest.fixture(scope="module")
def clip():
    return indexes.clip()


@pytest.fixture(scope="module")
def made(clip, tmp_path_factory) -> Path:
    """A folder that is indexed; tests that change it copy it."""
    folder = indexes.folder(tmp_path_factory.mktemp("made") / "videos", SECONDS)
    said = "WEBVTT\n\n00:01.000 --> 00:12.000\nfirst\n\n00:12.000 --> 00:50.000\n<b>then</b>\n"
    (folder / "video 3.vtt").write_text(said)
    MomentIndex.build(clip, folder)
    return folder


def every_moment(index, text) -> list[tuple]:
    """Video, start, end, score, margin and zscore by loops over every window, as the docstrings say it."""
    z_t, windows, best = index.clip.encode_texts([text])[0], [], {}
    everything = index.clip.encode_texts(SENTENCES)
    z_v = []
    for i, video in enumerate(index.videos):
        features = index.corpus.features(i)
        curve = index.clip.encode_seconds([features.astype(np.float32)])[0] @ z_t
        for start, end in sliding_windows(len(features)):
            z_v.append(index.clip.encode_clips([features[start:end]])[0])
            score = float(z_v[-1] @ z_t)
            first, last = standing_out(curve[start:end])
            windows.append((score, video, start + first, start + last))
            best[video] = max(score, best.get(video, -np.inf))
    usual = [max(z @ z_s for z in z_v) - np.mean([z @ z_s for z in z_v]) / 2 for z_s in everything]
    prior = np.mean([z @ z_t for z in z_v]) / 2
    kept: list[tuple] = []
    for score, video, start, end in sorted(windows, reverse=True):
        if any(v == video and start < b and a < end for v, a, b, *_ in kept):
            continue
        margin = score - max((b for v, b in best.items() if v != video), default=np.nan)
        kept.append((video, start, end, score, margin, (score - prior - np.mean(usual)) / np.std(usual)))
    return kept


def same(hits, others) -> bool:
    """Equal but for what the order of a sum makes of a score."""
    scores, expected = ([(h.score, h.margin) for h in some] for some in (hits, others))
    return [(h.video, h.start, h.end) for h in hits] == [(h.video, h.start, h.end) for h in others] and np.allclose(
        scores, expected, atol=1e-5
    )


def test_search_is_the_loop_over_every_window(clip, made):
    index = MomentIndex.open(made / ".vclip", clip)
    assert (
        index.corpus.seconds.tolist() == list(SECONDS) and index.videos[3] == "video 3.mov" and index.folders == [made]
    )
    for text in (QUERY, "w9"):
        expected, hits = every_moment(index, text), index.search(text, 100)
        assert len(hits) == len(expected) > 6 and [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
        for hit, (video, start, end, score, margin, zscore) in zip(hits, expected, strict=True):
            end = 0.04 if video == "video 5.mov" else end  # one picture, and no longer
            assert (hit.video, hit.start, hit.end, hit.query) == (video, start, end, text)
            assert hit.end - hit.start >= min(2, end)
            assert (hit.score, hit.margin) == (pytest.approx(score, abs=1e-4), pytest.approx(margin, abs=1e-4))
            assert hit.zscore == pytest.approx(zscore, abs=1e-3)
        assert index.search(text, 3) == hits[:3]
        assert hits[0].margin > 0 and all(hit.margin < 0 for hit in hits if hit.video != hits[0].video)


def test_explain_is_the_curve_of_the_whole_video(clip, made):
    index = MomentIndex.open(made / ".vclip", clip)
    z_t = clip.encode_texts([QUERY])[0]
    hits = index.search(QUERY, 100)
    assert {hit.video for hit in hits} == {*index.videos}
    for hit in hits:
        features = index.corpus.features(index.corpus.index(hit.video)).astype(np.float32)
        seconds, scores = index.explain(hit)
        assert seconds.tolist() == list(range(SECONDS[int(hit.video[6])]))
        np.testing.assert_allclose(scores, clip.encode_seconds([features])[0] @ z_t, atol=1e-5)
        # a hit is what stands out of this curve, in some window of its video
        spans = [(a, *standing_out(scores[a:b])) for a, b in sliding_windows(len(features))]
        ends = [(a + first, a + last) for a, first, last in spans]
        assert (int(hit.start), int(np.ceil(hit.end))) in ends


def test_hits_say_what_is_said(clip, made):
    index = MomentIndex.open(made / ".vclip", clip)
    for hit in index.search(QUERY, 100):
        said = [("first", 1, 12), ("then", 12, 50)] if hit.video == "video 3.mov" else []
        assert hit.text == " ".join(text for text, start, end in said if start < hit.end and end > hit.start)


def test_filters_keep_margin_and_zscore(clip, made):
    index = MomentIndex.open(made / ".vclip", clip)
    everything = index.search(QUERY, 100)
    for videos, keep in (("*[34].mov", "34"), (lambda video: video[6] in "05", "05"), ("nothing", "")):
        found, expected = index.search(QUERY, 100, videos), [hit for hit in everything if hit.video[6] in keep]
        assert [(h.video, h.start, h.end, h.zscore) for h in found] == [
            (h.video, h.start, h.end, h.zscore) for h in expected
        ]
        np.testing.assert_allclose([h.margin for h in found], [h.margin for h in expected], atol=1e-5)


def test_one_video_has_nothing_to_be_compared_with(clip, tmp_path):
    indexes.write(tmp_path / "fry [dQw4w9WgXcQ].mov", 5, 0)
    index = MomentIndex.build(clip, tmp_path)
    (hit, *others) = index.search(QUERY)
    assert not others and np.isnan(hit.margin) and np.isfinite(hit.zscore)
    assert len(index.search(QUERY, videos=hit.video)) == 1  # a name is not a pattern


@pytest.mark.parametrize("text, k", [("", 5), (" \n", 5), ("w1", 0)])
def test_a_search_for_nothing_is_refused(clip, made, text, k):
    with pytest.raises(ValueError, match="text with words"):
        MomentIndex.open(made / ".vclip", clip).search(text, k)


def test_half_a_character_in_a_query_is_shown_as_one(clip, made):
    index = MomentIndex.open(made / ".vclip", clip)
    hit = index.search("w3 \ud83d")[0]
    assert hit.query == "w3 \\ud83d" and len(index.explain(hit).scores)


def test_no_hit_outlasts_its_video(clip, tmp_path):
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8))
    write_video(tmp_path / "a.mov", range(0, 2500, 500), pictures)
    index = MomentIndex.build(clip, tmp_path)
    assert index.corpus.seconds.tolist() == [3] and [hit.end for hit in index.search(QUERY)] == [
        pytest.approx(2.5, abs=0.01)
    ]
    (tmp_path / "a.mov").rename(tmp_path / "b.mov")
    index.update()
    assert index.search(QUERY)[0].end == pytest.approx(2.5, abs=0.01)


def test_what_extract_made_is_searched_without_encoding_a_frame(made, tmp_path):
    encoder, clip = indexes.Quadrants(), indexes.clip()
    extract(made, tmp_path / "corpus", encoder)
    index, of_folder = MomentIndex.build(clip, tmp_path / "corpus"), MomentIndex.open(made / ".vclip", clip)
    assert encoder.calls == 6 and clip.encoder.calls == 0 and index.folders == [] and index.report == []
    found, expected = index.search(QUERY, 50), of_folder.search(QUERY, 50)
    assert same(found, [replace(hit, video=hit.video[:-4]) for hit in expected])
    assert [hit.text for hit in found] == [hit.text for hit in expected]
    assert index.file("video 3") == made / "video 3.mov"
    # the same by the corpus itself, and with another model beside the first
    assert MomentIndex.build(clip, Corpus.open(tmp_path / "corpus")).search(QUERY, 50) == found
    other = MomentIndex.build(indexes.clip(seed=1), tmp_path / "corpus")
    assert not same(other.search(QUERY, 50), found)
    assert MomentIndex.open(tmp_path / "corpus", clip).search(QUERY, 50) == found
    # more videos, encoded by `extract`
    indexes.write(tmp_path / "more/new.mov", 40, 9)
    extract(tmp_path / "more", tmp_path / "corpus", encoder)
    with pytest.raises(ValueError, match="corpus has changed since it was indexed: call MomentIndex.build again"):
        MomentIndex.open(tmp_path / "corpus", clip)
    index.update()
    assert len(index) == 7 and index.file("new") == tmp_path / "more/new.mov" and clip.encoder.calls == 0


def test_a_corpus_without_files_is_searched_too(tmp_path):
    corpus = corpora.make(tmp_path / "corpus", 5)
    clip = indexes.clip(video_feature_dim=corpora.DIM)
    index = MomentIndex.build(clip, corpus, tmp_path / "index")
    hits = index.search(QUERY)
    assert len(hits) > 4 and hits[0].text and hits[0].video in corpus and not (tmp_path / "corpus/index").exists()
    assert MomentIndex.open(tmp_path / "index", clip).search(QUERY) == hits
    with pytest.raises(FileNotFoundError, match="corpus does not say where the file of 'video 0' is"):
        index.file("video 0")
    with pytest.raises(FileNotFoundError, match="index holds no index by this model"):
        MomentIndex.open(tmp_path / "index", indexes.clip(seed=1, video_feature_dim=corpora.DIM))


def test_a_folder_of_npy_is_searched_from_elsewhere(clip, tmp_path):
    (tmp_path / "npy").mkdir()
    for i in range(3):
        np.save(tmp_path / f"npy/{i}.npy", np.random.default_rng(i).random((40, 12)).astype(np.float32))
    index = MomentIndex.build(clip, Corpus.open(tmp_path / "npy"), tmp_path / "index")
    assert {hit.video for hit in index.search(QUERY)} == {"0", "1", "2"}
    assert MomentIndex.open(tmp_path / "index", clip).search(QUERY) == index.search(QUERY)
    assert sorted(os.listdir(tmp_path / "npy")) == ["0.npy", "1.npy", "2.npy"]


def test_an_indexed_folder_is_trained_on(clip, tmp_path):
    folder = indexes.folder(tmp_path / "videos", (40,) * 6)
    cues = [f"00:{s:02d}.000 --> 00:{s + 4:02d}.000\nw{s} w{s + 1}\n" for s in range(0, 40, 4)]
    for video in folder.glob("*.mov"):
        video.with_suffix(".vtt").write_text("\n".join(["WEBVTT\n", *cues]))
    index = MomentIndex.build(clip, folder)
    before = index.search(QUERY, 50)
    assert len(Corpus.open(folder / ".vclip")) == 6 and Corpus.open(folder / ".vclip").captions(0).text[1] == "w4 w5"
    corpora.tokenizer().save_pretrained(tmp_path / "tokenizer")
    changes = {"corpus": str(folder / ".vclip"), "validation": None, "epochs": 1, "videos_per_batch": 4}
    config = corpora.pretrain_config(tmp_path, tmp_path / "run", **changes)
    assert np.isfinite(pretrain(config).losses).all()
    assert index.update() == [] and same(index.search(QUERY, 50), before)  # it is the same index still


def test_what_does_not_fit_is_refused(clip, made, tmp_path):
    path = made / ".vclip"
    spec = indexes.Quadrants().spec.__dict__
    with pytest.raises(FileNotFoundError, match="holds no index by this model: make one with MomentIndex.build"):
        MomentIndex.open(path, indexes.clip(seed=1))
    with pytest.raises(FileNotFoundError, match="holds no index by this model"):
        MomentIndex.open(path, indexes.clip(pooling="cls"))
    with pytest.raises(ValueError, match="size: 8 against 16"):
        MomentIndex.open(path, indexes.clip(feature_spec=spec | {"size": 16}))
    with pytest.raises(ValueError, match="another encoder's features .fps: 1 against 2"):
        MomentIndex.build(indexes.clip(indexes.Quadrants(fps=2)), made)
    wrong = indexes.clip(indexes.Quadrants(fps=2), feature_spec=spec)
    indexes.write(tmp_path / "a/a.mov", 3, 9)
    with pytest.raises(ValueError, match="fps: 2 against 1"):
        MomentIndex.build(wrong, tmp_path / "a")
    with pytest.raises(FileExistsError, match="something else"):
        MomentIndex.build(clip, made, made)
    with pytest.raises(FileNotFoundError, match="holds no index by this model: make one"):
        MomentIndex.open(tmp_path, clip)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        MomentIndex.build(clip, tmp_path / "none")


def test_no_vector_that_is_not_finite(made, tmp_path):
    clip = indexes.clip()
    words = next(p for name, p in clip.model.named_parameters() if "text" in name and "word_embeddings" in name)
    words.data[clip.processor.tokenizer.convert_tokens_to_ids("w3")] = np.nan
    index = MomentIndex.build(clip, made, tmp_path / "index")
    hits = index.search("w5")
    with pytest.raises(ValueError, match="NaN or infinity of the query 'w3': its weights are damaged"):
        index.search("w3")
    clip = indexes.clip()
    next(p for name, p in clip.model.named_parameters() if "video_mlp" in name).data.fill_(np.nan)
    with pytest.raises(ValueError, match="NaN or infinity of the features in .*features-.*: its weights are damaged"):
        MomentIndex.build(clip, made, tmp_path / "index")
    assert index.search("w5") == hits


def test_windows_of_a_model_that_takes_less(tmp_path):
    clip = indexes.clip(max_video_tokens=8, video_config=TOWER | {"max_position_embeddings": 10})
    indexes.folder(tmp_path, (30, 9))
    index = MomentIndex.build(clip, tmp_path)
    assert len(index._windows.video) == len(sliding_windows(30, 8, 4)) + len(sliding_windows(9, 8, 4))
    assert all(hit.end - hit.start <= 8 for hit in index.search(QUERY, 20))


def test_an_index_in_cells(clip, made, tmp_path, monkeypatch):
    folder = shutil.copytree(made, tmp_path / "videos")
    exact = MomentIndex.open(made / ".vclip", clip)
    monkeypatch.setattr("vclip.search.vectors.EXACT_UP_TO", 4)
    index = MomentIndex.build(clip, folder, tmp_path / "index")
    for video in ("*[0-4].mov", None):
        found, expected = (i.search(QUERY, 20, video) for i in (index, exact))
        assert sorted((h.video, h.start) for h in found) == sorted((h.video, h.start) for h in expected)
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], rel=2e-3)
    (folder / "video 5.mov").unlink()
    index.update()
    (file,) = (tmp_path / "index").rglob("*.faiss")
    again = MomentIndex.open(tmp_path / "index", clip)
    before = index.search(QUERY, 20)
    assert again.search(QUERY, 20) == before
    file.unlink()  # it is mapped
    file.write_bytes(b"something else")
    with pytest.raises(ValueError, match="is damaged .*: delete it and call MomentIndex.build again"):
        MomentIndex.open(tmp_path / "index", clip)
    shutil.rmtree(tmp_path / "index/index")
    assert index.update() == [] and same(index.search(QUERY, 20), before)
    monkeypatch.undo()
    indexes.write(folder / "video 6.mov", 4, 4)
    index.update()
    assert not [*(tmp_path / "index").rglob("cells-*")] and {h.video for h in index.search(QUERY, 50)} == {
        *index.videos
    }


def test_half_precision(made, tmp_path):
    clip = indexes.clip()
    clip.model.to(torch.bfloat16)
    index = MomentIndex.build(clip, made, tmp_path / "x")
    assert len(index.search(QUERY, 5)) == 5 and np.isfinite(index.explain(index.search(QUERY)[0]).scores).all()


def test_real_videos(clip, shared, tmp_path):
    folder = shutil.copytree(shared / "videos", tmp_path / "videos")
    index = MomentIndex.build(clip, folder)
    assert dict(zip(index.videos, index.corpus.seconds.tolist(), strict=True)) == {
        "gnome-launching-applications.webm": 34,
        "googlework_short.mp4": 35,
        "rabbit320.mp4": 8,
        "sam2-coffee.mp4": 10,
    }
    hits = index.search(QUERY, 100)
    assert {h.video for h in hits} == {*index.videos} and any(h.text for h in hits if h.video.startswith("gnome"))


def test_the_encoder_that_the_checkpoint_names(tmp_path):
    clip = load(minihowto() / "checkpoint")
    indexes.write(tmp_path / "a.mov", 2, 0)
    assert clip.index(tmp_path).search("chop the onion")[0].end == 2
    assert (tmp_path / ".vclip/projection.safetensors").is_file()


def test_features_at_another_rate_are_not_indexed(tmp_path, clip):
    np.save(tmp_path / "a.npy", np.ones((40, 12), np.float32))
    with pytest.raises(ValueError, match="is at another rate: call its export"):
        MomentIndex.build(clip, Corpus.open(tmp_path, rate=2), tmp_path / "index")
    assert len(MomentIndex.build(clip, Corpus.open(tmp_path, rate=1), tmp_path / "index")) == 1
    exported = Corpus.open(tmp_path, rate=2).export(tmp_path / "exported")
    assert MomentIndex.build(clip, Corpus.open(exported), tmp_path / "other").corpus.seconds.tolist() == [20]


def test_an_index_never_takes_over_an_extracted_corpus(tmp_path):
    for name in ("a", "b"):
        indexes.write(tmp_path / name / f"{name}.mov", 3, ord(name))
        extract(tmp_path / name, tmp_path / "corpus", indexes.Quadrants())
    with pytest.raises(FileExistsError, match="is a corpus that extract made"):
        MomentIndex.build(indexes.clip(), tmp_path / "a", tmp_path / "corpus")
    assert Corpus.open(tmp_path / "corpus").video_ids == ["a", "b"]


def test_a_query_of_unknown_words_is_refused_and_of_many_warned_of(clip, made):
    index = MomentIndex.open(made, clip)
    with pytest.raises(ValueError, match="knows no word of '洋葱': search in the language"):
        index.search("洋葱")
    for text, unknown in (("洋葱 w1", "2 of 3"), ("洋葱 w1 w2 w3", "2 of 5")):
        with pytest.warns(UserWarning, match=f"{unknown} tokens of '{text}' are unknown"):
            index.search(text, k=1)


def test_a_query_whose_end_is_cut_is_warned_of(clip, made):
    index, limit = MomentIndex.open(made, clip), clip.processor.max_text_tokens
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index.search(" ".join(["w1"] * limit), k=1)
    with pytest.warns(UserWarning, match="the model does not read its end, '...*w1 w2'"):
        index.search(" ".join(["w1"] * limit + ["w2"]), k=1)


def test_features_of_another_tool_are_copied_once_a_video(clip, tmp_path, monkeypatch):
    (tmp_path / "npy").mkdir()
    for i, n in enumerate((90, 40)):
        np.save(tmp_path / "npy" / f"v{i}.npy", np.random.default_rng(i).standard_normal((n, 12)).astype(np.float32))
    corpus = Corpus.open(tmp_path / "npy")
    read, features = [], Corpus.features
    monkeypatch.setattr(Corpus, "features", lambda self, i: read.append(int(i)) or features(self, i))
    MomentIndex.build(clip, corpus, tmp_path / "index")
    assert sorted(read) == [0, 1]


def test_an_h5_file_is_indexed_beside_it(clip, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for i, n in enumerate((40, 7)):
            file[f"v{i}"] = np.random.default_rng(i).standard_normal((n, 12)).astype(np.float32)
    index = clip.index(tmp_path / "f.h5")
    assert len(index) == 2 and (tmp_path / "f.h5.index").is_dir() and index.search("w1 w2", k=1)


def test_an_index_of_features_that_have_changed_is_not_opened(clip, tmp_path):
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "a.npy", np.ones((90, 12), np.float32))
    MomentIndex.build(clip, Corpus.open(tmp_path / "npy"), tmp_path / "index")
    np.save(tmp_path / "npy" / "a.npy", np.ones((40, 12), np.float32))
    with pytest.raises(ValueError, match="has changed since it was indexed"):
        MomentIndex.open(tmp_path / "index", clip)
