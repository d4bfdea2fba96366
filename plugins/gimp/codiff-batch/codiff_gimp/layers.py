"""Layers: which may be worked on, whether they still are what was read, and putting the result where it belongs."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

import gi

gi.require_version("Gimp", "3.0")
gi.require_version("Gegl", "0.4")
gi.require_version("Babl", "0.1")
from gi.repository import Babl, Gegl, Gimp  # noqa: E402

from codiff_gimp.pixels import Pixels, selected  # noqa: E402
from codiff_gimp.texts import Refused, _, done  # noqa: E402


@dataclass(frozen=True)
class State:
    """What a layer was when it was read, and must be when the result is written."""

    size: tuple[int, int]
    offsets: tuple[int, int]
    format: str
    selection: str
    content: str
    """Hashes, of the selection and of the pixels within its bounds."""

    @classmethod
    def of(cls, image: Gimp.Image, layer: Gimp.Layer, region: tuple[int, int, int, int]) -> State:
        """Look at a layer."""
        size = (layer.get_width(), layer.get_height())
        x, y, width, height = region
        within = x + width <= size[0] and y + height <= size[1]
        return cls(
            size,
            tuple(layer.get_offsets()[1:]),
            Babl.get_name(layer.get_format()),
            _hash(selected(image, layer, *region)),
            _hash(Pixels(layer).read(*region)) if within else "",
        )


@dataclass(frozen=True)
class Job:
    """A layer to restore, as it is now."""

    image: Gimp.Image
    layer: Gimp.Layer
    region: tuple[int, int, int, int]
    """x, y, width, height of the selection's bounds in the layer."""
    state: State
    in_place: bool

    @classmethod
    def of(cls, image: Gimp.Image, layer: Gimp.Drawable, *, in_place: bool) -> Job:
        """Look at a layer before the work.

        Raises:
            Refused: it cannot be worked on.
        """
        region = check(image, layer, in_place=in_place)
        return cls(image, layer, region, State.of(image, layer, region), in_place)

    def check_again(self) -> None:
        """Check that nothing was changed meanwhile which the result would destroy.

        Raises:
            Refused: something was; nothing must be written.
        """
        if not self.image.is_valid():
            raise Refused(_("The image was closed while the filter was working."))
        if not self.layer.is_valid() or self.layer not in _all_layers(self.image.get_layers()):
            raise Refused(_("The layer was removed while the filter was working; nothing was changed."))
        now = State.of(self.image, self.layer, self.region)
        before = self.state
        changes = (
            (now.size != before.size, _("The layer was resized or turned while the filter was working")),
            (now.offsets != before.offsets, _("The layer was moved while the filter was working")),
            (now.format != before.format, _("The image's mode or profile was changed while the filter was working")),
            (now.selection != before.selection, _("The selection was changed while the filter was working")),
            (now.content != before.content, _("The layer was edited while the filter was working")),
        )
        reason = next((words for changed, words in changes if changed), "")
        if reason:
            raise Refused(_("{reason}; nothing was changed. Run the filter again.").format(reason=reason))
        check(self.image, self.layer, in_place=self.in_place)


def check(image: Gimp.Image, drawable: Gimp.Drawable, *, in_place: bool) -> tuple[int, int, int, int]:
    """Check that a layer may be worked on and return the bounds of the selection in it.

    Raises:
        Refused: it may not; says why.
    """
    if not isinstance(drawable, Gimp.Layer):
        raise Refused(_("Choose a layer; channels and layer masks have no JPEG artifacts."))
    if drawable.is_group():
        raise Refused(_("Choose a layer inside the group: a group has no pixels of its own."))
    if drawable.is_indexed():
        raise Refused(_("An indexed image cannot hold the result; convert it to RGB first."))
    locked = [item for item in _ancestry(drawable) if item.get_lock_content()]
    if in_place and (locked or drawable.get_lock_position()):
        raise Refused(
            _("The layer “{name}” is locked. Unlock it, or let the result go into a new layer.").format(
                name=(locked or [drawable])[0].get_name()
            )
        )
    if any(item != drawable for item in locked):
        raise Refused(_("The group “{name}” is locked. Unlock it first.").format(name=locked[-1].get_name()))
    touched, *region = drawable.mask_intersect()
    if not touched:
        raise Refused(_("The selection does not touch this layer."))
    return tuple(region)


def put(results: list[tuple[Job, Path]]) -> None:
    """Put restored regions into their layers or into copies above them, in one undo step of their image.

    The selection decides how much of a region shows.

    Raises:
        Refused: a layer is not what it was, or GIMP would not do it; nothing was changed in any.
    """
    for job, _file in results:
        job.check_again()
    image = results[0][0].image
    done(image.undo_group_start(), _("GIMP could not start an undo step."))
    try:
        # GIMP's procedures cannot undo, so what was done to earlier layers is taken back here.
        with contextlib.ExitStack() as back:
            targets = [_put_one(job, file, back) for job, file in results]
            back.pop_all()
        done(image.set_selected_layers(targets), _("GIMP could not select the result."))
    finally:
        image.undo_group_end()


def _put_one(job: Job, file: Path, back: contextlib.ExitStack) -> Gimp.Layer:
    if job.in_place:
        before = Pixels(job.layer)
        back.callback(before.put_back, before.read(*job.region), *job.region)
        _write(job, job.layer, file)
        return job.layer
    floating = job.image.get_floating_sel()
    if floating is not None:
        # GIMP lets nothing lie above a selection that floats.
        done(Gimp.floating_sel_to_layer(floating), _("The floating selection cannot become a layer; anchor it first."))
    copy = job.layer.copy()
    if copy is None:
        raise Refused(_("GIMP could not copy the layer."))
    above = floating if floating is not None else job.layer
    place = job.image.get_item_position(above)
    done(job.image.insert_layer(copy, above.get_parent(), place), _("GIMP could not add the new layer."))
    back.callback(job.image.remove_layer, copy)
    copy.set_name(_("{layer} (JPEG artifacts removed)").format(layer=job.layer.get_name()))
    for unlock in (copy.set_lock_content, copy.set_lock_position, copy.set_lock_visibility):
        done(unlock(False), _("GIMP could not unlock the new layer."))
    _write(job, copy, file)
    if _stacking_shows(job.layer):
        if job.layer.get_lock_visibility():
            raise Refused(
                _("The visibility of “{name}” is locked, and with its copy it would look different.").format(
                    name=job.layer.get_name()
                )
            )
        back.callback(job.layer.set_visible, job.layer.get_visible())
        done(job.layer.set_visible(False), _("GIMP could not hide the original."))
    return copy


def _write(job: Job, target: Gimp.Layer, file: Path) -> None:
    x, y, width, height = job.region
    shadow = target.get_shadow_buffer()
    shadow.set(Gegl.Rectangle.new(x, y, width, height), Pixels(job.layer).format, file.read_bytes())
    shadow.flush()
    done(target.merge_shadow(True), _("GIMP did not accept the result."))
    done(target.update(x, y, width, height), _("GIMP could not show the result."))


def _stacking_shows(layer: Gimp.Layer) -> bool:
    """Return True if a layer and its copy above it look different from the layer alone."""
    return (
        layer.get_mode() not in (Gimp.LayerMode.NORMAL, Gimp.LayerMode.NORMAL_LEGACY)
        or layer.get_opacity() < 100
        or layer.get_mask() is not None
        or layer.has_alpha()
        or bool(layer.get_filters())
    )


def _ancestry(item: Gimp.Item | None) -> list[Gimp.Item]:
    found = []
    while item is not None:
        found.append(item)
        item = item.get_parent()
    return found


def _all_layers(layers: list[Gimp.Layer]) -> list[Gimp.Layer]:
    return [*layers, *(inner for layer in layers if layer.is_group() for inner in _all_layers(layer.get_children()))]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
