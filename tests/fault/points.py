#!/usr/bin/env python3
"""SIGKILL before every single call on the data directory: of each step of an upload, of a first start, and of a
start that has something to tidy. usage: points.py [--seed S] [--steps NAME,... | --starts]
"""
import argparse
import os
import random
import sys
import time

from common import Daemon, Failures, remove, say, scratch, tidy_when_stopped
from inject import KILL, Shim
from steps import STEPS, taken
from world import World, features

CALLS_MOST = 400
KEPT = 20  # assets, so that comparing stays quick
STEP_CALLS = 40  # about what a step makes
STARTS_UNTIDY = ("Raw", "Complete", "TusPatchLast", "TusJoin", "AssetDelete", "UploadDelete")


class Points:
    def __init__(self, seed):
        self.failures = Failures("points", seed)
        self.rng = random.Random(seed)
        self.folder = scratch("points")
        self.shim = Shim(self.folder)
        self.killed, self.starts_killed = {}, {}
        self.ready_times = []

    def fresh(self, name):
        daemon = Daemon(os.path.join(self.folder, name))
        os.makedirs(daemon.dir, exist_ok=True)
        daemon.environment = self.shim.environment(daemon.data)
        return daemon

    def world_of(self, daemon):
        daemon.start()
        return World(daemon, self.failures, features(daemon))

    def killed_in(self, world, make, passes):
        """Whether the step was killed; if so, the daemon is gone."""
        step = make(world, self.rng)
        step.prepare()
        self.shim.arm(KILL, passes=passes)
        response = taken(step)
        killed = self.shim.counts()[1] > 0
        self.shim.disarm()
        if killed:
            world.daemon.kill()
        elif response is None:
            self.failures.add(f"{step.label}: no answer, though nothing was killed")
        else:
            step.check(response)
        return killed

    def recover(self, world):
        self.ready_times.append(world.daemon.start())
        world.compare()
        world.finish_uploads(self.rng)  # compared with what comes next
        if len(world.assets) > KEPT:
            world.compare()
            world.forget_assets(keep=1)

    def steps(self, names=None):
        daemon = self.fresh("steps")
        world = self.world_of(daemon)
        for make in STEPS:
            if make.needs not in world.features or (names and make.__name__ not in names):
                continue
            for passes in range(CALLS_MOST):
                self.failures.trial = f"{make.__name__}, call {passes}"
                if not self.killed_in(world, make, passes):
                    break
                self.killed[make.__name__] = passes + 1
                self.recover(world)
        world.compare()
        daemon.kill()

    def start_killed(self, daemon, passes):
        """Whether a start was killed before its call number passes."""
        self.shim.arm(KILL, passes=passes)
        daemon.spawn()
        try:
            daemon.wait_ready()
        except AssertionError:
            if self.shim.counts()[1] == 0:
                raise
        killed = self.shim.counts()[1] > 0
        self.shim.disarm()
        daemon.kill()
        return killed

    def first_starts(self):
        for passes in range(CALLS_MOST):
            self.failures.trial = f"first start, call {passes}"
            daemon = self.fresh(f"first-{passes}")
            if not self.start_killed(daemon, passes):
                break
            self.starts_killed["nothing"] = passes + 1
            self.ready_times.append(daemon.start())
            World(daemon, self.failures, features(daemon)).compare()
            daemon.kill()
            if not self.failures.items:
                remove(daemon.dir)

    def untidy_starts(self):
        daemon = self.fresh("untidy")
        world = self.world_of(daemon)
        makes = [m for m in STEPS if m.__name__ in STARTS_UNTIDY and m.needs in world.features]
        for make in makes:
            for passes in range(CALLS_MOST):
                self.failures.trial = f"start after {make.__name__}, call {passes}"
                at = self.rng.randrange(1, STEP_CALLS)
                if not self.killed_in(world, make, at):
                    daemon.kill()
                killed = self.start_killed(daemon, passes)
                self.recover(world)
                if not killed:
                    break
                self.starts_killed[make.__name__] = passes + 1
        daemon.kill()

    def run_steps(self, names=None):
        return self.summary(lambda: self.steps(names))

    def run_starts(self):
        def starts():
            self.first_starts()
            self.untidy_starts()
        return self.summary(starts)

    def summary(self, run):
        run()
        if not self.failures.items:
            remove(self.folder)
        points = {**self.killed, **{f"start after {k}": n for k, n in self.starts_killed.items()}}
        return {"trials": sum(points.values()), "points": points, "failed": len(self.failures.trials_failed),
                "start_max": max(self.ready_times, default=0),
                "failures": [f"{t}: {what}" for t, what in self.failures.items]}


def main():
    tidy_when_stopped()
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--steps")
    parser.add_argument("--starts", action="store_true")
    options = parser.parse_args()
    say(f"points: seed {options.seed}")
    trials = Points(options.seed)
    result = trials.run_starts() if options.starts else trials.run_steps(options.steps and options.steps.split(","))
    say(f"points: {result}")
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
