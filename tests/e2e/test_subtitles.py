"""Subtitles: files of all kinds become WebVTT, texts in films are extracted, and players show each cue at its time."""
import json
import os
import re
import tempfile

import media_corpus
import unittest

import support
import test_browser
from support import clip, eventually, made, path_of, run

SRT = "1\n00:00:01,000 --> 00:00:02,500\n<i>Hello</i> & you\n\n2\n00:00:03,000 --> 00:00:04,200\nSecond\nline\n"
VTT = "WEBVTT\n\nSTYLE\n::cue {}\n\n00:01.000 --> 00:02.500 line:0\n<v Fred>Hi\n\n00:03.000 --> 00:04.200\nthere\n"
ASS = """[Script Info]
ScriptType: v4.00+

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\an8\\b1}Hello{\\b0}\\Nyou
Dialogue: 0,0:00:03.00,0:00:04.20,Default,,0,0,0,,{\\p1}m 0 0 l 1 1{\\p0}Second, too
"""
TIMES = [(1.0, 2.5), (3.0, 4.2)]


def cues(text):
    """[(start, end, settings, text)] of canonical WebVTT, or of a segment of it."""
    found = []
    for block in text.split("\n\n")[1:]:
        line, _, rest = block.partition("\n")
        start, end, settings = re.fullmatch(r"(\S+) --> (\S+)(?: (.*))?", line).groups()
        found.append((*(sum(float(p) * 60 ** i for i, p in enumerate(reversed(t.split(":")))) for t in (start, end)),
                      settings or "", rest.rstrip("\n")))
    return found


def long_film(path):
    run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=130", "-f", "lavfi", "-i", "sine=d=130",
        "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "50", "-c:a", "aac", "-shortest", "-f", "mp4", "-y", path, check=True)


def with_texts(container, codec):
    def make(path):
        with tempfile.TemporaryDirectory(prefix="streamgate-clip-") as scratch:
            names = []
            for number, text in enumerate((SRT, SRT.replace("Second", "Zweite"), SRT.replace("Second", "Forced"))):
                names.append(os.path.join(scratch, f"{number}.srt"))
                with open(names[-1], "w", encoding="utf-8") as file:
                    file.write(text)
            run("ffmpeg", "-v", "error", "-i", clip("bframes"), *(w for name in names for w in ("-i", name)),
                "-map", "0", "-map", "1", "-map", "2", "-map", "3", "-c:v", "copy", "-c:a", "copy", "-c:s", codec,
                "-metadata:s:s:0", "language=eng", "-metadata:s:s:1", "language=ger", "-metadata:s:s:2", "language=eng",
                "-metadata:s:s:1", "title=Deutsch", "-disposition:s:2", "forced", "-f", container, "-y", path, check=True)
    return made(f"texts-bibliographic-{codec}.{'mp4' if container == 'mp4' else 'mkv'}", make)


class Subtitles(support.DaemonCase):
    # Signed: the token travels in the path, so every URL below the playlist carries it.
    settings = {"playback.default_policy": "signed"}
    seen = test_browser.Browser.seen

    def put(self, asset, lang, body, query="", client=None):
        body = body.encode() if isinstance(body, str) else body
        return (client or self.admin).request("PUT", f"/api/v1/assets/{asset['id']}/subtitles/{lang}{query}", body=body)

    def again(self, asset):
        return self.admin.get(f"/api/v1/assets/{asset['id']}").json()

    def text(self, asset, lang):
        base = path_of(self.again(asset)["playback"]["source"]).rpartition("/")[0]
        return self.anonymous.get(f"{base}/subs/{lang}.vtt")

    def test_files_become_webvtt(self):
        asset = self.uploaded(clip("bframes"))
        for number, (lang, body) in enumerate((("en", SRT), ("de", VTT), ("fr", ASS), ("pt-br", "\ufeff" + SRT),
                                               ("ja", ("\ufeff" + SRT).encode("utf-16-le")))):
            with self.subTest(lang=lang):
                response = self.put(asset, lang, body, "?label=A%20%22label%22&kind=captions" if number == 1 else "")
                self.assertEqual(response.status, 201, response.body)
                track = response.json()
                self.assertEqual((track["cues"], track["source"]), (2, "sidecar"))
                self.assertEqual(track["language"], "pt-BR" if lang == "pt-br" else lang)
                self.assertEqual((track["label"], track["kind"]),
                                 ('A "label"', "captions") if number == 1 else ("", "subtitles"))
                got = self.anonymous.get(path_of(track["url"]))
                self.assertEqual((got.status, got.header("Content-Type")), (200, "text/vtt"))
                self.assertEqual([c[:2] for c in cues(got.body.decode())], TIMES)
                self.assertEqual(len(got.body), track["size"])
        self.assertEqual(cues(self.text(asset, "en").body.decode())[0][3], "<i>Hello</i> &amp; you")
        self.assertEqual(cues(self.text(asset, "de").body.decode())[0][2:], ("line:0", "<v Fred>Hi</v>"))
        self.assertEqual([c[3] for c in cues(self.text(asset, "fr").body.decode())], ["<b>Hello</b>\nyou", "Second, too"])
        listed = self.admin.get(f"/api/v1/assets/{asset['id']}/subtitles").json()["items"]
        self.assertEqual([t["language"] for t in listed], ["de", "en", "fr", "ja", "pt-BR"])
        self.assertEqual([t["language"] for t in self.again(asset)["subtitles"]], ["de", "en", "fr", "ja", "pt-BR"])
        # ffmpeg reads each as it is.
        shown = run("ffprobe", "-v", "error", "-of", "json", "-show_packets", listed[1]["url"])
        self.assertEqual([float(p["pts_time"]) for p in json.loads(shown.stdout)["packets"]], [t[0] for t in TIMES])

    def test_changes_show_at_once(self):
        asset = self.uploaded(clip("short"))
        master, dash = path_of(asset["playback"]["hls"]), path_of(asset["playback"]["dash"])
        before = self.anonymous.get(master)
        self.assertNotIn(b"SUBTITLES", before.body)
        self.assertEqual(self.put(asset, "en", SRT, "?default=true&label=English").status, 201)
        self.assertEqual(self.put(asset, "de", SRT, "?default=true&forced=true").status, 201)
        after = self.anonymous.get(master)
        self.assertNotEqual(before.header("ETag"), after.header("ETag"))
        lines = [l for l in after.body.decode().splitlines() if "TYPE=SUBTITLES" in l]
        self.assertEqual(len(lines), 2)
        self.assertIn('NAME="de",LANGUAGE="de",DEFAULT=YES,AUTOSELECT=YES,FORCED=YES', lines[0])
        self.assertIn('NAME="English",LANGUAGE="en",DEFAULT=NO', lines[1])
        self.assertTrue(all('SUBTITLES="subs"' in l for l in after.body.decode().splitlines() if l.startswith("#EXT-X-STREAM-INF")))
        self.assertIn(b"subs/en.vtt", self.anonymous.get(dash).body)
        version = self.again(asset)["version"]
        patched = self.admin.request("PATCH", f"/api/v1/assets/{asset['id']}/subtitles/en",
                                     {"label": "English (CC)", "kind": "captions", "default": True})
        self.assertEqual((patched.status, patched.json()["default"], patched.json()["kind"]), (200, True, "captions"))
        self.assertEqual(self.again(asset)["version"], version + 1)
        self.assertIn(b"transcribes-spoken-dialog", self.anonymous.get(master).body)
        text = self.text(asset, "en")
        self.assertIn("max-age=2", text.header("Cache-Control"))
        self.assertIn("private", text.header("Cache-Control"))
        same = self.anonymous.get(path_of(patched.json()["url"]), headers={"If-None-Match": text.header("ETag")})
        self.assertEqual(same.status, 304)
        self.assertEqual(self.put(asset, "en", VTT).status, 200)
        changed = self.anonymous.get(path_of(patched.json()["url"]), headers={"If-None-Match": text.header("ETag")})
        self.assertEqual(changed.status, 200)
        self.assertIn(b"Fred", changed.body)
        self.assertEqual(self.admin.request("DELETE", f"/api/v1/assets/{asset['id']}/subtitles/en").status, 204)
        self.assertProblem(self.admin.request("DELETE", f"/api/v1/assets/{asset['id']}/subtitles/en"), 404)
        self.assertProblem(self.text(asset, "en"), 404)
        self.assertNotIn(b'LANGUAGE="en"', self.anonymous.get(master).body)
        self.assertEqual(self.admin.request("DELETE", f"/api/v1/assets/{asset['id']}").status, 204)
        self.assertProblem(self.anonymous.get(path_of(patched.json()["url"])), 404)

    def test_bad_input(self):
        asset = self.uploaded(clip("short"))
        for body, status in ((b"\x7fELF\0\0\1\2" * 100, 415), (os.urandom(5000), 415), (b"words\n", 415), (b"", 415),
                             (SRT.replace("you", "\u00e4").encode("latin-1"), 422), (b"WEBVTT\n\nNOTE x\n", 422),
                             (b"x" * (20 << 20), 413), (b"00:00:01,000 --> 00:00:02,000\n" + b"x" * 5000, 413)):
            with self.subTest(body=body[:20]):
                self.assertProblem(self.put(asset, "en", body), status)
        for lang in ("e", "en_US", "en-", "toolongword", "en%20", "x", "a" * 40):
            self.assertProblem(self.put(asset, lang, SRT), 400)
        for query in ("?kind=x", "?default=1", "?label=" + "x" * 65, "?label=%01", "?forced=yes"):
            self.assertProblem(self.put(asset, "en", SRT, query), 400)
        self.assertEqual(self.admin.get(f"/api/v1/assets/{asset['id']}/subtitles").json()["items"], [])
        self.assertProblem(self.put({"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}, "en", SRT), 404)
        other = self.daemon.client("creator", "somebody")
        self.assertEqual(self.put(asset, "en", SRT).status, 201)
        self.assertProblem(self.put(asset, "en", SRT, client=other), 403)
        path = f"/api/v1/assets/{asset['id']}/subtitles"
        self.assertProblem(other.get(path), 403)
        self.assertProblem(other.request("PATCH", f"{path}/en", {"label": "x"}), 403)
        self.assertProblem(other.request("DELETE", f"{path}/en"), 403)
        self.assertProblem(other.request("POST", f"{path}/extract"), 403)
        self.assertProblem(self.put(asset, "en", SRT, client=self.anonymous), 401)
        for body in ({"language": "de"}, {"label": 1}, {"default": "yes"}, {"kind": None}):
            self.assertProblem(self.admin.request("PATCH", f"{path}/en", body), 400)
        self.assertProblem(self.admin.request("PATCH", f"{path}/de", {"label": "x"}), 404)
        # The gate is that of the film.
        url = path_of(self.admin.get(f"{path}/en").json()["url"])
        bare = re.sub(r"/~[^/]+", "", url)
        for resource in (bare, bare[:-4] + "/index.m3u8", bare[:-4] + "/seg-0.vtt"):
            self.assertProblem(self.anonymous.get(resource), 401)
        self.assertProblem(self.anonymous.get(url[:-4] + "/seg-1.vtt"), 404)
        self.assertProblem(self.anonymous.get(url[:-4] + "/seg-00.vtt"), 404)
        self.assertProblem(self.anonymous.get(url.replace("en.vtt", "xx.vtt")), 404)

    def extracted(self, asset, languages):
        found = eventually(lambda: (t := self.again(asset)["subtitles"]) and len(t) >= len(languages) and t, 60,
                           "the subtitles in the film")
        self.assertEqual([t["language"] for t in found], languages)
        return found

    def test_texts_of_films_are_extracted(self):
        for container, codec in (("mp4", "mov_text"), ("matroska", "subrip"), ("matroska", "ass"), ("matroska", "webvtt")):
            with self.subTest(codec=codec):
                asset = self.uploaded(with_texts(container, codec))
                tracks = self.extracted(asset, ["de", "en", "en-x-forced"])
                self.assertEqual([t["forced"] for t in tracks], [False, False, True])
                self.assertEqual({t["source"] for t in tracks}, {"embedded"})
                self.assertEqual(tracks[0]["label"], "Deutsch" if container == "matroska" else tracks[0]["label"])
                eventually(lambda asset=asset: self.again(asset)["status"] == "ready", 60, "the film")
                for lang, word in (("en", "Second"), ("de", "Zweite"), ("en-x-forced", "Forced")):
                    got = cues(self.text(asset, lang).body.decode())
                    # In Matroska ffmpeg begins with the encoder's priming, and all else moves by as much.
                    moved = got[0][0] - TIMES[0][0]
                    self.assertTrue(0 <= moved <= (0 if container == "mp4" else 0.03), moved)
                    for have, want in zip((t - moved for c in got for t in c[:2]), (t for c in TIMES for t in c)):
                        self.assertAlmostEqual(have, want, delta=0.0015)
                    self.assertEqual([c[3] for c in got], ["<i>Hello</i> &amp; you", f"{word}\nline"])
        # What was uploaded stays; the rest is written again. By whatever code: "eng" is "en".
        self.assertEqual(self.put(asset, "eng", VTT).status, 200)
        # One that is not over yet would be the answer to another wish for it.
        eventually(lambda: all(j["state"] == "done" for j in self.admin.get("/api/v1/jobs?type=subtitles").json()["items"]),
                   60, "the end of the jobs of the uploads")
        job = self.admin.request("POST", f"/api/v1/assets/{asset['id']}/subtitles/extract")
        self.assertEqual(job.status, 202)
        done = eventually(lambda: (j := self.admin.get(f"/api/v1/jobs/{job.json()['job']}").json())["state"] == "done" and j,
                          60, "the job")
        self.assertEqual((done["result"]["languages"], [s["language"] for s in done["result"]["skipped"]]),
                         (["de", "en-x-forced"], ["en"]))
        self.assertIn(b"Fred", self.text(asset, "en").body)

    def test_chapters_are_no_subtitles(self):
        def make(path):
            with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
                file.write(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=One\n")
                file.flush()
                run("ffmpeg", "-v", "error", "-i", clip("short"), "-i", file.name, "-map", "0", "-map_metadata", "1",
                    "-c", "copy", "-f", "mp4", "-y", path, check=True)
        asset = self.uploaded(made("chapters.mp4", make))
        job = self.admin.request("POST", f"/api/v1/assets/{asset['id']}/subtitles/extract").json()["job"]
        done = eventually(lambda: (j := self.admin.get(f"/api/v1/jobs/{job}").json())["state"] == "done" and j, 30, "the job")
        self.assertEqual(done["result"], {"languages": [], "skipped": []})

    def test_segments(self):
        asset = self.uploaded(made("long-160x90.mp4", long_film))
        text = "WEBVTT\n\n00:59.000 --> 01:01.000\nacross\n\n01:00.500 --> 01:02.000\nsecond\n\n02:05.000 --> 02:06.000\nlast\n"
        track = self.put(asset, "en", text).json()
        base = path_of(track["url"])[:-4]
        playlist = self.anonymous.get(f"{base}/index.m3u8")
        self.assertEqual((playlist.status, playlist.header("Content-Type")), (200, "application/vnd.apple.mpegurl"))
        lengths = [float(x) for x in re.findall(r"#EXTINF:([0-9.]+),", playlist.body.decode())]
        self.assertEqual(lengths[:2], [60, 60])
        self.assertAlmostEqual(sum(lengths), 130, delta=0.1)
        texts = []
        for number in range(3):
            segment = self.anonymous.get(f"{base}/seg-{number}.vtt").body.decode()
            self.assertTrue(segment.startswith("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000\n\n"), segment)
            texts.append([c[3] for c in cues(segment)])
        self.assertEqual(texts, [["across"], ["across", "second"], ["last"]])
        # ffmpeg reads the playlist as its players do: each cue at its time, whichever segment it is in.
        shown = run("ffprobe", "-v", "error", "-allowed_extensions", "ALL", "-of", "json", "-show_packets",
                    f"http://127.0.0.1:{self.daemon.port}{base}/index.m3u8")
        times = sorted({round(float(p["pts_time"]), 3) for p in json.loads(shown.stdout)["packets"]})
        self.assertEqual(times, [59.0, 60.5, 125.0])

    @unittest.skipIf(support.SLOW > 1, "holds players to 50 ms")
    def test_players_show_cues_at_their_time(self):
        """The second begins half a second late in its file, so that players' zeros lie elsewhere."""
        plays = []
        for source in (clip("bframes"), test_browser.corpus("video-late")):
            asset = self.uploaded(source)
            self.assertEqual(self.put(asset, "en", SRT, "?default=true&label=English").status, 201)
            urls = self.again(asset)["playback"]
            plays += [("hls", urls["hls"]), ("hls", urls["hls_ts"]), ("dash", urls["dash"]), ("shaka", urls["dash"])]
        for number, ((player, url), one) in enumerate(zip(plays, self.seen(plays))):
            with self.subTest(number=number, player=player, url=url.rpartition("/")[2]):
                self.assertNotIn("error", one)
                self.assertEqual(one["fatal"], [])
                moved = {track["moved"] for track in one["held"].values()}
                origin = -moved.pop() - media_corpus.OFFSET_S
                found = sorted({(c["start"], c["end"], c["text"]) for c in one["cues"]})
                self.assertEqual(len(found), 2, one["cues"])
                for (start, end, _), want in zip(found, TIMES):
                    self.assertAlmostEqual(start + origin, want[0], delta=0.05)
                    self.assertAlmostEqual(end + origin, want[1], delta=0.05)
                self.assertIn("Hello", found[0][2])
                self.assertIn("Second", found[1][2])
                # On the screen when it is due, by the clock of the player.
                self.assertIn("Second", one["shown"])


if __name__ == "__main__":
    support.main()
