import math

import pytest
import torch
from ablations.mass import on_other_videos
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 3.0), st.lists(st.integers(0, 3), min_size=1, max_size=7))
def test_mass_on_other_videos_equals_the_loop(seed, temperature, video):
    draw = torch.Generator().manual_seed(seed)
    z_v, z_t = torch.randn(2, len(video), 5, generator=draw, dtype=torch.float64)
    masses = []
    for a, b in ((z_v, z_t), (z_t, z_v)):
        for i in range(len(video)):
            weights = [math.exp(float(a[i] @ other) / temperature) for other in b]
            masses.append(sum(w for w, v in zip(weights, video, strict=True) if v != video[i]) / sum(weights))
    expected = sum(masses) / len(masses)
    assert on_other_videos(z_v, z_t, torch.tensor(video), temperature) == pytest.approx(expected, abs=1e-6)
