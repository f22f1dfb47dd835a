"""The encoder against the ffmpeg command line, how soon a source that nobody can play is played, and what others notice of an encode."""
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time

import ingest
import support
from films import MOVING_S, bulky, foreign_hour, moving
from support import eventually, path_of

PRESET, THREADS = "veryfast", 2
RUNGS = ((1080, 5000), (720, 2800), (480, 1400), (360, 800))
LADDER = " ".join(f"{height}p:{kilobits}k" for height, kilobits in RUNGS)
SETTINGS = {"transcode.automatic": "all", "transcode.ladder": LADDER, "transcode.preset": PRESET,
            "transcode.threads": str(THREADS), "transcode.niceness": "15", "playback.default_policy": "public"}


def median(values):
    return statistics.median(values)


def figures(values, digits=2):
    return ", ".join(f"{v:,.{digits}f}" for v in values)


def verdict(holds):
    return "met" if holds else "**not met**"


def cpu_of(pid):
    """User and system time of a process and of all its children, those that ended included."""
    total = ingest.cpu_seconds(pid)
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        words = file.read().rpartition(")")[2].split()
    return total + (int(words[13]) + int(words[14])) / ingest.TICK


# ---- the ladder ----

def by_daemon(film, folder):
    with ingest.streamgate(folder, SETTINGS) as one:
        asset = one.admin.upload(film).json()
        before, began = cpu_of(one.process.pid), time.perf_counter()
        job = eventually(lambda: next((j for j in one.admin.get("/api/v1/jobs").json()["items"]
                                       if j["type"] == "transcode" and j["state"] in ("done", "failed", "dead")), None),
                         600, "the ladder")
        assert job["state"] == "done", job
        wall, cpu = time.perf_counter() - began, cpu_of(one.process.pid) - before
        master = path_of(asset["playback"]["hls"]).rpartition("/")[0]
        files = {}
        for height, _ in RUNGS:
            files[height] = os.path.join(folder, f"ours-{height}.mp4")
            with open(files[height], "wb") as file:
                file.write(one.anonymous.get(f"{master}/{height}p/download.mp4").body)
    return wall, cpu, files


def by_ffmpeg(film, folder):
    files = {height: os.path.join(folder, f"theirs-{height}.mp4") for height, _ in RUNGS}
    split = "[0:v]split=4" + "".join(f"[s{h}]" for h, _ in RUNGS)
    scales = ";".join(f"[s{h}]scale={h * 16 // 9 // 2 * 2}:{h}:flags=bicubic[v{h}]" for h, _ in RUNGS)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", str(THREADS), "-i", film, "-filter_complex", f"{split};{scales}"]
    for height, kilobits in RUNGS:
        command += ["-map", f"[v{height}]", "-map", "0:a", "-c:v", "libx264", "-preset", PRESET, "-profile:v", "high",
                    "-threads", str(THREADS), "-b:v", f"{kilobits}k", "-maxrate", f"{kilobits * 3 // 2}k", "-bufsize", f"{kilobits * 3}k",
                    "-force_key_frames", "expr:gte(t,n_forced*2)", "-forced-idr", "1", "-x264-params", "keyint=infinite:scenecut=0:open-gop=0",
                    "-c:a", "copy", files[height]]
    before, began = os.times(), time.perf_counter()
    subprocess.run(["nice", "-n", "15", *command], check=True)
    wall, after = time.perf_counter() - began, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system, files


def ssim(file, film, height):
    width = height * 16 // 9 // 2 * 2
    run = subprocess.run(["ffmpeg", "-nostdin", "-v", "info", "-i", file, "-i", film, "-filter_complex",
                          f"[1:v]scale={width}:{height}:flags=bicubic[r];[0:v][r]ssim", "-an", "-f", "null", "-"],
                         capture_output=True, text=True, check=True)
    return float(re.search(r"SSIM .*All:([0-9.]+)", run.stderr).group(1))


def ladder(options):
    film, ours, theirs, rows = moving(), [], [], []
    for run in range(options.runs):
        for side, make in ((ours, by_daemon), (theirs, by_ffmpeg)) if run % 2 == 0 else ((theirs, by_ffmpeg), (ours, by_daemon)):
            folder = tempfile.mkdtemp(prefix="streamgate-ladder-")
            try:
                wall, cpu, files = make(film, folder)
                quality = {h: ssim(f, film, h) for h, f in files.items()} if run < 2 else None
                side.append((wall, cpu, quality, {h: os.path.getsize(f) for h, f in files.items()}))
            finally:
                shutil.rmtree(folder)
    for height, _ in RUNGS:
        a, b = ours[0][2][height], theirs[0][2][height]
        rows.append(f"| {height}p | {ours[0][3][height] / 1e6:.2f} MB | {theirs[0][3][height] / 1e6:.2f} MB | {a:.4f} | {b:.4f} | "
                    f"{verdict(a >= b - 0.001)} |")
    wall = median([a[0] / b[0] for a, b in zip(ours, theirs)])
    cpu = median([a[1] / b[1] for a, b in zip(ours, theirs)])
    return "\n".join([
        "## The ladder against the ffmpeg command line", "",
        f"{MOVING_S} s of 1080p30, {LADDER}, preset {PRESET}, {THREADS} threads for the decoder and for each encoder, sound copied; one process, "
        f"one decode on both sides. Ours is the whole job: taken from the queue, encoded in the sandboxed process, synced, probed, published; CPU of the daemon "
        f"and all its processes. ffmpeg: `split`, four `scale=flags=bicubic`, four libx264 with the same rates, buffers and key frames, at the same niceness.", "",
        f"- Wall: {wall:.3f} times ffmpeg's (wanted: at most 1.03; {verdict(wall <= 1.03)}); ours {figures([a[0] for a in ours])} s; ffmpeg {figures([b[0] for b in theirs])} s",
        f"- CPU: {cpu:.3f} times (wanted: at most 1.03; {verdict(cpu <= 1.03)}); ours {figures([a[1] for a in ours])} s; ffmpeg {figures([b[1] for b in theirs])} s", "",
        "| rung | our size | ffmpeg's | our SSIM | ffmpeg's | at most 0.001 less |", "|---|---|---|---|---|---|", *rows, ""])


# ---- the first segment of what nobody can play ----

def first(options):
    film, times = foreign_hour(), []
    for _ in range(options.runs):
        folder = tempfile.mkdtemp(prefix="streamgate-first-")
        try:
            with ingest.streamgate(folder, {**SETTINGS, "transcode.threads": "0"}) as one:
                response = one.admin.upload(film, timeout=600)
                began = time.perf_counter()
                assert response.status == 201 and response.json()["status"] == "processing", response.body
                base = path_of(response.json()["playback"]["hls"]).rpartition("/")[0]
                eventually(lambda: one.anonymous.get(f"{base}/master.m3u8").status == 200, 60, "a master playlist")
                rung = re.search(r"^(\S+)/index\.m3u8$", one.anonymous.get(f"{base}/master.m3u8").body.decode(), re.M).group(1)
                for name in ("index.m3u8", "init.mp4", "seg-0.m4s"):
                    assert one.anonymous.get(f"{base}/{rung}/{name}").status == 200, name
                times.append(time.perf_counter() - began)
                job = one.admin.get("/api/v1/jobs").json()["items"]
                for item in job:
                    one.admin.request("DELETE", f"/api/v1/jobs/{item['id']}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    worst = max(times)
    return "\n".join([
        "## The first segment of a source that players cannot have", "",
        f"A 1-hour 720p AVI (MPEG-4 Part 2, MP3; {os.path.getsize(film) / 1e6:.0f} MB), default ladder. From the answer to the upload to the first segment of the lowest rung received: "
        f"master playlist, media playlist, initialisation segment, segment.", "",
        f"- Median {median(times):.2f} s, slowest {worst:.2f} s (wanted: under 5 s; {verdict(worst < 5)})",
        f"- Raw, s: {figures(times)}", ""])


# ---- streaming beside an encode ----

PACED = {"connections": 4, "rate": 50, "seconds": 5}


def p99(port, path):
    """By a client in C (pace.c): one in Python would measure its own waiting for the cores."""
    run = subprocess.run([ingest.built("pace.c"), str(port), path, *map(str, PACED.values())], capture_output=True, text=True, check=True)
    times = sorted(int(line) for line in run.stdout.split())
    return times[int(len(times) * 0.99)] / 1e3


def beside(options):
    quiet, busy = [], []
    # A p99 is what the machine's own hiccups are made of: few pairs say nothing.
    folder = tempfile.mkdtemp(prefix="streamgate-beside-")
    try:
        with ingest.streamgate(folder, {**SETTINGS, "transcode.automatic": "needed", "transcode.threads": "0"}) as one:
            asset, watched = one.admin.upload(moving()).json(), one.admin.upload(bulky()).json()
            base = path_of(watched["playback"]["hls"]).rpartition("/")[0]
            path = f"{base}/original/seg-0.m4s"
            weight = len(one.anonymous.get(path).body)
            assert 1.9e6 < weight < 2.2e6, weight
            for run in range(3 * options.runs):
                quiet.append(p99(one.port, path))
                response = one.admin.request("POST", f"/api/v1/assets/{asset['id']}/renditions",
                                             body={"height": 1080, "crf": 18, "name": f"busy-{run}"})
                assert response.status == 202, response.body
                job = f"/api/v1/jobs/{response.json()['job']}"
                eventually(lambda job=job: (one.admin.get(job).json().get("progress") or {}).get("percent", 0) > 1, 60, "an encode under way")
                busy.append(p99(one.port, path))
                state = one.admin.get(job).json()["state"]
                assert state == "running", f"the encode was over too soon: {state}"
                one.admin.request("DELETE", job)
                eventually(lambda job=job: one.admin.get(job).json()["state"] == "cancelled", 10, "its end")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ratio = median([b / a for a, b in zip(quiet, busy)])
    return "\n".join([
        "## Streaming beside an encode", "",
        f"{PACED['connections']} connections ask for a hot 2 MB segment {PACED['rate']} times a second each, in turns, for {PACED['seconds']} s, timed from when each request was due (`tests/bench/pace.c`); first with "
        "nothing else, then while a 1080p rendition (crf 18, threads for all cores) of another film is encoded, which leaves one CPU alone meanwhile (`transcode.spare_cpus`).", "",
        f"- p99: {median(busy):.2f} ms beside the encode, {median(quiet):.2f} ms without; {ratio:.2f} times (wanted: at most 1.5; {verdict(ratio <= 1.5)})",
        f"- Raw, ms: without {figures(quiet, 2)}; beside {figures(busy, 2)}", ""])
