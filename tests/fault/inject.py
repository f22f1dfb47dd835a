#!/usr/bin/env python3
"""One fault below the data directory at a time: each call of each step of an upload fails once, and from then on.
usage: inject.py [--sample N] [--seed S] [--steps NAME,...] [--kills]

shim.c does the tampering. A step whose n-th call of a kind never comes ends the row: so all calls are met. --sample
takes N rows at random and the first call of each.
"""
import argparse
import collections
import errno
import itertools
import mmap
import os
import random
import struct
import subprocess
import sys
import time

from common import HERE, Daemon, Failures, Lost, remove, say, scratch, support, tidy_when_stopped
from steps import STEPS, taken
from world import World, features

KINDS = ("write", "fdatasync", "fsync", "rename", "link", "open", "truncate", "unlink", "mkdir", "copy")
PLACES = ("database", "staged", "assets", "other")
COUNT, FAIL, SHORT, KILL, SKIP = range(5)
FAULTS = {
    "write": (errno.EIO, errno.ENOSPC, "short"), "fdatasync": (errno.EIO, errno.ENOSPC),
    "fsync": (errno.EIO, errno.ENOSPC), "rename": (errno.EIO, errno.ENOSPC), "link": (errno.EIO, errno.ENOSPC),
    "open": (errno.EIO, errno.ENOSPC, errno.EMFILE), "truncate": (errno.EIO, errno.ENOSPC), "unlink": (errno.EIO,),
    "mkdir": (errno.EIO, errno.ENOSPC), "copy": (errno.EIO, errno.ENOSPC, "short"),
}
USUAL = (("write", "database"), ("write", "staged"), ("fdatasync", "database"), ("fdatasync", "staged"),
         ("fsync", "staged"), ("fsync", "assets"), ("rename", "assets"), ("open", "staged"), ("open", "assets"),
         ("mkdir", "assets"))  # where a sample looks
CALLS_MOST = 60        # of one kind and place in one step
RESTART_EVERY = 60     # trials: what only the next start tidies is looked at then
LAYOUT = "IIIIiIIII10I"


class Shim:
    """The control file of shim.c."""

    def __init__(self, folder):
        self.library = build_shim(folder)
        self.path = os.path.join(folder, "control")
        with open(self.path, "wb") as file:
            file.write(bytes(mmap.PAGESIZE))
        with open(self.path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    def environment(self, data):
        return {"LD_PRELOAD": self.library, "FAULT_CONTROL": self.path, "FAULT_ROOT": os.path.realpath(data),
                "ASAN_OPTIONS": support.sanitizer_options()["ASAN_OPTIONS"] + ":verify_asan_link_order=0"}

    def arm(self, action, kinds=KINDS, places=PLACES, number=0, sticky=False, passes=0):
        masks = [sum(1 << all_.index(x) for x in chosen) for all_, chosen in ((KINDS, kinds), (PLACES, places))]
        self.disarm()
        self.map[:struct.calcsize(LAYOUT)] = struct.pack(LAYOUT, 0, *masks, action, number, sticky, passes, 0, 0,
                                                         *([0] * 10))
        self.map[0:4] = struct.pack("I", 1)

    def disarm(self):
        self.map[0:4] = struct.pack("I", 0)

    def counts(self):
        """Matching calls, and how many of them were tampered with."""
        return struct.unpack_from("II", self.map, 28)


def build_shim(folder):
    path = os.path.join(folder, "shim.so")
    if not os.path.exists(path):
        subprocess.run(["cc", "-std=c17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", path,
                        os.path.join(HERE, "shim.c"), "-ldl"], check=True)
    return path


def name_of(fault):
    return fault if fault == "short" else errno.errorcode[fault]


class Injections:
    def __init__(self, seed):
        self.failures = Failures("inject", seed)
        self.rng = random.Random(seed)
        self.folder = scratch("inject")
        self.shim = Shim(self.folder)
        self.daemon = Daemon(self.folder)
        self.daemon.environment = self.shim.environment(self.daemon.data)
        self.daemon.start()
        self.features = features(self.daemon)
        self.world = World(self.daemon, self.failures, self.features)
        self.trials = self.hits = self.restarts = 0
        self.by_kind = collections.Counter()
        self.answers = collections.Counter()
        self.play_asset()

    def play_asset(self):
        """An asset that is played all the time while others are uploaded."""
        step = STEPS[0](self.world, self.rng)
        step.check(step.put_raw())
        asset = next(iter(self.world.assets.values()))
        self.playing = [f"/stream/{asset.id}/master.m3u8", f"/stream/{asset.id}/original/seg-0.m4s"]
        self.plays("before any fault")

    def plays(self, when):
        for path in self.playing:
            try:
                status = self.daemon.anonymous.get(path).status
            except Lost as error:
                status = error
            self.failures.check(status == 200, lambda p=path, s=status: f"playback {when}: {p}: {s}")

    def restart(self):
        self.daemon.kill()
        self.daemon.start()
        self.world.compare()
        self.restarts += 1
        self.plays("after a restart")

    def trial(self, make, kind, place, fault, sticky, passes):
        """Whether the call came at all."""
        self.trials += 1
        self.failures.trial = self.trials
        step = make(self.world, self.rng)
        step.label = (f"{make.__name__}, {kind} below {place} number {passes} "
                      f"{'and all after it ' if sticky else ''}{name_of(fault)}")
        step.prepare()
        if fault == "short":
            self.shim.arm(SHORT, [kind], [place], 0, sticky, passes)
        else:
            self.shim.arm(FAIL, [kind], [place], fault, sticky, passes)
        response = taken(step)
        if sticky:
            self.plays(f"during {step.label}")
        self.shim.disarm()
        hits = self.shim.counts()[1]
        if not self.daemon.alive():
            self.failures.add(f"{step.label}: the daemon ended: {self.daemon.log_tail()}")
            self.daemon.start()
            return hits > 0
        if response is None:
            self.failures.add(f"{step.label}: no answer")
        else:
            self.answers[response.status] += hits > 0
            try:
                step.check(response)
            except Lost as error:
                self.failures.add(f"{step.label}: after the fault: {error}")
        self.hits += hits > 0
        self.by_kind[f"{make.__name__}/{kind}/{place}"] += hits > 0
        if self.trials % RESTART_EVERY == 0:
            self.restart()
            self.world.forget_assets(keep=1)
        return hits > 0

    def rows(self, names=None, pairs=None):
        for make in STEPS:
            if make.needs in self.features and (names is None or make.__name__ in names):
                for kind, place in pairs or itertools.product(KINDS, PLACES):
                    yield make, kind, place

    def killed_after(self, make, passes):
        """A sync of the database fails, and before anything is written over what it could not sync the daemon is
        killed: what was refused may come back at the start, but whole. Whether that sync came at all."""
        step = make(self.world, self.rng)
        step.label = f"{make.__name__}, sync {passes} of the database fails, then a kill"
        self.failures.trial = step.label
        step.prepare()
        self.shim.arm(FAIL, ["fdatasync"], ["database"], errno.EIO, False, passes)
        response = taken(step)
        self.shim.disarm()
        hit = self.shim.counts()[1] > 0
        if hit:
            self.trials += 1
            self.restart()
        if response is None:
            self.failures.add(f"{step.label}: no answer")
        else:
            step.check(response)
        return hit

    def run_kills(self):
        try:
            for make in (m for m in STEPS if m.needs in self.features):
                passes = 0
                while passes < CALLS_MOST and self.killed_after(make, passes):
                    passes += 1
            self.world.finish_everything(self.rng)
        finally:
            self.daemon.kill()
        if not self.failures.items:
            remove(self.folder)
        return {"trials": self.trials, "failed": len(self.failures.trials_failed),
                "failures": [f"{t}: {what}" for t, what in self.failures.items]}

    def run(self, sample=None, names=None):
        try:
            if sample:
                self.run_sample(sample)
            else:
                for make, kind, place in self.rows(names):
                    self.exhaust(make, kind, place)
            self.restart()
            self.world.finish_everything(self.rng)
        finally:
            self.daemon.kill()
        if not self.failures.items:
            remove(self.folder)
        return self.summary()

    def exhaust(self, make, kind, place):
        for passes in range(CALLS_MOST):
            came = [self.trial(make, kind, place, fault, sticky, passes)
                    for fault in FAULTS[kind] for sticky in (False, True)]
            if not any(came):
                return

    def run_sample(self, sample):
        """Rows in random order until `sample` faults took effect."""
        rows = [(*row, fault, sticky) for row in self.rows(pairs=USUAL) for fault in FAULTS[row[1]]
                for sticky in (False, True)]
        self.rng.shuffle(rows)
        for make, kind, place, fault, sticky in rows:
            if self.hits >= sample:
                return
            self.trial(make, kind, place, fault, sticky, self.rng.randrange(2))

    def summary(self):
        return {"trials": self.trials, "faults": self.hits, "restarts": self.restarts,
                "failed": len(self.failures.trials_failed), "features": sorted(self.features),
                "answers": dict(self.answers), "rows": len([k for k, n in self.by_kind.items() if n]),
                "failures": [f"trial {t}: {what}" for t, what in self.failures.items]}


def main():
    tidy_when_stopped()
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--steps")
    parser.add_argument("--kills", action="store_true", help="a sync of the database fails, then kill -9")
    options = parser.parse_args()
    say(f"inject: seed {options.seed}")
    trials = Injections(options.seed)
    result = trials.run_kills() if options.kills else trials.run(options.sample,
                                                                 options.steps and options.steps.split(","))
    say(f"inject: {result}")
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
