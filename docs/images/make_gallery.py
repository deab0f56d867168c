"""Draw the pictures of docs/gallery.md by the lines that stand there: `make gallery STORE=…`, the page says of which store.

python docs/images/make_gallery.py STORE [--out FOLDER]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
LINES = re.compile(r"^```sh gallery\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WIDEST, COLORS = 1400, 255


def main() -> None:
    """Run each line, and keep its picture no wider and no larger than a page needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--out", type=Path, default=HERE / "gallery")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {**os.environ, "ATTNSTORE_STORE": str(Path(asked.store).resolve()), "PATH": path}
    for line in LINES.findall((HERE.parent / "gallery.md").read_text("utf-8")):
        subprocess.run(["bash", "-e", "-c", line], cwd=asked.out, env=settings, check=True)
    for file in sorted(asked.out.glob("*.png")):
        picture = Image.open(file).convert("RGB")
        picture.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
        picture.quantize(COLORS, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    main()
