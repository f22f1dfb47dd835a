"""hls.js in headless Chromium plays both forms, seeks to the middle and to the end."""
import json
import os
import shutil

import support
from support import clip, run

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "browser")


class Browser(support.DaemonCase):
    # Signed: the token travels in the path, so every URL below the playlist carries it.
    settings = {"playback.default_policy": "signed"}

    def play(self, *names):
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        self.assertTrue(chromium, "chromium is not installed")
        assets = [self.uploaded(clip(name)) for name in names]
        urls = [asset["playback"][form] for asset in assets for form in ("hls", "hls_ts")]
        result = run("node", "player.mjs", chromium, *urls, cwd=FOLDER, text=True, timeout=170)
        played = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual(len(played), len(urls), result.stderr)
        for one in played:
            print(json.dumps(one), flush=True)
        return [(assets[i // 2], ("fmp4", "ts")[i % 2], one) for i, one in enumerate(played)]

    def check(self, asset, one):
        self.assertNotIn("error", one)
        self.assertEqual(one["fatal"], [])
        self.assertGreaterEqual(one["levels"], 1)
        # hls.js moves the common offset of all tracks away by the first decode time it sees, so the first picture
        # stands at the reorder delay: at most a few frames.
        start = one.get("first_media_time", one["buffered_start"])
        self.assertLess(abs(start), 0.15, "the timeline does not start near 0")
        if one["has_video"] and "audio" in one["starts"]:
            # The clip's sound is encoded with 1,024 samples of priming before its time 0, where the picture begins.
            offset = one["starts"]["video"] - one["starts"]["audio"]
            self.assertAlmostEqual(offset, 1024 / 48000, delta=0.02)
        self.assertAlmostEqual(one["duration"], asset["duration"], delta=0.1)
        self.assertGreater(one["after_play"], 0.4)
        self.assertGreater(one["after_middle"], one["middle"] + 0.4)
        self.assertAlmostEqual(one["at_end"], one["duration"], delta=0.25)
        self.assertGreater(one["audio_bytes"], 0)
        if one["has_video"]:
            self.assertGreater(one["video_bytes"], 0)
            # Headless Chromium paints late under load; a shift of the tracks would be constant and larger.
            self.assertLess(abs(one["median_lag"]), 0.1 * support.SLOW)

    def test_video(self):
        for asset, form, one in self.play("bframes"):
            with self.subTest(form=form):
                self.check(asset, one)

    def test_audio_only(self):
        for asset, form, one in self.play("audio-only"):
            with self.subTest(form=form):
                self.check(asset, one)


if __name__ == "__main__":
    support.main()
