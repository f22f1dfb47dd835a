"""Uploads: curl's ways, digests, Expect, limits, memory."""
import base64
import hashlib
import json
import os
import tempfile
import threading
import unittest

import support
from support import Raw, clip, run


class Upload(support.DaemonCase):
    settings = {"upload.max_size": "64MiB"}

    def curl(self, *arguments):
        result = run("curl", "-sS", "-D", "-", "-H", f"Authorization: Bearer {self.daemon.admin_key}", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        head, _, body = result.stdout.rpartition(b"\r\n\r\n")
        return head.decode(), body

    def url(self, path):
        return f"http://127.0.0.1:{self.daemon.port}{path}"

    def check_asset(self, head, body, path):
        self.assertRegex(head, r"HTTP/1.1 201 ")
        asset = json.loads(body)
        self.assertEqual(asset["status"], "ready")
        self.assertRegex(head.lower(), rf"location: .*/api/v1/assets/{asset['id'].lower()}")
        self.assertEqual(asset["size"], os.path.getsize(path))
        self.assertEqual(asset["sha256"], support.sha256_file(path).hexdigest())
        self.assertEqual(self.anonymous.get(support.path_of(asset["playback"]["hls"])).status, 200)
        return asset

    def test_put_with_trailing_slash(self):
        path = clip("short")
        head, body = self.curl("-T", path, self.url("/api/v1/upload/"))
        asset = self.check_asset(head, body, path)
        self.assertEqual(asset["filename"], "short.mp4")
        self.assertEqual((asset["width"], asset["height"]), (640, 360))
        self.assertEqual((asset["video_codec"], asset["audio_codec"]), ("h264", "aac"))
        self.assertAlmostEqual(asset["duration"], 4.0, delta=0.05)
        self.assertEqual(asset["content_type"], "video/mp4")

    def test_put_chunked(self):
        path = clip("short")
        head, body = self.curl("-T", path, "-H", "Transfer-Encoding: chunked", self.url("/api/v1/upload/a%20b.mp4"))
        self.assertEqual(self.check_asset(head, body, path)["filename"], "a b.mp4")

    def test_multipart(self):
        path = clip("short")
        head, body = self.curl("-F", f"file=@{path}", "-F", "title=Ein Fílm", "-F", "description=kurz",
                               "-F", "tags=one,two", "-F", "policy=public", self.url("/api/v1/upload"))
        asset = self.check_asset(head, body, path)
        self.assertEqual((asset["title"], asset["description"]), ("Ein Fílm", "kurz"))
        self.assertEqual(asset["tags"], ["one", "two"])
        self.assertEqual(asset["playback_policy"], "public")
        self.assertEqual(asset["playback"]["hls"], self.url(f"/stream/{asset['id']}/master.m3u8"))

    def test_multipart_fields_after_the_file(self):
        path = clip("short")
        head, body = self.curl("-F", f"file=@{path}", "-F", "title=after", self.url("/api/v1/upload"))
        self.assertEqual(self.check_asset(head, body, path)["title"], "after")

    def test_multipart_without_file(self):
        before = self.daemon.files("assets")
        head, body = self.curl("-F", "title=x", self.url("/api/v1/upload"))
        self.assertRegex(head, r"HTTP/1.1 400 ")
        self.assertEqual(json.loads(body)["field"], "file")
        self.assertEqual(self.daemon.files("assets"), before)

    def test_multipart_fields_are_given_once(self):
        path = clip("short")
        for field, value in (("title", "b"), ("description", "b"), ("tags", "b"), ("policy", "public"), ("custom", "{}")):
            head, body = self.curl("-F", f"file=@{path}", "-F", f"{field}={value}", "-F", f"{field}={value}",
                                   self.url("/api/v1/upload"))
            self.assertRegex(head, r"HTTP/1.1 400 ", body)
            self.assertEqual(json.loads(body)["field"], field)
        self.assertNothingStaged()

    def test_content_digest(self):
        path = clip("short")
        with open(path, "rb") as file:
            right = base64.b64encode(hashlib.sha256(file.read()).digest()).decode()
        wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
        before = self.daemon.files("assets")
        count = len(self.daemon.ready_assets())
        refused = self.admin.upload(path, headers={"Content-Digest": f"sha-256=:{wrong}:"})
        self.assertProblem(refused, 400, "digest-mismatch")
        malformed = self.admin.upload(path, headers={"Content-Digest": "sha-256=:no base64:"})
        self.assertProblem(malformed, 400)
        # Several lines are one dictionary, and of two sha-256 the last counts (RFC 8941 3.2).
        for first, second in ((right, wrong), (None, wrong)):
            first = f"Content-Digest: sha-256=:{first}:" if first else "Content-Digest: sha-512=:AAAA:"
            head, body = self.curl("-T", path, "-H", first, "-H", f"Content-Digest: sha-256=:{second}:", self.url("/api/v1/upload/"))
            self.assertRegex(head, r"HTTP/1.1 400 ", body)
        self.assertEqual(self.daemon.files("assets"), before)
        self.assertNothingStaged()
        self.assertEqual(len(self.daemon.ready_assets()), count)
        taken = self.admin.upload(path, headers={"Content-Digest": f"sha-512=:AAAA:, sha-256=:{right}:"})
        self.assertEqual(taken.status, 201, taken.body)

    def test_a_piece_or_a_pack_is_no_file(self):
        """What `curl -C` sends is the tail of a file, and what is packed is not the film."""
        path = clip("short")
        before = self.daemon.files("assets")
        head, body = self.curl("-C", "1000", "-T", path, self.url("/api/v1/upload/"))
        self.assertRegex(head, r"HTTP/1.1 400 ", body)
        self.assertEqual(json.loads(body)["field"], "Content-Range")
        head, body = self.curl("-T", path, "-H", "Content-Encoding: gzip", self.url("/api/v1/upload/"))
        self.assertRegex(head, r"HTTP/1.1 415 ", body)
        self.assertRegex(head.lower(), r"accept-encoding: identity\r?\n")
        self.assertEqual(json.loads(body)["field"], "Content-Encoding")
        self.assertEqual(self.daemon.files("assets"), before)
        self.assertNothingStaged()
        head, body = self.curl("-T", path, "-H", "Content-Encoding: identity", self.url("/api/v1/upload/"))
        self.check_asset(head, body, path)

    def expect(self, headers, path="/api/v1/upload/x.mp4"):
        """The first response to a request that waits for 100 Continue and never sends its body."""
        with Raw(self.daemon.port) as raw:
            raw.send(f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{headers}\r\n")
            return support.statuses(raw.read_all())

    def test_expect_is_refused_before_the_body(self):
        key = f"Authorization: Bearer {self.daemon.admin_key}\r\n"
        self.assertEqual(self.expect("Content-Length: 1000\r\n"), [401])
        self.assertEqual(self.expect(key + "Content-Length: 99999999999\r\n"), [413])
        self.assertEqual(self.expect(key + "Content-Length: 1000\r\n", "/api/v1/nowhere"), [404])
        self.assertEqual(self.expect("Authorization: Bearer sgk_wrong\r\nContent-Length: 1000\r\n"), [401])

    def test_expect_continues(self):
        with open(clip("short"), "rb") as file:
            body = file.read()
        with Raw(self.daemon.port) as raw:
            raw.send(f"PUT /api/v1/upload/x.mp4 HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                     f"Authorization: Bearer {self.daemon.admin_key}\r\nContent-Length: {len(body)}\r\n\r\n")
            interim = b""
            while not interim.endswith(b"\r\n\r\n"):
                interim += raw.socket.recv(1)
            self.assertTrue(interim.startswith(b"HTTP/1.1 100 "), interim)
            raw.send(body)
            self.assertEqual(raw.read_response()[0], 201)

    def test_over_the_limit(self):
        response = self.admin.request("PUT", "/api/v1/upload/big.mp4", body=b"x" * 100,
                                      headers={"Content-Length": str(65 << 20)})
        self.assertProblem(response, 413, "content-too-large")
        # Of unknown length: found out on the way.
        head = self.curl_big_chunked()
        self.assertIn("413", head)
        self.assertNothingStaged()

    def curl_big_chunked(self):
        big = support.made("zero-80M", support.sparse(80 << 20))
        result = run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-T", big, "-H",
                     "Transfer-Encoding: chunked", "-H", f"Authorization: Bearer {self.daemon.admin_key}",
                     self.url("/api/v1/upload/"))
        return result.stdout.decode()


class Reserve(unittest.TestCase):
    def test_uploads_leave_the_reserve_alone(self):
        """An upload whose headers do not tell its size ends where the reserve of free space begins."""
        body, room = 160 << 20, 48 << 20
        with tempfile.TemporaryDirectory() as folder:
            disk = os.statvfs(folder)
            free = disk.f_bavail * disk.f_frsize
            if free < 2 * body:
                self.skipTest("too little free space")
            daemon = support.Daemon({"storage.min_free": str(free - room), "upload.max_size": "1GiB"})
            self.addCleanup(daemon.remove)
            daemon.start()
            result = run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Transfer-Encoding: chunked", "-T",
                         support.made("zero-160M", support.sparse(body)), "-H",
                         f"Authorization: Bearer {daemon.admin_key}", f"http://127.0.0.1:{daemon.port}/api/v1/upload/")
            self.assertEqual(result.stdout, b"507", result.stderr)
            support.eventually(lambda: not daemon.files("incoming"), 5, "an empty folder of staged uploads")
            daemon.stop()


class Memory(support.DaemonCase):
    settings = {"upload.max_size": "2GiB", "storage.min_free": "0"}

    def test_flat(self):
        """1 GB that is no media: refused, nothing left, and the daemon's memory did not follow it."""
        size = 1 << 30
        garbage = support.made("garbage-1G", support.sparse(size))
        if os.statvfs(self.daemon.dir).f_bavail * os.statvfs(self.daemon.dir).f_frsize < 3 * size:
            self.skipTest("less than 3 GiB free")
        self.uploaded(clip("short"))  # the buffers and caches that one upload makes are there
        before, peak = self.daemon.rss(), 0
        done = threading.Event()

        def watch():
            nonlocal peak
            while not done.wait(0.05):
                peak = max(peak, self.daemon.rss())

        watcher = threading.Thread(target=watch)
        watcher.start()
        response = self.admin.upload(garbage, "garbage.mp4", timeout=300)
        done.set()
        watcher.join()
        self.assertProblem(response, (415, 422))
        self.assertNothingStaged()
        # A sanitizer keeps what is freed and shadows what is not: only release tells what the daemon needs.
        if support.SLOW == 1:
            self.assertLess(peak - before, 16 << 20, f"grew from {before} to {peak}")


if __name__ == "__main__":
    support.main()
