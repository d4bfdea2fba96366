"""Model folders: found by name, checked before they are read, never unpickled."""

import json
import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from codiff_batch.errors import CannotInstall, ModelDamaged, ModelNotFound
from codiff_batch.models import loading
from codiff_batch.models.card import read_card, sha256_of
from codiff_batch.models.catalogue import MODELS_DIR_VARIABLE, available, find, user_models_dir
from codiff_batch.models.loading import load_networks, save_weights
from tests.tiny_model import SIZES, make_tiny_model


def test_a_saved_model_loads_again(tmp_path: Path) -> None:
    card, networks = load_networks(make_tiny_model(tmp_path / "tiny"))
    assert card.name == "tiny"
    assert not networks.generator.training
    assert all(not p.requires_grad for p in networks.cave.parameters())


def test_a_file_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    """As on a full disk."""
    _, networks = load_networks(make_tiny_model(tmp_path / "tiny"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(CannotInstall, match="cannot be written") as caught:
            save_weights(networks, tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)


def test_installed_models_are_found_by_name_in_the_folder_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny_model(tmp_path / "mine")
    assert find("mine", tmp_path) == folder
    assert {e.name: e.status for e in available(tmp_path)}["mine"] == "installed"
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(tmp_path))
    assert user_models_dir() == tmp_path
    assert find("mine") == folder


def test_a_model_that_is_nowhere_is_named_beside_those_that_are_there(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "mine")
    with pytest.raises(ModelNotFound, match=r"'other'; available: .*mine"):
        find("other", tmp_path)
    with pytest.raises(ModelNotFound, match="is not installed"):
        find("codiff-sd21", tmp_path)
    with pytest.raises(ModelNotFound, match="not a model folder"):
        find(tmp_path)


def test_a_model_may_use_the_weights_of_the_one_beside_it(tmp_path: Path) -> None:
    own = read_card(make_tiny_model(tmp_path / "own"))
    (tmp_path / "other").mkdir()
    replace(own, name="other", weights_of="own", views=2).save(tmp_path / "other")
    card, networks = load_networks(tmp_path / "other")
    _, owns = load_networks(tmp_path / "own")
    assert all(torch.equal(a, b) for a, b in zip(networks.cave.parameters(), owns.cave.parameters(), strict=True))
    assert card.digest != own.digest
    assert {e.name: e.size_bytes for e in available(tmp_path)}["other"] > 0
    (tmp_path / "own/weights.safetensors").unlink()
    with pytest.raises(ModelDamaged, match="missing"):
        load_networks(tmp_path / "other")


@pytest.mark.slow
@pytest.mark.floors
def test_a_model_may_add_files_of_its_own_to_those_of_the_one_beside_it(tmp_path: Path) -> None:
    own = read_card(make_tiny_model(tmp_path / "own"))
    make_tiny_model(tmp_path / "other", sizes={**own.sizes, "texture": True})
    split = {"texture.safetensors": "generator.texture.", "weights.safetensors": ""}
    card, networks = load_networks(tmp_path / "other")
    # The seed is one, so the faithful half is that of the model beside it.
    files = save_weights(networks, tmp_path / "other", files=split)
    (tmp_path / "other/weights.safetensors").unlink()
    files["weights.safetensors"] = own.files["weights.safetensors"]
    replace(card, files=files, weights_of="own").save(tmp_path / "other")
    _, again = load_networks(tmp_path / "other")
    _, owns = load_networks(tmp_path / "own")
    assert all(torch.equal(a, b) for a, b in zip(again.cave.parameters(), owns.cave.parameters(), strict=True))
    (tmp_path / "other/texture.safetensors").unlink()
    with pytest.raises(ModelDamaged, match="missing"):
        load_networks(tmp_path / "other")


def test_what_is_only_told_about_a_model_does_not_make_it_another(tmp_path: Path) -> None:
    card = read_card(make_tiny_model(tmp_path / "tiny"))
    assert replace(card, name="renamed", summary="new words", scores={"a": 1}).digest == card.digest
    assert replace(card, tile=64).digest != card.digest


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelDamaged, match="checksum"):
        load_networks(folder)
    weights.unlink()
    with pytest.raises(ModelDamaged, match="missing"):
        load_networks(folder)


@pytest.mark.parametrize("name", ["weights.pt", "../weights.safetensors"])
def test_only_safetensors_inside_the_folder_are_ever_read(tmp_path: Path, name: str) -> None:
    folder = make_tiny_model(tmp_path / "tiny", files={})
    change_card(folder, files={name: "0" * 64})
    with pytest.raises(ModelDamaged, match="refused"):
        load_networks(folder)


def nested(depth: int) -> object:
    return {"a": nested(depth - 1)} if depth else 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "unheard-of"}, "unknown to this version"),
        ({"sizes": {}}, "do not fit"),
        ({"format": 99}, "format 99"),
        ({"colour_fix": "sepia"}, "colour_fix"),
        ({"views": 3}, "views must be one of 1, 2, 4"),
        ({"weights_of": "../elsewhere"}, "beside this one"),
        ({"format": 99, "tile": "of a later kind"}, "format 99"),
        ({"tile": 0}, "tile must be"),
        ({"tile": "64"}, "tile"),
        ({"tile": 16 * 10**8}, "tile must be"),
        ({"multiple": 0}, "multiple must be"),
        ({"overlap": 128}, "overlap must be"),
        ({"overlap": -1000}, "overlap must be"),
        ({"value_range": "ab"}, "value_range"),
        ({"fade": ["a", "b"]}, "fade"),
        ({"fade": [1]}, "fade"),
        ({"files": 5}, "files"),
        ({"files": ["weights.safetensors"]}, "files"),
        ({"name": 5}, "name"),
        ({"licence": None}, "licence"),
        ({"weights_of": ".."}, "beside this one"),
        ({"sizes": 5}, "sizes"),
        ({"sizes": {**SIZES, "cave_width": 10**6}}, "cave_width is 1000000"),
        ({"sizes": {**SIZES, "cave_width": 16000}}, "too small for its sizes"),
        ({"sizes": {**SIZES, "depths": [10**5, 1, 1, 1]}}, "depths is 100000"),
        ({"sizes": {**SIZES, "widths": "8888"}}, "do not fit"),
        ({"sizes": {**SIZES, "factor": 0}}, "fit|weights"),
        ({"sizes": {**SIZES, "widths": [8] * 1000}}, "list of 1000"),
        ({"sizes": {"unet": {"layers_per_block": 16_384}}}, "layers_per_block is 16384"),
        ({"sizes": {"unet": {"blocks": [64] * 8, "layers_per_block": 8}}}, "unet asks for 4096 layers"),
        ({"training": nested(300)}, "training is nested"),
        ({"working_memory": 10**400}, "working_memory must be"),
        ({"files": {"a" * 300 + ".safetensors": "0"}, "weights_of": "x"}, "is missing"),
    ],
)
def test_a_card_that_cannot_be_followed_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    change_card(folder, **change)
    with pytest.raises(ModelDamaged, match=message) as caught:
        load_networks(folder)
    assert "\n" not in str(caught.value)


def test_a_model_takes_no_memory_before_its_files_are_known_to_have_as_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    build = loading.build
    monkeypatch.setattr(loading, "build", lambda card: built.append(build(card)) or built[-1])
    folder = make_tiny_model(tmp_path / "tiny")
    change_card(folder, sizes={**SIZES, "cave_width": 16000})
    with pytest.raises(ModelDamaged, match="too small for its sizes"):
        load_networks(folder)
    (networks,) = built
    assert all(weight.is_meta for weight in networks.weights().values())


def test_a_model_that_borrows_weights_is_found_through_a_link_to_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = read_card(make_tiny_model(tmp_path / "models/own"))
    (tmp_path / "models/other").mkdir()
    replace(own, name="other", weights_of="own").save(tmp_path / "models/other")
    (tmp_path / "link").symlink_to(tmp_path / "models/other")
    assert load_networks(tmp_path / "link")[0].name == "other"
    monkeypatch.chdir(tmp_path / "models/other")
    assert load_networks(Path())[0].name == "other"


def test_fields_of_later_programs_are_ignored(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    before = read_card(folder)
    change_card(folder, surprise=1)
    assert read_card(folder) == before
    assert read_card(folder).digest == before.digest


@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", "{", "", "\xff", "{" + '"a":{' * 5000, '{"name": "x"}'])
def test_one_bad_card_hides_no_other_model_and_gets_one_line(run, tmp_path: Path, text: str) -> None:
    make_tiny_model(tmp_path / "good")
    (make_tiny_model(tmp_path / "bad") / "model.json").write_bytes(text.encode("latin-1"))
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe/model.json")
    (tmp_path / "link").symlink_to("link")
    ran = run("models", "list", "--models-dir", tmp_path)
    assert ran.code == 0
    lines = {line.split()[0]: line for line in ran.out.splitlines()}
    assert {"good", "bad", "compact", "pipe"} <= set(lines)
    assert "damaged" in lines["bad"]
    assert "damaged" in lines["pipe"]
    assert "installed" in lines["good"]
    ran = run("models", "show", "bad", "--models-dir", tmp_path)
    assert ran.code == 4
    assert ran.err.count("\n") == 1
    assert "available: " in run(tmp_path, "--model", "mistyped", "--models-dir", tmp_path).err


def test_names_and_words_of_cards_cannot_forge_lines(run, tmp_path: Path) -> None:
    change_card(make_tiny_model(tmp_path / "tiny"), summary="fine\n\x1b[31mforged\u202e")
    ran = run("models", "list", "--models-dir", tmp_path)
    assert "\x1b" not in ran.out
    assert r"fine\n\x1b[31mforged\u202e" in ran.out
    assert "\u202e" not in run("models", "show", "tiny", "--models-dir", tmp_path).out


def test_a_name_that_is_too_long_is_a_model_that_is_not_there(tmp_path: Path) -> None:
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(ModelNotFound):
            find(name, tmp_path)


def test_weights_are_not_waited_for(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    (folder / "weights.safetensors").unlink()
    os.mkfifo(folder / "weights.safetensors")
    with pytest.raises(ModelDamaged, match="pipe"):
        load_networks(folder)


def test_a_damaged_model_is_listed_as_such(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    (folder / "model.json").write_text("{")
    (entry,) = (e for e in available(tmp_path) if e.name == "tiny")
    assert entry.status == "damaged"


def test_weights_do_not_fit_other_sizes(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    card = read_card(folder)
    change_card(folder, sizes={**card.sizes, "cave_width": 16})
    with pytest.raises(ModelDamaged, match=r"weights\.safetensors"):
        load_networks(folder)


def test_a_weight_that_no_file_has_is_missed(tmp_path: Path) -> None:
    """It would have whatever the memory had before."""
    folder = make_tiny_model(tmp_path / "tiny")
    state = load_file(folder / "weights.safetensors")
    gone = next(name for name in state if name.endswith("bias"))
    save_file({name: value for name, value in state.items() if name != gone}, folder / "weights.safetensors")
    change_card(folder, files={"weights.safetensors": sha256_of(folder / "weights.safetensors")})
    with pytest.raises(ModelDamaged, match=r"weights\.safetensors: Error"):
        load_networks(folder)


def change_card(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
