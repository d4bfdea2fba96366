"""What the documentation tells people to type is typed here, page by page and in its order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from codiff_batch.batch.shard import Shard
from docs.make_man import FOLDER, all_pages
from tests import warm

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

ELSEWHERE = {
    # Installing: CI does exactly this before it comes here.
    "pip install -c constraints.txt . && codiff-batch examples/photos --min-qf 60": ".ci/run",
    "pip install -c constraints.txt '.[test]' && pytest": ".ci/run",
    "pip install -c constraints.txt .": ".ci/run",
    "pip install -c constraints.txt '.[training]'": ".ci/run",
    "pip install 'codiff-batch[ray]'": ".ci/run",
    'ln -s "$PWD/plugins/comfyui" ~/ComfyUI/custom_nodes/codiff': "tests/hosts/comfyui/get_comfyui.py",
    "~/ComfyUI/venv/bin/python -m pip install .": "tests/hosts/comfyui/get_comfyui.py",
    "curl -s http://127.0.0.1:8188/prompt -H 'Content-Type: application/json' -d @prompt.json": (
        "test_the_documented_prompt_runs_from_curl_and_from_python"
    ),
    # What needs several GPUs, a cluster, GIMP or the hub has its own tests, on what stands for them here.
    "codiff-batch photos --device cuda:0,cuda:1": "test_several_devices_share_the_photos_and_give_the_same_bytes",
    "sbatch --array=1-16 --gres=gpu:1 --wrap 'codiff-batch photos -o restored --shard auto'": (
        "test_shards_come_from_slurms_array"
    ),
    "codiff-batch photos -o restored --cluster auto": (
        "test_a_cluster_does_every_photo_once_though_an_actor_is_killed"
    ),
    "codiff-batch gimp doctor": "test_the_doctor_finds_what_goes_wrong_and_names_the_cure",
    "codiff-batch models pull codiff-sd21": "test_pull_then_import_installs_a_model_that_restores",
    "codiff-batch models import --codiff codiff.pkl --cave cave.pth": (
        "test_pull_then_import_installs_a_model_that_restores"
    ),
    "codiff-batch models import --codiff released/codiff.pkl --cave released/cave.pth --base BASE --name my-codiff": (
        "test_stopped_resumed_released_and_imported"
    ),
    "codiff-batch photos --model codiff-sd21": "test_pull_then_import_installs_a_model_that_restores",
    "python -m benchmarks.smoke": "test_the_smoke_check_passes_on_what_there_is",
    "python -m benchmarks.gpu": "test_the_gpu_benchmark_is_ready_to_run",
    # Shells that are not here speak the same protocol of click's.
    'eval "$(_CODIFF_BATCH_COMPLETE=zsh_source codiff-batch)"': "test_completion_knows_commands_and_options",
    "_CODIFF_BATCH_COMPLETE=fish_source codiff-batch | source": "test_completion_knows_commands_and_options",
}
TRAINING = {
    "stage1": "test_both_stages_run_from_the_command_line_and_export_a_model_that_loads",
    "compact": "test_both_stages_run_from_the_command_line_and_export_a_model_that_loads",
    "export": "test_both_stages_run_from_the_command_line_and_export_a_model_that_loads",
    "stage2": "test_stopped_resumed_released_and_imported",
    "release": "test_stopped_resumed_released_and_imported",
    "evaluate": "test_another_tools_pictures_are_measured_beside_ours",
    "knob": "test_photos_that_are_held_out_are_measured_from_the_command_line",
    "ablations": "test_every_table_and_figure_comes_out_and_nothing_is_trained_twice",
}
"""Training takes hours or days, so what runs these modules does it with tiny networks."""


class Command(NamedTuple):
    """A line of a shell block."""

    page: str
    line: str

    @property
    def is_outline(self) -> bool:
        """Return True if it shows a form rather than a command: capitals, brackets or dots stand for something."""
        return bool(re.search(r"\[|\.\.\.|\b(DIR|A B|ID)\b", self.line)) and "pip install" not in self.line


def commands() -> list[Command]:
    """All lines of the shell blocks of all pages that are commands."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
        for body in (body for language, body in blocks if not language):
            lines = [re.sub(r"\s+#.*", "", line).strip() for line in body.splitlines()]
            found += [Command(page.name, line) for line in lines if re.match(r"[\w~.$]", line)]
    first_words = ("codiff-batch", "curl", "python", "pip", "find", "eval", "ln", "sbatch", "_CODIFF", "~")
    return [command for command in found if command.line.startswith(first_words)]


def marked(page: str) -> Any:
    """A page, with those that wait for those that wait."""
    waits = page in ("README.md", "unattended.md")
    return pytest.param(page, marks=pytest.mark.xdist_group("waiting") if waits else ())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader would be: in a clone, with some folders of photos."""
    with Image.open(ROOT / "examples/photos/lavender-q20.jpg") as image:
        small = image.crop((0, 0, 96, 64))
    of_shard = next(f"{i}.jpg" for i in range(1000) if Shard(3, 16).owns(Path(f"{i}.jpg")))
    for name in (
        f"photos/{of_shard}",
        "photos/trip/b.jpg",
        "in/c.jpg",
        "import/d.jpg",
        "anna/f.jpg",
        "ben/g.jpg",
        "examples/photos/e.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        small.save(tmp_path / name, quality=20)
    (tmp_path / "last-run").touch()
    os.utime(tmp_path / "last-run", (0, 0))
    shutil.copytree(ROOT / "codiff_batch/models/bundled/compact", tmp_path / "models/mine")
    (tmp_path / "home/.config/GIMP/3.0").mkdir(parents=True)
    return tmp_path


def type_in(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line with bash, as a reader would; what runs for ever is told to stop after a while."""
    for_ever = "watch" in line and "--once" not in line
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "CODIFF_"))},
        "PATH": warm.path(),
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder.parent / "cache"),  # what was measured for one page holds for the next
    }
    shell = ["timeout", "--signal=TERM", "5"] if for_ever else []
    return subprocess.run(
        [*shell, "bash", "-c", f"exec {line}" if for_ever else line],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow(seconds=15)
@pytest.mark.parametrize("page", map(marked, sorted({command.page for command in commands()})))
def test_every_command_of_a_page_does_what_it_should(page: str, folder: Path) -> None:
    for command in commands():
        if command.page != page or command.is_outline or command.line in ELSEWHERE:
            continue
        if command.line.startswith("python -m training"):
            continue
        if command.line.startswith("codiff-batch undo"):
            shutil.rmtree(folder / "photos-restored", ignore_errors=True)
        ended = type_in(command.line, folder)
        # A watcher that was told to stop says so with its exit code, through timeout's.
        assert ended.returncode in ((0, 124, 143) if "watch" in command.line else (0,)), (command, ended.stderr)
        assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_the_python_examples_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/python-api.md").read_text(encoding="utf-8")
    shutil.copy(ROOT / "examples/photos/lavender-q20.jpg", folder / "examples/photos")
    monkeypatch.chdir(folder)
    for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(compile(code, "python-api.md", "exec"), {})
    assert len(list((folder / "restored").rglob("*.jpg"))) == 2


def test_every_command_that_is_not_typed_here_names_what_runs_it() -> None:
    told = {command.line for command in commands()}
    assert set(ELSEWHERE) <= told, "stale entries"
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for runner in {*ELSEWHERE.values(), *TRAINING.values()}:
        assert (ROOT / runner).exists() if "/" in runner else f"def {runner}" in tests, runner
    for command in commands():
        if command.line.startswith("python -m training"):
            module = command.line.split()[2]
            assert module.removeprefix("training.") in TRAINING
            assert (ROOT / f"{module.replace('.', '/')}.py").exists()
            for file in re.findall(r"training/configs/\S+", command.line):
                assert (ROOT / file).exists()
            for option in re.findall(r"--[a-z0-9-]+", command.line):
                assert f'"{option}"' in (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8") + (
                    ROOT / "training/fit.py"
                ).read_text(encoding="utf-8"), command


def test_the_manual_is_the_programs_own() -> None:
    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.1")} == all_pages()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("codiff-batch --mi", "--min-qf"),
        ("codiff-batch photos --stre", "--strength"),
        ("codiff-batch mod", "models"),
        ("codiff-batch models im", "import"),
        ("codiff-batch inspect --js", "--json"),
        ("codiff-batch photos --format ti", "tiff"),
    ],
)
def test_completion_knows_commands_and_options(typed: str, offered: str) -> None:
    environment = {
        **os.environ,
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
        "_CODIFF_BATCH_COMPLETE": "bash_complete",
    }
    program = Path(sys.executable).with_name("codiff-batch")
    ended = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)
    assert f"plain,{offered}" in ended.stdout.splitlines()
