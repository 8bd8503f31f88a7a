"""ConSE against a plain loop."""

import numpy as np
import torch

from vclip.encoders.networks import TOP, ConSE, EfficientNetLite0


def test_a_frame_is_the_weighted_mean_of_its_likeliest_classes_names():
    rng = np.random.default_rng(0)
    encoder, plain = ConSE(fps=2, size=64), EfficientNetLite0(fps=2, size=64)
    frames = rng.integers(0, 256, (3, 2, 64, 64, 3), dtype=np.uint8)
    names = encoder.embed_texts(encoder.class_names)
    with torch.inference_mode():
        pixels = (torch.from_numpy(frames).flatten(0, 1).permute(0, 3, 1, 2).float() - 127) / 128
        likely = plain.network(pixels).softmax(1).numpy().reshape(3, 2, 1000)
    for second, probabilities in zip(encoder(frames), likely, strict=True):
        expected = np.zeros(384)
        for p in probabilities:
            best = np.argsort(-p)[:TOP]
            expected += sum(p[i] * names[i] for i in best) / sum(p[i] for i in best) / 2
        np.testing.assert_allclose(second, expected, atol=1e-5)


def test_each_class_has_a_name():
    names = ConSE().class_names
    assert (len(names), names[0], names[504], names[999]) == (1000, "tench", "coffee mug", "toilet paper")
