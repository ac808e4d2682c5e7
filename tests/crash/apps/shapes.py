"""Ways to submit jobs, each acknowledged in the file `promises`, which is synced, after the call has returned."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import mill

from gigq import Job, Workflow, chain, group
from gigq.storage.rows import NewJob

Expected = dict[Job[Any], int | None]  # the result that each job will have, None: it will fail

HOWS = ("plain", "plain", "plain", "flaky", "c", "grandchild")


def single(draw: random.Random, tag: str) -> Expected:
    number = draw.randrange(1000)
    return {mill.step.options(description=tag).delay(number, draw.choice(HOWS)): number + 1}


def many(draw: random.Random, tag: str) -> Expected:
    numbers = [draw.randrange(1000) for _ in range(draw.randrange(2, 70))]
    jobs = mill.step.options(description=tag).map(numbers)
    return dict(zip(jobs, [number + 1 for number in numbers], strict=True))


def row(draw: random.Random, tag: str) -> Expected:
    """A chain, submitted by its last job."""
    number, step = draw.randrange(1000), mill.step.options(description=tag)
    last = chain(step.job(number, draw.choice(HOWS)), step, step)
    mill.app.submit(last)
    first, second = last._parents[0][0]._parents[0][0], last._parents[0][0]  # type: ignore[union-attr]
    return {first: number + 1, second: number + 2, last: number + 3}  # type: ignore[dict-item]


def fan_in(draw: random.Random, tag: str) -> Expected:
    numbers = [draw.randrange(1000) for _ in range(draw.randrange(2, 20))]
    step = mill.step.options(description=tag)
    parts = group([step.job(number) for number in numbers])
    last = parts.then(mill.total.options(description=tag))
    mill.app.submit(last)
    expected: Expected = {job: number + 1 for job, number in zip(parts, numbers, strict=True)}
    return expected | {last: sum(numbers) + len(numbers)}


def flow(draw: random.Random, tag: str) -> Expected:
    """A workflow in the shape of a diamond, one of its jobs by data flow."""
    number, step = draw.randrange(1000), mill.step.options(description=tag)
    workflow = Workflow("diamond")
    top = workflow.add_job(step.job(number))
    left = workflow.add_job(step.job(1, "c"), depends_on=[top])
    right = workflow.add_job(step.job(top.output))
    bottom = workflow.add_job(mill.total.options(description=tag).job([left.output, right.output]))
    workflow.submit_all(mill.app.queue)
    return {top: number + 1, left: 2, right: number + 2, bottom: number + 4}


def failing(draw: random.Random, tag: str) -> Expected:
    return {mill.fail.options(description=tag).delay(draw.randrange(1000)): None}


SHAPES: tuple[Callable[[random.Random, str], Expected], ...] = (single, many, row, fan_in, flow, failing)


def submit(shape: Callable[[random.Random, str], Expected], draw: random.Random, tag: str) -> Expected:
    """Submit one shape and write the promise down: only what `promises` says was acknowledged."""
    mill.mark("submit")
    expected = shape(draw, tag)
    mill.mark("acknowledge")
    promise(tag, expected)
    return expected


def promise(tag: str, expected: Expected) -> None:
    line = json.dumps({"tag": tag, "jobs": {job.id: value for job, value in expected.items()}})
    descriptor = os.open(mill.FOLDER / "promises", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode() + b"\n")
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def submit_all(draw: random.Random, name: str) -> None:
    """Submit each shape once, as a submitter that may be killed: before each call it notes how many jobs it stores."""
    tag = ""
    storage = mill.app.queue.storage
    store = storage.submit

    def noted(jobs: Sequence[NewJob]) -> None:
        line = json.dumps({"tag": tag, "count": len(jobs)})
        with open(mill.FOLDER / "intents", "a") as intents:
            intents.write(line + "\n")
        store(jobs)

    storage.submit = noted  # type: ignore[method-assign]
    shapes = list(SHAPES)
    draw.shuffle(shapes)
    for number, shape in enumerate(shapes):
        tag = f"{name}/{number}"
        submit(shape, draw, tag)
