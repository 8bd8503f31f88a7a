"""On the same clips mteb finds what `evaluate` finds."""

import importlib
import sys

import mteb
import numpy as np
import pytest
from board import BoardModel
from datasets import Dataset as Rows
from datasets import Features, Value, Video
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from videos import write_video

import vclip
from vclip.data.corpus import Corpus
from vclip.datasets import youcook2
from vclip.datasets._records import Dataset
from vclip.datasets.msrvtt import Clip

VIDEO = Features({"id": Value("string"), "video": Video()})


class Sought(AbsTaskRetrieval):
    """Sentences, each of which seeks the video that it was written of; nothing is downloaded."""

    metadata = TaskMetadata(
        name="Sought", description="made", dataset={"path": "made/made", "revision": "0"}, type="Any2AnyRetrieval",
        category="t2v", modalities=["text", "video"], eval_splits=["test"], eval_langs=["eng-Latn"], reference=None,
        main_score="recall_at_1", date=None, domains=None, task_subtypes=None, license=None, annotations_creators=None,
        dialect=None, sample_creation=None, bibtex_citation=None,
    )  # fmt: skip

    def __init__(self, clips, videos):
        super().__init__()
        self.dataset = {"default": {"test": RetrievalSplitData(
            queries=Rows.from_dict({"id": [str(i) for i in range(len(clips))], "text": [c.sentence for c in clips]}),
            corpus=Rows.from_dict(videos, features=VIDEO),
            relevant_docs={str(i): {clip.video_id: 1} for i, clip in enumerate(clips)},
            top_ranked=None,
        )}}  # fmt: skip
        self.data_loaded = True

    def load_data(self, **_):
        pass


@pytest.mark.long
def test_recall_is_that_of_evaluate(tmp_path):
    """16 steps of two styles, each cut out of a video that ships, sought by their sentences."""
    clip, shipped = vclip.load(vclip.minihowto() / "checkpoint"), vclip.minihowto()
    clips, files, frames = [], [], {}
    for style in ("test", "unseen"):
        for step in youcook2.load(shipped / "youcook2" / style)[:8]:
            if step.video_id not in frames:
                file = shipped / "videos" / f"{step.video_id}.mp4"
                frames[step.video_id] = list(vclip.read_seconds(file, fps=3, size=128))
            pictures = np.concatenate(frames[step.video_id][step.start : step.end])
            clips.append(Clip(f"{step.video_id}_{step.index}", step.sentence))
            times = [1000 * i // 3 for i in range(len(pictures))]
            files.append(write_video(tmp_path / f"{clips[-1].video_id}.mov", times, pictures))
    vclip.extract(files, tmp_path / "corpus", clip.encoder)
    report = vclip.evaluate(clip, Dataset("made", "test", clips, ["retrieval"]), Corpus.open(tmp_path / "corpus"))
    # half as the hub stores them, half as files
    stored = [{"bytes": file.read_bytes(), "path": file.name} for file in files[:8]] + [str(file) for file in files[8:]]
    task = Sought(clips, {"id": [c.video_id for c in clips], "video": stored})
    found = mteb.evaluate(BoardModel(clip), task, cache=None, show_progress_bar=False, co2_tracker=False)
    scores = found.task_results[0].scores["test"][0]
    assert report.n == 16 and 0.2 < report.scores["r1"] < report.scores["r5"]
    for k in (1, 5, 10):
        assert scores[f"recall_at_{k}"] == pytest.approx(report.scores[f"r{k}"], abs=1e-5)


def test_a_video_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    task = Sought([Clip("bad", "chop the carrot")], {"id": ["bad"], "video": [str(tmp_path / "bad.mp4")]})
    model = BoardModel(vclip.load(vclip.minihowto() / "checkpoint"))
    with pytest.raises(ValueError, match="video .*bad.mp4: .*.*truncated file, or not a video"):
        mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)


def test_without_mteb_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb.models.abs_encoder", None)
    monkeypatch.delitem(sys.modules, "board")
    with pytest.raises(ImportError, match=r"pip install 'vclip\[mteb\]'"):
        importlib.import_module("board")
