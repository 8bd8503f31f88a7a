"""An error is shown as two films with the query's curve; a clip on the map opens where it begins."""

import error_pictures
import numpy as np
import pandas as pd
import pytest
from shipped import made_set, thumbnails

import vclip


@pytest.fixture(scope="module")
def model():
    return vclip.load(vclip.minihowto() / "checkpoint")


@pytest.mark.parametrize("dataset", ["youcook2", "msrvtt"])
def test_an_error_is_two_films_with_the_querys_curve(dataset, model):
    records, corpus = made_set(dataset, "test")
    sought, first = records[0], records[9]
    row = {"sentence": sought.sentence, "video_id": sought.video_id, "top_video_id": first.video_id}
    if dataset == "youcook2":
        row |= {"start": sought.start, "top_start": first.start}
    files = {sought.video_id: vclip.minihowto() / "videos" / "test0000.mp4"} if dataset == "youcook2" else {}
    films = error_pictures.both_clips(pd.Series(row), records, corpus, model, thumbnails(dataset), files)
    for film, clip, name in zip(films, (sought, first), ("sought", "came first"), strict=True):
        place = corpus.index(clip.video_id)
        start, end = getattr(clip, "start", 0), getattr(clip, "end", None) or corpus.seconds[place]
        ((title, values),) = film.content["curves"]
        (band, spans), (_, steps) = film.content["bands"]
        scores = [
            h @ model.encode_texts([sought.sentence])[0] for h in model.encode_seconds([corpus.features(place)])[0]
        ]
        assert title == sought.sentence and np.allclose(values, scores, atol=1e-4)
        assert band == name and spans[0] == (clip.sentence, start, end)
        assert len(steps) == sum(other.video_id == clip.video_id for other in records)
        assert film.content["start"] == start and film.content["times"]
        assert (film.content["video"] is None) == (clip.video_id not in files)


def test_a_clip_on_the_map_opens_where_it_begins():
    records, corpus = made_set("youcook2", "test")
    clips, z_v = [records[i] for i in (3, 1, 2)], np.random.default_rng(0).normal(size=(3, 8))
    drawn = error_pictures.clip_map(z_v, ["stir", "fry", "stir"], clips, corpus, thumbnails(), {})
    assert [group for *_, group in drawn._points.content["points"]] == [1, 0, 1]  # in alphabetical order
    assert drawn._points.content["titles"] == [clip.sentence for clip in clips]
    for action in ("picture", "open"):
        drawn._answer(None, {"id": "q", "action": action, "values": {"i": 0}}, [])
    assert drawn.children[1].content["start"] == records[3].start
