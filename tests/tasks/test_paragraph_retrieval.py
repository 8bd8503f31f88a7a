import json

import numpy as np

import vclip
from vclip.data.corpus import Corpus
from vclip.datasets import didemo
from vclip.datasets.didemo import Description
from vclip.tasks.retrieval import Paragraph, paragraphs, score, text_to_video


def test_descriptions_are_joined_in_the_order_of_the_file():
    said = [("b", "one"), ("a", "two "), ("b", "three"), ("a", "four"), ("b", "one")]
    got = paragraphs([Description(video_id, text, ((0, 0),)) for video_id, text in said])
    assert got == [Paragraph("b", "one three one", 3), Paragraph("a", "two  four", 2)]


def test_real_counts(shared):
    got = paragraphs(didemo.load(shared / "annotations" / "didemo", "val"))
    assert len(got) == 1094 and sum(p.descriptions for p in got) == 4180


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
    assert report.examples["descriptions"].tolist() == [1] * 3 + [2] * 3 + [1] * 8
    np.testing.assert_allclose(report.examples["similarity"], np.diag(similarity), atol=1e-6)
    # a video is its first 32 seconds, not those that a description names
    clip = features.features(features.index(rows[0]["video"]))[:32].astype(np.float32)
    z_v = zero_shot.clip.encode_clips([clip])[0]
    z_t = zero_shot.clip.encode_texts([rows[0]["description"]])[0]
    np.testing.assert_allclose(report.examples["similarity"][0], z_t @ z_v, atol=2e-5)
