#!/usr/bin/env python3
"""What runs out: the disk (a small tmpfs), descriptors; and what is slow: thousands of uploaders; and what is much:
ten thousand assets at a start. usage: limits.py disk|descriptors|slow|many [--trials N] [--seed S]
"""
import argparse
import contextlib
import os
import random
import resource
import select
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import time

from common import SLOW, Client, Content, Daemon, Failures, Lost, eventually, log_uniform, problem_of, remove, say, \
    scratch, tidy_when_stopped
from steps import STEPS, taken
from world import API, World, features

RECOVERY = 1.0  # seconds after which all must be well again


def recovered(failures, attempt, what):
    """attempt() -> whether it went well; within RECOVERY seconds it must."""
    began = time.monotonic()
    while not attempt():
        if time.monotonic() - began > RECOVERY * SLOW:
            failures.add(f"{what}: not within {RECOVERY * SLOW:.0f} s")
            return None
        time.sleep(0.01)
    return time.monotonic() - began


# ---- disk full ----

TMPFS_BYTES = 48 << 20


class Tmpfs:
    """A folder of few bytes. mount needs root."""

    def __init__(self, folder):
        self.folder, self.path = folder, os.path.join(folder, "disk")

    def __enter__(self):
        os.makedirs(self.path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "none", self.path], check=True,
                       capture_output=True)
        return self

    def fill(self):
        """Until not one byte is left."""
        with open(os.path.join(self.path, "ballast"), "ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def drain(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, "ballast"))

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], capture_output=True, check=False)


class DiskTrials:
    """storage.min_free is 0, so that the file system itself says no, at whatever call comes first."""

    def __init__(self, seed):
        self.failures, self.rng = Failures("disk", seed), random.Random(seed)
        self.folder = scratch("disk-full")
        self.recoveries, self.answers = [], {}

    def trial(self, disk, world, make, late):
        """The disk is full before the step, or becomes so while it runs."""
        step = make(world, self.rng)
        step.label = f"{make.__name__}, the disk full {'from a moment on' if late else 'before'}"
        step.prepare()
        left = 0
        if late:
            left = self.rng.randrange(4096, 60000)
            with open(os.path.join(disk.path, "reserve"), "wb") as file:
                file.write(bytes(left))
        disk.fill()
        if late:
            os.unlink(os.path.join(disk.path, "reserve"))
        response = taken(step)
        for path in self.playing:
            status = world.daemon.anonymous.get(path).status
            self.failures.check(status == 200, lambda: f"{step.label}: playback of another asset: {status}")
        disk.drain()
        if response is None:
            self.failures.add(f"{step.label}: no answer")
            return
        self.answers[response.status] = self.answers.get(response.status, 0) + 1
        probe = STEPS[0](world, self.rng)
        took = recovered(self.failures, lambda: probe.put_raw().status == 201, f"{step.label}: an upload afterwards")
        if took is not None:
            self.recoveries.append(took)
            step.check(response)

    def run(self, trials):
        with Tmpfs(self.folder) as disk:
            daemon = Daemon(self.folder, os.path.join(disk.path, "data"), {"storage.min_free": "0"})
            try:
                daemon.start()
                world = World(daemon, self.failures, features(daemon))
                first = STEPS[0](world, self.rng)
                first.check(first.put_raw())
                asset = next(iter(world.assets))
                self.playing = [f"/stream/{asset}/master.m3u8", f"/stream/{asset}/original/seg-0.m4s",
                                f"/stream/{asset}/source"]
                makes = [m for m in STEPS if m.needs in world.features]
                for n in range(trials):
                    self.failures.trial = n
                    self.trial(disk, world, makes[n // 2 % len(makes)], n % 2 == 1)
                    if n % 40 == 39:
                        self.restart(daemon, world, disk)
                self.restart(daemon, world, disk)
            finally:
                daemon.kill()
        if not self.failures.items:
            remove(self.folder)
        return {"trials": trials, "failed": len(self.failures.trials_failed), "answers": self.answers,
                "recovery_max": max(self.recoveries, default=0),
                "failures": [f"trial {t}: {what}" for t, what in self.failures.items]}

    def restart(self, daemon, world, disk):
        """A start on a full disk may be refused or may work; with room again, all must be there."""
        daemon.kill()
        disk.fill()
        daemon.spawn()
        with contextlib.suppress(AssertionError):
            daemon.wait_ready(3)
        daemon.kill()
        disk.drain()
        daemon.start()
        world.compare()
        world.forget_assets(keep=1)


# ---- descriptors ----

DESCRIPTORS = 160     # the daemon takes as many connections as leave it enough of them
HELD = 200            # connections tried: far more
SPARE_MOST = 8        # descriptors left when the limit falls under a running daemon
SPIN_MOST = 0.25      # of a core, while nothing can be done


class DescriptorTrials:
    """In turn: more connections than there are descriptors; and a limit that falls to what is open, and a few."""

    def __init__(self, seed):
        self.failures, self.rng = Failures("descriptors", seed), random.Random(seed)
        self.folder = scratch("descriptors")
        self.recoveries, self.answers, self.spins = [], {}, []

    @staticmethod
    def hold(daemon):
        """Every other connection sends the head of an upload, which opens a file, and waits."""
        held = []
        for _ in range(HELD):
            s = socket.socket()
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                s.connect(("127.0.0.1", daemon.port))
            held.append(s)
        select.select([], held[-1:], [], 1)
        for s in held[::2]:
            with contextlib.suppress(OSError):
                s.send(f"PUT {API}/upload/h.mp4 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {daemon.key}\r\n"
                       f"Content-Length: 5000\r\n\r\nxxxx".encode())
        return held

    @staticmethod
    def set_limit(daemon, soft):
        pid = daemon.process.pid
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))

    def ask(self, daemon):
        try:
            response = Client(daemon.port, daemon.key, timeout=0.3).request("PUT", f"{API}/upload/f.mp4",
                                                                            self.content.data)
        except Lost:
            self.answers["none"] = self.answers.get("none", 0) + 1
            return
        self.answers[response.status] = self.answers.get(response.status, 0) + 1
        if response.status != 201:
            why = problem_of(response)
            self.failures.check(why is None, lambda: f"refused with {why}")

    def trial(self, daemon, by_connections, measured):
        held = self.hold(daemon) if by_connections else []
        if not by_connections:
            open_ = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
            self.set_limit(daemon, open_ + self.rng.randrange(SPARE_MOST))
        cpu, wall = daemon.cpu_seconds(), time.monotonic()
        for _ in range(2):
            self.ask(daemon)
        if measured:
            waiting = socket.create_connection(("127.0.0.1", daemon.port))  # one that cannot be accepted
            time.sleep(1)
            share = (daemon.cpu_seconds() - cpu) / (time.monotonic() - wall)
            waiting.close()
            self.spins.append(share)
            self.failures.check(share < SPIN_MOST, lambda: f"the daemon uses {share:.0%} of a core while it waits")
        for s in held:
            s.close()
        if not by_connections:
            self.set_limit(daemon, DESCRIPTORS)

        def well():
            with contextlib.suppress(Lost):
                return Client(daemon.port, daemon.key, timeout=1).request(
                    "PUT", f"{API}/upload/f.mp4", self.content.data).status == 201
            return False
        took = recovered(self.failures, well, "an upload after the descriptors came back")
        if took is not None:
            self.recoveries.append(took)
        self.failures.check(daemon.alive(), "the daemon ended")

    def run(self, trials):
        daemon = Daemon(self.folder, limits=DESCRIPTORS)
        self.content = Content(self.rng.getrandbits(60), 30000)
        try:
            daemon.start()
            for n in range(trials):
                self.failures.trial = n
                self.trial(daemon, n % 2 == 0, n % 25 < 2)
                if not daemon.alive():
                    break
        finally:
            daemon.kill()
        if not self.failures.items:
            remove(self.folder)
        return {"trials": trials, "failed": len(self.failures.trials_failed), "answers": self.answers,
                "recovery_max": max(self.recoveries, default=0), "spin_max": max(self.spins, default=0),
                "failures": [f"trial {t}: {what}" for t, what in self.failures.items]}


# ---- slow uploaders ----

SLOW_CLIENTS, SLOW_RATE = 2000, 1024
HONEST_BYTES, HONEST_UPLOADS, ROUNDS = 8 << 20, 12, 5
RATIO_MOST = 1.5

SLOW_PROGRAM = r"""
import select, socket, sys, time
port, key, clients, rate = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
sockets = []
for i in range(clients):
    s = socket.create_connection(("127.0.0.1", port), 30)
    s.sendall(f"PUT /api/v1/upload/s.mp4 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
              f"Content-Length: {rate * 3600}\r\n\r\n".encode())
    sockets.append(s)
print("ready", flush=True)
piece, began, n = bytes(rate), time.monotonic(), 0
while True:
    # Evenly over each second; standard input closes at the end of the round.
    for i, s in enumerate(sockets):
        try:
            s.sendall(piece)
        except OSError as error:
            print(f"lost {error}", flush=True)
            sys.exit(1)
        if i % 20 == 19:
            n += 20
            wait = began + n / clients - time.monotonic()
            if select.select([sys.stdin], [], [], max(0, wait))[0]:
                print(f"sent {n}", flush=True)
                sys.exit(0)
"""


class SlowTrials:
    def __init__(self, seed):
        self.failures, self.rng = Failures("slow", seed), random.Random(seed)
        self.folder = scratch("slow")

    def uploads(self, client):
        times = []
        for _ in range(HONEST_UPLOADS):
            content = Content(self.rng.getrandbits(60), HONEST_BYTES)
            began = time.monotonic()
            response = client.request("PUT", f"{API}/upload/h.mp4", content.data)
            times.append(time.monotonic() - began)
            if self.failures.check(response.status == 201, lambda r=response: f"{r.status}: {r.body[:200]!r}"):
                client.request("DELETE", f"{API}/assets/{response.json()['id']}")
        return times

    def run(self, _trials):
        daemon = Daemon(self.folder, settings={"server.min_body_rate": "256"})
        without, with_ = [], []
        try:
            daemon.start()
            self.uploads(daemon.client)  # the first ones warm up
            for n in range(ROUNDS):
                self.failures.trial = n
                without += self.uploads(daemon.client)
                slow = subprocess.Popen([sys.executable, "-c", SLOW_PROGRAM, str(daemon.port), daemon.key,
                                         str(SLOW_CLIENTS), str(SLOW_RATE)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, preexec_fn=daemon.limit_descriptors)
                self.failures.check(slow.stdout.readline() == "ready\n", "the slow clients could not connect")
                staged = os.path.join(daemon.data, "incoming")
                self.failures.check(eventually(lambda: len(os.listdir(staged)) >= SLOW_CLIENTS, 10),
                                    lambda: f"{len(os.listdir(staged))} slow uploads have begun")
                with_ += self.uploads(daemon.client)
                said, _ = slow.communicate(timeout=30)
                self.failures.check(slow.returncode == 0, f"the slow clients did not live: {said}")
                eventually(lambda: not os.listdir(os.path.join(daemon.data, "incoming")), 10)
        finally:
            daemon.kill()
        remove(self.folder)
        ratio = statistics.median(with_) / statistics.median(without)
        self.failures.check(ratio <= RATIO_MOST, f"an honest upload takes {ratio:.2f} times as long")
        return {"trials": ROUNDS, "failed": len(self.failures.trials_failed), "clients": SLOW_CLIENTS,
                "median_without": statistics.median(without), "median_with": statistics.median(with_), "ratio": ratio,
                "failures": [f"trial {t}: {what}" for t, what in self.failures.items]}


# ---- many assets ----

ASSETS, OPEN_UPLOADS = 10000, 500
START_MOST = 2.0


class ManyTrials:
    """One asset, copied in the database and by hard links; then kill -9 under uploads and a start, again and again."""

    def __init__(self, seed):
        self.failures, self.rng = Failures("many", seed), random.Random(seed)
        self.folder = scratch("many")

    def multiply(self, data, id_):
        source = os.path.join(data, "assets", id_[-2:], id_, "source")
        with contextlib.closing(sqlite3.connect(os.path.join(data, "streamgate.db"))) as db:
            columns = [row[1] for row in db.execute("PRAGMA table_info(assets)") if row[1] not in ("seq", "id")]
            names = ", ".join(columns)
            (seq,) = db.execute("SELECT seq FROM assets WHERE id = ?", (id_,)).fetchone()
            alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
            for _ in range(ASSETS - 1):
                new = id_[:10] + "".join(self.rng.choice(alphabet) for _ in range(16))
                at = db.execute(f"INSERT INTO assets(id, {names}) SELECT ?, {names} FROM assets WHERE seq = ?",
                                (new, seq)).lastrowid
                db.execute("INSERT INTO asset_indexes SELECT ?, data FROM asset_indexes WHERE asset_seq = ?", (at, seq))
                db.execute("INSERT INTO asset_search(rowid, title, description, tags, filename) SELECT seq, title,"
                           " description, tags, filename FROM assets WHERE seq = ?", (at,))
                folder = os.path.join(data, "assets", new[-2:], new)
                os.makedirs(folder)
                os.link(source, os.path.join(folder, "source"))
            db.commit()

    def run(self, trials):
        daemon = Daemon(self.folder)
        times = []
        try:
            daemon.start()
            content = Content(self.rng.getrandbits(60), 20000)
            id_ = daemon.client.request("PUT", f"{API}/upload/f.mp4", content.data).json()["id"]
            daemon.terminate()
            self.multiply(daemon.data, id_)
            daemon.start()
            world = World(daemon, self.failures, {"raw"})
            if "chunked" in features(daemon):
                for _ in range(OPEN_UPLOADS):
                    made = daemon.client.request("POST", f"{API}/uploads", {"filename": "o.mp4", "size": 5000})
                    daemon.client.request("PUT", f"{API}/uploads/{made.json()['id']}/chunks/0", bytes(5000))
            for n in range(trials):
                self.failures.trial = n
                world.begin(self.rng)
                time.sleep(log_uniform(self.rng, 0.01, 0.3))
                world.fault()
                daemon.kill()
                world.settle()
                took = daemon.start()
                times.append(took)
                self.failures.check(took < START_MOST * SLOW, f"ready after {took:.3f} s")
                lost = [a.id for a in world.assets.values() if a.state == "there" and
                        daemon.client.get(f"{API}/assets/{a.id}").status != 200]
                self.failures.check(not lost, f"acknowledged and lost: {lost}")
            with contextlib.closing(sqlite3.connect(f"file:{daemon.data}/streamgate.db?mode=ro", uri=True)) as db:
                (ready,) = db.execute("SELECT count(*) FROM assets WHERE status = 3").fetchone()
            self.failures.check(ready >= ASSETS, f"{ready} assets are ready")
        finally:
            daemon.kill()
        remove(self.folder)
        return {"trials": trials, "failed": len(self.failures.trials_failed), "assets": ASSETS,
                "start_median": statistics.median(times), "start_max": max(times),
                "failures": [f"trial {t}: {what}" for t, what in self.failures.items]}


TRIALS = {"disk": DiskTrials, "descriptors": DescriptorTrials, "slow": SlowTrials, "many": ManyTrials}


def unavailable(name):
    """Why this cannot be tried here, or None."""
    if name == "disk" and (os.geteuid() != 0 or not shutil.which("mount")):
        return "mounting a tmpfs needs root"
    if name == "disk":
        folder = scratch("probe")
        try:
            with Tmpfs(folder):
                return None
        except subprocess.CalledProcessError as error:
            return error.stderr.decode().strip()
        finally:
            remove(folder)
    return None


def main():
    tidy_when_stopped()
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=sorted(TRIALS))
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    why = unavailable(options.what)
    if why:
        say(f"{options.what}: skipped: {why}")
        return 0
    say(f"{options.what}: seed {options.seed}")
    result = TRIALS[options.what](options.seed).run(options.trials)
    say(f"{options.what}: {result}")
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
