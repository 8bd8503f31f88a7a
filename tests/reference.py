"""The small models that the original computed numbers with, read from the shared folder."""

import json
from pathlib import Path

import numpy as np
import torch

from vclip.models.config import VideoCLIPConfig


def config(folder: Path) -> VideoCLIPConfig:
    sizes = json.loads((folder / "config.json").read_text())
    tower = {
        name: sizes[name]
        for name in (
            "vocab_size",
            "hidden_size",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
            "hidden_act",
        )
    } | {"layer_norm_eps": sizes["bert_layer_norm_eps"]}
    shared = sizes["variant"] == "share"
    return VideoCLIPConfig(
        video_config=tower | {"num_hidden_layers": sizes["num_video_layers"]},
        text_config=None if shared else tower | {"num_hidden_layers": sizes["num_text_layers"]},
        video_feature_dim=sizes["video_feature_dim"],
        max_video_tokens=sizes["max_video_len"],
        max_text_tokens=sizes["max_text_tokens"],
        share_towers=shared,
        cls_token_id=sizes["cls_token_id"],
        sep_token_id=sizes["sep_token_id"],
    )


def batch(folder: Path) -> dict[str, torch.Tensor]:
    """io.npz as our arguments, and the numbers to reach."""
    io = {name: torch.from_numpy(array) for name, array in np.load(folder / "io.npz", allow_pickle=False).items()}
    without_video_sep = [slot for slot in range(io["caps"].shape[1]) if slot != 1]
    return io | {
        "video_features": io["vfeats"].float(),
        "video_mask": io["vmasks"],
        "input_ids": io["caps"][:, without_video_sep],
        "attention_mask": io["cmasks"][:, without_video_sep].long(),
    }
