"""What an index says of itself, in two files that are the same: `index.json`, and a copy for when that is damaged."""

import errno
import filecmp
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vclip.data import storage
from vclip.search.folder import Content

INDEX, COPY = "index.json", "index.copy.json"


class Entry(NamedTuple):
    """One indexed video: `path` in the folder, size in bytes, mtime in ns, and the place of its rows.

    `duration` is when it ends, in seconds: the last of its `seconds` may be a part of one.
    """

    path: str
    size: int
    mtime: int
    sha256: str
    seconds: int
    windows: int
    status: str
    error: str
    shard: int = -1
    row: int = -1
    duration: float | None = None


@dataclass(frozen=True)
class State:
    """`folder` is where the videos lie, seen from the index; `files` the content of shards and of the FAISS file by
    name; `videos` what is indexed; `failed` what could not be encoded, as it was then; `faiss` the name of the FAISS
    file, if there is one; `background` the everyday sentences and what they score."""

    made_by: dict
    folder: str
    last_shard: int = -1
    files: dict[str, Content] = field(default_factory=dict)
    videos: list[Entry] = field(default_factory=list)
    failed: list[Entry] = field(default_factory=list)
    faiss: str | None = None
    background: dict | None = None


def write_state(path: Path, state: State) -> None:
    """The copy comes last: it is the state before, if a power cut comes between."""
    for name in (INDEX, COPY):
        storage.write_json(path / name, vars(state))


def read_state(path: Path) -> State:
    """Raises FileNotFoundError if there is no index, ValueError if index.json and its copy are damaged.

    A warning says that the copy had to do.
    """
    wrong: list[str] = []
    for name in (INDEX, COPY):
        try:
            state = _parse((path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            wrong.append("is not there")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            wrong.append(f"is damaged ({error})")
        else:
            if wrong:
                warnings.warn(f"{path / INDEX} {wrong[0]}, its copy is read: call update()", stacklevel=2)
            return state
    if set(wrong) != {"is not there"}:
        raise ValueError(
            f"{path / INDEX} {wrong[0]} and {COPY} {wrong[1]}: put one back, or remove {path} and build again"
        )
    raise FileNotFoundError(_remains(path) or f"{path} holds no index: make one with MomentIndex.build")


def begin(path: Path, state: State) -> None:
    """Make the folder of an index unless there is one.

    Raises FileExistsError if it holds something else, PermissionError if nothing can be written there.
    """
    with writing(path):
        if any((path / name).is_file() for name in (INDEX, COPY)):
            return
        if path.exists() and (not path.is_dir() or any(f.suffix != ".tmp" for f in path.iterdir())):
            what = f"{path} holds something else: choose another folder for the index"
            raise FileExistsError(_remains(path) or what)
        path.mkdir(parents=True, exist_ok=True)
        write_state(path, state)


def are_whole(path: Path) -> bool:
    """Whether index.json and its copy are both there, and the same."""
    try:
        return filecmp.cmp(path / INDEX, path / COPY, shallow=False)
    except OSError:
        return False


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises PermissionError that says what to do if nothing can be written to `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise PermissionError(
            f"the index cannot be written to {path} ({error.strerror}): put it elsewhere, "
            "MomentIndex.build(..., path='a folder of yours')"
        ) from None


def _parse(text: str) -> State:
    said: dict[str, Any] = dict(json.loads(text))
    lists: dict[str, Any] = {name: [Entry(*row) for row in said[name]] for name in ("videos", "failed")}
    files = {name: Content(*content) for name, content in said["files"].items()}
    if said["faiss"] is not None:
        files[said["faiss"]]  # a KeyError here rather than at the first search
    return State(**said | lists | {"made_by": dict(said["made_by"]), "files": files})


def _remains(path: Path) -> str:
    """What to say of a folder that was an index; empty if it was none."""
    lost = f"{path} is an index that has lost {INDEX} and {COPY}: put one back, or remove {path} and build again"
    return lost if any(path.glob("features-*.safetensors")) else ""
