"""The paper's numbers are those of the page they were copied from, and stand only beside the real test sets."""

import json
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from published import PUBLISHED, beside_published
from shipped import evaluation_sets

import vclip
from vclip.data.captions import Captions
from vclip.data.corpus import Corpus
from vclip.datasets import coin, crosstask, didemo, msrvtt, youcook2
from vclip.datasets._records import Dataset, subset
from vclip.models.config import VideoCLIPConfig
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.tasks.report import Report

import corpora

NAMES = ("YouCook2", "MSR-VTT", "DiDeMo", "COIN", "CrossTask")


def test_every_number_is_copied_as_printed(shared):
    page = Counter()
    for line in (shared / "PUBLISHED.md").read_text().splitlines():
        if found := re.match(r"\*\*Table (\d), (.*?)\.\*\* (.*)", line):
            number, title, text = found.groups()
            name = next(name for name in NAMES if name in title)
            setting = "ZS"
            for system in re.split("; |(?<=[0-9]). (?=ZS|[(])", text.rstrip(".")):
                if system.startswith(("Supervised: ", "ZS: ")):
                    setting, system = system.split(": ", 1)
                if not system.startswith("("):  # a remark
                    who, *values = re.match(r"(.*?) ([0-9.]+)(?: / ([0-9.]+))?(?: / ([0-9.]+))?$", system).groups()
                    values = tuple(float(value) for value in values if value)
                    kind = {"Supervised": "FT"}.get(setting, setting)
                    page[int(number), name, kind, who.removesuffix(" FT"), values] += 1
    ours = Counter()
    for test, group in json.loads(PUBLISHED.read_text()).items():
        if "moment_retrieval" not in test:  # the paper's one row of DiDeMo, under its other name
            for table, setting, system, *values, _ in group["rows"]:
                ours[table, test.split(" ")[0], setting, system, tuple(values)] += 1
    assert ours == page and sum(page.values()) == 60


def published(test: str) -> pd.DataFrame:
    group = json.loads(PUBLISHED.read_text())[test]
    return pd.DataFrame(group["rows"], columns=group["columns"])


def test_where_a_number_is_doubtful_it_says_so():
    outside = published("COIN testing, segmentation").set_index(["system", "setting"])["note"]
    assert "58.5 to 58.8" in outside["VideoCLIP", "ZS"] and not outside.drop(("VideoCLIP", "ZS")).any()
    moments, paragraphs = (published(f"DiDeMo test, {kind}_retrieval") for kind in ("moment", "paragraph"))
    assert moments.loc[0, ["rank1", "rank5"]].tolist() == paragraphs.iloc[-1][["r1", "r5"]].tolist() == [16.6, 46.9]
    assert all("19.4 and 65.7" in note for note in (moments["note"][0], paragraphs["note"].iloc[-1]))


@pytest.fixture(scope="module")
def clip() -> VideoCLIP:
    torch.manual_seed(0)
    config = VideoCLIPConfig(video_config=corpora.TOWER, text_config=corpora.TOWER, video_feature_dim=corpora.DIM)
    return VideoCLIP(VideoCLIPModel(config), VideoCLIPProcessor(corpora.tokenizer()))


def examined(clip: VideoCLIP, dataset: Dataset, folder, task: str | None = None) -> Report:
    """A report of the data set where made features of three of its videos are at hand."""
    rng = np.random.default_rng(0)
    rows = [(name, rng.standard_normal((200, corpora.DIM)), Captions([], [], [])) for name in dataset.video_ids[:3]]
    return vclip.evaluate(clip, dataset, Corpus.create(folder / "c", corpora.spec(), rows), task)


@pytest.mark.parametrize(
    ("load", "files", "options", "task", "ours"),
    [
        (youcook2.load, "youcook2", {}, None, {"chance"}),
        (youcook2.load, "youcook2", {"clips": "validation_youcook.csv"}, None, {"chance"}),
        (msrvtt.load, "msrvtt", {}, None, {"chance"}),
        (didemo.load, "didemo", {}, "moment_retrieval", {"chance", "fixed_order"}),
        (didemo.load, "didemo", {}, "paragraph_retrieval", {"chance"}),
        (coin.load, "coin/COIN.merged.json.gz", {}, None, {"all Outside", "shuffled labels", "chance"}),
        (crosstask.load, "crosstask", {}, None, {"uniform", "random"}),
    ],
)
def test_real_test_sets_stand_beside_the_paper(clip, shared, tmp_path, load, files, options, task, ours):
    files = shared / "annotations" / files
    dataset = load(files, **{name: files / value for name, value in options.items()})
    report = examined(clip, dataset, tmp_path, task)
    both = beside_published(report)
    theirs = published(f"{dataset.name} {dataset.split}, {report.task}")
    assert both.loc[["published"]].values.tolist() == theirs.values.tolist()
    here = both.loc["measured here"].set_index("system")
    assert set(here.index) >= {clip.name, *ours} and both.index.unique().tolist() == ["measured here", "published"]
    metrics = theirs.columns.drop(["table", "setting", "system", "note"])
    for metric in metrics:
        assert here.loc[clip.name, metric] == pytest.approx(100 * report.scores[metric])
        for who, values in report.baselines.items():
            assert here.loc[who, metric] == pytest.approx(100 * values.get(metric, np.nan), nan_ok=True)
    scored = sum(record.video_id in dataset.video_ids[:3] for record in dataset)
    assert set(here["note"]) == {f"{scored} of {len(dataset)} records have features"}


def test_videos_that_are_gone_do_not_make_crosstask_another_set(clip, shared, tmp_path):
    whole = crosstask.load(shared / "annotations/crosstask")
    kept = set(crosstask.load(shared / "annotations/crosstask", "primary").video_ids) - set(whole.video_ids[:300:3])
    fewer = crosstask.load(shared / "annotations/crosstask", features=kept)
    assert len(fewer) == 1750 and len(fewer.left_out) == 100
    here = beside_published(examined(clip, fewer, tmp_path)).loc["measured here"]
    assert set(here["note"]) == {"3 of 1850 records have features"}


def test_the_multiple_choice_test_is_known_by_its_size(clip, shared, tmp_path):
    ids = (shared / "annotations/msrvtt/MSRVTT_test.full.csv").read_text().split()[1:]
    rows = [f"{video_id.replace('video', 'msr')}\tw1\tw2\tw3\tw4\tw5\t{i % 5}" for i, video_id in enumerate(ids)]
    file = tmp_path / "MSR_MC_test.csv"
    for some, known in ((rows, True), (rows[:-1], False)):
        file.write_text("\n".join(["vid_key\ta1\ta2\ta3\ta4\ta5\tanswer", *some]))
        folder = tmp_path / str(known)
        folder.mkdir()
        report = examined(clip, msrvtt.load(file, "multiple_choice"), folder)
        if known:
            assert beside_published(report).loc["published", "accuracy"].max() == 92.1
        else:
            with pytest.raises(ValueError, match="for MSR-VTT multiple_choice, videoqa with 2989 records"):
                beside_published(report)


def test_minihowto_is_refused_under_every_name():
    clip = vclip.load(vclip.minihowto() / "checkpoint")
    for name, load in (("youcook2", youcook2.load), ("msrvtt", msrvtt.load), ("didemo", didemo.load),
                       ("coin", coin.load), ("crosstask", crosstask.load)):  # fmt: skip
        renamed, corpus = evaluation_sets(name)["test"]
        plain = load(vclip.minihowto() / name / "test", **({"n_train": 0} if name == "crosstask" else {}))
        report = vclip.evaluate(clip, plain, corpus, plain.tasks[-1])
        with pytest.raises(ValueError, match=f"{plain.name} .* with {len(plain)} records"):
            beside_published(report)
        with pytest.raises(ValueError, match="no published scores for MiniHowTo test, as "):
            beside_published(vclip.evaluate(clip, renamed, corpus, plain.tasks[-1]))


def test_a_part_another_split_and_other_ids_are_refused(clip, shared, tmp_path):
    whole = didemo.load(shared / "annotations/didemo")
    made = [didemo.Description(f"test{record.video_id}", record.description, record.times) for record in whole]
    for i, dataset in enumerate(
        [subset(whole, whole[:4000]), didemo.load(shared / "annotations/didemo", "val"), subset(whole, made)]
    ):
        (tmp_path / str(i)).mkdir()
        with pytest.raises(ValueError, match=f"DiDeMo .* with {len(dataset)} records"):
            beside_published(examined(clip, dataset, tmp_path / str(i), "paragraph_retrieval"))
