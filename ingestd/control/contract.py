"""Routes, each declared once: from that come validation, the OpenAPI document, and who may call it.

    routes = Routes("streams", "Streams")

    @routes.get("/v1/streams", "List streams", scope="read", answers=[ok(StreamList)], query=Listing)
    async def listing(query: Listing) -> StreamList: ...

A view gets the parts of its path by name, and ``query`` and ``body`` where they are declared. It returns
what is to be JSON, a pair of that and a status, or a whole `quart.Response`; it raises
`ingestd.control.errors.Refusal` for an error that was declared.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
from attrs import Factory, frozen
from quart import Blueprint, Response, request

from ingestd.control.access import Needed
from ingestd.control.validation import read_body, read_query

Method: TypeAlias = Literal["get", "post", "patch", "put", "delete"]
View = TypeVar("View", bound=Callable[..., Awaitable[Any]])

JSON = "application/json"
#: Of a JSON body, in bytes.
MAX_BODY = 256 * 2**10

_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


@frozen(slots=True, kw_only=True)
class Answer:
    """One answer: *body* is a type that msgspec can describe, or None for none or for other *media*."""

    status: int
    about: str
    body: Any = None
    media: str | None = JSON
    headers: Mapping[str, str] = Factory(dict)


def ok(body: Any, about: str = "That is it.") -> Answer:
    """200 with *body* as JSON."""
    return Answer(status=200, about=about, body=body)


@frozen(slots=True, kw_only=True)
class Route:
    """What one method of one path takes and answers. *problems* are the statuses of its errors.

    *scope* is what `ingestd.control.access` asks for.
    """

    method: Method
    path: str
    name: str
    summary: str
    about: str
    tag: str
    scope: Needed
    answers: tuple[Answer, ...]
    problems: tuple[int, ...]
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    headers: Mapping[str, str] = Factory(dict)
    max_body: int = MAX_BODY

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it: ``/v1/streams/{name}``."""
        return _PARAMETER.sub(r"{\1}", self.path)

    @property
    def parameters(self) -> list[str]:
        """The names of the parts of the path that vary."""
        return _PARAMETER.findall(self.path)


class Routes:
    """The routes of one blueprint; *tag* is the heading under which the documents have them."""

    def __init__(self, name: str, tag: str) -> None:
        self.blueprint = Blueprint(name, f"ingestd.control.{name}")
        self._tag = tag

    def get(self, path: str, summary: str, **more: Any) -> Callable[[View], View]:
        """A route for GET (and HEAD); *more* as `route` takes it."""
        return self.route("get", path, summary, **more)

    def post(self, path: str, summary: str, **more: Any) -> Callable[[View], View]:
        """A route for POST; *more* as `route` takes it."""
        return self.route("post", path, summary, **more)

    def route(
        self,
        method: Method,
        path: str,
        summary: str,
        *,
        scope: Needed,
        answers: Sequence[Answer],
        problems: Sequence[int] = (),
        query: type[msgspec.Struct] | None = None,
        body: type[msgspec.Struct] | None = None,
        headers: Mapping[str, str] | None = None,
        creates: bool = False,
        max_body: int = MAX_BODY,
    ) -> Callable[[View], View]:
        """Declare a route; its view's docstring is the description. *headers* are those that it looks at.

        One that *creates* what lasts may be called only so often (``auth.creates``).
        A body may have *max_body* bytes.
        """
        found = set(problems) | {403}
        found |= {401, 429} if scope is not None else set()
        found |= {429} if creates else set()
        found |= {400} if query is not None else set()
        found |= {400, 413, 415, 422} if body is not None else set()

        def declare(view: View) -> View:
            route = Route(
                method=method, path=path, name=f"{self.blueprint.name}.{view.__name__}", summary=summary,
                about=_text(view.__doc__), tag=self._tag, scope=scope, answers=tuple(answers),
                problems=tuple(sorted(found)), query=query, body=body, headers=headers or {},
                max_body=max_body,
            )  # fmt: skip
            bound = _bound(route, view)
            bound.__creates__ = creates  # type: ignore[attr-defined]  # read by Access.guard
            self.blueprint.add_url_rule(path, view.__name__, bound, methods=[method.upper()])
            return view

        return declare


def route_of(view: object) -> Route | None:
    """The declaration of a view function of the application; None if it has none."""
    return getattr(view, "__route__", None)


def _bound(route: Route, view: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Response]]:
    @wraps(view)
    async def call(**path: str) -> Response:
        arguments: dict[str, Any] = dict(path)
        if route.query is not None:
            arguments["query"] = read_query(route.query, request.args)
        if route.body is not None:
            arguments["body"] = await read_body(route.body, route.max_body)
        return as_response(await view(**arguments))

    call.__route__ = route  # type: ignore[attr-defined]
    call.__scope__ = route.scope  # type: ignore[attr-defined]
    return call


def as_response(result: Any) -> Response:
    """What a view returned as a response. What the API tells is of the moment: nobody keeps it."""
    if isinstance(result, Response):
        return result
    status = 200
    if isinstance(result, tuple):
        result, status = result
    body = b"" if result is None else msgspec.json.encode(result) + b"\n"
    response = Response(body, status, content_type=JSON)
    if result is None:
        del response.headers["Content-Type"]
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _text(docstring: str | None) -> str:
    return re.sub(r"\s*\n\s*", " ", (docstring or "").strip()).replace("``", "`")
