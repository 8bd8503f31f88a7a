import json

import numpy as np

import vclip
from vclip.data.corpus import Corpus
from vclip.datasets import didemo
from vclip.datasets.didemo import Description
from vclip.datasets.msrvtt import Clip
from vclip.tasks.retrieval import paragraphs, score, text_to_video


def test_descriptions_are_joined_in_the_order_of_the_file():
    said = [("b", "one"), ("a", "two "), ("b", "three"), ("a", "four"), ("b", "one")]
    got = paragraphs([Description(video_id, text, ((0, 0),)) for video_id, text in said])
    assert got == [Clip("b", "one three one"), Clip("a", "two  four")]


def test_real_counts(shared):
    records = didemo.load(shared / "annotations" / "didemo", "val")
    assert (len(paragraphs(records)), len(records)) == (1094, 4180)


def test_it_is_retrieval_of_whole_videos_by_paragraphs(zero_shot, tmp_path):
    rows = json.loads((zero_shot.folder / "didemo" / "test_data.json").read_text())
    rows += [row | {"description": "w1 w2"} for row in rows[3:6]] + [rows[0] | {"video": "gone"}]
    (tmp_path / "test_data.json").write_text(json.dumps(rows))
    dataset, features = didemo.load(tmp_path), Corpus.open(zero_shot.features)
    report = vclip.evaluate(zero_shot.clip, dataset, features, "paragraph_retrieval")
    similarity, found = text_to_video(zero_shot.clip, paragraphs(dataset), features)
    assert len(found) == report.n == 14 and report.unit == "paragraphs"
    expected = {"videos": 14, "of": 15, "missing": ["gone"], "records": 17, "of_records": 18}
    assert report.coverage == expected | {"seconds": 0, "of_seconds": 0, "short": {}}
    expected = score(similarity)
    assert report.scores == expected.values() and report.baselines == {"chance": expected.chance.values()}
    assert report.examples["sentence"][3] == f"{rows[3]['description']} w1 w2"
    np.testing.assert_allclose(report.examples["similarity"], np.diag(similarity), atol=1e-6)
    # a video is its first 32 seconds, not those that a description names
    clip = features.features(features.index(rows[0]["video"]))[:32].astype(np.float32)
    z_v = zero_shot.clip.encode_clips([clip])[0]
    z_t = zero_shot.clip.encode_texts([rows[0]["description"]])[0]
    np.testing.assert_allclose(report.examples["similarity"][0], z_t @ z_v, atol=2e-5)
