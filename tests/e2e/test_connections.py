"""Ten thousand idle connections cost little and hinder nobody."""
import contextlib
import os
import socket
import time

import support
from support import clip

COUNT = 10000
LIMIT_BYTES = 100 * 10**6


class Connections(support.DaemonCase):
    settings = {"server.idle_timeout": "120s", "server.max_connections": "12000", "playback.default_policy": "public"}

    def open(self, count, stack):
        """Connections, in portions that the backlog holds."""
        opened = []
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", self.daemon.port), 20 * support.SLOW)
            stack.callback(s.close)
            opened.append(s)
            if len(opened) % 1000 == 0:
                support.eventually(lambda: self.daemon.metric("active_connections") >= len(opened), 20, "acceptance")
        return opened

    def test_idle(self):
        asset = self.uploaded(clip("short"))
        path = f"/stream/{asset['id']}/original/seg-0.m4s"
        self.assertEqual(self.anonymous.get(path).status, 200)
        before = self.daemon.rss()
        with contextlib.ExitStack() as stack:
            opened = self.open(COUNT, stack)
            silent = self.daemon.rss() - before
            print(f"{COUNT} idle connections: {silent / 2**20:.1f} MiB more", flush=True)
            for s in opened:
                s.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
            for s in opened:
                self.assertTrue(s.recv(4096).startswith(b"HTTP/1.1 200 "))
            kept = self.daemon.rss() - before
            print(f"kept alive after a request each: {kept / 2**20:.1f} MiB more", flush=True)
            # A sanitizer keeps shadows, red zones and freed memory: what its build holds says nothing about the daemon.
            if support.SLOW == 1:
                self.assertLess(silent, LIMIT_BYTES)
                # Each has touched its whole pool in libmicrohttpd; the memory of those that rest is given back
                # when others are served.
                support.eventually(lambda: self.anonymous.get("/version").status == 200
                                   and self.daemon.rss() - before < LIMIT_BYTES, 20, "10,000 kept connections in 100 MB")
            began = time.monotonic()
            for _ in range(20):
                self.assertEqual(self.anonymous.get(path).status, 200)
            self.assertLess((time.monotonic() - began) / 20, 0.1 * support.SLOW)
        support.eventually(lambda: self.daemon.metric("active_connections") < 50, 30, "the connections to be gone")


class Spread(support.DaemonCase):
    settings = {"server.io_threads": "3"}

    def wakes(self):
        """How often each I/O thread has gone to sleep."""
        found, folder = [], f"/proc/{self.daemon.process.pid}/task"
        for thread in os.listdir(folder):
            with open(f"{folder}/{thread}/status", encoding="ascii") as file:
                told = dict(line.rstrip("\n").split(":\t", 1) for line in file)
            if told["Name"].startswith("MHD-"):
                found.append(int(told["voluntary_ctxt_switches"]))
        return found

    def test_over_the_threads(self):
        """Connections that come together are served by as many threads as there are, and those that come later, too."""
        with contextlib.ExitStack() as stack:
            def more(count):
                opened = [socket.create_connection(("127.0.0.1", self.daemon.port), 20 * support.SLOW) for _ in range(count)]
                for s in opened:
                    stack.callback(s.close)
                return opened

            for opened in (more(3), more(6)):
                support.eventually(lambda: len(self.wakes()) == 3, 5, "three I/O threads")  # they name themselves
                before = self.wakes()
                for _ in range(40):
                    for s in opened:
                        s.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
                        self.assertTrue(s.recv(4096).startswith(b"HTTP/1.1 200 "))
                for a, b in zip(before, self.wakes()):
                    self.assertGreater(b - a, 20)


class Limit(support.DaemonCase):
    settings = {"server.max_connections": "32"}

    def accepted(self):
        """The daemon's sockets: the listening one aside, each is a connection."""
        folder, found = f"/proc/{self.daemon.process.pid}/fd", []
        with open("/proc/net/tcp", encoding="ascii") as file:
            rows = [line.split() for line in file][1:]
        ours = {row[9] for row in rows if row[1].endswith(f":{self.daemon.port:04X}") and row[3] == "01"}
        for fd in os.listdir(folder):
            with contextlib.suppress(OSError):
                name = os.readlink(f"{folder}/{fd}")
                if name.startswith("socket:[") and name[8:-1] in ours:
                    found.append(name)
        return found

    def test_over_the_limit_then_free_again(self):
        """Beyond max_connections newcomers wait; when others leave, they are served."""
        sockets = []
        for _ in range(64):
            with contextlib.suppress(OSError):
                sockets.append(socket.create_connection(("127.0.0.1", self.daemon.port), 20 * support.SLOW))
        support.eventually(lambda: len(self.accepted()) == 32, 20, "32 connections")
        first, last = sockets[0], sockets[-1]
        for s in (first, last):
            s.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertTrue(first.recv(4096).startswith(b"HTTP/1.1 200 "))
        self.assertEqual(len(self.accepted()), 32)
        for s in sockets[:-1]:
            s.close()
        self.assertTrue(last.recv(4096).startswith(b"HTTP/1.1 200 "))
        last.close()

        def served():
            with contextlib.suppress(OSError):
                return self.anonymous.get("/version").status == 200
        support.eventually(served, 10, "service after the flood")


if __name__ == "__main__":
    support.main()
