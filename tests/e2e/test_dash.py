"""DASH: the manifest over HTTP says what the segments hold, and ffmpeg decodes through it what it decodes from the source."""
import os
import re
import tempfile
import xml.etree.ElementTree as xml

import media_corpus
import support
from media_corpus import OFFSET_S
from support import clip, path_of, run
from test_browser import corpus

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
TYPE = "application/dash+xml"


def seconds(duration):
    return float(re.fullmatch(r"PT([0-9]+\.[0-9]{6})S", duration).group(1))


def child(element, name):
    found = element.findall(MPD + name)
    assert len(found) == 1, (element.tag, name, len(found))
    return found[0]


def timeline(template):
    """[(start, duration)] in seconds of the presentation."""
    scale, offset = int(template.get("timescale")), int(template.get("presentationTimeOffset"))
    found, at = [], None
    for s in child(template, "SegmentTimeline"):
        at = int(s.get("t")) if s.get("t") is not None else at
        for _ in range(int(s.get("r", "0")) + 1):
            found.append(((at - offset) / scale, int(s.get("d")) / scale))
            at += int(s.get("d"))
    return found


class Dash(support.DaemonCase):
    # Signed: the token travels in the path, so every URL below the manifest carries it.
    settings = {"playback.default_policy": "signed"}

    def manifest(self, asset):
        response = self.anonymous.get(path_of(asset["playback"]["dash"]))
        self.assertEqual((response.status, response.header("Content-Type")), (200, TYPE), response.body[:300])
        return xml.fromstring(response.body), response

    def sets(self, asset):
        """[(adaptation set, template, representation, URLs of its segments)]"""
        base = path_of(asset["playback"]["dash"]).rpartition("/")[0]
        found = []
        for one in child(self.manifest(asset)[0], "Period").findall(MPD + "AdaptationSet"):
            template, representation = child(one, "SegmentTemplate"), child(one, "Representation")
            name, first = representation.get("id"), int(template.get("startNumber"))

            def url(pattern, number=0, name=name):
                return f"{base}/" + pattern.replace("$RepresentationID$", name).replace("$Number$", str(number))
            urls = [url(template.get("media"), first + i) for i in range(len(timeline(template)))]
            found.append((one, template, representation, [url(template.get("initialization")), *urls]))
        return found

    def test_ffmpeg_decodes_what_the_source_holds(self):
        names = ("bframes", "reorder3", "opengop", "editlist", "vfr", "rotate90", "sar", "noaudio", "audioonly", "fragmented",
                 "audio-late", "video-late", "audio-longer", "audio-shorter", "oneframe", "hevc", "cd-audio", "opus", "ntsc-film",
                 "two-audio", "start-gap", "slides-keys", "slides-editlist")
        for name in names:
            with self.subTest(clip=name):
                path = corpus(name)
                asset = self.uploaded(path)
                kinds = media_corpus.kinds(path)
                for kind, word in (("v", "video"), ("a", "audio")):
                    for number in range(kinds.count(word)):
                        want = media_corpus.frames(name, path, f"{kind}:{number}")[0]
                        got, said, status = media_corpus.frames(name, asset["playback"]["dash"], f"{kind}:{number}")
                        self.assertEqual((status, said), (0, ""))
                        del media_corpus.failures[:]
                        media_corpus.compare(name, "dash", kind, want, got)
                        self.assertEqual(media_corpus.failures, [])
                        if kind == "v":
                            self.assertEqual(len(media_corpus.shown(got)), len(want))

    def test_says_what_the_segments_hold(self):
        for source in (clip("bframes"), clip("silent"), clip("audio-only"), corpus("two-audio"), corpus("ntsc-film")):
            with self.subTest(clip=os.path.basename(source)):
                self.check_segments(self.uploaded(source))

    def check_segments(self, asset):
        root, _ = self.manifest(asset)
        self.assertEqual((root.get("type"), root.get("profiles")), ("static", "urn:mpeg:dash:profile:isoff-live:2011"))
        self.assertAlmostEqual(seconds(root.get("mediaPresentationDuration")), asset["duration"], delta=0.001)
        buffer_s, end = seconds(root.get("minBufferTime")), 0
        for one, template, representation, urls in self.sets(asset):
            bodies = [self.anonymous.get(url) for url in urls]
            self.assertEqual([r.status for r in bodies], [200] * len(urls))
            self.assertEqual({r.header("Content-Type") for r in bodies}, {one.get("mimeType")})
            for number, ((start, duration), body) in enumerate(zip(timeline(template), bodies[1:])):
                with tempfile.NamedTemporaryFile(suffix=".mp4", dir=self.daemon.dir) as file:
                    file.write(bodies[0].body + body.body)
                    file.flush()
                    packets = [p for p in media_corpus.packets(file.name, one.get("contentType")[0])[0] if p[0] is not None]
                step = 1 / 20
                self.assertAlmostEqual(min(p[0] for p in packets) - OFFSET_S, start, delta=0.001, msg=number)
                self.assertAlmostEqual(max(p[0] + (p[2] or 0) for p in packets) - OFFSET_S, start + duration, delta=step, msg=number)
                end = max(end, start + duration)
            # At this rate, after the wait, each segment is there when it is due.
            rate, spans = int(representation.get("bandwidth")), timeline(template)
            for first in range(len(spans)):
                bits = 0
                for (start, _), body in list(zip(spans, bodies[1:]))[first:]:
                    bits += len(body.body) * 8
                    self.assertLessEqual(bits / rate, buffer_s + start - spans[first][0] + 0.001)
        self.assertAlmostEqual(seconds(root.get("mediaPresentationDuration")), end, delta=0.001)

    def test_attributes(self):
        (video, _, picture, _), (audio, _, sound, _) = self.sets(self.uploaded(clip("bframes")))
        self.assertEqual([video.get("contentType"), audio.get("contentType")], ["video", "audio"])
        self.assertEqual({k: picture.get(k) for k in ("id", "width", "height", "sar", "frameRate")},
                         {"id": "original", "width": "640", "height": "360", "sar": "1:1", "frameRate": "30"})
        self.assertRegex(picture.get("codecs"), r"^avc1\.[0-9a-f]{6}$")
        self.assertEqual((sound.get("codecs"), sound.get("audioSamplingRate")), ("mp4a.40.2", "48000"))
        self.assertEqual(child(sound, "AudioChannelConfiguration").get("value"), "1")
        languages = [(one.get("lang"), child(one, "Role").get("value"))
                     for one, *_ in self.sets(self.uploaded(corpus("two-audio"))) if one.get("contentType") == "audio"]
        self.assertEqual(languages, [("en", "main"), ("de", "alternate")])

    def test_is_well_formed(self):
        for source in (clip("bframes"), clip("audio-only"), corpus("two-audio")):
            _, response = self.manifest(self.uploaded(source))
            result = run("xmllint", "--noout", "--nonet", "-", input=response.body)
            self.assertEqual((result.returncode, result.stderr), (0, b""))

    def test_gate_and_caching(self):
        asset = self.uploaded(clip("bframes"))
        path = path_of(asset["playback"]["dash"])
        builds = self.daemon.metric("stream_builds_total", kind="master")
        requests = self.daemon.metric("stream_requests_total", kind="master")
        first, again = self.anonymous.get(path), self.anonymous.get(path)
        self.assertEqual(first.body, again.body)
        self.assertLessEqual(self.daemon.metric("stream_builds_total", kind="master"), builds + 1)
        self.assertEqual(self.daemon.metric("stream_requests_total", kind="master"), requests + 2)
        self.assertIn("private", first.header("Cache-Control"))
        self.assertNotIn(b"~", first.body)
        self.assertNotIn(b"://", re.sub(rb'(xmlns|schemeIdUri|profiles)="[^"]*"', b"", first.body))
        unchanged = self.anonymous.get(path, headers={"If-None-Match": first.header("ETag")})
        self.assertEqual((unchanged.status, unchanged.body), (304, b""))
        head = self.anonymous.request("HEAD", path)
        self.assertEqual((head.status, head.body, int(head.header("Content-Length"))), (200, b"", len(first.body)))
        self.assertProblem(self.anonymous.get(f"/stream/{asset['id']}/manifest.mpd"), 401)
        self.assertProblem(self.anonymous.get(path.replace("/~", "/~x")), 401)
        other = self.uploaded(clip("short"))
        self.assertProblem(self.anonymous.get(path.replace(asset["id"], other["id"])), 403)
        self.assertProblem(self.anonymous.get("/stream/01ARZ3NDEKTSV4RRFFQ69G5FAV/manifest.mpd"), 404)
        self.admin.request("DELETE", f"/api/v1/assets/{asset['id']}")
        self.assertProblem(self.anonymous.get(path), 404)


if __name__ == "__main__":
    support.main()
