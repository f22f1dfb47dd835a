"""Renditions: asked for, made, played, dropped; and what becomes of them when something ends too soon."""
import contextlib
import json
import os
import signal
import sqlite3
import threading
import time
import unittest

import support
from support import SLOW, Daemon, clip, eventually, path_of
from test_jobs import Events, ended, job

ASSETS, JOBS = "/api/v1/assets", "/api/v1/jobs"
SETTINGS = {"transcode.ladder": "360p:400k 180p:200k", "transcode.preset": "ultrafast", "transcode.threads": "1",
            "playback.default_policy": "public"}
CANCEL_S = 0.5


def foreign(name, seconds=4, size="640x360"):
    """A source that players cannot have: AVI (to be encoded) or MPEG-TS (another container will do)."""
    words = {"avi": ["-c:v", "mpeg4", "-q:v", "4", "-c:a", "mp3"], "ts": [*support.VIDEO, "-g", "60", *support.AUDIO]}
    kind = name.rsplit(".", 1)[1]
    return support.made(f"renditions-{seconds}-{size}-{name}",
                        lambda path: support.ffmpeg(*support.source(seconds, size), *words[kind], "-shortest", "-f",
                                                    {"avi": "avi", "ts": "mpegts"}[kind], path))


def encoders(daemon):
    return support.encoders(daemon.process.pid)


class Case:
    """What tests with a daemon of their own and those that share one have in common. Needs self.daemon, self.admin."""

    def rows(self, sql, *values):
        path = os.path.join(self.daemon.data, "streamgate.db")
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute(sql, values).fetchall()

    def put(self, path, client=None, name=None):
        response = (client or self.admin).upload(path, name)
        self.assertEqual(response.status, 201, response.body[:400])
        return response.json()["id"]

    def asset(self, asset):
        return self.admin.get(f"{ASSETS}/{asset}").json()

    def ask(self, asset, **wish):
        response = self.admin.request("POST", f"{ASSETS}/{asset}/renditions", wish)
        self.assertEqual(response.status, 202, response.body[:400])
        told = response.json()
        self.assertEqual(response.header("Location"), f"{JOBS}/{told['job']}")
        self.assertEqual((told["status"], told["kind"]), ("processing", "video"))
        return told

    def made(self, asset, **wish):
        told = self.ask(asset, **wish)
        done = ended(self.admin, told["job"], 60)
        self.assertEqual(done["state"], "done", done)
        return told

    def wait_for_frames(self, job_id):
        """Until the job's process encodes; what an earlier try told does not count."""
        def told():
            now = job(self.admin, job_id)
            return now["state"] == "running" and (now["progress"] or {}).get("fps", 0) > 0
        eventually(told, 60, "an encode under way")

    def drop(self, asset, name, client=None):
        return (client or self.admin).request("DELETE", f"{ASSETS}/{asset}/renditions/{name}")

    def ready(self, asset, seconds=60):
        eventually(lambda: self.asset(asset)["status"] == "ready", seconds, f"{asset} ready")

    def all_done(self, asset, seconds=90):
        """Every job of the asset."""
        def left():
            states = [state for (state,) in self.rows("SELECT state FROM jobs WHERE asset_id = ?", asset)]
            return all(state == 2 for state in states)
        eventually(left, seconds, f"all jobs of {asset}")

    def listed(self, asset):
        items = self.admin.get(f"{ASSETS}/{asset}/renditions").json()["items"]
        return {item["name"]: item for item in items}

    def stream(self, asset, path, **kwargs):
        return self.daemon.anonymous.get(f"/stream/{asset}/{path}", **kwargs)

    def file_of(self, asset, name):
        ((file_id,),) = self.rows("SELECT id FROM renditions WHERE asset_id = ? AND dir = ?", asset, name)
        return os.path.join(self.daemon.data, "assets", file_id[-2:], file_id, "source")

    def uris(self, asset, master="master.m3u8"):
        return [line for line in self.stream(asset, master).body.decode().splitlines() if line and line[0] != "#"]

    def assertNoEncoder(self, seconds=CANCEL_S):
        eventually(lambda: not encoders(self.daemon), seconds, "no encoding process")

    def assertOnlySources(self, *assets):
        """Nothing of renditions lies on the disk."""
        eventually(lambda: not self.daemon.files("incoming"), 5, "nothing staged")
        there = {os.path.basename(os.path.dirname(path)) for path in self.daemon.files("assets")}
        self.assertLessEqual(set(assets), there)
        self.assertEqual([i for (i,) in self.rows("SELECT id FROM renditions WHERE state = 1") if i not in there], [])
        wanted = {i for (i,) in self.rows("SELECT id FROM assets UNION SELECT id FROM renditions WHERE state = 1")}
        self.assertEqual(there, wanted)


class Asked(Case, support.DaemonCase):
    settings = SETTINGS

    def test_profiles(self):
        told = self.admin.get("/api/v1/transcode/profiles").json()
        self.assertEqual([(p["name"], p["height"], p["bitrate"], p["crf"]) for p in told["items"]],
                         [("360p", 360, 400000, None), ("180p", 180, 200000, None)])
        self.assertEqual((told["automatic"], told["preset"], told["keyframe_ms"]), ("needed", "ultrafast", 2000))

    def test_from_the_wish_to_the_screen(self):
        asset = self.put(clip("short"))
        self.assertEqual(set(self.listed(asset)), {"original", "audio"})  # nothing by itself
        self.assertEqual(self.rows("SELECT count(*) FROM jobs WHERE asset_id = ?", asset), [(0,)])
        before = self.uris(asset)
        session = ["original/index.m3u8", "original/init.mp4", "original/seg-0.m4s", "audio/seg-0.m4s"]
        self.assertEqual(before, ["original/index.m3u8"])
        for wish, name, size in (({"profile": "180p"}, "180p", (320, 180)),
                                 ({"height": 120, "bitrate": 150000, "name": "own"}, "own", (212, 120)),
                                 ({"height": 96, "crf": 1}, "96p", (170, 96))):
            told = self.made(asset, **wish)
            self.assertEqual((told["name"], told["width"], told["height"]), (name, *size))
            (item,) = job(self.admin, told["job"])["result"]["renditions"]
            self.assertEqual((item["name"], item["frames"]), (name, 120))
            self.assertEqual(job(self.admin, told["job"])["progress"]["percent"], 100)
            seen = self.listed(asset)[name]
            self.assertEqual((seen["status"], seen["width"], seen["height"], seen["codec"]), ("ready", *size, "h264"))
            self.assertEqual(os.path.getsize(self.file_of(asset, name)), item["bytes"])
            for path in session:  # whoever plays already goes on
                self.assertEqual(self.stream(asset, path).status, 200, path)
        self.assertEqual(self.uris(asset), [f"{n}/index.m3u8" for n in ("original", "180p", "own", "96p")])
        self.assertEqual(set(self.uris(asset, "master-ts.m3u8")),
                         {f"{n}/index-ts.m3u8" for n in ("original", "180p", "own", "96p")})
        self.assertIn(b'id="own"', self.stream(asset, "manifest.mpd").body)
        self.assertEqual(self.stream(asset, "180p/seg-0.ts").status, 200)
        # Cuts of all of them are at the same instants.
        lengths = [[line for line in self.stream(asset, uri).body.decode().splitlines() if line.startswith("#EXTINF")]
                   for uri in self.uris(asset)]
        self.assertEqual(lengths, [lengths[0]] * 4)

    def test_wrong_members(self):
        asset = self.put(clip("short"))
        path = f"{ASSETS}/{asset}/renditions"
        for wish, field in (({}, "height"), ({"profile": "1p"}, "profile"), ({"profile": 180}, "profile"),
                            ({"profile": None}, "profile"), ({"profile": "180p", "height": 90}, "profile"),
                            ({"profile": "180p", "crf": 20}, "profile"), ({"height": 63, "crf": 20}, "height"),
                            ({"height": 8193, "crf": 20}, "height"), ({"height": "90", "crf": 20}, "height"),
                            ({"height": 90.5, "crf": 20}, "height"), ({"height": 361, "crf": 20}, "height"),
                            ({"height": 90}, "bitrate"), ({"height": 90, "bitrate": 90000, "crf": 2}, "bitrate"),
                            ({"height": 90, "bitrate": 49999}, "bitrate"), ({"height": 90, "bitrate": 10**9}, "bitrate"),
                            ({"height": 90, "bitrate": True}, "bitrate"), ({"height": 90, "crf": 52}, "crf"),
                            ({"height": 90, "crf": 0}, "crf"), ({"height": 90, "crf": -1}, "crf"), ({"height": 90, "crf": 2**63}, None),
                            ({"profile": "180p", "name": ""}, "name"), ({"profile": "180p", "name": "-a"}, "name"),
                            ({"profile": "180p", "name": "A"}, "name"), ({"profile": "180p", "name": "a/b"}, "name"),
                            ({"profile": "180p", "name": "a" * 17}, "name"), ({"profile": "180p", "name": 3}, "name"),
                            ({"profile": "180p", "name": "original"}, "name"),
                            ({"profile": "180p", "name": "audio-2"}, "name"), ({"profile": "180p", "name": "subs"}, "name"),
                            ({"profile": "180p", "name": "x-a"}, "name"), ({"profile": "180p", "codec": "av1"}, "codec")):
            with self.subTest(wish):
                problem = self.assertProblem(self.admin.request("POST", path, wish), 400)
                self.assertEqual(problem.get("field"), field, problem)
        for body in (b"", b"{", b"[]", b"7"):
            self.assertProblem(self.admin.request("POST", path, body, {"Content-Type": "application/json"}), 400)
        self.assertEqual(set(self.listed(asset)), {"original", "audio"})
        self.assertProblem(self.admin.request("POST", f"{ASSETS}/01ZZZZZZZZZZZZZZZZZZZZZZZZ/renditions",
                                              {"profile": "180p"}), 404)
        sound = self.put(clip("audio-only"))
        self.assertProblem(self.admin.request("POST", f"{ASSETS}/{sound}/renditions", {"profile": "180p"}), 409)
        low = self.put(clip("long"))  # 180 lines
        problem = self.assertProblem(self.admin.request("POST", f"{ASSETS}/{low}/renditions", {"profile": "360p"}), 400)
        self.assertEqual(problem["field"], "profile")

    def test_names_and_places(self):
        asset = self.put(clip("short"))
        self.made(asset, profile="180p")
        problem = self.assertProblem(self.admin.request("POST", f"{ASSETS}/{asset}/renditions",
                                                        {"height": 90, "crf": 30, "name": "180p"}), 409)
        self.assertEqual(problem["field"], "name")
        playlist = self.stream(asset, "180p/index.m3u8")
        self.assertEqual(playlist.status, 200)
        first, path = self.stream(asset, "180p/seg-0.m4s").body, self.file_of(asset, "180p")
        self.assertEqual(self.drop(asset, "180p").status, 204)
        self.assertFalse(os.path.exists(path))
        self.assertEqual(self.uris(asset), ["original/index.m3u8"])
        for name in ("180p/index.m3u8", "180p/init.mp4", "180p/seg-0.m4s", "180p/seg-0.ts", "180p/download.mp4"):
            self.assertProblem(self.stream(asset, name), 404)
        self.assertProblem(self.drop(asset, "180p"), 404)
        self.assertProblem(self.drop(asset, "original"), 404)  # the source is none that was made
        # Another one of the name is not behind URLs that caches may hold.
        self.assertEqual(self.made(asset, height=90, crf=30, name="180p")["name"], "180p-2")
        self.assertEqual(self.uris(asset), ["original/index.m3u8", "180p-2/index.m3u8"])
        self.assertProblem(self.stream(asset, "180p/seg-0.m4s"), 404)
        self.assertNotEqual(self.stream(asset, "180p-2/seg-0.m4s").body, first)
        self.assertEqual(self.drop(asset, "180p-2").status, 204)
        self.assertEqual(self.made(asset, height=90, crf=30, name="180p-2")["name"], "180p-2-2")

    def test_whose_they_are(self):
        mine = self.daemon.client("creator", "one")
        other, viewer = self.daemon.client("creator", "two"), self.daemon.client("viewer", "three")
        asset = self.put(clip("short"), mine)
        for client in (other, viewer):
            self.assertProblem(client.request("POST", f"{ASSETS}/{asset}/renditions", {"profile": "180p"}), 403)
            self.assertProblem(self.drop(asset, "180p", client), 403)
        self.assertProblem(self.anonymous.request("POST", f"{ASSETS}/{asset}/renditions", {"profile": "180p"}), 401)
        told = mine.request("POST", f"{ASSETS}/{asset}/renditions", {"profile": "180p"})
        self.assertEqual(told.status, 202)
        self.assertEqual(ended(mine, told.json()["job"])["state"], "done")
        self.assertEqual(self.drop(asset, "180p", mine).status, 204)

    def test_what_it_is_played_by_stays(self):
        remuxed, encoded = self.put(foreign("remux.ts")), self.put(foreign("encode.avi"))
        self.all_done(remuxed)
        self.all_done(encoded)
        self.assertEqual(set(self.listed(remuxed)), {"original", "audio"})
        self.assertEqual(set(self.listed(encoded)), {"180p", "360p", "audio"})
        for asset, name in ((remuxed, "original"), (encoded, "audio")):
            problem = self.assertProblem(self.drop(asset, name), 409)
            self.assertEqual(problem["field"], "name")
        # Of two that are dropped at once one stays.
        answers = []
        threads = [threading.Thread(target=lambda n=name: answers.append(self.drop(encoded, n).status))
                   for name in ("180p", "360p")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(answers), [204, 409])
        self.assertEqual(len(self.uris(encoded)), 1)
        self.assertEqual(self.stream(encoded, self.uris(encoded)[0]).status, 200)

    def test_twins_have_their_own(self):
        one, two = self.put(foreign("encode.avi")), self.put(foreign("encode.avi"))
        self.all_done(one)
        self.all_done(two)
        self.assertEqual(self.admin.request("DELETE", f"{ASSETS}/{one}").status, 204)
        self.assertEqual(self.stream(two, "180p/seg-0.m4s").status, 200)
        self.assertEqual(self.rows("SELECT count(*) FROM renditions WHERE asset_id = ?", one), [(0,)])

    def test_download(self):
        asset = self.put(clip("short"))
        self.made(asset, profile="180p")
        path = self.file_of(asset, "180p")
        whole = self.stream(asset, "180p/download.mp4")
        self.assertEqual(whole.status, 200)
        with open(path, "rb") as file:
            self.assertEqual(whole.body, file.read())
        self.assertIn("short-180p.mp4", whole.header("Content-Disposition"))
        part = self.stream(asset, "180p/download.mp4", headers={"Range": "bytes=100-299"})
        self.assertEqual((part.status, part.body), (206, whole.body[100:300]))
        self.assertEqual(part.header("Content-Range"), f"bytes 100-299/{len(whole.body)}")
        self.assertEqual(self.stream(asset, "180p/download.mp4", headers={"Range": "bytes=99999999-"}).status, 416)
        url = f"http://127.0.0.1:{self.daemon.port}/stream/{asset}/180p/download.mp4"
        shown = support.run("ffprobe", "-v", "error", "-count_frames", "-of", "json", "-show_streams", url)
        streams = {s["codec_type"]: s for s in json.loads(shown.stdout)["streams"]}
        self.assertEqual((streams["video"]["width"], streams["video"]["height"]), (320, 180))
        self.assertEqual(int(streams["video"]["nb_read_frames"]), 120)
        self.assertGreater(int(streams["audio"]["nb_read_frames"]), 180)
        heard = support.run("ffmpeg", "-nostdin", "-v", "info", "-i", url, "-af", "volumedetect", "-vn", "-f", "null", "-")
        self.assertIn(b"max_volume: -", heard.stderr)
        self.assertNotIn(b"max_volume: -91", heard.stderr)  # silence

    def test_looking_again(self):
        asset = self.put(clip("short"))
        before = self.stream(asset, "original/index.m3u8").body
        told = self.admin.request("POST", JOBS, {"type": "probe", "payload": {"asset_id": asset}})
        self.assertEqual(told.status, 202, told.body)
        self.assertEqual(ended(self.admin, told.json()["id"])["state"], "done")
        self.assertEqual(self.stream(asset, "original/index.m3u8").body, before)
        self.assertEqual(self.stream(asset, "original/seg-0.m4s").status, 200)
        for payload in ({}, {"asset_id": "x"}, {"asset_id": asset, "more": 1}, {"asset_id": 7}):
            problem = self.assertProblem(self.admin.request("POST", JOBS, {"type": "probe", "payload": payload}), 400)
            self.assertEqual(problem["field"], "payload")
        told = self.admin.request("POST", JOBS, {"type": "probe",
                                                 "payload": {"asset_id": "01ZZZZZZZZZZZZZZZZZZZZZZZZ"}})
        self.assertEqual(ended(self.admin, told.json()["id"])["state"], "failed")
        self.assertProblem(self.admin.request("POST", JOBS, {"type": "transcode"}), 403)  # the daemon makes those itself


class ByThemselves(Case, support.DaemonCase):
    settings = {**SETTINGS, "transcode.automatic": "all"}

    def test_what_uploads_get(self):
        playable, remuxed = self.put(clip("short")), self.put(foreign("remux.ts"))
        self.assertEqual(self.asset(playable)["status"], "ready")  # at once
        self.all_done(playable)
        self.all_done(remuxed)
        # A rung as high as the source spares half of its bits here.
        self.assertEqual(self.uris(playable), [f"{name}/index.m3u8" for name in ("original", "360p", "180p")])
        self.assertEqual(self.uris(remuxed), ["original/index.m3u8", "180p/index.m3u8"])
        told = self.admin.get(f"{ASSETS}/{remuxed}/stream").json()
        self.assertEqual(told["status"], "ready")
        self.assertEqual(self.anonymous.get(path_of(told["playback"]["hls"])).status, 200)


class Running(Case, support.DaemonCase):
    """While an encode takes long."""
    settings = {**SETTINGS, "transcode.preset": "slower", "transcode.ladder": "1080p:5000k", "transcode.niceness": "7"}

    def begun(self, asset, **wish):
        told = self.ask(asset, **(wish or {"profile": "1080p"}))
        self.wait_for_frames(told["job"])
        self.assertTrue(encoders(self.daemon))
        return told

    def test_cancel(self):
        asset = self.put(clip("heavy"))
        told = self.begun(asset)
        began = time.monotonic()
        self.assertEqual(self.admin.request("DELETE", f"{JOBS}/{told['job']}").status, 202)
        eventually(lambda: job(self.admin, told["job"])["state"] == "cancelled", 5, "the end")
        self.assertLess(time.monotonic() - began, CANCEL_S * SLOW)
        self.assertNoEncoder()
        self.assertOnlySources(asset)
        eventually(lambda: self.listed(asset)["1080p"]["status"] == "failed", 5, "a rendition that failed")
        self.assertEqual(self.listed(asset)["1080p"]["error"], "cancelled")
        self.assertEqual(self.asset(asset)["status"], "ready")
        # Another of its name takes its place; its job comes back for nothing.
        failed, told = told, self.begun(asset)
        self.assertEqual(told["name"], "1080p-2")
        self.assertNotIn("1080p", self.listed(asset))
        self.assertProblem(self.admin.request("POST", f"{ASSETS}/{asset}/renditions", {"profile": "1080p"}), 409)
        self.assertEqual(self.admin.request("POST", f"{JOBS}/{failed['job']}/retry").status, 202)
        self.assertEqual(self.listed(asset)["1080p-2"]["status"], "processing")
        # One that is dropped while it is made: nobody waits for its job.
        self.assertEqual(self.drop(asset, "1080p-2").status, 204)
        eventually(lambda: job(self.admin, told["job"])["state"] == "cancelled", 5, "the end")
        self.assertNoEncoder()
        self.assertOnlySources(asset)

    @unittest.skipIf(os.cpu_count() < 2, "one CPU is never left")
    def test_leaves_a_cpu_while_something_is_streamed(self):
        playing, asset = self.put(clip("bframes")), self.put(clip("heavy"))
        every = os.sched_getaffinity(self.daemon.process.pid)

        def usable():
            """What the threads of the encoder may use."""
            found = set()
            for pid in encoders(self.daemon):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    with contextlib.suppress(ProcessLookupError):
                        found.add(frozenset(os.sched_getaffinity(int(thread))))
            return found

        def streamed():
            self.assertEqual(self.stream(playing, "original/seg-0.m4s").status, 200)
            return usable() == {frozenset(every - {min(every)})}

        told = self.begun(asset)
        self.assertEqual([os.getpriority(os.PRIO_PROCESS, pid) for pid in encoders(self.daemon)], [7])
        self.assertEqual(usable(), {frozenset(every)})
        eventually(streamed, 5, "a CPU that is left")
        eventually(lambda: usable() == {frozenset(every)}, 5, "all CPUs in use again")
        self.assertEqual(self.admin.request("DELETE", f"{JOBS}/{told['job']}").status, 202)
        self.assertNoEncoder()

    def test_asset_deleted(self):
        asset = self.put(clip("heavy"))
        told = self.begun(asset)
        self.assertEqual(self.admin.request("DELETE", f"{ASSETS}/{asset}").status, 204)
        eventually(lambda: job(self.admin, told["job"])["state"] == "cancelled", 5, "the end")
        self.assertNoEncoder()
        self.assertEqual(self.rows("SELECT count(*) FROM renditions WHERE asset_id = ?", asset), [(0,)])
        self.assertOnlySources()

    def test_progress_and_playback_meanwhile(self):
        playing, asset = self.put(clip("bframes")), self.put(clip("short"))
        told = self.begun(asset, height=360, bitrate=400000)
        events = Events(self.daemon, told["job"])
        slowest, n = 0, 0
        while job(self.admin, told["job"])["state"] == "running":
            began = time.monotonic()
            self.assertEqual(self.stream(playing, f"original/seg-{n % 4}.m4s").status, 200)
            self.assertEqual(self.stream(playing, f"original/seg-{n % 4}.ts").status, 200)
            slowest, n = max(slowest, time.monotonic() - began), n + 1
        self.assertGreater(n, 3)
        self.assertLess(slowest, 2 * SLOW)
        told = events.parse(events.end(60))
        progress = [data["progress"] if "progress" in data else data for _, name, data in told if name == "progress"]
        self.assertGreater(len(progress), 1)
        percents = [p["percent"] for p in progress]
        self.assertEqual(percents, sorted(percents))
        self.assertLess(percents[0], percents[-1])
        self.assertEqual(percents[-1], 100)
        for p in progress[:-1]:
            self.assertGreater(p["fps"], 0)
            self.assertGreater(p["speed"], 0)
            self.assertGreaterEqual(p["eta"] if "eta" in p else p["eta_s"], 0)
        _, name, last = told[-1]
        self.assertEqual((name, last["state"]), ("state", "done"))


class Ends(Case, unittest.TestCase):
    """Daemons and processes that end too soon."""

    def begin(self, **settings):
        self.daemon = Daemon({**SETTINGS, **settings})
        self.addCleanup(self.daemon.remove)
        self.start()

    def start(self):
        self.daemon.start()
        self.admin = self.daemon.admin

    def test_three_deaths(self):
        self.begin(**{"transcode.preset": "slower", "transcode.ladder": "360p:400k"})
        asset = self.put(foreign("deadly.avi", 60))
        ((made_by,),) = self.rows("SELECT id FROM jobs WHERE type = 'transcode-first'")
        for deaths in range(1, 4):
            self.wait_for_frames(made_by)
            (victim,) = encoders(self.daemon)
            os.kill(victim, signal.SIGKILL)
            eventually(lambda n=deaths: job(self.admin, made_by)["crashes"] == n, 30, f"death {deaths}")
        self.assertEqual(job(self.admin, made_by)["state"], "dead")
        eventually(lambda: self.asset(asset)["status"] == "failed", 5, "a failed asset")
        self.assertTrue(self.asset(asset)["error"])
        self.assertNotIn("did not end well", self.asset(asset)["error"])
        self.assertNoEncoder()
        self.assertOnlySources(asset)
        self.daemon.stop()
        self.daemon.settings["transcode.preset"] = "ultrafast"
        self.start()
        self.assertEqual(self.asset(asset)["status"], "failed")
        self.assertEqual(self.admin.request("POST", f"{JOBS}/{made_by}/retry").status, 202)
        self.ready(asset)
        self.all_done(asset)
        self.assertEqual(set(self.listed(asset)), {"360p", "audio"})
        self.daemon.stop()

    def test_stop_while_encoding(self):
        self.begin(**{"transcode.preset": "slower"})
        asset = self.put(clip("bframes"))
        told = self.ask(asset, profile="360p")
        self.wait_for_frames(told["job"])
        (victim,) = encoders(self.daemon)
        began = time.monotonic()
        self.daemon.stop()  # status 0
        self.assertLess(time.monotonic() - began, 5 * SLOW)
        self.assertFalse(os.path.exists(f"/proc/{victim}"))
        self.assertEqual(self.rows("SELECT state, attempts, crashes FROM jobs WHERE id = ?", told["job"]), [(0, 0, 0)])
        self.assertOnlySources(asset)
        self.daemon.settings["transcode.preset"] = "ultrafast"
        self.start()
        self.assertEqual(ended(self.admin, told["job"], 90)["state"], "done")
        self.assertEqual(self.uris(asset), ["original/index.m3u8", "360p/index.m3u8"])
        self.daemon.stop()

    def test_files_that_are_gone(self):
        self.begin()
        asset = self.put(clip("short"))
        self.made(asset, profile="180p")
        os.unlink(self.file_of(asset, "180p"))
        self.daemon.stop()
        self.start()
        seen = self.listed(asset)["180p"]
        self.assertEqual((seen["status"], seen["error"]), ("failed", "its file is missing"))
        self.assertEqual(self.uris(asset), ["original/index.m3u8"])
        self.assertEqual(self.drop(asset, "180p").status, 204)
        self.assertEqual(self.made(asset, profile="180p")["name"], "180p-2")
        # A source that is gone fails for good, and says so.
        told = self.admin.request("POST", f"{JOBS}/pause", {})
        self.assertEqual(told.status, 200)
        told = self.ask(asset, height=90, crf=30)
        os.unlink(os.path.join(self.daemon.data, "assets", asset[-2:], asset, "source"))
        self.assertEqual(self.admin.request("POST", f"{JOBS}/resume", {}).status, 200)
        failed = ended(self.admin, told["job"])
        self.assertEqual((failed["state"], failed["attempts"]), ("failed", 1))
        self.assertIn("file is not there", failed["error"]["detail"])
        self.daemon.stop()


if __name__ == "__main__":
    support.main()
