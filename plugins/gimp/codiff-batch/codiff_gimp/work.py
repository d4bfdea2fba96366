"""The filter's work: layers to the engine, results back, an undo step for each image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gimp", "3.0")
from gi.repository import Gimp  # noqa: E402

from codiff_gimp.engine import Engine  # noqa: E402
from codiff_gimp.layers import Job, check, put  # noqa: E402
from codiff_gimp.pixels import Pixels, origin  # noqa: E402
from codiff_gimp.ranges import RANGES, SWITCHES  # noqa: E402
from codiff_gimp.texts import Refused, _  # noqa: E402


@contextmanager
def engine_at_work(engine: Engine | None = None) -> Iterator[Engine]:
    """The engine, ours or the dialog's, with a progress bar for as long as it is needed."""
    Gimp.progress_init(_("Removing JPEG artifacts"))
    engine = engine or Engine()
    try:
        yield engine
    finally:
        engine.close()
        Gimp.progress_end()


def check_all(image: Gimp.Image, drawables: list[Gimp.Drawable], settings: dict[str, Any]) -> None:
    """Check that layers may be worked on, before an engine is started for them.

    Raises:
        Refused: one may not.
    """
    if not drawables:
        raise Refused(_("Choose a layer."))
    for drawable in drawables:
        check(image, drawable, in_place=settings["output"] == "in-place")


def restore(image: Gimp.Image, drawables: list[Gimp.Drawable], settings: dict[str, Any], engine: Engine) -> None:
    """Restore layers of one image, all of them or none.

    Raises:
        Refused: one of them cannot be restored.
    """
    check_all(image, drawables, settings)
    jobs = [Job.of(image, drawable, in_place=settings["output"] == "in-place") for drawable in drawables]
    named = settings["jpeg"] if len(jobs) == 1 else ""
    results = []
    for index, job in enumerate(jobs):
        into = engine.file(f"out-{index}")

        def show(fraction: float, done: int = index) -> None:
            Gimp.progress_update((done + fraction) / len(jobs))

        engine.ask(
            do="restore",
            picture=Pixels(job.layer).write(engine.file("in")),
            region=job.region,
            into=str(into),
            on_progress=show,
            **asked(settings),
            **origin(image, job.layer, named),
        )
        results.append((job, into))
    put(results)
    Gimp.displays_flush()


def restore_all_images(settings: dict[str, Any], engine: Engine) -> None:
    """Restore the selected layers of every open image; one that is refused does not stop the others.

    Raises:
        Refused: names the images that were refused, each with the reason.
    """
    refusals = []
    images = Gimp.get_images()
    for image in images:
        try:
            if image.get_base_type() == Gimp.ImageBaseType.INDEXED:
                raise Refused(_("An indexed image cannot hold the result; convert it to RGB first."))
            engine.start_again()  # It may have ended with the image before.
            restore(image, image.get_selected_layers(), {**settings, "jpeg": ""}, engine)
        except (Refused, OSError) as error:
            refusals.append(f"{image.get_name() if image.is_valid() else '?'}: {error}")
    if refusals:
        done = _("{done} of {count} images are done. The others:").format(
            done=len(images) - len(refusals), count=len(images)
        )
        raise Refused("\n".join([done, *refusals]))


def asked(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as the engine calls them."""
    names = ("model", "precision", *RANGES, *SWITCHES)
    return {name: settings["quality" if name == "qf" else name] for name in names}


def seen(image: Gimp.Image, drawable: Gimp.Drawable, file: Path) -> dict[str, Any]:
    """A layer for the dialog's questions."""
    return {"picture": Pixels(drawable).write(file), **origin(image, drawable)}
