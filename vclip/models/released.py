"""Where the authors' files are published, and a download that goes on where it was cut."""

import shutil
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote, unquote
from urllib.request import Request, urlopen

from tqdm.auto import tqdm

VIDEOCLIP = "https://dl.fbaipublicfiles.com/MMPT/retri/videoclip/checkpoint_best.pt"
S3D = "https://www.rocq.inria.fr/cluster-willow/amiech/howto100m/s3d_howto100m.pth"


def fetch(address: str, folder: Path) -> Path:
    """Download a file into a folder, unless it is there; called again after a cut, it asks for the rest.

    Args:
        address: the file gets its last part as a name.
        folder: made if need be; what has come waits there as `<name>.<version>.part`.

    Raises:
        OSError: the address does not answer, or sends a web page or a part of the file.

    Example:
        >>> fetch(VIDEOCLIP, Path("weights"))  # doctest: +SKIP
    """
    name = address.rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    if (file := folder / name).is_file():
        return file
    request, begun = Request(address), next(folder.glob(f"{name}.*.part"), None)
    # from the last byte that is here: a server refuses to send the rest of a whole file
    start = max(begun.stat().st_size - 1, 0) if begun else 0
    if begun and start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", unquote(begun.name[len(name) + 1 : -len(".part")]))
    try:
        with urlopen(request, timeout=60) as answer:
            start = start if answer.status == 206 else 0  # else the file has changed, or the server sends no parts
            if not start and (answer.headers.get_content_type() == "text/html" or answer.peek().lstrip()[:1] == b"<"):
                raise URLError("a web page")
            version = answer.headers["ETag"] or answer.headers["Last-Modified"] or ""
            part, size = folder / f"{name}.{quote(version, safe='')}.part", start + (answer.length or 0)
            if begun and begun != part:
                begun.unlink()
            opened = tqdm.wrapattr(answer, "read", total=size, initial=start, desc=name)
            with suppress(ConnectionError, TimeoutError), open(part, "r+b" if start else "wb") as out, opened as stream:
                out.seek(start)
                shutil.copyfileobj(stream, out, 2**20)
    except URLError as error:
        remedy = f"get {name} elsewhere and put it into {folder}"
        raise OSError(f"{address} cannot be fetched ({error.reason}): {remedy}") from None
    if (came := part.stat().st_size) != size:
        raise OSError(f"{address} was cut off: {came:,} of {size:,} bytes are in {folder}: run again to go on")
    part.replace(file)
    return file
