"""If these fail, a connection holds memory, a descriptor or an upload's share for as long as its
client likes, or what others read is refused here.

Raw sockets, and a server whose times are short.
"""

from __future__ import annotations

import contextlib
import socket
import time

import httpx
import psutil
import pytest

from tests.faults.clients import workers
from tests.service.raw import (
    answer,
    asked,
    connect,
    large_edit,
    received,
    seconds_until_closed,
)
from tests.service.running import Service
from tests.waiting import await_that

MIB = 2**20
POST = b"POST /v1/images HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b'{"seed": 7}'
GONE = 'requests_total{outcome="cancelled"}'


@pytest.fixture
def service(hasty: Service) -> Service:
    return hasty


def whole(body: bytes = BODY, *headers: bytes) -> bytes:
    return POST + b"".join(headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def others_are_served(service: Service) -> None:
    assert httpx.get(f"{service.url}/livez").status_code == 200


class TestTrailers:
    @pytest.mark.parametrize("path", [b"/v1/images", b"/nothing"], ids=["read", "answered early"])
    def test_without_an_end_are_cut_off_and_not_kept(self, service: Service, path: bytes) -> None:
        process = psutil.Process(service.process.pid)
        before = process.memory_info().rss
        with connect(service) as client:
            head = POST.replace(b"/v1/images", path)
            client.sendall(head + CHUNKED + b"0\r\n")
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 64 * MIB:
                    client.sendall(b"X-%06d: %s\r\n" % (sent, b"a" * 1000) * 64)
                    sent += 64 * 1000
            assert sent < 32 * MIB
        assert process.memory_info().rss - before < 24 * MIB
        others_are_served(service)

    def test_beyond_the_size_of_a_head_are_refused(self, service: Service) -> None:
        with connect(service) as client:
            client.sendall(POST + CHUNKED + b"0\r\n" + b"X-T: " + b"a" * 40_000)
            refused = answer(client)
        assert (refused.status, refused.error["code"]) == (431, "head_too_large")

    def test_are_no_headers_and_the_next_request_is_read(self, service: Service) -> None:
        chunk = b"%x\r\n%s\r\n" % (len(BODY), BODY)
        with connect(service) as client:
            client.sendall(POST + CHUNKED + chunk + b"0\r\nAccept: application/json\r\n\r\n")
            assert answer(client).headers["content-type"] == "image/png"
            client.sendall(whole())
            assert answer(client).status == 200


@pytest.mark.parametrize("apart", [False, True], ids=["one packet", "two packets"])
def test_a_post_that_offers_an_upgrade_is_answered(service: Service, apart: bool) -> None:
    # What java.net.http sends, and curl --http2.
    offer = (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
    )
    request = whole(BODY, offer)
    with connect(service) as client:
        for _ in range(2):
            client.sendall(request[:-8] if apart else request)
            if apart:
                time.sleep(0.1)
                client.sendall(request[-8:])
            assert answer(client).status == 200
    assert "WebSocket" not in service.log


class TestIdle:
    @pytest.mark.parametrize("dribble", [b"", b"\r\n"])
    def test_is_closed_whatever_comes_that_begins_no_request(
        self, service: Service, dribble: bytes
    ) -> None:
        with connect(service) as fresh, connect(service) as used:
            used.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert answer(used).status == 200
            assert 1 < seconds_until_closed(used, dribble) < 15
            assert seconds_until_closed(fresh, dribble) < 15

    def test_makes_room_for_others(self, service: Service) -> None:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(service)) for _ in range(120)]
            others_are_served(service)
            clients[-1].sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert answer(clients[-1]).status == 200
            assert received(clients[0]) == b""

    def test_are_no_more_than_there_may_be_though_they_come_at_once(self, service: Service) -> None:
        process = psutil.Process(service.process.pid)
        with contextlib.ExitStack() as stack:
            process.suspend()
            try:
                for _ in range(300):
                    stack.enter_context(connect(service))
            finally:
                process.resume()
            others_are_served(service)
            assert len(process.net_connections()) <= 50 + 1  # and where it listens


class TestHeads:
    @pytest.mark.parametrize("dribble", [b"", b"X"])
    def test_sent_by_half_are_refused_in_words(self, service: Service, dribble: bytes) -> None:
        with connect(service) as client:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: ")
            for _ in range(15):
                client.sendall(dribble)
                time.sleep(0.1)
            refused = answer(client)
        assert (refused.status, refused.error["code"]) == (408, "head_too_slow")
        assert refused.headers["connection"] == "close"

    def test_too_large_are_refused_though_they_come_at_once(self, service: Service) -> None:
        with connect(service) as client:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"a" * 40_000))
            refused = answer(client)
        assert (refused.status, refused.error["code"]) == (431, "head_too_large")

    def test_begun_while_an_answer_is_under_way_do_no_harm(self, service: Service) -> None:
        with connect(service) as client:
            client.sendall(whole(b'{"seed": 1, "steps": 100, "n": 10}') + b"GET /")
            assert answer(client).status == 200
            client.sendall(b"livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert answer(client).status == 200

    def test_begun_while_an_answer_takes_long_have_their_time_after_it(
        self, service: Service
    ) -> None:
        (worker,) = workers(service)
        with connect(service) as client:
            worker.suspend()
            try:
                client.sendall(whole(b'{"seed": 70001}') + b"GET /")
                time.sleep(3)  # HEAD_TIMEOUT is 2
            finally:
                worker.resume()
            assert answer(client).status == 200
            client.sendall(b"livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert answer(client).status == 200

    def test_too_large_are_refused_after_the_answer_before_them(self, service: Service) -> None:
        (worker,) = workers(service)
        events = whole(b'{"seed": 70002}', b"Accept: text/event-stream\r\n")
        with connect(service) as client:
            worker.suspend()
            try:
                client.sendall(events)
                time.sleep(0.2)  # the stream has begun
                client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"a" * 60_000))
                time.sleep(0.5)
            finally:
                worker.resume()
            stream, _, rest = received(client).partition(b"\r\n0\r\n\r\n")
        assert stream.startswith(b"HTTP/1.1 200 ")
        assert b"event: done" in stream
        assert rest.startswith(b"HTTP/1.1 431 ")

    @pytest.mark.parametrize(
        ("request_bytes", "status", "code"),
        [
            (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "invalid_http"),
            (b"GET /livez HTTP/1.1\r\n\r\n", 400, "invalid_http"),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "invalid_http"),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400, "invalid_http"),
            (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400, "invalid_http"),
            (POST + b"Content-Length: -1\r\n\r\n", 400, "invalid_http"),
            (POST + CHUNKED + b"zz\r\n", 400, "invalid_http"),
            (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "not_implemented"),
            (b"GET /livez HTTP/2.0\r\nHost: a\r\n\r\n", 505, "http_version_not_supported"),
        ],
    )
    def test_that_are_no_http_are_refused_in_the_shape_of_all_errors(
        self, service: Service, request_bytes: bytes, status: int, code: str
    ) -> None:
        before = service.metric('requests_total{outcome="invalid"}') if status == 400 else 0
        refused = asked(service, request_bytes)
        assert (refused.status, refused.error["code"]) == (status, code)
        assert refused.headers["connection"] == "close"
        if status == 400:
            assert service.metric('requests_total{outcome="invalid"}') > before

    def test_with_an_absolute_address_are_read(self, service: Service) -> None:
        request = b"GET http://pictures.example.org/livez?a=b HTTP/1.1\r\nHost: a\r\n\r\n"
        assert asked(service, request).status == 200


def test_what_comes_after_the_last_request_is_nothing(service: Service) -> None:
    with connect(service) as client:
        client.sendall(whole(BODY, b"Connection: close\r\n") + b"junk" * 100)
        got = answer(client)
        assert (got.status, got.headers["connection"]) == (200, "close")
        assert received(client) == b""


def test_a_refusal_to_head_has_no_body(service: Service) -> None:
    with connect(service) as client:
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"a" * 40_000))
        head, _, body = received(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert not body


class TestAddressesInUtf8:
    def test_are_read_as_if_they_were_encoded(self, service: Service) -> None:
        tags = [
            asked(
                service,
                b"HEAD /v1/images/\xe7\x8c\xab.png?prompt=%s HTTP/1.1\r\nHost: a\r\n\r\n" % prompt,
            ).headers["etag"]
            for prompt in ("猫".encode(), b"%E7%8C%AB")
        ]
        assert tags[0] == tags[1]

    def test_in_other_encodings_are_refused_in_words(self, service: Service) -> None:
        refused = asked(
            service, b"GET /v1/images/7.png?prompt=\xe9 HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n"
        )
        assert (refused.status, refused.error["code"]) == (400, "invalid_address")


class TestBodiesThatAreNotWanted:
    def test_are_not_waited_for_long(self, service: Service) -> None:
        with connect(service) as client:
            client.sendall(b"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
            assert answer(client).status == 404
            assert seconds_until_closed(client, b"x") < 25

    def test_that_end_soon_cost_no_connection(self, service: Service) -> None:
        with connect(service) as client:
            client.sendall(b"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
            assert answer(client).status == 404
            client.sendall(b"x" * 100_000)
            client.sendall(whole())
            assert answer(client).status == 200

    def test_that_do_not_come_while_it_draws_are_said_to_be_late(self, service: Service) -> None:
        request = (
            b"GET /v1/images/late.png?steps=99 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
        )
        [worker] = workers(service)
        worker.suspend()  # it would be drawn before that
        try:
            refused = asked(service, request)
        finally:
            worker.resume()
        assert (refused.status, refused.error["code"]) == (408, "body_too_slow")

    def test_do_not_destroy_the_answer(self, service: Service) -> None:
        # Most clients send all before they read: closed at once, they would see a reset.
        with connect(service) as client:
            client.sendall(POST + b"Content-Length: 4000000\r\n\r\n")
            for _ in range(40):
                client.sendall(b" " * 100_000)
                time.sleep(0.01)
            refused = answer(client)
        assert (refused.status, refused.error["code"]) == (413, "body_too_large")


class TestAnswersThatNobodyReads:
    @pytest.mark.parametrize("accept", [b"application/json", b"text/event-stream"])
    def test_are_given_up_with_what_they_hold(self, service: Service, accept: bytes) -> None:
        process = psutil.Process(service.process.pid)
        with connect(service, window=4096) as client:
            client.sendall(large_edit(accept))
            await_that(lambda: service.metric("upload_memory_bytes") > MIB)
            await_that(lambda: service.metric("upload_memory_bytes") == 0)
            ours = client.getsockname()[1]
            assert not any(each.raddr[1:2] == (ours,) for each in process.net_connections())
        others_are_served(service)


class TestClientsThatCloseTheirHalf:
    @pytest.mark.parametrize("version", [b"1.0", b"1.1"])
    def test_get_their_answer(self, service: Service, version: bytes) -> None:
        with connect(service) as client:
            request = b"GET /v1/models HTTP/%s\r\nHost: a\r\n\r\n" % version
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            assert b"HTTP/1.1 200 " in received(client)

    def test_get_the_answers_to_all_that_they_sent(self, service: Service) -> None:
        with connect(service) as client:
            client.sendall(whole() + b"\r\n" + whole(b'{"seed": 8, "steps": 60}') + whole())
            client.shutdown(socket.SHUT_WR)
            assert received(client).count(b"HTTP/1.1 200 ") == 3

    def test_are_told_from_those_who_have_gone(self, service: Service) -> None:
        [worker] = workers(service)
        before = service.metric("cancellations_total")

        def leave_while_it_is_drawn(request: bytes) -> None:
            gone = service.metric(GONE)
            worker.suspend()  # however busy the machine is, nothing is drawn before they have gone
            try:
                with connect(service) as client:
                    client.sendall(request)
                    await_that(lambda: service.metric("rows_running") > 0)
                await_that(lambda: service.metric(GONE) > gone)
            finally:
                worker.resume()
            await_that(lambda: service.metric("rows_running") == 0)

        body = b'{"seed": 1, "steps": 100, "n": 10, "prompt": "gone"}'
        leave_while_it_is_drawn(whole(body))
        leave_while_it_is_drawn(whole(body) + whole(body))
        assert service.metric("cancellations_total") == before + 20

    def test_are_told_from_those_who_left_after_the_first_of_several(
        self, service: Service
    ) -> None:
        [worker] = workers(service)
        gone = service.metric(GONE)
        try:
            with connect(service) as client:
                slow = b'{"seed": 1, "steps": 100, "n": 10, "prompt": "gone"}'
                client.sendall(whole(b'{"seed": 1, "steps": 90}') + whole(slow))
                client.shutdown(socket.SHUT_WR)
                assert answer(client).status == 200
                worker.suspend()
            await_that(lambda: service.metric(GONE) > gone, 30)
        finally:
            worker.resume()


def test_http_1_0_gets_no_chunks(service: Service) -> None:
    with connect(service) as client:
        head = whole(BODY, b"Accept: text/event-stream\r\n").replace(b"HTTP/1.1", b"HTTP/1.0")
        client.sendall(head)
        head, _, body = received(client).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body.startswith(b"event: ")
    assert body.endswith(b"\n\n")


def test_an_expected_100_is_sent_when_the_body_is_wanted(service: Service) -> None:
    with connect(service) as client:
        head, _, body = whole(BODY, b"Expect: 100-continue\r\n").partition(b"\r\n\r\n")
        client.sendall(head + b"\r\n\r\n")
        assert client.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert answer(client).status == 200
