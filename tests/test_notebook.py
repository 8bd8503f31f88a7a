import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
import papermill
import pytest

from vclip import Corpus, PretrainConfig, extract, load, minihowto
from vclip.notebook import check_parameters, write_scores
from vclip.training.pretrain import pretrain

ROOT = Path(__file__).resolve().parent.parent


def test_an_unknown_notebook_parameter_is_refused():
    cells = ["", "epochs = 3  # passes\noutput: str = 'runs'", "# Parameters\nepoch = 4\n"]
    with pytest.raises(TypeError, match="parameter of this notebook 'epoch': did you mean 'epochs'"):
        check_parameters({"In": cells})
    check_parameters({"In": [*cells[:2], "# Parameters\nepochs = 4\n"]})
    check_parameters({"In": [*cells[:2], "import vclip"]})
    check_parameters({})


def test_a_number_in_place_of_a_text_is_refused_with_what_to_type():
    cells = ["", "output: str = 'runs'\nepochs = 3", "# Parameters\noutput = 2024\n"]
    with pytest.raises(TypeError, match="output is a text, but 2024 was read as a number: use -r output 2024"):
        check_parameters({"In": cells, "output": 2024, "epochs": 3})
    check_parameters({"In": cells, "output": "2024", "epochs": 3})


@pytest.mark.long
def test_papermill_stops_at_an_unknown_parameter(tmp_path):
    parameters = nbformat.v4.new_code_cell("clips = 3", metadata={"tags": ["parameters"]})
    check = nbformat.v4.new_code_cell("from vclip.notebook import check_parameters\n\ncheck_parameters(globals())")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[parameters, check], metadata=kernel), tmp_path / "in.ipynb")
    command = [sys.executable, "-m", "papermill", "in.ipynb", "out.ipynb", "-p", "clip", "3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "unknown parameter of this notebook 'clip': did you mean 'clips'" in done.stderr


def test_every_notebook_checks_its_parameters():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        first, second, *_ = (cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
        assert "parameters" in first.metadata.tags and "check_parameters(globals())" in second.source, path.name


def test_cells_whose_outputs_are_the_same_everywhere_are_compared():
    notebooks = [nbformat.read(path, 4) for path in (ROOT / "notebooks").glob("*.ipynb")]
    compared = [c for n in notebooks for c in n.cells if "nbval-check-output" in c.metadata.get("tags", ())]
    assert len(compared) >= 60 and all(cell.outputs for cell in compared)


@pytest.mark.long
def test_a_compared_output_that_differs_fails(tmp_path):
    path = ROOT / "notebooks" / "11_scale.ipynb"
    text, number = path.read_text(encoding="utf-8"), "119,167 hours; 153 million parameters"
    assert number in text
    (tmp_path / path.name).write_text(text.replace(number, "1 hour; 153 million parameters"), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    done = subprocess.run([*command, str(tmp_path / path.name)], capture_output=True, text=True, cwd=ROOT)
    assert "1 failed" in done.stdout and "Cell outputs differ" in done.stdout, done.stdout[-3000:]


class Stopped(Exception):
    """As if the user had interrupted the notebook."""


@pytest.mark.long
def test_pretraining_goes_on_in_its_notebook_and_learns(tmp_path):
    """Notebook 03 on the 64 validation videos, stopped after two epochs by an exception."""
    corpus, output = minihowto() / "val", tmp_path / "run"

    def stop(row: dict) -> None:
        if row["epoch"] == 3:
            raise Stopped

    with pytest.raises(Stopped):
        pretrain(PretrainConfig.small(corpus, validation=corpus, held_out=0.0, output=output), stop)
    rows = (output / "log.jsonl").read_text().splitlines()
    first = [row for row in rows if json.loads(row)["epoch"] < 3]
    command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / "03_pretrain.ipynb"), "out.ipynb"]
    command += ["-p", "corpus", str(corpus), "-p", "validation", str(corpus), "-p", "output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = (output / "log.jsonl").read_text().splitlines()
    assert len(first) > 2 and rows[: len(first)] == first, "the first epochs are kept, not trained again"
    scores = json.loads((output / "scores.json").read_text())
    assert set(scores) == {"after held out", "steps", "validation", "versions"}, "MiniHowTo's sets are not scored"
    assert scores["after held out"]["r10"] > 5 * scores["after held out"]["chance"]["r10"]


@pytest.mark.long
def test_pretraining_takes_a_corpus_made_of_video_files(tmp_path):
    """Notebook 03 on the twelve videos that ship, extracted as the README says, without a validation corpus."""
    videos = minihowto() / "videos"
    extract(videos, tmp_path / "corpus", load("offline").encoder)
    given = {"corpus": str(tmp_path / "corpus"), "videos": str(videos), "epochs": 3, "output": str(tmp_path / "run")}
    path = ROOT / "notebooks" / "03_pretrain.ipynb"
    notebook = papermill.execute_notebook(path, tmp_path / "out.ipynb", given, cwd=tmp_path, progress_bar=False)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["after held out"]["n"] == 8, "four clips of each of a fifth of the videos"
    cell = next(cell for cell in notebook.cells if "first_clips(index" in cell.source)
    assert any("image/png" in output.get("data", {}) for output in cell.outputs)


@pytest.mark.long
def test_a_readers_film_is_read_where_it_lies(tmp_path):
    """Notebook 01: no copy of the film, nothing else in the corpus, and what becomes of captions that lie elsewhere."""
    shutil.copy(minihowto() / "videos" / "val0000.mp4", tmp_path / "mine.mp4")
    captions = shutil.copy(minihowto() / "videos" / "val0000.vtt", tmp_path / "said.vtt")
    command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / "01_feature_extraction.ipynb"), "out.ipynb"]
    command += ["-p", "video", "mine.mp4", "-p", "captions", captions, "-p", "output", "made"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [file.name for file in tmp_path.rglob("*.mp4")] == ["mine.mp4"]
    corpus = Corpus.open(tmp_path / "made" / "corpus")
    assert corpus.video_ids == ["mine"] and len(corpus.captions(0)) == 0
    assert "put them beside the video, named mine.vtt" in (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    scores = json.loads((tmp_path / "made" / "scores.json").read_text())
    assert scores["words"] > scores["words after deduplicate"] > 0


def test_scores_are_written_with_the_versions_that_made_them(tmp_path):
    path = write_scores(tmp_path / "new" / "folder", {"r1": 0.5, "n": (1, 2)})
    assert path == tmp_path / "new" / "folder" / "scores.json"
    written = json.loads(path.read_text())
    assert written.pop("versions")["vclip"] == version("vclip") and written == {"r1": 0.5, "n": [1, 2]}
