"""What is not a film, or not a name: a clear refusal, no file, no asset, and the daemon serves on."""
import os
import struct
import zlib

import support
from support import Raw, clip, made


def png_bomb(path):
    """A 16000x16000 picture in a few kilobytes, as the only frame of an MP4."""
    row = b"\0" + b"\0" * (16000 * 3)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(16000)) + packer.flush()

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    png = path + ".png"
    with open(png, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 16000, 16000, 8, 2, 0, 0, 0))
                   + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    support.ffmpeg("-i", png, "-c", "copy", "-f", "mp4", path)
    os.unlink(png)


def h264_bomb(path):
    """H.264 whose parameters announce 16000x16000, which the frames in it could never be."""
    support.ffmpeg("-f", "lavfi", "-i", "color=c=black:size=16000x16000:rate=1:duration=1", "-frames:v", "1",
                   "-c:v", "libx264", "-preset", "ultrafast", "-x264-params", "ref=1:bframes=0:rc-lookahead=0", "-f",
                   "mp4", path)


def boxes(data):
    """Where the boxes at the top of a film lie: type -> (start of the payload, end)."""
    found, at = {}, 0
    while at + 8 <= len(data):
        size, = struct.unpack_from(">I", data, at)
        found[bytes(data[at + 4:at + 8])] = (at + 8, at + size)
        at += size
    return found


def hollow(path, begin, end):
    """The film with zeros from share `begin` to share `end` of its media data: as a download leaves it that stopped."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    first, last = boxes(data)[b"mdat"]
    at, to = (first + int((last - first) * share) for share in (begin, end))
    data[at:to] = bytes(to - at)
    return bytes(data)


class BadInput(support.DaemonCase):
    settings = {"upload.max_size": "50MiB"}

    def setUp(self):
        self.before = self.daemon.files("assets")
        self.ready = len(self.daemon.ready_assets())

    def tearDown(self):
        self.assertNothingStaged()
        self.assertEqual(self.daemon.files("assets"), self.before)
        self.assertEqual(len(self.daemon.ready_assets()), self.ready)
        self.assertEqual(self.anonymous.get("/ready").status, 200)

    def refused(self, body, status, name="film.mp4"):
        response = self.admin.request("PUT", f"/api/v1/upload/{name}", body=body, timeout=60)
        return self.assertProblem(response, status)

    def test_empty(self):
        self.refused(b"", (400, 422))

    def test_text(self):
        self.refused(b"This is not a film, whatever its name says.\n" * 100, 415)

    def test_random(self):
        self.refused(bytes((i * 7919 + (i >> 8) * 31) & 255 for i in range(100000)), (415, 422))

    def test_truncated(self):
        for name in ("bframes", "moov-at-end"):
            with open(clip(name), "rb") as file:
                whole = file.read()
            for share in (0.01, 0.3, 0.9):
                problem = self.refused(whole[:int(len(whole) * share)], (415, 422))
                self.assertTrue(problem["detail"])

    def test_zeros(self):
        for name in ("bframes", "moov-at-end", "silent", "audio-only"):
            for begin, end in ((0, 1), (0.5, 1), (2 / 3, 1), (0, 0.5)):
                with self.subTest(name, begin=begin, end=end):
                    problem = self.refused(hollow(clip(name), begin, end), 422)
                    self.assertIn("zeros", problem["detail"])

    def test_fragmented_zeros(self):
        """libavformat reads these; all but the last fragment is whole."""
        path = made("fragments.mp4", lambda out: support.ffmpeg(
            "-i", clip("bframes"), "-c", "copy", "-movflags", "frag_keyframe+empty_moov", "-f", "mp4", out))
        self.assertIn("zeros", self.refused(hollow(path, 0, 1), 422)["detail"])

    def test_tus_zeros(self):
        """An upload of several requests fails by the same rule, and its asset is not ready."""
        body = hollow(clip("bframes"), 0.5, 1)
        response = self.admin.request("POST", "/api/v1/tus", body=body, headers={
            "Tus-Resumable": "1.0.0", "Upload-Length": str(len(body)), "Content-Type": "application/offset+octet-stream"})
        self.assertIn("zeros", self.assertProblem(response, 422)["detail"])

    def test_playlists(self):
        secret = os.path.join(self.daemon.dir, "canary")
        with open(secret, "w", encoding="ascii") as file:
            file.write("canary")
        with support.socket.socket() as canary:
            canary.bind(("127.0.0.1", 0))
            canary.listen()
            canary.settimeout(0.1)
            port = canary.getsockname()[1]
            for text in (f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile://{secret}\n#EXT-X-ENDLIST\n",
                         f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:{port}/x.ts\n#EXT-X-ENDLIST\n",
                         f"ffconcat version 1.0\nfile '{secret}'\n",
                         f'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1:{port}/</BaseURL></MPD>',
                         f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"):
                self.refused(text.encode(), 415)
            with self.assertRaises(TimeoutError):
                canary.accept()

    def test_bombs(self):
        for name, make in (("bomb.png.mp4", png_bomb), ("bomb.h264.mp4", h264_bomb)):
            path = made(name, make)
            self.assertLess(os.path.getsize(path), 40 << 20)
            self.assertProblem(self.admin.upload(path, timeout=60), (413, 415, 422))

    def test_over_the_limit(self):
        response = self.admin.request("PUT", "/api/v1/upload/big.mp4", body=b"x",
                                      headers={"Content-Length": str((50 << 20) + 1)})
        self.assertProblem(response, 413)

    def test_names(self):
        for name, status in (("a%2fb.mp4", 400), ("..%2f..%2fetc%2fpasswd", 400), ("a%00b.mp4", 400), ("a%ff%fe.mp4", 400),
                             ("x" * 300 + ".mp4", (400, 414)), ("%2e%2e", (400, 404)), (".", (400, 404)), ("a%0ab.mp4", 400),
                             ("a%5cb%7f.mp4", 400), ("a/b.mp4", (400, 404)), ("x" * 20000, (400, 414, 431))):
            with Raw(self.daemon.port) as raw:
                raw.send(f"PUT /api/v1/upload/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.daemon.admin_key}\r\n"
                         "Content-Length: 4\r\nConnection: close\r\n\r\nabcd")
                found = support.statuses(raw.read_all())
                self.assertEqual(len(found), 1, name[:40])
                self.assertIn(found[0], status if isinstance(status, tuple) else (status,), name[:40])

    def multipart(self, body, content_type='multipart/form-data; boundary="b"'):
        return self.admin.request("POST", "/api/v1/upload", body=body, headers={"Content-Type": content_type})

    def test_multipart(self):
        part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\nabcd\r\n'
        for body in (b"", b"--b--\r\n", b"garbage", part % b"a.mp4", part % b"../../x" + b"--b--\r\n",
                     part % b"a\0b" + b"--b--\r\n", part % (b"x" * 300) + b"--b--\r\n", part % b"\xff\xfe" + b"--b--\r\n",
                     part % b"a.mp4" + part % b"b.mp4" + b"--b--\r\n", b"--b\r\nX: " + b"y" * 10000 + b"\r\n\r\n",
                     b'--b\r\nContent-Disposition: form-data; name="title"\r\n\r\n' + b"t" * 100000 + b"\r\n--b--\r\n"):
            self.assertProblem(self.multipart(body), (400, 413, 415, 422))
        for kind in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=b",
                     "text/plain", "multipart/form-data; boundary=" + "x" * 71):
            self.assertProblem(self.multipart(part % b"a.mp4" + b"--b--\r\n", kind), (400, 415))

    def test_broken_off(self):
        with open(clip("bframes"), "rb") as file:
            body = file.read()
        with Raw(self.daemon.port) as raw:
            raw.send(f"PUT /api/v1/upload/x.mp4 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.daemon.admin_key}\r\n"
                     f"Content-Length: {len(body)}\r\n\r\n")
            raw.send(body[:len(body) // 2])
            support.eventually(lambda: self.daemon.files("incoming"), 10, "the upload to have begun")
        support.eventually(lambda: not self.daemon.files("incoming"), 10, "what came to be removed")

    def test_broken_chunks(self):
        for tail in ("zz\r\n", "-1\r\n", "fffffffffffffffff\r\nx", "5\r\nab"):
            with Raw(self.daemon.port) as raw:
                raw.send(f"PUT /api/v1/upload/x.mp4 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.daemon.admin_key}\r\n"
                         f"Transfer-Encoding: chunked\r\n\r\n{tail}")
                raw.socket.shutdown(1)
                self.assertNotIn(201, support.statuses(raw.read_all()))
        support.eventually(lambda: not self.daemon.files("incoming"), 10, "what came to be removed")

    def test_mutated(self):
        """Bytes changed here and there: taken or refused, never a crash, never a stuck file."""
        with open(clip("short"), "rb") as file:
            whole = bytearray(file.read())
        for seed in range(30):
            data, state = bytearray(whole), seed * 2654435761 + 1
            for _ in range(20):
                state = (state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
                data[(state >> 33) % min(len(data), 4000)] = (state >> 20) & 255
            response = self.admin.request("PUT", "/api/v1/upload/m.mp4", body=bytes(data), timeout=60)
            self.assertIn(response.status, (201, 413, 415, 422), response.body[:300])
            if response.status == 201:
                self.admin.request("DELETE", f"/api/v1/assets/{response.json()['id']}")


if __name__ == "__main__":
    support.main()
