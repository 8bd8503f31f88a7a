"""A clip is the mean of its seconds; an index holds every second; tasks run."""

import indexes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from videos import write_video

import vclip
from vclip.datasets import coin, crosstask, didemo, msrvtt, youcook2
from vclip.models.hub import MeanPooled, unit


def clip_of(encoder=None) -> MeanPooled:
    """Texts are colours: "red" is (1, 0, 0), four times."""
    colours = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}

    def embed_texts(texts):
        return np.array([colours.get(text, (1, 1, 1)) * 4 for text in texts], np.float32)

    return MeanPooled("colours", encoder or indexes.Quadrants(), embed_texts, {"texts": "colours"})


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_a_clip_is_the_mean_of_its_unit_seconds(lengths):
    rng, clip = np.random.default_rng(0), clip_of()
    clips = [rng.standard_normal((n, 12)).astype(np.float32) for n in lengths]
    z_v = clip.encode_clips(clips)
    for row, features in zip(z_v, clips, strict=True):
        total = np.zeros(12)
        for second in features.astype(float):
            total += second / np.linalg.norm(second)
        expected = total / np.linalg.norm(total) if len(features) else total
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_seconds_are_unit_vectors_and_moments_the_first_half_minute():
    features = np.random.default_rng(0).standard_normal((40, 12)).astype(np.float32)
    clip = clip_of()
    (h_v,) = clip.encode_seconds([features])
    np.testing.assert_allclose(np.linalg.norm(h_v, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(clip.encode_seconds([features], moments=True)[0], h_v[:32])


def colours(path, *seconds: tuple[str, int]) -> None:
    """A video of one colour after another."""
    shown = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
    pictures = [np.full((8, 8, 3), shown[name], np.uint8) for name, n in seconds for _ in range(n)]
    write_video(path, range(0, 1000 * len(pictures), 1000), pictures)


def test_an_index_holds_every_second_and_a_hit_is_the_run_around_it(tmp_path):
    colours(tmp_path / "a.mov", ("green", 6), ("red", 4), ("green", 6))
    colours(tmp_path / "b.mov", ("blue", 8))
    index = clip_of().index(tmp_path)
    assert index._windows is not None and len(index._windows.video) == 16 + 8
    hit = index.search("red", k=1)[0]
    assert (hit.video, hit.start, hit.end) == ("a.mov", 6, 10)
    hits = index.search("green", k=2)
    assert {(h.start, h.end) for h in hits} == {(0, 6), (10, 16)}
    assert hits[0].score == pytest.approx(index.explain(hits[0]).scores[int(hits[0].start)], abs=1e-5)


SETS = {
    "retrieval": (youcook2, {}),
    "videoqa": (msrvtt, {"split": "multiple_choice"}),
    "segmentation": (coin, {}),
    "localization": (crosstask, {"n_train": 0}),
    "moment_retrieval": (didemo, {}),
    "paragraph_retrieval": (didemo, {}),
}


@pytest.mark.parametrize("task", SETS)
def test_a_task_takes_it_and_texts_that_mean_nothing_score_about_chance(task):
    reader, options = SETS[task]
    name, corpus = reader.__name__.rpartition(".")[2], vclip.Corpus.open(vclip.minihowto() / "test")
    dataset = reader.load(vclip.minihowto() / name / "test", **options)
    if not set(dataset.video_ids) & set(corpus.video_ids):
        corpus = vclip.Corpus.open(vclip.minihowto() / name / "test" / "features")
    assert corpus.spec is not None

    class Stored:
        spec = corpus.spec

    def embed_texts(texts):
        return np.random.default_rng(0).standard_normal((len(texts), 128)).astype(np.float32)

    report = vclip.evaluate(MeanPooled("random", Stored(), embed_texts, {}), dataset, corpus, task)
    assert report.n > 0 and report.baselines
    score = {"videoqa": "accuracy", "segmentation": "mean_recall", "localization": "recall"}.get(task, "r1")
    score = "rank1" if task == "moment_retrieval" else score
    assert 0 <= report.scores[score] < 0.45


def test_a_row_of_zeros_stays():
    assert unit(np.zeros((1, 3))).tolist() == [[0, 0, 0]]
