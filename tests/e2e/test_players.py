"""Players switch between the renditions of an asset, seek and choose sound, play a source while it is encoded, and go on
when a rendition is added: hls.js, shaka-player and dash.js in headless Chromium, mpv and ffmpeg. Every playlist met on the
way obeys RFC 8216 (hls_rules.py)."""
import contextlib
import os
import signal
import urllib.request

import support
from hls_rules import Rules, follows
from players_support import Browser, Player
from support import eventually, ffmpeg, made, path_of, run

SEGMENT_S = 2
STALL_S = 1.0
LEAP_S = 0.35  # a player may step over what its own rounding leaves open between two segments
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
AAC = ["-c:a", "aac", "-b:a", "64k"]
SETTINGS = {"playback.default_policy": "signed", "playback.segment_duration": f"{SEGMENT_S}s", "transcode.automatic": "all",
            "transcode.ladder": "240p:400k 144p:200k", "transcode.preset": "ultrafast"}
# player, form of the asset's playback URLs
WAYS = (("hls", "hls"), ("hls", "hls_ts"), ("shaka", "hls"), ("shaka", "dash"), ("dash", "dash"))


def picture(seconds, size="640x360", rate=30):
    return ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}"]


def tone(seconds, hertz, channels="stereo"):
    return ["-f", "lavfi", "-i", f"sine=frequency={hertz}:sample_rate=48000:duration={seconds},aformat=channel_layouts={channels}"]


def quarters(seconds):
    """Four quarters of one colour each."""
    w, h = 320, 180
    return ["-f", "lavfi", "-i", f"color=black:size=640x360:rate=30:duration={seconds},drawbox=0:0:{w}:{h}:red:fill,drawbox={w}:0:{w}:{h}:lime:fill,"
            f"drawbox=0:{h}:{w}:{h}:blue:fill,drawbox={w}:{h}:{w}:{h}:white:fill"]


COLOURS = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
MP4 = ["-movflags", "+faststart", "-f", "mp4"]
CLIPS = {
    "gop2.mp4": [*picture(24), *tone(24, 440), *X264, "-g", "60", *AAC, *MP4],
    "gop5.mp4": [*picture(40), *tone(40, 440), *X264, "-g", "150", "-sc_threshold", "0", "-bf", "2", *AAC, *MP4],
    "gop10.mp4": [*picture(30), *tone(30, 440), *X264, "-g", "300", "-sc_threshold", "0", "-bf", "2", *AAC, *MP4],
    "two-sounds.mp4": [*picture(16), *tone(16, 440), *tone(16, 880), "-map", "0", "-map", "1", "-map", "2", *X264, "-g", "60", *AAC,
                       "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu", *MP4],
    "surround.mp4": [*picture(16), *tone(16, 660, "5.1"), *X264, "-g", "60", "-c:a", "aac", "-b:a", "256k", *MP4],
    "aac-ac3.mp4": [*picture(8), *tone(8, 440), *tone(8, 440, "5.1"), "-map", "0", "-map", "1", "-map", "2", *X264, "-g", "60", "-c:a:0", "aac",
                    "-c:a:1", "ac3", *MP4],
    "ac3-aac.mp4": [*picture(8), *tone(8, 440, "5.1"), *tone(8, 440), "-map", "0", "-map", "1", "-map", "2", *X264, "-g", "60", "-c:a:0", "ac3",
                    "-c:a:1", "aac", *MP4],
    "ac3.mp4": [*picture(8), *tone(8, 440, "5.1"), *X264, "-g", "60", "-c:a", "ac3", *MP4],
    "ac3-de.mp4": [*picture(8), *tone(8, 440), *tone(8, 880), "-map", "0", "-map", "1", "-map", "2", *X264, "-g", "60", "-c:a:0", "aac", "-c:a:1", "ac3",
                   "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu", *MP4],
    "sound.mp3": [*tone(16, 440), "-c:a", "libmp3lame", "-b:a", "128k", "-f", "mp3"],
    "vp8.webm": [*picture(30, "426x240"), *tone(30, 440), "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "600k", "-g", "120",
                 "-c:a", "libvorbis", "-f", "webm"],
    "quarters.mp4": [*quarters(12), *tone(12, 440), *X264, "-g", "60", *AAC, *MP4],
    "wide-pixels.mp4": [*quarters(12), *tone(12, 440), "-vf", "setsar=2/1", *X264, "-g", "60", *AAC, *MP4],
}


def clip(name):
    if name == "turned.mp4":
        return made("players-turned.mp4", lambda path: ffmpeg("-i", clip("quarters.mp4"), "-c", "copy", "-metadata:s:v", "rotate=90", *MP4, path))
    return made(f"players-{name}", lambda path: ffmpeg(*CLIPS[name], path))


def fetch(url):
    with urllib.request.urlopen(url, timeout=30 * support.SLOW) as answer:
        return answer.read()


class Playing(support.DaemonCase):
    settings = SETTINGS
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def asset(self, asset):
        return self.admin.get(f"/api/v1/assets/{asset['id']}").json()

    def all_made(self, asset, names=()):
        """The asset once nothing of it is being made any more, and these are there."""
        def look():
            found = self.asset(asset)
            states = {r["name"]: r["status"] for r in found["renditions"]}
            self.assertNotIn("failed", states.values(), found)
            return found if found["status"] == "ready" and set(states.values()) <= {"ready"} and set(names) <= set(states) else None
        try:
            return eventually(look, 240, "renditions that are made")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.asset(asset)['renditions']}, {self.admin.get('/api/v1/jobs').json()}") from None

    def ready(self, name, **kwargs):
        return self.all_made(self.uploaded(clip(name)), **kwargs)

    def obeys(self, asset, forms=("hls", "hls_ts")):
        for form in forms:
            if asset["playback"][form]:
                rules = Rules(fetch)
                rules.master(asset["playback"][form])
                self.assertEqual([w.replace(asset["playback"][form].rpartition("/")[0], "") for w in rules.broken], [], form)

    def smooth(self, report):
        report = {name: value for name, value in report.items() if name != "fetched"}
        self.assertEqual((report["fatal"], report["error"]), ([], None), report["warnings"])
        self.assertLess(report["stall_s"], STALL_S * support.SLOW, report)
        self.assertLess(report["leap_s"], LEAP_S * support.SLOW, report)
        self.assertLess(report["back_s"], 0.05, report)

    def without_gaps(self, report, hole_s=0):
        for kind, ranges in report["held"].items():
            for (_, end), (start, _) in zip(ranges, ranges[1:]):
                self.assertLessEqual(start - end, hole_s, f"{kind} has gaps: {report['held']}")


class Switching(Playing):
    def climb(self, player, sizes, hole_s):
        """Through every rendition, up and down, then seeks to the middle and to the end."""
        levels = player.levels()
        self.assertEqual([[one["width"], one["height"]] for one in levels], sizes)
        player.tell("play")
        n = len(levels)
        for level in [*range(1, n), *reversed(range(n - 1))]:
            player.tell("show", level=level, size=sizes[level])
        report = player.report()
        self.smooth(report)
        self.without_gaps(report, hole_s)
        player.tell("seek", to=report["duration"] / 2)
        player.tell("show", level=n - 1, size=sizes[-1])
        self.smooth(player.report())
        player.tell("seek", to=report["duration"] - 1.5)
        player.tell("end")
        report = player.report()
        self.smooth(report)
        self.assertAlmostEqual(report["at"], report["duration"], delta=0.1)
        return report

    def switches(self, name, seconds, hole_s=0):
        asset = self.ready(name)
        self.obeys(asset)
        for kind, form in WAYS:
            with self.subTest(clip=name, player=kind, form=form), Player(self.browser, kind, asset["playback"][form]) as player:
                report = self.climb(player, [[256, 144], [426, 240], [640, 360]], hole_s)
                self.assertAlmostEqual(report["duration"], seconds, delta=0.15)

    def test_switches_at_the_same_cuts(self):
        self.switches("gop2.mp4", 24)

    def test_switches_between_other_cuts(self):
        """The source can be cut every 5 s, its renditions every 2 s. hls.js leaves a level only after the segment that plays,
        and keeps the beginning of one it already has after that; and a longer segment put in place of shorter ones shows from its
        next key frame on. So a switch may take two segments of the source, and the clip is long enough for all of them. Where a
        segment is replaced from its middle on, the browser also drops the B-frames before that, two of them, which need it."""
        self.switches("gop5.mp4", 40, hole_s=0.1)


class Sounds(Playing):
    def choose(self, name, wanted, forms=WAYS):
        """wanted: (language, channels, pitch) of each sound, in order. Chooses each at runtime, and hears it."""
        asset = self.ready(name)
        self.obeys(asset)
        for kind, form in forms:
            with self.subTest(clip=name, player=kind, form=form), Player(self.browser, kind, asset["playback"][form]) as player:
                sounds = player.offers["sounds"]
                self.assertEqual([(s["language"], s["channels"]) for s in sounds], [w[:2] for w in wanted])
                player.tell("play")
                self.assertAlmostEqual(player.tell("pitch"), wanted[0][2], delta=25)
                for i in [*range(len(wanted)), 0]:
                    player.tell("listen", sound=i, hertz=wanted[i][2])
                report = player.report()
                self.assertEqual((report["fatal"], report["error"]), ([], None))
                self.assertLess(report["stall_s"], STALL_S * support.SLOW, report["stalled_at"])
                for i, name_in_url in enumerate(("audio/", "audio-2/")):
                    self.assertTrue(any(f"/{name_in_url}seg-" in url for url in report["fetched"]), f"sound {i} was not fetched")

    def test_two_languages(self):
        self.choose("two-sounds.mp4", [("en", 2, 440), ("de", 2, 880)], [way for way in WAYS if way[1] != "hls_ts"])

    def test_surround_and_stereo(self):
        asset = self.ready("surround.mp4", names=["audio-stereo"])
        self.obeys(asset)
        for kind, form in [way for way in WAYS if way[1] != "hls_ts"]:
            with self.subTest(player=kind, form=form), Player(self.browser, kind, asset["playback"][form]) as player:
                channels = [s["channels"] for s in player.offers["sounds"]]
                self.assertEqual(sorted(channels), [2, 6])
                player.tell("play")
                for number, folder in ((2, "/audio-stereo/seg-"), (6, "/audio/seg-"), (2, "/audio-stereo/seg-")):
                    player.tell("listen", sound=channels.index(number), hertz=660)
                    player.tell("fetches", word=folder)
                report = player.report()
                self.assertEqual((report["fatal"], report["error"]), ([], None))
                self.assertLess(report["stall_s"], STALL_S * support.SLOW)

    def test_sound_that_browsers_lack(self):
        """AC-3 beside AAC, before it, or alone: Chromium has no AC-3, and plays them all."""
        for name in ("aac-ac3.mp4", "ac3-aac.mp4", "ac3.mp4"):
            asset = self.ready(name)
            self.obeys(asset)
            master = fetch(asset["playback"]["hls"]).decode()
            self.assertRegex(master, r'CODECS="avc1\.[0-9a-f]{6},mp4a\.40\.2",[^\n]*AUDIO="audio"')
            self.assertRegex(master, r'CODECS="avc1\.[0-9a-f]{6},ac-3",[^\n]*AUDIO="audio-ac-3"')
            self.assertNotIn("ac-3", fetch(asset["playback"]["hls_ts"]).decode())
            for kind, form in WAYS:
                with self.subTest(clip=name, player=kind, form=form), Player(self.browser, kind, asset["playback"][form]) as player:
                    self.assertEqual([[one["width"], one["height"]] for one in player.levels()], [[256, 144], [426, 240], [640, 360]])
                    player.tell("play")
                    self.assertAlmostEqual(player.tell("pitch"), 440, delta=25)
                    self.assertEqual(player.report()["fatal"], [])

    def test_language_that_browsers_lack(self):
        asset = self.ready("ac3-de.mp4", names=["audio-stereo"])
        self.obeys(asset)
        for kind, form in [way for way in WAYS if way[1] == "hls"]:
            with self.subTest(player=kind), Player(self.browser, kind, asset["playback"][form]) as player:
                self.assertEqual([s["language"] for s in player.offers["sounds"]], ["en", "de"])
                player.tell("play")
                for sound, hertz in ((0, 440), (1, 880), (0, 440)):
                    player.tell("listen", sound=sound, hertz=hertz)
                self.assertEqual(player.report()["fatal"], [])

    def test_sound_alone(self):
        asset = self.ready("sound.mp3")
        self.obeys(asset)
        for kind, form in [way for way in WAYS if asset["playback"][way[1]]]:
            with self.subTest(player=kind, form=form), Player(self.browser, kind, asset["playback"][form]) as player:
                player.tell("play")
                self.assertAlmostEqual(player.tell("pitch"), 440, delta=25)
                player.tell("seek", to=8)
                player.tell("seek", to=14.5)
                player.tell("end")
                report = player.report()
                self.smooth(report)
                self.assertAlmostEqual(report["at"], 16, delta=0.2)


class Upright(Playing):
    CORNERS = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]

    def looks(self, player, colours, where):
        for seen, name in zip(player.tell("colours", places=self.CORNERS), colours):
            self.assertLess(max(abs(a - b) for a, b in zip(seen, COLOURS[name])), 60, f"{where}: {name} is {seen}")

    def check(self, clip_name, sizes):
        # What ffmpeg shows, which turns pictures as the matrix says.
        shown = run("ffmpeg", "-nostdin", "-v", "error", "-i", clip(clip_name), "-frames:v", "1", "-vf", "format=rgb24,scale=2:2:flags=area",
                    "-f", "rawvideo", "-").stdout
        colours = [min(COLOURS, key=lambda name: sum(abs(a - b) for a, b in zip(COLOURS[name], shown[i:i + 3]))) for i in range(0, 12, 3)]
        self.assertEqual(set(colours), set(COLOURS))
        asset = self.ready(clip_name)
        self.obeys(asset)
        for kind, form in WAYS:
            with self.subTest(clip=clip_name, player=kind, form=form), Player(self.browser, kind, asset["playback"][form]) as player:
                player.tell("play")
                # Turned by a matrix or by having been turned: from one to the other and back.
                # By height: a DASH manifest tells the width before pixels are stretched. A turned source has no MPEG-TS form.
                offered = [one["height"] for one in player.levels()]
                there = [size for size in (sizes[2], sizes[1], sizes[2], sizes[0]) if size[1] in offered]
                self.assertEqual(len(there), 2 if (clip_name, form) == ("turned.mp4", "hls_ts") else 4, offered)
                for size in there:
                    player.tell("show", level=offered.index(size[1]), size=size)
                    self.looks(player, colours, f"{size}")
                self.smooth(player.report())

    def test_turned(self):
        self.check("turned.mp4", [[144, 256], [240, 426], [360, 640]])

    def test_wide_pixels(self):
        self.check("wide-pixels.mp4", [[512, 144], [852, 240], [1280, 360]])


class Growing(Playing):
    """A source that nobody can play is played while it is encoded. The encoder is held still at a known place,
    so what a player meets depends on nobody's speed."""
    settings = {**SETTINGS, "transcode.preset": "medium"}

    def encoder(self, before):
        def look():
            now = children(self.daemon.process.pid) - before
            return now if now else None
        return eventually(look, 30, "the process of the encode")

    def held(self, segments):
        """A VP8 upload whose encode stands still once `segments` of video are there."""
        before = children(self.daemon.process.pid)
        asset = self.uploaded(clip("vp8.webm"))
        self.assertEqual(asset["status"], "processing")
        pids = self.encoder(before)
        base = asset["playback"]["hls"].rpartition("/")[0]

        def enough():
            answer = self.anonymous.get(path_of(f"{base}/144p/index.m3u8"))
            return answer.status == 200 and answer.body.count(b"#EXTINF") >= segments
        eventually(enough, 60, "the first segments")
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self.addCleanup(release, pids)
        self.assertNotIn(b"ENDLIST", self.playlist(base, "144p"), "the encode was over before it could be held")
        return asset, base, pids

    def playlist(self, base, name):
        answer = self.anonymous.get(path_of(f"{base}/{name}/index.m3u8"))
        self.assertEqual(answer.status, 200, answer.body)
        return answer.body

    def pieces(self, base, name, playlist):
        uris = [line for line in playlist.decode().splitlines() if line.startswith("seg-")]
        return {uri: fetch(f"{base}/{name}/{uri}") for uri in ["init.mp4", *uris]}

    def test_growing(self):
        for kind in ("hls", "shaka"):
            with self.subTest(player=kind):
                self.grows(kind)

    def grows(self, kind):
        asset, base, pids = self.held(8)
        early = {name: self.playlist(base, name) for name in ("144p", "audio")}
        pieces = {name: self.pieces(base, name, text) for name, text in early.items()}
        rules = Rules(fetch)
        for name in early:
            found = rules.media(f"{base}/{name}/index.m3u8")
            self.assertEqual((found["type"], found["ended"]), ("EVENT", False))
        self.assertEqual(rules.broken, [])
        with Player(self.browser, kind, asset["playback"]["hls"]) as player:
            self.assertEqual(len(player.levels()), 1)
            player.tell("play")
            self.assertLess(player.report()["at"], 4, "it did not begin at the start")
            self.assertAlmostEqual(player.tell("pitch"), 440, delta=25)
            player.tell("seek", to=5)
            player.tell("seek", to=1)
            release(pids)
            self.all_made(asset, ["240p"])
            late = {name: self.playlist(base, name) for name in early}
            for name in early:
                self.assertTrue(follows(early[name], late[name]), f"{name}: {early[name]}\n{late[name]}")
                self.assertIn(b"#EXT-X-ENDLIST", late[name])
                for uri, body in pieces[name].items():
                    self.assertEqual(fetch(f"{base}/{name}/{uri}"), body, f"{name}/{uri} is another one now")
            player.tell("until_duration", seconds=29.5)
            player.tell("seek", to=22)
            player.tell("seek", to=28.5)
            player.tell("end")
            report = player.report()
            self.assertEqual((report["fatal"], report["error"]), ([], None))
            self.assertAlmostEqual(report["at"], 30, delta=0.2)
        self.obeys(self.asset(asset))
        with Player(self.browser, kind, asset["playback"]["hls"]) as player:
            self.assertEqual(len(player.levels()), 2)
            self.assertAlmostEqual(player.offers["duration"], 30, delta=0.2)
            player.tell("play")
            player.tell("show", level=1, size=[426, 240])


class Added(Playing):
    settings = {**SETTINGS, "transcode.automatic": "needed"}

    def test_a_rendition_comes_while_players_run(self):
        asset = self.uploaded(clip("gop2.mp4"))
        with contextlib.ExitStack() as stack:
            players = [stack.enter_context(Player(self.browser, kind, asset["playback"][form])) for kind, form in WAYS]
            for player in players:
                self.assertEqual(len(player.levels()), 1)
                player.tell("play")
            before = [player.report()["at"] for player in players]
            response = self.admin.request("POST", f"/api/v1/assets/{asset['id']}/renditions", body={"profile": "240p"})
            self.assertEqual(response.status, 202, response.body)
            made_one = self.all_made(asset, ["240p"])
            for player, at in zip(players, before):
                player.tell("reach", at=at + 6)
                self.smooth(player.report())
                player.tell("seek", to=22)
                player.tell("end")
                self.smooth(player.report())
        self.obeys(made_one)
        for kind, form in WAYS:
            with self.subTest(player=kind, form=form), Player(self.browser, kind, made_one["playback"][form]) as player:
                self.assertEqual([[l["width"], l["height"]] for l in player.levels()], [[426, 240], [640, 360]])


class OtherPlayers(Playing):
    def plays_to_the_end(self, url):
        result = run("mpv", "--no-config", "--vo=null", "--ao=null", "--untimed", "--ao-null-untimed", "--no-terminal", "--msg-level=all=error",
                     "--term-status-msg=", "--hls-bitrate=max", url, timeout=60)
        self.assertEqual((result.returncode, result.stderr), (0, b""), result.stdout[-2000:])

    def test_mpv(self):
        for name in ("gop2.mp4", "sound.mp3"):
            asset = self.ready(name)
            for form in ("hls", "hls_ts", "dash"):
                if asset["playback"][form]:
                    with self.subTest(clip=name, form=form):
                        self.plays_to_the_end(asset["playback"][form])

    def test_ffmpeg_reads_every_variant(self):
        for name, seconds in (("gop2.mp4", 24), ("gop10.mp4", 30)):
            asset = self.ready(name)
            base = asset["playback"]["hls"].rpartition("/")[0]
            for rendition in ("original", "240p", "144p"):
                for text in ("index.m3u8", "index-ts.m3u8", "iframes.m3u8"):
                    with self.subTest(clip=name, rendition=rendition, text=text):
                        result = run("ffmpeg", "-nostdin", "-v", "warning", "-i", f"{base}/{rendition}/{text}", "-map", "0:v", "-f", "null", "-progress", "-", "-")
                        self.assertEqual((result.returncode, result.stderr), (0, b""))
                        frames = int(result.stdout.rpartition(b"frame=")[2].split()[0])
                        self.assertEqual(frames, fetch(f"{base}/{rendition}/{text}").count(b"#EXTINF") if text == "iframes.m3u8" else seconds * 30)


def children(pid):
    """Processes begun by any thread of this one."""
    found = set()
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
            found |= {int(child) for child in file.read().split()}
    return found


def release(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    support.main()
