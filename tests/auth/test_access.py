"""The control listener over real HTTP: who is let in where, and what browsers can be made to do."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
from quart_trio import QuartTrio
from structlog.testing import capture_logs

from ingestd.control import bodies, events
from ingestd.control.access import creates, scope, who
from tests.auth.serving import TOKENS, Listener, give, listener

READS = ("/v1/streams", "/v1/streams/cam", "/v1/logs", "/metrics", "/v1/session")
OPEN = ("/healthz", "/readyz")
PUBLIC = '[control]\nbind = "127.0.0.1:0"\npublic_url = "https://live.example.org"\n'


async def test_without_tokens_everybody_on_this_machine_may(tmp_path: Path) -> None:
    """As it was before there were any, and the session says so."""
    async with listener(tmp_path) as made:
        for path in (*READS, *OPEN):
            assert (await made.ask("GET", path)).status_code == 200
        said = (await made.ask("GET", "/v1/session")).json()
        assert (said["via"], said["scopes"]) == ("open", ["read", "publish", "admin"])
        assert (await made.ask("POST", "/v1/session", json={"token": "x"})).json()["via"] == "open"


async def test_with_tokens_only_their_holders_may(tmp_path: Path) -> None:
    """401 with a challenge and without a reason to guess; health stays open; HLS is open by default."""
    token = give(tmp_path, "ops", "read")
    async with listener(tmp_path, TOKENS) as made:
        for path in READS:
            refused = await made.ask("GET", path)
            assert refused.status_code == 401
            assert refused.headers["WWW-Authenticate"] == 'Bearer realm="ingestd"'
            assert refused.headers["Content-Type"] == "application/problem+json"
            wrong = await made.ask("GET", path, token="no-such-token")
            assert wrong.status_code == 401
            assert 'error="invalid_token"' in wrong.headers["WWW-Authenticate"]
            assert (await made.ask("GET", path, token=token)).status_code == 200
        for path in OPEN:
            assert (await made.ask("GET", path)).status_code == 200
        assert (await made.ask("GET", "/hls/cam/index.m3u8")).status_code == 404
        assert (await made.ask("GET", "/nothing")).status_code == 404
        assert (await made.ask("GET", "/v1/streams", Authorization="Basic eDp5")).status_code == 401


def some_routes(app: QuartTrio) -> None:
    """One for each scope, one that names none, and one that makes something."""
    for needed in ("read", "publish", "admin"):
        app.add_url_rule(f"/x/{needed}", needed, scope(needed)(answer(needed)), methods=["GET", "POST"])
    app.add_url_rule("/x/undeclared", "undeclared", answer("undeclared"))
    app.add_url_rule("/x/new", "new", creates(scope("publish")(answer("new"))), methods=["POST"])


def answer(text: str) -> Callable[[], Awaitable[str]]:
    async def view() -> str:
        return f"{text} for {who().name}"

    return view


async def test_a_scope_that_is_too_small_is_403(tmp_path: Path) -> None:
    """A route that names no scope needs admin; the challenge says which scope is missing."""
    scopes = ("read", "publish", "admin")
    tokens = {name: give(tmp_path, name, name) for name in scopes}
    async with listener(tmp_path, TOKENS, some_routes) as made:
        for i, (name, token) in enumerate(tokens.items()):
            said = (await made.ask("GET", "/v1/session", token=token)).json()
            assert (said["name"], said["via"], said["csrf"]) == (name, "token", None)
            for j, needed in enumerate((*scopes, "undeclared")):
                got = await made.ask("GET", f"/x/{needed}", token=token)
                assert got.status_code == (200 if min(j, 2) <= i else 403)
                if got.status_code == 200:
                    assert got.text == f"{needed} for {name}"
                else:
                    least = scopes[min(j, 2)]
                    assert f'error="insufficient_scope", scope="{least}"' in got.headers["WWW-Authenticate"]
        for needed in (*scopes, "undeclared"):
            assert (await made.ask("GET", f"/x/{needed}")).status_code == 401
            assert (await made.ask("HEAD", f"/x/{needed}")).status_code == 401
            assert (await made.ask("OPTIONS", f"/x/{needed}")).status_code == 401


@pytest.mark.parametrize("path", ["/v1/streams", "/stream/create"])
async def test_where_the_daemon_connects_to_takes_an_admin(path: str, tmp_path: Path) -> None:
    """A target's key takes `publish` where a stream is made, its URL `admin`, even the pipeline's own."""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "push.toml").write_text(
        '[[sinks]]\ntype = "rtmp"\nname = "push"\nurl = "rtmps://live.example.org/app"\nper_stream = true\n'
    )
    (tmp_path / "secret").write_text("c2VjcmV0IGtleSBvZiBleGFjdGx5IDMyIGJ5dGVzISE=\n")
    tokens = {name: give(tmp_path, name, name) for name in ("publish", "admin")}

    def wanted(name: str, **more: object) -> dict[str, object]:
        return {"name": name, "pipeline": "push", "targets": [{"sink": "push", "key": "hidden-key", **more}]}

    async with listener(tmp_path, TOKENS + '[database]\nsecret_key_file = "secret"\n') as made:
        for url in ("rtmps://live.example.org/app", "rtmp://169.254.169.254/hidden-app"):
            again = {"Idempotency_Key": "the-same"}
            refused = await made.ask("POST", path, tokens["publish"], wanted("mine", url=url), **again)
            assert refused.status_code == 403
            assert refused.headers["WWW-Authenticate"].endswith('error="insufficient_scope", scope="admin"')
            problem = refused.json()
            assert [error["field"] for error in problem["errors"]] == ["targets[0].url"]
            assert 'scope "admin"; leave it out' in problem["detail"]
            assert "hidden" not in refused.text
            assert (await made.ask("GET", "/v1/streams/mine", tokens["admin"])).status_code == 404
        for name, token, more in (("mine", "publish", {"url": None}), ("theirs", "admin", {"url": url})):
            answer = await made.ask("POST", path, tokens[token], wanted(name, **more), **again)
            assert answer.is_success, answer.text
        aimed = {"targets": wanted("mine", url=url)["targets"]}
        assert (await made.ask("PATCH", "/v1/streams/mine", tokens["publish"], aimed)).status_code == 403
        assert (await made.ask("PATCH", "/v1/streams/mine", tokens["admin"], aimed)).status_code == 200


async def test_creates_are_limited_by_address(tmp_path: Path) -> None:
    """With the right token, too; what was refused before does not count."""
    token = give(tmp_path, "app", "publish")
    async with listener(tmp_path, TOKENS + 'creates = "3/1m"\n', some_routes) as made:
        for _ in range(5):
            assert (await made.ask("POST", "/x/new")).status_code == 401
        got = [(await made.ask("POST", "/x/new", token=token)).status_code for _ in range(4)]
        assert got == [200, 200, 200, 429]
        limited = await made.ask("POST", "/x/new", token=token)
        assert 1 <= int(limited.headers["Retry-After"]) <= 20
        assert (await made.ask("POST", "/x/publish", token=token)).status_code == 200


async def test_every_route_names_its_scope(tmp_path: Path) -> None:
    """Closed by default is the net, not the plan."""
    found = {}

    def look(app: QuartTrio) -> None:
        found.update(
            {name: getattr(view, "__scope__", "missing") for name, view in app.view_functions.items()}
        )

    async with listener(tmp_path, "", look):
        assert [name for name, needed in found.items() if needed == "missing"] == []
        assert {name for name, needed in found.items() if needed is None} >= {
            "health.healthz",
            "health.readyz",
        }


async def test_a_revoked_token_is_refused_at_once(tmp_path: Path) -> None:
    """Taken out of the file, with its browser sessions; no restart."""
    token = give(tmp_path, "gone", "admin")
    give(tmp_path, "stays", "admin")
    async with listener(tmp_path, TOKENS) as made:
        signed_in = await made.ask("POST", "/v1/session", json={"token": token})
        cookie = signed_in.headers["Set-Cookie"].partition(";")[0]
        assert (await made.ask("GET", "/v1/streams", Cookie=cookie)).status_code == 200
        lines = (tmp_path / "tokens").read_text().splitlines()
        (tmp_path / "tokens").write_text(lines[1] + "\n")
        assert (await made.ask("GET", "/v1/streams", token=token)).status_code == 401
        assert (await made.ask("GET", "/v1/streams", Cookie=cookie)).status_code == 401


async def test_an_expired_token_is_refused(tmp_path: Path) -> None:
    token = give(tmp_path, "old", "admin", expires=int(time.time()) - 1)
    async with listener(tmp_path, TOKENS) as made:
        assert (await made.ask("GET", "/v1/streams", token=token)).status_code == 401


# Browsers


async def sign_in(made: Listener, token: str, **headers: str) -> tuple[str, str]:
    """The cookie and the CSRF token of a browser that signs in."""
    answer = await made.ask("POST", "/v1/session", json={"token": token}, **headers)
    assert answer.status_code == 200
    return answer.headers["Set-Cookie"].partition(";")[0], answer.json()["csrf"]


async def test_a_browser_signs_in_and_out(tmp_path: Path) -> None:
    """The cookie stands for the token, cannot be read by a script, and goes with no other site's request."""
    token = give(tmp_path, "ann", "publish")
    async with listener(tmp_path, TOKENS) as made:
        answer = await made.ask("POST", "/v1/session", json={"token": token})
        attributes = answer.headers["Set-Cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} <= set(attributes)
        assert "Secure" not in attributes
        assert answer.headers["Cache-Control"] == "no-store"
        cookie, csrf = attributes[0], answer.json()["csrf"]
        assert token not in answer.text + cookie
        said = (await made.ask("GET", "/v1/session", Cookie=cookie)).json()
        assert (said["name"], said["scopes"], said["via"]) == ("ann", ["read", "publish"], "session")
        assert said["csrf"] == csrf
        assert (await made.ask("GET", "/v1/logs", Cookie=cookie)).status_code == 200
        out = await made.ask(
            "DELETE", "/v1/session", Cookie=cookie, X_CSRF_Token=csrf, Origin=f"http://{made.address}"
        )
        assert out.status_code == 204
        assert "Max-Age=0" in out.headers["Set-Cookie"]
        assert (await made.ask("GET", "/v1/session", Cookie=cookie)).status_code == 401


async def test_behind_tls_the_cookie_is_secure(tmp_path: Path) -> None:
    token = give(tmp_path, "ann", "read")
    async with listener(tmp_path, PUBLIC + TOKENS) as made:
        answer = await made.ask("POST", "/v1/session", json={"token": token})
        assert answer.headers["Set-Cookie"].startswith("__Host-")
        assert "; Secure;" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "OWN", "X_CSRF_Token": "CSRF"}, 204),
        ({"Sec_Fetch_Site": "same-origin", "X_CSRF_Token": "CSRF"}, 204),
        ({"Origin": "https://live.example.org", "X_CSRF_Token": "CSRF"}, 204),
        ({"X_CSRF_Token": "CSRF"}, 403),
        ({"Origin": "OWN"}, 403),
        ({"Origin": "OWN", "X_CSRF_Token": "wrong"}, 403),
        ({"Origin": "OWN", "X_CSRF_Token": ""}, 403),
        ({"Origin": "https://evil.example", "X_CSRF_Token": "CSRF"}, 403),
        ({"Origin": "null", "X_CSRF_Token": "CSRF"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "X_CSRF_Token": "CSRF"}, 403),
        ({"Sec_Fetch_Site": "same-site", "Origin": "OWN", "X_CSRF_Token": "CSRF"}, 403),
    ],
)
async def test_unsafe_requests_with_a_cookie(headers: dict[str, str], status: int, tmp_path: Path) -> None:
    """They need the CSRF token, and a browser that says that the page is ours."""
    token = give(tmp_path, "ann", "admin")
    async with listener(tmp_path, PUBLIC + TOKENS) as made:
        cookie, csrf = await sign_in(made, token)
        real = {"OWN": f"http://{made.address}", "CSRF": csrf}
        sent = {name: real.get(value, value) for name, value in headers.items()}
        assert (await made.ask("DELETE", "/v1/session", Cookie=cookie, **sent)).status_code == status


async def test_a_cookie_of_our_making_only(tmp_path: Path) -> None:
    """Others, however long, are nobody's."""
    token = give(tmp_path, "ann", "admin")
    async with listener(tmp_path, TOKENS) as made:
        cookie, _ = await sign_in(made, token)
        for other in ("ingestd=", "ingestd=x", "ingestd=" + "x" * 4000, f"{cookie}x", f"other{cookie}"):
            assert (await made.ask("GET", "/v1/streams", Cookie=other)).status_code == 401


async def test_signed_in_browsers_are_bounded(tmp_path: Path) -> None:
    """One more signs out the oldest; signing in again ends one's own."""
    token = give(tmp_path, "ann", "admin")
    async with listener(tmp_path, TOKENS + "max_sessions = 2\n") as made:
        cookies = [(await sign_in(made, token))[0] for _ in range(3)]
        got = [(await made.ask("GET", "/v1/session", Cookie=cookie)).status_code for cookie in cookies]
        assert got == [401, 200, 200]
        await sign_in(made, token, Cookie=cookies[2])
        assert len(made.authority.sessions) == 2
        assert (await made.ask("GET", "/v1/session", Cookie=cookies[2])).status_code == 401


@pytest.mark.parametrize("body", [None, [], {"token": 1}, {"tokn": "x"}, "x"])
async def test_what_is_no_sign_in(body: object, tmp_path: Path) -> None:
    give(tmp_path, "ann", "admin")
    async with listener(tmp_path, TOKENS) as made:
        assert (await made.ask("POST", "/v1/session", json=body)).status_code == 422
        sent = await made.client.post("/v1/session", content=b'{"token": "x"}')
        assert sent.status_code == 415
        long = await made.client.post("/v1/session", json={"token": "x" * 20_000})
        assert long.status_code == 413


# Other pages


async def test_a_page_cannot_reach_an_open_daemon_by_its_own_name(tmp_path: Path) -> None:
    """DNS rebinding: the browser still says the page's name."""
    async with listener(tmp_path) as made:
        assert (await made.ask("GET", "/v1/streams", Host="evil.example:8080")).status_code == 403
        assert (await made.ask("GET", "/v1/streams", Host="localhost:1")).status_code == 200
        assert (await made.ask("GET", "/healthz", Host="evil.example")).status_code == 200
        assert (await made.ask("GET", "/hls/cam/index.m3u8", Host="evil.example")).status_code == 403


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"Origin": "OWN"}, False),
        ({"Sec_Fetch_Site": "none"}, False),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "http://localhost:3000"}, True),
        ({"Origin": "null"}, True),
        ({"Sec_Fetch_Site": "cross-site"}, True),
        ({"Sec_Fetch_Site": "same-site"}, True),
        ({"Origin": "https://app.example.org", "Sec_Fetch_Site": "cross-site"}, False),
    ],
)
async def test_pages_of_strangers_change_nothing(
    headers: dict[str, str], refused: bool, tmp_path: Path
) -> None:
    """On an open daemon, too; those that are listed may."""
    config = '[control]\nbind = "127.0.0.1:0"\ncors_origins = ["https://app.example.org"]\n'
    async with listener(tmp_path, config) as made:
        sent = {name: value.replace("OWN", f"http://{made.address}") for name, value in headers.items()}
        answer = await made.ask("POST", "/v1/session", json={"token": "x"}, **sent)
        assert (answer.status_code == 403) is refused


async def test_cors(tmp_path: Path) -> None:
    """Listed origins may read, with cookies; others get no header, and a preflight is refused."""
    config = '[control]\nbind = "127.0.0.1:0"\ncors_origins = ["https://app.example.org"]\n'
    token = give(tmp_path, "app", "admin")
    async with listener(tmp_path, config + TOKENS) as made:
        app, evil = {"Origin": "https://app.example.org"}, {"Origin": "https://evil.example"}
        asks = {"Access_Control_Request_Method": "POST"}
        allowed = await made.ask("OPTIONS", "/v1/streams", **app, **asks)
        assert allowed.status_code == 204
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
        assert allowed.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Authorization" in allowed.headers["Access-Control-Allow-Headers"]
        refused = await made.ask("OPTIONS", "/v1/streams", **evil, **asks)
        assert refused.status_code == 403
        assert "Access-Control-Allow-Origin" not in refused.headers
        read = await made.ask("GET", "/v1/streams", token=token, **app)
        assert read.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
        assert "Origin" in read.headers["Vary"]
        assert "Access-Control-Allow-Origin" in (await made.ask("GET", "/v1/streams", **app)).headers
        other = await made.ask("GET", "/v1/streams", token=token, **evil)
        assert "Access-Control-Allow-Origin" not in other.headers
        assert "Origin" in other.headers["Vary"]
        hls = await made.ask("OPTIONS", "/hls/cam/s.ts", Access_Control_Request_Method="GET", **evil)
        assert hls.headers["Access-Control-Allow-Origin"] == "*"


async def test_cors_for_all_is_without_cookies(tmp_path: Path) -> None:
    """A page of anybody may use a token that it has, and never the browser's session."""
    config = '[control]\nbind = "127.0.0.1:0"\ncors_origins = ["*"]\n'
    token = give(tmp_path, "app", "admin")
    async with listener(tmp_path, config + TOKENS) as made:
        page = {"Origin": "https://any.example"}
        read = await made.ask("GET", "/v1/streams", token=token, **page)
        assert read.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in read.headers
        cookie, csrf = await sign_in(made, token)
        sent = await made.ask("DELETE", "/v1/session", Cookie=cookie, X_CSRF_Token=csrf, **page)
        assert sent.status_code == 403


# How often


async def test_wrong_tokens_are_limited_by_address(tmp_path: Path) -> None:
    """429 says when to come again; another address with the right token never waits."""
    token = give(tmp_path, "ops", "read")
    config = (
        '[control]\nbind = "127.0.0.1:0"\ntrusted_proxies = ["127.0.0.1"]\n'
        + TOKENS
        + 'failures = "3/1m"\nfailures_in_all = "5/1m"\n'
    )
    async with listener(tmp_path, config) as made:
        with capture_logs() as logs:
            for i in range(3):
                got = await made.ask("GET", "/v1/streams", token=f"guess-{i}", X_Forwarded_For="192.0.2.1")
                assert got.status_code == 401
            limited = await made.ask("GET", "/v1/streams", token=token, X_Forwarded_For="192.0.2.1")
            assert limited.status_code == 429
            assert 1 <= int(limited.headers["Retry-After"]) <= 20
            body = {"token": token}
            again = await made.ask("POST", "/v1/session", json=body, X_Forwarded_For="192.0.2.1")
            assert again.status_code == 429
            for i in range(9):
                await made.ask("GET", "/v1/streams", token="x", X_Forwarded_For=f"198.51.100.{i}")
            for free in ("203.0.113.9", "2001:db8::1"):
                good = await made.ask("GET", "/v1/streams", token=token, X_Forwarded_For=free)
                assert good.status_code == 200
        assert {entry["remote"] for entry in logs if entry["event"] == "token_refused"} >= {"192.0.2.1"}
        assert "guess" not in str(logs)
        assert token not in str(logs)


async def test_a_forged_address_helps_nobody(tmp_path: Path) -> None:
    """Without trusted proxies X-Forwarded-For is a stranger's word."""
    give(tmp_path, "ops", "read")
    async with listener(tmp_path, TOKENS + 'failures = "3/1m"\n') as made:
        got = [
            (await made.ask("GET", "/v1/streams", token="x", X_Forwarded_For=f"192.0.2.{i}")).status_code
            for i in range(5)
        ]
        assert got == [401, 401, 401, 429, 429]


async def test_a_missing_token_is_no_guess(tmp_path: Path) -> None:
    token = give(tmp_path, "ops", "read")
    async with listener(tmp_path, TOKENS + 'failures = "3/1m"\n') as made:
        for _ in range(10):
            assert (await made.ask("GET", "/v1/streams")).status_code == 401
        assert (await made.ask("GET", "/v1/streams", token=token)).status_code == 200


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_who_may_no_more_does_not_go_on_following(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body without end stops soon after its token was taken away; another one's goes on."""
    monkeypatch.setattr(bodies, "RECHECK", 0.05)
    monkeypatch.setattr(events, "HEARTBEAT", 0.05)
    token = give(tmp_path, "ann", "read", expires=time.time() + 1.5 if how == "expired" else None)
    other = give(tmp_path, "bob", "read")
    async with listener(tmp_path, TOKENS) as made:

        async def follow(shown: str) -> None:
            asked = made.client.stream("GET", "/v1/events", headers={"Authorization": f"Bearer {shown}"})
            async with asked as response, aclosing(response.aiter_raw()) as parts:
                async for _ in parts:
                    following.add(shown)
            ended.append(shown)

        following: set[str] = set()
        ended: list[str] = []
        async with trio.open_nursery() as nursery:
            for shown in (token, other):
                nursery.start_soon(follow, shown)
            with trio.fail_after(10):
                while len(following) < 2:  # noqa: ASYNC110  there is no event
                    await trio.sleep(0.01)
                lines = (tmp_path / "tokens").read_text().splitlines()
                if how == "revoked":
                    (tmp_path / "tokens").write_text(f"{lines[1]}\n")
                while not ended:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert ended == [token]
