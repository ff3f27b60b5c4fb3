"""The committed dashboards are what the code writes, and what a reader on a phone or with other data sources needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboards.catalogue import boards, written
from monitoring.dashboards.queries import POSTGRESQL, PROMETHEUS
from tests.support.grafana import DASHBOARDS, View, panels, queries
from tests.support.grafana import boards as files

FILES = files()
PROVISIONED = DASHBOARDS.parent / "provisioning"
COLUMNS = 24
WIDEST = 12
CHOICES = {"mode": "simulation", "venue": ["binance"], "pair": ["BTC/USDT"], "strategy": ["consensus"], "plugin": ["sma"]}
LINK = re.compile(r"/d/([\w-]+)\?")


def test_the_committed_files_are_what_the_code_writes() -> None:
    assert {path.name: path.read_text() for path in DASHBOARDS.glob("*.json")} == written(boards()), (
        "run: python -m monitoring.dashboards"
    )


@pytest.mark.parametrize("name", FILES)
def test_a_dashboard_is_one_to_the_librarys_models(name: str) -> None:
    register_default_plugins()
    board = Dashboard.from_json(FILES[name])
    assert board.uid == f"tradebot-{name}"
    assert len(board.panels or ()) == len(FILES[name]["panels"])


@pytest.mark.parametrize("name", FILES)
def test_every_panel_says_what_it_shows_in_which_unit(name: str) -> None:
    for panel in panels(FILES[name]):
        assert len(panel["description"]) > 15, panel["title"]
        assert panel["description"].endswith((".", "dead-letters", "orders")), panel["description"]
        assert panel["targets"], panel["title"]
        if panel["type"] not in ("table", "state-timeline"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@pytest.mark.parametrize("name", FILES)
def test_a_dashboard_begins_with_numbers_and_fits_a_phone(name: str) -> None:
    found = FILES[name]["panels"]
    assert [panel["type"] for panel in found[:6]] == ["stat"] * 6
    assert all(panel["gridPos"]["w"] <= WIDEST for panel in panels(FILES[name]))


@pytest.mark.parametrize("name", FILES)
def test_panels_fill_the_width_and_do_not_overlap(name: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in FILES[name]["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) is panel["title"], f"{panel['title']} on {taken[x, y]}"
    height = max(y for _, y in taken) + 1
    assert {x for x, _ in taken} == set(range(COLUMNS))
    assert len(taken) == COLUMNS * height, "a hole in the grid"


@pytest.mark.parametrize("name", FILES)
def test_ids_are_one_panels_alone(name: str) -> None:
    ids = [panel["id"] for panel in FILES[name]["panels"]]
    assert len(set(ids)) == len(ids)


def test_no_data_source_is_named_but_by_its_variable() -> None:
    allowed = ({"type": PROMETHEUS, "uid": "${metrics}"}, {"type": POSTGRESQL, "uid": "${history}"})
    sources = [value for board in FILES.values() for key, value in walk(board) if key == "datasource"]
    assert sources
    assert [source for source in sources if source not in allowed] == []


def test_the_provisioned_data_sources_are_of_the_kinds_that_the_dashboards_ask_for() -> None:
    text = (PROVISIONED / "datasources" / "tradebot.yml").read_text()
    sources = {source["type"]: source for source in yaml.safe_load(text)["datasources"]}
    assert set(sources) == {PROMETHEUS, POSTGRESQL}
    watched = yaml.safe_load((PROVISIONED.parents[1] / "prometheus" / "prometheus.yml").read_text())
    assert sources[PROMETHEUS]["jsonData"]["timeInterval"] == watched["global"]["scrape_interval"]
    history = sources[POSTGRESQL]
    assert history["user"] == "tradebot_reader"
    assert history["secureJsonData"]["password"].startswith("$__file{")


@pytest.mark.parametrize("name", FILES)
def test_every_choice_is_on_every_dashboard_so_that_links_keep_it(name: str) -> None:
    variables = [variable["name"] for variable in FILES[name]["templating"]["list"]]
    assert variables == ["metrics", "history", "mode", "venue", "pair", "strategy", "plugin"]
    (link,) = FILES[name]["links"]
    assert link["includeVars"]
    assert link["keepTime"]


@pytest.mark.parametrize("name", FILES)
def test_a_choice_is_shown_where_a_panel_heeds_it_and_hidden_where_none_does(name: str) -> None:
    texts = " ".join(
        query.text for query in queries() if query.place.startswith(f"{name} / ") and " / choices / " not in query.place
    )
    for variable in FILES[name]["templating"]["list"][2:]:
        heeded = re.search(rf"\$\{{?{variable['name']}\b", texts) is not None
        assert heeded == (variable["hide"] == 0), variable["name"]


def test_links_between_panels_and_boards_lead_somewhere() -> None:
    uids = {board["uid"] for board in FILES.values()}
    targets = [found for board in FILES.values() for key, value in walk(board) if key == "url" for found in LINK.findall(value)]
    assert targets
    assert set(targets) <= uids


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.place)
def test_a_query_knows_its_variables_and_stays_in_its_schema(query: Any) -> None:
    text = View(1_000_000, 1_021_600, 60, 5, CHOICES).fill(query)
    assert "$" not in text
    if query.sql:
        for found in re.findall(r"\b(?:FROM|JOIN)\s+(\S+)", text):
            assert found.startswith(('"simulation".', "(", "said", "LATERAL", "pg_namespace")), found
    elif "tradebot" in text and not query.place.endswith("choices / mode"):
        assert 'mode="simulation"' in text, text


def test_a_place_names_one_query() -> None:
    """`make test-ops` keeps answers by place, and people find a panel by its title."""
    places = [query.place for query in queries()]
    assert sorted(set(places)) == sorted(places)


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values, at every depth."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield key, child
            yield from walk(child)
    elif isinstance(value, list):
        for child in value:
            yield from walk(child)
