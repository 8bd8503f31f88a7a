import gzip
import io
import json
import shutil
import tarfile
from collections import Counter

import numpy as np
import pytest

from vclip.datasets import crosstask
from vclip.datasets.crosstask import Video

TASK = "11\nMake Tea\nhttp://tea\n3\nboil water,pour water,add tea\n\n"
RELATED = "22\nMake Mate\n\n2\nboil water,pour water\n\n"


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "annotations" / "crosstask"


@pytest.fixture
def release(tmp_path):
    """Videos a and b of the primary task, b also of the related one; c without annotation; d of an unknown task."""
    write(tmp_path, crosstask.PRIMARY, TASK)
    write(tmp_path, crosstask.RELATED, RELATED)
    write(tmp_path, crosstask.VIDEOS, "11,a,http://a\n11,b,http://b\n22,b,http://b\n11,c,http://c\n33,d,http://d\n\n")
    write(tmp_path, crosstask.VALIDATION, "11,c,http://c\n")
    write(tmp_path, "annotations/11_a.csv", "1,0,2.5\n3,2.25,4\n\n")
    write(tmp_path, "annotations/11_b.csv", "2,1.5,9\n")
    return tmp_path


def write(folder, name, text):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)


def archive(file, members, mode="w:gz"):
    with tarfile.open(file, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def ids(dataset):
    return [(video.task, video.video_id) for video in dataset]


# the real files


def test_real_tasks_and_videos(folder):
    dataset = crosstask.load(folder, "all")
    assert len(dataset) == 4700 and len({video.task for video in dataset}) == 83 and dataset.left_out == []
    assert len(dataset.video_ids) == 4607  # some are listed under several tasks
    primary, related = crosstask.load(folder, "primary"), crosstask.load(folder, "related")
    assert (len(primary), len(related)) == (2750, 1950)
    tasks = {video.task: video.steps for video in primary}
    assert len(tasks) == 18 and len({video.task for video in related}) == 65
    names = [step for steps in tasks.values() for step in steps]
    assert (len(names), len(set(names))) == (133, 105)
    jello = next(video for video in primary if video.task == "23521")
    assert jello.title == "Make Jello Shots" and jello.steps[-1] == "pour mixture into cup"
    validation = crosstask.load(folder / "videos_val.csv", "validation")
    assert len(validation) == 360 and {video.task for video in validation} == set(tasks)
    assert all(video.segments for video in validation)
    assert set(ids(validation)) <= set(ids(primary))


def test_real_annotations(folder):
    primary = crosstask.load(folder, "primary")
    assert all(video.segments for video in primary)
    assert not any(video.segments for video in crosstask.load(folder, "related"))
    assert sum(len(video.segments) for video in primary) == 20919
    videos = Counter(video.task for video in primary).values()
    assert (min(videos), max(videos)) == (86, 252)
    in_time = [sorted((start, end) for _, start, end in video.segments) for video in primary]
    assert sum(a[1] > b[0] for video in in_time for a, b in zip(video, video[1:], strict=False)) == 1453
    first = next(video for video in primary if video.task == "105222")
    with tarfile.open(folder / "annotations.tar.gz") as tar:
        text = tar.extractfile(f"annotations/{first.task}_{first.video_id}.csv").read().decode()
    rows = [line.split(",") for line in text.split()]
    assert first.segments == tuple((int(step) - 1, float(start), float(end)) for step, start, end in rows)


def test_real_split(folder):
    train, test = crosstask.load(folder, "train"), crosstask.load(folder, "test")
    assert (len(train), len(test)) == (18 * 30, 2750 - 360 - 18 * 30)
    validation = set(ids(crosstask.load(folder, "validation")))
    assert not set(ids(train)) & set(ids(test)) and not validation & set(ids(train) + ids(test))
    assert set(Counter(video.task for video in train).values()) == {30}
    assert len(train.left_out) == 1950 and test.left_out == []


# the released split


def by_the_seed(folder, features, n_train, seed):
    """The released protocol as its description puts it, with numpy's global generator."""
    listed = [line.split(",")[:2] for line in (folder / "videos.csv").read_text().split()]
    held_out = [line.split(",")[:2] for line in (folder / "videos_val.csv").read_text().split()]
    primary = (folder / "tasks_primary.txt").read_text().split("\n")[::6]
    known = primary + (folder / "tasks_related.txt").read_text().split("\n")[::6]
    of_task = {}
    for task, video in listed:
        if video in features and (folder / "annotations" / f"{task}_{video}.csv").exists():
            of_task.setdefault(task, []).append(video)
    state = np.random.get_state()
    np.random.seed(seed)
    train, test = [], []
    for task, videos in of_task.items():
        videos = [video for video in videos if [task, video] not in held_out]
        if task in primary and len(videos) > n_train:
            drawn = np.random.choice(videos, n_train, replace=False).tolist()
            train += [(task, video) for video in drawn]
            test += [(task, video) for video in videos if video not in drawn]
        elif task in known:
            train += [(task, video) for video in videos]
    np.random.set_state(state)
    return train, test


def test_golden_split(shared):
    folder = shared / "golden" / "zero_shot" / "crosstask"
    golden = json.loads((folder / "expected.json").read_text())
    features = set(np.load(shared / "golden" / "zero_shot" / "features.npz", allow_pickle=False).files)
    options = {"features": features, "n_train": golden["n_train"], "seed": golden["numpy_legacy_seed"]}
    for split in ("train", "test"):
        dataset = crosstask.load(folder / "crosstask_release", split, **options)
        assert ids(dataset) == [tuple(row) for row in golden[f"{split}_split"]]
        assert set(dataset.left_out) == {"ctnofeat", "ct30010", "ct30011"}
    held_out = crosstask.load(folder / "crosstask_release", "validation")
    assert ids(held_out) == [("1001", "ct10015"), ("1002", "ct10025")]


@pytest.mark.parametrize("seed", [0, 1])
def test_split_depends_on_features_as_released(shared, seed):
    folder = shared / "golden" / "zero_shot" / "crosstask" / "crosstask_release"
    videos = crosstask.load(folder, "all").video_ids
    rng = np.random.default_rng(seed)
    seen = set()
    for _ in range(12):
        features = {str(video) for video in rng.permutation(videos)[: rng.integers(8, len(videos) + 1)]}
        options = {"features": features, "n_train": int(rng.integers(0, 5)), "seed": seed}
        got = tuple(tuple(ids(crosstask.load(folder, split, **options))) for split in ("train", "test"))
        assert got == tuple(map(tuple, by_the_seed(folder, features, options["n_train"], seed)))
        seen.add(got)
    assert len(seen) > 6


def test_real_split_is_numpys_legacy_draw(folder, tmp_path):
    for name in (crosstask.PRIMARY, crosstask.RELATED, crosstask.VIDEOS, crosstask.VALIDATION):
        shutil.copyfile(folder / name, tmp_path / name)
    (tmp_path / "annotations").mkdir()
    with tarfile.open(folder / "annotations.tar.gz") as tar:
        for name in tar.getnames()[1:]:
            write(tmp_path, name, "1,0,1\n")
    features = set(crosstask.load(tmp_path, "all").video_ids[::2])
    train, test = by_the_seed(tmp_path, features, 30, 0)
    assert ids(crosstask.load(folder, "train", features)) == train
    assert ids(crosstask.load(folder, "test", features)) == test


# a small release


def test_records(release):
    assert crosstask.load(release, "primary")[0] == Video(
        "a", "11", "Make Tea", ("boil water", "pour water", "add tea"), ((0, 0.0, 2.5), (2, 2.25, 4.0))
    )
    assert ids(crosstask.load(release, "all")) == [("11", "a"), ("11", "b"), ("22", "b"), ("11", "c")]
    assert crosstask.load(release, "all").left_out == ["d"]
    assert [video.segments for video in crosstask.load(release, "validation")] == [()]
    assert ids(crosstask.load(release, "related")) == [("22", "b")]


def test_split_of_a_small_task(release):
    """Not more than n_train videos: all for training. Tasks without annotation have none."""
    train = crosstask.load(release, "train")
    assert ids(train) == [("11", "a"), ("11", "b")] and train.left_out == ["b", "d"]
    assert len(crosstask.load(release, "test")) == 0
    drawn, rest = (crosstask.load(release, split, n_train=1) for split in ("train", "test"))
    assert len(drawn) == len(rest) == 1 and set(ids(drawn)) | set(ids(rest)) == set(ids(train))
    assert crosstask.load(release, "train", features={"b"}).left_out == ["a", "b", "d"]


def test_folder_gzip_and_archive_are_the_same(release, tmp_path_factory):
    plain = list(crosstask.load(release, "all"))
    assert list(crosstask.load(release / "videos.csv", "all")) == plain
    packed = tmp_path_factory.mktemp("packed")
    for file in [*release.glob("*.*"), *release.glob("annotations/*")]:
        (packed / file.relative_to(release)).parent.mkdir(exist_ok=True)
        (packed / f"{file.relative_to(release)}.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert list(crosstask.load(packed, "all")) == plain
    shutil.rmtree(packed / "annotations")
    members = [(f"annotations/{file.name}", file.read_bytes()) for file in release.glob("annotations/*")]
    archive(packed / "annotations.tar", members, "w")
    assert list(crosstask.load(packed, "all")) == plain


def test_an_id_is_never_a_path(release):
    write(release, "11_x.csv", "1,0,1\n")
    write(release, crosstask.VIDEOS, "11,/../../11_x,http://x\n")
    assert crosstask.load(release, "primary")[0].segments == ()
    # as paths annotations/../x_a.csv and annotations/11_/../b.csv are there
    (release / "annotations" / "11_").mkdir()
    write(release, crosstask.PRIMARY, TASK + TASK.replace("11", "../x", 1))
    write(release, "x_a.csv", "1,0,1\n")
    write(release, "annotations/b.csv", "1,0,1\n")
    write(release, crosstask.VIDEOS, "../x,a,http://x\n11,/../b,http://x\n11,../../x_a,http://x\n")
    assert [video.segments for video in crosstask.load(release, "primary")] == [(), (), ()]
    members = [("../x_a.csv", b"1,0,1\n"), ("11_/../b.csv", b"1,0,1\n")]
    shutil.rmtree(release / "annotations")
    archive(release / "annotations.tar", members, "w")
    assert [video.segments for video in crosstask.load(release, "primary")] == [(), (), ()]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1,0,2\n0,2,3\n", "row 2: .*step=0.* is not one of the steps 1 to 3"),
        ("4,0,2\n", "row 1: .*step=4.* is not one of the steps 1 to 3"),
        ("x,0,2\n", "row 1: step: Input should be a valid integer, .*'x'"),
        ("1,5,2\n", "row 1: .*start=5.0, end=2.0.* ends before it starts"),
        ("1,-1,2\n", "row 1: start: Input should be greater than or equal to 0, not '-1'"),
        ("1,0,2\n2,0,inf\n", "row 2: end: Input should be a finite number, not 'inf'"),
        ("1,0\n", "row 1: 2 fields in place of 3"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_bad_annotations_are_named(release, text, error, packed):
    write(release, "annotations/11_b.csv", text)
    if packed:
        pack(release)
    with pytest.raises(ValueError, match=f"11_b.csv, {error}") as raised:
        crosstask.load(release, "primary")
    assert str(release) in str(raised.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (TASK + "12\nMake Soup\nhttp://soup\n3\n", 7),
        ("\n" + TASK, 1),
        (TASK.replace("\n3\n", "\n4\n"), 1),
        (TASK.replace("http://tea\n", "") + RELATED, 1),
        (TASK.replace("\n\n", "\n") + TASK, 1),
    ],
)
def test_bad_task_files_are_named(release, text, line):
    write(release, crosstask.PRIMARY, text)
    with pytest.raises(ValueError, match=f"{crosstask.PRIMARY}, line {line}: a task is five lines"):
        crosstask.load(release)


@pytest.mark.parametrize("name", [crosstask.VIDEOS, crosstask.VALIDATION])
def test_bad_lists_are_named(release, name):
    write(release, name, "11,a,u\n11,,u\n")
    with pytest.raises(ValueError, match=f"{name}, row 2: video: String should match pattern"):
        crosstask.load(release)


def test_absent_files_and_unknown_splits(release):
    with pytest.raises(ValueError, match="unknown split 'testing': one of 'train', 'test', 'validation'"):
        crosstask.load(release, "testing")
    (release / "annotations").rename(release / "elsewhere")
    with pytest.raises(FileNotFoundError, match="neither a folder annotations nor annotations.tar.gz"):
        crosstask.load(release)
    (release / "elsewhere").rename(release / "annotations")
    for name in (crosstask.VALIDATION, crosstask.VIDEOS, crosstask.RELATED, crosstask.PRIMARY):
        (release / name).unlink()
        with pytest.raises(FileNotFoundError, match=name):
            crosstask.load(release)


def pack(release):
    members = [(f"annotations/{file.name}", file.read_bytes()) for file in release.glob("annotations/*")]
    archive(release / "annotations.tar.gz", members)
    shutil.rmtree(release / "annotations")


def test_windows_line_ends_and_a_byte_order_mark(release):
    plain = list(crosstask.load(release, "all"))
    for file in [*release.glob("*.*"), *release.glob("annotations/*")]:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert list(crosstask.load(release, "all")) == plain
    pack(release)
    assert list(crosstask.load(release, "all")) == plain
