"""Few transfers are under way at once, each begins, and none that is slow keeps others out."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.link.transfers import Transfers


@given(times=st.lists(st.integers(0, 3), min_size=1, max_size=30), reserves=st.booleans())
def test_no_more_are_under_way_than_there_are_slots_and_all_get_through(times, reserves):
    under_way, most, through = 0, 0, 0

    async def one(transfers, number, turns):
        nonlocal under_way, most, through
        if reserves:
            await transfers.reserve(number)
        async with transfers.slot(number):
            under_way += 1
            most = max(most, under_way)
            for _ in range(turns):
                await asyncio.sleep(0)
            under_way -= 1
        through += 1

    async def all_():
        transfers = Transfers(4, 1000.0)
        await asyncio.gather(*(one(transfers, n, turns) for n, turns in enumerate(times)))

    asyncio.run(all_())
    assert most <= 4
    assert through == len(times)


def test_a_slow_transfer_lets_others_begin():
    async def all_():
        transfers = Transfers(2, 0.01)
        stuck = asyncio.Event()
        begun: list[int] = []

        async def slow(number):
            async with transfers.slot():
                begun.append(number)
                await stuck.wait()

        tasks = [asyncio.create_task(slow(n)) for n in range(7)]
        while len(begun) < 7:
            await asyncio.sleep(0.005)
        stuck.set()
        await asyncio.gather(*tasks)
        return begun

    assert asyncio.run(all_()) == list(range(7))


@pytest.mark.parametrize("seconds", [1000.0, 0.03])
def test_where_all_are_slow_a_few_go_on_without_a_slot_and_more_only_in_a_while(seconds):
    async def all_():
        transfers = Transfers(2, 0.01, slow_at_once=3, slow_seconds=seconds)
        stuck = asyncio.Event()
        begun = 0

        async def slow():
            nonlocal begun
            async with transfers.slot():
                begun += 1
                await stuck.wait()

        tasks = [asyncio.create_task(slow()) for _ in range(9)]
        while begun < (5 if seconds > 1 else 9):
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)  # many periods more
        seen = begun
        stuck.set()
        await asyncio.gather(*tasks)
        assert (transfers._slow, transfers._free._value) == (0, 2)
        return seen, begun

    assert asyncio.run(all_()) == (5 if seconds > 1 else 9, 9)


def test_a_transfer_that_goes_well_keeps_its_slot():
    async def all_():
        transfers = Transfers(1, 0.02, 10)
        async with transfers.slot() as slot:
            for _ in range(20):
                slot.moved(10)
                await asyncio.sleep(0.005)
            assert transfers._free.locked()
            while transfers._free.locked():  # now it stands still
                await asyncio.sleep(0.005)

    asyncio.run(all_())


def test_a_slot_is_given_back_once_however_its_transfer_ends():
    async def all_():
        transfers = Transfers(1, 0.01)
        await transfers.reserve("never begun")
        async with transfers.slot("another"):
            await asyncio.sleep(0.03)  # past its time
        waiting = asyncio.create_task(transfers.reserve("gone"))
        async with transfers.slot():
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        try:
            async with transfers.slot():
                raise ConnectionError
        except ConnectionError:
            pass
        assert transfers._free._value == 1
        assert not transfers._reserved

    asyncio.run(all_())


def test_a_reservation_is_used_by_its_transfer_and_made_once():
    async def all_():
        transfers = Transfers(1, 1000.0)
        await transfers.reserve("mine")
        await transfers.reserve("mine")
        async with transfers.slot("mine"):
            assert transfers._free.locked()
        assert not transfers._free.locked()

    asyncio.run(all_())
