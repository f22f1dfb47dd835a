"""Played while it is made: what else is asked for meanwhile, and tries that end too soon."""
import re
import unittest

import support
from support import Daemon, eventually
from test_jobs import ended, job
from test_renditions import ASSETS, JOBS, Case

SETTINGS = {"transcode.ladder": "360p:800k", "transcode.threads": "1", "transcode.preset": "faster", "playback.default_policy": "public"}
PATIENCE_S = 60


def film(sounds=1):
    """A minute that takes a while, with a key frame every quarter of a second, in a codec that players do not have."""
    words = ["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=50:duration=60"]
    for number in range(sounds):
        words += ["-f", "lavfi", "-i", f"sine=frequency={300 + 100 * number}:sample_rate=48000:duration=60"]
    maps = [word for number in range(sounds + 1) for word in ("-map", str(number))]
    return support.made(f"live-{sounds}.mkv", lambda path: support.ffmpeg(*words, *maps, "-c:v", "mpeg2video", "-q:v", "3", "-g", "12", "-c:a", "flac", "-f",
                                                                           "matroska", path))


class LiveCase(Case, unittest.TestCase):
    def begin(self, **settings):
        self.daemon = Daemon({**SETTINGS, **settings})
        self.addCleanup(self.daemon.remove)
        self.start()

    def start(self):
        self.daemon.start()
        self.admin = self.daemon.admin

    def first_job(self, asset):
        ((first,),) = self.rows("SELECT id FROM jobs WHERE type = 'transcode-first' AND asset_id = ?", asset)
        return first

    def shown(self, asset):
        """The name of the picture that can be played while it is made."""
        eventually(lambda: self.stream(asset, "master.m3u8").status == 200, PATIENCE_S, "a master playlist")
        self.assertEqual(self.asset(asset)["status"], "processing")
        return self.uris(asset)[0].split("/")[0]

    def sounds(self, asset):
        return re.findall(r'TYPE=AUDIO.*URI="([^"/]+)', self.stream(asset, "master.m3u8").body.decode())

    def whole(self, asset):
        self.ready(asset, PATIENCE_S)
        self.all_done(asset)


class Meanwhile(LiveCase):
    def test_others_wait_for_what_is_played(self):
        self.begin()
        asset = self.put(film(sounds=2))
        first, name = self.first_job(asset), self.shown(asset)
        told = self.ask(asset, height=64, crf=51, name="tiny")
        self.assertEqual(job(self.admin, told["job"])["depends_on"], [first])
        looks = 0
        while job(self.admin, first)["state"] == "running":
            for path in ("master.m3u8", f"{name}/index.m3u8", f"{name}/init.mp4", f"{name}/seg-0.m4s", "audio-2/seg-0.m4s"):
                self.assertEqual(self.stream(asset, path).status, 200, path)
            looks += 1
        self.assertGreater(looks, 3)
        self.assertEqual(self.asset(asset)["status"], "ready")
        self.assertEqual(ended(self.admin, told["job"], PATIENCE_S)["state"], "done")
        self.assertEqual(self.uris(asset), [f"{name}/index.m3u8", "tiny/index.m3u8"])
        self.assertEqual(self.sounds(asset), ["audio", "audio-2"])
        self.daemon.stop()

    def test_they_fail_and_come_back_with_it(self):
        self.begin()
        asset = self.put(film())
        first = self.first_job(asset)
        self.shown(asset)
        told = self.ask(asset, height=64, crf=51, name="tiny")
        self.assertEqual(self.admin.request("DELETE", f"{JOBS}/{first}").status, 202)
        eventually(lambda: self.asset(asset)["status"] == "failed", 10, "an asset that failed")
        self.assertEqual(self.asset(asset)["error"], "cancelled")
        self.assertEqual(job(self.admin, told["job"])["state"], "failed")
        self.assertEqual(self.admin.request("POST", f"{ASSETS}/{asset}/renditions", {"height": 64, "crf": 51}).status, 409)
        self.daemon.stop()
        self.daemon.settings["transcode.preset"] = "ultrafast"
        self.start()
        self.assertEqual(self.admin.request("POST", f"{JOBS}/{first}/retry").status, 202)
        self.whole(asset)
        self.assertEqual(len(self.uris(asset)), 2)
        self.daemon.stop()


class Tries(LiveCase):
    """What was shown of a try is not what the next one makes: its URLs are never used again."""

    def seen(self, asset):
        """{path: (body, ETag)} of what a cache may keep for ever, and the ETag of the master playlist."""
        name = self.shown(asset)
        found = {}
        for path in (f"{track}/{piece}" for track in (name, *self.sounds(asset)) for piece in ("init.mp4", "seg-0.m4s")):
            answer = self.stream(asset, path)
            self.assertEqual(answer.status, 200, path)
            self.assertIn("immutable", answer.header("Cache-Control"))
            found[path] = answer.body, answer.header("ETag")
        self.assertEqual(len(found), 4)
        return found, self.stream(asset, "master.m3u8").header("ETag")

    def check_gone(self, asset, before, master):
        now, other = self.seen(asset)
        self.assertNotEqual(master, other)
        self.assertFalse(set(before) & set(now), "a URL that was shown before")
        self.assertFalse({tag for _, tag in before.values()} & {tag for _, tag in now.values()})
        for path, (_, tag) in before.items():
            self.assertEqual(self.stream(asset, path).status, 404, path)
            for again in now:
                self.assertEqual(self.stream(asset, again, headers={"If-None-Match": tag}).status, 200, again)
        return now

    def check_kept(self, asset, now):
        self.whole(asset)
        for path, (body, _) in now.items():
            self.assertEqual(self.stream(asset, path).body, body, path)

    def test_killed_daemon(self):
        self.begin()
        asset = self.put(film())
        before, master = self.seen(asset)
        self.daemon.kill()
        self.daemon.settings["transcode.preset"] = "veryfast"
        self.start()
        now = self.check_gone(asset, before, master)
        self.daemon.kill()
        self.start()
        again = self.check_gone(asset, {**before, **now}, master)
        self.check_kept(asset, again)
        self.daemon.stop()

    def test_cancelled_and_tried_again(self):
        self.begin()
        asset = self.put(film())
        first = self.first_job(asset)
        before, master = self.seen(asset)
        self.assertEqual(self.admin.request("DELETE", f"{JOBS}/{first}").status, 202)
        eventually(lambda: self.asset(asset)["status"] == "failed", 10, "an asset that failed")
        self.daemon.stop()
        self.daemon.settings["transcode.preset"] = "veryfast"
        self.start()
        self.assertEqual(self.admin.request("POST", f"{JOBS}/{first}/retry").status, 202)
        self.check_kept(asset, self.check_gone(asset, before, master))
        self.daemon.stop()

    def test_nothing_was_shown(self):
        """Then the name is as good as new."""
        self.begin(**{"worker.runners": "0"})
        asset = self.put(film())
        self.daemon.kill()
        del self.daemon.settings["worker.runners"]
        self.daemon.settings["transcode.preset"] = "ultrafast"
        self.start()
        self.whole(asset)
        self.assertEqual(self.uris(asset), ["360p/index.m3u8"])
        self.daemon.stop()


if __name__ == "__main__":
    support.main()
