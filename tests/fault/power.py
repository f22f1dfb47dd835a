#!/usr/bin/env python3
"""Power cuts: ext4 on a loop file is shut down without its journal being written, at a random moment under load, then
mounted again. usage: power.py [--trials N] [--seed S] [--target streamgate|tus|peer|unsynced|twice]

streamgate: all operations, compared as after a kill. tus: the same daemon, one client program of plain tus uploads.
peer: that same program against @tus/server with @tus/file-store. unsynced: streamgate whose fsync and fdatasync do
nothing (shim.c): the proof that these trials can fail. twice: a kill, then a cut. Needs root and loop devices.
FAULT_FS=xfs takes XFS instead of ext4.
"""
import argparse
import contextlib
import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import time

from common import HERE, ROOT, SLOW, Client, Daemon, Failures, Lost, log_uniform, remove, say, scratch, support, \
    tidy_when_stopped
from inject import KILL, SKIP, Shim
from steps import Complete, TusPatchLast, taken
from tus_client import Uploads
from world import World, features

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN
NO_LOG_FLUSH = 2
FILE_SYSTEM = os.environ.get("FAULT_FS", "ext4")
MAKE = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}[FILE_SYSTEM]
EPOCH = 25
SHORTEST, LONGEST = 0.005, 0.6  # seconds of load before the cut
LINGER = 0.02                   # at most this long the daemon runs on a disk that is gone
IMAGE_BYTES = 1 << 30


def unavailable():
    """Why no power can be cut here, or None."""
    if os.geteuid() != 0:
        return "cutting power needs root"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices"
    for tool in (MAKE[0], "losetup", "mount"):
        if not shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            return f"{tool} is missing"
    try:
        with Disk(scratch("probe")):
            return None
    except subprocess.CalledProcessError as error:
        return f"{' '.join(error.cmd)}: {error.stderr.decode().strip()}"


def command(*words):
    environment = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    return subprocess.run(words, check=True, capture_output=True, env=environment).stdout.decode().strip()


class Disk:
    """A file system whose power can be cut."""

    def __init__(self, folder):
        self.folder, self.device, self.mounted = folder, None, False
        self.path = os.path.join(folder, "disk")

    def __enter__(self):
        try:
            image = os.path.join(self.folder, "image")
            with open(image, "wb") as file:
                file.truncate(IMAGE_BYTES)
            command(*MAKE, image)
            self.device = command("losetup", "-f", "--show", image)
            os.makedirs(self.path, exist_ok=True)
            self.mount()
        except subprocess.CalledProcessError:
            self.__exit__()
            raise
        return self

    def mount(self):
        command("mount", "-t", FILE_SYSTEM, self.device, self.path)
        self.mounted = True

    def cut(self):
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def remount(self):
        """Nobody may hold a file of it any more."""
        deadline = time.monotonic() + 10 * SLOW
        while self.mounted:
            try:
                command("umount", self.path)
                self.mounted = False
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
        self.mount()

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.CalledProcessError):
            if self.mounted:
                command("umount", self.path)
        if self.device:
            with contextlib.suppress(subprocess.CalledProcessError):
                command("losetup", "-d", self.device)
        remove(self.folder)


class PowerTrials:
    """StreamGate under the whole load."""
    name = "power"

    def __init__(self, seed, unsynced=False):
        self.failures = Failures("unsynced" if unsynced else self.name, seed)
        self.rng = random.Random(seed)
        self.folder = scratch(self.name)
        self.unsynced = Shim(self.folder) if unsynced else None
        self.ready_times, self.operations = [], 0

    def fresh(self, disk, number):
        self.daemon = Daemon(self.folder, os.path.join(disk.path, f"data-{number}"))
        if self.unsynced:
            self.daemon.environment = self.unsynced.environment(self.daemon.data)
            self.unsynced.arm(SKIP, ["fsync", "fdatasync"], sticky=True)
        self.daemon.start()
        self.world = World(self.daemon, self.failures, features(self.daemon), answers_end=True)
        command("sync", "-f", disk.path)

    def trial(self, disk):
        self.world.begin(self.rng)
        time.sleep(log_uniform(self.rng, SHORTEST, LONGEST))
        self.world.fault()
        disk.cut()
        time.sleep(self.rng.random() * LINGER)
        self.daemon.kill()
        self.world.settle()
        disk.remount()
        self.ready_times.append(self.daemon.start())
        self.world.compare()

    def end_epoch(self):
        if not self.unsynced:
            self.world.finish_everything(self.rng)
        self.operations += self.world.operations
        self.daemon.kill()
        if not self.failures.items or self.unsynced:
            remove(self.daemon.data)

    def run(self, trials):
        with Disk(scratch("disk")) as disk:
            try:
                for n in range(trials):
                    self.failures.trial = n
                    if n % EPOCH == 0 or (self.unsynced and self.failures.items):
                        if n % EPOCH:
                            self.end_epoch()
                        self.fresh(disk, n)
                    try:
                        self.trial(disk)
                    except AssertionError as error:  # it does not even start
                        self.failures.add(str(error))
                        self.daemon.kill()
                        self.fresh(disk, f"{n}-again")
                    if n % EPOCH == EPOCH - 1 or n == trials - 1:
                        self.end_epoch()
                    if n % 100 == 99:
                        say(f"{self.failures.name}: {n + 1} trials, {len(self.failures.trials_failed)} failed")
            finally:
                self.daemon.kill()
        if not self.failures.items:
            remove(self.folder)
        return {"trials": trials, "failed": len(self.failures.trials_failed), "operations": self.operations,
                "features": sorted(self.world.features), "start_max": max(self.ready_times),
                "failures": [f"trial {t}: {what}" for t, what in self.failures.items]}


# ---- a kill, then a cut ----

class TwiceTrials:
    """A completion is killed before each of its changes of folders and syncs in turn; the next daemon completes it,
    and as soon as it has said so the power goes. What the first one did without syncing it must not be taken for
    durable by the second.
    The database's log is worn before: while it grows, its syncs take the folders' changes along."""
    WEAR_MOST = 3000  # uploads until the log is written from its beginning
    FRAMES_FEW = 200  # in the log: far from a checkpoint, whose sync would help too

    def __init__(self, seed):
        self.failures, self.rng = Failures("twice", seed), random.Random(seed)
        self.folder = scratch("twice")
        self.shim = Shim(self.folder)

    @staticmethod
    def frames(daemon):
        """mxFrame of SQLite's wal-index."""
        with open(os.path.join(daemon.data, "streamgate.db-shm"), "rb") as file:
            return struct.unpack_from("I", file.read(20), 16)[0]

    def wear(self, world):
        most = 0
        for _ in range(self.WEAR_MOST):
            frames = self.frames(world.daemon)
            if most > frames and frames < self.FRAMES_FEW:
                return
            most = max(most, frames)
            id_ = world.ask((201,), "POST", "/api/v1/uploads", {"filename": "w.mp4", "size": 9}).json()["id"]
            world.ask((204,), "DELETE", f"/api/v1/uploads/{id_}")
        raise AssertionError("the database's log never begins anew")

    def point(self, disk, world, make, passes):
        """Whether the completion was killed."""
        daemon = world.daemon
        self.wear(world)
        step = make(world, self.rng)
        step.prepare()
        self.shim.arm(KILL, ("fsync", "fdatasync", "rename", "link", "unlink", "mkdir"), ("staged", "assets"),
                      passes=passes)
        taken(step)
        killed = self.shim.counts()[1] > 0
        self.shim.disarm()
        daemon.kill()
        daemon.start()
        if make is Complete:
            step.is_asset(step.complete(), 200, 201)
        else:
            step.finish(step.upload)
        disk.cut()
        daemon.kill()
        disk.remount()
        daemon.start()
        world.compare()
        return killed

    def run(self, most=400):
        points = 0
        with Disk(scratch("disk")) as disk:
            daemon = Daemon(self.folder, os.path.join(disk.path, "data"))
            daemon.environment = self.shim.environment(daemon.data)
            try:
                daemon.start()
                world = World(daemon, self.failures, features(daemon))
                for make in (m for m in (Complete, TusPatchLast) if m.needs in world.features):
                    for passes in range(most):
                        self.failures.trial = f"{make.__name__}, call {passes}"
                        points += 1
                        if not self.point(disk, world, make, passes):
                            break
            finally:
                daemon.kill()
        if not self.failures.items:
            remove(self.folder)
        return {"trials": points, "failed": len(self.failures.trials_failed),
                "failures": [f"{t}: {what}" for t, what in self.failures.items]}


# ---- plain tus, for two servers ----

class Peer:
    """@tus/server behind the few calls that a trial makes."""

    def __init__(self, folder, data):
        self.dir, self.data = folder, data
        self.process = None

    def start(self):
        os.makedirs(self.data, exist_ok=True)
        self.port = support.free_port()
        program = os.path.join(HERE, "peer", "server.mjs")
        began = time.monotonic()
        self.process = subprocess.Popen(["node", program, str(self.port), self.data], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if self.process.stdout.readline() != b"ready\n":
            raise AssertionError("the peer did not start")
        self.client = Client(self.port)
        return time.monotonic() - began

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def bytes_of(self, id_):
        return os.path.join(self.data, id_)


class OwnTus(Daemon):
    """The daemon, for the same trials."""

    def bytes_of(self, id_):
        staged = os.path.join(self.data, "incoming", id_)
        return staged if os.path.exists(staged) else os.path.join(self.data, "assets", id_[-2:], id_, "source")


class TusTrials:
    """Each trial: uploads in parallel by a program of its own (tus_client.py), which writes down what it was told; the
    cut; then for every upload that was told of an offset, HEAD and the bytes on disk."""

    def __init__(self, seed, make, name):
        self.failures, self.rng = Failures(name, seed), random.Random(seed)
        self.make, self.folder = make, scratch(name)
        self.acknowledged = self.lost = self.ended = self.ended_lost = 0

    def trial(self, disk, server):
        command("sync", "-f", disk.path)  # what was made before the trial is not what is tried
        uploads = Uploads(server.client, self.rng)
        time.sleep(log_uniform(self.rng, 0.02, LONGEST))
        uploads.ended.set()
        disk.cut()
        server.kill()
        uploads.settle()
        disk.remount()
        server.start()
        self.compare(server, uploads)

    def epoch(self, disk, numbers):
        """Some trials on one data directory; what a trial lost is not looked at by the next ones."""
        data = os.path.join(disk.path, f"data-{numbers[0]}")
        server = self.make(self.folder, data)
        try:
            server.start()
            for n in numbers:
                self.failures.trial = n
                self.trial(disk, server)
        finally:
            server.kill()
            remove(data)

    def compare(self, server, uploads):
        for upload in uploads.all:
            if upload.acked is None:
                continue
            whole = upload.acked == upload.content.size
            self.acknowledged += 1
            self.ended += whole
            why = self.difference(server, upload)
            if why:
                self.lost += 1
                self.ended_lost += whole
                self.failures.trials_failed.add(self.failures.trial)
                self.failures.items.append((self.failures.trial, f"{upload.id}: {upload.acked} of "
                                                                 f"{upload.content.size} acknowledged, {why}"))

    @staticmethod
    def difference(server, upload):
        try:
            head = server.client.request("HEAD", f"/api/v1/tus/{upload.id}")
        except Lost as error:
            return str(error)
        if head.status != 200:
            return f"HEAD {head.status}"
        offset = int(head.header("Upload-Offset") or 0)
        if offset < upload.acked:
            return f"now at {offset}"
        if upload.acked == 0:
            return None
        try:
            with open(server.bytes_of(upload.id), "rb") as file:
                there = file.read(upload.acked)
        except OSError as error:
            return f"its file: {error.strerror}"
        return None if there == upload.content.data[:upload.acked] else "its bytes are others"

    def run(self, trials):
        with Disk(scratch("disk")) as disk:
            for first in range(0, trials, EPOCH):
                self.epoch(disk, range(first, min(first + EPOCH, trials)))
                if (first + EPOCH) % 100 == 0:
                    say(f"{self.failures.name}: {first + EPOCH} trials, {len(self.failures.trials_failed)} with "
                        f"losses, {self.lost} of {self.acknowledged} uploads")
        remove(self.folder)
        return {"trials": trials, "failed": len(self.failures.trials_failed), "uploads": self.acknowledged,
                "uploads_lost": self.lost, "complete": self.ended, "complete_lost": self.ended_lost,
                "failures": [f"trial {t}: {what}" for t, what in self.failures.items]}


def install_peer():
    """The packages of tests/fault/peer. Why not, or None."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "node and npm are missing"
    folder = os.path.join(HERE, "peer")
    if not os.path.isdir(os.path.join(folder, "node_modules", "@tus", "server")):
        say("installing @tus/server")
        done = support.run("npm", "--prefix", folder, "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=ROOT)
        if done.returncode != 0:
            return f"npm ci: {done.stderr.decode().strip()[-300:]}"
    return None


def trials_of(target, seed):
    if target == "peer":
        return TusTrials(seed, Peer, "peer")
    if target == "tus":
        return TusTrials(seed, OwnTus, "tus")
    if target == "twice":
        return TwiceTrials(seed)
    return PowerTrials(seed, unsynced=target == "unsynced")


def main():
    tidy_when_stopped()
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--target", choices=("streamgate", "tus", "peer", "unsynced", "twice"), default="streamgate")
    options = parser.parse_args()
    why = unavailable() or (install_peer() if options.target == "peer" else None)
    if why:
        say(f"power: skipped: {why}")
        return 0
    say(f"power: {options.target}, {options.trials} trials, seed {options.seed}")
    result = trials_of(options.target, options.seed).run(options.trials)
    shown = {**result, "failures": result["failures"][:20]}
    say(f"power: {shown}")
    return 1 if result["failed"] and options.target in ("streamgate", "tus", "twice") else 0


if __name__ == "__main__":
    sys.exit(main())
