from dataclasses import dataclass

from vclip.tasks.report import Score


@dataclass(frozen=True, repr=False, kw_only=True)
class Hits(Score):
    hits: float
    rank: float


def test_numbers_stand_beside_chance():
    chance = Hits(hits=0.01, rank=50.5, n=100)
    score = Hits(hits=0.123456, rank=7, n=100, chance=chance)
    assert repr(score) == "Hits(hits 0.1235 (chance 0.01), rank 7 (chance 50.5), n 100)"
    assert repr(chance) == "Hits(hits 0.01, rank 50.5, n 100)"
    assert score.report() == {
        "scores": {"hits": 0.123456, "rank": 7},
        "baselines": {"chance": {"hits": 0.01, "rank": 50.5}},
        "n": 100,
    }
    assert chance.report()["baselines"] == {}
    assert score.report({"blind": chance.values()})["baselines"] == {
        "chance": chance.values(),
        "blind": chance.values(),
    }


@dataclass(frozen=True, repr=False, kw_only=True)
class Share(Score):
    share: float
    answers: list[int]
    chance: "float | None" = None


def test_a_single_number_and_what_is_no_number():
    score = Share(share=0.5, answers=[1, 0], n=2, chance=0.25)
    assert score.values() == {"share": 0.5} and repr(score) == "Share(share 0.5 (chance 0.25), n 2)"
    assert score.report() == {"scores": {"share": 0.5}, "baselines": {"chance": {"share": 0.25}}, "n": 2}
