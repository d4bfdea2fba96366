"""Takes the pictures of GIMP in the documentation, in the real program.

Run ``python -m tests.hosts.gimp.make_pictures FOLDER`` after the dialog changed, with the folder of :mod:`get_gimp`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from tests.hosts.gimp.client import ROOT, Gimp
from tests.hosts.gimp.get_gimp import get_gimp
from tests.hosts.gimp.screen import SIZE, Screen

PICTURES = ROOT / "docs/images"
PHOTO = ROOT / "examples/photos/shrine-path-q10.jpg"
TITLE = "Remove JPEG Artifacts"
FILTERS, ENHANCE = ("427", "33"), ("470", "158")
DOCK, WIDER = ("1156", "462"), ("940", "462")
"""Where the border of the docks is, and where it leaves room for the names of layers."""
MENU = (0, 0, 1160, 500)


def main(folder: Path) -> None:
    """Write all pictures."""
    with tempfile.TemporaryDirectory() as place, Screen() as screen:
        gimp = Gimp(get_gimp(folder), Path(place) / "gimp")
        installed = gimp.command_line("install")
        assert installed.returncode == 0, installed.stderr
        (gimp.user / "environ/codiff-batch.env").write_text(f"CODIFF_PYTHON={gimp.folder}/python\n")
        gimp.use_engine()
        gimp.open(screen)
        try:
            _take(gimp, screen, Path(place))
        finally:
            gimp.kill()
            gimp.wait_for_engines_end()


def _take(gimp: Gimp, screen: Screen, place: Path) -> None:
    shot = place / "shot.png"
    photo = gimp.folder / "shrine-path.jpg"
    photo.write_bytes(PHOTO.read_bytes())
    gimp.run(f'show("{photo}").get_layers()[0].set_name("shrine path")')
    window = screen.wait_for("1 layer)")
    screen.do("windowsize", "--sync", window, str(SIZE[0] - 10), str(SIZE[1] - 40))
    screen.do("windowmove", window, "0", "0")
    time.sleep(3)
    screen.do("mousemove", *DOCK, "mousedown", "1", "mousemove", *WIDER, "mouseup", "1")
    screen.do("mousemove", *FILTERS, "click", "1")
    time.sleep(1)
    screen.do("mousemove", *ENHANCE)
    time.sleep(0.5)
    screen.do("key", "Right")
    time.sleep(1)
    screen.picture(shot)
    Image.open(shot).convert("RGB").crop(MENU).save(PICTURES / "gimp-menu.jpg", quality=90)
    screen.do("key", "j")
    dialog = screen.wait_for(TITLE)
    screen.do("mousemove", str(SIZE[0] - 2), str(SIZE[1] - 2))
    gimp.wait(lambda: list(gimp.runtime.glob("*/*-preview-*.raw")), "the preview")
    time.sleep(1)
    screen.picture(PICTURES / "gimp-dialog.png", dialog)
    screen.keys(dialog, "Return")
    window = screen.wait_for("2 layers)")
    time.sleep(2)
    screen.picture(shot, window)
    Image.open(shot).convert("RGB").save(PICTURES / "gimp-result.jpg", quality=90)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
