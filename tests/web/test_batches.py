"""Concurrent questions are answered in batches; timeouts and overload raise."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from memhop.text.answer import Answer
from memhop.text.model import MemN2N
from memhop.web.api import StoryBatches, StoryQuestion, answer_stories
from memhop.web.batches import Overload
from memhop.web.limits import Limits
from memhop.web.models import Served

ONE: StoryQuestion = (["Mary went to the garden."], "Where is Mary?")
OTHER: StoryQuestion = (["Mary went to the kitchen."], "Where is Mary?")


class Watched:
    """A model that waits for an event, and records the size of each batch."""

    def __init__(self, model: MemN2N) -> None:
        self.model = model
        self.served = Served("watched", cast(MemN2N, self), None)
        self.gate = threading.Event()
        self.sizes: list[int] = []
        self.broken = False

    def answers(self, asked: Sequence[StoryQuestion]) -> list[Answer]:
        self.sizes.append(len(asked))
        assert self.gate.wait(30)
        if self.broken:
            raise ArithmeticError("broken")
        return self.model.answers(asked)


def run(limits: Limits, scene: Callable[[StoryBatches], Awaitable[None]]) -> None:
    async def whole() -> None:
        batches = StoryBatches(limits, answer_stories)
        work = asyncio.create_task(batches.work())
        try:
            await asyncio.wait_for(scene(batches), 60)
        finally:
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work

    asyncio.run(whole())


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def ask(batches: StoryBatches, model: Watched, *asked: StoryQuestion) -> "asyncio.Task[list[str]]":
    return asyncio.create_task(answered(batches, model, *asked))


async def answered(batches: StoryBatches, model: Watched, *asked: StoryQuestion) -> list[str]:
    answers = await batches.answer(model.served, list(asked))
    return [json.loads(one)["answer"] for one in answers]


def test_questions_that_arrive_during_a_batch_are_the_next_batch(model: MemN2N) -> None:
    watched = Watched(model)

    async def scene(batches: StoryBatches) -> None:
        first = ask(batches, watched, ONE)
        await until(lambda: watched.sizes)
        jobs = [ask(batches, watched, *pair) for pair in ((ONE, OTHER), (OTHER,), (ONE,))]
        await asyncio.sleep(0.01)
        watched.gate.set()
        assert [await job for job in (first, *jobs)] == [
            ["garden"],
            ["garden", "kitchen"],
            ["kitchen"],
            ["garden"],
        ]

    run(Limits(), scene)
    assert watched.sizes == [1, 4]


def test_a_batch_is_limited_and_no_request_is_split(model: MemN2N) -> None:
    watched = Watched(model)

    async def scene(batches: StoryBatches) -> None:
        jobs = [ask(batches, watched, *[ONE] * size) for size in (2, 2, 1, 5)]
        await until(lambda: watched.sizes)
        watched.gate.set()
        assert [len(await job) for job in jobs] == [2, 2, 1, 5]

    run(Limits(batch=3), scene)
    assert watched.sizes == [3, 2, 5]


def test_every_model_gets_its_batches(model: MemN2N) -> None:
    first, second = Watched(model), Watched(model)
    first.gate.set()
    second.gate.set()

    async def scene(batches: StoryBatches) -> None:
        jobs = [ask(batches, one, ONE) for one in (first, second, first, second)]
        assert [await job for job in jobs] == [["garden"]] * 4

    run(Limits(), scene)
    assert (first.sizes, second.sizes) == ([2], [2])


def test_too_many_questions_raise_at_once(model: MemN2N) -> None:
    watched = Watched(model)

    async def scene(batches: StoryBatches) -> None:
        first = ask(batches, watched, ONE)
        await until(lambda: watched.sizes)
        second = ask(batches, watched, ONE, ONE)
        await asyncio.sleep(0)
        with pytest.raises(Overload):
            await answered(batches, watched, ONE)
        watched.gate.set()
        assert [len(await job) for job in (first, second)] == [1, 2]
        assert len(await ask(batches, watched, ONE, ONE)) == 2

    run(Limits(waiting_questions=2), scene)


def test_a_question_that_waits_too_long_is_not_answered(model: MemN2N) -> None:
    watched = Watched(model)

    async def scene(batches: StoryBatches) -> None:
        jobs = [ask(batches, watched, ONE)]
        await until(lambda: watched.sizes)
        jobs.append(ask(batches, watched, ONE))
        for job in jobs:
            with pytest.raises(Overload):
                await job
        watched.gate.set()
        assert await ask(batches, watched, OTHER) == ["kitchen"]

    run(Limits(seconds=1.5), scene)
    assert watched.sizes == [1, 1]


def test_timed_out_questions_do_not_count(model: MemN2N) -> None:
    watched = Watched(model)

    async def scene(batches: StoryBatches) -> None:
        jobs = [ask(batches, watched, ONE)]
        await until(lambda: watched.sizes)
        jobs += [ask(batches, watched, ONE, ONE)]
        for job in jobs:
            with pytest.raises(Overload):
                await job
        late = ask(batches, watched, OTHER, OTHER)
        await asyncio.sleep(0.01)
        watched.gate.set()
        assert await late == ["kitchen", "kitchen"]

    run(Limits(seconds=1.5, waiting_questions=2), scene)


def test_shutdown_does_not_wait_for_a_batch(model: MemN2N) -> None:
    watched = Watched(model)

    async def scene(batches: StoryBatches) -> None:
        job = ask(batches, watched, ONE)
        await until(lambda: watched.sizes)
        job.cancel()

    try:
        run(Limits(), scene)  # the event is not set: waiting for the batch would never end
        assert not watched.gate.is_set()
    finally:
        watched.gate.set()


def test_an_error_of_the_model_is_raised_only_for_its_batch(model: MemN2N) -> None:
    watched = Watched(model)
    watched.gate.set()
    watched.broken = True

    async def scene(batches: StoryBatches) -> None:
        for job in [ask(batches, watched, ONE), ask(batches, watched, ONE)]:
            with pytest.raises(ArithmeticError, match="broken"):
                await job
        watched.broken = False
        assert len(await ask(batches, watched, ONE)) == 1

    run(Limits(), scene)
