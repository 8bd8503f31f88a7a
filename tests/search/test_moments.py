import indexes
import numpy as np
import pytest

from vclip.search.identity import embed_each_second
from vclip.search.index import MomentIndex
from vclip.search.windows import moments, seconds_of


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> MomentIndex:
    folder = indexes.folder(tmp_path_factory.mktemp("runs") / "videos", (50, 20))
    return MomentIndex.build(indexes.model(), indexes.processor(), folder, indexes.Quadrants())


def test_windows_are_looked_into_as_they_are_wanted(index):
    z_t, windows, asked = index._z_t("w3"), index._load(), []
    ranked = (asked.append(w) or (w, score) for w, score in windows.ranked(z_t))
    found = moments(index.model, index._store, windows, ranked, z_t)
    assert not asked
    (video, start, end, score), *others = found
    assert len(asked) == len(windows) == 4 and score == next(windows.ranked(z_t))[1]
    assert all(v != video or e <= start or end <= s for v, s, e, _ in others)
    assert list(moments(index.model, index._store, windows, iter([]), z_t)) == []


def test_a_video_of_which_no_number_comes_is_named(index):
    entries = index._store.entries
    clips = [np.array(index._store.features(entry)) for entry in entries]
    for found, expected in zip(
        seconds_of(index.model, entries, clips), embed_each_second(index.model, clips), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    clips[1][3, 2] = np.nan
    with pytest.raises(
        ValueError, match=r"NaN or infinity of 'video 1.mov': .* features-00000.*remove that file and call update\(\)"
    ):
        seconds_of(index.model, entries, clips)
