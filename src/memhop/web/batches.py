"""Requests that come together are answered in one batch, by one thread."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from memhop.web.limits import Limits
from memhop.web.models import Served
from memhop.web.schemas import Answered

Asked = tuple[Sequence[str], str]  # a story and a question


class Overload(Exception):
    """More is waiting than can be answered in time."""


class _Job(NamedTuple):
    served: Served
    asked: list[Asked]
    answers: asyncio.Future[list[bytes]]


class Batches:
    """Takes jobs from an event loop, answers all that wait for one model at once.

    While a batch is at work the next one gathers: the more requests, the larger the batches.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: deque[_Job] = deque()
        self._come = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memhop-batches")

    async def answer(self, served: Served, asked: list[Asked]) -> list[bytes]:
        """The answers of one model to some questions, each an `Answered` in JSON.

        Raises:
            Overload: too many questions wait already, or these waited too long.
        """
        waiting = sum(len(job.asked) for job in self._waiting if not job.answers.done())
        if waiting + len(asked) > self._limits.waiting_questions:
            raise Overload
        job = _Job(served, asked, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._come.set()
        try:
            return await asyncio.wait_for(job.answers, self._limits.seconds)
        except TimeoutError:
            raise Overload from None

    async def work(self) -> None:
        """Answer batch after batch until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._come.wait()
                self._come.clear()
                while jobs := self._next():
                    work = loop.run_in_executor(self._thread, _answer, jobs)
                    try:
                        answers = await work
                    except Exception as error:  # told to those who asked; the next ones go on
                        _fail(jobs, error)
                    else:
                        _deliver(jobs, answers)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> list[_Job]:
        """The jobs that waited longest and are for one model, as many as a batch takes."""
        jobs: list[_Job] = []
        others: list[_Job] = []
        room = self._limits.batch
        while self._waiting and room > 0:
            job = self._waiting.popleft()
            if job.answers.done():  # nobody waits any more
                continue
            if jobs and (job.served is not jobs[0].served or len(job.asked) > room):
                others.append(job)
                continue
            jobs.append(job)
            room -= len(job.asked)
        self._waiting.extendleft(reversed(others))
        return jobs


def _answer(jobs: list[_Job]) -> list[bytes]:
    """JSON and all, as it is done in a thread of its own: the event loop stays free for others."""
    served = jobs[0].served
    answers = served.model.answers([one for job in jobs for one in job.asked])
    return [Answered.of(served.name, one).model_dump_json().encode() for one in answers]


def _deliver(jobs: list[_Job], answers: list[bytes]) -> None:
    each = iter(answers)
    for job in jobs:
        own = [next(each) for _ in job.asked]
        with suppress(asyncio.InvalidStateError):  # it has waited too long meanwhile
            job.answers.set_result(own)


def _fail(jobs: list[_Job], error: Exception) -> None:
    for job in jobs:
        with suppress(asyncio.InvalidStateError):
            job.answers.set_exception(error)
