"""Deleting an asset while it is being sent: who is being served gets every byte, who asks later gets 404."""
import hashlib
import os
import socket

import support
from support import Raw, clip


class DeleteInFlight(support.DaemonCase):
    settings = {"playback.default_policy": "public"}

    def started(self, path):
        """A response begun but hardly read: a small window keeps most of it in the daemon."""
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        s.settimeout(30 * support.SLOW)
        s.connect(("127.0.0.1", self.daemon.port))
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        data = s.recv(2048)
        self.assertTrue(data.startswith(b"HTTP/1.1 200 "), data[:300])
        return s, data

    def rest(self, s, data):
        data = bytearray(data)
        while part := s.recv(1 << 18):
            data += part
        s.close()
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        length = int(next(l.split(b":")[1] for l in head.split(b"\r\n") if l.lower().startswith(b"content-length:")))
        self.assertEqual(len(body), length)
        return body

    def test_source_and_segment_complete(self):
        path = clip("heavy")
        asset = self.uploaded(path)
        base = f"/stream/{asset['id']}"
        segment = self.anonymous.get(f"{base}/original/seg-0.m4s").body
        self.assertGreater(len(segment), 1 << 20)
        source = self.started(f"{base}/source")
        hot = self.started(f"{base}/original/seg-0.m4s")
        self.assertEqual(self.admin.request("DELETE", f"/api/v1/assets/{asset['id']}").status, 204)
        self.assertProblem(self.anonymous.get(f"{base}/source"), 404)
        self.assertProblem(self.anonymous.get(f"{base}/original/seg-0.m4s"), 404)
        self.assertFalse([f for f in self.daemon.files("assets") if asset["id"] in f])
        self.assertEqual(hashlib.sha256(self.rest(*source)).hexdigest(), asset["sha256"])
        self.assertEqual(self.rest(*hot), segment)

    def test_deleting_while_cold_segments_are_made(self):
        for _ in range(5):
            asset = self.uploaded(clip("bframes"))
            raws = []
            for number in range(3):
                raw = Raw(self.daemon.port, 60)
                raw.send(f"GET /stream/{asset['id']}/original/seg-{number}.ts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                raws.append(raw)
            self.assertEqual(self.admin.request("DELETE", f"/api/v1/assets/{asset['id']}").status, 204)
            for raw in raws:
                # Before the deletion or after it, never half.
                self.assertIn(support.statuses(raw.read_all())[:1], ([200], [404]))
                raw.close()
            self.assertProblem(self.anonymous.get(f"/stream/{asset['id']}/original/seg-0.ts"), 404)

    def held_open(self):
        """Deleted files of assets that the daemon or one of its processes still holds: disk space that is not free."""
        held = []
        for pid in [p for p in os.listdir("/proc") if p.isdigit()]:
            try:
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    target = os.readlink(f"/proc/{pid}/fd/{fd}")
                    if target.startswith(self.daemon.data) and target.endswith("(deleted)"):
                        held.append((pid, target))
            except OSError:
                continue  # gone meanwhile
        return held

    def test_deletion_frees_the_disk(self):
        asset = self.uploaded(clip("bframes"))
        for number in range(3):
            self.assertEqual(self.anonymous.get(f"/stream/{asset['id']}/original/seg-{number}.m4s").status, 200)
        self.assertEqual(self.admin.request("DELETE", f"/api/v1/assets/{asset['id']}").status, 204)
        support.eventually(lambda: not self.held_open(), 10, "the deleted file to be closed by everybody")


if __name__ == "__main__":
    support.main()
