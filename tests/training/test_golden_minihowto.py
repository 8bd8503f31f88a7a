"""Training on MiniHowTo goes step by step as the original's does, from its weights and on its batches."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig

from vclip.datasets.minihowto import minihowto
from vclip.losses import info_nce
from vclip.models.config import VideoCLIPConfig
from vclip.models.convert import load_videoclip
from vclip.training.config import learning_rate


def test_forty_steps_have_the_losses_of_the_original(shared, tmp_path):
    folder = shared / "golden/minihowto_training"
    run = json.loads((folder / "run.json").read_text())
    sizes = dict(run["model"])
    feature_dim, dropout = sizes.pop("video_feature_dim"), sizes.pop("dropout")
    tower = BertConfig(**sizes, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout).to_dict()
    config = VideoCLIPConfig(video_config=tower, text_config=tower, video_feature_dim=feature_dim)
    torch.save({"model": load_file(folder / "initial.safetensors")}, tmp_path / "initial.pt")
    model = load_videoclip(tmp_path / "initial.pt", config).train()
    optimizer = torch.optim.Adam(model.parameters(), betas=tuple(run["betas"]), fused=True)
    batches = np.load(folder / "batches.npz", allow_pickle=False)
    rows, id_rows = (np.concatenate([[0], np.cumsum(batches[name])]) for name in ("rows", "id_rows"))
    rate = run["learning_rate"]
    shown = json.loads((minihowto().parent / "ablations" / "beside_original.json").read_text())  # in notebook 09
    for i in range(run["batches_stored"]):
        features = torch.from_numpy(batches["features"][rows[i] : rows[i + 1]]).float()
        ids = torch.from_numpy(batches["ids"][id_rows[i] : id_rows[i + 1]]).long()
        lengths = (torch.from_numpy(batches[name][i]) for name in ("seconds", "pieces"))
        loss = info_nce(*model.embed_packed(features, next(lengths), ids, next(lengths)))
        assert loss.item() == pytest.approx(run["losses"][i], abs=5e-5), f"step {i + 1}"
        assert shown["ours"][i] == pytest.approx(loss.item(), abs=5e-5)
        assert shown["ours"][i] - shown["difference"][i] == pytest.approx(run["losses"][i], abs=2e-6)
        optimizer.param_groups[0]["lr"] = learning_rate(i + 1, rate["peak"], rate["warmup"], rate["total"])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), run["clip_norm"])
        optimizer.step()
