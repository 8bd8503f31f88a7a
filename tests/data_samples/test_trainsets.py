"""The training sets in other formats: rebuilt as they ship, cut from training videos, nothing of what is scored."""

import json
import sys
from collections import Counter

import make
import numpy as np
import pytest
import tables
import testsets
import trainsets
from shipped import evaluation_sets, training_set
from vocabulary import ACTIONS, THINGS
from world import SIZES, held_out_pairs, plans

from vclip.data.corpus import Corpus
from vclip.datasets import msrvtt, youcook2

TRAINED = ("youcook2", "msrvtt", "coin", "crosstask")


@pytest.fixture(scope="module")
def rebuilt(minihowto, tmp_path_factory):
    """The folder that ships without the two sets, after `make.py --missing`."""
    out = tmp_path_factory.mktemp("minihowto")
    for folder in (".", "msrvtt"):
        (out / folder).mkdir(exist_ok=True)
        for path in (minihowto / folder).iterdir():
            if path.name not in ("youcook2", "msrvtt") and path != minihowto / "msrvtt" / "train":
                (out / folder / path.name).symlink_to(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["make.py", "--missing", "--out", str(out)])
        make.main()
    return out


def test_rebuilding_gives_the_shipped_files(minihowto, rebuilt):
    for folder in ("youcook2/train", "msrvtt/train"):
        files = sorted(f.relative_to(rebuilt) for f in (rebuilt / folder).rglob("*") if f.is_file())
        assert files == sorted(f.relative_to(minihowto) for f in (minihowto / folder).rglob("*") if f.is_file())
        for name in files:
            if name.suffix != ".parquet":  # which names the version of its writer
                assert (rebuilt / name).read_bytes() == (minihowto / name).read_bytes()
    made, shipped = (Corpus.open(folder / "msrvtt" / "train" / "features") for folder in (rebuilt, minihowto))
    assert (made.video_ids, made.spec, made.licence) == (shipped.video_ids, shipped.spec, shipped.licence)
    assert made.seconds.tolist() == shipped.seconds.tolist() and len(made.caption_start) == 0


def test_the_writer_leaves_the_sets_for_evaluation_as_they_were(minihowto, tmp_path):
    for split in ("val", "test", "unseen"):
        tables.write_youcook2(plans(split), tmp_path / split)
        made = (tmp_path / split / youcook2.FILE).read_bytes()
        assert made == (minihowto / "youcook2" / split / youcook2.FILE).read_bytes()


def test_the_sets_are_small(minihowto):
    assert (minihowto / "youcook2" / "train" / youcook2.FILE).stat().st_size < 300e3
    assert sum(f.stat().st_size for f in (minihowto / "msrvtt" / "train").rglob("*") if f.is_file()) < 800e3


def test_youcook2s_clips_are_the_steps_of_all_training_videos(minihowto):
    clips, steps = youcook2.load(minihowto / "youcook2" / "train", "training"), []
    for plan in plans("train"):
        steps += [(plan.video_id, i, step.start, step.end) for i, step in enumerate(plan.steps)]
    assert [(clip.video_id, clip.index, clip.start, clip.end) for clip in clips] == steps
    assert len(clips.video_ids) == SIZES["train"]


def test_msrvtts_clips_are_cut_from_as_many_training_videos(minihowto):
    folder = minihowto / "msrvtt" / "train"
    corpus, source = Corpus.open(folder / "features"), Corpus.open(minihowto / "train")
    rows = json.loads((folder / msrvtt.CAPTIONS).read_text(encoding="utf-8"))["videos"]
    assert [row["video_id"] for row in rows] == corpus.video_ids == [f"video{i}" for i in range(240)]
    assert len({row["url"] for row in rows}) == 240
    planned = {plan.video_id: plan for plan in plans("train")}
    pairs = []
    for i, row in enumerate(rows):
        start, end = int(row["start time"]), int(row["end time"])
        assert 7 <= end - start <= 12
        whole = source.features(source.index(row["url"]))
        np.testing.assert_array_equal(corpus.features(i), whole[start:end])
        assert len(corpus.features(i)) == end - start
        (step,) = [s for s in planned[row["url"]].steps if s.start < end and s.end > start]
        assert start <= step.start and step.end <= end
        pairs.append((step.action, step.thing))
    assert len(set(pairs)) == 240
    for part, names in enumerate((ACTIONS, THINGS)):
        counts = Counter(pair[part] for pair in pairs)
        assert counts.keys() == set(names) and max(counts.values()) <= 4 * min(counts.values())


def test_every_sentence_of_a_clip_is_another_and_names_its_step(minihowto):
    clips = msrvtt.load(minihowto / "msrvtt" / "train", "train")
    told = {video_id: [clip.sentence for clip in clips if clip.video_id == video_id] for video_id in clips.video_ids}
    assert not clips.left_out and {len(set(texts)) for texts in told.values()} == {5} and len(clips) == 1200
    for cut in trainsets.cuts():
        for text in told[cut.video_id]:
            assert text.startswith(("someone is ", "a person is ", "a cook is ", "a man is ", "a woman is "))
            assert any(f" {ing} the " in text for _, ing in ACTIONS[cut.step.action].verbs)
            assert any(f" the {name}" in text for name in THINGS[cut.step.thing][1])
            if text.startswith(("a man", "a woman")):
                assert text.split()[1] == cut.plan.presenter.split("-")[0]


def test_no_other_style_is_trained_on_and_held_out_pairs_where_the_card_says_so():
    shown = {(step.action, step.thing) for plan in plans("train") for step in plan.steps}
    assert not shown & held_out_pairs()
    assert {plan.style for plan in plans("train")} == {"noto"}
    for dataset, part in (("coin", "training"), ("crosstask", "test")):
        ids = set(training_set(dataset)[0].video_ids)
        chosen = [plan for plan in testsets.plans(dataset, "test") if plan.video_id in ids]
        assert len(chosen) == len(ids) and {(plan.style, plan.split) for plan in chosen} == {("noto", part)}
        # their labels must be learnt, so a few of their steps are held-out pairs, as the card says
        assert len({(s.action, s.thing) for plan in chosen for s in plan.steps} & held_out_pairs()) == 3


@pytest.mark.parametrize("dataset", TRAINED)
def test_no_video_is_trained_on_and_scored(minihowto, dataset):
    records, corpus = training_set(dataset)
    scored = evaluation_sets(dataset, excluding=records)
    assert not records.missing(corpus)
    for found, features in scored.values():
        assert found.video_ids and not found.missing(features)
        assert not set(found.video_ids) & set(records.video_ids)
    # nor is it another's under a new name: no second of it is a second of a scored one
    seconds = {row.tobytes() for v in records.video_ids for row in corpus.features(corpus.index(v))}
    for found, features in scored.values():
        rows = [row.tobytes() for v in found.video_ids for row in features.features(features.index(v))]
        assert not seconds & set(rows)
