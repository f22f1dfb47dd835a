"""The parts of the benchmark about uploads: raw bodies against nginx, tus against @tus/server, many small files.

Every run is a fresh upload whose file is removed afterwards. CPU is what the server's processes used
(user and system), wall is from the first byte sent to the answer received.
"""
import base64
import concurrent.futures
import contextlib
import http.client
import itertools
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

import support

HERE = os.path.dirname(os.path.abspath(__file__))
PEER = os.path.join(HERE, "..", "fault", "peer")
TICK = os.sysconf("SC_CLK_TCK")
PATCH = 16 << 20
SMALL, SMALL_BYTES, SMALL_AT_ONCE = 1000, 1_000_000, 64

NGINX_DAV = """
worker_processes 2;
user root;
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{ listen 127.0.0.1:{port}; root {dir}/www; location / {{ dav_methods PUT DELETE; }} }}
}}
"""


def median(values):
    return statistics.median(values)


def figures(values, digits=2):
    return ", ".join(f"{v:,.{digits}f}" for v in values)


def verdict(holds):
    return "met" if holds else "**not met**"


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def cpu_seconds(pid):
    """User and system time of a process and its children so far."""
    total = 0.0
    for one in [pid, *children(pid)]:
        with open(f"/proc/{one}/stat", encoding="ascii") as file:
            words = file.read().rpartition(")")[2].split()
        total += (int(words[11]) + int(words[12])) / TICK
    return total


def await_port(port, what):
    def up():
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
    support.eventually(up, 20, what)


# ---- the servers ----

@contextlib.contextmanager
def streamgate(folder, settings=None):
    os.makedirs(os.path.join(folder, "streamgate"), exist_ok=True)
    limits = {f"ratelimit.{name}": "100000000/100000000" for name in ("default", "upload", "metadata", "streaming")}
    one = support.Daemon({**limits, "storage.min_free": "0", **(settings or {})}, data_dir=os.path.join(folder, "streamgate"))
    try:
        one.start()
        yield one
        one.stop()
    finally:
        one.remove()


@contextlib.contextmanager
def nginx_dav(folder):
    folder = os.path.join(folder, "nginx")
    os.makedirs(os.path.join(folder, "www"))
    port = support.free_port()
    config = os.path.join(folder, "nginx.conf")
    with open(config, "w", encoding="ascii") as file:
        file.write(NGINX_DAV.format(dir=folder, port=port))
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    server = subprocess.Popen([program, "-c", config, "-e", os.path.join(folder, "error.log")])
    try:
        await_port(port, "nginx")
        yield port, server.pid
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


@contextlib.contextmanager
def tus_server(folder):
    folder = os.path.join(folder, "tus")
    os.makedirs(folder)
    port = support.free_port()
    server = subprocess.Popen(["node", os.path.join(PEER, "server.mjs"), str(port), folder], stdout=subprocess.DEVNULL)
    try:
        await_port(port, "@tus/server")
        yield port, server.pid
    finally:
        server.terminate()
        server.wait()


def built(name, *libraries):
    """A program of this folder, compiled."""
    source = os.path.join(HERE, name)
    return support.made(f"bench-{name.removesuffix('.c')}-{int(os.path.getmtime(source))}", lambda path: subprocess.run(
        ["cc", "-O2", "-std=gnu17", "-pthread", "-o", path, source, *libraries], check=True))


@contextlib.contextmanager
def floor_server(folder):
    """Receive, write, SHA-256, sync (floor.c): what no server that does these can go below."""
    folder = os.path.join(folder, "floor")
    os.makedirs(folder)
    server = subprocess.Popen([built("floor.c", "-lcrypto"), folder], stdout=subprocess.PIPE, text=True)
    try:
        yield int(server.stdout.readline()), server.pid
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def sink():
    """Takes one connection after another and throws away what comes: what loopback and a client can do."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        buffer = bytearray(1 << 20)
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            while one.recv_into(buffer):
                pass
            one.sendall(b"done")
            one.close()
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


# ---- clients ----

def send_file(s, path, offset=0, length=None):
    length = os.path.getsize(path) - offset if length is None else length
    s.setblocking(True)
    with open(path, "rb") as file:
        end = offset + length
        while offset < end:
            offset += os.sendfile(s.fileno(), file.fileno(), offset, min(1 << 20, end - offset))


def put_file(port, target, path, headers=""):
    """Seconds and the answer's head of one PUT."""
    s = socket.create_connection(("127.0.0.1", port), 600)
    began = time.perf_counter()
    s.sendall(f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}Content-Length: {os.path.getsize(path)}\r\n"
              "Connection: close\r\n\r\n".encode())
    send_file(s, path)
    s.setblocking(True)
    answer = b""
    while part := s.recv(65536):
        answer += part
    took = time.perf_counter() - began
    s.close()
    assert answer.startswith(b"HTTP/1.1 201"), answer[:400]
    return took, answer


def through_sink(port, path):
    s = socket.create_connection(("127.0.0.1", port), 600)
    began = time.perf_counter()
    send_file(s, path)
    s.shutdown(socket.SHUT_WR)
    s.recv(16)
    took = time.perf_counter() - began
    s.close()
    return took


def tus_file(port, base, path, headers):
    """One upload in PATCHes of 16 MiB over one connection: seconds and the upload's path."""
    size = os.path.getsize(path)
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    common = {"Tus-Resumable": "1.0.0", **headers}
    name = base64.b64encode(os.path.basename(path).encode()).decode()
    began = time.perf_counter()
    client.request("POST", base, headers={**common, "Upload-Length": str(size), "Upload-Metadata": f"filename {name}"})
    answer = client.getresponse()
    answer.read()
    assert answer.status == 201, answer.status
    location = answer.getheader("Location")
    target = location[location.index("/", 8):] if location.startswith("http") else location
    offset = 0
    with open(path, "rb") as file:
        while offset < size:
            length = min(PATCH, size - offset)
            client.putrequest("PATCH", target)
            for key, value in {**common, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream",
                               "Content-Length": str(length)}.items():
                client.putheader(key, value)
            client.endheaders()
            client.sock.setblocking(True)
            sent = 0
            while sent < length:
                sent += os.sendfile(client.sock.fileno(), file.fileno(), offset + sent, min(1 << 20, length - sent))
            answer = client.getresponse()
            text = answer.read()
            assert answer.status == 204, (answer.status, text)
            offset = int(answer.getheader("Upload-Offset"))
    took = time.perf_counter() - began
    client.close()
    return took, target


# ---- raw bodies of 1 GB ----

def remove_all(one):
    for asset in one.admin.get("/api/v1/assets?limit=200").json()["items"]:
        assert one.admin.request("DELETE", f"/api/v1/assets/{asset['id']}", timeout=120).status == 204


def settle():
    """What one side left to be written must not slow the other."""
    os.sync()


def raw_runs(folder, film, runs):
    ours, theirs, limits = [], [], []
    with streamgate(folder) as one, nginx_dav(folder) as (port, pid), sink() as hole:
        key = f"Authorization: Bearer {one.admin_key}\r\n"
        for _ in range(runs):
            settle()
            before = cpu_seconds(one.process.pid)
            took, answer = put_file(one.port, "/api/v1/upload/film.mp4", film, key)
            ours.append((took, cpu_seconds(one.process.pid) - before, timing(answer)))
            remove_all(one)
            settle()
            before = cpu_seconds(pid)
            took, _ = put_file(port, "/film.mp4", film)
            theirs.append((took, cpu_seconds(pid) - before))
            os.unlink(os.path.join(folder, "nginx", "www", "film.mp4"))
            limits.append(through_sink(hole, film))
    return ours, theirs, limits


def timing(answer):
    """Server-Timing as {part: milliseconds}."""
    line = next(l for l in answer.decode(errors="replace").split("\r\n") if l.lower().startswith("server-timing:"))
    return {part.split(";")[0].strip(): float(part.split("dur=")[1]) for part in line.split(":", 1)[1].split(",")}


def raw_section(title, ours, theirs, limits, gigabytes):
    wall, their_wall = median([o[0] for o in ours]), median([t[0] for t in theirs])
    cpu, their_cpu = median([o[1] for o in ours]) / gigabytes, median([t[1] for t in theirs]) / gigabytes
    limit = gigabytes / median(limits)
    parts = {key: median([o[2][key] for o in ours]) for key in ours[0][2]}
    row = (f"| {title} | {wall:.2f} s | {their_wall:.2f} s | {wall / their_wall:.2f} | {cpu:.2f} s | {their_cpu:.2f} s | "
           f"{cpu / their_cpu:.2f} | {gigabytes / wall:.2f} GB/s | {limit:.2f} GB/s |")
    raw = [f"- {title}: StreamGate wall {figures([o[0] for o in ours])} s, CPU {figures([o[1] for o in ours])} s; nginx wall "
           f"{figures([t[0] for t in theirs])} s, CPU {figures([t[1] for t in theirs])} s; sink {figures(limits)} s",
           f"- {title}, parts of ours in ms (hash over the arrival, the rest after the last byte): "
           + ", ".join(f"{name} {value:.0f}" for name, value in parts.items())]
    return row, raw, (wall / their_wall, cpu / their_cpu, gigabytes / wall, limit)


def raw(options, film):
    gigabytes = os.path.getsize(film) / 1e9
    lines = ["## Raw upload of 1 GB against nginx's DAV PUT", "",
             "`PUT` of the 1-hour film over loopback. StreamGate takes the SHA-256, syncs, probes and commits; nginx does none of "
             "that. The sink reads the same bytes from the same client and throws them away.", "",
             "| where | StreamGate | nginx | ratio | CPU s/GB | nginx | ratio | rate | sink |", "|---|---|---|---|---|---|---|---|---|"]
    tail, outcome = [], {}
    for title, parent in (("disk", None), ("tmpfs", "/dev/shm")):
        with tempfile.TemporaryDirectory(prefix="streamgate-bench-", dir=parent) as folder:
            row, raw_lines, outcome[title] = raw_section(title, *raw_runs(folder, film, options.runs), gigabytes)
        lines.append(row)
        tail += raw_lines
    wall, cpu, _, _ = outcome["disk"]
    _, _, rate, limit = outcome["tmpfs"]
    lines += ["", f"Wanted on disk: wall at most 1.1 times ({verdict(wall <= 1.1)}), CPU a GB at most 1.5 times ({verdict(cpu <= 1.5)}). "
              f"Wanted on tmpfs: 1 GB/s or the sink's rate, whichever is lower ({verdict(rate >= min(1.0, limit))}).", ""]
    return "\n".join([*lines, *tail, ""])


# ---- tus in PATCHes of 16 MiB ----

def tus(options, film):
    gigabytes = os.path.getsize(film) / 1e9
    ours, theirs, least = [], [], []
    with tempfile.TemporaryDirectory(prefix="streamgate-bench-") as folder:
        with streamgate(folder) as one, tus_server(folder) as (port, pid), floor_server(folder) as (bare, bare_pid):
            key = {"Authorization": f"Bearer {one.admin_key}"}
            for _ in range(options.runs):
                settle()
                before = cpu_seconds(one.process.pid)
                took, _ = tus_file(one.port, "/api/v1/tus", film, key)
                ours.append((took, cpu_seconds(one.process.pid) - before))
                remove_all(one)
                settle()
                before = cpu_seconds(pid)
                took, target = tus_file(port, "/api/v1/tus", film, {})
                theirs.append((took, cpu_seconds(pid) - before))
                for name in os.listdir(os.path.join(folder, "tus")):
                    os.unlink(os.path.join(folder, "tus", name))
                settle()
                before = cpu_seconds(bare_pid)
                took, _ = put_file(bare, "/", film)
                least.append((took, cpu_seconds(bare_pid) - before))
                for name in os.listdir(os.path.join(folder, "floor")):
                    os.unlink(os.path.join(folder, "floor", name))
    rate, their_rate = gigabytes / median([o[0] for o in ours]), gigabytes / median([t[0] for t in theirs])
    cpu, their_cpu = median([o[1] for o in ours]) / gigabytes, median([t[1] for t in theirs]) / gigabytes
    return "\n".join([
        "## tus in PATCHes of 16 MiB against @tus/server", "",
        "The 1-hour film on disk, one connection, the same client. StreamGate syncs and commits each PATCH before it answers, takes the "
        "SHA-256 and makes a playable asset at the end; @tus/server (file store) writes files and never syncs.", "",
        "| | StreamGate | @tus/server | ratio | wanted | |", "|---|---|---|---|---|---|",
        f"| rate | {rate:.2f} GB/s | {their_rate:.2f} GB/s | {rate / their_rate:.2f} | >= 1.50 | {verdict(rate / their_rate >= 1.5)} |",
        f"| CPU s/GB | {cpu:.2f} | {their_cpu:.2f} | {cpu / their_cpu:.2f} | <= 0.33 | {verdict(cpu / their_cpu <= 1 / 3)} |", "",
        f"The least that a server can use which receives, writes and hashes these bytes (`tests/bench/floor.c`: one PUT, nothing else): "
        f"{median([l[1] for l in least]) / gigabytes:.2f} CPU s/GB, {median([l[1] for l in least]) / gigabytes / their_cpu:.2f} of @tus/server's, which hashes nothing.", "",
        f"- StreamGate: wall {figures([o[0] for o in ours])} s, CPU {figures([o[1] for o in ours])} s",
        f"- @tus/server: wall {figures([t[0] for t in theirs])} s, CPU {figures([t[1] for t in theirs])} s",
        f"- The least: wall {figures([l[0] for l in least])} s, CPU {figures([l[1] for l in least])} s", ""])


# ---- a thousand small files ----

def small_files(folder):
    """Distinct playable files of 1 MB: one clip, and a `free` box of random bytes behind it."""
    clip = support.clip("short")
    with open(clip, "rb") as file:
        head = file.read()
    assert len(head) < SMALL_BYTES - 8, "the clip is larger than the files are to be"
    paths = []
    for number in range(SMALL):
        path = os.path.join(folder, f"{number}.mp4")
        rest = SMALL_BYTES - len(head)
        with open(path, "wb") as file:
            file.write(head + rest.to_bytes(4, "big") + b"free" + os.urandom(rest - 8))
        paths.append(path)
    return paths


def many(paths, upload):
    """Seconds to upload all, 64 at once, each thread on a connection of its own."""
    local = threading.local()
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(SMALL_AT_ONCE) as pool:
        for _ in pool.map(lambda path: upload(local, path), paths):
            pass
    return time.perf_counter() - began


def request(local, port, head, path):
    """One request with a file as its body over the thread's connection: (status, headers)."""
    if not hasattr(local, "socket"):
        local.socket = socket.create_connection(("127.0.0.1", port), 120)
        local.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        local.socket.setblocking(True)
    s = local.socket
    s.sendall(f"{head}Content-Length: {os.path.getsize(path)}\r\n\r\n".encode())
    send_file(s, path)
    data = b""
    while b"\r\n\r\n" not in data:
        part = s.recv(65536)
        assert part, "the connection closed"
        data += part
    answer, _, rest = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\ncontent-length: *(\d+)", answer)
    while len(rest) < int(length.group(1) if length else 0):
        rest += s.recv(65536)
    return int(answer.split()[1]), answer.decode()


def post_tus(port, base, extra=""):
    """creation-with-upload: one request."""
    def upload(local, path):
        name = base64.b64encode(os.path.basename(path).encode()).decode()
        status, head = request(local, port, f"POST {base} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{extra}Tus-Resumable: 1.0.0\r\n"
                               f"Upload-Length: {os.path.getsize(path)}\r\nUpload-Metadata: filename {name}\r\n"
                               "Content-Type: application/offset+octet-stream\r\n", path)
        assert status == 201 and f"upload-offset: {os.path.getsize(path)}" in head.lower(), head
    return upload


def put_raw(port, key):
    def upload(local, path):
        status, head = request(local, port, f"PUT /api/v1/upload/{os.path.basename(path)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                               f"Authorization: Bearer {key}\r\n", path)
        assert status == 201, head
    return upload


def sync_calls(pid, work):
    """fsync and fdatasync calls of the server's process while work runs."""
    with tempfile.NamedTemporaryFile(mode="r") as out:
        trace = subprocess.Popen(["strace", "-f", "-c", "-e", "trace=fsync,fdatasync", "-o", out.name, "-p", str(pid)],
                                 stderr=subprocess.PIPE, text=True)
        trace.stderr.readline()  # attached
        work()
        trace.send_signal(signal.SIGINT)
        trace.wait()
        return sum(int(line.split()[3]) for line in out.read().splitlines() if line.split()[-1:] in (["fsync"], ["fdatasync"]))


def small(options):
    raws, creations, theirs, least = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="streamgate-bench-") as folder:
        os.makedirs(os.path.join(folder, "files"))
        paths = small_files(os.path.join(folder, "files"))
        # A new server and a new folder each time: what was uploaded before would be recognised, and ext4 is slow for
        # minutes to make files where many were just deleted.
        fresh = (os.path.join(folder, str(number)) for number in itertools.count())
        for _ in range(options.runs):
            with streamgate(next(fresh)) as one:
                settle()
                raws.append(many(paths, put_raw(one.port, one.admin_key)))
            with streamgate(next(fresh)) as one:
                settle()
                creations.append(many(paths, post_tus(one.port, "/api/v1/tus", f"Authorization: Bearer {one.admin_key}\r\n")))
            with tus_server(next(fresh)) as (port, _):
                settle()
                theirs.append(many(paths, post_tus(port, "/api/v1/tus")))
            with floor_server(next(fresh)) as (port, _):
                settle()
                least.append(many(paths, put_raw(port, "none")))
        with streamgate(next(fresh)) as one:
            calls = sync_calls(one.process.pid, lambda: many(paths, put_raw(one.port, one.admin_key)))
            commits = one.metric("db_commits_total")
    rates = {name: SMALL / median(times) for name, times in (("raw", raws), ("tus", creations), ("theirs", theirs), ("least", least))}
    return "\n".join([
        "## A thousand uploads of 1 MB, 64 at once", "",
        "Distinct playable files on disk, one Python client with 64 connections. Ours: a raw PUT, and tus creation-with-upload; each is "
        "synced, probed and committed before it is answered. @tus/server: creation-with-upload, nothing is synced.", "",
        "| | uploads/s | ratio | wanted | |", "|---|---|---|---|---|",
        f"| StreamGate, raw PUT | {rates['raw']:.0f} | {rates['raw'] / rates['theirs']:.2f} | >= 3 | {verdict(rates['raw'] >= 3 * rates['theirs'])} |",
        f"| StreamGate, tus | {rates['tus']:.0f} | {rates['tus'] / rates['theirs']:.2f} | >= 3 | {verdict(rates['tus'] >= 3 * rates['theirs'])} |",
        f"| @tus/server | {rates['theirs']:.0f} | 1 | | |",
        f"| receive, write, SHA-256, fdatasync and nothing else (`tests/bench/floor.c`) | {rates['least']:.0f} | {rates['least'] / rates['theirs']:.2f} | | |", "",
        f"- Syncs an upload (raw, strace over fsync and fdatasync, database and folders included): {calls / SMALL:.2f}; "
        f"database transactions an upload: {commits / SMALL:.2f} (one each without group commit)",
        f"- Seconds: raw {figures(raws)}; tus {figures(creations)}; @tus/server {figures(theirs)}; the least {figures(least)}", ""])
