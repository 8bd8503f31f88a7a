import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vclip.models.windows import merge_windows, sliding_windows


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


def test_merge_refuses_another_number_of_blocks():
    with pytest.raises(ValueError, match="longer"):
        merge_windows([np.zeros((4, 2))], [(0, 4), (2, 6)])
