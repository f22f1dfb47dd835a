"""tus over links that hang, break off or lie, and across restarts of the daemon."""
import random
import socket
import threading
import time

import support
from support import Raw, clip, eventually
from tus_support import TusCase, checksum, encoded, read


class Links(TusCase):
    """What becomes of bodies that hang, break off or lie about their length."""

    def test_head_waits_for_nobody(self):
        url = self.create(1_000_000)
        self.hanging(url, 0, 1_000_000, b"x" * 500_000)
        self.wait_received(1)
        for _ in range(20):
            begun = time.monotonic()
            answer = self.head(url)
            self.assertLess(time.monotonic() - begun, 1 * support.SLOW)
            self.assertEqual(answer.status, 200)
            self.assertLessEqual(int(answer.header("Upload-Offset")), 500_000)

    def test_a_newer_patch_takes_over(self):
        data = read(clip("short"))
        url = self.create(len(data))
        hung = self.hanging(url, 0, len(data), b"\0" * 10_000)  # other bytes: none of them may stay
        self.wait_received(1)
        at = self.offset(url)
        self.assertEqual(at, 0)
        answer = self.patch(url, at, data[:200_000])
        self.assertEqual(answer.status, 204, answer.body)
        hung.send(b"\0" * 1000)  # it wakes up, and is told
        status, headers, body = hung.read_response()
        self.assertEqual(status, 409, body)
        self.assertIn(b"superseded", body)
        self.assertEqual(self.offset(url), 200_000)
        self.check_asset(url, data, self.patch(url, 200_000, data[200_000:]))

    def test_many_take_over(self):
        """Each of many clients that come back, one after the other, ends the one before."""
        data = read(clip("short"))
        url = self.create(len(data))
        hung = []
        for i in range(30):
            at = self.offset(url)
            hung.append(self.hanging(url, at, len(data) - at, data[at:at + 1000 + i]))
        def push():
            """Until the last of the others has begun: whoever comes later takes over."""
            at = self.offset(url)
            answer = self.patch(url, at, data[at:])
            return answer if answer.status not in (409, 503) else None
        self.check_asset(url, data, eventually(push, 20, "the last word"))

    def test_many_at_once(self):
        """Clients that all believe the upload to be theirs: whatever one of them is told stays true."""
        data = read(clip("bframes"))
        url = self.create(len(data))
        told, wrong = [0], []

        def push(seed):
            rng = random.Random(seed)
            while not wrong:
                least = max(told)
                at = self.offset(url)
                if at < least:
                    wrong.append(f"HEAD said {at} after {least} was acknowledged")
                if at == len(data):
                    return
                size = rng.randint(1, 60_000)
                verified = {"Upload_Checksum": checksum("md5", data[at:at + size])} if rng.random() < 0.5 else {}
                answer = self.patch(url, at, data[at:at + size], **verified)
                if answer.status == 204:
                    told.append(int(answer.header("Upload-Offset")))
                elif answer.status not in (409, 503):  # 503: too many wait for the one that commits
                    wrong.append((answer.status, answer.body))
        pushers = [threading.Thread(target=push, args=(seed,)) for seed in range(6)]
        for pusher in pushers:
            pusher.start()
        for pusher in pushers:
            pusher.join(60 * support.SLOW)
        self.assertEqual(wrong, [])
        self.assertFalse(any(pusher.is_alive() for pusher in pushers))
        eventually(lambda: self.patch(url, len(data), b"").header("Content-Location"), 20, "the asset")
        self.check_asset(url, data)

    def test_a_wrong_offset_breaks_nobody_off(self):
        data = read(clip("short"))
        url = self.create(len(data))
        running = self.hanging(url, 0, len(data), data[:10_000])
        self.wait_received(1)
        self.assertProblem(self.patch(url, 77, b"x"), 409)
        running.send(data[10_000:])
        status, headers, body = running.read_response()
        self.assertEqual(status, 204, body)
        self.check_asset(url, data)

    def test_a_broken_body_counts(self):
        data = read(clip("short"))
        url = self.create(len(data))
        at = 0
        for end in (1, 70_000, 70_001, 300_000):
            raw = self.hanging(url, at, len(data) - at, data[at:end])
            self.wait_received(1)  # an end that is there before the body is looked at takes it along
            raw.socket.shutdown(socket.SHUT_WR)
            self.wait_offset(url, end)
            raw.close()  # not before: what lies there unread would make it a reset, which may outrun the bytes
            at = end
        self.check_asset(url, data, self.patch(url, at, data[at:]))

    def test_a_reset_connection(self):
        data = read(clip("short"))
        url = self.create(len(data))
        raw = self.hanging(url, 0, len(data), data[:300_000])
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.wait_received(1)
        raw.close()
        self.wait_received(0)
        at = eventually(lambda: self.offset(url) or None, 10, "some of it to count")
        self.assertLessEqual(at, 300_000)
        answer = self.patch(url, at, data[at:])
        if answer.status == 409:  # all of it was stored meanwhile
            at = int(answer.header("Upload-Offset"))
            answer = self.patch(url, at, data[at:])
        self.check_asset(url, data, answer)

    def test_bytes_are_stored_on_the_way(self):
        """A crash of the client or of the daemon costs at most upload.commit_bytes and what is on the way."""
        url = self.create(10_000_000)
        self.hanging(url, 0, 10_000_000, b"x" * 9_000_000)
        eventually(lambda: self.offset(url) > 0, 10, "bytes of a running body to count")

    def test_lengths_that_lie(self):
        data = read(clip("short"))
        url = self.create(len(data))
        # More than is missing: refused before a byte is taken.
        with Raw(self.daemon.port) as raw:
            self.raw_patch(raw, url, 0, f"Content-Length: {len(data) + 1}\r\nExpect: 100-continue")
            self.assertEqual(support.statuses(raw.read_all()), [413])
        for length in (str(1 << 31), str(1 << 32), str(1 << 53), str((1 << 63) - 1)):
            with Raw(self.daemon.port) as raw:
                self.raw_patch(raw, url, 0, f"Content-Length: {length}").send(b"x" * 1000)
                self.assertEqual(raw.read_response()[0], 413)
        for length in (str(1 << 63), str(1 << 64), "-1", "0x10", "1, 1"):
            with Raw(self.daemon.port) as raw:
                self.raw_patch(raw, url, 0, f"Content-Length: {length}").send(b"x" * 1000)
                self.assertEqual(support.statuses(raw.read_all())[0], 400)
        self.assertEqual(self.offset(url), 0)
        # Less than comes: the rest is no request.
        with Raw(self.daemon.port) as raw:
            self.raw_patch(raw, url, 0, "Content-Length: 1000").send(data[:2000])
            self.assertEqual(raw.read_response()[0], 204)
        self.assertEqual(self.offset(url), 1000)
        # Of unknown length, and longer than what is missing: what fits before it is noticed counts, and is right.
        with Raw(self.daemon.port) as raw:
            self.raw_patch(raw, url, 1000, "Transfer-Encoding: chunked")
            body = data[1000:] + b"x" * 1000
            raw.send(f"{1000:x}\r\n".encode() + body[:1000] + b"\r\n")
            eventually(lambda: self.daemon.metric("uploads_in_flight") == 1, 10, "the body")
            raw.send(f"{len(body) - 1000:x}\r\n".encode() + body[1000:] + b"\r\n0\r\n\r\n")
            self.assertEqual(raw.read_response()[0], 413)
        self.wait_received(0)
        eventually(lambda: self.offset(url) >= 2000, 10, "the bytes before the refusal")
        at = self.offset(url)
        self.assertLess(at, len(data) + 1)
        answer = self.patch(url, at, data[at:])
        if answer.status == 409:  # what came last was stored just now: the true offset is told
            self.assertGreater(int(answer.header("Upload-Offset")), at)
            at = int(answer.header("Upload-Offset"))
            answer = self.patch(url, at, data[at:])
        self.assertEqual(answer.status, 204)
        self.check_asset(url, data)

    def test_of_unknown_length(self):
        data = read(clip("short"))
        url = self.create(len(data))
        with Raw(self.daemon.port) as raw:
            self.raw_patch(raw, url, 0, "Transfer-Encoding: chunked")
            for at in range(0, len(data), 50_000):
                piece = data[at:at + 50_000]
                raw.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            raw.send(b"0\r\n\r\n")
            self.assertEqual(raw.read_response()[0], 204)
        self.check_asset(url, data)


class Restart(TusCase):
    settings = {**TusCase.settings, "server.drain_timeout": "500ms"}

    def crash(self):
        self.daemon.kill()
        self.again()

    def again(self):
        self.daemon.start()
        type(self).admin, type(self).anonymous = self.daemon.admin, self.daemon.anonymous

    def test_killed_between_patches(self):
        data = read(clip("short"))
        url = self.create(len(data), Upload_Metadata=encoded(filename="a.mp4"))
        deferred = self.create(Upload_Defer_Length="1")
        part = self.create(1000, Upload_Concat="partial")
        at = 0
        for end in (1, 70_000, 200_000, len(data) - 1):
            self.assertEqual(self.patch(url, at, data[at:end]).status, 204)
            self.assertEqual(self.patch(deferred, at, data[at:end]).status, 204)
            at = end
            self.crash()
            head = self.head(url)
            self.assertEqual((head.header("Upload-Offset"), head.header("Upload-Length")), (str(at), str(len(data))))
            self.assertEqual(head.header("Upload-Metadata"), encoded(filename="a.mp4"))
            self.assertEqual(self.head(deferred).header("Upload-Offset"), str(at))
            self.assertEqual(self.head(part).header("Upload-Concat"), "partial")
        self.check_asset(url, data, self.patch(url, at, data[at:]))
        self.check_asset(deferred, data, self.patch(deferred, at, data[at:], Upload_Length=str(len(data))))
        self.crash()
        self.check_asset(url, data, self.patch(url, len(data), b""))

    def test_killed_in_the_midst_of_a_patch(self):
        data = read(clip("heavy"))
        url = self.create(len(data))
        self.hanging(url, 0, len(data), data[:len(data) - 1_000_000])
        eventually(lambda: self.offset(url) > 0, 10, "bytes of a running body to count")
        told = self.offset(url)
        self.crash()
        at = self.offset(url)
        self.assertGreaterEqual(at, told)
        self.assertLessEqual(at, len(data) - 1_000_000)
        self.check_asset(url, data, self.patch(url, at, data[at:]))

    def test_stopped_in_the_midst_of_a_patch(self):
        data = read(clip("short"))
        url = self.create(len(data))
        checked = self.create(len(data))
        self.hanging(url, 0, len(data), data[:50_000])  # less than what would be stored on the way
        raw = self.raw_patch(Raw(self.daemon.port), checked, 0, f"Upload-Checksum: {checksum('md5', data)}\r\n"
                             f"Content-Length: {len(data)}")
        self.addCleanup(raw.close)
        raw.send(data[:100_000])
        self.wait_received(2)
        self.daemon.stop()
        self.again()
        self.assertEqual(self.offset(url), 50_000)
        self.assertEqual(self.offset(checked), 0)
        self.check_asset(url, data, self.patch(url, 50_000, data[50_000:]))

    def complete_without_asking(self, data):
        """The last byte is stored, but the request that brought it never ended: nobody asks for the asset."""
        url = self.create(len(data))
        with Raw(self.daemon.port) as raw:
            self.raw_patch(raw, url, 0, "Transfer-Encoding: chunked")
            raw.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wait_received(1)
            raw.socket.shutdown(socket.SHUT_WR)
        self.wait_offset(url, len(data))
        return url

    def wait_asset(self, url, data):
        path = "/api/v1/assets/" + url.rpartition("/")[2]

        def ready():
            answer = self.admin.get(path)
            return answer.status == 200 and answer.json()["status"] == "ready"
        eventually(ready, 20, f"{path} to be made by itself")
        self.check_asset(url, data)

    def test_completed_by_itself(self):
        data = read(clip("short"))
        self.wait_asset(self.complete_without_asking(data), data)

    def test_completed_by_itself_after_a_crash(self):
        data = read(clip("silent"))
        url = self.complete_without_asking(data)
        self.crash()
        self.wait_asset(url, data)
        self.assertGone(url)


if __name__ == "__main__":
    support.main()
