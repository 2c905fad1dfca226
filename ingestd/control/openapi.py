"""The OpenAPI 3.1 document, made of the routes' own declarations: it says what the code says."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import msgspec
from quart import Blueprint, Response
from quart_trio import QuartTrio

from ingestd import __version__
from ingestd.control.contract import JSON, Answer, Route, Routes, ok, route_of
from ingestd.names import NAME

PROBLEM = "application/problem+json"
_REF = "#/components/schemas/{name}"

_INTRODUCTION = (
    "Streams are created, steered and watched here; media goes to the ingest listener over WebSocket. "
    "Errors are problem details (RFC 9457). Within `v1` nothing is removed and nothing changes its meaning: "
    "later versions add paths, parameters and fields, so pass over fields that you do not know."
)
#: The headings of the document, in the order in which one needs them.
_TAGS = (
    "Streams",
    "Sessions and recordings",
    "Events and log",
    "Pipelines",
    "Playback",
    "Signing in",
    "Health",
    "Webhooks",
    "Mux",
    "What front ends call",
    "Documents",
    "Pages",
)
_METHODS = ("get", "post", "put", "patch", "delete")
#: The parts of paths that vary: what they are, and the form of one that can be found.
_PARAMETERS: dict[str, tuple[str, str | None]] = {
    "name": ("The stream's name.", f"^{NAME.pattern}$"),
    "stream": ("The stream's name.", f"^{NAME.pattern}$"),
    "sink": ("The sink's name in its pipeline.", f"^{NAME.pattern}$"),
    "session": ("The session's id.", None),
    "recording": ("The recording's id.", None),
    "pipeline": ("The pipeline's id: the name of its file.", f"^{NAME.pattern}$"),
    "file": ("A playlist's, init segment's or segment's name.", None),
    "asset": ("A file's name.", None),
    "target": ("The target's id at Mux.", None),
    "endpoint": ("The endpoint's name in `[[webhooks]]`.", f"^{NAME.pattern}$"),
    "delivery": ("The delivery's id.", None),
    "id": ("The stream's name, or one of its playback ids.", None),
}
_PROBLEMS = {
    400: "A parameter, or the body, is not of the form that is expected; `errors` names it.",
    401: "No token, or one that nobody has.",
    403: "The token's scopes do not reach so far (`errors` names the field, where it is for one), or the "
    "request came from a foreign page.",
    404: "There is no such thing, or not now.",
    405: "The path has no such method.",
    408: "The body took too long.",
    409: "It cannot be done as things stand; `detail` says why.",
    413: "The body is too large.",
    415: "The body is not `application/json`.",
    416: "The range holds nothing of the file.",
    422: "A value cannot be; `errors` names the field and what is expected.",
    429: "Too many requests of this kind: come again after `Retry-After` seconds.",
    502: "Mux refused, or could not be understood.",
    503: "Not now: come again after `Retry-After` seconds. Of a write nothing was done.",
}


class FieldError(msgspec.Struct):
    """What one field should have been."""

    field: str
    expected: str


class Problem(msgspec.Struct):
    """RFC 9457."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    errors: list[FieldError] = []


def routes_of(app: QuartTrio) -> list[Route]:
    """All declared routes of *app*, by path and method."""
    found = [route for view in app.view_functions.values() if (route := route_of(view)) is not None]
    return sorted(found, key=lambda route: (route.path, _METHODS.index(route.method)))


def document(app: QuartTrio) -> dict[str, Any]:
    """The document of *app*: plain JSON types."""
    routes = routes_of(app)
    types = [Problem, *{kind for route in routes for kind in _types(route)}]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.template, {})[route.method] = _operation(route, schema)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ingestd", "version": __version__, "description": _INTRODUCTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in (*_TAGS, *sorted({route.tag for route in routes} - {*_TAGS}))],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token of `[auth]`."},
            },
        },
    }


def _types(route: Route) -> list[Any]:
    bodies = [answer.body for answer in route.answers if answer.body is not None]
    return bodies if route.body is None else [*bodies, route.body]


def _operation(route: Route, schema: dict[Any, Any]) -> dict[str, Any]:
    answers = {str(answer.status): _answer(answer, schema) for answer in route.answers}
    for status in route.problems:
        answers.setdefault(str(status), _problem(status, schema))
    operation: dict[str, Any] = {
        "operationId": route.name.replace(".", "_"),
        "summary": route.summary,
        "tags": [route.tag],
        "responses": answers,
    }
    if route.about:
        operation["description"] = route.about
    if route.scope is None:
        operation["security"] = []
    else:
        operation["security"] = [{"bearer": []}]
        operation["x-scope"] = route.scope
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body is not None:
        required = any(field.required for field in msgspec.structs.fields(route.body))
        operation["requestBody"] = {"required": required, "content": {JSON: {"schema": schema[route.body]}}}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in route.parameters:
        about, pattern = _PARAMETERS[name]
        form: dict[str, Any] = {"type": "string", "minLength": 1}
        if pattern is not None:
            form["pattern"] = pattern
        found.append({"name": name, "in": "path", "required": True, "description": about, "schema": form})
    if route.query is not None:
        (_,), components = msgspec.json.schema_components([route.query], ref_template=_REF)
        own = components[route.query.__name__]
        for name, form in own["properties"].items():
            shape = _given(form)
            parameter = {
                "name": name,
                "in": "query",
                "required": name in own["required"],
                "description": shape.pop("description", ""),
                "schema": shape,
            }
            if shape.get("type") == "array":
                parameter |= {"style": "form", "explode": False}
            found.append(parameter)
    for name, about in route.headers.items():
        form = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
        found.append({"name": name, "in": "header", "required": False, "description": about, "schema": form})
    return found


def _given(form: dict[str, Any]) -> dict[str, Any]:
    """*form* of a parameter that is given: None in the code means that it is not."""
    shape = dict(form)
    if "anyOf" in shape:
        (inner,) = (each for each in shape.pop("anyOf") if each != {"type": "null"})
        shape = {**inner, **shape}
    if shape.get("default", 0) is None:
        del shape["default"]
    return shape


def _answer(answer: Answer, schema: dict[Any, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.about}
    if answer.body is not None:
        told["content"] = {answer.media: {"schema": schema[answer.body]}}
    elif answer.media not in (None, JSON):
        told["content"] = {kind: {} for kind in re.split(r",\s*", answer.media or "")}
    if answer.headers:
        told["headers"] = {
            name: {"description": about, "schema": {"type": "string"}}
            for name, about in answer.headers.items()
        }
    return told


def _problem(status: int, schema: dict[Any, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}. {_PROBLEMS[status]}",
        "content": {PROBLEM: {"schema": schema[Problem]}},
    }
    if status in (429, 503):
        told["headers"] = {
            "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
        }
    return told


def blueprint(app: QuartTrio) -> Blueprint:
    """``/v1/openapi.json`` of *app*, as it is when it is asked for."""
    routes = Routes("openapi", "Documents")
    made: list[bytes] = []

    @routes.get("/v1/openapi.json", "This document", scope=None, answers=[ok(dict[str, Any])])
    async def openapi() -> Response:
        """OpenAPI 3.1. `/docs` is a page to try it."""
        if not made:
            made.append(msgspec.json.format(msgspec.json.encode(document(app)), indent=1))
        response = Response(made[0], content_type=JSON)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        await response.add_etag()
        return response

    return routes.blueprint
