"""Icons as sprites: fetched once by npm at a pinned version, cached outside the repository, drawn by CairoSVG."""

import io
import json
import os
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw

ICON_SETS = {"noto": "1.2.9", "fluent-emoji-flat": "1.2.6"}  # Apache-2.0 and MIT
SPRITE = 128  # pixels a side
# rotations in degrees that bring the tools of both sets into one pose: the working end to the lower left
TOOL_ICONS = {"knife": ("kitchen-knife", 90), "spoon": ("spoon", 90), "hand": ("hand-with-fingers-splayed", 150),
              "brush": ("paintbrush", 0)}  # fmt: skip


def cache_folder() -> Path:
    """`$MINIHOWTO_CACHE`, else `minihowto` in the user's cache folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("MINIHOWTO_CACHE") or base / "minihowto")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def icon_set(style: str) -> dict:
    """The icon set's JSON: SVG bodies by name. Fetched with `npm pack` when the cache lacks it."""
    version = ICON_SETS[style]
    path = cache_folder() / f"{style}-{version}.json"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
            package = f"@iconify-json/{style}@{version}"
            done = subprocess.run(["npm", "pack", package, "--silent"], cwd=folder, text=True, capture_output=True)
            if done.returncode:
                raise RuntimeError(f"npm pack {package} failed: {done.stderr.strip()}; is npm installed and online?")
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as tar:
                member = tar.extractfile("package/icons.json")
                assert member is not None
                (Path(folder) / "icons.json").write_bytes(member.read())
            os.replace(Path(folder) / "icons.json", path)
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def icon(style: str, name: str) -> Image.Image:
    """RGBA sprite, SPRITE pixels square, cut to the drawn part so that the icons of both sets fill it alike."""
    import cairosvg  # needed to rebuild the world, not to use what ships

    icons = icon_set(style)
    while name not in icons["icons"]:
        name = icons["aliases"][name]["parent"]
    entry = icons["icons"][name]
    side = entry.get("width", icons["width"])
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {side} {entry.get("height", icons["height"])}">{entry["body"]}</svg>'
    )
    drawn = cairosvg.svg2png(bytestring=svg.encode(), output_width=2 * SPRITE, output_height=2 * SPRITE)
    image = Image.open(io.BytesIO(drawn)).convert("RGBA")
    image = image.crop(image.getchannel("A").point(lambda a: 255 * (a > 16)).getbbox())
    square = Image.new("RGBA", (max(image.size),) * 2)
    square.paste(image, tuple((max(image.size) - n) // 2 for n in image.size))
    return square.resize((SPRITE, SPRITE), Image.Resampling.LANCZOS)


@cache
def tool(style: str, name: str) -> Image.Image:
    """RGBA sprite of a tool; pan and bottle are drawn here because the sets have none that fit."""
    if name in TOOL_ICONS:
        icon_name, turn = TOOL_ICONS[name]
        return icon(style, icon_name).rotate(turn, Image.Resampling.BICUBIC)
    drawn = {"pan": _pan, "bottle": _bottle}[name](style == "noto")
    return drawn.resize((SPRITE, SPRITE), Image.Resampling.LANCZOS)


def _pan(first: bool) -> Image.Image:
    image = Image.new("RGBA", (512, 512))
    draw = ImageDraw.Draw(image)
    rim, inside, handle = ("#37474f", "#546e7a", "#8d5a3b") if first else ("#433b6b", "#635994", "#212121")
    draw.line((330, 256, 505, 256), fill=handle, width=44 if first else 34)
    draw.ellipse((4, 90, 380, 430) if first else (4, 110, 390, 420), fill=rim)
    draw.ellipse((30, 116, 354, 404) if first else (24, 130, 370, 400), fill=inside)
    return image


def _bottle(first: bool) -> Image.Image:
    """Upside down: the mouth points down."""
    image = Image.new("RGBA", (512, 512))
    draw = ImageDraw.Draw(image)
    glass, label, cap = ("#7cb342", "#fff3c4", "#c62828") if first else ("#00a6ed", "#f4f4f4", "#f8312f")
    draw.rounded_rectangle((156, 8, 356, 330), 40 if first else 80, fill=glass)
    draw.polygon([(160, 300), (352, 300), (290, 420), (222, 420)], fill=glass)
    draw.rectangle((156, 90, 356, 230), fill=label)
    draw.rectangle((216, 420, 296, 500), fill=cap)
    return image
