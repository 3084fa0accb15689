"""The driver: one transition at a time, effects as tasks, failures fed back, faults raised, nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from anynode.rounds.driver import Driver
from anynode.rounds.events import Failed, Tick
from anynode_contracts.errors import InvariantError, RefusedError, StorageError

State = tuple[object, ...]
WAIT_S = 30.0


def remember(state: State, message: object, now: float) -> tuple[State, list[str]]:
    """A core that keeps what it is told, but for ticks; ``do x`` gives the effect ``x``."""
    if isinstance(message, Tick):
        return state, []
    effects = message.removeprefix("do ").split("+") if isinstance(message, str) and message.startswith("do ") else []
    return (*state, (message, now)), effects


async def nothing(_: str) -> None:
    return


def driver_of(carry_out: Callable[[str], Awaitable[None]] = nothing, **options: Any) -> Driver[State, str, str]:
    return Driver(
        (),
        remember,
        carry_out=carry_out,
        failure_key=lambda effect: effect if effect.startswith("key") else "",
        clock=lambda: 7.0,
        tick_s=60.0,
        **options,
    )


@asynccontextmanager
async def running(driver: Driver[State, str, str]) -> AsyncIterator[asyncio.Task[None]]:
    """The driver's `run`, begun; stopped in the end."""
    task = asyncio.create_task(driver.run())
    await driver.feed("begin")
    try:
        yield task
    finally:
        driver.stop()
        await asyncio.wait({task})


def told(driver: Driver[State, str, str], message: object) -> bool:
    return any(entry[0] == message for entry in driver.state if isinstance(entry, tuple))


async def test_effects_are_carried_out_and_may_feed_again() -> None:
    async def carry_out(effect: str) -> None:
        await driver.feed(f"{effect} is done")

    driver = driver_of(carry_out)
    async with running(driver):
        assert await driver.feed("do this+that") == []
        assert await driver.wait_for(lambda _: told(driver, "this is done") and told(driver, "that is done"), WAIT_S)
    assert driver.state[0] == ("begin", 7.0), "the core is told the time"


async def test_replies_are_returned_and_not_carried_out() -> None:
    done: list[str] = []

    async def carry_out(effect: str) -> None:
        done.append(effect)
        await driver.feed("done")

    driver = driver_of(carry_out)
    async with running(driver):
        assert await driver.feed("do answer+work", reply=lambda effect: effect == "answer") == ["answer"]
        assert await driver.wait_for(lambda _: told(driver, "done"), WAIT_S)
    assert done == ["work"]


async def test_what_is_taken_at_once_keeps_its_order() -> None:
    queue: list[str] = []

    def at_once(effect: str) -> bool:
        queue.append(effect)
        return True

    driver = driver_of(at_once=at_once)
    for number in range(10):
        await driver.feed(f"do {number}a+{number}b")
    assert queue == [f"{number}{letter}" for number in range(10) for letter in "ab"]


async def test_a_failure_is_fed_back_under_its_name() -> None:
    async def carry_out(effect: str) -> None:
        raise RefusedError(f"{effect}: no; try later")

    driver = driver_of(carry_out)
    async with running(driver):
        await driver.feed("do key 1")
        assert await driver.wait_for(lambda _: told(driver, Failed("key 1")), WAIT_S)
        await driver.feed("do other")
        await driver.feed("do key 2")
        assert await driver.wait_for(lambda _: told(driver, Failed("key 2")), WAIT_S)
    assert not told(driver, Failed("")), "where nothing waits for it, nobody is told"


@pytest.mark.parametrize("error", [InvariantError("it cannot be"), StorageError("the disk is full; free some space")])
async def test_a_fault_stops_the_driver_and_is_raised(error: Exception) -> None:
    async def carry_out(_: str) -> None:
        raise error

    driver = driver_of(carry_out)
    async with running(driver) as task:
        await driver.feed("do key 1")
        await asyncio.wait({task}, timeout=WAIT_S)
        assert task.done()
        assert task.exception() is error


async def test_stopping_ends_what_is_under_way() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def carry_out(_: str) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    driver = driver_of(carry_out)
    async with running(driver) as task:
        await driver.feed("do wait")
        await begun.wait()
        driver.stop()
        await asyncio.wait_for(task, WAIT_S)
        assert ended.is_set()


async def test_waiting_ends_with_the_state_or_in_time() -> None:
    driver = driver_of()
    assert not await driver.wait_for(lambda _: told(driver, "never"), 0.01)
    waiting = asyncio.create_task(driver.wait_for(lambda _: told(driver, "now"), WAIT_S))
    await driver.feed("before")
    assert not waiting.done()
    await driver.feed("now")
    assert await waiting


async def test_it_ticks_by_itself() -> None:
    ticks = asyncio.Event()

    def step(state: int, message: object, _: float) -> tuple[int, list[str]]:
        if state >= 2:
            ticks.set()
        return state + isinstance(message, Tick), []

    driver: Driver[int, str, str] = Driver(
        0, step, carry_out=nothing, failure_key=lambda _: "", clock=lambda: 0.0, tick_s=0.001
    )
    task = asyncio.create_task(driver.run())
    await asyncio.wait_for(ticks.wait(), WAIT_S)
    driver.stop()
    await asyncio.wait_for(task, WAIT_S)
