#!/usr/bin/env python3
"""A few of the trials of scripts/fault (docs/RELIABILITY.md): that nothing acknowledged is lost by kill -9, by a power
cut or by a fault of the file system. The seed is printed with every failure; FAULT_SEED repeats one."""
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import support  # noqa: E402

sys.path.insert(0, os.path.join(support.ROOT, "tests", "fault"))
import encodes  # noqa: E402
import inject  # noqa: E402
import kill  # noqa: E402
import limits  # noqa: E402
import mutants  # noqa: E402
import power  # noqa: E402

SEED = int(os.environ.get("FAULT_SEED", time.time_ns() // 1000000))
STARTED = 20.0  # seconds until ready after a kill: that it comes back at all; docs/RELIABILITY.md tells how soon


class Fault(unittest.TestCase):
    def assertNoFailure(self, result):
        self.assertEqual(result["failures"], [], f"seed {SEED}; all: {result}")

    def test_kill(self):
        result = kill.KillTrials(SEED).run(30)
        self.assertNoFailure(result)
        self.assertGreater(result["operations"], 30, "hardly anything was under way")
        self.assertLess(result["start_max"], STARTED * support.SLOW)

    def need_power(self):
        why = power.unavailable()
        if why:
            self.skipTest(why)

    def test_power(self):
        self.need_power()
        result = power.PowerTrials(SEED).run(10)
        self.assertNoFailure(result)
        self.assertGreater(result["operations"], 10, "hardly anything was under way")

    @unittest.skipIf(support.SLOW > 1, "the library that tampers with calls is for builds without sanitizers")
    def test_power_trials_can_fail(self):
        """A daemon whose syncs do nothing loses what it acknowledged, and the same trials see it."""
        self.need_power()
        with open(os.devnull, "w", encoding="ascii") as quiet:
            shown, sys.stdout = sys.stdout, quiet
            try:
                result = power.PowerTrials(SEED, unsynced=True).run(3)
            finally:
                sys.stdout = shown
        self.assertGreater(result["failed"], 0)

    @unittest.skipIf(support.SLOW > 1, "the library that tampers with calls is for builds without sanitizers")
    def test_calls_that_fail(self):
        result = inject.Injections(SEED).run(sample=40)
        self.assertNoFailure(result)
        self.assertGreaterEqual(result["faults"], 40)

    def test_full_disk(self):
        why = limits.unavailable("disk")
        if why:
            self.skipTest(why)
        self.assertNoFailure(limits.DiskTrials(SEED).run(28))

    def test_encodes(self):
        result = encodes.EncodeTrials(SEED).run(10)
        self.assertNoFailure(result)
        self.assertGreater(result["met"] + result["processes"], 0, "nothing was being encoded")

    def test_mutants(self):
        why = mutants.unavailable()
        if why:
            self.skipTest(why)
        result = mutants.MutantTrials(SEED).run(300)
        self.assertNoFailure(result)
        self.assertGreater(result["probe"].get("ok", 0), 30, "hardly any mutant was taken")

    def test_no_descriptors(self):
        self.assertNoFailure(limits.DescriptorTrials(SEED).run(6))


if __name__ == "__main__":
    support.main()
