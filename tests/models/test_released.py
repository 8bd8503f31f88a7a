"""Downloads from a server on the loopback that knows Range, and can be told to fail."""

import re
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from vclip.encoders.s3d import S3D
from vclip.models import convert
from vclip.models.convert import fetch
from vclip.models.loading import load

import corpora
import reference

CONTENT = bytes(range(256)) * 40_000  # 10 MB, more than is read at once


class Files(ThreadingHTTPServer):
    """`files` by path: content, type; of each answer `cut` bytes are sent, then it ends, or breaks."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, tuple[bytes, str]] = {}
        self.cut, self.breaks, self.ranges, self.asked = None, False, True, []

    def put(self, name: str, content: bytes, kind: str = "application/octet-stream") -> str:
        self.files[f"/{name}"] = content, kind
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Answer(BaseHTTPRequestHandler):
    server: Files

    def do_GET(self):
        asked = self.headers["Range"]
        self.server.asked.append(asked)
        if self.path not in self.server.files:
            return self.send_error(404)
        content, kind = self.server.files[self.path]
        start = 0
        if asked and self.server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(content):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        for key, value in (("Content-Type", kind), ("Content-Length", len(content) - start)):
            self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(content[start:] if self.server.cut is None else content[start:][: self.server.cut])
        if self.server.breaks:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Files() as files:
        thread = threading.Thread(target=files.serve_forever, args=(0.05,))
        thread.start()
        yield files
        files.shutdown()
        thread.join()


def names(folder) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_file_is_fetched_once(server, tmp_path):
    address = server.put("weights.pt", CONTENT)
    assert fetch(address, tmp_path / "deep" / "cache") == tmp_path / "deep" / "cache" / "weights.pt"
    assert fetch(address, tmp_path / "deep" / "cache").read_bytes() == CONTENT
    assert server.asked == ["bytes=0-"] and names(tmp_path / "deep" / "cache") == ["weights.pt"]


def test_a_download_that_was_cut_goes_on(server, tmp_path):
    address, server.cut = server.put("weights.pt", CONTENT), 4_000_000
    with pytest.raises(OSError, match=r"weights\.pt was cut off: 4,000,000 of 10,240,000 bytes are in .*: run again"):
        fetch(address, tmp_path)
    assert not (tmp_path / "weights.pt").exists()
    server.cut = None
    assert fetch(address, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=0-", "bytes=3999999-"] and names(tmp_path) == ["weights.pt"]


def test_a_connection_that_breaks_is_a_cut(server, tmp_path):
    address, server.cut, server.breaks = server.put("weights.pt", CONTENT), 9_000_000, True
    with pytest.raises(OSError, match=r"weights\.pt was cut off: [\d,]+ of 10,240,000 bytes"):
        fetch(address, tmp_path)
    server.cut, server.breaks = None, False
    assert fetch(address, tmp_path).read_bytes() == CONTENT


def test_a_whole_file_that_was_not_renamed_is_taken(server, tmp_path):
    address, server.cut = server.put("weights.pt", CONTENT), 5
    with pytest.raises(OSError, match="was cut off"):
        fetch(address, tmp_path)
    next(tmp_path.iterdir()).write_bytes(CONTENT)
    assert fetch(address, tmp_path).read_bytes() == CONTENT
    assert server.asked[1:] == [f"bytes={len(CONTENT) - 1}-"]


def test_a_server_that_sends_no_parts_sends_the_whole(server, tmp_path):
    address, server.cut = server.put("weights.pt", CONTENT), 4_000_000
    with pytest.raises(OSError, match="was cut off"):
        fetch(address, tmp_path)
    server.cut, server.ranges = None, False
    assert fetch(address, tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == ["weights.pt"]


@pytest.mark.parametrize(
    ("content", "kind"), [(b"sorry", "text/html; charset=utf-8"), (b"\n <!DOCTYPE html>", "application/octet-stream")]
)
def test_a_web_page_is_refused(server, tmp_path, content, kind):
    address = server.put("weights.pt", content, kind=kind)
    with pytest.raises(OSError, match=rf"{address} cannot be fetched \(a web page\): get .* put it into {tmp_path}"):
        fetch(address, tmp_path)
    assert names(tmp_path) == []


def test_an_address_that_does_not_answer_is_named(server, tmp_path):
    address = server.put("weights.pt", CONTENT)
    with pytest.raises(OSError, match=r"other\.pt cannot be fetched \(Not Found\): get other\.pt elsewhere"):
        fetch(address.replace("weights", "other"), tmp_path)
    server.server_close()
    server.shutdown()
    with pytest.raises(OSError, match=r"weights\.pt cannot be fetched \(.*refused\): get weights\.pt elsewhere"):
        fetch(address, tmp_path)


def test_the_command_fetches_what_is_not_given(server, tmp_path, shared, monkeypatch):
    golden = shared / "golden" / "model_separate"
    reference.config(golden).save_pretrained(tmp_path / "sizes")
    corpora.tokenizer().save_pretrained(tmp_path / "tokenizer")
    torch.save(S3D().state_dict(), tmp_path / "s3d.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for constant, name, file in (
        ("VIDEOCLIP", "checkpoint_best.pt", golden / "checkpoint.pt"),
        ("S3D", "s3d_howto100m.pth", tmp_path / "s3d.pth"),
    ):
        monkeypatch.setattr(convert, constant, server.put(name, file.read_bytes()))
    options = ["--tokenizer", str(tmp_path / "tokenizer"), "--config", str(tmp_path / "sizes"), "--fetch"]
    given = [], ["--s3d", str(tmp_path / "s3d.pth")]
    for folder, more in zip((tmp_path / "one", tmp_path / "two"), given, strict=True):
        monkeypatch.setattr(sys, "argv", ["vclip.models.convert", *options, *more, str(folder)])
        convert.main()
        batch, clip = reference.batch(golden), load(folder)
        z_v = clip.model.get_video_features(batch["video_features"], batch["video_mask"]).pooler_output
        torch.testing.assert_close(z_v, batch["pooled_video"], atol=2e-5, rtol=0)
        assert clip.encoder.spec == clip.spec
    assert len(server.asked) == 2 and names(tmp_path / "torch" / "hub" / "vclip") == [
        "checkpoint_best.pt",
        "s3d_howto100m.pth",
    ]


def test_the_command_needs_a_file_or_fetch(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vclip.models.convert", "out"])
    with pytest.raises(SystemExit, match="^2$"):
        convert.main()
    assert "name FILE and FOLDER, or --fetch FOLDER" in capsys.readouterr().err
