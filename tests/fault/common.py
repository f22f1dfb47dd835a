"""What the fault trials stand on: content that is unique and valid, a client that knows when an answer is missing,
a daemon that may be killed at any moment, and the list of failures.

Standard library only. SG_BIN names the daemon's program, SG_SLOW how many times slower than release it may be.
"""
import contextlib
import hashlib
import http.client
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import support  # noqa: E402  (clips, free ports and sanitizer options are made there)

BIN, SLOW = support.BIN, support.SLOW
SETTINGS = {
    **support.GENEROUS,
    "playback.default_policy": "public",
    "upload.min_chunk_size": "4KiB",
    "upload.commit_bytes": "64KiB",
    "storage.min_free": "1MiB",
    "log.level": "info",
}


def say(text):
    print(text, flush=True)


def tidy_when_stopped():
    """SIGTERM unwinds, so that mounts and loop devices go."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def scratch(name):
    """A new folder for data directories: FAULT_DIR when set, else the system's temporary folder."""
    base = os.environ.get("FAULT_DIR") or tempfile.gettempdir()
    os.makedirs(base, exist_ok=True)
    return tempfile.mkdtemp(prefix=f"streamgate-{name}-", dir=base)


# ---- content ----

class Content:
    """A file: a small clip followed by a `free` box of random bytes, so that each is different and each plays."""
    base = None

    def __init__(self, seed, size):
        if Content.base is None:
            with open(fault_clip(), "rb") as file:
                Content.base = file.read()
        filler = max(0, size - len(Content.base) - 8)
        self.data = Content.base + struct.pack(">I4s", filler + 8, b"free") + random.Random(seed).randbytes(filler)
        self.size = len(self.data)
        self.sha256 = hashlib.sha256(self.data).hexdigest()


def fault_clip():
    arguments = ["-f", "lavfi", "-i", "testsrc2=size=64x64:rate=10:duration=2", "-f", "lavfi", "-i",
                 "sine=frequency=440:sample_rate=48000:duration=2", *support.VIDEO, "-g", "10", *support.AUDIO,
                 "-movflags", "+faststart"]
    return support.made("fault.mp4", lambda path: support.ffmpeg(*arguments, "-f", "mp4", path))


# ---- client ----

class Lost(Exception):
    """No whole answer came: whether the request took effect is unknown."""


class Client:
    """One request, one connection. Raises Lost when there is no answer."""

    def __init__(self, port, key=None, timeout=30):
        self.port, self.key, self.timeout = port, key, timeout * SLOW

    def request(self, method, path, body=None, headers=None):
        """body: bytes, an object for JSON, or an iterable of bytes (then headers must name the length)."""
        sent = {**(headers or {})}
        if self.key:
            sent["Authorization"] = f"Bearer {self.key}"
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        if path.startswith("/api/v1/tus"):
            sent["Tus-Resumable"] = "1.0.0"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        try:
            try:
                connection.request(method, path, body=body, headers=sent)
            except (BrokenPipeError, ConnectionResetError) as error:
                # Refused before all of the body was taken: the answer may be there all the same.
                if connection.sock is None:
                    raise Lost(f"{method} {path}: {error!r}") from error
            answer = response_of(connection)
            return support.Response(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise Lost(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()

    def get(self, path, **kwargs):
        return self.request("GET", path, **kwargs)


def response_of(connection):
    """Also after sending was broken off, when http.client believes that a request is still being sent."""
    if connection._HTTPConnection__state != "Request-sent":  # pylint: disable=protected-access
        answer = http.client.HTTPResponse(connection.sock, method="PUT")
        answer.begin()
        return answer
    return connection.getresponse()


def pieces(data, rng, pause):
    """data in pieces of random sizes, with a pause of `pause` seconds between some."""
    at = 0
    while at < len(data):
        n = min(len(data) - at, rng.choice((1000, 16384, 65536, 200000)))
        yield data[at:at + n]
        at += n
        if pause and at < len(data):
            time.sleep(pause)


# ---- daemon ----

class Daemon:
    """`streamgate serve` on `data`; each start on a fresh port. Nothing here expects it to end well."""

    def __init__(self, folder, data=None, settings=None, environment=None, limits=None):
        self.dir = folder
        self.data = data or os.path.join(folder, "data")
        self.log_path = os.path.join(folder, "daemon.log")
        self.settings = {**SETTINGS, **(settings or {})}
        self.environment = environment or {}
        self.limits = limits  # descriptors, or None
        self.process = None
        self.log_seen = 0
        self.ready_times = []

    def spawn(self):
        self.port = support.free_port()
        command = [BIN, "serve", "--data-dir", self.data, "--listen", f"127.0.0.1:{self.port}"]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        environment = {**os.environ, **support.sanitizer_options(), **self.environment}
        environment.pop("NOTIFY_SOCKET", None)
        with open(self.log_path, "ab") as log:
            self.began = time.monotonic()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment, preexec_fn=self.limit_descriptors)

    def limit_descriptors(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        wanted = self.limits or hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))

    def wait_ready(self, seconds=30):
        """From the start of the process to /health/ready; the time is kept."""
        client = Client(self.port, timeout=5)
        deadline = self.began + seconds * SLOW
        while True:
            with contextlib.suppress(Lost):
                if client.get("/health/ready").status == 200:
                    break
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}: {self.log_tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready within {seconds * SLOW:.0f} s: {self.log_tail()}")
            time.sleep(0.002)
        took = time.monotonic() - self.began
        self.ready_times.append(took)
        with open(os.path.join(self.data, "admin.key"), encoding="ascii") as file:
            self.key = file.read().strip()
        self.client = Client(self.port, self.key)
        self.anonymous = Client(self.port)
        return took

    def start(self):
        self.spawn()
        return self.wait_ready()

    def children(self):
        found = []
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{self.process.pid}/task"):
                with open(f"/proc/{self.process.pid}/task/{task}/children", encoding="ascii") as file:
                    found += [int(x) for x in file.read().split()]
        return found

    def kill(self):
        """SIGKILL, and until the media processes are gone, which hold files of the data directory."""
        if self.process is None:
            return
        children = self.children()
        self.process.kill()
        self.process.wait()
        self.process = None
        deadline = time.monotonic() + 5 * SLOW
        for child in children:
            while os.path.exists(f"/proc/{child}/exe") and alive(child):
                if time.monotonic() > deadline:
                    raise AssertionError(f"media process {child} outlived its daemon by 5 s")
                time.sleep(0.001)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60 * SLOW)
        self.process = None
        return status

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def audit_verify(self):
        result = support.run(BIN, "audit", "verify", "--data-dir", self.data, text=True,
                             env={**os.environ, **support.sanitizer_options()})
        return None if result.returncode == 0 else (result.stderr or result.stdout).strip()

    def sanitizer_report(self):
        """What a sanitizer wrote since this was asked last, or None."""
        with open(self.log_path, "rb") as file:
            file.seek(self.log_seen)
            data = file.read()
        self.log_seen += len(data)
        text = data.decode(errors="replace")
        found = support.SANITIZER.search(text)
        return text[found.start():found.start() + 4000] if found else None

    def log_tail(self, size=1500):
        with open(self.log_path, "rb") as file:
            file.seek(max(0, os.path.getsize(self.log_path) - size))
            return file.read().decode(errors="replace")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


# ---- results ----

class Failures:
    """What went wrong, each once, with the trial and the seed that showed it. Thread-safe."""

    def __init__(self, name, seed):
        self.name, self.seed, self.trial = name, seed, 0
        self.items, self.trials_failed, self.known = [], set(), set()
        self.lock = threading.Lock()

    def add(self, what):
        with self.lock:
            if what in self.known:  # still there after another trial
                return
            self.known.add(what)
            self.items.append((self.trial, what))
            self.trials_failed.add(self.trial)
        say(f"FAILED {self.name} seed {self.seed} trial {self.trial}: {what}")

    def check(self, holds, what):
        if not holds:
            self.add(what() if callable(what) else what)
        return holds


def log_uniform(rng, low, high):
    return low * (high / low) ** rng.random()


def eventually(condition, seconds):
    """The first true value of condition(), asked every 10 ms; else the last one."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.01)


def problem_of(response):
    """Why this is no RFC 9457 problem that tells of trouble with storage; None when it is one."""
    kind = response.header("Content-Type")
    if response.status not in (503, 507):
        return f"status {response.status}: {response.body[:200]!r}"
    if kind != "application/problem+json":
        return f"{response.status} as {kind}"
    problem = response.json()
    if problem.get("status") != response.status or not problem.get("title"):
        return f"not a problem: {response.body[:200]!r}"
    return None


def remove(path):
    shutil.rmtree(path, ignore_errors=True)
