"""The job queue through the daemon: requests, events, deaths."""
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import threading
import time
import unittest

import support
from support import SLOW, Daemon, clip, eventually, path_of

JOBS, SCHEDULES = "/api/v1/jobs", "/api/v1/schedules"
FINAL = {"done", "failed", "cancelled", "dead"}
FILLER_BYTES = 192 << 20  # makes a backup long enough to meet it on its way


def make(client, kind, **members):
    response = client.request("POST", JOBS, {"type": kind, **members})
    if response.status != 202:
        raise AssertionError(f"{response.status}: {response.body[:400]}")
    return response.json()["id"]


def job(client, job_id):
    return client.get(f"{JOBS}/{job_id}").json()


def ended(client, job_id, seconds=30):
    return eventually(lambda: (found := job(client, job_id))["state"] in FINAL and found, seconds, f"the end of {job_id}")


class Events:
    """curl -N on a job's events, read as it comes."""

    def __init__(self, daemon, job_id, last=None):
        command = ["curl", "-sS", "-N", "-i", "-H", f"Authorization: Bearer {daemon.admin_key}"]
        if last is not None:
            command += ["-H", f"Last-Event-ID: {last}"]
        self.process = subprocess.Popen([*command, f"http://127.0.0.1:{daemon.port}{JOBS}/{job_id}/events"],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.text, self.news = "", threading.Condition()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        while True:
            block = os.read(self.process.stdout.fileno(), 65536)
            with self.news:
                self.text += block.decode()
                self.ended = not block
                self.news.notify_all()
            if not block:
                return

    def wait(self, pattern, seconds=30):
        deadline = time.monotonic() + seconds * SLOW
        with self.news:
            while not re.search(pattern, self.text):
                left = deadline - time.monotonic()
                if left <= 0 or getattr(self, "ended", False):
                    raise AssertionError(f"no {pattern!r} in:\n{self.text}")
                self.news.wait(left)

    def end(self, seconds=30):
        """The whole, once the server has ended it."""
        status = self.process.wait(seconds * SLOW)
        self.thread.join()
        self.process.stdout.close()
        if status != 0:
            raise AssertionError(f"curl ended with {status}:\n{self.text}")
        return self.text

    def leave(self):
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()

    @staticmethod
    def parse(text):
        events = []
        for block in text.replace("\r", "").split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if re.match(r"(id|event|data): ", line))
            if "event" in fields:
                events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
        return events


class Queue(support.DaemonCase):
    settings = {"worker.gc_age": "1s", "worker.retention": "1s", "worker.backups_kept": "2"}

    def setUp(self):
        self.assertEqual(self.admin.request("POST", JOBS + "/resume", {}).status, 200)

    def paused(self):
        self.assertEqual(self.admin.request("POST", JOBS + "/pause", {}).status, 200)

    def resume(self):
        self.assertEqual(self.admin.request("POST", JOBS + "/resume", {}).status, 200)

    def test_a_job_from_its_making_to_its_end(self):
        response = self.admin.request("POST", JOBS, {"type": "gc"})
        self.assertEqual(response.status, 202)
        job_id = response.json()["id"]
        self.assertEqual(response.header("Location"), f"{JOBS}/{job_id}")
        done = ended(self.admin, job_id)
        self.assertEqual((done["state"], done["attempts"], done["crashes"], done["error"]), ("done", 1, 0, None))
        self.assertIn("files", done["result"])
        for name in ("run_at", "created_at", "started_at", "finished_at"):
            self.assertRegex(done[name], r"^\d{4}-\d\d-\d\dT.*Z$")
        self.assertGreaterEqual(self.daemon.metric("worker_jobs_finished_total", type="gc", state="done"), 1)

    def test_bad_wishes(self):
        for body, field in (({}, "type"), ({"type": "nothing"}, "type"), ({"type": 5}, "type"),
                            ({"type": "gc", "priority": 101}, "priority"), ({"type": "gc", "priority": "9"}, "priority"),
                            ({"type": "gc", "max_attempts": 0}, "max_attempts"), ({"type": "gc", "delay": -1}, "delay"),
                            ({"type": "gc", "payload": {"x": 1}}, "payload"), ({"type": "gc", "payload": []}, "payload"),
                            ({"type": "gc", "depends_on": ["x"]}, "depends_on"), ({"type": "gc", "depends_on": "x"}, "depends_on"),
                            ({"type": "gc", "depends_on": ["01ZZZZZZZZZZZZZZZZZZZZZZZZ"]}, "depends_on"),
                            ({"type": "gc", "more": 1}, "more")):
            problem = self.assertProblem(self.admin.request("POST", JOBS, body), 400, "invalid-request")
            self.assertEqual(problem.get("field"), field, problem)
        for body, field in (({"type": 5}, "type"), ({"type": None}, "type"), ({"address": "x"}, "address")):
            self.assertEqual(self.assertProblem(self.admin.request("POST", JOBS + "/pause", body), 400).get("field"), field)
        for path in (f"{JOBS}/x", f"{JOBS}/01ZZZZZZZZZZZZZZZZZZZZZZZZ", f"{JOBS}/01ZZZZZZZZZZZZZZZZZZZZZZZZ/events"):
            self.assertProblem(self.admin.get(path), 404)
        self.assertProblem(self.admin.get(JOBS + "?state=sleeping"), 400)

    def test_whose_jobs_they_are(self):
        creator = self.daemon.client("creator", "carla")
        viewer = self.daemon.client("viewer", "victor")
        self.assertProblem(creator.request("POST", JOBS, {"type": "backup"}), 403)
        self.assertProblem(viewer.get(JOBS), 403)
        self.assertProblem(self.anonymous.get(JOBS), 401)
        job_id = make(self.admin, "gc")
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("GET", "/events")):
            self.assertProblem(creator.request(method, f"{JOBS}/{job_id}{path}"), 403)
        self.assertEqual(creator.get(JOBS).json()["items"], [])
        self.assertIn(job_id, [item["id"] for item in self.admin.get(JOBS).json()["items"]])
        for path in ("/pause", "/resume"):
            self.assertProblem(creator.request("POST", JOBS + path, {}), 403)
        self.assertProblem(creator.get(SCHEDULES), 403)

    def test_priority_and_dependencies(self):
        self.paused()
        low = make(self.admin, "gc", priority=10)
        high = make(self.admin, "gc", priority=90)
        first = make(self.admin, "expire", priority=5)
        after = make(self.admin, "backup", priority=100, depends_on=[first])
        self.assertEqual(job(self.admin, after)["depends_on"], [first])
        self.assertEqual({job(self.admin, i)["state"] for i in (low, high, first, after)}, {"queued"})
        self.resume()
        low, high, first, after = (ended(self.admin, i) for i in (low, high, first, after))
        self.assertEqual({j["state"] for j in (low, high, first, after)}, {"done"})
        self.assertLessEqual(high["finished_at"], low["started_at"])
        self.assertLessEqual(first["finished_at"], after["started_at"])

    def test_cancel_and_retry(self):
        self.paused()
        job_id = make(self.admin, "gc")
        waiting = make(self.admin, "gc", depends_on=[job_id])
        response = self.admin.request("DELETE", f"{JOBS}/{job_id}")
        self.assertEqual((response.status, response.json()["state"]), (200, "cancelled"))
        dependant = job(self.admin, waiting)
        self.assertEqual(dependant["state"], "failed")
        self.assertTrue(dependant["error"]["type"].endswith(":dependency-failed"))
        self.assertProblem(self.admin.request("DELETE", f"{JOBS}/{job_id}"), 409)
        self.assertProblem(self.admin.request("POST", f"{JOBS}/{waiting}/retry"), 409)
        self.assertEqual(self.admin.request("POST", f"{JOBS}/{job_id}/retry").status, 202)
        self.assertEqual(job(self.admin, waiting)["state"], "queued")
        self.resume()
        self.assertEqual(ended(self.admin, waiting)["state"], "done")
        self.assertProblem(self.admin.request("POST", f"{JOBS}/{job_id}/retry"), 409)

    def test_one_type_is_paused(self):
        self.assertEqual(self.admin.request("POST", JOBS + "/pause", {"type": "gc"}).status, 200)
        self.assertProblem(self.admin.request("POST", JOBS + "/pause", {"type": "nothing"}), 400)
        gc, expire = make(self.admin, "gc"), make(self.admin, "expire")
        self.assertEqual(ended(self.admin, expire)["state"], "done")
        self.assertEqual(job(self.admin, gc)["state"], "queued")
        types = {t["name"]: t["paused"] for t in self.admin.get(JOBS + "/queue").json()["types"]}
        self.assertEqual(self.admin.request("POST", JOBS + "/resume", {"type": "gc"}).status, 200)
        self.assertLessEqual({"gc", "expire", "backup", "import", "remux", "transcode", "transcode-first", "probe"}, types.keys())
        self.assertEqual([name for name, paused in types.items() if paused], ["gc"])
        self.assertEqual(ended(self.admin, gc)["state"], "done")

    def test_delay(self):
        job_id = make(self.admin, "gc", delay=1)
        self.assertEqual(job(self.admin, job_id)["state"], "queued")
        done = ended(self.admin, job_id)
        self.assertGreaterEqual(done["started_at"], done["run_at"])

    def test_pages(self):
        self.paused()
        made = [make(self.admin, "expire") for _ in range(5)]
        seen, cursor = [], ""
        while True:
            page = self.admin.get(f"{JOBS}?type=expire&state=queued&limit=2{cursor}").json()
            seen += [item["id"] for item in page["items"]]
            if not page["next_cursor"]:
                break
            cursor = f"&cursor={page['next_cursor']}"
        self.assertEqual(seen, sorted(made, reverse=True))

    def test_gc_takes_only_what_nobody_speaks_of(self):
        asset = self.uploaded(clip("short"))
        orphan = "01HZZZZZZZZZZZZZZZZZZZZZQQ"
        folder = os.path.join(self.daemon.data, "assets", orphan[-2:], orphan)
        os.makedirs(folder)
        with open(os.path.join(folder, "source"), "wb") as file:
            file.write(b"left behind")
        time.sleep(2.1)  # change times are compared in whole seconds
        done = ended(self.admin, make(self.admin, "gc"))
        self.assertEqual(done["result"]["removed_files"], 1)
        self.assertFalse(os.path.exists(os.path.join(folder, "source")))
        self.assertEqual(self.anonymous.get(path_of(asset["playback"]["source"])).status, 200)

    def test_backups_are_whole_and_few(self):
        asset = self.uploaded(clip("silent"))
        for _ in range(3):
            done = ended(self.admin, make(self.admin, "backup"))
            self.assertEqual(done["state"], "done", done)
        names = sorted(os.listdir(os.path.join(self.daemon.data, "backups")))
        self.assertEqual(len(names), 4, names)  # two backups of two files
        name = done["result"]["name"]
        path = os.path.join(self.daemon.data, "backups", name)
        self.assertEqual(os.stat(path + ".db").st_mode & 0o777, 0o600)
        with contextlib.closing(sqlite3.connect(path + ".db")) as db:
            self.assertEqual(db.execute("PRAGMA integrity_check").fetchone(), ("ok",))
            self.assertEqual(db.execute("SELECT count(*) FROM assets WHERE id = ?", (asset["id"],)).fetchone(), (1,))
        with open(path + ".files", encoding="ascii") as file:
            rows = {row["id"]: row for row in map(json.loads, file)}
        self.assertEqual(rows[asset["id"]], {"id": asset["id"], "size": asset["size"], "sha256": asset["sha256"]})

    def test_backup_lists_what_was_made(self):
        """Every file of an asset, the renditions that were made of it included."""
        tone = support.made("tone.wav", lambda path: support.ffmpeg("-f", "lavfi", "-i", "sine=duration=3", "-f", "wav", path))
        asset = self.uploaded(tone)
        eventually(lambda: self.admin.get(f"/api/v1/assets/{asset['id']}").json()["status"] == "ready", 60, "the rendition")
        name = ended(self.admin, make(self.admin, "backup"))["result"]["name"]
        with open(os.path.join(self.daemon.data, "backups", name + ".files"), encoding="ascii") as file:
            listed = {row["id"]: row["size"] for row in map(json.loads, file)}
        folder = os.path.join(self.daemon.data, "assets")
        there = {name: os.path.getsize(os.path.join(folder, shard, name, "source"))
                 for shard in os.listdir(folder) for name in os.listdir(os.path.join(folder, shard))}
        self.assertGreaterEqual(len(there), 2)
        self.assertEqual(listed, there)

    def test_expire_removes_old_jobs(self):
        old = make(self.admin, "gc")
        ended(self.admin, old)
        time.sleep(1.2)
        ended(self.admin, make(self.admin, "expire"))
        self.assertProblem(self.admin.get(f"{JOBS}/{old}"), 404)

    def test_schedules(self):
        response = self.admin.request("POST", SCHEDULES, {"type": "gc", "cron": "30 4 * * mon", "time_zone": "Europe/Berlin",
                                                          "missed": "once"})
        self.assertEqual(response.status, 201, response.body)
        made = response.json()
        self.assertRegex(made["next_run_at"], r"T0[23]:30:00")
        self.assertEqual(self.admin.get(f"{SCHEDULES}/{made['id']}").json(), made)
        self.assertIn(made, self.admin.get(SCHEDULES).json()["items"])
        for body, field in (({"type": "gc"}, "cron"), ({"type": "gc", "cron": "* * * *"}, "cron"),
                            ({"type": "gc", "cron": "0 0 30 2 *"}, "cron"), ({"type": "x", "cron": "* * * * *"}, "type"),
                            ({"type": "gc", "cron": "* * * * *", "time_zone": "Mars/Base"}, "time_zone"),
                            ({"type": "gc", "cron": "* * * * *", "time_zone": "../../etc/passwd"}, "time_zone"),
                            ({"type": "gc", "cron": "* * * * *", "missed": "twice"}, "missed"),
                            ({"type": "gc", "cron": "* * * * *", "zone": "UTC"}, "zone")):
            self.assertEqual(self.assertProblem(self.admin.request("POST", SCHEDULES, body), 400).get("field"), field)
        self.assertEqual(self.admin.request("DELETE", f"{SCHEDULES}/{made['id']}").status, 204)
        self.assertProblem(self.admin.get(f"{SCHEDULES}/{made['id']}"), 404)
        self.assertProblem(self.admin.request("DELETE", f"{SCHEDULES}/{made['id']}"), 404)

    # ---- events ----

    def test_events_to_the_end_and_again(self):
        self.paused()
        job_id = make(self.admin, "backup")
        events = Events(self.daemon, job_id)
        events.wait(r"event: job\n")
        self.resume()
        text = events.end()
        self.assertIn("Content-Type: text/event-stream", text)
        self.assertIn("X-Accel-Buffering: no", text)
        told = events.parse(text)
        self.assertEqual(told[0][1], "job")
        self.assertEqual(told[0][2]["state"], "queued")
        self.assertEqual([e[2]["state"] for e in told if e[1] == "state"][-2:], ["running", "done"])
        self.assertTrue(any(e[1] == "progress" and e[2]["percent"] == 100 for e in told), told)
        numbers = [e[0] for e in told]
        self.assertEqual(numbers, sorted(set(numbers)))
        # From the middle: exactly what came after it.
        again = Events(self.daemon, job_id, last=told[1][0])
        self.assertEqual(again.parse(again.end()), told[2:])
        # After the end there is nothing more, and EventSource is told so.
        after = Events(self.daemon, job_id, last=told[-1][0])
        self.assertIn("204 No Content", after.end())
        # An id nobody knows (an earlier daemon's): the whole, from the row.
        unknown = Events(self.daemon, job_id, last=17)
        self.assertEqual([(e[1], e[2]["state"]) for e in unknown.parse(unknown.end())], [("job", "done"), ("state", "done")])

    def test_readers_that_leave_are_forgotten(self):
        self.paused()
        job_id = make(self.admin, "gc")
        readers = [Events(self.daemon, job_id) for _ in range(5)]
        for reader in readers:
            reader.wait(r"event: job\n")
        self.assertEqual(self.daemon.metric("worker_event_subscribers"), 5)
        for reader in readers:
            reader.leave()
        eventually(lambda: self.daemon.metric("worker_event_subscribers") == 0, 10, "no subscribers")
        eventually(lambda: self.daemon.metric("active_connections") <= 1, 10, "no connections")

    def test_silence_is_broken_by_comments(self):
        self.paused()
        job_id = make(self.admin, "gc")
        reader = Events(self.daemon, job_id)
        reader.wait(r"\n:\n", 25)
        self.resume()
        self.assertEqual(reader.parse(reader.end())[-1][2]["state"], "done")


class WrongDatabase(support.DaemonCase):
    settings = {"worker.gc_age": "1s"}

    def test_gc_does_not_believe_that_nothing_is_wanted(self):
        folder = os.path.join(self.daemon.data, "assets", "QQ", "01HZZZZZZZZZZZZZZZZZZZZZQQ")
        os.makedirs(folder)
        with open(os.path.join(folder, "source"), "wb") as file:
            file.write(b"somebody's film")
        time.sleep(2.1)  # past worker.gc_age
        failed = ended(self.admin, make(self.admin, "gc"))
        self.assertEqual((failed["state"], failed["attempts"]), ("failed", 1))
        self.assertTrue(os.path.exists(os.path.join(folder, "source")))


class Deaths(unittest.TestCase):
    """A daemon with so large a database that a backup can be met on its way."""

    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.remove)
        self.daemon.start()
        self.daemon.stop()
        with contextlib.closing(sqlite3.connect(os.path.join(self.daemon.data, "streamgate.db"))) as db:
            db.execute("CREATE TABLE filler(bytes BLOB)")
            for _ in range(FILLER_BYTES >> 20):
                db.execute("INSERT INTO filler VALUES(randomblob(1 << 20))")
            db.commit()
        self.daemon.start()

    def begin(self, job_id):
        """Until the job is on its way."""
        return eventually(lambda: (found := job(self.daemon.admin, job_id))["state"] == "running" and found["progress"]
                          and found, 60, "a running job")

    def test_cancel_is_quick_and_leaves_nothing(self):
        job_id = make(self.daemon.admin, "backup")
        self.begin(job_id)
        began = time.monotonic()
        self.assertEqual(self.daemon.admin.request("DELETE", f"{JOBS}/{job_id}").status, 202)
        self.assertEqual(ended(self.daemon.admin, job_id)["state"], "cancelled")
        self.assertLess(time.monotonic() - began, 0.5 * SLOW)
        self.assertEqual(self.daemon.files("backups"), [])
        self.daemon.stop()

    def test_killed_daemons_jobs_run_again_and_once(self):
        job_id = make(self.daemon.admin, "backup")
        self.begin(job_id)
        self.daemon.kill()
        self.daemon.start()
        done = ended(self.daemon.admin, job_id, 90)
        self.assertEqual((done["state"], done["crashes"], done["attempts"]), ("done", 1, 1))
        self.assertEqual(len(self.daemon.files("backups")), 2)
        self.daemon.stop()

    def test_three_deaths_are_the_last(self):
        job_id = make(self.daemon.admin, "backup")
        for deaths in range(1, 4):
            self.begin(job_id)
            self.daemon.kill()
            self.daemon.start()
            self.assertEqual(job(self.daemon.admin, job_id)["crashes"], deaths)
        dead = job(self.daemon.admin, job_id)
        self.assertEqual(dead["state"], "dead")
        self.assertTrue(dead["error"]["type"].endswith(":runner-lost"))
        self.daemon.stop()

    def test_a_stop_gives_jobs_back_and_ends_streams(self):
        job_id = make(self.daemon.admin, "backup")
        self.begin(job_id)
        reader = Events(self.daemon, job_id)
        reader.wait(r"event: job\n")
        began = time.monotonic()
        self.daemon.stop()
        self.assertLess(time.monotonic() - began, 10 * SLOW)
        reader.end()
        self.daemon.start()
        done = ended(self.daemon.admin, job_id, 90)
        self.assertEqual((done["state"], done["crashes"], done["attempts"]), ("done", 0, 1))
        self.daemon.stop()


if __name__ == "__main__":
    unittest.main(verbosity=2)
