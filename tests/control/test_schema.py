"""schemathesis over the document: no 5xx, no answer that is not described, nothing without its scope.

Each operation gets requests that are right and wrong, from callers who may and who may not. With the mark
``full`` there are many more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
import trio
from attrs import frozen
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.auth.serving import give
from tests.control.conftest import MANY
from tests.control.tools import call, eventually
from tests.daemon.tools import AT_ONCE, COPY, HLS, MKV, browser_chunks
from tests.support.daemon import Daemon, daemon, publish

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
#: They have no end while something is live; other tests read them.
_ENDLESS = ("/v1/events", "/internal/videoExpose")
_FEW, _MANY = 12, 200


#: Mostly those who may: the others do not come far.
_WHO = ["admin"] * 6 + ["publish", "read", "wrong", None]


@frozen
class Target:
    """A daemon that asks who one is, tokens by scope, what it says of itself, and what paths lead to."""

    daemon: Daemon
    tokens: dict[str, str]
    operations: list[APIOperation]
    real: dict[str, list[str]]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.full)])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    directory = tmp_path_factory.mktemp("daemon")
    tokens = {scope: give(directory, scope, scope) for scope in ("read", "publish", "admin")}
    auth = MANY + 'tokens_file = "tokens"\nfailures = "0"\nfailures_in_all = "0"\n'
    if request.param == "postgresql":
        auth += f'[database]\nurl = "{request.getfixturevalue("postgres").new_database()}"\n'
    # Each case has a connection of its own, which its client leaves to be closed when it is idle.
    control = 'pipeline = "test"\nmax_connections = 10000\n'
    with daemon(directory, COPY + AT_ONCE + MKV + HLS, config=auth, control=control) as running:

        def get(path: str) -> Any:
            return call(running, "GET", path, token=tokens["admin"]).json

        operations = operations_of(running, get("/v1/openapi.json"))
        # What is deleted cannot be looked at any more.
        operations.sort(key=lambda operation: operation.method == "delete")
        for name in ("seen", "doomed"):
            call(running, "POST", "/v1/streams", {"name": name}, token=tokens["admin"])
        trio.run(publish, running.publish_url, browser_chunks())
        recordings = eventually_now(lambda: get("/v1/recordings")["recordings"])
        sessions = get("/v1/sessions")["sessions"]
        real = {
            "name": ["cam", "seen", "doomed"], "stream": ["cam"], "id": ["cam", "seen"], "pipeline": ["test"],
            "sink": ["mkv", "hls"], "session": [each["id"] for each in sessions],
            "recording": [each["id"] for each in recordings], "file": ["index.m3u8"],
            "target": ["none"],
            "asset": ["docs.js", "ingestd.js"], "endpoint": ["none"], "delivery": ["none"],
        }  # fmt: skip
        yield Target(running, tokens, [each for each in operations if each.path not in _ENDLESS], real)


def operations_of(running: Daemon, document: dict[str, Any]) -> list[APIOperation]:
    """What *document* describes, to be asked of *running*."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=f"http://{running.control}")
    return [result.ok() for result in schema.get_all_operations()]


def eventually_now(condition: Callable[[], Any]) -> Any:
    """As `eventually`, outside of Trio."""

    async def wait() -> Any:
        return await eventually(condition)

    return trio.run(wait)


def attack(target: Target, operation: APIOperation, examples: int) -> None:
    """*examples* requests for *operation*, right and wrong, of callers who may and who may not."""
    scope = operation.definition.raw.get("x-scope")
    cases = st.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )

    @seed(1)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=cases, who=st.sampled_from(_WHO), data=st.data())
    def ask(case: Case, who: str | None, data: st.DataObject) -> None:
        if case.path_parameters and data.draw(st.integers(0, 3)):
            for name in case.path_parameters:
                case.path_parameters[name] = data.draw(st.sampled_from(target.real[name]))
        headers = {} if who is None else {"Authorization": f"Bearer {target.tokens.get(who, who)}"}
        response = case.call(headers=headers)
        case.validate_response(response, checks=_CHECKS)
        if scope not in (None, "watch") and who in (None, "wrong"):
            assert response.status_code == 401

    ask()


def test_no_answer_is_a_surprise(target: Target) -> None:
    """Every operation, some requests each."""
    for operation in target.operations:
        attack(target, operation, _FEW)
    assert target.daemon.events("exception") == []


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_no_answer_is_a_surprise_in_many_tries(target: Target) -> None:
    """Every operation, many requests each."""
    for operation in target.operations:
        attack(target, operation, _MANY)


# That the checks themselves see what they are for


def test_an_answer_that_is_not_described_is_found(target: Target) -> None:
    """A document that leaves 404 out is not what the daemon does."""
    document = call(target.daemon, "GET", "/v1/openapi.json").json
    del document["paths"]["/v1/streams/{name}"]["get"]["responses"]["404"]
    operations = operations_of(target.daemon, document)
    (show,) = (each for each in operations if (each.path, each.method) == ("/v1/streams/{name}", "get"))
    with pytest.raises(BaseException, match=r"(?s)404|Undocumented") as caught:
        attack(target, show, 40)
    assert "status" in repr(caught.value).lower()
