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

    def whole(self, asset):
        self.ready(asset, PATIENCE_S)
        self.all_done(asset)


class Meanwhile(LiveCase):
    def sounds(self, asset):
        return re.findall(r'TYPE=AUDIO.*URI="([^"/]+)', self.stream(asset, "master.m3u8").body.decode())

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


if __name__ == "__main__":
    support.main()
