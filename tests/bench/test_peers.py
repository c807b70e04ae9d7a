"""If these fail, a comparison leaves processes behind, or hides why a peer is missing from it."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path

import psutil
import pytest
from PIL import Image

from app.cli.console import UserError
from bench.load import Kind, LoadRequest, Mix, arrivals
from bench.peers.drawing import PeerSettings
from bench.peers.measuring import SEED, Plan, compare, plot
from bench.peers.systems import System, running
from tests.waiting import await_that

ONE = LoadRequest("red apple", 7, 20, 1)
SETTINGS = PeerSettings(Path("nowhere"), threads=1, pictures=4, port=0)

SERVER = """
import http.server, os, subprocess, sys, time

# Neither asks to be ended: one left the session, the other writes over its environment.
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
other = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True)
bare = subprocess.Popen([sys.executable, "-c", deaf], env={})

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{other.pid} {bare.pid}".encode())

port = int(os.environ["PEER_PORT"])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def system(program: str) -> System:
    return System("fake", "Fake", "app", ("-c", program))


def test_whatever_a_system_started_is_ended() -> None:
    started: set[psutil.Process] = set()
    before = set(psutil.Process().children(recursive=True))  # of other tests

    def interrupted() -> None:
        with running(system(SERVER), SETTINGS, ONE):
            time.sleep(0.5)  # for the two to become deaf
            started.update({*psutil.Process().children(recursive=True)} - before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(started) == 3
    assert not [one for one in started if one.is_running() and one.status() != "zombie"]


def test_all_that_a_system_started_is_stopped_while_others_have_their_turn() -> None:
    before = set(psutil.Process().children(recursive=True))
    with running(system(SERVER), SETTINGS, ONE) as service:
        time.sleep(0.5)  # for its children to begin
        started = {*psutil.Process().children(recursive=True)} - before
        assert len(started) == 3
        service.pause()
        # A signal takes effect when the kernel has its process run next.
        await_that(lambda: {one.status() for one in started} == {"stopped"}, seconds=30)
        service.resume()
        await_that(lambda: "stopped" not in {one.status() for one in started}, seconds=30)
        service.pause()
    assert not [one for one in started if one.is_running() and one.status() != "zombie"]


def test_a_system_that_ends_says_why() -> None:
    broken = system("print('no such model'); raise SystemExit(3)")
    with (
        pytest.raises(UserError, match=r"(?s)Fake ended with status 3.*no such model"),
        running(broken, SETTINGS, ONE),
    ):
        pass


def test_the_users_own_settings_do_not_reach_a_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_TILE", "64")
    told = system("import os; print(sorted(os.environ)); raise SystemExit(1)")
    with pytest.raises(UserError) as caught, running(told, SETTINGS, ONE):
        pass
    assert "TESSERA_MODELS" in str(caught.value)
    assert "TESSERA_TILE" not in str(caught.value)


_FILE = BytesIO()
Image.new("RGB", (2, 2)).save(_FILE, "PNG")

ANSWERS = f"""
import http.server, os

PNG = {_FILE.getvalue()!r}

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(PNG)))
        self.end_headers()
        self.wfile.write(PNG)

port = int(os.environ["PEER_PORT"])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def test_a_comparison_goes_on_when_one_fails_and_says_each_figure(tmp_path: Path) -> None:
    # Starts once, and never again: all that it has answered by then is kept.
    mark = str(tmp_path / "started")
    once = f"import pathlib; pathlib.Path({mark!r}).touch(exist_ok=False)\n{ANSWERS}"
    systems = [
        System("one", "Tessera", "app", ("-c", ANSWERS)),
        System("two", "Once", "app", ("-c", once)),
        System("three", "Never", "app", ("-c", "raise SystemExit('no such model')")),
    ]
    mix = Mix("equal", (Kind(4, 1),))
    plan = Plan((mix,), steps=4, seconds=0.2, saturation_seconds=0.2, rounds=1)
    said: list[str] = []
    found = compare(systems, SETTINGS, plan, lambda stage: None, said.append)
    (measured,) = found.measured
    assert {title: len(rounds) for title, rounds in measured.saturations.items()} == {"Tessera": 1}
    assert [*measured.outcomes] == [0.0, 0.3, 0.7]
    assert [problem.partition(" ended")[0] for problem in found.problems] == [
        "for the first time: Never",
        "round 1: Once",
    ]
    assert sum("Tessera, equal, 30%: p50 " in line for line in said) == 1
    plot(found, ["Tessera", "Once", "Never"], tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text("utf-8").count("<path") > 10


def test_an_earlier_runs_loads_can_be_asked_for_again() -> None:
    systems = [System("one", "Tessera", "app", ("-c", ANSWERS))]
    mix = Mix("equal", (Kind(4, 1),))
    plan = Plan((mix,), 4, seconds=2.0, saturation_seconds=0.2, rounds=1, rates=(40.0,))
    stages: list[str] = []
    (measured,) = compare(systems, SETTINGS, plan, stages.append).measured
    assert measured.rate == 40.0
    assert stages.count("Tessera: equal, saturated") == 1  # no rate had to be found
    assert len(stages) == plan.stages(1)
    planned = {
        share: [one.request for one in rounds["Tessera"][0]]
        for share, rounds in measured.outcomes.items()
    }
    for share in (0.3, 0.7):
        expected = [one.request for one in arrivals(mix, share * 40.0, 2.0, SEED)]
        assert planned[share] == expected
