"""What the notebooks of the tasks show: tables of scores, what a sentence says, two frames of an action."""

import numpy as np
import pandas as pd
import pytest
from lectures import counts_table, said, score_table, shared_clip, shared_step, two_frames

from vclip import plots
from vclip.tasks.report import Report


def report(r1: float, **baselines: float) -> Report:
    values = {name: {"r1": value} for name, value in baselines.items()}
    coverage = {"videos": 1, "of": 1, "missing": [], "records": 1, "of_records": 1}
    return Report("retrieval", {"r1": r1, "median_rank": 3.0}, values, 479, "texts", pd.DataFrame(), coverage)


def test_a_table_of_sets_is_in_per_cent_and_chance_has_its_colour():
    table = score_table({"<b>": report(0.653, chance=0.002), "coin": {"eq6": report(0.5), "margin": report(0.7)}})
    assert table.data.index.tolist() == [("<b>", "model"), ("<b>", "chance"), ("coin", "eq6"), ("coin", "margin")]
    html = table.to_html(uuid="t")
    assert "&lt;b&gt;" in html and "<b>" not in html
    assert ">65.3</td>" in html and ">3.0</td>" in html and ">479</td>" in html and ">–</td>" in html
    assert ">R@1 %</th>" in html and ">median rank</th>" in html
    style = html[: html.index("</style>")]
    assert plots.CHANCE in style and "#T_t_row1_col0" in style and "#T_t_row0_col0" not in style


def test_a_table_of_counts_rounds_each_column_its_way_and_greys_the_baseline():
    rows = {"<b>": {"same thing %": 55.24}, "any two": {"same thing %": 28.9, "cosine": 0.126, "n (pairs)": 7140}}
    html = counts_table(rows).to_html(uuid="t")
    assert all(f">{cell}</td>" in html for cell in ("55.2", "–", "28.9", "0.13", "7140"))
    style = html[: html.index("</style>")]
    assert plots.CHANCE in style and "#T_t_row1_col0" in style and "#T_t_row0_col0" not in style


def test_the_shared_step_is_the_one_whose_thing_most_others_show():
    steps = [("peel the egg", 0, 4), ("stir the soup", 5, 9), ("fry the fish", 9, 12)]
    others = [{"soup", "pan"}, {"egg", "soup"}, {"tea"}]
    assert shared_step(steps, ["egg", "soup", "fish"], others) == steps[1]


def test_the_shared_clip_is_like_a_clip_of_every_other_video():
    clips = np.random.default_rng(0).normal(size=(4, 5, 8))
    unit = clips - clips.reshape(-1, 8).mean(axis=0)
    cosine = [[[max(a @ b / np.sqrt(a @ a * (b @ b)) for b in unit[j]) for j in (1, 3)] for a in own] for own in unit]
    assert shared_clip(clips, 2, [1, 3]) == int(np.argmax([sum(of) for of in cosine[2]]))


@pytest.mark.parametrize(
    ("sentence", "meaning"),
    [
        ("a cook is dicing the aubergine", ("chop", "eggplant")),
        ("a man is scooping out the teapot little by little", ("scoop", "teapot")),
        ("someone is frying the hot pepper in the pan", ("fry", "chili")),
        ("a person is tossing the hot dog", ("flip", "hot dog")),
    ],
)
def test_a_sentence_names_an_action_and_a_thing(sentence, meaning):
    assert said(sentence) == meaning


def test_two_frames_of_an_action_differ():
    for style in ("test", "unseen"):
        early, late = two_frames("chop", style)
        assert early.shape == late.shape == (96, 96, 3) and np.abs(early.astype(int) - late).mean() > 1
