"""``/docs``: a page to try the API, made of the OpenAPI document; nothing of it comes from elsewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from quart import Blueprint, Response

from ingestd.control.contract import Answer, Routes

_PAGES = Path(__file__).with_name("pages")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def blueprint() -> Blueprint:
    routes = Routes("documents", "Documents")

    def page(path: str, file: str, summary: str, media: str) -> None:
        async def show() -> Response:
            response = Response(_read(file), content_type=f"{media}; charset=utf-8")
            response.headers["Cache-Control"] = "no-cache"
            response.headers["Content-Security-Policy"] = _POLICY
            response.headers["Referrer-Policy"] = "no-referrer"
            response.headers["X-Content-Type-Options"] = "nosniff"
            await response.add_etag()
            return response

        show.__name__ = file.replace(".", "_")
        routes.get(path, summary, scope=None, answers=[Answer(status=200, about="It.", media=media)])(show)

    page("/docs", "docs.html", "A page to try all this", "text/html")
    page("/docs/try.js", "try.js", "Its script", "text/javascript")
    page("/docs/try.css", "try.css", "Its style", "text/css")
    page("/docs/icon.svg", "icon.svg", "Its icon", "image/svg+xml")
    return routes.blueprint


@cache
def _read(file: str) -> bytes:
    return (_PAGES / file).read_bytes()
