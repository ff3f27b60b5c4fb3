"""One watched stack for all tests of `make test-ops`, in which much has happened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pytest_asyncio import is_async_test

from tests.support.answers import Answers, ask_everything
from tests.support.fleet import Fleet, Incident, running_fleet
from tests.support.monitoring_servers import Missing, programs

OPS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is `ops`, and the asynchronous tests share the loop that the stack's fixture runs in."""
    for item in items:
        if OPS in item.path.parents:
            item.add_marker(pytest.mark.ops)
            if is_async_test(item):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def installed() -> dict[str, str]:
    """Prometheus' programs by name."""
    try:
        return programs()
    except Missing as error:
        pytest.skip(str(error))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fleet(installed: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A stack with everything around it, after an eventful minute."""
    async with running_fleet(tmp_path_factory.mktemp("ops"), installed) as fleet:
        await fleet.eventful_minute()
        yield fleet


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def story(fleet: Fleet) -> tuple[Incident, Answers]:
    """The connector dies and comes back; every query is asked while it is away, and again afterwards until it has an answer."""
    answers = Answers()
    async with fleet.connector_gone() as incident:
        await ask_everything(fleet, answers)
    await answers.complete(fleet)
    return incident, answers


@pytest.fixture(scope="session")
def incident(story: tuple[Incident, Answers]) -> Incident:
    return story[0]


@pytest.fixture(scope="session")
def answers(story: tuple[Incident, Answers]) -> Answers:
    return story[1]
