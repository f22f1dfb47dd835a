"""tus uploads whose last byte is there: the asset is made, now or later, unless somebody does not want it."""
import concurrent.futures
import contextlib
import http.client
import os
import shutil
import signal
import time

import support
from support import clip, eventually
from tus_support import BASE, TUS, TusCase, read


class WholeCase(TusCase):
    def start(self, **settings):
        self.daemon.settings.update(settings)
        self.daemon.start()
        type(self).admin, type(self).anonymous = self.daemon.admin, self.daemon.anonymous

    def again(self, **settings):
        self.daemon.stop()
        self.start(**settings)

    def asset(self, url):
        return self.admin.get("/api/v1/assets/" + url.rpartition("/")[2])


class Expiry(WholeCase):
    settings = {**TusCase.settings, "upload.expiry": "3s"}

    def whole(self, count):
        """Uploads whose last byte came, and that may not become assets."""
        client = self.daemon.client("creator", "tus-whole")
        data = read(clip("short"))
        self.uploaded(clip("short"), client)
        urls = [self.create(len(data), client) for _ in range(count)]
        for url in urls:
            self.assertEqual(self.patch(url, 0, data[:-1], client).status, 204)
        self.again(**{"quota.max_assets": "1"})
        client.port = self.daemon.port
        for url in urls:
            self.assertGreaterEqual(self.patch(url, len(data) - 1, data[-1:], client).status, 400)
        return urls

    def test_one_that_the_quota_refuses(self):
        """It expires as it said, and nobody else's upload waits for that."""
        urls = self.whole(70)
        left = self.create(10, self.daemon.client("creator", "tus-half"))
        self.assertEqual(self.patch(left, 0, b"x").status, 204)
        eventually(lambda: self.head(left).status == 404, 15, "another's upload to expire")
        eventually(lambda: self.daemon.metric("upload_open") == 0, 15, "those over quota to expire")
        self.assertGone(left, *urls)

    def test_one_that_is_written_to(self):
        """However many bodies hang, the uploads of others do not wait behind theirs."""
        for _ in range(70):
            self.hanging(self.create(10), 0, 10, b"x")
        self.wait_received(70)
        left = self.create(10)
        eventually(lambda: self.head(left).status == 404, 7, "another upload to expire")

    def test_one_that_waits_for_its_storage(self):
        """Its bytes were acknowledged: it is made, however long that takes."""
        data = read(clip("short")) + b"\0\0\0\x10free" + os.urandom(8)
        url = self.create(len(data))
        blocked = os.path.join(self.daemon.data, "assets", url[-2:])
        shutil.rmtree(blocked, ignore_errors=True)
        with open(blocked, "wb"):
            self.assertProblem(self.patch(url, 0, data), 503)
        time.sleep(6)
        self.assertEqual(self.offset(url), len(data))
        os.unlink(blocked)
        eventually(lambda: self.asset(url).status == 200 and self.asset(url).json()["status"] == "ready", 30,
                   "the asset, late")
        self.check_asset(url, data)


class Promised(WholeCase):
    settings = {**TusCase.settings, "quota.max_assets": "2"}

    def announce(self, client, **headers):
        return client.request("POST", BASE, headers={**TUS, "Upload-Length": "10", **headers}).status

    def test_as_many_as_may_become_assets(self):
        """The parts of one upload become none of their own."""
        client = self.daemon.client("creator", "tus-promised")
        data = read(clip("short"))
        parts = [self.create(end - at, client, Upload_Concat="partial") for at, end in ((0, 1000), (1000, len(data)))]
        self.assertEqual([self.announce(client, **{"Upload-Concat": "partial"}) for _ in range(4)], [201] * 4)
        self.assertEqual([self.announce(client) for _ in range(3)], [201, 201, 507])
        self.assertEqual(self.patch(parts[0], 0, data[:1000], client).status, 204)
        self.assertEqual(self.patch(parts[1], 0, data[1000:], client).status, 204)
        joined = {**TUS, "Upload-Concat": "final;" + " ".join(parts)}
        self.assertProblem(client.request("POST", BASE, headers=joined), 507, "quota-exceeded")
        for upload in client.get("/api/v1/uploads").json()["items"]:
            if upload["kind"] == "tus":
                self.assertEqual(client.request("DELETE", f"{BASE}/{upload['id']}", headers=TUS).status, 204)
        self.assertEqual(client.request("POST", BASE, headers=joined).status, 201)
        self.assertEqual([self.announce(client) for _ in range(2)], [201, 507])

    def test_at_once(self):
        client = self.daemon.client("creator", "tus-promised-at-once")
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: self.announce(client), range(16)))
        self.assertEqual(sorted(answers), [201] * 2 + [507] * 14)


class Deleted(WholeCase):
    """An asset that is deleted while it is made stays deleted, whatever becomes of the request that makes it."""
    settings = {**TusCase.settings, "media.workers": "1"}

    def setUp(self):
        eventually(lambda: self.daemon.metric("media_workers") == 1, 10, "a media process")
        self.opened = self.daemon.metric("upload_open")

    def check(self, end):
        data = read(clip("short")) + b"\0\0\0\x10free" + os.urandom(8)  # or it would be there already
        url = self.create(len(data))
        path = "/api/v1/assets/" + url.rpartition("/")[2]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with support.MediaHeld(self.daemon) as held:
                answer = pool.submit(self.patch, url, 0, data)
                eventually(lambda: self.asset(url).status == 200, 10, "an asset that is being made")
                self.assertEqual(self.asset(url).json()["status"], "processing")
                self.assertEqual(self.admin.request("DELETE", path).status, 204)
                self.assertEqual(self.daemon.metric("upload_open"), self.opened)
                end(held, answer)
        for _ in range(14):  # what is owed is looked for each five seconds
            self.assertEqual(self.asset(url).status, 404)
            self.assertEqual(self.head(url).status, 404)
            time.sleep(0.5)
        self.assertGone(url)
        self.assertEqual(self.daemon.metric("upload_open"), self.opened)
        self.assertEqual(self.daemon.files("assets"), [])

    def test_daemon_is_killed(self):
        def end(_, answer):
            self.daemon.kill()
            with contextlib.suppress(http.client.HTTPException, ConnectionError):
                answer.result()
            self.start()
        self.opened = 0
        self.check(end)

    def test_media_process_dies(self):
        def end(held, answer):
            for pid in held.pids:
                os.kill(pid, signal.SIGKILL)
            self.assertProblem(answer.result(), 410, "gone")
        self.check(end)

    def test_it_is_made_all_the_same(self):
        def end(held, answer):
            for pid in held.pids:
                os.kill(pid, signal.SIGCONT)
            self.assertProblem(answer.result(), 410, "gone")
        self.check(end)


class Owed(WholeCase):
    """Whole uploads whose owner has too much for another asset."""

    def read_bytes(self):
        with open(f"/proc/{self.daemon.process.pid}/io", encoding="ascii") as file:
            return int(file.readline().split()[1])

    def test_they_are_not_read_in_vain(self):
        data = read(clip("heavy"))
        self.uploaded(clip("short"))
        url = self.create(len(data))
        self.assertEqual(self.patch(url, 0, data[:-1]).status, 204)
        self.again(**{"quota.max_assets": "1"})
        # Not 5xx, which clients try again, nor an offset that equals the length, which is success to them.
        self.assertProblem(self.patch(url, len(data) - 1, data[-1:]), 403, "over-quota")
        self.assertEqual((self.head(url).status, self.head(url).header("Upload-Offset")), (403, None))
        self.assertProblem(self.patch(url, len(data), b""), 403, "over-quota")
        refused, start = self.daemon.metric("quota_exceeded_total"), self.read_bytes()
        eventually(lambda: self.daemon.metric("quota_exceeded_total") >= refused + 2, 30, "two more tries")
        self.assertLess(self.read_bytes() - start, len(data))
        self.again(**{"quota.max_assets": "2"})
        path = "/api/v1/assets/" + url.rpartition("/")[2]
        eventually(lambda: self.admin.get(path).status == 200 and self.admin.get(path).json()["status"] == "ready",
                   20, "the asset, now that there is room")
        self.check_asset(url, data)


if __name__ == "__main__":
    support.main()
