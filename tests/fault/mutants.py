#!/usr/bin/env python3
"""Damaged films of every container through the media processes. usage: mutants.py [--trials N] [--seed S]

tests/fault/mutants.c does the work: each mutant is probed by a pool of processes, and one that is taken is made into
small renditions. It stands for the daemon, and must live; a process may die of a mutant, but no call may outlast its
limits and no process the program. Mutants of which a process died are kept in the folder that is printed.
"""
import argparse
import json
import os
import subprocess
import sys
import time

from common import BIN, SLOW, Failures, remove, say, scratch, support, tidy_when_stopped

PROGRAM = os.environ.get("SG_MUTANTS", os.path.join(os.path.dirname(BIN), "fault_mutants"))
SECONDS = "0.6"
PICTURE = ["-f", "lavfi", "-i", f"testsrc2=size=64x48:rate=10:duration={SECONDS}"]
SOUND = ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=16000:duration={SECONDS}"]
H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "5"]
AAC = ["-c:a", "aac", "-b:a", "32k"]
# name: (muxer, arguments)
SEEDS = {
    "plain.mp4": ("mp4", [*PICTURE, *SOUND, *H264, "-bf", "2", *AAC, "-movflags", "+faststart"]),
    "fragmented.mp4": ("mp4", [*PICTURE, *SOUND, *H264, *AAC, "-movflags", "frag_keyframe+empty_moov"]),
    "hevc.mp4": ("mp4", [*PICTURE, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"]),
    "sound.m4a": ("ipod", [*SOUND, *AAC]),
    "film.mov": ("mov", [*PICTURE, *SOUND, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-c:a", "pcm_s16le"]),
    "vp9.webm": ("webm", [*PICTURE, *SOUND, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus"]),
    "vp8.webm": ("webm", [*PICTURE, *SOUND, "-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libvorbis", "-ac", "2"]),
    "h264.mkv": ("matroska", [*PICTURE, *SOUND, *H264, *AAC]),
    "mpeg2.mkv": ("matroska", [*PICTURE, *SOUND, "-c:v", "mpeg2video", "-r", "25", "-c:a", "flac"]),
    "mpeg4.avi": ("avi", [*PICTURE, *SOUND, "-c:v", "mpeg4", "-c:a", "mp3"]),
    "h264.ts": ("mpegts", [*PICTURE, *SOUND, *H264, *AAC]),
    "mpeg2.mpg": ("mpeg", [*PICTURE, *SOUND, "-c:v", "mpeg2video", "-r", "25", "-c:a", "mp2"]),
    "h264.flv": ("flv", [*PICTURE, *SOUND, *H264, *AAC, "-ar", "44100"]),
    "sound.ogg": ("ogg", [*SOUND, "-c:a", "libvorbis", "-ac", "2"]),
    "sound.wav": ("wav", [*SOUND, "-c:a", "pcm_s16le"]),
    "sound.flac": ("flac", [*SOUND, "-c:a", "flac"]),
    "sound.mp3": ("mp3", [*SOUND, "-c:a", "mp3"]),
    "sound.aac": ("adts", [*SOUND, *AAC]),
}


def films():
    return [support.made(f"mutants-{name}", lambda path, form=form, words=words: support.ffmpeg(*words, "-f", form, path))
            for name, (form, words) in SEEDS.items()]


def unavailable():
    return None if os.access(PROGRAM, os.X_OK) else f"{PROGRAM} is not there"


class MutantTrials:
    def __init__(self, seed):
        self.failures = Failures("mutants", seed)
        self.seed = seed

    def run(self, trials):
        folder = scratch("mutants")
        words = [PROGRAM, str(self.seed), str(trials), folder, *films()]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=(60 + trials) * SLOW,
                              env={**os.environ, **support.sanitizer_options()})
        spoke = support.SANITIZER.search(done.stderr)
        self.failures.check(not spoke, f"a sanitizer spoke: {done.stderr[:3000]}")
        self.failures.check(done.returncode in (0, 1), f"the program ended with {done.returncode}: {done.stderr[-2000:]}")
        result = json.loads(done.stdout) if done.returncode in (0, 1) else {"probe": {}, "transcode": {}}
        self.failures.check(not result.get("late"), f"{result.get('late')} calls outlasted their limits")
        self.failures.check(not result.get("children_left"), "processes are left")
        tried = sum(result["probe"].values())
        self.failures.check(tried == trials, f"{tried} mutants were probed instead of {trials}")
        if os.listdir(folder):
            say(f"mutants of which a process died or that took too long: {folder}")
        else:
            remove(folder)
        return {**result, "trials": trials, "failed": len(self.failures.items),
                "failures": [what for _, what in self.failures.items]}


def main():
    tidy_when_stopped()
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    say(f"mutants: {options.trials} trials of {PROGRAM}, seed {options.seed}")
    result = MutantTrials(options.seed).run(options.trials)
    say(f"mutants: {result}")
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
