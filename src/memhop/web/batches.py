"""Answer concurrent requests in batches, in one thread."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from memhop.web.limits import Limits

ModelT = TypeVar("ModelT")
QuestionT = TypeVar("QuestionT")


class Overload(Exception):
    """Too many questions are waiting."""


@dataclass(frozen=True, eq=False)
class _Job(Generic[ModelT, QuestionT]):
    served: ModelT
    questions: list[QuestionT]
    answers: asyncio.Future[list[bytes]]


class Batches(Generic[ModelT, QuestionT]):
    """Takes jobs from an event loop, and answers all waiting jobs for one model in a batch.

    The next batch collects while one is computed: the more requests, the larger the batches.

    Args:
        limits: the limits of the server.
        answer_all: return the answers of a model to some questions, each as JSON; called in the
            thread, so the encoding keeps the event loop free.
    """

    def __init__(
        self, limits: Limits, answer_all: Callable[[ModelT, list[QuestionT]], list[bytes]]
    ) -> None:
        self._limits = limits
        self._answer_all = answer_all
        self._waiting: deque[_Job[ModelT, QuestionT]] = deque()
        self._has_jobs = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memhop-batches")

    async def answer(self, served: ModelT, questions: list[QuestionT]) -> list[bytes]:
        """Return the answers of a model to some questions, each as JSON.

        Raises:
            Overload: too many questions are waiting, or these waited too long.
        """
        num_waiting = sum(len(job.questions) for job in self._waiting if not job.answers.done())
        if num_waiting + len(questions) > self._limits.waiting_questions:
            raise Overload
        job = _Job(served, questions, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._has_jobs.set()
        try:
            return await asyncio.wait_for(job.answers, self._limits.seconds)
        except TimeoutError:
            raise Overload from None

    async def work(self) -> None:
        """Answer batch after batch until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._has_jobs.wait()
                self._has_jobs.clear()
                while jobs := self._next_batch():
                    work = loop.run_in_executor(self._thread, self._answer, jobs)
                    try:
                        answers = await work
                    except Exception as error:  # only for these jobs; the next ones continue
                        _fail(jobs, error)
                    else:
                        _deliver(jobs, answers)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _answer(self, jobs: list[_Job[ModelT, QuestionT]]) -> list[bytes]:
        return self._answer_all(jobs[0].served, [one for job in jobs for one in job.questions])

    def _next_batch(self) -> list[_Job[ModelT, QuestionT]]:
        """Remove and return the oldest jobs for one model, as many as fit into a batch."""
        jobs: list[_Job[ModelT, QuestionT]] = []
        others: list[_Job[ModelT, QuestionT]] = []
        num_left = self._limits.batch
        while self._waiting and num_left > 0:
            job = self._waiting.popleft()
            if job.answers.done():  # timed out
                continue
            if jobs and (job.served is not jobs[0].served or len(job.questions) > num_left):
                others.append(job)
                continue
            jobs.append(job)
            num_left -= len(job.questions)
        self._waiting.extendleft(reversed(others))
        return jobs


def _deliver(jobs: list[_Job[ModelT, QuestionT]], answers: list[bytes]) -> None:
    each = iter(answers)
    for job in jobs:
        own = [next(each) for _ in job.questions]
        with suppress(asyncio.InvalidStateError):  # timed out meanwhile
            job.answers.set_result(own)


def _fail(jobs: list[_Job[ModelT, QuestionT]], error: Exception) -> None:
    for job in jobs:
        with suppress(asyncio.InvalidStateError):
            job.answers.set_exception(error)
