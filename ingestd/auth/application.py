"""The application's own word: whether somebody may publish or watch, asked by POST, and remembered a while.

2xx is yes, 401 and 403 are no; anything else is no answer, and ``auth.when_down`` says what then holds. Asked
whose a key is, its yes has the stream's name in it: ``{"stream": "studio"}``.
"""

from __future__ import annotations

import json
from collections import OrderedDict

import httpx
import structlog
import trio

from ingestd.auth.question import ApplicationDown, Question
from ingestd.config import Auth
from ingestd.names import NAME

log = structlog.get_logger(__name__)

MAX_ANSWERS = 10_000
"""Answers that are remembered; of more, the one that was not used for the longest is forgotten."""
MAX_QUESTIONS = 32
"""Questions under way at a time; others wait, and their waiting counts as the application's."""
_MAX_BODY = 64 * 2**10
_YES = range(200, 300)
_NO = (401, 403)


class Application:
    """Asks at ``auth.url`` over *http*, whose redirects must be off."""

    def __init__(self, config: Auth, http: httpx.AsyncClient) -> None:
        self._config = config
        self._http = http
        self._limiter = trio.CapacityLimiter(MAX_QUESTIONS)
        self._answers: OrderedDict[bytes, tuple[str | None, float]] = OrderedDict()

    async def may(self, question: Question) -> bool:
        """The answer, from memory if there is a fresh one. Raises `ApplicationDown`."""
        try:
            return await self._answer(question, self._config.when_down) is not None
        except ApplicationDown:
            if self._config.when_down == "deny":
                raise
            return True

    async def whose(self, question: Question) -> str | None:
        """The stream that the key is for; None for none. Raises `ApplicationDown`: nobody else knows."""
        return await self._answer(question, "deny")

    async def _answer(self, question: Question, decision: str) -> str | None:
        """None is no; yes is the name of a stream, or empty where that was not asked for."""
        remembered = self._answers.get(question.digest)
        if remembered is not None and remembered[1] > trio.current_time():
            self._answers.move_to_end(question.digest)
            return remembered[0]
        trouble = "no answer in time"
        with trio.move_on_after(self._config.timeout):
            try:
                async with self._limiter:
                    answer = await self._ask(question)
            except _Trouble as error:
                trouble = str(error)
            else:
                self._remember(question, answer)
                return answer
        stream = question.stream
        log.error("application_down", action=question.action, stream=stream, cause=trouble, decision=decision)
        raise ApplicationDown("the application cannot be asked who may")

    async def _ask(self, question: Question) -> str | None:
        """As `_answer`. Raises `_Trouble`, never with anything that the application sent."""
        try:
            async with self._http.stream("POST", self._config.url, json=question.body) as response:
                status, body = response.status_code, b""
                # Without a name to be told the status is all that counts; a short body is read, so that the
                # connection can be kept.
                if question.stream is None or _is_short(response):
                    body = await _body(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _Trouble(type(error).__name__) from None
        if status in _NO:
            return None
        if status not in _YES:
            raise _Trouble(f"status {status}")
        return "" if question.stream is not None else _named(body)

    def _remember(self, question: Question, answer: str | None) -> None:
        seconds = self._config.cache_refused if answer is None else self._config.cache
        if seconds:
            self._answers[question.digest] = answer, trio.current_time() + seconds
            self._answers.move_to_end(question.digest)
            if len(self._answers) > MAX_ANSWERS:
                self._answers.popitem(last=False)


class _Trouble(Exception):
    """There is no answer; the text says why."""


def _is_short(response: httpx.Response) -> bool:
    length = response.headers.get("Content-Length", "")
    return length.isdigit() and len(length) < 10 and int(length) <= _MAX_BODY


async def _body(response: httpx.Response) -> bytes:
    """The body; of one that is too long the beginning."""
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > _MAX_BODY:
            await response.aclose()  # the loop ends by it
    return bytes(body[: _MAX_BODY + 1])


def _named(body: bytes) -> str:
    try:
        name = json.loads(body)["stream"] if len(body) <= _MAX_BODY else None
    except (ValueError, KeyError, TypeError, RecursionError):
        name = None
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise _Trouble('yes, without a stream\'s name; expected {"stream": "NAME"}')
    return name
