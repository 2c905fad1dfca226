"""The pages for people, and the library for browsers: files of the package, and nothing of another host.

Pages need no token, because they hold nothing of anybody's: what they show they ask the API for. Which files
there are is known when the daemon starts; no path is ever looked up on the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import frozen
from quart import Blueprint, Response, request

import ingestd
from ingestd.control.contract import Answer, Routes
from ingestd.control.errors import Refusal
from ingestd.control.links import Links
from ingestd.names import NAME

ROOT = Path(ingestd.__file__).with_name("pages")

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
#: What a page may use of the browser (Permissions Policy); it is asked for where it is in the list.
_SENSORS = ("camera", "microphone", "display-capture")
_UNCHANGED = Answer(status=304, about="It is as the client has it.", media=None)


@frozen
class _File:
    body: bytes
    media: str


def blueprint(links: Links) -> Blueprint:
    routes = Routes("pages", "Pages")
    html, assets = _read(ROOT, ".html"), _read(ROOT / "ui", ".js", ".css", ".svg")
    library = _read(ROOT / "lib", ".js")

    async def page(file: str, sensors: str = "()") -> Response:
        response = await _answer(html[file])
        response.headers["Content-Security-Policy"] = policy(links.ingest_origin)
        response.headers["Permissions-Policy"] = ", ".join(f"{name}={sensors}" for name in _SENSORS)
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        return response

    def shown(summary: str) -> list[Answer]:
        return [Answer(status=200, about=summary, media="text/html"), _UNCHANGED]

    @routes.get("/", "The dashboard", scope=None, answers=shown("All streams, live."))
    async def dashboard() -> Response:
        """What runs, how it stands, and the means to steer it: `GET /v1/streams` and `/v1/events`, seen."""
        return await page("dashboard.html")

    @routes.get("/broadcast", "Publish from a browser", scope=None, answers=shown("Camera, and Go Live."))
    async def broadcast() -> Response:
        """Asks for the stream key; no address ever has it."""
        return await page("broadcast.html", sensors="(self)")

    @routes.get(
        "/watch/<stream>", "Watch a stream", scope=None, answers=shown("The player."), problems=(404,)
    )  # fmt: skip
    async def watch(stream: str) -> Response:
        """The page is there for every name; the stream, only for who may watch it."""
        if not NAME.fullmatch(stream):
            raise Refusal(404, "no stream can be called that")
        return await page("watch.html")

    @routes.get("/check", "Check the way from this browser", scope=None, answers=shown("Step by step."))
    async def check() -> Response:
        """From the API to the picture: what fails is told with its cause and cure."""
        return await page("check.html")

    @routes.get("/login", "Sign in", scope=None, answers=shown("Asks for a token."))
    async def login() -> Response:
        """With a token, which `POST /v1/session` exchanges for a cookie."""
        return await page("login.html")

    @routes.get("/docs", "A page to try all this", scope=None, answers=shown("Made of the OpenAPI document."))
    async def docs() -> Response:
        """Every operation with its parameters, and what it answers."""
        return await page("docs.html")

    media = ", ".join(kind for suffix, kind in _TYPES.items() if suffix != ".html")

    @routes.get(
        "/ui/<asset>", "What pages are made of", scope=None, problems=(404,),
        answers=[Answer(status=200, about="A script, a style, a picture.", media=media), _UNCHANGED],
    )  # fmt: skip
    async def part(asset: str) -> Response:
        """Not for others: names and contents change with each version."""
        return await _answer(_found(assets, asset))

    @routes.get(
        "/lib/<asset>", "The library for browsers", scope=None, problems=(404,),
        answers=[Answer(status=200, about="An ES module.", media=_TYPES[".js"]), _UNCHANGED],
    )  # fmt: skip
    async def module(asset: str) -> Response:
        """`/lib/ingestd.js` has `Publisher` and `Player`. Pages of any origin may import it."""
        response = await _answer(_found(library, asset))
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response

    return routes.blueprint


def policy(ingest_origin: str) -> str:
    """The Content-Security-Policy of pages that speak with the listener at *ingest_origin*, too."""
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' {ingest_origin}; "
        "img-src 'self' blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _read(directory: Path, *suffixes: str) -> dict[str, _File]:
    """The files of *directory* with one of *suffixes*, by name."""
    return {
        path.name: _File(path.read_bytes(), f"{_TYPES[path.suffix]}; charset=utf-8")
        for path in sorted(directory.glob("*"))
        if path.suffix in suffixes and path.is_file()
    }


def _found(files: Mapping[str, _File], name: str) -> _File:
    if name not in files:
        raise Refusal(404, "there is no such file")
    return files[name]


async def _answer(file: _File) -> Response:
    response = Response(file.body, content_type=file.media)
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    await response.add_etag()
    await response.make_conditional(request)
    return response
