"""The test pages, served on loopback: each at an address of its own, so that it has a storage of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio

import ingestd

LIBRARY = Path(ingestd.__file__).parent / "pages" / "lib"
_TYPES = {".html": "text/html", ".js": "text/javascript"}


async def serve(nursery: trio.Nursery, page: Path) -> str:
    """Serve *page*, the scripts beside it, and the library under ``lib/`` for pages of any origin.

    Until *nursery* ends; returns its URL.
    """
    [listener] = await nursery.start(partial(trio.serve_tcp, partial(_answer, page), 0, host="127.0.0.1"))
    return f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"


async def _answer(page: Path, stream: trio.SocketStream) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        data = await stream.receive_some()
        if not data:
            return
        request += data
    wanted = request.split()[1].decode("latin-1").partition("?")[0]
    files = {"/": page, **{f"/{script.name}": script for script in page.parent.glob("*.js")}}
    files |= {f"/lib/{module.name}": module for module in LIBRARY.glob("*.js")}
    file = files.get(wanted) if request.startswith(b"GET ") else None
    body = file.read_bytes() if file else b""
    kind = _TYPES[file.suffix] if file else "text/plain"
    head = (
        f"HTTP/1.1 {'200 OK' if file else '404 Not Found'}\r\nContent-Type: {kind}; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\nCache-Control: no-store\r\n"
        "Access-Control-Allow-Origin: *\r\n\r\n"
    )
    await stream.send_all(head.encode() + body)
    await stream.aclose()
