"""One request to Mux's API: Basic authentication, bounded answers, and failures told apart.

Which of them may be sent again is the caller's to know (`ingestd.mux.client`).
"""

from __future__ import annotations

import json
import time
from typing import Any, Literal, TypeAlias, get_args

import httpx
from attrs import field, frozen

from ingestd.config import MuxConfig
from ingestd.credentials import CredentialError, read_secret
from ingestd.mux.backoff import http_date, retry_after
from ingestd.mux.errors import MuxError, MuxNotFound, MuxRefused, MuxUnauthorised, MuxUnavailable

#: Bytes of an answer; a page of 100 live streams is a tenth of it.
LARGEST_ANSWER = 2**20
_MESSAGES, _LONGEST_MESSAGE = 3, 200
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
#: The request did not leave, or was turned away unread.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@frozen(slots=True)
class Answer:
    """A 2xx. *data* is what stands under that key in its JSON, *at* Mux's clock (seconds since 1970)."""

    status: int
    data: object = field(repr=False)
    at: float | None


#: What became of a request: a 2xx; a 4xx, or one that is about the token; too many requests; another status,
#: or an answer that cannot be read; no whole answer, though it may have been done; no connection.
Outcome: TypeAlias = Literal[
    "answered", "refused", "unauthorised", "throttled", "failed", "lost", "unreachable"
]


class Failed(Exception):
    """A request that may be sent again, if *done* (it may have had its effect) allows it."""

    def __init__(
        self, text: str, *, done: bool, retry_after: float | None = None, outcome: Outcome = "failed"
    ) -> None:
        super().__init__(text)
        self.done = done
        self.retry_after = retry_after
        self.outcome = outcome


class Http:
    """Connections to ``mux.api``. The token's files are read for each request: they may be replaced.

    *outcomes* counts the requests since the start.
    """

    def __init__(self, config: MuxConfig) -> None:
        self.outcomes: dict[Outcome, int] = dict.fromkeys(get_args(Outcome), 0)
        self._config = config
        host = httpx.URL(config.api).host
        self._client = httpx.AsyncClient(
            base_url=config.api,
            timeout=config.timeout,
            follow_redirects=False,
            trust_env=host not in _LOOPBACK,
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=2),
            # A compressed answer may be larger than it looks.
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "ingestd"},
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def send(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, Any] | None = None
    ) -> Answer:
        """One attempt. Raises `Failed`, or the `MuxError` that no other attempt would change."""
        request = self._client.build_request(method, path, json=body, params=query)
        auth = self._auth()
        outcome: Outcome = "lost"  # should it be cancelled
        try:
            answer = await self._ask(request, auth, _secrets(body))
            outcome = "answered"
        except (Failed, MuxError) as error:
            outcome = _outcome(error)
            raise
        finally:
            self.outcomes[outcome] += 1
        return answer

    async def _ask(self, request: httpx.Request, auth: httpx.Auth, secrets: tuple[str, ...]) -> Answer:
        try:
            response = await self._client.send(request, auth=auth, stream=True)
            try:
                content = await _read(response)
            finally:
                await response.aclose()
        except _NOT_SENT as error:
            text = f"Mux cannot be reached ({_why(error)})"
            raise Failed(text, done=False, outcome="unreachable") from None
        except httpx.TimeoutException as error:
            text = f"Mux did not answer within mux.timeout, {self._config.timeout:g} s ({_why(error)})"
            raise Failed(text, done=True, outcome="lost") from None
        except httpx.HTTPError as error:
            text = f"the connection to Mux broke ({_why(error)})"
            raise Failed(text, done=True, outcome="lost") from None
        return _answer(response, content, secrets)

    def _auth(self) -> httpx.BasicAuth:
        config = self._config
        if not config.enabled:
            raise MuxUnauthorised(
                "mux.token_id_file and mux.token_secret_file are not set; they hold a token of Mux's"
            )
        try:
            return httpx.BasicAuth(read_secret(config.token_id_file), read_secret(config.token_secret_file))
        except CredentialError as error:
            raise MuxUnauthorised(f"mux.token_id_file, mux.token_secret_file: {error}") from None


async def _read(response: httpx.Response) -> bytes:
    """The body. Raises `Failed` for one that is too long."""
    content = bytearray()
    try:
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > LARGEST_ANSWER:
                # The loop ends by it. Leaving the loop would not end what it goes through further down.
                await response.aclose()
                del content[LARGEST_ANSWER + 1 :]
    except httpx.HTTPError:
        if len(content) <= LARGEST_ANSWER:
            raise
    if len(content) > LARGEST_ANSWER:
        raise Failed(f"Mux's answer is longer than {LARGEST_ANSWER} bytes; is mux.api right?", done=True)
    return bytes(content)


def _answer(response: httpx.Response, content: bytes, secrets: tuple[str, ...]) -> Answer:
    status = response.status_code
    at = http_date(response.headers.get("date"))
    if 200 <= status < 300:
        if not content or status == httpx.codes.NO_CONTENT:
            return Answer(status, None, at)
        parsed = _json(content)
        if not isinstance(parsed, dict):
            raise Failed(f"Mux answered {status} without JSON; is mux.api right?", done=True)
        return Answer(status, parsed.get("data"), at)
    said = _said(_json(content), secrets)
    if status in (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS) or status >= 500:
        wait = retry_after(response.headers.get("retry-after"), time.time())
        # With too many requests it was not looked at.
        text, throttled = f"Mux answered {status}{said}", status == httpx.codes.TOO_MANY_REQUESTS
        outcome: Outcome = "throttled" if throttled else "failed"
        raise Failed(text, done=not throttled, retry_after=wait, outcome=outcome)
    raise _refusal(status, said)


def _outcome(error: Failed | MuxError) -> Outcome:
    if isinstance(error, Failed):
        return error.outcome
    if isinstance(error, MuxUnauthorised):
        return "unauthorised"
    return "failed" if isinstance(error, MuxUnavailable) else "refused"


def _refusal(status: int, said: str) -> MuxError:
    text = f"Mux answered {status}{said}"
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return MuxUnauthorised(f"{text}; expected a token with Mux Video read and write in [mux]'s files")
    if status == httpx.codes.NOT_FOUND:
        return MuxNotFound(text)
    if 400 <= status < 500:
        return MuxRefused(text)
    return MuxUnavailable(f"{text}; is mux.api right?")


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _said(body: object, secrets: tuple[str, ...]) -> str:
    """Mux's own words: ``{"error": {"type": …, "messages": […]}}``, on 429 ``{"errors": […]}``."""
    table = body if isinstance(body, dict) else {}
    error = table.get("error")
    messages = error.get("messages") if isinstance(error, dict) else table.get("errors")
    texts = [text for text in messages if isinstance(text, str)] if isinstance(messages, list) else []
    kept = []
    for text in texts[:_MESSAGES]:
        for secret in secrets:
            text = text.replace(secret, "•••")
        kept.append("".join(c for c in text if c.isprintable())[:_LONGEST_MESSAGE])
    return f": {'; '.join(kept)}" if kept else ""


def _secrets(body: dict[str, Any] | None) -> tuple[str, ...]:
    """What of a request must not come back in a message."""
    return tuple(str((body or {})[key]) for key in ("stream_key", "url") if (body or {}).get(key))


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
