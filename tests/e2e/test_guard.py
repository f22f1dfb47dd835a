"""The HTTP guard: what must not be understood twice is refused once. And the slow."""
import threading
import time

import support
from support import Raw

HOST = "Host: localhost\r\n"
SMUGGLED = "GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"

# What is sent; each must be answered by one 400 and a close, with nothing after it run.
VECTORS = {
    "length and chunked": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "chunked and length": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "two lengths": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length: 0\r\nContent-Length: 40\r\n\r\n{SMUGGLED}",
    "two equal lengths": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length: 0\r\nContent-Length: 0\r\n\r\n{SMUGGLED}",
    "length list": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length: 0, 0\r\n\r\n{SMUGGLED}",
    "space before colon": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length : 40\r\n\r\n{SMUGGLED}",
    "tab before colon": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length\t: 40\r\n\r\n{SMUGGLED}",
    "space before encoding's colon": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "length with sign": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length: +0\r\n\r\n{SMUGGLED}",
    "length negative": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length: -1\r\n\r\n{SMUGGLED}",
    "length hex": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length: 0x0\r\n\r\n{SMUGGLED}",
    "length huge": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length: 18446744073709551616\r\n\r\n{SMUGGLED}",
    "length 2^64-1": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length: 18446744073709551615\r\n\r\n{SMUGGLED}",
    "length text": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length: five\r\n\r\n{SMUGGLED}",
    "length empty": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length: \r\n\r\n{SMUGGLED}",
    "encoding gzip": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip\r\n\r\n{SMUGGLED}",
    "encoding identity": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Transfer-Encoding: identity\r\n\r\n{SMUGGLED}",
    "encoding list": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "encoding xchunked": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Transfer-Encoding: xchunked\r\n\r\n{SMUGGLED}",
    "two encodings": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "chunked in HTTP/1.0": f"POST /api/v1/upload HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "folded header": f"GET /version HTTP/1.1\r\n{HOST}X-A: b\r\n X-Forwarded-For: 1.2.3.4\r\n\r\n{SMUGGLED}",
    "folded length": f"POST /api/v1/upload HTTP/1.1\r\n{HOST}Content-Length:\r\n 40\r\n\r\n{SMUGGLED}",
    "header without colon": f"GET /version HTTP/1.1\r\n{HOST}Nonsense\r\n\r\n{SMUGGLED}",
    "header without name": f"GET /version HTTP/1.1\r\n{HOST}: value\r\n\r\n{SMUGGLED}",
    "NUL in the path": f"GET /version%00x HTTP/1.1\r\n{HOST}\r\n{SMUGGLED}",
    "slash in the path": f"GET /api%2fv1 HTTP/1.1\r\n{HOST}\r\n{SMUGGLED}",
    "slash in the path, capital": f"GET /api%2Fv1 HTTP/1.1\r\n{HOST}\r\n{SMUGGLED}",
    "bad escape": f"GET /version%zz HTTP/1.1\r\n{HOST}\r\n{SMUGGLED}",
    "cut escape": f"GET /version%4 HTTP/1.1\r\n{HOST}\r\n{SMUGGLED}",
    "NUL in a header": f"GET /version HTTP/1.1\r\n{HOST}X-A: a\0b\r\n\r\n{SMUGGLED}",
    "two hosts": f"GET /version HTTP/1.1\r\n{HOST}Host: other\r\n\r\n{SMUGGLED}",
    "no host": f"GET /version HTTP/1.1\r\nX-A: b\r\n\r\n{SMUGGLED}",
    "bad host": f"GET /version HTTP/1.1\r\nHost: a b\r\n\r\n{SMUGGLED}",
    "two authorizations": f"GET /version HTTP/1.1\r\n{HOST}Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n{SMUGGLED}",
    "no such version": f"GET /version HTTP/3.9\r\n{HOST}\r\n{SMUGGLED}",
    "target without slash": f"GET version HTTP/1.1\r\n{HOST}\r\n{SMUGGLED}",
}
# Refused as well, by another status of the same kind or without a word.
OTHERWISE = {"no such version": {400, 505}, "header without colon": {400}, "bad host": {400}}


class Guard(support.DaemonCase):
    def test_vectors(self):
        for name, sent in VECTORS.items():
            with self.subTest(name), Raw(self.daemon.port) as raw:
                raw.send(sent)
                answer = raw.read_all()
                found = support.statuses(answer)
                self.assertEqual(len(found), 1, answer[:600])
                self.assertIn(found[0], OTHERWISE.get(name, {400}), answer[:600])
                self.assertNotIn(b'"version":', answer)
        self.assertEqual(self.anonymous.get("/version").status, 200)

    def test_bare_line_ends_do_not_split(self):
        """A lone CR must not vanish into a header, and a lone LF must not hide a header from us."""
        for name, sent in {
            "CR in a value": f"GET /version HTTP/1.1\r\n{HOST}X-A: a\rContent-Length: 5\r\n\r\n",
            "LF ends": f"POST /api/v1/upload HTTP/1.1\n{HOST}Content-Length: 0\nTransfer-Encoding: chunked\n\n0\r\n\r\n{SMUGGLED}",
        }.items():
            with self.subTest(name), Raw(self.daemon.port) as raw:
                raw.send(sent)
                raw.socket.shutdown(1)
                self.assertLessEqual(len(support.statuses(raw.read_all())), 1)

    def test_refused_body_is_not_a_request(self):
        """The tail of a request that was refused on its headers is dropped with the connection."""
        with Raw(self.daemon.port) as raw:
            raw.send(f"PUT /api/v1/upload/x HTTP/1.1\r\n{HOST}Content-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}{SMUGGLED}")
            self.assertEqual(support.statuses(raw.read_all()), [401])

    def test_large_headers(self):
        for sent in (f"GET /{'a' * 40000} HTTP/1.1\r\n{HOST}\r\n", f"GET /version HTTP/1.1\r\n{HOST}X-A: {'a' * 40000}\r\n\r\n",
                     f"GET /version HTTP/1.1\r\n{HOST}" + "".join(f"X-{i}: a\r\n" for i in range(3000)) + "\r\n"):
            with Raw(self.daemon.port) as raw:
                raw.send(sent)
                found = support.statuses(raw.read_all())
                self.assertEqual(len(found), 1)
                self.assertIn(found[0], (400, 413, 414, 431))

    def test_refused_by_the_library(self):
        """What docs/ERRORS.md says of requests that the daemon never sees."""
        counts = lambda: (self.daemon.metric("malformed_requests_total"),
                          self.daemon.metric("request_count_total", route="unmatched"))
        before = counts()
        for status, sent in ((414, f"GET /{'a' * 40000} HTTP/1.1\r\n{HOST}\r\n"),
                             (431, f"GET /version HTTP/1.1\r\n{HOST}X-A: {'a' * 60000}\r\n\r\n"),
                             (400, "GET /version\r\n\r\n"), (400, f"GET /version HTTP/1.1\r\n{HOST}Nonsense\r\n\r\n"),
                             (505, f"GET /version HTTP/2.0\r\n{HOST}\r\n")):
            with self.subTest(status=status, sent=sent[:30]), Raw(self.daemon.port) as raw:
                answer = raw.send(sent).read_all()
                self.assertEqual(support.statuses(answer), [status])
                self.assertIn(b"\r\nConnection: close\r\n", answer)
                self.assertIn(b"\r\n\r\n<html>", answer)
                self.assertNotIn(b"X-Request-Id", answer)
        self.assertEqual(counts(), before)
        dropped = lambda: self.daemon.metric("request_count_total", method="PUT", code="dropped")
        before = dropped()
        with self.subTest("chunk"), Raw(self.daemon.port) as raw:
            answer = raw.send(f"PUT /api/v1/upload/x HTTP/1.1\r\n{HOST}Authorization: Bearer {self.daemon.admin_key}\r\n"
                              "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n").read_all()
            self.assertEqual(support.statuses(answer), [400])
            self.assertIn(b"\r\n\r\n<html>", answer)
        support.eventually(lambda: dropped() == before + 1, 5, "the count")
        for status, sent in ((414, f"GET /{'a' * 5000} HTTP/1.1\r\n{HOST}\r\n"),
                             (431, f"GET /version HTTP/1.1\r\n{HOST}X-A: {'a' * 20000}\r\n\r\n")):
            with self.subTest(status=status), Raw(self.daemon.port) as raw:
                answer = raw.send(sent).read_all()
                self.assertEqual(support.statuses(answer), [status])
                self.assertIn(b"\r\nContent-Type: application/problem+json\r\n", answer)

    def test_many_headers(self):
        with Raw(self.daemon.port) as raw:
            raw.send(f"GET /version HTTP/1.1\r\n{HOST}" + "".join(f"X-{i}: a\r\n" for i in range(100)) + "Connection: close\r\n\r\n")
            self.assertEqual(support.statuses(raw.read_all()), [431])

    def test_a_path_that_is_no_text(self):
        """Well-formed HTTP, so the connection goes on."""
        with Raw(self.daemon.port) as raw:
            raw.send(f"GET /version%ff HTTP/1.1\r\n{HOST}\r\nGET /version HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n")
            self.assertEqual(support.statuses(raw.read_all()), [400, 200])

    def test_pipelining_works(self):
        with Raw(self.daemon.port) as raw:
            raw.send(SMUGGLED * 4 + f"GET /version HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n")
            self.assertEqual(support.statuses(raw.read_all()), [200] * 5)

    def test_counted(self):
        before = self.daemon.metric("malformed_requests_total")
        with Raw(self.daemon.port) as raw:
            raw.send(VECTORS["two lengths"]).read_all()
        self.assertEqual(self.daemon.metric("malformed_requests_total") - before, 1)


class Slow(support.DaemonCase):
    settings = {"server.header_timeout": "2s", "server.idle_timeout": "3s", "server.min_body_rate": "1KiB"}

    def closed_after(self, feed, every):
        """Seconds until the daemon closes a connection that gets a piece of `feed` now and then."""
        began = time.monotonic()
        with Raw(self.daemon.port, timeout=60) as raw:
            stopped = threading.Event()

            def drip():
                try:
                    for piece in feed:
                        raw.send(piece)
                        if stopped.wait(every):
                            return
                except OSError:
                    return

            thread = threading.Thread(target=drip)
            thread.start()
            raw.read_all()
            stopped.set()
            thread.join()
        return time.monotonic() - began

    def test_slow_header(self):
        """A byte now and then restarts no clock: the headers have a deadline."""
        feed = list(f"GET /version HTTP/1.1\r\n{HOST}X-A: " + "a" * 200)
        self.assertLess(self.closed_after(feed, 0.25), 5 * support.SLOW)

    def test_idle(self):
        took = self.closed_after([], 0)
        self.assertGreater(took, 1)
        self.assertLess(took, 8 * support.SLOW)

    def test_idle_after_a_request(self):
        took = self.closed_after([SMUGGLED], 60)
        self.assertGreater(took, 1)
        self.assertLess(took, 8 * support.SLOW)

    def test_slow_body(self):
        """16 bytes a second are under 1 KiB/s, though never idle."""
        head = (f"PUT /api/v1/upload/x.mp4 HTTP/1.1\r\n{HOST}Authorization: Bearer {self.daemon.admin_key}\r\n"
                "Content-Length: 1000000\r\n\r\n")
        took = self.closed_after([head] + ["a" * 4] * 400, 0.25)
        self.assertLess(took, 20 * support.SLOW)
        self.assertNothingStaged()

    def test_stalled_body(self):
        head = (f"PUT /api/v1/upload/x.mp4 HTTP/1.1\r\n{HOST}Authorization: Bearer {self.daemon.admin_key}\r\n"
                "Content-Length: 1000000\r\n\r\n")
        self.assertLess(self.closed_after([head], 60), 20 * support.SLOW)
        self.assertNothingStaged()

    def test_reaped_are_counted(self):
        before = self.daemon.metric("reaped_connections_total", reason="header")
        self.closed_after(["GET /vers"], 60)
        self.assertEqual(self.daemon.metric("reaped_connections_total", reason="header") - before, 1)


if __name__ == "__main__":
    support.main()
