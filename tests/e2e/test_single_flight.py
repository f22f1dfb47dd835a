"""A thousand clients ask at once for a segment that nobody has asked for: it is made once."""
import hashlib
import selectors
import socket

import support
from support import clip

CLIENTS = 1000


class SingleFlight(support.DaemonCase):
    settings = {"playback.default_policy": "public"}

    def ask(self, path, clients):
        """All connections first, then all requests, then all answers. [(status, body hash)]"""
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        sockets = [socket.create_connection(("127.0.0.1", self.daemon.port), 60 * support.SLOW) for _ in range(clients)]
        received = {s: bytearray() for s in sockets}
        for s in sockets:
            s.sendall(request)
        with selectors.DefaultSelector() as selector:
            for s in sockets:
                s.setblocking(False)
                selector.register(s, selectors.EVENT_READ)
            open_count = clients
            while open_count:
                ready = selector.select(60 * support.SLOW)
                self.assertTrue(ready, f"{open_count} clients were never answered")
                for key, _ in ready:
                    data = key.fileobj.recv(1 << 18)
                    received[key.fileobj] += data
                    if not data:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                        open_count -= 1
        answers = []
        for data in received.values():
            head, _, body = bytes(data).partition(b"\r\n\r\n")
            answers.append((int(head.split()[1]), hashlib.sha256(body).digest()))
        return answers

    def test_one_build(self):
        asset = self.uploaded(clip("bframes"))
        for name in ("original/seg-1.m4s", "original/seg-2.ts", "audio/seg-1.m4s"):
            path = f"/stream/{asset['id']}/{name}"
            builds, waits = (self.daemon.metric(m) for m in ("stream_builds_total", "cache_single_flight_waits_total"))
            answers = self.ask(path, CLIENTS)
            self.assertEqual({status for status, _ in answers}, {200})
            self.assertEqual(len(set(answers)), 1)
            self.assertEqual(self.daemon.metric("stream_builds_total") - builds, 1)
            waited = self.daemon.metric("cache_single_flight_waits_total") - waits
            print(f"{name}: {CLIENTS} clients, 1 build, {waited:.0f} waited for it", flush=True)


if __name__ == "__main__":
    support.main()
