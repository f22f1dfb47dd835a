"""Large bodies, which are received in large pieces beside the HTTP library: they must arrive whole however they
are cut, and end where they end."""
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import struct
import threading
import time
import unittest

import support

SEED = 20


def padded(size):
    """A playable file of `size` bytes: a clip, and a `free` box of random bytes behind it."""
    with open(support.clip("short"), "rb") as file:
        head = file.read()
    rest = size - len(head)
    return head + rest.to_bytes(4, "big") + b"free" + random.Random(size).randbytes(rest - 8)


class Bulk(support.DaemonCase):
    settings = {"upload.max_size": "16MiB"}

    def begin(self, length, name="film.mp4"):
        s = socket.create_connection(("127.0.0.1", self.daemon.port), 30 * support.SLOW)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.sendall(f"PUT /api/v1/upload/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.daemon.admin_key}\r\n"
                  f"Content-Length: {length}\r\n\r\n".encode())
        return s

    def answer(self, s):
        data = b""
        while b"\r\n\r\n" not in data:
            part = s.recv(65536)
            self.assertTrue(part, f"closed after {data[:300]!r}")
            data += part
        head, _, rest = data.partition(b"\r\n\r\n")
        length = int(next(l for l in head.decode().split("\r\n") if l.lower().startswith("content-length:")).split(":")[1])
        while len(rest) < length:
            rest += s.recv(65536)
        return int(head.split()[1]), rest[:length], rest[length:]

    def test_pieces_of_every_size(self):
        chance = random.Random(SEED)
        for size in (700_001, 1_048_576, 1_310_721, 5_000_003):
            body = padded(size)
            s = self.begin(size)
            at = 0
            while at < size:
                n = chance.choice((1, 100, 4096, 16383, 16384, 16385, 65536, 262144, 262145, 1_000_000))
                s.sendall(body[at:at + n])
                at += n
                if chance.random() < 0.2:
                    time.sleep(0.002)  # so that the daemon finds the socket empty in between
            status, text, _ = self.answer(s)
            s.close()
            self.assertEqual(status, 201, text[:300])
            asset = json.loads(text)
            self.assertEqual(asset["sha256"], hashlib.sha256(body).hexdigest())
            self.assertEqual(asset["size"], size)
            source = self.admin.request("GET", support.path_of(asset["playback"]["source"]))
            self.assertEqual(hashlib.sha256(source.body).hexdigest(), asset["sha256"])

    def test_what_follows_the_body_is_the_next_request(self):
        body = padded(3_000_000)
        s = self.begin(len(body))
        s.sendall(body + b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        status, text, rest = self.answer(s)
        self.assertEqual(status, 201, text[:300])
        while b"\r\n\r\n" not in rest:
            part = s.recv(65536)
            self.assertTrue(part, "closed instead of answering the second request")
            rest += part
        self.assertTrue(rest.startswith(b"HTTP/1.1 200 "), rest[:100])
        s.close()

    def test_over_the_limit_without_a_length_that_tells(self):
        """Refused in the middle of a large piece, with an answer."""
        s = socket.create_connection(("127.0.0.1", self.daemon.port), 30 * support.SLOW)
        boundary = "b0undary"
        body = (f"--{boundary}\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\n".encode() + b"t" * 2_000_000
                + f"\r\n--{boundary}--\r\n".encode())
        s.sendall(f"POST /api/v1/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.daemon.admin_key}\r\n"
                  f"Content-Type: multipart/form-data; boundary={boundary}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            s.sendall(body)
        status, text, _ = self.answer(s)
        s.close()
        self.assertEqual(status, 413, text[:300])
        self.assertNothingStaged()

    def test_broken_off(self):
        """Wherever the client goes away, nothing stays and the daemon serves on."""
        body = padded(4_000_000)
        for at in (600_000, 1_500_000, 3_999_999):
            s = self.begin(len(body))
            s.sendall(body[:at])
            s.close()
        self.assertNothingStaged()
        self.uploaded(support.clip("short"))

    def test_many_at_once(self):
        bodies = [padded(1_200_000 + 1000 * i) for i in range(12)]
        found = [None] * len(bodies)

        def one(i):
            s = self.begin(len(bodies[i]))
            s.sendall(bodies[i])
            status, text, _ = self.answer(s)
            found[i] = (status, json.loads(text).get("sha256"))
            s.close()
        threads = [threading.Thread(target=one, args=(i,)) for i in range(len(bodies))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(found, [(201, hashlib.sha256(body).hexdigest()) for body in bodies])

    def unread(self, port):
        """Bytes that a client's port has sent to the daemon and the daemon has not received."""
        with open("/proc/net/tcp", encoding="ascii") as file:
            for line in file.readlines()[1:]:
                words = line.split()
                if (words[1].endswith(f":{self.daemon.port:04X}") and words[2].endswith(f":{port:04X}")):
                    return int(words[4].split(":")[1], 16)
        return 0

    def test_reset_with_bytes_on_the_way(self):
        """What counts of a body whose connection is reset is what was sent, without a gap."""
        body = padded(2_000_000)
        tus = {"Tus-Resumable": "1.0.0"}
        created = self.admin.request("POST", "/api/v1/tus", headers={**tus, "Upload-Length": str(len(body))})
        url = support.path_of(created.header("Location"))
        patch = {**tus, "Content-Type": "application/offset+octet-stream"}
        s = socket.create_connection(("127.0.0.1", self.daemon.port), 30 * support.SLOW)
        s.sendall((f"PATCH {url} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.daemon.admin_key}\r\n"
                   + "".join(f"{name}: {value}\r\n" for name, value in patch.items())
                   + f"Upload-Offset: 0\r\nContent-Length: {len(body)}\r\n\r\n").encode())
        support.eventually(lambda: self.daemon.metric("uploads_in_flight") == 1, 10, "the body to begin")
        s.sendall(body[:100])
        port = s.getsockname()[1]
        support.eventually(lambda: self.unread(port) == 0, 10, "the daemon to wait for more")
        # Everything that follows is there before the daemon looks again, the reset too.
        self.addCleanup(self.daemon.signal, signal.SIGCONT)
        self.daemon.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.daemon.process.pid, os.WSTOPPED | os.WNOWAIT)
        s.sendall(body[100:60_100])
        support.eventually(lambda: self.unread(port) == 60_000, 10, "the bytes to arrive")
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
        self.daemon.signal(signal.SIGCONT)
        support.eventually(lambda: self.daemon.metric("uploads_in_flight") == 0, 10, "the body to end")

        def rest():
            at = int(self.admin.request("HEAD", url, headers=tus).header("Upload-Offset"))
            return self.admin.request("PATCH", url, body[at:], {**patch, "Upload-Offset": str(at)})
        # What came of the broken body may be stored just after its end.
        answer = support.eventually(lambda: (lambda a: a if a.status != 409 else None)(rest()), 10, "the rest to be taken")
        self.assertEqual(answer.status, 204, answer.body)
        asset = self.admin.get(answer.header("Content-Location")).json()
        self.assertEqual(asset["sha256"], hashlib.sha256(body).hexdigest())


if __name__ == "__main__":
    unittest.main(verbosity=2)
