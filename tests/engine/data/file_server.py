"""A server of files on this machine, which can be told to misbehave."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Mirror:
    """A server of files, which can be told to misbehave."""

    url: str
    files: dict[str, bytes]
    asked: list[str] = field(default_factory=list)
    cut: bool = False
    silent: threading.Event = field(default_factory=threading.Event)
    garbage: bool = False
    ranges: bool = True


class Handler(http.server.BaseHTTPRequestHandler):
    mirror: Mirror

    def do_HEAD(self) -> None:
        self.reply(with_body=False)

    def do_GET(self) -> None:
        self.reply(with_body=True)

    def reply(self, *, with_body: bool) -> None:
        mirror, name = self.mirror, self.path.rpartition("/")[2]
        wanted = self.headers.get("Range", "")
        mirror.asked.append(f"{self.command} {name} {wanted}".strip())
        if mirror.garbage:
            self.wfile.write(b"<html>please log in</html>\r\n\r\n")
            return
        if mirror.silent.is_set():
            time.sleep(3)
            return
        content = mirror.files.get(name)
        if content is None:
            self.send_error(404)
            return
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and mirror.ranges else 0
        content = content[first:]
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content[: len(content) // 2] if mirror.cut else content)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Mirror]:
    """Serve `files` by name, wherever the path says they lie."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.mirror = Mirror(f"http://127.0.0.1:{server.server_port}/", dict(files))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield Handler.mirror
    finally:
        server.shutdown()
        server.server_close()
