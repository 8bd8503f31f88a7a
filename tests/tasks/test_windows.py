import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vclip.models.config import VideoCLIPConfig
from vclip.models.videoclip import VideoCLIPModel
from vclip.tasks.windows import AT_ONCE, embed_seconds, merge_windows, sliding_windows

TOWER = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 2}


@pytest.fixture(scope="module")
def model() -> VideoCLIPModel:
    torch.manual_seed(0)
    tower = TOWER | {"vocab_size": 120}
    return VideoCLIPModel(VideoCLIPConfig(video_config=tower, text_config=tower, video_feature_dim=8)).train()


def loop_windows(n, size, step):
    windows, start = [], 0
    while n:
        windows.append((start, start + min(n - start, size)))
        if n - start <= size:
            break
        start += step
    return windows


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(1, 40), st.integers(1, 40))
def test_windows_equal_loop(n, size, step):
    step = min(step, size)
    assert sliding_windows(n, size, step) == loop_windows(n, size, step)


def test_windows_are_golden(shared):
    golden = json.loads((shared / "golden" / "metrics" / "sliding_window.json").read_text())
    for n, expected in golden["windows_start_and_valid_len"].items():
        got = [[start, end - start] for start, end in sliding_windows(int(n), golden["size"], golden["stride"])]
        assert got == expected
    assert sliding_windows(75) == [(0, 32), (16, 48), (32, 64), (48, 75)] and sliding_windows(0) == []


@pytest.mark.parametrize("arguments", [(-1,), (40, 32, 33), (40, 32, 0), (40, 0, 0)])
def test_windows_refuse(arguments):
    with pytest.raises(ValueError, match="1 <= step <= size"):
        sliding_windows(*arguments)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_merged_rows_are_golden(shared, kind):
    arrays = np.load(shared / "golden" / "metrics" / "sliding_window.npz", allow_pickle=False)
    lengths = [int(name[1:].split("_")[0]) for name in arrays if name.endswith("_merged")]
    assert len(lengths) == 12
    for n in lengths:
        merged = merge_windows(kind(arrays[f"T{n}_window_logits"]), sliding_windows(n))
        np.testing.assert_allclose(merged, arrays[f"T{n}_merged"], atol=1e-6)


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_merge_equals_loop(n, size, step, seed):
    windows = sliding_windows(n, size, min(step, size))
    rng = np.random.default_rng(seed)
    rows = [rng.standard_normal((end - start, 3)).astype(np.float32) for start, end in windows]
    expected = [
        np.mean([row[t - start] for row, (start, end) in zip(rows, windows, strict=True) if start <= t < end], axis=0)
        for t in range(n)
    ]
    np.testing.assert_allclose(merge_windows(rows, windows), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_merged_tensors_of_any_kind(dtype):
    rows, windows = torch.arange(36).reshape(2, 6, 3).to(dtype).requires_grad_(), [(0, 6), (3, 9)]
    expected = merge_windows(np.arange(36).reshape(2, 6, 3), windows)
    for blocks in (rows, list(rows)):
        np.testing.assert_array_equal(merge_windows(blocks, windows), expected)


@pytest.mark.parametrize(
    ("shapes", "windows", "error"),
    [
        ([], [], "at least one"),
        ([(4, 2)], [(0, 4), (2, 6)], "1 blocks of rows for 2 windows"),
        ([(4, 2), (3, 2)], [(0, 4), (2, 6)], "2 to 6 has only 3 rows"),
        ([(4, 2), (4, 2)], [(0, 4), (5, 9)], "second 4 is in no window"),
    ],
)
def test_merge_refuses(shapes, windows, error):
    with pytest.raises(ValueError, match=error):
        merge_windows([np.zeros(shape) for shape in shapes], windows)


def test_seconds_equal_one_window_at_a_time(model):
    rng = np.random.default_rng(0)
    lengths = [75, 0, 1, 32, 33, 75, 16 * AT_ONCE + 40]  # the last fills more than one batch
    clips = [rng.standard_normal((n, 8)).astype(np.float16) for n in lengths]
    got = embed_seconds(model, clips)
    assert [h_v.shape for h_v in got] == [(n, 16) for n in lengths] and model.training
    z = rng.standard_normal((16, 5)).astype(np.float32)
    model.eval()
    for clip, h_v in zip(clips[:-1], got[:-1], strict=True):
        logits = [np.zeros((0, 5))] * len(clip)
        for start, end in sliding_windows(len(clip)):
            rows = torch.from_numpy(clip[start:end]).float()[None]
            with torch.no_grad():
                states = model.get_video_features(rows, attend_cls=False).last_hidden_state[0]
            for t, logit in zip(range(start, end), states.numpy() @ z, strict=True):
                logits[t] = np.concatenate([logits[t], logit[None]])
        # the mean of the logits is the logit of the mean state
        for t, logit in enumerate(logits):
            np.testing.assert_allclose(h_v[t] @ z, logit.mean(axis=0), atol=2e-5)
    model.train()


def test_cls_is_hidden(model):
    clip = np.random.default_rng(1).standard_normal((9, 8)).astype(np.float32)
    with torch.no_grad():
        model.eval()
        hidden, seen = (
            model.get_video_features(torch.from_numpy(clip)[None], attend_cls=attend).last_hidden_state[0].numpy()
            for attend in (False, True)
        )
        model.train()
    (got,) = embed_seconds(model, [clip])
    np.testing.assert_allclose(got, hidden, atol=1e-5)
    assert np.abs(got - seen).max() > 1e-3


def test_smaller_windows_and_too_large_ones(model):
    clip = np.random.default_rng(2).standard_normal((40, 8)).astype(np.float32)
    (narrow,), (alone,) = embed_seconds(model, [clip], size=8, step=8), embed_seconds(model, [clip[8:16]])
    np.testing.assert_allclose(narrow[8:16], alone, atol=1e-5)
    with pytest.raises(ValueError, match="40 seconds in a clip, but max_video_tokens is 32"):
        embed_seconds(model, [clip], size=40)
