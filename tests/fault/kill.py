#!/usr/bin/env python3
"""SIGKILL at random moments, under load and during restarts. usage: kill.py [--trials N] [--seed S]

A data directory serves EPOCH trials; the first start of each is part of the first trial. The moment is drawn
log-uniformly, so that both the first milliseconds of the load and its middle are met.
"""
import argparse
import os
import random
import sys
import time

from common import Daemon, Failures, log_uniform, remove, say, scratch, tidy_when_stopped
from world import World, features

EPOCH = 25
SHORTEST, LONGEST = 0.002, 1.2           # seconds of load before the kill
START_SHORTEST, START_LONGEST = 0.0005, 0.25  # seconds of a start before it is killed
KILLED_STARTS = 0.35


class KillTrials:
    def __init__(self, seed, daemon=None):
        self.failures = Failures("kill", seed)
        self.rng = random.Random(seed)
        self.killed_starts = 0
        self.operations = 0
        self.folder = scratch("kill")
        self.daemon = daemon
        self.ready_times = []

    def fresh(self, number):
        folder = os.path.join(self.folder, f"epoch-{number}")
        os.makedirs(folder)
        self.daemon = Daemon(folder)
        self.restart()
        self.world = World(self.daemon, self.failures, features(self.daemon))

    def restart(self):
        """A start that counts, sometimes after one or two that were killed."""
        while self.rng.random() < KILLED_STARTS:
            self.daemon.spawn()
            time.sleep(log_uniform(self.rng, START_SHORTEST, START_LONGEST))
            self.daemon.kill()
            self.killed_starts += 1
        self.ready_times.append(self.daemon.start())

    def trial(self):
        self.world.begin(self.rng)
        time.sleep(log_uniform(self.rng, SHORTEST, LONGEST))
        self.world.fault()
        self.daemon.kill()
        self.world.settle()
        self.restart()
        self.world.compare()

    def end_epoch(self):
        self.world.finish_everything(self.rng)
        self.operations += self.world.operations
        self.daemon.kill()
        if not self.failures.items:
            remove(self.daemon.dir)

    def run(self, trials):
        try:
            for n in range(trials):
                self.failures.trial = n
                if n % EPOCH == 0:
                    self.fresh(n // EPOCH)
                self.trial()
                if n % EPOCH == EPOCH - 1 or n == trials - 1:
                    self.end_epoch()
                if n % 100 == 99:
                    say(f"kill: {n + 1} trials, {len(self.failures.trials_failed)} failed, "
                        f"slowest start {max(self.ready_times):.3f} s")
        finally:
            self.daemon.kill()
        if not self.failures.items:
            remove(self.folder)
        return self.summary(trials)

    def summary(self, trials):
        times = sorted(self.ready_times)
        return {"trials": trials, "failed": len(self.failures.trials_failed), "operations": self.operations,
                "killed_starts": self.killed_starts, "features": sorted(self.world.features),
                "start_median": times[len(times) // 2], "start_max": times[-1],
                "failures": [f"trial {t}: {what}" for t, what in self.failures.items]}


def main():
    tidy_when_stopped()
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    say(f"kill: {options.trials} trials, seed {options.seed}")
    result = KillTrials(options.seed).run(options.trials)
    say(f"kill: {result}")
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
