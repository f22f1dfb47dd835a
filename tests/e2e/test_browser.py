"""hls.js, dash.js and shaka-player in headless Chromium play awkward sources as the source itself is.

Every track held by the player, on the source's own timeline, is compared with what ffmpeg decodes from the source.
"""
import json
import os
import shutil
import tempfile

import media_corpus
import support
from support import clip, made, run

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "browser")
AAC_FRAME_S = 1024 / 48000
AV_TOLERANCE_S = 0.020
CLOCK_S = 0.003  # timescales, and the microseconds of Chromium
DURATION_TOLERANCE_S = 0.1
# hls.js puts 0 at the first decode time it meets: at most a reorder delay before the first picture.
REORDER_S = 0.2


def corpus(name):
    def make(path):
        with tempfile.TemporaryDirectory(prefix="streamgate-clip-") as scratch:
            there = os.path.join(scratch, "clip.mp4")
            media_corpus.make_clip(name, there, os.path.join(scratch, "tmp.mp4"))
            shutil.move(there, path)
    return made(f"corpus-{name}.mp4", make)


class Source:
    """A clip, and when its tracks start and end as ffmpeg decodes them."""

    def __init__(self, name, path):
        self.name, self.path, self.spans = name, path, {}
        probe = run("ffprobe", "-v", "error", "-of", "json", "-show_streams", path)
        self.streams = {s["codec_type"]: s for s in json.loads(probe.stdout)["streams"]}
        for kind in self.streams:
            found = media_corpus.frames(name, path, f"{kind[0]}:0")[0]
            self.spans[kind] = min(t for t, _, _ in found), max(t + d for t, d, _ in found)
            if kind == "video":
                self.pictures = sorted(t for t, _, _ in found)
        self.start = min(span[0] for span in self.spans.values())
        self.end = max(span[1] for span in self.spans.values())
        if "audio" in self.streams:
            self.audio_packet = min(p[0] for p in media_corpus.packets(path, "a")[0] if p[0] is not None)

    def size(self, form):
        video = self.streams["video"]
        turned = any(abs(int(d.get("rotation", 0))) % 180 == 90 for d in video.get("side_data_list", []))
        # MPEG-TS has no place for a rotation.
        step = -1 if turned and form == "fmp4" else 1
        return [video["width"], video["height"]][::step]

    def reported(self, form):
        """The duration hls.js makes of the playlists: in the fMP4 form it reads the video's only."""
        span = self.spans["video"] if form == "fmp4" and "video" in self.spans else (self.start, self.end)
        return span[1] - span[0]


class Browser(support.DaemonCase):
    # Signed: the token travels in the path, so every URL below the playlist carries it.
    settings = {"playback.default_policy": "signed"}

    def seen(self, plays):
        """What the page saw of each (player, URL)."""
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        self.assertTrue(chromium, "chromium is not installed")
        result = run("node", "player.mjs", chromium, *("=".join(play) for play in plays), cwd=FOLDER, text=True,
                     timeout=60 + 25 * len(plays))
        found = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual(len(found), len(plays), result.stderr)
        return found

    def play(self, sources):
        """(source, asset, form, what the page saw) of every source in each form it is offered in."""
        plays = []
        for source in sources:
            asset = self.uploaded(source.path)
            forms = {"fmp4": asset["playback"]["hls"], "ts": asset["playback"]["hls_ts"]}
            self.assertEqual(forms["ts"] is None, source.name in media_corpus.TS_NOT_OFFERED, source.name)
            plays += [(source, asset, form, url) for form, url in forms.items() if url]
        return [(*play[:3], one) for play, one in zip(plays, self.seen([("hls", url) for *_, url in plays]))]

    def check(self, source, asset, form, one):
        self.assertNotIn("error", one)
        self.assertEqual(one["fatal"], [])
        self.assertGreaterEqual(one["levels"], 1)
        self.assertEqual(set(one["held"]), set(source.streams))
        self.check_timeline(source, form, one)
        # As the playlists say or, where the player has all by then, the media.
        self.assertLess(min(abs(one["duration"] - t) for t in (source.reported(form), one["at_end"])), DURATION_TOLERANCE_S, one)
        self.assertAlmostEqual(asset["duration"], source.end, delta=0.05)
        self.assertGreater(one["after_play"], 0.3)
        self.assertGreater(one["after_middle"], one["middle"] + 0.3)
        if "audio" in source.streams:
            self.assertGreater(one["audio_bytes"], 0)
        if "video" in source.streams:
            self.assertEqual(one["size"], source.size(form))
            self.assertGreater(one["video_bytes"], 0)

    def check_timeline(self, source, form, one):
        """All in seconds of the source: what hls.js moved is moved back, and so is our one constant."""
        moved = {track["moved"] for track in one["held"].values()}
        self.assertEqual(len(moved), 1, "the tracks are moved apart")
        origin = -moved.pop() - media_corpus.OFFSET_S
        # Where the player's 0 lies. In the fMP4 form that is the video's start even when sound comes before it.
        begins = source.spans["video"][0] if form == "fmp4" and "video" in source.spans else source.start
        self.assertLess(abs(origin - begins), REORDER_S, "the timeline does not start near 0")
        for kind, track in one["held"].items():
            self.assertEqual(len(track["ranges"]), 1, f"{kind} has gaps: {track['ranges']}")
            start, end = (at + origin for at in track["ranges"][0])
            self.assertAlmostEqual(end, source.spans[kind][1], delta=AV_TOLERANCE_S, msg=f"the end of the {kind}")
            if kind == "video":
                self.assertAlmostEqual(start, source.spans[kind][0], delta=AV_TOLERANCE_S, msg="the first picture")
                shown = one["first_media_time"] + origin
                self.assertAlmostEqual(shown, source.spans[kind][0], delta=AV_TOLERANCE_S, msg="the picture shown first")
            else:
                self.check_sound(source, form, start, origin)
        self.assertAlmostEqual(one["at_end"] + origin, source.end, delta=0.05)
        if "video" in source.streams:
            self.check_pictures(source, one, origin)

    def check_pictures(self, source, one, origin):
        """Where the clock stands still, the source's picture of that time is shown, or a neighbour of it: after a seek
        Chromium paints the first picture that may last until then, by durations that it guesses."""
        self.assertGreater(len(one["still"]), 3)
        for clock, media in one["still"]:
            begun = sum(t < clock + origin + CLOCK_S for t in source.pictures)
            due = source.pictures[max(0, begun - 2):begun + 1]
            self.assertLess(min(abs(media + origin - t) for t in due), CLOCK_S, f"{media} is shown at {clock}, due: {due}")

    def check_sound(self, source, form, start, origin):
        first = source.spans["audio"][0]
        if start > first and abs(start - origin) < 0.001:
            # A source buffer takes nothing before 0, which hls.js put where the video starts: the priming, or the
            # sound that comes before a late picture, is not played. What follows stands where it belongs.
            return
        # Only whole frames of the source: each stands at its own time.
        frames = (start - source.audio_packet) / AAC_FRAME_S
        self.assertLess(abs(frames - round(frames)) * AAC_FRAME_S, 0.002, "the sound is shifted")
        self.assertLess(start, first + AV_TOLERANCE_S, "the sound starts late")
        if form == "ts" and start < first and start >= source.start:
            return  # before a late sound hls.js puts silence of its own making
        # Up to two frames for the decoder to settle, as the encoder's priming is.
        self.assertGreater(start, first - 2 * AAC_FRAME_S - 0.001, "the sound starts early")

    def test_plays(self):
        sources = {"bframes": clip("bframes"), "audio-only": clip("audio-only"), "moov-at-end": corpus("bframes")}
        for name in ("editlist", "vfr", "rotate90", "noaudio", "fragmented", "audio-late", "video-late"):
            sources[name] = corpus(name)
        for source, asset, form, one in self.play([Source(name, path) for name, path in sources.items()]):
            with self.subTest(clip=source.name, form=form):
                print(source.name, form, json.dumps(one), flush=True)
                self.check(source, asset, form, one)

    def test_plays_dash(self):
        sources = {"bframes": clip("bframes"), "audio-only": clip("audio-only")}
        for name in ("editlist", "edit-end", "vfr", "rotate90", "noaudio", "fragmented", "audio-late", "video-late", "two-audio"):
            sources[name] = corpus(name)
        plays = []
        for source in (Source(name, path) for name, path in sources.items()):
            asset = self.uploaded(source.path)
            plays += [(source, asset, player) for player in ("dash", "shaka")]
        seen = self.seen([(player, asset["playback"]["dash"]) for _, asset, player in plays])
        for (source, asset, player), one in zip(plays, seen):
            with self.subTest(clip=source.name, player=player):
                print(source.name, player, json.dumps(one), flush=True)
                self.check_dash(source, asset, one)

    def check_dash(self, source, asset, one):
        self.assertNotIn("error", one)
        self.assertEqual((one["fatal"], one["levels"]), ([], 1))
        self.assertEqual(one["sounds"], {"two-audio": ["en", "de"]}.get(source.name, [""] if "audio" in source.streams else []))
        self.assertEqual(set(one["held"]), set(source.streams))
        # The player's 0 is the source's: whichever track begins there. Before the middle and after, the clock went on.
        self.assertAlmostEqual(one["duration"], source.end, delta=0.05)
        self.assertAlmostEqual(one["duration"], asset["duration"], delta=0.05)
        self.assertLess(one["first_time"], max(span[0] for span in source.spans.values()) + 0.05)
        self.assertGreater(one["after_play"], 0.3)
        self.assertGreater(one["after_middle"], one["middle"] + 0.3)
        self.assertAlmostEqual(one["at_end"], source.end, delta=0.05)
        for kind, track in one["held"].items():
            # Both tracks on one clock, at most what hidden frames and a player's own rounding take from the source's.
            self.assertAlmostEqual(track["moved"], -media_corpus.OFFSET_S, delta=0.01)
            self.assertAlmostEqual(track["span"][0], max(0, source.spans[kind][0]), delta=AV_TOLERANCE_S + AAC_FRAME_S, msg=kind)
            self.assertAlmostEqual(track["span"][1], source.spans[kind][1], delta=AV_TOLERANCE_S, msg=kind)
        moved = [track["moved"] for track in one["held"].values()]
        self.assertLess(max(moved) - min(moved), 0.001)
        if "audio" in source.streams:
            self.assertGreater(one["audio_bytes"], 0)
        if "video" in source.streams:
            self.assertEqual(one["size"], source.size("fmp4"))
            self.assertGreater(one["video_bytes"], 0)
            self.check_pictures(source, one, -moved[0] - media_corpus.OFFSET_S)


if __name__ == "__main__":
    support.main()
