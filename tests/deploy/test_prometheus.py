"""If these fail, a dashboard is empty or an alert never fires, and nobody notices until it counts.

A real Prometheus scrapes two real services, in which everything happens that is counted.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.fleet import ROOT, Replica, await_answer, fleet, free_ports
from tests.faults.clients import metric, workers
from tests.faults.clients import until as in_time
from tests.waiting import await_that

Program = Callable[[str], str]
RULES = ROOT / "deploy/prometheus/rules.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboards/tessera.json"


def check(*command: str, given: str | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, input=given)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_configuration_and_rules(program: Program) -> None:
    promtool = program("promtool")
    check(promtool, "check", "config", str(ROOT / "deploy/prometheus/prometheus.yml"))
    check(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES))


def test_every_alert_fires_when_it_should(program: Program) -> None:
    check(program("promtool"), "test", "rules", str(ROOT / "tests/deploy/rules.test.yml"))


def test_every_alert_waits_and_says_what_to_do() -> None:
    tried = (ROOT / "tests/deploy/rules.test.yml").read_text()
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]:
        assert rule["for"]
        assert len(rule["annotations"]["runbook"]) > 80
        document, _, place = rule["annotations"]["runbook_url"].partition("#")
        headings = re.findall(r"^### (\w+)$", (ROOT / document).read_text(), re.MULTILINE)
        assert rule["alert"] in headings
        assert place == rule["alert"].lower()
        assert tried.count(rule["alert"]) >= 2  # silent while all is well, and firing


def dashboard_queries() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def filled_in(query: str) -> str:
    """As Grafana sends it with every replica and model chosen."""
    query = query.replace("$__rate_interval", "2m")
    return re.sub(r"\$(instance|model)", ".*", query)


def rule_queries() -> list[str]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["expr"] for rule in group["rules"]]


@contextmanager
def prometheus(program: str, folder: Path, replicas: list[int]) -> Iterator[httpx.Client]:
    """Prometheus by this repository's configuration, but for intervals and ports; its API."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(RULES)]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{replica}" for replica in replicas]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        await_answer(f"{url}/-/ready")
        with httpx.Client(base_url=f"{url}/api/v1", timeout=30) as api:
            yield api
    finally:
        process.terminate()
        process.wait(20)


def ask(api: httpx.Client, query: str) -> list[Any]:
    """What an instant query returns."""
    answer = api.get("/query", params={"query": query})
    assert answer.status_code == 200, (query, answer.text)
    result = answer.json()["data"]["result"]
    assert isinstance(result, list)
    return result


async def everything_that_is_counted(replica: Replica) -> None:
    """Repeats, sharing, leaving clients, refusals, a stream, and the death of a worker."""
    async with replica.service.client() as http:
        body = {"prompt": "red apple", "seed": 1, "steps": 10, "guidance": 3}
        for _ in range(2):  # the second is in memory, as pixels and then as a file
            await http.post("/v1/images", json=body)
            await http.get("/v1/images/1.png?prompt=red+apple&steps=10&guidance=3")
        slow = {"prompt": "fox", "seed": 2, "steps": 100}
        others = [{"seed": seed, "steps": 20 + seed} for seed in range(20, 26)]
        await asyncio.gather(
            *(http.post("/v1/images", json=each) for each in (slow, slow, *others))
        )
        await http.post("/v1/images", json={"steps": 0})
        stream = {**slow, "seed": 3, "previews": True}
        events = {"Accept": "text/event-stream"}
        await http.post("/v1/images", json=stream, headers=events)
        leaving = {**slow, "seed": 4, "n": 8}
        async with http.stream("POST", "/v1/images", json=leaving, headers=events) as answer:
            await anext(answer.aiter_lines())
        (worker,) = workers(replica.service)
        worker.suspend()  # so that there are rows with it when it dies
        flood = [{"seed": seed, "steps": 100, "n": 8} for seed in range(100, 240, 10)]
        answers = [asyncio.create_task(http.post("/v1/images", json=each)) for each in flood]

        async def has_rows() -> bool:
            return await metric(http, "rows_running") > 0

        await in_time(has_rows)
        worker.kill()
        statuses = {answer.status_code for answer in await asyncio.gather(*answers)}
        assert statuses == {200, 503}


async def on_each(replicas: list[Replica], do: Callable[[Replica], Awaitable[None]]) -> None:
    """At once."""
    await asyncio.gather(*map(do, replicas))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_query_of_dashboard_and_alerts_returns_data(
    program: Program, tiny: Path, tmp_path: Path
) -> None:
    path = program("prometheus")
    promtool = program("promtool")
    settings = {
        "MAX_ROWS_WAITING": "24",
        "RATE_LIMIT": "100000/hour",
        "RATE_LIMIT_STORE": "redis://127.0.0.1:1",  # is down
    }
    ports = free_ports(2)
    with (
        prometheus(path, tmp_path, ports) as api,  # first: it begins to scrape after five seconds
        fleet(tiny, tmp_path, ports, **settings) as replicas,
    ):
        await_that(lambda: len(ask(api, "tessera_ready == 1")) == 2, seconds=120)
        for _ in range(2):  # a rate needs two values, after the first of each label
            asyncio.run(on_each(replicas, everything_that_is_counted))
            time.sleep(1.5)  # three times the scrape interval
        for replica in replicas:
            metrics = httpx.get(f"{replica.service.url}/metrics").text
            check(promtool, "check", "metrics", given=metrics)

        queries = [filled_in(query) for query in dashboard_queries()]
        assert len(queries) > 30
        empty = [query for query in queries if not ask(api, query)]
        assert not empty
        zero = [
            query
            for query in queries
            if "tessera_replays_total" in query or "worker_restarts" in query
            if not any(float(each["value"][1]) > 0 for each in ask(api, query))
        ]
        assert not zero

        # Alerts compare: without the comparison, each has something to compare.
        for query in rule_queries():
            compared = re.sub(r"(==|>) [\d.]+( or .*)?$", "", query.strip())
            if 'outcome="late"' not in query and 'outcome="failed"' not in query:
                assert ask(api, compared), query
        pending = {
            alert["labels"]["alertname"] for alert in api.get("/alerts").json()["data"]["alerts"]
        }
        assert {"TesseraRefuses", "TesseraLimitsUnchecked"} <= pending

        replicas[0].stop()
        await_that(lambda: ask(api, 'ALERTS{alertname="TesseraDown"}'), seconds=120)
