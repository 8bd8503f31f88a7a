"""Mini-batches and processes against the whole batch in one, in value and gradient."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vclip.losses import info_nce, mil_nce
from vclip.models.config import VideoCLIPConfig
from vclip.models.videoclip import VideoCLIPModel
from vclip.training.batches import embed_in_mini_batches, gather_embeddings

import corpora

DROPLESS = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CLIPS, WIDTH = 10, 8


def model(**config) -> VideoCLIPModel:
    torch.manual_seed(0)
    tower = corpora.TOWER | config.pop("tower", {})
    towers = {"video_config": tower} | ({} if config.get("share_towers") else {"text_config": tower})
    return VideoCLIPModel(VideoCLIPConfig(**towers | config, video_feature_dim=WIDTH)).train()


def batch(clips: int = CLIPS, texts: int | None = None, seed: int = 0) -> list[torch.Tensor]:
    """features, video_lengths, ids, text_lengths of a packed batch; an empty video and an empty text among them."""
    rng = torch.Generator().manual_seed(seed)
    video_lengths = torch.randint(0, 33, (clips,), generator=rng)
    text_lengths = torch.randint(2, 64, (texts or clips,), generator=rng)
    video_lengths[0], text_lengths[0] = 0, 2
    features = torch.randn(int(video_lengths.sum()), WIDTH, generator=rng)
    return [features, video_lengths, torch.randint(200, (int(text_lengths.sum()),), generator=rng), text_lengths]


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def plainly(
    model: VideoCLIPModel, features, video_lengths, ids, text_lengths, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same mini-batches, embedded in a loop that keeps every activation."""
    at, z_v, z_t = 0, [], []
    for group in video_lengths.split(size):
        z_v.append(model.embed_videos(features[at : (at := at + int(group.sum()))], group))
    at = 0
    for group in text_lengths.split(size):
        z_t.append(model.embed_texts(ids[at : (at := at + int(group.sum()))], group))
    return torch.cat(z_v), torch.cat(z_t)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, CLIPS + 1), st.integers(1, CLIPS), st.booleans(), st.integers(0, 100))
def test_equal_to_the_whole_batch(size, clips, share, seed):
    whole = model(tower=DROPLESS, share_towers=share).double()
    features, *lengths = batch(clips, seed=seed)
    inputs = [features.double(), *lengths]
    loss = info_nce(*whole.embed_packed(*inputs))
    expected = gradients(whole, loss)
    ours = info_nce(*embed_in_mini_batches(whole, *inputs, size=size))
    torch.testing.assert_close(ours, loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(whole, ours), expected, rtol=1e-9, atol=1e-12)
    assert len(expected) == len(list(whole.parameters()))


def test_equal_to_the_whole_batch_with_candidate_captions():
    whole, (features, *lengths) = model(tower=DROPLESS).double(), batch(4, texts=9)
    owner = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 3])
    loss = mil_nce(*whole.embed_packed(features.double(), *lengths), owner)
    expected = gradients(whole, loss)
    ours = mil_nce(*embed_in_mini_batches(whole, features.double(), *lengths, size=2), owner)
    torch.testing.assert_close(ours, loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(whole, ours), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 3])
def test_dropout_is_replayed(size, precision):
    """Bit by bit: the second pass drops what the first one did, and leaves the generator where the first did."""
    dropping, inputs, found = model(), batch(), []
    for embed in (plainly, embed_in_mini_batches):
        torch.manual_seed(7)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = info_nce(*embed(dropping, *inputs, size=size))
        before = torch.get_rng_state()
        found.append((loss, gradients(dropping, loss), before))
        assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
    torch.manual_seed(8)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        assert info_nce(*plainly(dropping, *inputs, size=size)) != found[0][0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_dropout_is_replayed_on_a_gpu():
    dropping, (features, video_lengths, ids, text_lengths), found = model().cuda(), batch(), []
    for embed in (plainly, embed_in_mini_batches):
        torch.manual_seed(7)
        loss = info_nce(*embed(dropping, features.cuda(), video_lengths, ids.cuda(), text_lengths, size=3))
        found.append((loss, gradients(dropping, loss)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)  # atomic sums come in any order


def test_no_activations_are_kept():
    embedding, inputs, kept = model(), batch(40), []
    for embed in (lambda: embedding.embed_packed(*inputs), lambda: embed_in_mini_batches(embedding, *inputs, size=4)):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.nbytes) or t, lambda t: t):
            embed()
        kept.append(sum(saved))
    assert kept[1] < 0.01 * kept[0]


PEAK = """
import test_large_batches as t
from memory import peak_mb
model = t.model(tower=t.corpora.TOWER | {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4})
step = lambda embed, clips, **size: t.info_nce(*embed(model, *t.batch(clips), **size)).backward()
step(model.__class__.embed_packed, 16)
start = peak_mb()
step(t.embed_in_mini_batches, 512, size=16)
mini = peak_mb()
step(model.__class__.embed_packed, 512)
print(mini - start, peak_mb() - start)
"""


@pytest.mark.long
def test_memory_is_that_of_a_mini_batch():
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[n]) for n in (0, 1)),
    }
    done = subprocess.run([sys.executable, "-c", PEAK], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    mini, whole = map(float, done.stdout.split())
    assert whole > 200 and mini < 0.25 * whole, done.stdout  # MB above a step of 16 clips


def test_what_does_not_add_up_is_refused():
    features, video_lengths, ids, text_lengths = batch()
    for wrong in (video_lengths + 1, video_lengths[:0]):
        with pytest.raises((ValueError, RuntimeError), match="split|lengths"):
            embed_in_mini_batches(model(), features, wrong, ids, text_lengths, size=3)


def test_one_process_gathers_nothing():
    z_v, z_t = torch.randn(3, 4), torch.randn(3, 4)
    gathered = gather_embeddings(z_v, z_t)
    assert gathered[0] is z_v and gathered[1] is z_t


class Step(nn.Module):
    def __init__(self, embed, gather):
        super().__init__()
        self.model, self.embed, self.gather = model(tower=DROPLESS).double(), embed, gather

    def forward(self, *inputs):
        return info_nce(*self.gather(*self.embed(self.model, *inputs)))


def halves(features, video_lengths, ids, text_lengths):
    n = len(video_lengths) // 2
    at, cut = int(video_lengths[:n].sum()), int(text_lengths[:n].sum())
    first = features[:at], video_lengths[:n], ids[:cut], text_lengths[:n]
    return first, (features[at:], video_lengths[n:], ids[cut:], text_lengths[n:])


def one_of_two(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.set_num_threads(1)
    features, *lengths = batch()
    mine, found = halves(features.double(), *lengths)[rank], {}
    for name, step in {
        "gathered": Step(VideoCLIPModel.embed_packed, gather_embeddings),
        "both": Step(lambda *inputs: embed_in_mini_batches(*inputs, size=2), gather_embeddings),
        "alone": Step(VideoCLIPModel.embed_packed, lambda *z: z),
    }.items():
        averaging = nn.parallel.DistributedDataParallel(step)  # as long as it lives
        loss = averaging(*mine)
        found[name] = (loss.detach(), gradients(step, loss))
    with torch.no_grad():  # as in validation
        found["without a graph"] = gather_embeddings(torch.full((2, 3), rank), torch.full((2, 3), -rank))
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.long
def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    torch.multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    features, *lengths = batch()
    inputs = (features.double(), *lengths)
    whole = Step(VideoCLIPModel.embed_packed, gather_embeddings)
    loss = whole(*inputs)
    expected = gradients(whole, loss)
    alone = [whole(*half) for half in halves(*inputs)]
    mean = gradients(whole, sum(alone) / 2)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name in ("gathered", "both"):
            torch.testing.assert_close(found[name][0], loss.detach())
            torch.testing.assert_close(found[name][1], expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found["alone"][0], alone[rank].detach())
        torch.testing.assert_close(found["alone"][1], mean, rtol=1e-9, atol=1e-12)
        assert found["without a graph"][0].tolist() == [[0] * 3] * 2 + [[1] * 3] * 2
    assert loss > sum(alone) / 2 + 0.1  # twice the negatives: another loss
