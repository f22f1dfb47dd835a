#!/usr/bin/env python3
"""All fault trials, one part after the other, and the table of docs/RELIABILITY.md. scripts/fault runs it.

Each part of a full run leaves its result in tests/out/fault, so that parts may be run at different times; the table
is made of all that are there and says when each was measured.
"""
import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time

import encodes
import inject
import kill
import limits
import mutants
import points
import power
from common import ROOT, say, tidy_when_stopped
from steps import OWED, STEPS

OUT = os.path.join(ROOT, "tests", "out", "fault")
DOCUMENT = os.path.join(ROOT, "docs", "RELIABILITY.md")
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"


def cut_power(target):
    def run(seed, trials):
        return power.trials_of(target, seed).run(trials)
    return run


def run_out(name):
    return lambda seed, trials: limits.TRIALS[name](seed).run(trials)


# name: (what, trials of a short run (0: not in it), of a full one (None: all there are), run(seed, trials), why not)
PARTS = {
    "kill": ("kill -9 at random moments, under load and in restarts", 30, 1000,
             lambda seed, trials: kill.KillTrials(seed).run(trials), None),
    "points": ("kill -9 before every single call of every step on the data directory", 0, None,
               lambda seed, _: points.Points(seed).run_steps(), None),
    "starts": ("kill -9 before every single call of a start, the first or one that has to tidy", 0, None,
               lambda seed, _: points.Points(seed).run_starts(), None),
    "power": ("power cut under load", 10, 1000, cut_power("streamgate"), power.unavailable),
    "twice": ("kill -9 in a completion, then a power cut after the next one", 0, None,
              lambda seed, _: power.TwiceTrials(seed).run(), power.unavailable),
    "unsynced": ("control: power cut, syncs do nothing", 0, 50, cut_power("unsynced"), power.unavailable),
    "tus": ("power cut, plain tus", 0, 500, cut_power("tus"), power.unavailable),
    "peer": ("the same against @tus/server with @tus/file-store", 0, 500, cut_power("peer"),
             lambda: power.unavailable() or power.install_peer()),
    "inject": ("one call fails, once and from then on", 40, None,
               lambda seed, trials: inject.Injections(seed).run(trials, [s.__name__ for s in STEPS if s not in OWED]),
               None),
    "owed": ("the same in the last PATCH of a tus upload and in a concatenation", 0, None,
             lambda seed, _: inject.Injections(seed).run(None, [s.__name__ for s in OWED]), None),
    "commit": ("a commit's sync fails, then kill -9", 0, None,
               lambda seed, _: inject.Injections(seed).run_kills(), None),
    "disk": ("disk full", 28, 500, run_out("disk"), lambda: limits.unavailable("disk")),
    "descriptors": ("descriptors exhausted", 6, 500, run_out("descriptors"), None),
    "slow": ("2,000 uploaders at 1 KiB/s", 0, None, run_out("slow"), None),
    "many": ("kill -9 with 10,000 assets", 0, 50, run_out("many"), None),
    "encodes": ("kill -9 of the daemon or of an encoding process while renditions are made", 10, 200,
                lambda seed, trials: encodes.EncodeTrials(seed).run(trials), None),
    "mutants": ("damaged films through the media processes", 400, 20000,
                lambda seed, trials: mutants.MutantTrials(seed).run(trials), mutants.unavailable),
}
EXPECTED_TO_FAIL = ("unsynced", "peer")


def figures(name, r):
    """What else is worth knowing of a part."""
    if name == "kill":
        return (f"{r['operations']:,} acknowledged operations, {r['killed_starts']} starts killed; ready after "
                f"{r['start_median']:.2f} s (median), {r['start_max']:.2f} s (slowest)")
    if name == "twice":
        return "the power goes as soon as the second completion has answered"
    if name == "unsynced":
        return "has to fail: a daemon whose fsync and fdatasync do nothing"
    if name == "commit":
        return "every sync of the database of every step"
    if name in ("points", "starts"):
        return f"{len(r['points'])} kinds of {'steps' if name == 'points' else 'starts'}"
    if name == "power":
        return f"{r['operations']:,} acknowledged operations"
    if name in ("tus", "peer"):
        return (f"{r['uploads_lost']:,} of {r['uploads']:,} uploads lost acknowledged bytes; of complete ones "
                f"{r['complete_lost']:,} of {r['complete']:,}")
    if name in ("inject", "owed"):
        answers = ", ".join(f"{n} x {status}" for status, n in sorted(r["answers"].items(), key=str))
        return f"{r['trials']} trials, of which {r['faults']} met the call; answers {answers}"
    if name == "disk":
        answers = ", ".join(f"{n} x {status}" for status, n in sorted(r["answers"].items(), key=str))
        return f"answers {answers}; well again within {r['recovery_max']:.2f} s"
    if name == "descriptors":
        answers = ", ".join(f"{n} x {status}" for status, n in sorted(r["answers"].items(), key=str))
        return (f"answers {answers}; well again within {r['recovery_max']:.2f} s; at most {r['spin_max']:.0%} of a "
                f"core meanwhile")
    if name == "slow":
        return (f"an honest 8 MiB upload: median {r['median_without'] * 1000:.0f} ms without, "
                f"{r['median_with'] * 1000:.0f} ms with them ({r['ratio']:.2f} times)")
    if name == "many":
        return f"ready after {r['start_median']:.2f} s (median), {r['start_max']:.2f} s (slowest)"
    if name == "encodes":
        return (f"{r['renditions']:,} renditions, each made once and to the byte what an undisturbed daemon makes; "
                f"{r['processes']} encoding processes killed, {r['met']} daemons while they encoded")
    if name == "mutants":
        failed = sum(r[step].get("media-worker-failed", 0) for step in ("probe", "transcode"))
        stalled = sum(r[step].get("media-timeout", 0) for step in ("probe", "transcode"))
        return (f"{r['probe'].get('ok', 0):,} taken and transcoded ({r['transcode'].get('ok', 0):,} well); {failed} times the "
                f"process failed, {stalled} were killed at their limits, {r['late']} outlasted them; "
                f"{r['trials'] / r['seconds']:.0f} a second; largest process {r['rss_max_kib'] / 1024:.0f} MiB")
    return ""


def count(name, r):
    return r["faults"] if name in ("inject", "owed") else r["trials"]


def row(name, r):
    n = count(name, r)
    bound = f"{3 / n:.2%}" if n and not r["failed"] and name != "slow" else "-"
    return f"| {PARTS[name][0]} | {n:,} | {r['failed']:,} | {bound} | {figures(name, r)} | {r['date']} |"


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}"


def write_table():
    lines = ["| fault | trials | failed | 95 % bound | figures | measured |", "|---|---|---|---|---|---|"]
    for name in PARTS:
        path = os.path.join(OUT, f"{name}.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                lines.append(row(name, json.load(file)))
    with open(DOCUMENT, encoding="utf-8") as file:
        text = file.read()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    body = "\n".join([f"Machine: {machine()}.", "", *lines])
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(f"{head}{BEGIN}\n{body}\n{END}{tail}")


def commit():
    words = ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def run_part(name, options):
    what, short, full, run, unavailable = PARTS[name]
    trials = full if options.full else short
    if options.trials and trials:
        trials = options.trials
    why = unavailable() if unavailable else None
    if why:
        say(f"== {what}: skipped: {why}")
        return True
    say(f"== {what}: {trials or 'all'} trials, seed {options.seed}")
    began = time.monotonic()
    result = run(options.seed, trials)
    result.update(date=datetime.date.today().isoformat(), seed=options.seed, commit=commit(),
                  seconds=round(time.monotonic() - began))
    if options.full:
        os.makedirs(OUT, exist_ok=True)
        with open(os.path.join(OUT, f"{name}.json"), "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
    say(f"   {count(name, result)} trials, {result['failed']} failed, {result['seconds']} s; {figures(name, result)}")
    return result["failed"] == 0 if name not in EXPECTED_TO_FAIL else result["failed"] > 0 or name == "peer"


def main():
    tidy_when_stopped()
    parser = argparse.ArgumentParser(prog="scripts/fault", description="Kills, power cuts, full disks, failing calls.")
    parser.add_argument("--full", action="store_true", help="all parts at full length, and the table")
    parser.add_argument("--trials", type=int, help="trials of each part that counts them")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats the drawing of a run")
    parser.add_argument("--only", help=f"some parts: {','.join(PARTS)}")
    parser.add_argument("--table", action="store_true", help="only writes the table anew")
    options = parser.parse_args()
    if options.table:
        write_table()
        return 0
    names = options.only.split(",") if options.only else [n for n in PARTS if options.full or PARTS[n][1]]
    for name in names:
        if name not in PARTS:
            parser.error(f"no part named {name}")
    bad = [name for name in names if not run_part(name, options)]
    if options.full:
        write_table()
    say(f"fault: {len(names)} parts, failed: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
