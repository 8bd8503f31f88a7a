from dataclasses import dataclass

from vclip.tasks.scores import Score


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
        "floors": {"chance": {"hits": 0.01, "rank": 50.5}},
        "n": 100,
    }
    assert chance.report()["floors"] == {}
    assert score.report(blind=chance)["floors"] == {"chance": chance.values(), "blind": chance.values()}
