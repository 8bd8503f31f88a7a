from dataclasses import replace

import pytest
from within import r1_within

import vclip
from vclip.datasets import youcook2


def test_r1_within_a_class_equals_the_loop():
    """Two sentences of one clip, a clip alone in its class and one of no class included."""
    folder = vclip.minihowto()
    clip, corpus = vclip.load(folder / "checkpoint"), vclip.Corpus.open(folder / "val")
    records = [*youcook2.load(folder / "youcook2" / "val")][:60]
    records.append(replace(records[0], sentence="chop it all up"))
    of = {record.video_id: "abcd"[i % 4] for i, record in enumerate(records)}
    of[records[-2].video_id] = None

    def class_of(record):
        return of[record.video_id] if record.video_id != records[8].video_id else (record.video_id, record.start)

    found = r1_within(clip, records, corpus, {"letter": class_of})
    z_t = clip.encode_texts([record.sentence for record in records])
    z_v = clip.encode_clips([corpus.features(corpus.index(r.video_id))[int(r.start) : int(r.end)] for r in records])
    spans = [(r.video_id, r.start) for r in records]
    for name, label in (("all", lambda record: 0), ("letter", class_of)):
        hits, chance = [], []
        for i, record in enumerate(records):
            rivals = {s: j for j, s in reversed([*enumerate(spans)]) if label(records[j]) == label(record)}
            if label(record) is None or len(rivals) == 1:
                continue
            best = max(float(z_t[i] @ z_v[j]) for s, j in rivals.items() if s != spans[i])
            hits.append(float(z_t[i] @ z_v[i]) > best)
            chance.append(1 / len(rivals))
        row = found.loc[name]
        assert row["n"] == len(hits)
        assert (row["r1"], row["chance"]) == pytest.approx((sum(hits) / len(hits), sum(chance) / len(chance)))
    assert found.loc["letter", "n"] < 61 == found.loc["all", "n"]
    assert found.loc["letter", "r1"] > found.loc["all", "r1"] > 0


def test_youcook2s_recipes_are_the_classes_unless_named():
    folder = vclip.minihowto()
    clip, corpus = vclip.load(folder / "checkpoint"), vclip.Corpus.open(folder / "val")
    records = youcook2.load(folder / "youcook2" / "val")
    assert r1_within(clip, records, corpus).equals(
        r1_within(clip, records, corpus, {"recipe": lambda r: r.recipe_type})
    )
    unknown = [replace(record, recipe_type=None) for record in records]
    assert r1_within(clip, unknown, corpus).loc["recipe", "n"] == 0
