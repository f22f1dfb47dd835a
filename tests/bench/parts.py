"""The parts of the benchmark. Each takes the options and answers its section of docs/BENCHMARKS.md."""
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

import encode
import ingest
import support
from films import bulky, film, hour, minute
from support import Daemon, path_of

WORK = os.path.join(support.CLIPS, "bench")
HERE = os.path.dirname(os.path.abspath(__file__))
LIMITS = {f"ratelimit.{name}": "100000000/100000000" for name in ("default", "streaming", "upload", "metadata")}
CONNECTIONS = 64


def figures(values, digits=0):
    return ", ".join(f"{v:,.{digits}f}" for v in values)


def median(values):
    return statistics.median(values)


def verdict(holds):
    return "met" if holds else "**not met**"


@contextlib.contextmanager
def daemon(settings=None, **kwargs):
    one = Daemon({**LIMITS, **(settings or {})}, **kwargs)
    try:
        one.start()
        yield one
        one.stop()
    finally:
        one.remove()


def uploaded(one, path):
    response = one.admin.upload(path, timeout=600)
    assert response.status == 201, response.body
    return response.json()


def base_path(asset):
    """/stream/{id}/~{token}, as the playback URL has it."""
    return path_of(asset["playback"]["hls"]).rpartition("/")[0]


# ---- serve: hot bytes against nginx ----

NGINX = """
worker_processes 2;
worker_rlimit_nofile 16384;
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 8192; }}
http {{
    types {{ video/iso.segment m4s; application/vnd.apple.mpegurl m3u8; }}
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 60s;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{ listen 127.0.0.1:{port} backlog=4096; root {dir}/www; }}
}}
"""


@contextlib.contextmanager
def nginx(folder):
    port = support.free_port()
    config = os.path.join(folder, "nginx.conf")
    with open(config, "w", encoding="ascii") as file:
        file.write(NGINX.format(dir=folder, port=port))
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    # Workers give up root's rights; they must be able to reach the files.
    os.chmod(folder, 0o755)
    server = subprocess.Popen([program, "-c", config, "-e", os.path.join(folder, "error.log")])
    try:
        def up():
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
        support.eventually(up, 10, "nginx")
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def wrk(url, seconds):
    result = subprocess.run(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", url], capture_output=True, text=True)
    assert "Non-2xx" not in result.stdout and "Socket errors" not in result.stdout, result.stdout
    return float(re.search(r"Requests/sec:\s+([\d.]+)", result.stdout).group(1))


def serve(options):
    playlist_film = film("bench-64-segments", "300k", 384)
    with daemon() as one, tempfile.TemporaryDirectory() as folder:
        segment = base_path(uploaded(one, bulky())) + "/original/seg-1.m4s"
        playlist = base_path(uploaded(one, playlist_film)) + "/original/index.m3u8"
        os.makedirs(os.path.join(folder, "www"))
        cases = []
        for title, path, name, least in (("2 MB segment", segment, "segment.m4s", 1.15),
                                         ("2 KB media playlist", playlist, "index.m3u8", 1.0)):
            body = one.anonymous.get(path).body
            with open(os.path.join(folder, "www", name), "wb") as file:
                file.write(body)
            cases.append((title, path, name, least, len(body)))
        lines = ["## Hot content against nginx", "",
                 f"`wrk -t1 -c{CONNECTIONS} -d{options.seconds}s URL`, {options.runs} runs each, in turns. nginx: sendfile, "
                 "open_file_cache, 2 workers, no access log, the same bytes from files.", "",
                 "| content | bytes | StreamGate requests/s | nginx requests/s | ratio | wanted | |", "|---|---|---|---|---|---|---|"]
        raw = []
        with nginx(folder) as port:
            for title, path, name, least, size in cases:
                ours_url, theirs_url = f"http://127.0.0.1:{one.port}{path}", f"http://127.0.0.1:{port}/{name}"
                wrk(ours_url, 1), wrk(theirs_url, 1)  # both warm
                ours, theirs = [], []
                for _ in range(options.runs):
                    ours.append(wrk(ours_url, options.seconds))
                    theirs.append(wrk(theirs_url, options.seconds))
                ratio = median(ours) / median(theirs)
                lines.append(f"| {title} | {size:,} | {median(ours):,.0f} | {median(theirs):,.0f} | {ratio:.2f} | "
                             f">= {least:.2f} | {verdict(ratio >= least)} |")
                raw += [f"- {title}: StreamGate {figures(ours)}; nginx {figures(theirs)}; ratio of each pair "
                        + figures([a / b for a, b in zip(ours, theirs)], 2)]
        return "\n".join([*lines, "", *raw, ""])


# ---- upload: from the last byte sent to the first byte of the first segment ----

def receive_head(s):
    """Reads to the end of the headers: (status, headers, what came of the body)."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = s.recv(65536)
        assert part, "the connection closed"
        data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), rest


def receive_body(s, head, rest):
    length = int(re.search(r"(?i)\ncontent-length: (\d+)", head).group(1))
    while len(rest) < length:
        rest += s.recv(1 << 20)
    return rest


def first_segment_latency(one, path):
    """Uploads over one connection and plays over the same: seconds from the last byte of the body handed
    to the kernel to the first byte of the first segment, and the time of each step."""
    s = socket.create_connection(("127.0.0.1", one.port), 600)
    size = os.path.getsize(path)
    s.sendall(f"PUT /api/v1/upload/{os.path.basename(path)} HTTP/1.1\r\nHost: 127.0.0.1:{one.port}\r\n"
              f"Authorization: Bearer {one.admin_key}\r\nContent-Length: {size}\r\n\r\n".encode())
    with open(path, "rb") as file:
        offset = 0
        # A socket with a timeout is non-blocking underneath, and sendfile would say so.
        s.setblocking(True)
        while offset < size - 1:
            offset += os.sendfile(s.fileno(), file.fileno(), offset, min(1 << 20, size - 1 - offset))
        last = os.pread(file.fileno(), 1, size - 1)
    s.sendall(last)
    began = time.perf_counter()
    status, head, rest = receive_head(s)
    body = receive_body(s, head, rest)
    assert status == 201, body
    steps = [("upload answered", time.perf_counter() - began)]
    asset = json.loads(body)
    base = base_path(asset)

    def fetch(name):
        s.sendall(f"GET {base}/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        status, head, rest = receive_head(s)
        assert status == 200, head
        first = time.perf_counter() - began
        receive_body(s, head, rest)
        return first
    for name in ("master.m3u8", "original/index.m3u8", "original/init.mp4", "original/seg-0.m4s"):
        steps.append((name, fetch(name)))
    s.close()
    one.admin.request("DELETE", f"/api/v1/assets/{asset['id']}")
    return steps


def upload(options):
    lines = ["## From upload to playback", "",
             "From the last byte of the upload handed to the kernel to the first byte of the first segment received, over one "
             "connection: upload answered, master playlist, media playlist, init segment, segment. Apart from it: "
             "fsync (`upload_finish_sync_seconds` of the daemon: fdatasync, rename, fsync of the folders) and the checksum "
             "(`upload_checksum_seconds`), which is taken on another thread while the body arrives, so that at most 2 MiB of it are left "
             "after the last byte; those are within the rest.", "",
             "| film | size | to the first segment | of it fsync | without fsync | checksum, during the arrival | wanted | |",
             "|---|---|---|---|---|---|---|---|"]
    results = {"1 hour": [], "1 minute": []}
    syncs, sums = {name: [] for name in results}, {name: [] for name in results}
    steps_seen = {}
    films = {"1 hour": hour(), "1 minute": minute()}
    with daemon({"storage.min_free": "0"}) as one:
        for _ in range(options.runs):
            for name, path in films.items():
                before = one.metric("upload_finish_sync_seconds_sum")
                summed = one.metric("upload_checksum_seconds_sum")
                steps = first_segment_latency(one, path)
                syncs[name].append((one.metric("upload_finish_sync_seconds_sum") - before) * 1000)
                sums[name].append((one.metric("upload_checksum_seconds_sum") - summed) * 1000)
                results[name].append(steps[-1][1] * 1000)
                steps_seen[name] = steps
    rest = {name: [a - b for a, b in zip(results[name], syncs[name])] for name in results}
    ratio = median(rest["1 hour"]) / median(rest["1 minute"])
    for name, path in films.items():
        wanted, holds = "-", ""
        if name == "1 hour":
            wanted, holds = "< 300 ms", verdict(median(results[name]) < 300)
        lines.append(f"| {name} | {os.path.getsize(path) / 1e6:,.0f} MB | {median(results[name]):.0f} ms | "
                     f"{median(syncs[name]):.0f} ms | {median(rest[name]):.0f} ms | {median(sums[name]):.0f} ms | {wanted} | {holds} |")
    lines += ["", f"Without fsync the hour takes {ratio:.2f} times the minute (wanted: at most 2; {verdict(ratio <= 2)}).", ""]
    for name in results:
        lines += [f"- {name}, ms to the first segment: {figures(results[name], 1)}; fsync: {figures(syncs[name], 1)}",
                  f"- {name}, last run, ms since the last byte: "
                  + ", ".join(f"{step} {took * 1000:.1f}" for step, took in steps_seen[name])]
    return "\n".join([*lines, ""])


# ---- cold: segments of a long film, the file open in the media process ----

def cold(options):
    count = 40
    with daemon() as one:
        base = base_path(uploaded(one, hour()))
        s = socket.create_connection(("127.0.0.1", one.port), 60)
        times = {}
        for kind in ("m4s", "ts"):
            times[kind] = []
            for i in range(count):
                number = (i * 37 + (5 if kind == "ts" else 1)) % 590
                began = time.perf_counter()
                s.sendall(f"GET {base}/original/seg-{number}.{kind} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                status, head, rest = receive_head(s)
                took = time.perf_counter() - began
                assert status == 200, head
                size = len(receive_body(s, head, rest))
                times[kind].append(took * 1000)
        builds = one.metric("stream_builds_total")
        s.close()
        assert builds >= 2 * count, "the segments were not cold"
        every = times["m4s"] + times["ts"]
        lines = ["## Cold segments", "",
                 f"{2 * count} different segments of the 1-hour film (6 s, {size / 1e6:.1f} MB), asked for once each, the file open in "
                 "the media processes. Request sent to first byte received.", "",
                 f"- fMP4: median {median(times['m4s']):.1f} ms, largest {max(times['m4s']):.1f} ms",
                 f"- MPEG-TS: median {median(times['ts']):.1f} ms, largest {max(times['ts']):.1f} ms",
                 f"- Wanted: median under 10 ms; {verdict(median(every) < 10)} ({median(every):.1f} ms over all)",
                 f"- Raw, ms: {figures(every, 1)}", ""]
        return "\n".join(lines)


# ---- storyboard: key frames alone, against decoding everything ----

def storyboard(options):
    share, made_s, decoded_s = 10, [], []
    for _ in range(min(options.runs, 3)):
        with daemon() as one:
            path = path_of(uploaded(one, hour())["playback"]["storyboard"])
            began = time.perf_counter()
            sheets = sorted(set(re.findall(r"storyboard-\d+\.jpg", one.anonymous.get(path).body.decode())))
            for sheet in sheets:
                response = one.anonymous.get(f"{path.rpartition('/')[0]}/{sheet}")
                assert (response.status, response.body[:2]) == (200, b"\xff\xd8"), response.body[:300]
            made_s.append(time.perf_counter() - began)
            builds = one.metric("stream_builds_total", kind="storyboard")
            assert builds == len(sheets) + 1, "the sheets were not cold"
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            support.ffmpeg("-t", str(3600 / share), "-i", hour(), "-an", "-vf", "fps=1/9,scale=160:90,tile=10x10",
                           os.path.join(folder, "sheet-%d.jpg"))
        decoded_s.append((time.perf_counter() - began) * share)
    ratio = median([b / a for a, b in zip(made_s, decoded_s)])
    return "\n".join(["## Storyboard", "",
                      f"All {len(sheets)} sheets of the 1-hour 1080p film (160x90, one tile each 9 s), asked for one after the other and made on "
                      f"request from key frames, against ffmpeg making the same of every frame (measured on the first {3600 // share} s, "
                      f"times {share}).", "",
                      f"- StreamGate: {median(made_s):.1f} s; ffmpeg: {median(decoded_s):.0f} s; {ratio:.0f} times faster "
                      f"(wanted: at least 5; {verdict(ratio >= 5)})",
                      f"- Raw, s: {figures(made_s, 2)}; ffmpeg {figures(decoded_s, 1)}", ""])


# ---- flight: a thousand clients, one cold segment ----

def flight(options):
    rows = []
    with daemon() as one:
        base = base_path(uploaded(one, hour()))
        for run in range(options.runs):
            path = f"{base}/original/seg-{100 + run}.m4s"
            before = one.metric("stream_builds_total")
            result = subprocess.run(["wrk", "-t1", "-c1000", "-d2s", f"http://127.0.0.1:{one.port}{path}"],
                                    capture_output=True, text=True, preexec_fn=support.raise_descriptor_limit)
            assert "Non-2xx" not in result.stdout, result.stdout
            rows.append(one.metric("stream_builds_total") - before)
    return "\n".join(["## A thousand clients on one cold segment", "",
                      f"`wrk -t1 -c1000 -d2s` on a segment that nobody has asked for, {options.runs} times. Builds by "
                      f"`stream_builds_total`: {figures(rows)} (wanted: 1 each; {verdict(all(r == 1 for r in rows))}).", ""])


# ---- instructions: what a hot request costs in our own code ----

def callgrind_instructions(requests):
    """What `requests` hot segment requests cost, as attribute() tells it."""
    folder = tempfile.mkdtemp(prefix="streamgate-callgrind-")
    out = os.path.join(folder, "out")
    shim = os.path.join(folder, "exec_real.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-D_GNU_SOURCE", "-o", shim, os.path.join(HERE, "exec_real.c")], check=True)
    one = Daemon({**LIMITS, "server.io_threads": "1"}, environment={"LD_PRELOAD": shim, "SG_BENCH_EXE": support.BIN})
    # The counters are zeroed before the requests; the difference of two runs leaves out what each has once.
    one.command = lambda *words: ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--separate-threads=yes",
                                  "--trace-children=no", "--instr-atstart=yes", "--quiet", support.BIN, *words]
    try:
        one.start()
        path = base_path(uploaded(one, support.clip("short"))) + "/original/seg-0.m4s"
        one.anonymous.get(path)
        s = socket.create_connection(("127.0.0.1", one.port), 120)
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n".encode()
        subprocess.run(["callgrind_control", "--zero", str(one.process.pid)], capture_output=True, check=True)
        for _ in range(requests):
            s.sendall(request)
            status, head, rest = receive_head(s)
            receive_body(s, head, rest)
        subprocess.run(["callgrind_control", "--dump", str(one.process.pid)], capture_output=True, check=True)
        s.close()
        one.stop()
        for name in sorted(os.listdir(folder)):
            if re.fullmatch(r"out\.1-\d+", name):
                text = subprocess.run(["callgrind_annotate", "--threshold=100", "--show-percs=no", os.path.join(folder, name)],
                                      capture_output=True, text=True).stdout
                # Only the thread that serves: timers run however many requests there are.
                if ":mhd_conn_request " in text:
                    return attribute(text)
        raise AssertionError(f"no dump of the serving thread among {os.listdir(folder)}")
    finally:
        one.remove()
        shutil.rmtree(folder, ignore_errors=True)


def attribute(annotated):
    """Instructions by function of our program, by library, and of all code, from callgrind_annotate's list."""
    functions, libraries, everything = {}, {}, 0
    for line in annotated.splitlines():
        match = re.match(r"\s*([\d,]+)\s+(\S+):(\S+)(?: \[(.*)\])?$", line)
        if not match:
            continue
        count = int(match.group(1).replace(",", ""))
        everything += count
        library = os.path.basename(match.group(4) or "elsewhere")
        libraries[library] = libraries.get(library, 0) + count
        if library == "streamgate":
            functions[match.group(3)] = functions.get(match.group(3), 0) + count
    return functions, libraries, everything


def instructions(options):
    small, large = 200, 400
    few, few_libraries, few_all = callgrind_instructions(small)
    many, many_libraries, many_all = callgrind_instructions(large)

    def share(more, less):
        return {name: (more.get(name, 0) - less.get(name, 0)) / (large - small) for name in set(more) | set(less)}
    each, libraries = share(many, few), share(many_libraries, few_libraries)
    own = sum(each.values())
    whole = (many_all - few_all) / (large - small)
    top = sorted(each.items(), key=lambda item: -item[1])[:15]
    lines = ["## Instructions of a request", "",
             f"callgrind on the daemon, {large} hot segment requests against {small}, the difference divided by {large - small}: what one "
             "more request costs, with signed token, limits, cache, metrics.", "",
             f"- In our own functions: {own:,.0f} instructions (wanted: under 10,000; {verdict(own < 10000)})",
             f"- With all else: {whole:,.0f}: " + ", ".join(f"{name} {count:,.0f}" for name, count in sorted(
                 libraries.items(), key=lambda item: -item[1]) if count >= 1), "", "| function | instructions |", "|---|---|"]
    lines += [f"| {name} | {count:,.0f} |" for name, count in top if count >= 1]
    return "\n".join([*lines, ""])


# ---- memory ----

def memory(options):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = min(10000, hard - 500)
    with daemon({"server.idle_timeout": "300s"}) as one:
        asset = uploaded(one, bulky())
        path = f"{base_path(asset)}/original/seg-1.m4s"
        one.anonymous.get(path)
        before = one.rss()
        opened = []
        for _ in range(count):
            opened.append(socket.create_connection(("127.0.0.1", one.port), 20))
            if len(opened) % 1000 == 0 or len(opened) == count:
                support.eventually(lambda: one.metric("active_connections") >= len(opened), 20, "acceptance")
        idle = one.rss() - before
        for s in opened:
            s.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for s in opened:
            assert s.recv(4096).startswith(b"HTTP/1.1 200 ")
        kept = one.rss() - before
        # The memory of connections that rest is given back while others are served.
        for _ in range(500):
            one.anonymous.get("/version")
        rested = one.rss() - before
        for s in opened:
            s.close()
    with daemon() as one:
        base = base_path(uploaded(one, hour()))
        marks = []
        s = socket.create_connection(("127.0.0.1", one.port), 60)
        for number in range(20000):
            if number in (2500, 10000):
                marks.append(one.rss())
            # A hundred segments, so that all of them fit into the cache and are there after the first round.
            s.sendall(f"GET {base}/original/seg-{number % 100}.m4s HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            status, head, rest = receive_head(s)
            receive_body(s, head, rest)
        marks.append(one.rss())
        s.close()
    mib = [m / 2**20 for m in marks]
    growth = mib[2] - mib[1]
    return "\n".join(["## Memory", "",
                      f"- {count:,} idle connections: {idle / 1e6:.1f} MB more, {idle / count:,.0f} bytes each "
                      f"(wanted: under 100 MB; {verdict(idle < 100e6)}); after a request on each {kept / 1e6:.1f} MB, "
                      f"when 500 other requests were served {rested / 1e6:.1f} MB ({verdict(rested < 100e6)})",
                      f"- RSS after 2,500, 10,000 and 20,000 segment requests: {figures(mib, 1)} MiB; the last 10,000 added {growth:.1f} MiB "
                      f"(wanted: flat; {verdict(growth < 2)})", ""])


ALL = {"serve": serve, "upload": upload, "cold": cold, "storyboard": storyboard, "flight": flight, "instructions": instructions, "memory": memory,
       "raw": lambda options: ingest.raw(options, hour()), "tus": lambda options: ingest.tus(options, hour()),
       "small": ingest.small, "ladder": encode.ladder, "first": encode.first, "beside": encode.beside}
