"""The OpenAPI document and the application are the same thing told twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingestd.control.openapi import document, routes_of
from ingestd.control.pages import ROOT
from tests.auth.serving import TOKENS, give, listener

SCOPES = {None, "read", "publish", "admin", "watch"}


async def test_every_route_is_in_the_document_and_no_other(tmp_path: Path) -> None:
    """Each method of each path of the application is described, and what is described is there."""
    async with listener(tmp_path) as made:
        told = (await made.ask("GET", "/v1/openapi.json")).json()
        rules = {
            (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
            for rule in made.app.url_map.iter_rules()
            for method in rule.methods - {"HEAD", "OPTIONS"}
        }
    described = {(path, method) for path, methods in told["paths"].items() for method in methods}
    assert described == rules


async def test_every_route_says_who_may(tmp_path: Path) -> None:
    """The scope that is asked for is the one in the document; what needs none says so."""
    async with listener(tmp_path) as made:
        for route in routes_of(made.app):
            view = made.app.view_functions[route.name]
            assert view.__scope__ == route.scope  # type: ignore[attr-defined]
            assert route.scope in SCOPES
        told = document(made.app)
    for methods in told["paths"].values():
        for operation in methods.values():
            assert ("x-scope" in operation) == (operation["security"] != [])


async def test_nothing_is_readable_without_its_scope(tmp_path: Path) -> None:
    """Every operation of the document, with no token, a wrong one, and one whose scope is too small."""
    less: dict[str, str | None] = {"read": None, "publish": "read", "admin": "publish"}
    tokens = {scope: give(tmp_path, scope, scope) for scope in ("read", "publish")}
    async with listener(tmp_path, TOKENS + 'failures = "0"\nfailures_in_all = "0"\n') as made:
        told = (await made.ask("GET", "/v1/openapi.json")).json()
        for path, methods in told["paths"].items():
            for method, operation in methods.items():
                scope = operation.get("x-scope")
                if scope in (None, "watch"):
                    continue
                url = re.sub(r"{\w+}", "cam", path)
                assert (await made.ask(method.upper(), url)).status_code == 401, (method, path)
                assert (await made.ask(method.upper(), url, token="wrong")).status_code == 401, (method, path)
                if (too_small := less[scope]) is not None:
                    answer = await made.ask(method.upper(), url, token=tokens[too_small])
                    assert answer.status_code == 403, (method, path)


async def test_the_document_is_sound(tmp_path: Path) -> None:
    """Operation ids differ, references lead somewhere, every answer and parameter says what it is."""
    async with listener(tmp_path) as made:
        told = (await made.ask("GET", "/v1/openapi.json")).json()
    assert told["openapi"].startswith("3.1")
    operations = [operation for methods in told["paths"].values() for operation in methods.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', json.dumps(told)):
        assert reference in told["components"]["schemas"]
    for operation in operations:
        assert operation["summary"]
        assert all(answer["description"] for answer in operation["responses"].values())
        assert all(parameter["description"] is not None for parameter in operation.get("parameters", []))


async def test_every_struct_s_field_is_known(tmp_path: Path) -> None:
    """What a created stream is in the document is what is answered, field for field."""
    async with listener(tmp_path) as made:
        told = (await made.ask("GET", "/v1/openapi.json")).json()
        shown: dict[str, Any] = (await made.ask("GET", "/v1/streams/cam")).json()
    schema = told["components"]["schemas"]["StreamStatus"]
    assert set(shown) <= set(schema["properties"])
    assert set(schema["required"]) <= set(shown)


PAGES = ("/", "/broadcast", "/watch/cam", "/check", "/login", "/docs")
PARTS = [
    *(f"/ui/{path.name}" for path in sorted((ROOT / "ui").glob("*.*"))),
    *(f"/lib/{path.name}" for path in sorted((ROOT / "lib").glob("*.js"))),
]


@pytest.mark.parametrize("path", [*PAGES, *PARTS])
async def test_pages_come_from_here_alone(path: str, tmp_path: Path) -> None:
    """No inline script or style, no other host; open without a token, and not sent twice."""
    give(tmp_path, "somebody", "read")
    async with listener(tmp_path, TOKENS) as made:
        answer: httpx.Response = await made.ask("GET", path)
        head = await made.ask("HEAD", path)
        again = await made.ask("GET", path, If_None_Match=answer.headers["ETag"])
    assert answer.status_code == 200
    assert not re.search(
        r"https?://(?=[a-z0-9])(?!www\.w3\.org/2000/svg|127\.0\.0\.1|localhost)", answer.text
    )
    assert not re.search(r"<script(?! (?:type=\"module\" )?src)|<style| style=| on\w+=\"", answer.text)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(answer.content))
    assert (again.status_code, again.content) == (304, b"")
    for one in (answer, head):
        assert one.headers["Cache-Control"] == "no-cache"
        assert one.headers["X-Content-Type-Options"] == "nosniff"
        assert one.headers["Referrer-Policy"] == "no-referrer"
    if path.startswith("/lib/"):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert ("Content-Security-Policy" in answer.headers) == (path in PAGES)


def sources_of(policy: str) -> dict[str, list[str]]:
    """What a Content-Security-Policy allows, by directive."""
    return {name: sources for name, *sources in (part.split() for part in policy.split(";"))}


@pytest.mark.parametrize(
    ("control", "host", "ingest"),
    [
        ("", "127.0.0.1", "ws://127.0.0.1:0"),
        ('public_url = "https://live.example.org/x"', "live.example.org", "wss://live.example.org"),
        ('public_url = "http://[2001:db8::1]"', "live.example.org", "ws:"),
        ("", "evil; script-src *", "ws://127.0.0.1:0"),
    ],
)
async def test_the_policy_lets_a_page_reach_the_ingest_listener(
    control: str, host: str, ingest: str, tmp_path: Path
) -> None:
    """And nothing else: that is on a port of its own, or where the proxy is."""
    async with listener(tmp_path, f'[control]\nbind = "127.0.0.1:0"\n{control}\n') as made:
        answer = await made.ask("GET", "/broadcast", Host=host)
    allowed = sources_of(answer.headers["Content-Security-Policy"])
    assert allowed["default-src"] == allowed["frame-ancestors"] == allowed["base-uri"] == ["'none'"]
    assert allowed["script-src"] == allowed["style-src"] == ["'self'"]
    assert allowed["connect-src"] == ["'self'", ingest]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


async def test_what_a_page_must_know_first_needs_no_token(tmp_path: Path) -> None:
    """Where to publish, whether one has to sign in, and whether this browser is."""
    token = give(tmp_path, "somebody", "read")
    async with listener(tmp_path, TOKENS) as made:
        stranger = (await made.ask("GET", "/v1/about")).json()
        signed_in = await made.ask("POST", "/v1/session", json={"token": token})
        name, _, cookie = signed_in.headers["Set-Cookie"].partition(";")[0].partition("=")
        known = (await made.ask("GET", "/v1/about", Cookie=f"{name}={cookie}")).json()
    assert stranger["publish"] == "ws://127.0.0.1:0/stream/live"
    assert (stranger["tokens"], stranger["signed_in"], stranger["playback"]) == (True, False, "open")
    assert known == stranger | {"signed_in": True}


@pytest.mark.parametrize(
    "path",
    ["/ui/../pages.py", "/ui/%2e%2e/names.py", "/ui/dashboard.html", "/ui/lib", "/lib/../docs.js",
     "/lib/%2e%2e%2fdocs.js", "/watch/UPPER", "/watch/a/b"],
)  # fmt: skip
async def test_only_the_files_there_are_are_served(path: str, tmp_path: Path) -> None:
    """No path leads out of the lists."""
    async with listener(tmp_path) as made:
        answer = await made.client.send(made.client.build_request("GET", f"http://{made.address}{path}"))
    assert answer.status_code == 404
