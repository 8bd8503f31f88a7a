import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from vclip.notebook import check_parameters, write_scores

ROOT = Path(__file__).resolve().parent.parent


def test_an_unknown_notebook_parameter_is_refused():
    cells = ["", "epochs = 3  # passes\noutput: str = 'runs'", "# Parameters\nepoch = 4\n"]
    with pytest.raises(TypeError, match="parameter of this notebook 'epoch': did you mean 'epochs'"):
        check_parameters({"In": cells})
    check_parameters({"In": [*cells[:2], "# Parameters\nepochs = 4\n"]})
    check_parameters({"In": [*cells[:2], "import vclip"]})
    check_parameters({})


def test_papermill_stops_at_an_unknown_parameter(tmp_path):
    notebook = ROOT / "notebooks" / "02_clips_and_clusters.ipynb"
    command = [sys.executable, "-m", "papermill", str(notebook), str(tmp_path / "out.ipynb"), "-p", "clip", "3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "unknown parameter of this notebook 'clip'" in done.stderr
    assert not (Path(tmp_path) / "runs").exists()


def test_scores_are_written_with_the_versions_that_made_them(tmp_path):
    path = write_scores(tmp_path / "new" / "folder", {"r1": 0.5, "n": (1, 2)})
    assert path == tmp_path / "new" / "folder" / "scores.json"
    written = json.loads(path.read_text())
    assert written.pop("versions")["vclip"] == version("vclip") and written == {"r1": 0.5, "n": [1, 2]}
