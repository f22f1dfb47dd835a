"""Playlists of key frames: ffmpeg plays them alone, shaka-player seeks through them, each picture is the source's, at its time, and no rate is understated."""
import re

import media_corpus
import support
import test_browser
from support import clip, ffmpeg, made, path_of
from test_browser import corpus

ENTRY = re.compile(r"#EXTINF:(\d+\.\d{6}),\n(\S+)\n")
STREAM = re.compile(r'#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=(\d+),AVERAGE-BANDWIDTH=(\d+),CODECS="([^"]+)",RESOLUTION=(\d+)x(\d+),URI="([^"]+)"\n')
TIME_TOLERANCE_S = 0.002
# The first key frame is not shown by the film, so the second stands for it.
LATE = ("editlist",)


class KeyFrames(support.DaemonCase):
    settings = {"playback.default_policy": "signed", "playback.segment_duration": "2s"}

    def text(self, base, name):
        response = self.anonymous.get(f"{base}/{name}")
        self.assertEqual((response.status, response.header("Content-Type")), (200, "application/vnd.apple.mpegurl"), name)
        return response.body.decode()

    def check(self, name, path):
        asset = self.uploaded(path)
        url = asset["playback"]["hls"].rpartition("/")[0]
        base = path_of(url)
        playlist = self.text(base, "original/iframes.m3u8")
        entries = [(float(duration), uri) for duration, uri in ENTRY.findall(playlist)]
        self.assertIn("\n#EXT-X-I-FRAMES-ONLY\n", playlist)
        self.assertTrue(entries)
        self.assertEqual(self.text(base, "iframes.m3u8").replace("original/", ""), playlist)

        got, said, status = media_corpus.frames(name, f"{url}/original/iframes.m3u8", "v:0")
        self.assertEqual((status, said), (0, ""))
        self.assertEqual(len(got), len(entries))
        source = {h: t for t, _, h in media_corpus.frames(name, path, "v:0")[0]}
        at = got[0][0]
        for (duration, uri), (time, _, picture) in zip(entries, got):
            self.assertAlmostEqual(time, at, delta=TIME_TOLERANCE_S, msg=uri)
            self.assertIn(picture, source, uri)
            if (duration, uri) != entries[0] or name not in LATE:
                self.assertAlmostEqual(time - media_corpus.OFFSET_S, source[picture], delta=TIME_TOLERANCE_S, msg=uri)
            at += duration
        self.assertAlmostEqual(at - got[0][0], sum(float(d) for d in re.findall(r"#EXTINF:([\d.]+)", self.text(base, "original/index.m3u8"))),
                               delta=TIME_TOLERANCE_S)
        self.check_rates(base, entries)
        return asset, base, entries

    def check_rates(self, base, entries):
        (peak, average, codecs, _, _, uri), = STREAM.findall(self.text(base, "master.m3u8"))
        self.assertEqual(uri, "original/iframes.m3u8")
        self.assertIn(codecs, re.search(r'#EXT-X-STREAM-INF:.*CODECS="([^"]+)"', self.text(base, "master.m3u8")).group(1).split(","))
        sizes = []
        for duration, name in entries:
            response = self.anonymous.get(f"{base}/original/{name}")
            self.assertEqual((response.status, response.header("Content-Type")), (200, "video/mp4"))
            sizes.append(len(response.body))
        rates = [size * 8 / duration for size, (duration, _) in zip(sizes, entries)]
        self.assertLessEqual(int(average) - 1, max(rates))
        self.assertAlmostEqual(int(average), sum(sizes) * 8 / sum(d for d, _ in entries), delta=2)
        self.assertGreaterEqual(int(peak), min(rates))
        self.assertLessEqual(int(peak), max(rates) + 2)

    def test_ffmpeg_plays_them(self):
        for name in ("bframes", "reorder3", "opengop", "editlist", "vfr", "rotate90", "noaudio", "fragmented", "video-late", "oneframe", "hevc", "ntsc-film"):
            with self.subTest(clip=name):
                self.check(name, corpus(name))

    def test_a_player_seeks_at_speed(self):
        film = made("speed.mp4", lambda path: ffmpeg(
            "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=60", "-f", "lavfi", "-i", "sine=r=48000:d=60", "-c:v", "libx264", "-preset", "ultrafast",
            "-g", "50", "-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "mp4", path))
        asset = self.uploaded(film)
        one, = test_browser.Browser.seen(self, [("shaka_hls", asset["playback"]["hls"])])
        self.assertNotIn("error", one)
        self.assertEqual((one["fatal"], one["levels"], one["trick"]["tracks"]), ([], 1, 1), one)
        self.assertGreater(one["trick"]["fetched"], 0)
        self.assertAlmostEqual(one["at_end"], asset["duration"], delta=0.1)

    def test_what_is_not_there(self):
        asset, base, entries = self.check("bframes", clip("bframes"))
        self.assertGreater(len(entries), 1)
        for name in ("audio/iframes.m3u8", "audio/iframe-0.m4s", "original/iframe-9999.m4s", "original/iframe-00.m4s", "nothing/iframes.m3u8"):
            self.assertProblem(self.anonymous.get(f"{base}/{name}"), 404)
        ungated = f"/stream/{asset['id']}"
        for name in ("iframes.m3u8", "original/iframes.m3u8", "original/iframe-0.m4s"):
            self.assertProblem(self.anonymous.get(f"{ungated}/{name}"), 401)
        sound = self.uploaded(clip("audio-only"))
        base = path_of(sound["playback"]["hls"]).rpartition("/")[0]
        self.assertProblem(self.anonymous.get(f"{base}/iframes.m3u8"), 404)
        self.assertNotIn("I-FRAME", self.text(base, "master.m3u8"))


if __name__ == "__main__":
    support.main()
