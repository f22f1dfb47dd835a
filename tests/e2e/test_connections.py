"""Ten thousand idle connections cost little and hinder nobody."""
import contextlib
import socket
import time

import support
from support import clip

COUNT = 10000 if support.SLOW == 1 else 2000
LIMIT_BYTES = 100 << 20


class Connections(support.DaemonCase):
    settings = {"server.idle_timeout": "120s", "server.max_connections": "12000", "playback.default_policy": "public"}

    def open(self, count):
        """Idle connections that have made one request each, so that they hold all that they will."""
        opened = []
        for first in range(0, count, 500):
            batch = []
            for _ in range(min(500, count - first)):
                s = socket.create_connection(("127.0.0.1", self.daemon.port), 20 * support.SLOW)
                s.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
                batch.append(s)
            for s in batch:
                data = s.recv(4096)
                self.assertTrue(data.startswith(b"HTTP/1.1 200 "), data[:200])
            opened += batch
        return opened

    def test_idle(self):
        asset = self.uploaded(clip("short"))
        path = f"/stream/{asset['id']}/original/seg-0.m4s"
        self.assertEqual(self.anonymous.get(path).status, 200)
        before = self.daemon.rss()
        with contextlib.ExitStack() as stack:
            for s in self.open(COUNT):
                stack.callback(s.close)
            after = self.daemon.rss()
            print(f"{COUNT} idle connections: {(after - before) / 2**20:.1f} MiB more", flush=True)
            if support.SLOW == 1:
                self.assertLess(after - before, LIMIT_BYTES)
            self.assertGreaterEqual(self.daemon.metric("active_connections"), COUNT)
            began = time.monotonic()
            for _ in range(20):
                self.assertEqual(self.anonymous.get(path).status, 200)
            self.assertLess((time.monotonic() - began) / 20, 0.1 * support.SLOW)
        support.eventually(lambda: self.daemon.metric("active_connections") < 50, 30, "the connections to be gone")


class Limit(support.DaemonCase):
    settings = {"server.max_connections": "32"}

    def test_over_the_limit_then_free_again(self):
        """Beyond max_connections newcomers are turned away; when others leave, they are served."""
        sockets = []
        for _ in range(64):
            with contextlib.suppress(OSError):
                sockets.append(socket.create_connection(("127.0.0.1", self.daemon.port), 5))
        for s in sockets:
            s.close()

        def served():
            with contextlib.suppress(OSError):
                return self.anonymous.get("/version").status == 200
        support.eventually(served, 10, "service after the flood")


if __name__ == "__main__":
    support.main()
