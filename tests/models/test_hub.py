"""Fetching the base model, from a hub on the loopback interface."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import BUNDLED
from tests import warm
from tests.models.hub_server import REVISION, Hub, serve_hub
from tests.official import Official, change_settings, fabricate
from tests.photos import write

# diffusers and peft take seconds to import
pytestmark = [pytest.mark.slow, pytest.mark.floors, pytest.mark.xdist_group("diffusers")]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Official:
    return fabricate(tmp_path_factory.mktemp("official"), small=True)


@pytest.fixture
def repositories(official: Official, tmp_path: Path) -> Path:
    """The hub's folder, with a good copy in ``good/base``."""
    shutil.copytree(official.base, tmp_path / "hub/good/base")
    return tmp_path / "hub"


@pytest.fixture
def hub(repositories: Path) -> Iterator[Hub]:
    with serve_hub(repositories) as running:
        yield running


def models(hub: Hub, *arguments: object, models_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run ``codiff-batch models`` as a user does."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(models_dir / "hf"), "NO_PROXY": "127.0.0.1"}
    command = [*warm.program(), "models", *map(str, arguments), "--models-dir", str(models_dir)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)


@pytest.mark.slow
def test_pull_then_import_installs_a_model_that_restores(
    hub: Hub, official: Official, tmp_path: Path, run, caplog: pytest.LogCaptureFixture
) -> None:
    where = tmp_path / "models"
    pulled = models(hub, "pull", "codiff-sd21", "--mirror", "gone/base", "--mirror", "good/base", models_dir=where)
    assert pulled.returncode == 0, pulled.stderr
    assert "gone/base" in pulled.stderr
    assert "good/base is in" in pulled.stdout
    assert "drive.google.com" in pulled.stdout
    files = ("--codiff", official.codiff, "--cave", official.cave)
    imported = run("models", "import", *files, "--base", "good/base", "--models-dir", where)
    assert imported.code == 0, imported.err
    assert read_card(where / "codiff-sd21").training["base"] == "good/base"
    photos = Path(__file__).parents[2] / "examples/photos"
    ran = run(photos / "lavender-q20.jpg", "--model", "codiff-sd21", "--models-dir", where, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "minutes per megapixel" in caplog.text
    assert (tmp_path / "out/lavender-q20.jpg").exists()


def test_what_was_pulled_once_is_not_asked_for_again(hub: Hub, tmp_path: Path) -> None:
    models(hub, "pull", "--mirror", "good/base", models_dir=tmp_path / "models")
    before = len(hub.asked)
    again = models(hub, "pull", "--mirror", "good/base", models_dir=tmp_path / "models")
    assert again.returncode == 0
    assert len(hub.asked) == before


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_base_that_is_not_what_was_fetched_is_fetched_again(hub: Hub, tmp_path: Path, harm: str) -> None:
    models(hub, "pull", "--mirror", "good/base", models_dir=tmp_path / "models")
    base = tmp_path / "models/.base/good--base"
    (weights,) = (base / "vae").glob("*.safetensors")
    before = weights.read_bytes()
    if harm == "gone":
        shutil.rmtree(base / "vae")
    else:
        weights.write_bytes(bytes(len(before)))
    again = models(hub, "pull", "--mirror", "good/base", models_dir=tmp_path / "models")
    assert again.returncode == 0, again.stderr
    assert weights.read_bytes() == before


def test_a_record_that_names_other_files_is_not_believed(hub: Hub, tmp_path: Path) -> None:
    write(tmp_path / "precious", b"mine")
    record = json.dumps({"../../../precious": "0" * 64}).encode()
    write(tmp_path / "models/.base/good--base/.complete", record)
    assert models(hub, "pull", "--mirror", "good/base", models_dir=tmp_path / "models").returncode == 0
    assert (tmp_path / "precious").read_bytes() == b"mine"


def test_what_a_killed_download_left_is_removed(hub: Hub, tmp_path: Path) -> None:
    left = tmp_path / "models/.base/good--base/.cache/huggingface/download/unet/abc.incomplete"
    write(left, bytes(100))
    assert models(hub, "pull", "--mirror", "good/base", models_dir=tmp_path / "models").returncode == 0
    assert not left.exists()


def test_settings_that_were_refused_are_asked_for_again(hub: Hub, repositories: Path, tmp_path: Path) -> None:
    file = repositories / "good/base/scheduler/scheduler_config.json"
    good = file.read_text()
    change_settings(file, prediction_type="v_prediction")
    assert models(hub, "pull", "--mirror", "good/base", models_dir=tmp_path / "models").returncode == 4
    file.write_text(good)
    again = models(hub, "pull", "--mirror", "good/base", models_dir=tmp_path / "models")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("name", "words"), [("a b", "cannot be the name"), ("n" * 201, "cannot be the name"), ("taken", "already exists")]
)
def test_a_name_that_cannot_be_had_is_refused_before_anything_is_fetched(
    hub: Hub, official: Official, tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "models/taken").mkdir(parents=True)
    files = ["--codiff", official.codiff, "--cave", official.cave, "--base", "good/base"]
    refused = models(hub, "import", *files, "--name", name, models_dir=tmp_path / "models")
    assert refused.returncode == 4
    assert words in refused.stderr
    assert hub.asked == []


def test_a_mirror_writes_nothing_but_plain_text_to_the_terminal(hub: Hub, repositories: Path, tmp_path: Path) -> None:
    change_settings(repositories / "good/base/unet/config.json", sample_size="\x1b[2J\ncodiff-batch: all is well")
    told = models(hub, "pull", "--mirror", "good/base", models_dir=tmp_path / "models")
    assert told.returncode == 4
    assert "\x1b" not in told.stderr
    assert "\ncodiff-batch: all is well" not in told.stderr
    told = models(hub, "pull", "--mirror", "x\x1b[2J/base", models_dir=tmp_path / "models")
    assert told.returncode == 4
    assert "\x1b" not in told.stderr


def test_a_download_that_breaks_off_goes_on_where_it_was(hub: Hub, repositories: Path, tmp_path: Path) -> None:
    large = repositories / "good/base/unet/diffusion_pytorch_model.safetensors"
    large.write_bytes(large.read_bytes() + bytes(24 << 20))
    hub.break_after = 21 << 20
    pulled = models(hub, "pull", "--mirror", "good/base", models_dir=tmp_path / "models")
    assert pulled.returncode == 0, pulled.stderr
    assert hub.cut == {large.as_posix()}
    assert any("unet" in asked and "bytes=" in asked and "bytes=0-" not in asked for asked in hub.asked)
    (arrived,) = (tmp_path / "models/.base/good--base/unet").glob("*.safetensors")
    assert arrived.read_bytes() == large.read_bytes()


@pytest.mark.parametrize("kind", ["768 pixels", "web page", "no weights", "damaged"])
def test_a_copy_that_is_not_what_it_says_is_refused_with_the_reason(
    hub: Hub, repositories: Path, tmp_path: Path, kind: str
) -> None:
    copy = Path(shutil.copytree(repositories / "good/base", repositories / "bad/base"))
    weights = copy / "unet/diffusion_pytorch_model.safetensors"
    if kind == "768 pixels":
        change_settings(copy / "scheduler/scheduler_config.json", prediction_type="v_prediction")
    elif kind == "web page":
        weights.write_text("<!DOCTYPE html><html><body>Please sign in")
    elif kind == "no weights":
        weights.unlink()
    else:
        hub.lie_about_checksums = True
    pulled = models(hub, "pull", "--mirror", "bad/base", models_dir=tmp_path / "models")
    assert pulled.returncode == 4
    told = {
        "768 pixels": "768-pixel",
        "web page": "web page",
        "no weights": "no safetensors weights",
        "damaged": "does not match its checksum",
    }
    assert told[kind] in pulled.stderr
    assert "Traceback" not in pulled.stderr
    if kind == "768 pixels":
        assert not [asked for asked in hub.asked if "safetensors" in asked], "found out before gigabytes are fetched"
    else:
        again = models(hub, "pull", "--mirror", "bad/base", models_dir=tmp_path / "models")
        assert again.returncode == 4


def test_no_token_is_sent_to_anybody(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pulled = models(hub, "pull", "--mirror", "good/base", models_dir=tmp_path / "models")
    assert pulled.returncode == 0, pulled.stderr
    assert hub.asked
    assert hub.tokens == []


def test_what_cannot_be_verified_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.tell_checksums = False
    pulled = models(hub, "pull", "--mirror", "good/base", models_dir=tmp_path / "models")
    assert pulled.returncode == 4
    assert "cannot be verified" in pulled.stderr
    assert not [asked for asked in hub.asked if asked.startswith("GET") and "safetensors" in asked]


@pytest.mark.parametrize("known", ["right", "wrong"])
def test_what_is_known_beforehand_counts_more_than_what_a_mirror_says(
    hub: Hub, repositories: Path, tmp_path: Path, known: str
) -> None:
    weights = [repositories / f"good/base/{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae")]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() if known == "right" else "0" * 64 for file in weights]
    pins = {"revision": REVISION} | {
        f"{file.parent.name}/{file.name}": digest for file, digest in zip(weights, digests, strict=True)
    }
    hub.lie_about_checksums = known == "right"
    imports = "from pathlib import Path; from codiff_batch.models.hub import _fetch"
    script = f"{imports}; _fetch('good/base', Path('base'), {pins!r})"
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
    command = warm.script(script)
    fetched = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (fetched.returncode == 0) == (known == "right"), fetched.stderr
    assert (tmp_path / "base/.complete").exists() == (known == "right")


@pytest.fixture
def pulled(tmp_path: Path) -> Path:
    """A folder of models, its name with a space, where the base of a second mirror lies ready."""
    base = tmp_path / "my models/.base/good--base"
    write(base / "unet/config.json", b"{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    (base / ".complete").write_text(json.dumps({"unet/config.json": digest}))
    return tmp_path / "my models"


def told_to_import(printed: str) -> list[str]:
    """Arguments of the command that ``pull`` says comes next."""
    (line,) = (line for line in printed.splitlines() if line.startswith("  codiff-batch"))
    return shlex.split(line)[3:]


def test_the_command_that_comes_next_names_what_was_pulled_and_where(pulled: Path) -> None:
    told = models(Hub(), "pull", "--mirror", "gone/base", "--mirror", "good/base", models_dir=pulled).stdout
    expected = ["--codiff", "codiff.pkl", "--cave", "cave.pth", "--base", "good/base", "--models-dir", str(pulled)]
    assert told_to_import(told) == expected
    assert told.count("drive.google.com") == 2


def test_nothing_is_left_to_do_for_a_model_that_is_installed(pulled: Path) -> None:
    installed = pulled / "codiff-sd21"
    shutil.copytree(BUNDLED / "fast", installed)
    (pulled / "compact").symlink_to(BUNDLED / "compact")  # which has the weights of fast
    told = models(Hub(), "pull", "--mirror", "gone/base", models_dir=pulled)
    assert (told.returncode, told.stderr) == (0, "")
    assert f"already installed in {installed}" in told.stdout
    assert "drive.google.com" not in told.stdout
    (pulled / "compact").unlink()
    told = models(Hub(), "pull", "--mirror", "good/base", models_dir=pulled)
    assert "--replace" in told_to_import(told.stdout), "what is left of a model is in the way"


def test_with_no_network_the_error_says_how_to_go_on(tmp_path: Path) -> None:
    nowhere = Hub(url="http://127.0.0.1:9")
    pulled = models(nowhere, "pull", "--mirror", "good/base", models_dir=tmp_path / "models")
    assert pulled.returncode == 4
    assert pulled.stderr.strip().splitlines()[-1].startswith("codiff-batch: error: the base model could not be fetched")
    assert "--base" in pulled.stderr


def test_a_model_that_nobody_knows_cannot_be_pulled(tmp_path: Path) -> None:
    pulled = models(Hub(), "pull", "elsewhere", models_dir=tmp_path)
    assert pulled.returncode == 4
    assert "known are codiff-sd21" in pulled.stderr
