"""Imports by URL: what is fetched, what is refused, what survives. Contacts only 127.0.0.0/8 and ::1."""
import contextlib
import http.server
import os
import signal
import socket
import ssl
import tempfile
import threading
import time
import unittest

import support
from support import clip, eventually, path_of, sha256_file

PATTERN = bytes(range(256)) * 4096


class Source(http.server.ThreadingHTTPServer):
    """An HTTP server whose paths are functions of the handler; keeps what was asked."""
    daemon_threads = True

    def __init__(self, address="127.0.0.1", tls=None):
        super().__init__((address, 0), Handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.scheme = "https" if tls else "http"
        self.paths, self.asked, self.lock = {}, [], threading.Lock()
        self.released = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self.thread.start()

    def url(self, path):
        return f"{self.scheme}://{self.server_address[0]}:{self.server_address[1]}{path}"

    def serve(self, path, answer):
        """Registers answer(handler, number) for a path; number counts its requests from 0."""
        self.paths[path] = answer
        return self.url(path)

    def requests(self, path):
        with self.lock:
            return [headers for asked, headers in self.asked if asked == path]

    def handle_error(self, request, client_address):
        """Clients that go away are what is tested here."""

    def stop(self):
        self.released.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.split("?")[0]
        with self.server.lock:
            number = sum(asked == path for asked, _ in self.server.asked)
            self.server.asked.append((path, dict(self.headers)))
        answer = self.server.paths.get(path)
        if answer is None:
            self.reply(404, b"no such file")
        else:
            answer(self, number)

    def log_message(self, *_):
        pass

    def head(self, status, length=None, **headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def reply(self, status, body=b"", **headers):
        self.head(status, len(body), **headers)
        self.wfile.write(body)

    def drop(self):
        """Closes at once, without a proper end."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def part(self, body, etag=None, modified=None, until=None):
        """The body, or the rest that was asked for when the validator still holds; breaks off at `until`."""
        start, headers = 0, {}
        if etag:
            headers["ETag"] = etag
        if modified:
            headers["Last-Modified"] = modified
        wanted = self.headers.get("Range")
        if wanted and self.headers.get("If-Range") in (etag, modified):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.head(206, len(body) - start, Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}", **headers)
        else:
            self.head(200, len(body), **headers)
        self.wfile.write(body[start:until])
        if until is not None and until < len(body):
            self.drop()


def whole(body, **headers):
    return lambda handler, number: handler.reply(200, body, **headers)


def redirect(location, status=302):
    return lambda handler, number: handler.reply(status, b"over there", Location=location)


class Canary:
    """A port nobody may connect to."""

    def __init__(self, address="127.0.0.1"):
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.socket.bind((address, 0))
        self.socket.listen()
        self.socket.setblocking(False)
        self.address, self.port = address, self.socket.getsockname()[1]

    def touched(self):
        try:
            self.socket.accept()[0].close()
            return True
        except BlockingIOError:
            return False

    def close(self):
        self.socket.close()


def read(name):
    with open(clip(name), "rb") as file:
        return file.read()


class ImportCase(support.DaemonCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.source = Source()
        cls.addClassCleanup(cls.source.stop)
        cls.film = read("short")

    def begin(self, url, client=None, **fields):
        response = (client or self.admin).request("POST", "/api/v1/uploads/import", body={"url": url, **fields})
        self.assertEqual(response.status, 202, response.body[:400])
        upload = response.json()
        self.assertEqual(response.header("Location"), f"/api/v1/uploads/{upload['id']}")
        self.assertEqual((upload["kind"], upload["url"]), ("import", url))
        return upload["id"]

    def show(self, upload_id, daemon=None):
        response = (daemon or self.daemon).admin.get(f"/api/v1/uploads/{upload_id}")
        self.assertEqual(response.status, 200, response.body[:400])
        return response.json()

    def ended(self, upload_id, status, daemon=None, seconds=30):
        """The upload once it is settled, which must be as `status`."""
        def settled():
            upload = self.show(upload_id, daemon)
            return upload if upload["status"] in ("done", "failed") else None
        upload = eventually(settled, seconds, f"the end of import {upload_id}")
        self.assertEqual(upload["status"], status, upload)
        return upload

    def done(self, upload_id, body, daemon=None):
        """The asset of an import, which must hold exactly `body`."""
        upload = self.ended(upload_id, "done", daemon)
        self.assertEqual((upload["asset_id"], upload["progress"]), (upload_id, 1))
        self.assertEqual((upload["received_bytes"], upload["size"]), (len(body), len(body)))
        asset = (daemon or self.daemon).admin.get(f"/api/v1/assets/{upload_id}").json()
        self.assertEqual(asset["status"], "ready")
        self.assertEqual((asset["size"], asset["sha256"]), (len(body), support.hashlib.sha256(body).hexdigest()))
        client = (daemon or self.daemon).anonymous
        self.assertEqual(client.get(path_of(asset["playback"]["source"])).body, body)
        self.assertEqual(client.get(path_of(asset["playback"]["hls"])).status, 200)
        file = os.path.join((daemon or self.daemon).data, "assets", upload_id[-2:], upload_id, "source")
        self.assertEqual(os.path.getsize(file), len(body))
        return asset

    def failed(self, upload_id, slug, detail=None, **kwargs):
        upload = self.ended(upload_id, "failed", **kwargs)
        self.assertTrue(upload["error"]["type"].endswith(":" + slug), upload["error"])
        if detail:
            self.assertIn(detail, upload["error"]["detail"])
        self.assertIsNone(upload["asset"])
        self.unstaged(upload_id)
        return upload

    def unstaged(self, upload_id):
        """The file goes after the row says so, never before."""
        eventually(lambda: f"incoming/{upload_id}" not in self.daemon.files("incoming"), 5, "no staged file")


class Import(ImportCase):
    settings = {"import.allow_addresses": "127.0.0.1", "import.max_size": "16MiB", "import.stall_timeout": "2s",
                "import.attempts": "3", "import.workers": "4"}

    def path(self, answer, name="film.mp4"):
        """A fresh path with this answer: (path, URL)."""
        path = f"/{self.id().rsplit('.', 1)[1]}/{len(self.source.paths)}/{name}"
        return path, self.source.serve(path, answer)

    # ---- what works ----

    def test_imports_a_file(self):
        before = self.daemon.metric("upload_success_total", kind="import")
        path, url = self.path(whole(self.film), "Ein%20F%C3%ADlm.mp4")
        asset = self.done(self.begin(url), self.film)
        self.assertEqual((asset["filename"], asset["title"]), ("Ein Fílm.mp4", "Ein Fílm.mp4"))
        headers, = self.source.requests(path)
        self.assertEqual(headers["Accept-Encoding"], "identity")
        self.assertNotIn("Range", headers)
        self.assertFalse({"Authorization", "Cookie", "Proxy-Authorization"} & set(headers))
        self.assertEqual(self.daemon.metric("upload_success_total", kind="import"), before + 1)
        self.assertGreaterEqual(self.daemon.metric("import_bytes_total"), len(self.film))
        self.assertNotIn(f"incoming/{asset['id']}", self.daemon.files("incoming"))

    def test_fields(self):
        _, url = self.path(whole(self.film))
        digest = support.hashlib.sha256(self.film).hexdigest()
        upload_id = self.begin(url, filename="mine.mp4", title="A film", description="short", tags=["a", "b"],
                               policy="public", custom={"n": 1}, sha256=digest)
        asset = self.done(upload_id, self.film)
        self.assertEqual((asset["filename"], asset["title"], asset["description"], asset["tags"], asset["custom"]),
                         ("mine.mp4", "A film", "short", ["a", "b"], {"n": 1}))
        self.assertEqual(asset["playback_policy"], "public")
        self.assertEqual(self.show(upload_id)["sha256"], digest)

    def test_length_unknown(self):
        def chunked(handler, _):
            handler.head(200, Transfer_Encoding="chunked")
            for at in range(0, len(self.film), 65536):
                piece = self.film[at:at + 65536]
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.write(b"0\r\n\r\n")
        _, url = self.path(chunked)
        self.done(self.begin(url), self.film)

    def test_names(self):
        for sent, given, want in ((None, None, "film.mp4"), ('attachment; filename="b c.mp4"', None, "b c.mp4"),
                                  ("attachment; filename=x; filename*=UTF-8''%C3%AD.mp4", None, "í.mp4"),
                                  ('attachment; filename="../../etc/passwd"', None, "passwd"),
                                  ('attachment; filename=b.mp4', "mine.mp4", "mine.mp4")):
            headers = {"Content_Disposition": sent} if sent else {}
            _, url = self.path(whole(self.film, **headers))
            asset = self.done(self.begin(url, **({"filename": given} if given else {})), self.film)
            self.assertEqual(asset["filename"], want)
        url = self.source.serve("/", whole(self.film))
        self.assertEqual(self.done(self.begin(url), self.film)["filename"], "import")

    def test_encoding_is_not_undone(self):
        _, url = self.path(whole(self.film, Content_Encoding="gzip"))
        self.done(self.begin(url), self.film)

    # ---- redirects ----

    def test_redirects(self):
        target, url = self.path(whole(self.film))
        for status, location in ((301, target), (302, url), (303, "film.mp4"), (307, "./film.mp4?x=1"), (308, target)):
            path = f"{os.path.dirname(target)}/{status}"
            self.done(self.begin(self.source.serve(path, redirect(location, status))), self.film)

    def test_too_many_redirects(self):
        _, url = self.path(whole(self.film))
        for _ in range(5):
            _, url = self.path(redirect(url))
        self.done(self.begin(url), self.film)
        _, url = self.path(redirect(url))
        self.failed(self.begin(url), "fetch-failed", "too often")
        path, url = self.path(redirect("film.mp4"))
        self.failed(self.begin(url), "fetch-failed", "too often")
        self.assertEqual(len(self.source.requests(path)), 6)

    def test_redirects_elsewhere(self):
        canaries = [Canary("127.0.0.2"), Canary("::1")]
        for canary in canaries:
            self.addCleanup(canary.close)
        port = canaries[0].port
        for location in (f"http://127.0.0.2:{port}/", f"http://2130706434:{port}/", f"http://0x7f000002:{port}/",
                         f"http://0177.0.0.2:{port}/", f"//127.2:{port}/", f"http://[::1]:{canaries[1].port}/",
                         f"http://[::ffff:127.0.0.2]:{port}/", "http://169.254.169.254/latest/meta-data/",
                         "http://10.0.0.1/"):
            path, url = self.path(redirect(location))
            self.failed(self.begin(url), "forbidden", "redirects")
            self.assertEqual(len(self.source.requests(path)), 1)
        for location in ("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "dict://127.0.0.1/x",
                         f"http://user:secret@127.0.0.1:{self.source.server_address[1]}/", "http://", "http://a b/",
                         "/" + "x" * 4000):
            _, url = self.path(redirect(location))
            self.failed(self.begin(url), "fetch-failed", "redirects")
        self.assertFalse(any(canary.touched() for canary in canaries))

    def test_redirect_without_a_place(self):
        _, url = self.path(lambda handler, _: handler.reply(302))
        self.failed(self.begin(url), "fetch-failed", "302")

    # ---- going on ----

    def check_resumed(self, path, validator):
        first, second = self.source.requests(path)
        self.assertNotIn("Range", first)
        self.assertEqual(second["If-Range"], validator)
        start = int(second["Range"].removeprefix("bytes=").removesuffix("-"))
        self.assertGreater(start, 0)
        return start

    def test_goes_on_by_etag(self):
        half = len(self.film) // 2
        path, url = self.path(lambda handler, n: handler.part(self.film, etag='"v1"', until=None if n else half))
        self.done(self.begin(url), self.film)
        self.assertEqual(self.check_resumed(path, '"v1"'), half)

    def test_goes_on_by_date(self):
        date = "Sat, 03 Jan 2026 10:00:00 GMT"
        half = len(self.film) // 2
        path, url = self.path(lambda handler, n: handler.part(self.film, modified=date, until=None if n else half))
        self.done(self.begin(url), self.film)
        self.check_resumed(path, date)

    def test_starts_over_without_validator(self):
        path, url = self.path(lambda handler, n: handler.part(self.film, until=None if n else 100000))
        self.done(self.begin(url), self.film)
        self.assertFalse(any("Range" in headers for headers in self.source.requests(path)))
        self.assertEqual(len(self.source.requests(path)), 2)

    def test_starts_over_when_the_source_changed(self):
        """To something smaller: nothing of the first may be left behind it."""
        longer = self.film + PATTERN
        def changing(handler, number):
            if number == 0:
                handler.part(longer, etag='"v1"', until=len(self.film) + 5000)
            else:
                handler.part(self.film, etag='"v2"')
        path, url = self.path(changing)
        self.done(self.begin(url), self.film)
        self.check_resumed(path, '"v1"')

    def test_starts_over_on_a_wrong_range(self):
        half = len(self.film) // 2
        answers = {
            "another start": lambda h: h.reply(206, self.film[half + 1:], ETag='"v1"',
                                               Content_Range=f"bytes {half + 1}-{len(self.film) - 1}/{len(self.film)}"),
            "another thing": lambda h: h.reply(206, self.film[half:], ETag='"v2"',
                                               Content_Range=f"bytes {half}-{len(self.film) - 1}/{len(self.film)}"),
            "no range": lambda h: h.reply(206, self.film[half:], ETag='"v1"'),
            "not satisfiable": lambda h: h.reply(416, Content_Range=f"bytes */{len(self.film)}"),
        }
        for name, wrong in answers.items():
            with self.subTest(name):
                def answer(handler, number, wrong=wrong):
                    if number == 1:
                        wrong(handler)
                    else:
                        handler.part(self.film, etag='"v1"', until=None if number else half)
                path, url = self.path(answer)
                self.done(self.begin(url), self.film)
                requests = self.source.requests(path)
                self.assertEqual(["Range" in headers for headers in requests], [False, True, False])

    def test_stalls_then_goes_on(self):
        def stalling(handler, number):
            if number:
                handler.part(self.film, etag='"v1"')
                return
            handler.head(200, len(self.film), ETag='"v1"')
            handler.wfile.write(self.film[:50000])
            handler.wfile.flush()
            handler.server.released.wait(60)
        path, url = self.path(stalling)
        self.done(self.begin(url), self.film)
        self.check_resumed(path, '"v1"')

    def test_server_errors_pass(self):
        path, url = self.path(lambda handler, n: handler.reply(200, self.film) if n == 2 else handler.reply(500 + 3 * n))
        self.done(self.begin(url), self.film)
        self.assertEqual(len(self.source.requests(path)), 3)

    def test_waits_as_long_as_asked(self):
        times = []
        def busy(handler, number):
            times.append(time.monotonic())
            if number:
                handler.reply(200, self.film)
            else:
                handler.reply(503, Retry_After="4")
        _, url = self.path(busy)
        self.done(self.begin(url), self.film)
        self.assertGreater(times[1] - times[0], 3.9)

    # ---- what fails ----

    def test_gives_up_after_some_tries(self):
        path, url = self.path(lambda handler, _: handler.reply(500))
        self.failed(self.begin(url), "fetch-failed", "HTTP status 500")
        self.assertEqual(len(self.source.requests(path)), 3)

    def test_never_as_long_as_announced(self):
        def short(handler, _):
            handler.head(200, len(self.film) + 1000)
            handler.wfile.write(self.film)
            handler.close_connection = True
        path, url = self.path(short)
        self.failed(self.begin(url), "fetch-failed", "broke off")
        self.assertEqual(len(self.source.requests(path)), 3)

    def test_status_that_will_stay(self):
        for status in (400, 401, 403, 404, 410, 204, 206, 304):
            path, url = self.path(lambda handler, _, status=status: handler.reply(status))
            self.failed(self.begin(url), "fetch-failed", f"HTTP status {status}")
            self.assertEqual(len(self.source.requests(path)), 1)

    def test_announced_too_large(self):
        sent = []
        def large(handler, _):
            handler.head(200, (16 << 20) + 1)
            with contextlib.suppress(OSError):
                while True:
                    handler.wfile.write(PATTERN)
                    sent.append(len(PATTERN))
        _, url = self.path(large)
        self.failed(self.begin(url), "content-too-large", "larger than")
        self.assertLess(sum(sent), 16 << 20)

    def test_endless(self):
        def endless(handler, _):
            handler.head(200, Connection="close")
            with contextlib.suppress(OSError):
                while True:
                    handler.wfile.write(PATTERN)
        path, url = self.path(endless)
        self.failed(self.begin(url), "content-too-large", "larger than")
        self.assertEqual(len(self.source.requests(path)), 1)

    def test_endless_header(self):
        def endless(handler, _):
            with contextlib.suppress(OSError):
                handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while True:
                    handler.wfile.write(b"X-More: " + b"x" * 1000 + b"\r\n")
        _, url = self.path(endless)
        self.failed(self.begin(url), "fetch-failed", "header")

    def test_not_http(self):
        def old(handler, _):
            handler.wfile.write(b"hello, this is no status line\r\n" * 10)
            handler.close_connection = True
        _, url = self.path(old)
        self.failed(self.begin(url), "fetch-failed", "HTTP")

    def test_wrong_digest(self):
        _, url = self.path(whole(self.film))
        self.failed(self.begin(url, sha256="0" * 64), "digest-mismatch")

    def test_not_a_film(self):
        _, url = self.path(whole(b"no film at all\n" * 1000, Content_Type="video/mp4"))
        self.failed(self.begin(url), "unsupported-media")
        path, url = self.path(whole(b""))
        self.failed(self.begin(url), "unprocessable-media", "empty")
        self.assertEqual(len(self.source.requests(path)), 1)

    def test_nobody_listens(self):
        upload_id = self.begin(f"http://127.0.0.1:{support.free_port()}/film.mp4")
        self.failed(upload_id, "fetch-failed", "no connection")

    def test_certificate_is_checked(self):
        with tempfile.TemporaryDirectory() as folder:
            key, cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
            result = support.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                                 "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=127.0.0.1",
                                 "-addext", "subjectAltName=IP:127.0.0.1")
            self.assertEqual(result.returncode, 0, result.stderr)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
        source = Source(tls=context)
        self.addCleanup(source.stop)
        self.failed(self.begin(source.serve("/film.mp4", whole(self.film))), "fetch-failed", "certificate")
        self.assertEqual(source.asked, [])

    # ---- cancelling ----

    def cancel(self, upload_id):
        self.assertEqual(self.admin.request("DELETE", f"/api/v1/uploads/{upload_id}").status, 204)
        self.assertProblem(self.admin.get(f"/api/v1/uploads/{upload_id}"), 404, "not-found")

    def test_cancelled_while_it_runs(self):
        """Whether the source still sends or has stopped to: it is hung up on."""
        for trickle in (True, False):
            before, gone = self.daemon.metric("import_bytes_total"), threading.Event()
            def slow(handler, _, trickle=trickle, gone=gone):
                handler.head(200, len(self.film))
                handler.wfile.write(self.film[:50000])
                handler.wfile.flush()
                handler.connection.settimeout(0.1)
                with contextlib.suppress(OSError):
                    while not handler.server.released.is_set():
                        if trickle:
                            handler.wfile.write(b"x" * 1000)
                        with contextlib.suppress(TimeoutError):
                            if handler.connection.recv(1) == b"":
                                break
                gone.set()
            path, url = self.path(slow)
            upload_id = self.begin(url)
            eventually(lambda before=before: self.daemon.metric("import_bytes_total") >= before + 50000, 10, "bytes")
            if not trickle:
                eventually(lambda upload_id=upload_id: self.show(upload_id)["received_bytes"] == 50000, 10, "a commit")
            self.cancel(upload_id)
            self.assertTrue(gone.wait(5 * support.SLOW))  # well before it counts as stalled
            self.unstaged(upload_id)
            self.assertEqual(len(self.source.requests(path)), 1)
        eventually(lambda: self.daemon.metric("imports_running") == 0, 10, "no import running")

    def test_cancelled_while_it_waits(self):
        path, url = self.path(lambda handler, _: handler.reply(503, Retry_After="2"))
        upload_id = self.begin(url)
        eventually(lambda: self.source.requests(path), 10, "a first try")
        self.cancel(upload_id)
        time.sleep(4)  # past the time of the next try: nothing announces what does not happen
        self.assertEqual(len(self.source.requests(path)), 1)

    # ---- who, what ----

    def test_who_may(self):
        viewer = self.daemon.client("viewer", "import-viewer")
        creator = self.daemon.client("creator", "import-creator")
        _, url = self.path(whole(self.film))
        for client, status in ((self.anonymous, 401), (viewer, 403)):
            self.assertProblem(client.request("POST", "/api/v1/uploads/import", body={"url": url}), status)
        upload_id = self.begin(url, client=creator)
        self.assertEqual(self.done(upload_id, self.film)["owner"], self.show(upload_id)["owner"])
        self.assertEqual(creator.get(f"/api/v1/uploads/{upload_id}").status, 200)
        other = self.daemon.client("creator", "import-other")
        self.assertProblem(other.get(f"/api/v1/uploads/{upload_id}"), (403, 404))

    def test_bad_requests(self):
        _, url = self.path(whole(self.film))
        for body, field in (({}, "url"), ({"url": 1}, "url"), ({"url": ""}, "url"), ({"url": url, "filename": "a/b"}, "filename"),
                            ({"url": url, "sha256": "12"}, "sha256"), ({"url": url, "size": 1}, "size"),
                            ({"url": url, "tags": "x"}, "tags"), ({"url": url + "\n"}, "url"),
                            ({"url": "http://example.com/" + "a" * 2048}, "url")):
            problem = self.assertProblem(self.admin.request("POST", "/api/v1/uploads/import", body=body), 400)
            self.assertEqual(problem["field"], field, problem)


class Refused(ImportCase):
    """Without import.allow_addresses nothing here can be reached."""

    def test_addresses(self):
        canary = Canary()
        self.addCleanup(canary.close)
        for host in ("127.0.0.1", "127.1", "2130706433", "0x7f000001", "017700000001", "0177.0.0.01", "0", "0.0.0.0",
                     "[::1]", "[::ffff:127.0.0.1]", "[::]", "[0:0:0:0:0:0:0:1]", "169.254.169.254", "10.0.0.1", "192.168.1.1",
                     "172.16.0.1", "100.64.0.1", "[fe80::1]", "[fd00::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"):
            response = self.admin.request("POST", "/api/v1/uploads/import", body={"url": f"http://{host}:{canary.port}/f.mp4"})
            problem = self.assertProblem(response, 403, "forbidden")
            self.assertEqual(problem["field"], "url")
        self.assertFalse(canary.touched())

    def test_urls(self):
        port = self.source.server_address[1]
        for url in ("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "dict://127.0.0.1:11211/stats",
                    "scp://127.0.0.1/x", "data:text/plain,x", "javascript:1", "//127.0.0.1/x", "/etc/passwd",
                    f"http://user:secret@127.0.0.1:{port}/", f"http://user@127.0.0.1:{port}/", "http://127%2e0%2e0%2e1/",
                    "http://127.0.0.1\\@example.com/", "http://exa\u3002mple.com/", "http://[::1%25lo]/"):
            problem = self.assertProblem(self.admin.request("POST", "/api/v1/uploads/import", body={"url": url}), 400)
            self.assertEqual(problem["field"], "url")
        self.assertEqual(self.source.requests("/"), [])

    def test_names(self):
        """A name says nothing about where it leads until it is resolved."""
        canary = Canary()
        self.addCleanup(canary.close)
        upload = self.failed(self.begin(f"http://localhost:{canary.port}/film.mp4"), "forbidden", "address")
        self.assertNotIn("127.0.0.1", upload["error"]["detail"])
        self.assertFalse(canary.touched())

    def test_proxies_of_the_environment_are_not_used(self):
        canary = Canary()
        self.addCleanup(canary.close)
        proxy = f"http://127.0.0.1:{canary.port}"
        names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        daemon = support.Daemon({"import.allow_addresses": "127.0.0.1"}, environment=dict.fromkeys(names, proxy))
        self.addCleanup(daemon.remove)
        daemon.start()
        url = self.source.serve("/proxied.mp4", whole(self.film))
        response = daemon.admin.request("POST", "/api/v1/uploads/import", body={"url": url})
        self.done(response.json()["id"], self.film, daemon)
        self.assertFalse(canary.touched())
        daemon.stop()


class Limits(ImportCase):
    settings = {"import.allow_addresses": "127.0.0.1", "quota.max_bytes": "100KiB", "import.workers": "1",
                "import.max_queued": "1", "import.attempts": "2"}

    def test_quota(self):
        """The size is known only once the source was asked, or even later."""
        client = self.daemon.client("creator", "import-quota")
        def endless(handler, _):
            handler.head(200, Connection="close")
            with contextlib.suppress(OSError):
                while not handler.server.released.is_set():
                    handler.wfile.write(self.film[:20000])
                    time.sleep(0.05)
        for path, answer in (("/large.mp4", whole(self.film)), ("/endless.mp4", endless)):
            upload_id = self.begin(self.source.serve(path, answer), client=client)
            self.failed(upload_id, "quota-exceeded", "quota")
            self.assertEqual(len(self.source.requests(path)), 1)
        self.assertGreater(len(self.film), 100 << 10)

    def test_queue(self):
        hold = threading.Event()
        self.addCleanup(hold.set)
        def held(handler, _):
            hold.wait(60)
            handler.reply(404)
        url = self.source.serve("/held.mp4", held)
        uploads = [self.begin(url), self.begin(url)]
        refused = self.admin.request("POST", "/api/v1/uploads/import", body={"url": url})
        self.assertProblem(refused, 503, "unavailable")
        self.assertEqual(self.show(uploads[1])["status"], "active")
        hold.set()
        for upload_id in uploads:
            self.failed(upload_id, "fetch-failed", "404")
        self.failed(self.begin(url), "fetch-failed", "404")


class Together(ImportCase):
    @classmethod
    def setUpClass(cls):
        cls.settings = {"import.allow_addresses": "127.0.0.1", "import.workers": "8",
                        "quota.max_bytes": str(os.path.getsize(clip("short")) * 33 // 10)}
        super().setUpClass()

    def test_quota(self):
        """Of imports that learn their sizes at once those are made that there is room for."""
        for user in range(3):
            meeting = threading.Barrier(8)
            def together(handler, _, meeting=meeting):
                meeting.wait(30)
                handler.head(200, len(self.film))
                time.sleep(0.5)
                with contextlib.suppress(OSError):
                    handler.wfile.write(self.film)
            url = self.source.serve(f"/{user}.mp4", together)
            client = self.daemon.client("creator", f"import-together-{user}")
            ids = [self.begin(url, client=client) for _ in range(8)]
            ends = [eventually(lambda i=i: (u := self.show(i))["status"] in ("done", "failed") and u, 30, "its end")
                    for i in ids]
            self.assertEqual(sorted(end["status"] for end in ends), ["done"] * 3 + ["failed"] * 5)
            for end in ends:
                if end["status"] == "failed":
                    self.assertTrue(end["error"]["type"].endswith(":quota-exceeded"), end["error"])


class Jobs(ImportCase):
    """An import is a job: seen, followed and ended like every other."""
    settings = {"import.allow_addresses": "127.0.0.1"}

    def test_job(self):
        hold = threading.Event()
        self.addCleanup(hold.set)
        def held(handler, _):
            hold.wait(60)
            handler.reply(200, self.film)
        upload_id = self.begin(self.source.serve("/job.mp4", held))
        job = eventually(lambda: (j := self.admin.get(f"/api/v1/jobs/{upload_id}").json())["state"] == "running" and j,
                         10, "the job")
        self.assertEqual(job["type"], "import")
        hold.set()
        eventually(lambda: self.admin.get(f"/api/v1/jobs/{upload_id}").json()["state"] == "done", 20, "its end")
        self.assertEqual(self.show(upload_id)["status"], "done")

    def test_cancelled(self):
        """While it runs, and while it waits to be tried again."""
        hold = threading.Event()
        self.addCleanup(hold.set)
        def held(handler, _):
            hold.wait(60)
            handler.reply(404)
        def later(handler, _):
            handler.reply(503, Retry_After="600")
        for path, answer, state in (("/held.mp4", held, "running"), ("/later.mp4", later, "queued")):
            url = self.source.serve(path, answer)
            upload_id = self.begin(url)
            eventually(lambda path=path: self.source.requests(path), 10, "a try")
            eventually(lambda u=upload_id, s=state: self.admin.get(f"/api/v1/jobs/{u}").json()["state"] == s, 10, state)
            response = self.admin.request("DELETE", f"/api/v1/jobs/{upload_id}")
            self.assertIn(response.status, (200, 202), response.body)
            self.failed(upload_id, "cancelled", "cancelled")
            self.assertEqual(self.admin.get(f"/api/v1/jobs/{upload_id}").json()["state"], "cancelled")


class Restart(unittest.TestCase):
    """What came before the daemon ended need not come again."""

    def setUp(self):
        self.source = Source()
        self.addCleanup(self.source.stop)
        self.daemon = support.Daemon({"import.allow_addresses": "127.0.0.1"})
        self.addCleanup(self.daemon.remove)
        self.daemon.start()
        self.film = read("heavy")

    def begin(self, answer):
        url = self.source.serve("/film.mp4", answer)
        response = self.daemon.admin.request("POST", "/api/v1/uploads/import", body={"url": url})
        self.assertEqual(response.status, 202, response.body)
        return response.json()["id"]

    def trickling(self, handler, number):
        """Half, then as little as does not count as stalled, until the daemon goes; later all of it."""
        if number:
            handler.part(self.film, etag='"v1"')
            return
        half = len(self.film) // 2
        handler.head(200, len(self.film), ETag='"v1"')
        handler.wfile.write(self.film[:half])
        with contextlib.suppress(OSError):
            for at in range(half, len(self.film), 2000):
                handler.wfile.write(self.film[at:at + 2000])
                if handler.server.released.wait(0.1):
                    break

    def check(self, end):
        upload_id = self.begin(self.trickling)
        path = f"/api/v1/uploads/{upload_id}"
        shown = eventually(lambda: (u := self.daemon.admin.get(path).json())["received_bytes"] and u, 30, "progress")
        self.assertEqual(shown["size"], len(self.film))
        self.assertAlmostEqual(shown["progress"], shown["received_bytes"] / len(self.film), places=6)
        self.assertGreaterEqual(shown["received_bytes"], len(self.film) // 2)
        end()
        self.daemon.start()
        eventually(lambda: self.daemon.admin.get(path).json()["status"] == "done", 30, "the import's end")
        asset = self.daemon.admin.get(f"/api/v1/assets/{upload_id}").json()
        self.assertEqual(asset["sha256"], sha256_file(clip("heavy")).hexdigest())
        first, second = self.source.requests("/film.mp4")
        self.assertNotIn("Range", first)
        start = int(second["Range"].removeprefix("bytes=").removesuffix("-"))
        self.assertGreaterEqual(start, shown["received_bytes"])
        self.assertEqual(second["If-Range"], '"v1"')
        self.assertEqual(self.daemon.files("incoming"), [])
        self.daemon.stop()

    def test_killed(self):
        self.check(self.daemon.kill)

    def test_stopped(self):
        def stop():
            began = time.monotonic()
            self.daemon.stop()
            self.assertLess(time.monotonic() - began, 5 * support.SLOW)
        self.check(stop)

    def test_stopped_while_it_waits(self):
        upload_id = self.begin(lambda h, n: h.reply(200, self.film) if n else h.reply(503, Retry_After="3"))
        eventually(lambda: self.source.requests("/film.mp4"), 10, "a first try")
        self.daemon.stop()
        self.daemon.start()
        path = f"/api/v1/uploads/{upload_id}"
        eventually(lambda: self.daemon.admin.get(path).json()["status"] == "done", 30, "the import's end")
        self.daemon.stop()

    def test_switched_off(self):
        """What was accepted before waits until imports are switched on again."""
        upload_id = self.begin(lambda h, n: h.reply(200, self.film) if n else h.reply(503, Retry_After="3"))
        eventually(lambda: self.source.requests("/film.mp4"), 10, "a first try")
        self.daemon.stop()
        self.daemon.settings["import.workers"] = "0"
        self.daemon.start()
        refused = self.daemon.admin.request("POST", "/api/v1/uploads/import", body={"url": "http://127.0.0.1/"})
        self.assertEqual(refused.status, 403, refused.body)
        path = f"/api/v1/uploads/{upload_id}"
        self.assertEqual(self.daemon.admin.get(path).json()["status"], "active")
        self.daemon.stop()
        self.daemon.settings["import.workers"] = "1"
        self.daemon.start()
        eventually(lambda: self.daemon.admin.get(path).json()["status"] == "done", 30, "the import's end")
        self.daemon.stop()


if __name__ == "__main__":
    support.main()
