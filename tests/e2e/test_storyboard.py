"""Storyboards: the WebVTT file covers the film, and each tile is the key frame of its time as ffmpeg decodes it."""
import math
import os
import re

import media_corpus
import support
from support import clip, path_of, run
from test_browser import corpus

CUE = re.compile(r"\n(\d\d+):(\d\d):(\d\d)\.(\d{3}) --> (\d\d+):(\d\d):(\d\d)\.(\d{3})\n(storyboard-\d+\.jpg)#xywh=(\d+),(\d+),(\d+),(\d+)\n")
RGB = 3
ALIKE_DB = 21


def clock(hours, minutes, seconds, milliseconds):
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(milliseconds)


def raw(*arguments, **kwargs):
    result = run("ffmpeg", "-nostdin", "-v", "error", *arguments, "-f", "rawvideo", "-pix_fmt", "rgb24", "-", **kwargs)
    assert result.returncode == 0, result.stderr
    return result.stdout


def likeness(a, b):
    """PSNR of two pictures, by every seventh byte."""
    a, b = a[::7], b[::7]
    error = sum((x - y) ** 2 for x, y in zip(a, b)) / len(a)
    return 10 * math.log10(255 ** 2 / error) if error else 99.0


class Storyboard(support.DaemonCase):
    settings = {"playback.default_policy": "signed"}

    def cues(self, asset):
        """[(from ms, to ms, sheet, (x, y, w, h))]"""
        response = self.anonymous.get(path_of(asset["playback"]["storyboard"]))
        self.assertEqual((response.status, response.header("Content-Type").split(";")[0]), (200, "text/vtt"))
        text = response.body.decode()
        self.assertEqual(CUE.sub("", text), "WEBVTT\n")
        return [(clock(*c[:4]), clock(*c[4:8]), c[8], tuple(int(v) for v in c[9:])) for c in CUE.findall(text)]

    def sheet(self, asset, name):
        """(width, height, RGB bytes)"""
        response = self.anonymous.get(path_of(asset["playback"]["storyboard"]).rpartition("/")[0] + "/" + name)
        self.assertEqual((response.status, response.header("Content-Type")), (200, "image/jpeg"), response.body[:300])
        path = os.path.join(self.daemon.dir, name)
        with open(path, "wb") as file:
            file.write(response.body)
        probe = run("ffprobe", "-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0", path)
        width, height = (int(v) for v in probe.stdout.decode().strip().split(","))
        return width, height, raw("-i", path)

    def tiles(self, asset):
        """[(from ms, to ms, RGB bytes, width, height)]; every cue lies on its sheet, after the one before."""
        sheets, found, at = {}, [], 0
        for number, (begin, end, name, (x, y, w, h)) in enumerate(self.cues(asset)):
            self.assertEqual(begin, at)
            self.assertGreater(end, begin)
            at = end
            if name not in sheets:
                sheets[name] = self.sheet(asset, name)
            width, height, pixels = sheets[name]
            self.assertEqual((name, x, y), (f"storyboard-{number // 100}.jpg", number % 10 * w, number // 10 % 10 * h))
            self.assertLessEqual((x + w, y + h), (width, height))
            rows = [pixels[((y + row) * width + x) * RGB:((y + row) * width + x + w) * RGB] for row in range(h)]
            found.append((begin, end, b"".join(rows), w, h))
        self.assertEqual(at, round(asset["duration"] * 1000))
        return found

    def check(self, path, asset):
        tiles = self.tiles(asset)
        w, h = tiles[0][3:]
        size = w * h * RGB
        pixels = raw("-i", path, "-an", "-vf", f"scale={w}:{h}:flags=area", "-fps_mode", "passthrough")
        times = [t for t, *_ in media_corpus.frames(path, path, "v:0")[0]]
        self.assertEqual(len(pixels), len(times) * size)
        packets = run("ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0", path)
        keys = [float(line.split(",")[0]) for line in packets.stdout.decode().split() if re.search(r",K_", line)]
        # Where an edit list hides the first key frame, the first frame that is shown stands for it.
        keys = sorted({min(range(len(times)), key=lambda i: abs(times[i] - key)) for key in keys} | {0})
        for begin, end, picture, *_ in tiles:
            middle = (begin + (tiles[0][1] - tiles[0][0] if len(tiles) > 1 else 2000) / 2) / 1000
            want = max((i for i in keys if times[i] <= middle + 0.0005), default=0)
            alike = {i: likeness(picture, pixels[i * size:(i + 1) * size]) for i in keys}
            best = max(alike, key=alike.get)
            said = f"the tile of {begin} to {end} ms: frame {want} {alike[want]:.1f} dB, frame {best} {alike[best]:.1f} dB"
            # Saturated colours at half the resolution, encoded anew: a neighbour of the frame comes to 18 dB.
            self.assertGreater(alike[want], ALIKE_DB, said)
            self.assertEqual(alike[want], alike[best], said)

    def test_tiles_are_the_key_frames_of_their_times(self):
        for name in ("bframes", "opengop", "editlist", "edit-end", "vfr", "rotate90", "rotate180", "sar", "noaudio", "fragmented",
                     "oneframe", "longgop", "shortgop", "hevc", "hevc-hev1", "video-late", "audio-longer"):
            with self.subTest(clip=name):
                path = corpus(name)
                self.check(path, self.uploaded(path))

    def test_several_sheets(self):
        path = corpus("tenminutes")
        asset = self.uploaded(path)
        cues = self.cues(asset)
        self.assertEqual({name for _, _, name, _ in cues}, {f"storyboard-{i}.jpg" for i in range(3)})
        tiles = self.tiles(asset)
        self.assertEqual(len(tiles), len(cues))
        # The middle of a late one, beside the frame of its time.
        begin, _, picture, w, h = tiles[250]
        frame = raw("-ss", str(begin / 1000), "-i", path, "-frames:v", "1", "-vf", f"scale={w}:{h}:flags=area")
        self.assertGreater(likeness(picture, frame), ALIKE_DB)
        other = raw("-ss", str(begin / 1000 + 30), "-i", path, "-frames:v", "1", "-vf", f"scale={w}:{h}:flags=area")
        self.assertLess(likeness(picture, other), likeness(picture, frame))

    def test_gate_caching_and_refusals(self):
        asset = self.uploaded(clip("bframes"))
        path = path_of(asset["playback"]["storyboard"])
        base = path.rpartition("/")[0]
        builds = self.daemon.metric("stream_builds_total", kind="storyboard")
        first, again = self.anonymous.get(f"{base}/storyboard-0.jpg"), self.anonymous.get(f"{base}/storyboard-0.jpg")
        self.assertEqual((first.status, first.body), (200, again.body))
        self.assertEqual(self.daemon.metric("stream_builds_total", kind="storyboard"), builds + 1)
        for url in (path, f"{base}/storyboard-0.jpg"):
            got = self.anonymous.get(url)
            self.assertEqual(self.anonymous.get(url, headers={"If-None-Match": got.header("ETag")}).status, 304)
            self.assertIn("private", got.header("Cache-Control"))
            self.assertProblem(self.anonymous.get(re.sub("/~[^/]*", "", url)), 401)
        for name in ("storyboard-1.jpg", "storyboard-00.jpg", "storyboard-x.jpg", "storyboard--1.jpg", "storyboard-4294967296.jpg"):
            self.assertProblem(self.anonymous.get(f"{base}/{name}"), 404)
        audio = self.uploaded(clip("audio-only"))
        self.assertIsNone(audio["playback"]["storyboard"])
        base = path_of(audio["playback"]["hls"]).rpartition("/")[0]
        self.assertProblem(self.anonymous.get(f"{base}/storyboard.vtt"), 404)
        self.assertProblem(self.anonymous.get(f"{base}/storyboard-0.jpg"), 404)


class Ahead(support.DaemonCase):
    """The job makes what is asked for later: nothing is built any more then."""
    settings = {"playback.default_policy": "public"}

    def thumbnails(self, asset_id):
        response = self.admin.request("POST", "/api/v1/jobs", body={"type": "thumbnails", "payload": {"asset_id": asset_id}})
        self.assertEqual(response.status, 202, response.body)
        path = f"/api/v1/jobs/{response.json()['id']}"
        return support.eventually(lambda: (j := self.admin.get(path).json())["state"] in ("done", "failed", "dead") and j, 60, "the job")

    def test_made_ahead(self):
        asset = self.uploaded(clip("short"))
        job = self.thumbnails(asset["id"])
        self.assertEqual((job["state"], job["result"]["posters"]), ("done", 1), job)
        builds = {kind: self.daemon.metric("stream_builds_total", kind=kind) for kind in ("poster", "storyboard")}
        base = path_of(asset["playback"]["poster"]).rpartition("/")[0]
        self.assertEqual(self.anonymous.get(f"{base}/poster.jpg").body[:2], b"\xff\xd8")
        for n in range(job["result"]["sheets"]):
            self.assertEqual(self.anonymous.get(f"{base}/storyboard-{n}.jpg").status, 200)
        self.assertEqual({kind: self.daemon.metric("stream_builds_total", kind=kind) for kind in builds}, builds)

    def test_nothing_to_make(self):
        self.assertEqual(self.thumbnails("01ARZ3NDEKTSV4RRFFQ69G5FAV")["state"], "failed")
        response = self.admin.request("POST", "/api/v1/jobs", body={"type": "thumbnails", "payload": {"asset": 1}})
        self.assertEqual(self.assertProblem(response, 400)["field"], "payload")


if __name__ == "__main__":
    support.main()
