"""The procedure in a real GIMP, through its procedure database."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import warm
from tests.hosts.gimp.client import ROOT, Gimp

PHOTO = ROOT / "examples/photos/shrine-path-q10.jpg"
GRAY = ROOT / "examples/photos/lavender-q15-gray.jpg"
SIDE = 512


def kept(gimp: Gimp, name: str, dtype: object = np.uint8, channels: int = 3) -> np.ndarray:
    return np.fromfile(gimp.folder / name, dtype).reshape(SIDE, SIDE, channels)


def command_line(photo: Path, out: Path) -> np.ndarray:
    """What ``codiff-batch`` makes of a photo."""
    command = [*warm.program(), photo, "-o", out, "--format", "png"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return np.asarray(Image.open(next(out.glob("*.png"))))


def assert_same_but_for_rounding(pixels: np.ndarray, expected: np.ndarray) -> None:
    """One value in ten thousand may round the other way: two processes' sums differ in their last bit."""
    difference = np.abs(pixels.astype(int) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 1e-4


@pytest.fixture
def large() -> str:
    """Lines that open a photo which takes several tiles, and so some seconds."""
    return f"""
image = load("{PHOTO}")
image.scale(1600, 1600)
(layer,) = image.get_layers()
"""


@pytest.mark.parametrize(("photo", "channels"), [(PHOTO, 3), (GRAY, 1)], ids=["colour", "gray"])
def test_the_new_layer_is_the_command_lines_result(gimp: Gimp, tmp_path: Path, photo: Path, channels: int) -> None:
    told = gimp.run(f"""
image = load("{photo}")
(layer,) = image.get_layers()
keep(layer, "source")
with_file = remove_artifacts(image, [layer], jpeg="{photo}")
keep(image.get_layers()[0], "with-file")
without = remove_artifacts(image, [layer])
keep(image.get_layers()[0], "without")
keep(layer, "source-after")
tell(errors=[with_file, without], layers=[layer.get_name() for layer in image.get_layers()])
""")
    assert told["errors"] == [None, None]
    assert [name.startswith("Background") for name in told["layers"]] == [True] * 3
    there = command_line(photo, tmp_path / "out").reshape(SIDE, SIDE, channels)
    assert_same_but_for_rounding(kept(gimp, "with-file", channels=channels), there)
    # GIMP decodes a little differently, and the JPEG made from its pixels is not quite the file's.
    assert np.abs(kept(gimp, "without", channels=channels).astype(int) - there).mean() < 0.1
    assert (gimp.folder / "source").read_bytes() == (gimp.folder / "source-after").read_bytes()


def test_only_the_selection_changes(gimp: Gimp) -> None:
    told = gimp.run(f"""
image = load("{PHOTO}")
(layer,) = image.get_layers()
keep(layer, "source")
image.select_rectangle(Gimp.ChannelOps.REPLACE, 100, 50, 130, 77)
first = remove_artifacts(image, [layer], output="in-place")
keep(layer, "rectangle")
Gimp.Selection.none(image)
image.select_ellipse(Gimp.ChannelOps.REPLACE, 250, 250, 200, 120)
Gimp.Selection.feather(image, 10)
second = remove_artifacts(image, [layer])
keep(image.get_layers()[0], "ellipse")
keep(image.get_selection(), "selection")
third = remove_artifacts(image, [layer], output="in-place")
keep(layer, "ellipse-in-place")
tell(errors=[first, second, third])
""")
    assert told["errors"] == [None, None, None]
    source, rectangle, ellipse = (kept(gimp, name).astype(int) for name in ("source", "rectangle", "ellipse"))
    inside = np.zeros((SIDE, SIDE), bool)
    inside[50:127, 100:230] = True
    assert np.array_equal(rectangle[~inside], source[~inside])
    assert np.abs(rectangle - source)[inside].mean() > 1
    selected = kept(gimp, "selection", channels=1)[..., 0]
    assert np.array_equal(ellipse[selected == 0], rectangle[selected == 0])
    faint = (selected > 0) & (selected < 60)
    changes = np.abs(ellipse - rectangle).mean(axis=2)
    assert 0 < changes[faint].mean() < changes[selected == 255].mean() / 2
    assert np.array_equal(kept(gimp, "ellipse-in-place"), ellipse)


def test_every_precision_keeps_what_it_has(gimp: Gimp) -> None:
    told = gimp.run(f"""
errors = []
for precision in ("U8_NON_LINEAR", "U16_NON_LINEAR", "U16_LINEAR", "FLOAT_LINEAR", "HALF_NON_LINEAR", "U32_LINEAR"):
    image = load("{PHOTO}")
    if precision != "U8_NON_LINEAR":
        image.convert_precision(getattr(Gimp.Precision, precision))
    (layer,) = image.get_layers()
    if precision == "FLOAT_LINEAR":
        layer.add_alpha()
    keep(layer, precision + "-source")
    errors.append(remove_artifacts(image, [layer], strength=0.0))
    keep(image.get_layers()[0], precision + "-untouched")
    errors.append(remove_artifacts(image, [layer], output="in-place", constrain=False))
    keep(layer, precision + "-restored")
    image.convert_precision(Gimp.Precision.U8_NON_LINEAR)
    keep(layer, precision)
    tell(errors=errors)
""")
    assert told["errors"] == [None] * 12
    plain = kept(gimp, "U8_NON_LINEAR").astype(int)
    for precision in ("U8_NON_LINEAR", "U16_NON_LINEAR"):
        same = [(gimp.folder / f"{precision}-{when}").read_bytes() for when in ("source", "untouched")]
        assert same[0] == same[1], precision
    assert np.abs(plain - kept(gimp, "U8_NON_LINEAR-source")).mean() > 1
    for precision, channels in (("U16_NON_LINEAR", 3), ("U16_LINEAR", 3), ("FLOAT_LINEAR", 4), ("U32_LINEAR", 3)):
        restored = kept(gimp, precision, channels=channels).astype(int)
        assert np.abs(restored[..., :3] - plain).max() <= 1, precision
    linear, untouched = (kept(gimp, f"FLOAT_LINEAR-{w}", np.float32, 4) for w in ("source", "untouched"))
    assert np.allclose(linear, untouched, atol=1e-6)
    assert np.array_equal(linear[..., 3], kept(gimp, "FLOAT_LINEAR-restored", np.float32, 4)[..., 3])


def test_a_colour_profile_converts_nothing(gimp: Gimp, tmp_path: Path) -> None:
    told = gimp.run(f"""
image = load("{PHOTO}")
(layer,) = image.get_layers()
keep(layer, "source")
profile = Gimp.ColorProfile.new_rgb_adobe()
image.set_color_profile(profile)
errors = [remove_artifacts(image, [layer], strength=0.0)]
keep(image.get_layers()[0], "untouched")
errors.append(remove_artifacts(image, [layer], jpeg="{PHOTO}", output="in-place"))
keep(layer, "restored")
tell(errors=errors, kept=image.get_color_profile().get_label() == profile.get_label())
""")
    assert told["errors"] == [None, None]
    assert told["kept"]
    assert np.array_equal(kept(gimp, "source"), kept(gimp, "untouched"))
    assert_same_but_for_rounding(kept(gimp, "restored"), command_line(PHOTO, tmp_path / "out"))


def test_what_has_no_pixels_of_its_own_is_refused_in_a_sentence(gimp: Gimp) -> None:
    told = gimp.run(f"""
image = load("{PHOTO}")
(layer,) = image.get_layers()
group = Gimp.GroupLayer.new(image)
image.insert_layer(group, None, 0)
mask = layer.create_mask(Gimp.AddMaskType.WHITE)
layer.add_mask(mask)
saved = Gimp.Selection.save(image)
errors = [remove_artifacts(image, items) for items in ([group], [mask], [saved], [layer, group], [])]
small = Gimp.Layer.new(image, "small", 20, 20, Gimp.ImageType.RGBA_IMAGE, 100.0, Gimp.LayerMode.NORMAL)
image.insert_layer(small, None, 0)
image.select_rectangle(Gimp.ChannelOps.REPLACE, 400, 400, 50, 50)
errors.append(remove_artifacts(image, [small]))
Gimp.Selection.none(image)
errors.append(remove_artifacts(image, [layer], model="unheard-of"))
tell(errors=errors)
""")
    words = [
        "inside the group",
        "channels and layer masks",
        "channels and layer masks",
        "inside the group",
        "Choose a layer",
    ]
    words += ["does not touch", "no model named 'unheard-of'"]
    assert len(told["errors"]) == len(words)
    for error, expected in zip(told["errors"], words, strict=True):
        assert expected in error


def test_the_engine_stays_for_the_next_call_which_may_repeat_the_last_values(gimp: Gimp) -> None:
    told = gimp.run(f"""
image = load("{PHOTO}")
(layer,) = image.get_layers()
engines, errors = [], []
for quality in (0.0, 30.0):
    errors.append(remove_artifacts(image, [layer], model="fast", quality=quality))
    engines.append(processes("codiff_batch", "serve"))
keep(image.get_layers()[1], "automatic")
keep(image.get_layers()[0], "by-hand")
procedure = Gimp.get_pdb().lookup_procedure("plug-in-codiff-batch-remove-jpeg-artifacts")
defaults = [procedure.create_config().get_property(name) for name in ("model", "quality")]
pictures = [str(path) for path in (FOLDER / "run").glob("*/*.raw")]
tell(errors=errors, engines=engines, pictures=pictures, defaults=defaults)
""")
    assert told["errors"] == [None, None]
    assert told["engines"][0] == told["engines"][1]
    assert len(told["engines"][0]) == 1
    assert told["pictures"] == []
    assert told["defaults"] == ["compact", 0.0]
    assert not np.array_equal(kept(gimp, "by-hand"), kept(gimp, "automatic"))


LOCKED = ("set_lock_content", "set_lock_position")
CALLS = {
    "Image": ("undo_group_start", "insert_layer", "set_selected_layers"),
    "Item": ("set_lock_content", "set_lock_position", "set_lock_visibility", "set_visible"),
    "Drawable": ("merge_shadow", "update"),
    "Layer": ("copy",),
}
"""What putting a result in place asks GIMP for, by the class that does it."""


def test_a_locked_layer_is_refused_in_place_and_its_copy_is_unlocked_and_restored(gimp: Gimp) -> None:
    told = gimp.run(f"""
results = {{}}
for lock in {LOCKED}:
    image = load("{PHOTO}")
    (layer,) = image.get_layers()
    getattr(layer, lock)(True)
    layer.set_lock_visibility(True)
    keep(layer, "source")
    in_place = remove_artifacts(image, [layer], model="fast", output="in-place")
    untouched = values(layer) == (FOLDER / "source").read_bytes()
    new = remove_artifacts(image, [layer], model="fast")
    copy = image.get_layers()[0]
    locks = [copy.get_lock_content(), copy.get_lock_position(), copy.get_lock_visibility()]
    results[lock] = [in_place, untouched, new, locks, values(copy) != values(layer)]
group = Gimp.GroupLayer.new(image)
image.insert_layer(group, None, 0)
layer.set_lock_position(False)
image.reorder_item(layer, group, 0)
group.set_lock_content(True)
locked_group = remove_artifacts(image, [layer], model="fast")
group.set_lock_content(False)
layer.set_opacity(40.0)
seen = remove_artifacts(image, [layer], model="fast")
tell(results=results, group=locked_group, seen=seen, inside=len(group.get_children()), shown=layer.get_visible())
""")
    for lock in LOCKED:
        in_place, untouched, new, locks, restored = told["results"][lock]
        assert "is locked" in in_place
        assert untouched
        assert new is None
        assert locks == [False] * 3
        assert restored
    assert "The group" in told["group"]
    assert "is locked" in told["group"]
    assert "The visibility of" in told["seen"]
    assert (told["inside"], told["shown"]) == (1, True)


def test_what_gimp_does_not_do_is_told_and_leaves_no_half_done_layer(gimp: Gimp) -> None:
    """Each call in turn answers that it failed, as calls of GIMP's procedures do: they raise nothing."""
    told = gimp.run(f"""
sys.path.insert(0, str(FOLDER / "gimp/plug-ins/codiff-batch"))
from codiff_gimp.layers import Job, put
from codiff_gimp.pixels import Pixels
from codiff_gimp.texts import Refused

image = load("{PHOTO}")
(layer,) = image.get_layers()
layer.set_opacity(40.0)
result = FOLDER / "result.raw"
Pixels(layer).write(result)
refusals = {{}}
for kind, names in {CALLS}.items():
    kind = getattr(Gimp, kind)
    for name in names:
        does = getattr(kind, name)
        setattr(kind, name, lambda *_arguments: None if name == "copy" else False)
        try:
            put([(Job.of(image, layer, in_place=False), result)])
            refusals[name] = None
        except Refused as refused:
            refusals[name] = str(refused)
        finally:
            setattr(kind, name, does)
        here = image.get_layers()
        refusals[name] = [refusals[name], len(here), layer.get_visible()]
        if len(here) > 1:
            image.remove_layer(here[0])
        layer.set_visible(True)
put([(Job.of(image, layer, in_place=False), result)])
layers = len(image.get_layers())
image.select_rectangle(Gimp.ChannelOps.REPLACE, 100, 100, 200, 200)
Gimp.edit_copy([layer])
(floating,) = Gimp.edit_paste(layer, False)
does, Gimp.floating_sel_to_layer = Gimp.floating_sel_to_layer, lambda _floating: False
try:
    put([(Job.of(image, floating, in_place=False), result)])
    floats = None
except Refused as refused:
    floats = str(refused)
finally:
    Gimp.floating_sel_to_layer = does
tell(refusals=refusals, layers=layers, floats=floats)
""")
    assert told["layers"] == 2
    assert "cannot become a layer" in told["floats"]
    refusals = told["refusals"]
    assert len(refusals) == sum(map(len, CALLS.values()))
    words, *done = refusals.pop("set_selected_layers")
    assert "GIMP could not select the result." in words
    assert done == [2, False]  # the result is there by then
    for name, (words, layers, shown) in refusals.items():
        assert words is not None, name
        assert words.startswith("GIMP "), name
        assert (layers, shown) == (1, True), name
    assert len({words for words, _, _ in refusals.values()}) == len(refusals) - 2  # three of them unlock


@pytest.mark.parametrize("in_place", [False, True], ids=["new layers", "in place"])
def test_what_fails_in_the_second_of_two_layers_is_taken_back_in_the_first(gimp: Gimp, in_place: bool) -> None:
    told = gimp.run(f"""
sys.path.insert(0, str(FOLDER / "gimp/plug-ins/codiff-batch"))
from codiff_gimp.layers import Job, put
from codiff_gimp.pixels import Pixels
from codiff_gimp.texts import Refused

image = load("{PHOTO}")
(first,) = image.get_layers()
first.set_opacity(40.0)
second = first.copy()
image.insert_layer(second, None, 1)
image.select_ellipse(Gimp.ChannelOps.REPLACE, 100, 100, 200, 300)
Gimp.Selection.feather(image, 30)  # so that putting back may not go by the selection
result = FOLDER / "result.raw"

def look():
    layers = image.get_layers()
    return [[layer.get_name(), layer.get_visible(), hash(values(layer))] for layer in layers]

def jobs():
    made = [Job.of(image, layer, in_place={in_place}) for layer in (first, second)]
    result.write_bytes(bytes(255 - value for value in Pixels(first).read(*made[0].region)))
    return [(job, result) for job in made]

before, changed, outcomes = look(), [], {{}}
for name in {["merge_shadow", "update"] if in_place else ["copy", "merge_shadow", "set_visible"]}:
    for kind in (Gimp.Layer, Gimp.Item, Gimp.Drawable):
        if name in vars(kind) or hasattr(kind, name):
            break
    does, calls = getattr(kind, name), []
    def twice(self, *arguments, does=does, calls=calls):
        calls.append(self)
        if len(calls) == 2:
            changed.append(look() != before)
            return None if name == "copy" else False
        return does(self, *arguments)
    setattr(kind, name, twice)
    try:
        put(jobs())
        outcomes[name] = None
    except Refused as refused:
        outcomes[name] = [str(refused), look() == before]
    finally:
        setattr(kind, name, does)
put(jobs())
tell(outcomes=outcomes, changed=changed, done=look() != before, layers=len(look()))
""")
    for name, (words, same) in told["outcomes"].items():
        assert words.startswith("GIMP "), name
        assert same, name
    assert len(told["outcomes"]) == len(told["changed"])
    assert all(told["changed"]), "the first layer was done by then"
    assert told["done"]
    assert told["layers"] == (2 if in_place else 4)


def test_where_stacking_would_show_the_original_is_hidden(gimp: Gimp) -> None:
    """At strength 0 the picture is the very same."""
    told = gimp.run(f"""
def seen(image):
    flat = image.duplicate()
    return values(flat.merge_visible_layers(Gimp.MergeType.CLIP_TO_IMAGE))

results = {{}}
for case in ("plain", "opacity", "mode", "mask", "alpha", "effect"):
    image = load("{PHOTO}")
    (layer,) = image.get_layers()
    below = Gimp.Layer.new(image, "below", 512, 512, Gimp.ImageType.RGB_IMAGE, 100.0, Gimp.LayerMode.NORMAL)
    image.insert_layer(below, None, 1)
    below.fill(Gimp.FillType.FOREGROUND)
    if case == "opacity":
        layer.set_opacity(40.0)
    if case == "mode":
        layer.set_mode(Gimp.LayerMode.MULTIPLY)
    if case == "mask":
        image.select_ellipse(Gimp.ChannelOps.REPLACE, 100, 100, 200, 300)
        layer.add_mask(layer.create_mask(Gimp.AddMaskType.SELECTION))
        Gimp.Selection.none(image)
    if case == "alpha":
        layer.add_alpha()
        image.select_ellipse(Gimp.ChannelOps.REPLACE, 100, 100, 200, 300)
        Gimp.Selection.feather(image, 30)
        layer.edit_clear()
        Gimp.Selection.none(image)
    if case == "effect":
        blur = Gimp.DrawableFilter.new(layer, "gegl:gaussian-blur", "blur")
        layer.append_filter(blur)
    before = seen(image)
    error = remove_artifacts(image, [layer], strength=0.0)
    results[case] = [error, seen(image) == before, layer.get_visible()]
tell(**results)
""")
    assert told.pop("plain") == [None, True, True]
    assert len(told) == 5
    for case, result in told.items():
        assert result == [None, True, False], case


def test_the_result_of_a_floating_selection_lies_above_it(gimp: Gimp) -> None:
    told = gimp.run(f"""
image = load("{PHOTO}")
(layer,) = image.get_layers()
image.select_rectangle(Gimp.ChannelOps.REPLACE, 100, 100, 200, 200)
Gimp.edit_copy([layer])
(floating,) = Gimp.edit_paste(layer, False)
assert floating.is_floating_sel()
error = remove_artifacts(image, [floating], model="fast")
layers = image.get_layers()
tell(error=error, names=[layer.get_name() for layer in layers], same=values(layers[0]) == values(layers[1]))
""")
    assert told["error"] is None
    assert len(told["names"]) == 3
    assert told["names"][0] == f"{told['names'][1]} (JPEG artifacts removed)"
    assert not told["same"]


def test_several_layers_and_all_open_images(gimp: Gimp) -> None:
    told = gimp.run(f"""
image = load("{PHOTO}")
(first,) = image.get_layers()
second = first.copy()
image.insert_layer(second, None, 0)
both = remove_artifacts(image, [second, first], model="fast")
names = [layer.get_name() for layer in image.get_layers()]
other, indexed = load("{GRAY}"), load("{GRAY}")
indexed.convert_indexed(Gimp.ConvertDitherType.NONE, Gimp.ConvertPaletteType.GENERATE, 16, False, False, "")
everywhere = remove_artifacts(image, [first], model="fast", scope="all-images")
counts = [len(one.get_layers()) for one in (image, other, indexed)]
tell(both=both, names=names, everywhere=everywhere, counts=counts)
""")
    assert told["both"] is None
    assert [name.endswith("removed)") for name in told["names"]] == [True, False, True, False]
    assert told["counts"] == [6, 2, 1]
    assert "2 of 3 images are done" in told["everywhere"]
    assert "indexed" in told["everywhere"]


def test_an_engine_that_cannot_start_is_explained_in_its_own_words(gimp: Gimp) -> None:
    gimp.use_engine("printf 'J\\374rgen\\nNo module named torch\\n' >&2; exit 1")  # in Latin-1
    told = gimp.run(f"""
for process in processes("codiff_batch", "serve"):
    os.kill(process, signal.SIGTERM)
while list((FOLDER / "run").glob("codiff-batch-gimp-*")):
    time.sleep(0.05)
image = load("{PHOTO}")
tell(error=remove_artifacts(image, image.get_layers()))
""")
    assert "No module named torch" in told["error"]
    assert "gimp doctor" in told["error"]
    assert not gimp.engines()


def test_a_killed_engine_is_told_and_the_next_call_works(gimp: Gimp, large: str) -> None:
    told = gimp.run(f"""
{large}
kill_at_work("codiff_batch", "serve")
errors = [remove_artifacts(image, [layer])]
small = load("{PHOTO}")
errors.append(remove_artifacts(small, small.get_layers(), model="fast"))
tell(errors=errors, layers=len(image.get_layers()))
""")
    assert "ended unexpectedly" in told["errors"][0]
    assert told["errors"][1] is None
    assert told["layers"] == 1


def test_an_engine_that_is_killed_in_one_of_all_images_does_not_keep_the_others_waiting(gimp: Gimp, large: str) -> None:
    told = gimp.run(f"""
{large}
small = load("{PHOTO}")
kill_at_work("codiff_batch", "serve")
error = remove_artifacts(image, [layer], scope="all-images")
tell(error=error, layers=[len(image.get_layers()), len(small.get_layers())])
""")
    assert "1 of 2 images are done" in told["error"]
    assert "ended unexpectedly" in told["error"]
    assert sorted(told["layers"]) == [1, 2]


def test_a_cancelled_call_stops_the_work_and_leaves_nothing(gimp: Gimp, large: str) -> None:
    """Cancel in GIMP's status bar kills the plug-in."""
    told = gimp.run(f"""
{large}
kill_at_work("codiff-batch.py")
errors = [remove_artifacts(image, [layer])]
small = load("{PHOTO}")
errors.append(remove_artifacts(small, small.get_layers(), model="fast"))
pictures = [str(path) for path in (FOLDER / "run").glob("*/*.raw")]
tell(errors=errors, pictures=pictures, layers=len(image.get_layers()))
""")
    assert told["errors"][0]
    assert told["errors"][1] is None
    assert told["pictures"] == []
    assert told["layers"] == 1


def test_without_an_engine_the_entry_is_there_and_explains(gimp_root: Path, tmp_path: Path) -> None:
    gimp = Gimp(gimp_root, tmp_path)
    gimp.command_line("install")
    (gimp.user / "environ/codiff-batch.env").unlink()
    gimp.open()
    try:
        told = gimp.run(f"""
image = load("{PHOTO}")
tell(error=remove_artifacts(image, image.get_layers()))
""")
    finally:
        gimp.kill()
    assert "codiff-batch gimp install" in told["error"]
    assert not gimp.engines()
