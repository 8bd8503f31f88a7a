"""The authors' weights: read as our classes, and written as a folder of ours, S3D beside VideoCLIP.

`python -m vclip.models.convert --fetch FOLDER` downloads them and writes what searching your own videos takes.
"""

import argparse
import copy
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import torch
from safetensors.torch import save_file
from tqdm.auto import tqdm
from transformers import AutoTokenizer

from vclip.data.pickles import load_torch
from vclip.data.storage import new_folder
from vclip.encoders.networks import S3DEncoder
from vclip.encoders.s3d import S3D_FILE, load_s3d, load_strictly
from vclip.models.config import VideoCLIPConfig
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel

VIDEOCLIP = "https://dl.fbaipublicfiles.com/MMPT/retri/videoclip/checkpoint_best.pt"
S3D = "https://www.rocq.inria.fr/cluster-willow/amiech/howto100m/s3d_howto100m.pth"
RENAMED = {
    "video_encoder.videomlp.LayerNorm.": "video_mlp.layer_norm.",
    "video_encoder.videomlp.": "video_mlp.",
    "video_encoder.bert.": "video_model.",
    "video_encoder.classifier.": "classifier.",
    "text_encoder.": "text_model.",
}
TABLE = "video_model.embeddings.word_embeddings.weight"
# the released trunks carry poolers that never touch the result, and a buffer that transformers no longer stores
UNUSED = {
    trunk + name
    for trunk in ("video_encoder.bert.", "text_encoder.", "mm_encoder.bert.")
    for name in ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
}


def load_videoclip(path, config: VideoCLIPConfig | None = None) -> VideoCLIPModel:
    """Load a released VideoCLIP checkpoint as a float32 model in eval mode; only tensors are read, nothing is executed.

    Args:
        path: a fairseq trainer file; one with a classifier gives a `VideoCLIPForSegmentation`.
        config: sizes of another checkpoint of this layout; None means the released ones. Shared towers are recognised
            by their keys.

    Raises:
        ValueError: if the file is no checkpoint, or its weights do not fit.

    Example:
        >>> load_videoclip("checkpoint_best.pt")  # doctest: +SKIP
    """
    content = load_torch(path)
    # as mmpt/tasks/task.py takes them
    theirs = content.get("state_dict") or content.get("model") if isinstance(content, dict) else None
    if not isinstance(theirs, dict):
        raise ValueError(f"{path} is no checkpoint: it holds no weights under 'model' or 'state_dict'")
    theirs = {str(key).removeprefix("mmmodel."): value for key, value in theirs.items()}
    weights = {our_name(key): value for key, value in theirs.items() if key not in UNUSED}
    if len(weights) < len(theirs.keys() - UNUSED):
        raise ValueError(f"{path} mixes two layouts, shared towers (mm_encoder.) and separate ones: remove one")
    shared = any(key.startswith("mm_encoder.") for key in theirs)
    config = copy.deepcopy(config) or VideoCLIPConfig(share_towers=shared)
    if config.share_towers != shared:
        raise ValueError(f"{path} holds {'shared' if shared else 'separate'} towers, but share_towers is {not shared}")
    if not shared and TABLE in weights:
        weights[TABLE] = weights[TABLE][[config.cls_token_id, config.sep_token_id]]
    model_class = VideoCLIPModel
    if "classifier.weight" in weights:
        model_class, config.num_labels = VideoCLIPForSegmentation, len(weights["classifier.weight"])
    model = model_class(config)
    load_strictly(model, weights, path)
    return model


def our_name(key: str) -> str:
    """The name in our models of a key of the released file without its `mmmodel.`; any other key stays as it is."""
    key = key.replace("mm_encoder.", "video_encoder.")
    for theirs, ours in RENAMED.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def convert(path, folder, tokenizer=None, config: VideoCLIPConfig | None = None, s3d=None) -> None:
    """Write a released file as a folder for `vclip.load`; ValueError for a file or tokenizer that does not fit.

    Args:
        path: the released VideoCLIP file; S3D's needs no conversion: `load_s3d` reads it.
        folder: what to write; FileExistsError if it holds anything.
        tokenizer: a folder or hub id; adds the processor that `vclip.load` needs.
        config: sizes, as `load_videoclip` takes them.
        s3d: the released S3D file, which goes into the same folder as the encoder that the model's config names.

    Example:
        >>> convert("checkpoint_best.pt", "videoclip", "bert-base-uncased", s3d="s3d_howto100m.pth")  # doctest: +SKIP
    """
    with new_folder(folder) as making:
        model: Any = load_videoclip(path, config)
        if tokenizer is not None:
            limits = model.config.max_text_tokens, model.config.max_video_tokens
            processor = VideoCLIPProcessor(AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False), *limits)
            processor.check(model.config)
            processor.save_pretrained(making)
        if s3d is not None:
            network = load_s3d(s3d)
            spec, taken = S3DEncoder(network).spec, model.config.video_feature_dim
            if taken != spec.dim:
                raise ValueError(f"the model takes features of {taken}, S3D makes {spec.dim}")
            save_file(network.state_dict(), making / S3D_FILE)
            model.config.feature_spec = asdict(spec)
        model.save_pretrained(making)


def fetch(address: str, folder: Path) -> Path:
    """Download a file into a folder, unless it is there; called again after a cut, it asks for the rest of `.part`.

    OSError if the address does not answer, or sends a web page or a part of the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = address.rpartition("/")[2]
    file, part = folder / name, folder / f"{name}.part"
    if file.is_file():
        return file
    # from the last byte that is here: a server refuses to send the rest of a whole file
    start = max(part.stat().st_size - 1, 0) if part.is_file() else 0
    try:
        with urlopen(Request(address, headers={"Range": f"bytes={start}-"}), timeout=60) as answer:
            start = start if answer.status == 206 else 0  # else the server sends no parts
            if not start and (answer.headers.get_content_type() == "text/html" or answer.peek().lstrip()[:1] == b"<"):
                raise URLError("a web page")
            size = start + (answer.length or 0)
            opened = tqdm.wrapattr(answer, "read", total=size, initial=start, desc=name)
            with suppress(ConnectionError, TimeoutError), part.open("r+b" if start else "wb") as out, opened as stream:
                out.seek(start)
                shutil.copyfileobj(stream, out, 2**20)
    except (URLError, ConnectionError, TimeoutError) as error:
        why, remedy = getattr(error, "reason", error), f"get {name} elsewhere and put it into {folder}"
        raise OSError(f"{address} cannot be fetched ({why}): {remedy}") from None
    if (came := part.stat().st_size) != size and size > start:  # a server may not say how large it is
        raise OSError(f"{address} was cut off: {came:,} of {size:,} bytes are in {folder}: run again to go on")
    part.replace(file)
    return file


def main() -> None:
    parser = argparse.ArgumentParser("vclip.models.convert", description="Convert a released VideoCLIP file.")
    parser.add_argument("file", nargs="?", help="VideoCLIP's checkpoint_best.pt")
    parser.add_argument("folder", help="the folder to write, new or empty")
    parser.add_argument("--fetch", action="store_true", help="download VideoCLIP, S3D and tokenizer if not given")
    parser.add_argument("--tokenizer", help="folder or hub name, bert-base-uncased for the released model")
    parser.add_argument("--s3d", help="s3d_howto100m.pth, the released model's encoder, to go into the same folder")
    parser.add_argument("--config", help="folder of a config.json, for a model of other sizes than the released ones")
    given = parser.parse_args()
    if not given.file and not given.fetch:
        parser.error("name FILE and FOLDER, or --fetch FOLDER")
    try:
        file, s3d, tokenizer = given.file, given.s3d, given.tokenizer
        if given.fetch:
            cache = Path(torch.hub.get_dir()) / "vclip"
            s3d, file = s3d or fetch(S3D, cache), file or fetch(VIDEOCLIP, cache)  # the small one first
            tokenizer = tokenizer or "bert-base-uncased"
        config = VideoCLIPConfig.from_pretrained(given.config) if given.config else None
        convert(file, given.folder, tokenizer, config, s3d)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(f"{file} -> {given.folder}")


if __name__ == "__main__":
    main()
