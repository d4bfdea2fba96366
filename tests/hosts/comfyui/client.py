"""A ComfyUI server on loopback, and what a browser would say to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 600.0


@dataclass
class Ended:
    """How a prompt ended."""

    event: str
    """``execution_success``, ``execution_error`` or ``execution_interrupted``."""
    message: str = ""
    progress: list[tuple[int, int]] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    """Nodes that ran, by their id in the prompt."""
    outputs: dict[str, Any] = field(default_factory=dict)


class ComfyUI:
    """A running server with a folder of its own."""

    def __init__(self, python: Path, comfyui: Path, base: Path) -> None:
        self.base = base
        for name in ("custom_nodes", "models/codiff", "input", "output", "user/default", "temp"):
            (base / name).mkdir(parents=True, exist_ok=True)
        (base / "custom_nodes/codiff").symlink_to(ROOT / "plugins/comfyui")
        (base / "custom_nodes/float_nodes.py").symlink_to(ROOT / "tests/hosts/comfyui/float_nodes.py")
        elsewhere = f"codiff_batch_tests:\n  base_path: {base}/elsewhere\n  codiff: models\n"
        (base / "extra_model_paths.yaml").write_text(elsewhere)
        (base / "user/default/comfy.settings.json").write_text('{"Comfy.TutorialCompleted": true}')
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = {**os.environ, "COMFYUI_DIR": str(comfyui), "PYTHONDONTWRITEBYTECODE": "1"}
        environment["PYTHONPATH"] = str(ROOT)
        command = [python, ROOT / "tests/hosts/comfyui/start_comfyui.py", "--cpu", "--listen", "127.0.0.1"]
        command += ["--port", str(self.port), "--base-directory", base, "--disable-api-nodes"]
        command += ["--database-url", "sqlite:///:memory:"]
        command += ["--extra-model-paths-config", base / "extra_model_paths.yaml"]
        self.log = base / "server.log"
        with self.log.open("w") as log:
            self.program = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.get("/system_stats")
                return
            except OSError:
                assert time.monotonic() < until, self.log.read_text()
                assert self.program.poll() is None, self.log.read_text()
                time.sleep(0.3)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.program.terminate()
        self.program.wait(30)

    def peak_memory(self) -> int:
        """The most bytes that the server had of its own at any time."""
        status = Path(f"/proc/{self.program.pid}/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.address + path, timeout=30) as answer:
            data = answer.read()
            return json.loads(data) if "json" in answer.headers.get("Content-Type", "") else data

    def post(self, path: str, values: Any) -> tuple[int, Any]:
        request = urllib.request.Request(
            self.address + path, json.dumps(values).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else {}
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def upload(self, name: str, data: bytes) -> str:
        """Upload a file as the page does, and return the name it got."""
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        body = head.encode() + b"Content-Type: image/jpeg\r\n\r\n" + data + f"\r\n--{edge}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        with urllib.request.urlopen(urllib.request.Request(f"{self.address}/upload/image", body, kind)) as answer:
            return str(json.load(answer)["name"])

    def upload_into(self, name: str, data: bytes) -> None:
        """Put a file into the input folder, as a user does with a file manager."""
        path = self.base / "input" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def run(
        self,
        prompt: dict[str, Any],
        *,
        on_progress: Callable[[int, int], None] | None = None,
        on_node: Callable[[str], None] | None = None,
    ) -> Ended:
        """Queue a prompt and follow it to its end."""
        client = uuid.uuid4().hex
        ended = Ended("")
        line = websocket.create_connection(f"ws://127.0.0.1:{self.port}/ws?clientId={client}", timeout=PATIENCE)
        try:
            status, answer = self.post("/prompt", {"prompt": prompt, "client_id": client})
            assert status == 200, answer
            while not ended.event:
                text = line.recv()
                if not isinstance(text, str):
                    continue
                message = json.loads(text)
                kind, data = message["type"], message["data"]
                if data.get("prompt_id") not in (None, answer["prompt_id"]):
                    continue
                if kind == "progress":
                    ended.progress.append((data["value"], data["max"]))
                    if on_progress is not None:
                        on_progress(data["value"], data["max"])
                elif kind == "executing" and data.get("node"):
                    ended.executed.append(data["node"])
                    if on_node is not None:
                        on_node(data["node"])
                elif kind in ("execution_success", "execution_error", "execution_interrupted"):
                    ended.event, ended.message = kind, data.get("exception_message", "")
        finally:
            line.close()
        for _ in range(100):  # the history has the outputs a moment later
            history = self.get(f"/history/{answer['prompt_id']}")
            if answer["prompt_id"] in history:
                ended.outputs = history[answer["prompt_id"]]["outputs"]
                break
            time.sleep(0.05)
        return ended
