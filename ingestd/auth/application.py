"""The application's own word: whether somebody may publish or watch, asked by POST, and remembered a while.

2xx is yes, 401 and 403 are no; anything else is no answer, and ``auth.when_down`` says what then holds.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum

import httpx
import structlog
import trio

from ingestd.auth.question import ApplicationDown, Question
from ingestd.config import Auth

log = structlog.get_logger(__name__)

MAX_ANSWERS = 10_000
"""Answers that are remembered; of more, the one that was not used for the longest is forgotten."""
MAX_QUESTIONS = 32
"""Questions under way at a time; others wait, and their waiting counts as the application's."""
_MAX_BODY = 64 * 2**10
_YES = range(200, 300)
_NO = (401, 403)


class _Answer(Enum):
    YES = "yes"
    NO = "no"


class Application:
    """Asks at ``auth.url`` over *http*, whose redirects must be off."""

    def __init__(self, config: Auth, http: httpx.AsyncClient) -> None:
        self._config = config
        self._http = http
        self._limiter = trio.CapacityLimiter(MAX_QUESTIONS)
        self._answers: OrderedDict[bytes, tuple[_Answer, float]] = OrderedDict()

    async def may(self, question: Question) -> bool:
        """The answer, from memory if there is a fresh one. Raises `ApplicationDown`."""
        remembered = self._answers.get(question.digest)
        if remembered is not None and remembered[1] > trio.current_time():
            self._answers.move_to_end(question.digest)
            return remembered[0] is _Answer.YES
        trouble = "no answer in time"
        with trio.move_on_after(self._config.timeout):
            async with self._limiter:
                answer = await self._ask(question)
            if isinstance(answer, _Answer):
                self._remember(question, answer)
                return answer is _Answer.YES
            trouble = answer
        log.error(
            "application_down",
            action=question.action,
            stream=question.stream,
            cause=trouble,
            decision=self._config.when_down,
        )
        if self._config.when_down == "deny":
            raise ApplicationDown("the application cannot be asked")
        return True

    async def _ask(self, question: Question) -> _Answer | str:
        """Yes, no, or what went wrong; never with anything that the application sent."""
        try:
            async with self._http.stream("POST", self._config.url, json=question.body) as response:
                status = response.status_code
                # The status is all that counts; a short body is read, so that the connection can be kept.
                length = response.headers.get("Content-Length", "")
                if length.isdigit() and len(length) < 10 and int(length) <= _MAX_BODY:
                    await response.aread()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return type(error).__name__
        if status in _YES:
            return _Answer.YES
        return _Answer.NO if status in _NO else f"status {status}"

    def _remember(self, question: Question, answer: _Answer) -> None:
        seconds = self._config.cache if answer is _Answer.YES else self._config.cache_refused
        if seconds:
            self._answers[question.digest] = answer, trio.current_time() + seconds
            self._answers.move_to_end(question.digest)
            if len(self._answers) > MAX_ANSWERS:
                self._answers.popitem(last=False)
