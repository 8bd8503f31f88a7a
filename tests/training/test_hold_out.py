"""The videos held out of a training split: how many, of which strata, and that every label stays trained."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclip.datasets._records import Dataset
from vclip.training.finetune import hold_out


@dataclass(frozen=True)
class Record:
    video_id: str
    stratum: int
    labels: tuple[int, ...] = ()


def traits(record: Record):
    return record.stratum, record.labels


def made(records) -> Dataset:
    return Dataset("Made", "train", records, ("retrieval",), ["gone"])


records = st.lists(
    st.builds(Record, st.sampled_from([f"v{i}" for i in range(30)]), st.integers(0, 3), st.tuples(st.integers(0, 5))),
    min_size=2,
    max_size=60,
)


@given(records, st.floats(0.05, 0.95), st.integers(0, 5))
def test_no_video_is_in_both_parts_and_no_label_goes_untrained(records, share, seed):
    dataset = made(records)
    try:
        kept, held = hold_out(dataset, share, seed, traits)
    except ValueError as error:
        assert "no video can be held out" in str(error)
        # then each video has a label that no other shows
        for video_id in dataset.video_ids:
            others = {label for r in records if r.video_id != video_id for label in r.labels}
            assert (
                len(dataset.video_ids) == 1
                or not {label for r in records if r.video_id == video_id for label in r.labels} <= others
            )
        return
    assert not set(kept.video_ids) & set(held.video_ids)
    assert sorted(map(repr, [*kept, *held])) == sorted(map(repr, records))
    assert {label for r in records for label in r.labels} == {label for r in kept for label in r.labels}
    assert 1 <= len(held.video_ids) <= max(1, round(share * len(dataset.video_ids)))
    again = hold_out(dataset, share, seed, traits)
    assert [list(part) for part in again] == [list(kept), list(held)]


def test_the_share_is_taken_of_each_stratum():
    sizes = {0: 40, 1: 20, 2: 10, 3: 3}
    dataset = made([Record(f"{s} {i}", s) for s, n in sizes.items() for i in range(n)])
    drawn = [Counter(r.stratum for r in hold_out(dataset, 0.2, seed, traits)[1]) for seed in range(20)]
    for held in drawn:
        assert sum(held.values()) == round(0.2 * 73)
        assert all(abs(held[s] - 0.2 * n) <= 1 for s, n in sizes.items())
    parts = [{r.video_id for r in hold_out(dataset, 0.2, seed, traits)[1]} for seed in range(20)]
    assert len({frozenset(part) for part in parts}) == 20


def test_parts_say_what_they_are_and_the_whole_is_left_alone():
    dataset = made([Record(f"v{i}", 0) for i in range(10)])
    kept, held = hold_out(dataset, 0.3, 0, traits)
    assert (len(dataset), len(kept), len(held)) == (10, 7, 3)
    assert repr(held) == "Made train, held out: 3 records of 3 videos" and repr(kept).startswith("Made train: 7")


def test_videos_of_a_label_each_cannot_be_held_out():
    with pytest.raises(ValueError, match="each has a label that no other shows: give `validation`"):
        hold_out(made([Record(f"v{i}", 0, (i,)) for i in range(5)]), 0.2, 0, traits)
