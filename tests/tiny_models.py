"""Tiny models of other libraries, of random weights: a folder each, as a hub's download leaves it."""

import json
from pathlib import Path
from types import ModuleType

import torch

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
IMAGES = {"image_size": 32, "patch_size": 8}
HALF = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
SIDE = {"height": 32, "width": 32}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (*SPECIAL, "a", "photo", "of", "the", "cat", "fry", "red", "onion", "cup")


def letters(library: ModuleType):
    """A CLIP tokenizer of single letters."""
    signs = [chr(code) for code in range(33, 127)]
    vocabulary = {sign: i for i, sign in enumerate([*signs, *(f"{sign}</w>" for sign in signs)])}
    vocabulary |= {"<|startoftext|>": len(vocabulary), "<|endoftext|>": len(vocabulary) + 1}
    return library.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def words(library: ModuleType, **options):
    return library.BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}, model_max_length=64, **options)


def tiny(family: str, folder: Path) -> str:
    """Write a model of a family; returns its folder, as `vclip.load` takes it."""
    import transformers as library

    torch.manual_seed(0)
    model, processor = {"clip": _clip, "metaclip2": _clip, "siglip": _siglip, "siglip2": _siglip2, "xclip": _xclip,
                        "videoprism": _videoprism, "bert": _bert, "vit": _vit, "qwen3-vl": _qwen3_vl,
                        "embeddinggemma2": _embeddinggemma2}[family](library, family)  # fmt: skip
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if family == "videoprism":  # its video processor itself wants torchvision
        values = {"size": SIDE, "do_normalize": False, "rescale_factor": 1 / 255}
        (folder / "video_preprocessor_config.json").write_text(json.dumps(values))
    return str(folder)


def _clip(library, family: str):
    tokenizer = letters(library)
    text = {"vocab_size": len(tokenizer), "projection_dim": 16, "bos_token_id": 188, "eos_token_id": 189}
    sizes = {"text_config": SMALL | text, "vision_config": SMALL | IMAGES | {"projection_dim": 16}}
    config, model = {
        "clip": (library.CLIPConfig, library.CLIPModel),
        "metaclip2": (library.MetaClip2Config, library.MetaClip2Model),
    }[family]
    pictures = library.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIDE, **HALF)
    return model(config(**sizes, projection_dim=16)), library.CLIPProcessor(pictures, tokenizer)


def _siglip(library, _):
    text = SMALL | {"vocab_size": 99, "projection_size": 32, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    model = library.SiglipModel(library.SiglipConfig(text_config=text, vision_config=SMALL | IMAGES))
    return model, library.SiglipProcessor(library.SiglipImageProcessorPil(size=SIDE, **HALF), words(library))


def _siglip2(library, _):
    text = SMALL | {"vocab_size": 99, "projection_size": 32, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    vision = SMALL | {"patch_size": 8, "num_patches": 16}
    pictures = library.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16, **HALF)
    model = library.Siglip2Model(library.Siglip2Config(text_config=text, vision_config=vision))
    return model, library.Siglip2Processor(pictures, words(library))


def _xclip(library, _):
    tokenizer = letters(library)
    mixer = {"mit_hidden_size": 16, "mit_intermediate_size": 64, "mit_num_hidden_layers": 1}
    config = library.XCLIPConfig(
        text_config=SMALL | {"vocab_size": len(tokenizer), "bos_token_id": 188, "eos_token_id": 189},
        vision_config=SMALL | IMAGES | mixer | {"num_frames": 4, "mit_num_attention_heads": 2},
        projection_dim=16, prompt_layers=1, prompt_num_attention_heads=2,
    )  # fmt: skip
    pictures = library.VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIDE, **HALF)
    return library.XCLIPModel(config), library.XCLIPProcessor(pictures, tokenizer)


def _videoprism(library, _):
    vision = {"image_size": 32, "num_frames": 4, "tubelet_size": [1, 8, 8], "num_spatial_layers": 2}
    vision |= {"num_temporal_layers": 1, "num_auxiliary_layers": 1}
    text = SMALL | {"vocab_size": 99, "max_position_embeddings": 64}
    config = library.VideoPrismConfig(text_config=text, vision_config=SMALL | vision)
    return library.VideoPrismClipModel(config), words(library)


def _bert(library, _):
    return library.BertModel(library.BertConfig(**SMALL, vocab_size=99)), words(library)


def _vit(library, _):
    return library.ViTModel(library.ViTConfig(**SMALL, **IMAGES)), library.ViTImageProcessorPil(size=SIDE, **HALF)


def known(library: ModuleType, special: list[str], **options):
    """A tokenizer of whole words that calls its first special tokens padding, end and unknown."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    signs = [*special, *WORDS[len(SPECIAL) :], "find", *":.<>0123"]
    tokens = Tokenizer(models.WordLevel({sign: i for i, sign in enumerate(signs)}, unk_token=special[2]))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    named = dict(zip(("pad_token", "eos_token", "unk_token"), special, strict=False))
    return library.PreTrainedTokenizerFast(tokenizer_object=tokens, model_max_length=2048, **named, **options)


CHAT = (  # as Qwen's: a user's message of pictures, videos and text
    "{%- for m in messages -%}<|im_start|>{%- for c in m.content -%}{%- if c.type == 'image' -%}"
    "<|vision_start|><|image_pad|><|vision_end|>{%- elif c.type == 'video' -%}<|vision_start|><|video_pad|>"
    "<|vision_end|>{%- else -%}{{ c.text }}{%- endif -%}{%- endfor -%}<|im_end|>{%- endfor -%}"
)


def _qwen3_vl(library, _):
    marks = [f"<|{name}|>" for name in ("vision_start", "vision_end", "image_pad", "video_pad", "im_start")]
    tokenizer = known(library, ["<|pad|>", "<|im_end|>", "<|unk|>", *marks], additional_special_tokens=marks)
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    text = SMALL | {"num_key_value_heads": 2, "head_dim": 16, "vocab_size": len(tokenizer), "rope_parameters": rope}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 8}
    vision |= {"out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    config = library.Qwen3VLConfig(
        text_config=text, vision_config=vision, vision_start_token_id=3, vision_end_token_id=4,
        image_token_id=5, video_token_id=6,
    )  # fmt: skip
    pictures = library.Qwen2VLImageProcessorPil(size={"shortest_edge": 256, "longest_edge": 4096}, patch_size=8)
    films = library.Qwen3VLVideoProcessor(size={"shortest_edge": 512, "longest_edge": 32768}, patch_size=8)
    return library.Qwen3VLModel(config), library.Qwen3VLProcessor(pictures, tokenizer, films, chat_template=CHAT)


def _embeddinggemma2(library, _):
    marks = [f"{name}_token" for name in ("image", "boi", "eoi", "audio", "boa", "eoa")]
    special = ["<pad>", "<eos>", "<unk>", *(f"<{mark}>" for mark in marks), "<|video|>"]
    named = {mark: f"<{mark}>" for mark in marks}
    tokenizer = known(library, special, additional_special_tokens=["<|video|>"], extra_special_tokens=named)
    text = SMALL | {"num_key_value_heads": 1, "head_dim": 16, "global_head_dim": 16, "hidden_size_per_layer_input": 8}
    text |= {"vocab_size": len(tokenizer), "embedding_dim": 24, "pad_token_id": 0, "eos_token_id": 1}
    vision = SMALL | {"num_key_value_heads": 2, "head_dim": 16, "patch_size": 4, "position_embedding_size": 256}
    config = library.EmbeddingGemma2Config(
        text_config=text | {"layer_types": ["sliding_attention", "full_attention"]},
        vision_config=vision | {"model_type": "gemma4_vision"},
        image_token_id=3, boi_token_id=4, eoi_token_id=5, audio_token_id=6, boa_token_id=7, eoa_token_index=8,
        video_token_id=9,
    )  # fmt: skip
    patches = {"patch_size": 4, "max_soft_tokens": 70, "pooling_kernel_size": 3}
    pictures, films = library.Gemma4ImageProcessorPil(**patches), library.EmbeddingGemma2VideoProcessor(**patches)
    sound = library.Gemma4AudioFeatureExtractor()
    return library.EmbeddingGemma2Model(config), library.EmbeddingGemma2Processor(sound, pictures, tokenizer, films)


def picture(frame):
    from PIL import Image

    return Image.fromarray(frame)
