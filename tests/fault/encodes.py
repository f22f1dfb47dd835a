#!/usr/bin/env python3
"""SIGKILL while renditions are made: of the daemon, or of a process that encodes. usage: encodes.py [--trials N] [--seed S]

A data directory serves EPOCH trials. Each uploads a film whose renditions are to be made and kills at a moment drawn
log-uniformly over the time they take; some of the starts that follow run no jobs, so that what a start leaves can be
looked at while nothing moves. At the end of an epoch every job is done (one that was killed three times after it was retried), and what was made
of a film is what an undisturbed daemon makes of it, to the byte: threads and preset are fixed. Only the names in URLs of
what was played while it was made are others after a kill.
"""
import argparse
import contextlib
import hashlib
import os
import random
import re
import signal
import sqlite3
import sys
import time

from common import BIN, Daemon, Failures, eventually, log_uniform, remove, say, scratch, support, tidy_when_stopped

EPOCH = 25
# From the answer of the upload to the kill, in times what an undisturbed daemon of the same build took for that film.
DAEMON_AFTER = 0.05, 1.2
PROCESS_AFTER = 0.005, 0.5
INSPECTED = 0.5                # of the starts
PROCESS = 0.4                  # of the kills: the encoding process
SETTINGS = {
    **support.EAGER,
    "transcode.automatic": "all",
    "transcode.ladder": "144p:200k 72p:100k",
    "transcode.threads": "1",
    "transcode.preset": "fast",
    "transcode.jobs": "2",
    "transcode.first_jobs": "2",
    "worker.runners": "6",
}
READY = 1
DONE, FAILED, CANCELLED, DEAD = 2, 3, 4, 5


def film(name, *arguments):
    """A few seconds at 240 lines, enough to be met while they are encoded."""
    source = ["-f", "lavfi", "-i", "testsrc2=size=426x240:rate=25:duration=4",
              "-f", "lavfi", "-i", "sine=frequency=330:sample_rate=48000:duration=4"]
    kind = os.path.splitext(name)[1][1:]
    form = {"mkv": "matroska", "ts": "mpegts", "mp4": "mp4", "avi": "avi"}[kind]
    return support.made(f"encodes-{name}",
                        lambda path: support.ffmpeg(*source, *arguments, "-shortest", "-f", form, path))


def films():
    h264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac"]
    return [film("playable.mp4", *h264, "-movflags", "+faststart"), film("remux.ts", *h264),
            film("encode.avi", "-c:v", "mpeg4", "-q:v", "4", "-c:a", "mp3"),
            film("encode.mkv", "-c:v", "mpeg2video", "-q:v", "4", "-c:a", "flac")]


def encoders(daemon):
    return support.encoders(daemon.process.pid)


class Book:
    """What the database says, read beside the daemon."""

    def __init__(self, data):
        self.path = os.path.join(data, "streamgate.db")

    def rows(self, sql, *values):
        with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute(sql, values).fetchall()

    def jobs(self):
        return self.rows("SELECT id, type, state, crashes, error_detail, asset_id FROM jobs WHERE type IN"
                         " ('transcode', 'transcode-first', 'remux')")

    def made(self, asset):
        return self.rows("SELECT name, dir, kind, id, size_bytes, state FROM renditions WHERE asset_id = ?", asset)


def path_of(data, file_id):
    return os.path.join(data, "assets", file_id[-2:], file_id, "source")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class EncodeTrials:
    def __init__(self, seed):
        self.failures = Failures("encodes", seed)
        self.rng = random.Random(seed)
        self.folder = scratch("encodes")
        self.films = films()
        self.daemon = None
        self.met = self.retried = self.renditions = self.processes = 0

    # -- an undisturbed daemon --

    def learn(self):
        daemon = self.daemon = Daemon(os.path.join(self.folder, "undisturbed"), settings=SETTINGS)
        os.makedirs(daemon.dir)
        daemon.start()
        book = Book(daemon.data)
        self.expected, self.took = {}, {}
        for path in self.films:
            asset = self.upload(path)
            began = time.monotonic()
            self.finish(book)
            self.took[path] = time.monotonic() - began
            self.expected[path] = self.outcome(book, asset)
        daemon.kill()

    def outcome(self, book, asset):
        """{name: (kind, SHA-256)} of what an asset's renditions are."""
        out = {}
        live = {row[0] for row in book.rows("SELECT id FROM renditions WHERE job_id IN (SELECT id FROM jobs WHERE type ="
                                            " 'transcode-first')")}
        for name, directory, kind, file_id, size, state in book.made(asset):
            path = path_of(self.daemon.data, file_id)
            whole = state == READY and os.path.exists(path) and os.path.getsize(path) == size
            self.failures.check(whole, f"{asset}: {name} is in state {state}, its file not what the row says")
            same = directory == name or (file_id in live and re.fullmatch(re.escape(name) + r"-\d+", directory))
            self.failures.check(same and name not in out, f"{asset}: {name} ({directory}) was made twice")
            out[name] = (kind, digest(path) if whole else "")
        return out

    # -- trials --

    def fresh(self, number):
        self.daemon = Daemon(os.path.join(self.folder, f"epoch-{number}"), settings=SETTINGS)
        os.makedirs(self.daemon.dir)
        self.daemon.start()
        self.book = Book(self.daemon.data)
        self.assets = {}

    def upload(self, path):
        with open(path, "rb") as file:
            answer = self.daemon.client.request("PUT", f"/api/v1/upload/{os.path.basename(path)}", body=file.read())
        if answer.status != 201:
            raise AssertionError(f"{path}: {answer.status} {answer.body[:300]!r}")
        return answer.json()["id"]

    def trial(self):
        path = self.rng.choice(self.films)
        self.assets[self.upload(path)] = path
        # A process first, so that even a short run meets one.
        if self.rng.random() < PROCESS or not self.processes:
            self.kill_process(log_uniform(self.rng, *PROCESS_AFTER) * self.took[path])
        else:
            time.sleep(log_uniform(self.rng, *DAEMON_AFTER) * self.took[path])
            self.kill_daemon()

    def kill_process(self, after):
        found = eventually(lambda: encoders(self.daemon), 10)
        if not found:
            return
        time.sleep(after)
        victim = self.rng.choice(encoders(self.daemon) or found)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            self.processes += 1

    def kill_daemon(self):
        self.met += bool(encoders(self.daemon))
        self.daemon.kill()
        if self.rng.random() < INSPECTED:
            self.daemon.settings["worker.runners"] = "0"
            self.daemon.start()
            self.inspect()
            self.daemon.kill()
            self.daemon.settings.update(SETTINGS)
        self.daemon.start()

    def inspect(self):
        """Files of the directory and rows, while nothing moves."""
        wanted = {row[0] for row in self.book.rows("SELECT id FROM assets")}
        wanted |= {row[0] for row in self.book.rows("SELECT id FROM renditions WHERE state = ?", READY)}
        there = {name for _, folders, _ in os.walk(os.path.join(self.daemon.data, "assets")) for name in folders
                 if len(name) == 26}
        self.failures.check(there == wanted, lambda: f"without a row: {there - wanted}, without a file: {wanted - there}")
        staged = os.listdir(os.path.join(self.daemon.data, "incoming"))
        self.failures.check(not staged, f"staged files stay: {staged}")

    # -- the end of an epoch --

    def finish(self, book):
        """Until every job is done; one that was killed three times is dead by right, and asked for once more."""
        def settled():
            open_jobs = 0
            for job, kind, state, crashes, detail, _ in book.jobs():
                if state == DEAD and crashes >= 3:
                    self.retried += self.daemon.client.request("POST", f"/api/v1/jobs/{job}/retry").status < 300
                elif state == CANCELLED or (state == FAILED and "did not end well" not in detail):
                    self.failures.add(f"{kind} {job} ended in state {state}: {detail}")
                open_jobs += state not in (DONE, CANCELLED)
            return open_jobs == 0
        self.failures.check(eventually(settled, 120), lambda: f"jobs are not done: {book.jobs()}")

    def end_epoch(self):
        self.finish(self.book)
        for asset, path in self.assets.items():
            made = self.outcome(self.book, asset)
            self.failures.check(made == self.expected[path],
                                lambda: f"{asset} of {path}: {made} instead of {self.expected[path]}")
            self.renditions += len(made)
            seen = self.daemon.client.get(f"/api/v1/assets/{asset}").json()
            self.failures.check(seen["status"] == "ready", f"{asset} is {seen['status']}: {seen['error']}")
        left = eventually(lambda: not encoders(self.daemon), 5)
        self.failures.check(left, "processes are left")
        self.daemon.settings["worker.runners"] = "0"
        self.daemon.kill()
        self.daemon.start()
        self.inspect()
        self.daemon.kill()
        if not self.failures.items:
            remove(self.daemon.dir)

    def run(self, trials):
        try:
            self.learn()
            for n in range(trials):
                self.failures.trial = n
                if n % EPOCH == 0:
                    self.fresh(n // EPOCH)
                self.trial()
                if n % EPOCH == EPOCH - 1 or n == trials - 1:
                    self.end_epoch()
                    say(f"encodes: {n + 1} trials, {len(self.failures.trials_failed)} failed")
        finally:
            if self.daemon is not None:
                self.daemon.kill()
        if not self.failures.items:
            remove(self.folder)
        return {"trials": trials, "failed": len(self.failures.trials_failed), "met": self.met,
                "processes": self.processes, "renditions": self.renditions, "retried": self.retried,
                "failures": [f"trial {t}: {what}" for t, what in self.failures.items]}


def main():
    tidy_when_stopped()
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    say(f"encodes: {options.trials} trials of {BIN}, seed {options.seed}")
    result = EncodeTrials(options.seed).run(options.trials)
    say(f"encodes: {result}")
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
