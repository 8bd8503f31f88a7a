"""Equal to the original in value and gradient: padded, packed, and one clip at a time."""

import logging

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer, BertConfig, BertModel

from vclip.losses import info_nce
from vclip.models.config import VideoCLIPConfig
from vclip.models.convert import load_videoclip, our_name
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel

import corpora
import reference


@pytest.fixture(scope="module", params=["model_separate", "model_shared"])
def original(request, shared):
    """(model, batch, folder) of the original's numbers."""
    folder = shared / "golden" / request.param
    model = load_videoclip(folder / "checkpoint.pt", reference.config(folder))
    return model, reference.batch(folder), folder


def small(seed=0, **config) -> VideoCLIPModel:
    torch.manual_seed(seed)
    values = {"video_config": corpora.TOWER, "text_config": corpora.TOWER, "video_feature_dim": 16}
    if config.get("share_towers"):
        del values["text_config"]
    return VideoCLIPModel(VideoCLIPConfig(**values | config)).eval()


def clips(b, seed=0):
    generator = torch.Generator().manual_seed(seed)
    seconds = torch.randint(0, 33, (b,), generator=generator)
    pieces = torch.randint(2, 64, (b,), generator=generator)
    features = torch.randn(int(seconds.sum()), 16, generator=generator)
    ids = torch.randint(103, 200, (int(pieces.sum()),), generator=generator)
    return features, seconds, ids, pieces


def packed(batch):
    video_mask, text_mask = batch["video_mask"], batch["attention_mask"].bool()
    return batch["video_features"][video_mask], video_mask.sum(1), batch["input_ids"][text_mask], text_mask.sum(1)


def test_padded_calls_equal_the_original(original):
    model, batch, _ = original
    video = model.get_video_features(batch["video_features"], batch["video_mask"])
    text = model.get_text_features(batch["input_ids"], batch["attention_mask"])
    torch.testing.assert_close(video.pooler_output, batch["pooled_video"], atol=2e-5, rtol=0)
    torch.testing.assert_close(text.pooler_output, batch["pooled_text"], atol=2e-5, rtol=0)
    # padded seconds included: the released moment localisation averages them
    torch.testing.assert_close(video.last_hidden_state, batch["hidden_video"][:, 1:-1], atol=2e-5, rtol=0)
    valid = batch["attention_mask"].bool()
    torch.testing.assert_close(text.last_hidden_state[valid], batch["hidden_text"][valid], atol=2e-5, rtol=0)


def test_packed_and_one_by_one_equal_the_original(original):
    model, batch, _ = original
    z_v, z_t = model.embed_packed(*packed(batch))
    torch.testing.assert_close(z_v, batch["pooled_video"], atol=2e-5, rtol=0)
    torch.testing.assert_close(z_t, batch["pooled_text"], atol=2e-5, rtol=0)
    for i in range(len(z_v)):
        n, m = int(batch["video_mask"][i].sum()), int(batch["attention_mask"][i].sum())
        one = model(batch["input_ids"][i : i + 1, :m], batch["video_features"][i : i + 1, :n])
        torch.testing.assert_close(one.video_embeds[0], batch["pooled_video"][i], atol=2e-5, rtol=0)
        torch.testing.assert_close(one.text_embeds[0], batch["pooled_text"][i], atol=2e-5, rtol=0)


def test_hidden_cls_and_trimmed_padding_equal_the_original(original):
    model, batch, _ = original
    valid = batch["video_mask"]
    hidden = model.get_video_features(batch["video_features"], valid, attend_cls=False).last_hidden_state
    torch.testing.assert_close(hidden[valid], batch["hidden_video_cls_masked"][:, 1:-1][valid], atol=2e-5, rtol=0)
    rows, length = batch["trimmed_rows"], int(batch["trimmed_len"])
    trimmed = model.get_video_features(batch["video_features"][rows, :length], valid[rows, :length]).last_hidden_state
    where = valid[rows, :length]
    torch.testing.assert_close(trimmed[where], batch["hidden_video_trimmed"][:, 1:-1][where], atol=2e-5, rtol=0)


@pytest.mark.parametrize("how", ["padded", "packed"])
def test_loss_and_gradients_equal_the_original(original, how):
    model, batch, folder = original
    separate = folder.name == "model_separate"
    atol = 2e-5 if separate else 1e-4
    if how == "padded":
        names = ("input_ids", "video_features", "attention_mask", "video_mask")
        output = model(**{name: batch[name] for name in names}, return_loss=True)
        z_v, z_t, loss = output.video_embeds, output.text_embeds, output.loss
    else:
        z_v, z_t = model.embed_packed(*packed(batch))
        loss = info_nce(z_v, z_t)
    torch.testing.assert_close(loss, batch["loss"].float(), atol=atol, rtol=0)
    for direction in ("t2v", "v2t"):
        ours = info_nce(z_v, z_t, direction=direction)
        torch.testing.assert_close(ours, batch[f"loss_{direction}"].float(), atol=atol, rtol=0)
    model.zero_grad()
    loss.backward()
    parameters = dict(model.named_parameters())
    expected = np.load(folder / "grads.npz", allow_pickle=False)
    assert len(expected.files) >= 7
    for name in expected.files:
        torch.testing.assert_close(
            parameters[our_name(name)].grad,
            torch.from_numpy(expected[name]),
            rtol=1e-3,
            atol=1e-5 if separate else 1e-4,
        )


@pytest.mark.parametrize("share_towers", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_packed_equals_padded_in_value_and_gradient(share_towers, pooling):
    model = small(share_towers=share_towers, pooling=pooling)
    features, seconds, ids, pieces = clips(9)
    seconds[0] = 3
    features = torch.randn(int(seconds.sum()), 16)
    video_mask = torch.arange(32) < seconds[:, None]
    text_mask = torch.arange(63) < pieces[:, None]
    video = torch.zeros(9, 32, 16).masked_scatter(video_mask[..., None], features)
    text = torch.zeros(9, 63, dtype=torch.long).masked_scatter(text_mask, ids)
    gradients = []
    for padded in (True, False):
        model.zero_grad()
        if padded:
            output = model(text, video, text_mask.long(), video_mask)
            z_v, z_t = output.video_embeds, output.text_embeds
        else:
            z_v, z_t = model.embed_packed(features, seconds, ids, pieces)
        info_nce(z_v, z_t).backward()
        gradients.append((z_v, z_t, {name: p.grad.clone() for name, p in model.named_parameters()}))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


def test_clips_do_not_see_each_other():
    model = small()
    features, seconds, ids, pieces = clips(5)
    z_v, z_t = model.embed_packed(features, seconds, ids, pieces)
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled = torch.cat([features.split(seconds.tolist())[i] for i in order])
    shuffled_ids = torch.cat([ids.split(pieces.tolist())[i] for i in order])
    again = model.embed_packed(shuffled, seconds[order], shuffled_ids, pieces[order])
    torch.testing.assert_close(again, (z_v[order], z_t[order]))


def test_dropout_in_training_only():
    model = small()
    features, seconds, ids, pieces = clips(4)
    model.train()
    torch.manual_seed(1)
    first = model.embed_packed(features, seconds, ids, pieces)
    torch.manual_seed(1)
    torch.testing.assert_close(model.embed_packed(features, seconds, ids, pieces), first)
    assert not torch.allclose(model.embed_packed(features, seconds, ids, pieces)[0], first[0])


@pytest.mark.parametrize("share_towers", [False, True])
def test_every_parameter_is_used(share_towers):
    model = small(share_towers=share_towers)
    assert not any("pooler" in name for name, _ in model.named_parameters())
    if not share_towers:
        assert model.video_model.embeddings.word_embeddings.weight.shape == (2, 32)
    features, seconds, ids, pieces = clips(4)
    info_nce(*model.embed_packed(features, seconds, ids, pieces)).backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unused
    words = model.video_model.embeddings.word_embeddings.weight.grad
    special = [0, 1] if not share_towers else [101, 102]
    assert (words[special].abs().sum(1) > 0).all()


@pytest.mark.parametrize("share_towers", [False, True])
def test_saved_and_loaded_unchanged(tmp_path, share_towers):
    model = small(share_towers=share_towers, max_text_tokens=20, feature_spec={"encoder": "x"})
    model.save_pretrained(tmp_path)
    again = VideoCLIPModel.from_pretrained(tmp_path)
    assert again.config.video_config.hidden_size == 32
    assert (again.config.max_text_tokens, again.config.share_towers) == (20, share_towers)
    assert again.config.feature_spec == {"encoder": "x"}
    torch.testing.assert_close(again.state_dict(), model.state_dict(), atol=0, rtol=0)


def test_the_auto_classes_load_a_folder_in_silence(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    model = small(video_feature_dim=corpora.DIM)
    model.save_pretrained(tmp_path)
    VideoCLIPProcessor(corpora.tokenizer(), max_text_tokens=20).save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), VideoCLIPConfig)
    again, processor = AutoModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(again, VideoCLIPModel) and isinstance(processor, VideoCLIPProcessor)
    torch.testing.assert_close(again.state_dict(), model.state_dict(), atol=0, rtol=0)
    assert processor.max_text_tokens == 20
    assert AutoTokenizer.from_pretrained(tmp_path)("w1")["input_ids"] == [101, 105, 102]
    assert not caplog.records


def padded_call(model, **changes):
    generator = torch.Generator().manual_seed(0)
    values = {
        "input_ids": torch.randint(103, 200, (3, 9), generator=generator),
        "video_features": torch.randn(3, 7, 16, generator=generator),
        "attention_mask": (torch.arange(9) < torch.tensor([[9], [5], [2]])).long(),
        "video_mask": (torch.arange(7) < torch.tensor([[7], [3], [0]])).long(),
    }
    with torch.no_grad():
        return model(**values | {name: change(values[name]) for name, change in changes.items()})


@pytest.mark.parametrize("kind", [torch.bool, torch.int32])
def test_masks_and_ids_of_any_kind(kind):
    model, masks = small(), {"attention_mask": lambda m: m.to(kind), "video_mask": lambda m: m.to(kind)}
    expected = padded_call(model).logits_per_video
    assert expected.isfinite().all()
    torch.testing.assert_close(padded_call(model, **masks, input_ids=lambda i: i.int()).logits_per_video, expected)


@pytest.mark.parametrize("share_towers", [False, True])
def test_every_attention_gives_the_same_numbers(tmp_path, share_towers):
    small(share_towers=share_towers).save_pretrained(tmp_path)
    sdpa, eager = (VideoCLIPModel.from_pretrained(tmp_path, attn_implementation=name) for name in ("sdpa", "eager"))
    assert [tower.config._attn_implementation for tower in eager.towers] == ["eager"] * len(eager.towers)
    torch.testing.assert_close(padded_call(eager).logits_per_video, padded_call(sdpa).logits_per_video)


@pytest.mark.parametrize(("kind", "atol"), [(torch.bfloat16, 0.3), (torch.float16, 0.03)])
def test_half_precision(kind, atol):
    model = small().to(kind)
    got = padded_call(model).logits_per_video
    assert got.dtype == kind
    torch.testing.assert_close(got.float(), padded_call(small()).logits_per_video, atol=atol, rtol=0)
    z_v, z_t = model.embed_packed(*clips(4))
    assert z_v.dtype == z_t.dtype == kind and z_v.isfinite().all() and z_t.isfinite().all()


def test_tuples_when_asked():
    model = small()
    video, ids = torch.randn(2, 3, 16), torch.full((2, 4), 105)
    for call, inputs in ((model.get_video_features, video), (model.get_text_features, ids)):
        output, values = call(inputs), call(inputs, return_dict=False)
        assert isinstance(values, tuple) and len(values) == 2
        torch.testing.assert_close(values, (output.last_hidden_state, output.pooler_output))
    assert [type(v) for v in model(ids, video, return_dict=False)] == [torch.Tensor] * 4 + [tuple] * 2
    assert isinstance(small(return_dict=False)(ids, video), tuple)


@pytest.mark.parametrize("share_towers", [False, True])
def test_states_and_attentions_of_a_tower_when_asked(share_towers):
    model = small(share_towers=share_towers)
    model.set_attn_implementation("eager")
    asked = {"output_hidden_states": True, "output_attentions": True}
    video, ids = torch.randn(2, 3, 16), torch.full((2, 4), 105)
    for output, rows in ((model.get_video_features(video, **asked), 5), (model.get_text_features(ids, **asked), 4)):
        assert [state.shape for state in output.hidden_states] == [(2, rows, 32)] * 3
        assert [weights.shape for weights in output.attentions] == [(2, 2, rows, rows)] * 2
        first = 0 if rows == 4 else 1  # [CLS] and [SEP] are no seconds
        torch.testing.assert_close(output.hidden_states[-1][:, first : rows - first], output.last_hidden_state)
    assert model.get_video_features(video).hidden_states is None


@pytest.mark.parametrize("share_towers", [False, True])
def test_more_words(tmp_path, share_towers):
    model = small(share_towers=share_towers)
    before = padded_call(model).logits_per_video
    model.resize_token_embeddings(210)
    torch.testing.assert_close(padded_call(model).logits_per_video, before)
    assert model(torch.full((1, 3), 209), torch.zeros(1, 2, 16)).text_embeds.isfinite().all()
    model.save_pretrained(tmp_path)
    again = VideoCLIPModel.from_pretrained(tmp_path)
    assert again.get_input_embeddings().num_embeddings == again.config.text_config.vocab_size == 210


@pytest.mark.parametrize(
    ("part", "share_towers"),
    [("video_mlp", False), ("video_model", False), ("text_model", False), ("video_mlp", True), ("video_model", True)],
)
def test_a_device_map_may_leave_a_part_on_disk(tmp_path, part, share_towers):
    model = small(share_towers=share_towers)
    model.save_pretrained(tmp_path)
    parts = {name: "cpu" for name, _ in model.named_children()}
    where = {"device_map": parts | {part: "disk"}, "offload_folder": str(tmp_path / "offloaded")}
    mapped = VideoCLIPModel.from_pretrained(tmp_path, **where)
    assert any(p.is_meta for p in getattr(mapped, part).parameters())
    torch.testing.assert_close(padded_call(mapped).logits_per_video, padded_call(model).logits_per_video)


def test_wrong_inputs_are_refused():
    model = small()
    with pytest.raises(ValueError, match="33 seconds"):
        model.get_video_features(torch.zeros(1, 33, 16))
    with pytest.raises(ValueError, match="17 wide"):
        model.get_video_features(torch.zeros(1, 3, 17))
    with pytest.raises(ValueError, match="texts have 64 tokens"):
        model.get_text_features(torch.zeros(1, 64, dtype=torch.long))
    features, seconds, ids, pieces = clips(3)
    with pytest.raises(ValueError, match="`video_lengths` must lie between 0 and 32"):
        model.embed_packed(features, seconds + 1, ids, pieces)
    with pytest.raises(ValueError, match="15 wide"):
        model.embed_packed(features[:, :15], seconds, ids, pieces)


def test_starts_from_bert():
    torch.manual_seed(0)
    bert = BertModel(BertConfig(**corpora.TOWER | {"num_hidden_layers": 8}))
    model = VideoCLIPModel.from_bert(bert, video_feature_dim=16)
    assert (model.config.video_config.num_hidden_layers, model.config.text_config.num_hidden_layers) == (6, 8)
    for tower in model.towers:
        torch.testing.assert_close(tower.encoder.layer[5].state_dict(), bert.encoder.layer[5].state_dict())
    table = bert.embeddings.word_embeddings.weight
    torch.testing.assert_close(model.video_model.embeddings.word_embeddings.weight, table[[101, 102]])
    torch.testing.assert_close(model.text_model.embeddings.word_embeddings.weight, table)
    shared = VideoCLIPModel.from_bert(bert, video_feature_dim=16, share_towers=True)
    assert shared.text_model is None and shared.config.video_config.num_hidden_layers == 8
