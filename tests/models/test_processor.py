import numpy as np
import pytest
import torch

from vclip.models.processor import VideoCLIPProcessor

import corpora


def test_texts_and_clips_together():
    processor = VideoCLIPProcessor(corpora.tokenizer())
    with pytest.raises(ValueError, match="of one width"):
        processor(videos=[np.ones((3, 8)), np.ones((3, 7))])
    batch = processor(text=["w1", "w1 w2"], videos=[np.ones((3, 8)), np.ones((40, 8))])
    assert batch["video_features"].shape == (2, 32, 8) and batch["video_mask"].sum(1).tolist() == [3, 32]
    assert batch["input_ids"].tolist() == [[101, 105, 102, 0], [101, 105, 106, 102]]


def test_texts_become_rows_with_cls_and_sep_cut_to_the_limit():
    processor = VideoCLIPProcessor(corpora.tokenizer(), max_text_tokens=3)
    batch = processor(text=["", "w0 w1 w2 w3 w4"])
    assert batch["input_ids"].tolist() == [[101, 102, 0, 0, 0], [101, 104, 105, 106, 102]]
    assert batch["attention_mask"].sum(1).tolist() == [2, 5]
    assert set(batch) == {"input_ids", "attention_mask"}
    assert processor(text="w0", return_tensors="np")["input_ids"].tolist() == [[101, 104, 102]]


def test_one_clip_or_a_list_as_arrays_or_tensors():
    processor = VideoCLIPProcessor(corpora.tokenizer(), max_video_tokens=2)
    clip = np.arange(12, dtype=np.float16).reshape(3, 4)
    for videos in (clip, torch.from_numpy(clip), [clip]):
        batch = processor(videos=videos)
        np.testing.assert_array_equal(batch["video_features"], clip[None, :2])
        assert batch["video_features"].dtype == torch.float32 and batch["video_mask"].tolist() == [[1, 1]]
    empty = processor(videos=[clip[:0]])
    assert empty["video_features"].shape == (1, 1, 4) and empty["video_mask"].tolist() == [[0]]
    assert processor(videos=[clip[:1]], padding="max_length")["video_mask"].tolist() == [[1, 0]]


def test_it_is_saved_with_its_limits(tmp_path):
    VideoCLIPProcessor(corpora.tokenizer(), max_text_tokens=7, max_video_tokens=5).save_pretrained(tmp_path)
    again = VideoCLIPProcessor.from_pretrained(tmp_path)
    assert (again.max_text_tokens, again.max_video_tokens) == (7, 5)
    assert again(text="w3")["input_ids"].tolist() == [[101, 107, 102]]
