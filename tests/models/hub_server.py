"""A hub on the loopback interface: what huggingface_hub asks for, from a folder of repositories."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """A running server, and what it is to do and has done."""

    url: str = ""
    break_after: int = 0
    """Bytes after which the connection of a large file is cut, once for each file; 0 for never."""
    lie_about_checksums: bool = False
    tell_checksums: bool = True
    asked: list[str] = field(default_factory=list)
    """Requests as "METHOD path range"."""
    cut: set[str] = field(default_factory=set)
    tokens: list[str] = field(default_factory=list)
    """What clients sent to be recognised by."""


@contextmanager
def serve_hub(root: Path) -> Iterator[Hub]:
    """Serve ``root/<owner>/<name>/...`` as a hub does."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            path = self.path.partition("?")[0]
            if token := self.headers.get("Authorization"):
                hub.tokens.append(token)
            hub.asked.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
            parts = path.strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                self.tell(root / parts[2] / parts[3], f"{parts[2]}/{parts[3]}")
            elif len(parts) > 4 and parts[2] == "resolve":
                self.hand_out(root / parts[0] / parts[1] / "/".join(parts[4:]))
            else:
                self.refuse()

        def tell(self, folder: Path, repository: str) -> None:
            if not folder.is_dir():
                self.refuse()
                return
            siblings = []
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                row: dict[str, object] = {"rfilename": file.relative_to(folder).as_posix(), "size": file.stat().st_size}
                if file.suffix == ".safetensors" and hub.tell_checksums:
                    row["lfs"] = {"sha256": self.sha256(file), "size": file.stat().st_size, "pointerSize": 134}
                siblings.append(row)
            body = json.dumps({"id": repository, "sha": REVISION, "siblings": siblings}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def sha256(self, file: Path) -> str:
            return "0" * 64 if hub.lie_about_checksums else hashlib.sha256(file.read_bytes()).hexdigest()

        def hand_out(self, file: Path) -> None:
            if not file.is_file():
                self.refuse()
                return
            body = file.read_bytes()
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(body) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.break_after and len(body) > hub.break_after and file.as_posix() not in hub.cut:
                hub.cut.add(file.as_posix())
                self.wfile.write(body[start : start + hub.break_after])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(body[start:])

        def refuse(self) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
