"""Playback: playlists, segments, pictures, the source."""
import hashlib
import os
import re

import support
from support import clip, path_of, run


def playlist(client, path):
    response = client.get(path)
    assert response.status == 200, (path, response.status, response.body[:300])
    assert response.header("Content-Type") == "application/vnd.apple.mpegurl", response.header("Content-Type")
    return response.body.decode().splitlines()


def segments(lines):
    """[(duration, uri)] of a media playlist."""
    found, duration = [], None
    for line in lines:
        if line.startswith("#EXTINF:"):
            duration = float(line[8:].split(",")[0])
        elif line and not line.startswith("#"):
            found.append((duration, line))
    return found


class Streaming(support.DaemonCase):
    settings = {"playback.default_policy": "public"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.assets = {}

    def asset(self, name):
        if name not in self.assets:
            self.assets[name] = self.uploaded(clip(name))
        return self.assets[name]

    def base(self, asset):
        return f"/stream/{asset['id']}"

    def url(self, path):
        return f"http://127.0.0.1:{self.daemon.port}{path}"

    def packets(self, url, stream):
        """[(pts, dts, duration)] in seconds of a stream of a file or playlist."""
        result = run("ffprobe", "-v", "error", "-select_streams", stream, "-show_entries",
                     "packet=pts_time,dts_time,duration_time", "-of", "csv=p=0", url)
        self.assertEqual(result.returncode, 0, result.stderr)
        return [tuple(float(x) if x not in ("N/A", "") else None for x in line.split(",")[:3])
                for line in result.stdout.decode().split() if line]

    def test_both_forms_decode_without_a_warning(self):
        for name in ("bframes", "moov-at-end", "silent", "audio-only"):
            for form in ("hls", "hls_ts"):
                with self.subTest(clip=name, form=form):
                    url = self.asset(name)["playback"][form]
                    result = run("ffmpeg", "-nostdin", "-v", "warning", "-i", url, "-map", "0", "-f", "null", "-")
                    self.assertEqual((result.returncode, result.stderr.decode()), (0, ""))

    def test_every_segment_decodes(self):
        base = self.base(self.asset("bframes"))
        for track in ("original", "audio"):
            init = self.anonymous.get(f"{base}/{track}/init.mp4")
            self.assertEqual(init.header("Content-Type"), "video/mp4" if track == "original" else "audio/mp4")
            for _, uri in segments(playlist(self.anonymous, f"{base}/{track}/index.m3u8")):
                body = init.body + self.anonymous.get(f"{base}/{track}/{uri}").body
                result = run("ffmpeg", "-nostdin", "-v", "warning", "-i", "-", "-f", "null", "-", input=body)
                self.assertEqual((result.returncode, result.stderr.decode()), (0, ""), f"{track}/{uri}")

    def test_playlists_are_exact(self):
        for name in ("bframes", "silent", "audio-only"):
            with self.subTest(clip=name):
                asset = self.asset(name)
                base = self.base(asset)
                main = "audio" if name == "audio-only" else "original"
                lines = playlist(self.anonymous, f"{base}/{main}/index.m3u8")
                self.assertEqual(lines[0], "#EXTM3U")
                self.assertEqual(lines[-1], "#EXT-X-ENDLIST")
                self.assertIn("#EXT-X-PLAYLIST-TYPE:VOD", lines)
                parts = segments(lines)
                target = int(next(l for l in lines if l.startswith("#EXT-X-TARGETDURATION:")).split(":")[1])
                self.assertLessEqual(max(round(d) for d, _ in parts), target)
                init = self.anonymous.get(f"{base}/{main}/init.mp4").body
                ends = None
                for duration, uri in parts:
                    body = init + self.anonymous.get(f"{base}/{main}/{uri}").body
                    path = os.path.join(self.daemon.dir, "segment.mp4")
                    with open(path, "wb") as file:
                        file.write(body)
                    packets = self.packets(path, "0")
                    step = 1 / 30 if main == "original" else 1024 / 48000
                    begin = min(p[0] for p in packets)
                    end = max(p[0] + (p[2] or step) for p in packets)
                    # EXTINF is the samples' own sum, to the precision it is printed with.
                    self.assertAlmostEqual(end - begin, duration, delta=0.002, msg=uri)
                    if ends is not None:
                        self.assertAlmostEqual(begin, ends, delta=step, msg=f"gap or overlap before {uri}")
                    ends = end
                total = sum(d for d, _ in parts)
                self.assertAlmostEqual(total, asset["duration"], delta=0.05)

    def test_master(self):
        base = self.base(self.asset("bframes"))
        for form in ("master.m3u8", "master-ts.m3u8"):
            lines = playlist(self.anonymous, f"{base}/{form}")
            self.assertEqual(lines[0], "#EXTM3U")
            self.assertIn("#EXT-X-INDEPENDENT-SEGMENTS", lines)
            variant = next(l for l in lines if l.startswith("#EXT-X-STREAM-INF:"))
            attributes = dict(re.findall(r'([A-Z-]+)=("[^"]*"|[^,]*)', variant.split(":", 1)[1]))
            self.assertEqual(attributes["RESOLUTION"], "640x360")
            self.assertRegex(attributes["CODECS"], r'^"avc1\.[0-9a-fA-F]{6},mp4a\.40\.2"$')
            self.assertAlmostEqual(float(attributes["FRAME-RATE"]), 30, delta=0.01)
            self.assertGreaterEqual(int(attributes["BANDWIDTH"]), int(attributes["AVERAGE-BANDWIDTH"]))
            # Measured from the segments.
            index = "original/index.m3u8" if form == "master.m3u8" else "original/index-ts.m3u8"
            peak = self.peak(base, "original", index)
            if form == "master.m3u8":
                peak += self.peak(base, "audio", "audio/index.m3u8")
            self.assertAlmostEqual(int(attributes["BANDWIDTH"]), peak, delta=peak * 0.005)
            uri = lines[lines.index(variant) + 1]
            self.assertEqual(self.anonymous.get(f"{base}/{uri}").status, 200)
            if form == "master.m3u8":
                media = next(l for l in lines if l.startswith("#EXT-X-MEDIA:"))
                self.assertIn("TYPE=AUDIO", media)
                self.assertIn("AUDIO", attributes)

    def peak(self, base, track, index):
        """RFC 8216, 4.3.4.2: the largest rate of contiguous segments that last 0.5 to 1.5 target durations."""
        lines = playlist(self.anonymous, f"{base}/{index}")
        target = int(next(l for l in lines if l.startswith("#EXT-X-TARGETDURATION:")).split(":")[1])
        parts = [(len(self.anonymous.get(f"{base}/{track}/{uri}").body) * 8, duration) for duration, uri in segments(lines)]
        rates = []
        for first in range(len(parts)):
            for last in range(first + 1, len(parts) + 1):
                bits, seconds = (sum(x) for x in zip(*parts[first:last]))
                if 0.5 * target <= seconds <= 1.5 * target:
                    rates.append(bits / seconds)
        return max(rates)

    def test_segments_are_deterministic_and_cached(self):
        base = self.base(self.asset("moov-at-end"))
        path = f"{base}/original/seg-1.m4s"
        first, second = self.anonymous.get(path), self.anonymous.get(path)
        self.assertEqual(first.body, second.body)
        self.assertEqual(first.header("ETag"), second.header("ETag"))
        self.assertIn("immutable", first.header("Cache-Control"))
        head = self.anonymous.request("HEAD", path)
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(int(head.header("Content-Length")), len(first.body))
        self.assertEqual(self.anonymous.get(path, headers={"If-None-Match": first.header("ETag")}).status, 304)
        part = self.anonymous.get(path, headers={"Range": "bytes=10-19"})
        self.assertEqual((part.status, part.body), (206, first.body[10:20]))

    def test_what_is_not_there(self):
        base = self.base(self.asset("silent"))
        for path in ("original/seg-9999.m4s", "original/seg-.m4s", "original/seg--1.m4s", "original/seg-00.m4s",
                     "original/seg-4294967296.m4s", "original/seg-18446744073709551616.ts", "audio/init.mp4",
                     "audio/index.m3u8", "nothing/index.m3u8", "original/seg-0.mkv", "original", "poster.png",
                     "original/seg-0.m4s/x", "../../admin.key", "%2e%2e/%2e%2e/admin.key"):
            self.assertProblem(self.anonymous.get(f"{base}/{path}"), (400, 404))
        self.assertProblem(self.anonymous.get("/stream/01ARZ3NDEKTSV4RRFFQ69G5FAV/master.m3u8"), (401, 404))

    def test_a_form_that_is_not_offered(self):
        """Opus has no place in MPEG-TS: the asset does not promise that form, and asking for it says so."""
        def make(path):
            support.ffmpeg(*support.source(4), *support.VIDEO, "-g", "60", "-c:a", "libopus", "-b:a", "64k",
                           "-strict", "-2", "-f", "mp4", path)
        asset = self.uploaded(support.made("opus.mp4", make))
        self.assertIsNone(asset["playback"]["hls_ts"])
        base = self.base(asset)
        for path in ("master-ts.m3u8", "original/index-ts.m3u8", "original/seg-0.ts", "audio/index-ts.m3u8",
                     "audio/seg-0.ts"):
            problem = self.assertProblem(self.anonymous.get(f"{base}/{path}"), 404, "not-found")
            self.assertEqual(problem["detail"], "the MPEG-TS form is not offered for this source", path)
        self.assertIn("master.m3u8", asset["playback"]["hls"])
        for path in ("master.m3u8", "original/index.m3u8", "original/seg-0.m4s", "audio/seg-0.m4s"):
            self.assertEqual(self.anonymous.get(f"{base}/{path}").status, 200, path)

    def test_cors_for_players(self):
        base = self.base(self.asset("silent"))
        response = self.anonymous.get(f"{base}/master.m3u8", headers={"Origin": "https://player.example"})
        self.assertEqual(response.header("Access-Control-Allow-Origin"), "*")
        response = self.anonymous.request("OPTIONS", f"{base}/original/seg-0.m4s", headers={
            "Origin": "https://player.example", "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "range"})
        self.assertIn(response.status, (200, 204))
        self.assertEqual(response.header("Access-Control-Allow-Origin"), "*")
        self.assertIn("range", (response.header("Access-Control-Allow-Headers") or "").lower())

    def picture(self, body):
        path = os.path.join(self.daemon.dir, "poster.jpg")
        with open(path, "wb") as file:
            file.write(body)
        result = run("ffprobe", "-v", "error", "-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0", path)
        return result.stdout.decode().strip()

    def test_poster(self):
        base = self.base(self.asset("bframes"))
        first = self.anonymous.get(f"{base}/poster.jpg")
        self.assertEqual(first.header("Content-Type"), "image/jpeg")
        self.assertEqual(self.picture(first.body), "mjpeg,640,360")
        self.assertEqual(self.picture(self.anonymous.get(f"{base}/poster.jpg?w=320").body), "mjpeg,320,180")
        self.assertEqual(self.picture(self.anonymous.get(f"{base}/poster.jpg?w=4000").body), "mjpeg,640,360")
        late = self.anonymous.get(f"{base}/poster.jpg?t=10&w=320")
        self.assertEqual(late.status, 200)
        self.assertNotEqual(late.body, self.anonymous.get(f"{base}/poster.jpg?t=0&w=320").body)
        end = self.anonymous.get(f"{base}/poster.jpg?t=20")
        for beyond in ("20.5", "99999", "4294967"):
            self.assertEqual(self.anonymous.get(f"{base}/poster.jpg?t={beyond}").body, end.body)
        never = self.anonymous.get(f"{base}/poster.jpg?t=4294968")
        self.assertProblem(never, 400)
        self.assertIn(b"at most 4294967", never.body)
        for bad in ("w=0", "w=x", "t=-1", "w=99999999", "t=nan", "w=1&w=2"):
            self.assertProblem(self.anonymous.get(f"{base}/poster.jpg?{bad}"), 400)
        self.assertProblem(self.anonymous.get(f"{self.base(self.asset('audio-only'))}/poster.jpg"), (404, 415, 422))

    def test_source(self):
        path = clip("bframes")
        with open(path, "rb") as file:
            whole = file.read()
        url = f"{self.base(self.asset('bframes'))}/source"
        response = self.anonymous.get(url)
        self.assertEqual(hashlib.sha256(response.body).digest(), hashlib.sha256(whole).digest())
        self.assertEqual(response.header("Accept-Ranges"), "bytes")
        etag, modified, size = response.header("ETag"), response.header("Last-Modified"), len(whole)
        head = self.anonymous.request("HEAD", url)
        self.assertEqual((head.status, head.body, int(head.header("Content-Length"))), (200, b"", size))

        def ranged(value, **headers):
            return self.anonymous.get(url, headers={"Range": value, **headers})
        for value, start, end in (("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), (f"bytes={size - 1}-", size - 1, size),
                                  ("bytes=-10", size - 10, size), (f"bytes=5-{size * 2}", 5, size),
                                  (f"bytes=-{size * 2}", 0, size), ("bytes=10-18446744073709551615", 10, size)):
            part = ranged(value)
            self.assertEqual((part.status, part.body), (206, whole[start:end]), value)
            self.assertEqual(part.header("Content-Range"), f"bytes {start}-{end - 1}/{size}")
        for value in (f"bytes={size}-", "bytes=-0", f"bytes={size + 5}-{size + 9}"):
            refused = ranged(value)
            self.assertProblem(refused, 416)
            self.assertEqual(refused.header("Content-Range"), f"bytes */{size}")
        for value in ("bytes=5-1", "bytes=x", "octets=0-1", "bytes=", "bytes=0x1-2", "bytes=+1-2", "bytes=1 - 2"):
            self.assertIn(ranged(value).status, (200, 400), value)
        self.assertEqual(ranged("bytes=0-9", **{"If-Range": etag}).status, 206)
        self.assertEqual(ranged("bytes=0-9", **{"If-Range": modified}).status, 206)
        self.assertEqual(ranged("bytes=0-9", **{"If-Range": '"other"'}).status, 200)

    def test_source_multipart(self):
        with open(clip("bframes"), "rb") as file:
            whole = file.read()
        url = f"{self.base(self.asset('bframes'))}/source"
        response = self.anonymous.get(url, headers={"Range": "bytes=0-9,100-149,-5"})
        self.assertEqual(response.status, 206)
        match = re.match(r"multipart/byteranges; ?boundary=\"?([^\"]+)\"?$", response.header("Content-Type"))
        boundary = match.group(1).encode()
        parts = response.body.split(b"--" + boundary)
        self.assertEqual(parts[-1].strip(), b"--")
        bodies = []
        for part in parts[1:-1]:
            head, _, body = part.partition(b"\r\n\r\n")
            self.assertIn(b"content-range: bytes ", head.lower())
            bodies.append(body[:-2])
        self.assertEqual(bodies, [whole[0:10], whole[100:150], whole[-5:]])
        self.assertEqual(len(response.body), int(response.header("Content-Length")))
        many = ",".join(f"{i * 2}-{i * 2}" for i in range(2000))
        self.assertIn(self.anonymous.get(url, headers={"Range": "bytes=" + many}).status, (200, 400, 416, 431))


if __name__ == "__main__":
    support.main()
