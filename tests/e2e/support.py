"""What the end-to-end tests stand on: a daemon in a folder of its own, clients, clips.

A test file is a unittest program. SG_BIN names the daemon's program; SG_SLOW says how many times slower
than release it may be (sanitizers), and stretches every deadline. A daemon must end with status 0 and
without a word from a sanitizer, or the test that used it fails.
"""
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BIN = os.path.abspath(os.environ.get("SG_BIN", os.path.join(ROOT, "build", "streamgate")))
SLOW = float(os.environ.get("SG_SLOW", "1"))
CLIPS = os.environ.get("SG_CLIPS", os.path.join(tempfile.gettempdir(), f"streamgate-clips-{os.getuid()}"))
SANITIZER = re.compile(r"(ERROR|WARNING): (Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer|runtime error:")
# Rates that no test but those about rates can meet.
GENEROUS = {f"ratelimit.{name}": "1000000/1000000"
            for name in ("default", "upload", "streaming", "metadata", "cache", "auth")}
# Nothing is encoded behind the back of tests that are about something else.
QUIET = {"transcode.automatic": "needed"}
# Tests run beside others that compute: encodes that let all of these go first would not end in time.
EAGER = {"transcode.niceness": "0"}


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def header(self, name):
        return self.headers.get(name)


class Client:
    """One HTTP client; `key` None is anonymous. Each request is a connection of its own."""

    def __init__(self, port, key=None):
        self.port, self.key = port, key

    def request(self, method, path, body=None, headers=None, timeout=30):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SLOW)
        try:
            sent = dict(headers or {})
            if self.key and "Authorization" not in sent:
                sent["Authorization"] = f"Bearer {self.key}"
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
                sent.setdefault("Content-Type",
                                "application/json")
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            return Response(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path, **kwargs):
        return self.request("GET", path, **kwargs)

    def upload(self, path, name=None, headers=None, timeout=120):
        with open(path, "rb") as file:
            size = os.path.getsize(path)
            return self.request("PUT", f"/api/v1/upload/{name or os.path.basename(path)}", body=file,
                                headers={"Content-Length": str(size), **(headers or {})}, timeout=timeout)


def encoders(pid):
    """The processes of a daemon that encode: its children in the batch class."""
    children, found = [], []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                children += map(int, file.read().split())
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            if os.sched_getscheduler(child) == os.SCHED_BATCH:
                found.append(child)
    return found


class Daemon:
    """The daemon on a free port, its data in a temporary folder, its notifications in `notified`."""

    def __init__(self, settings=None, data_dir=None, arguments=(), environment=None):
        self.own_dir = data_dir is None
        self.dir = data_dir or tempfile.mkdtemp(prefix="streamgate-e2e-")
        self.data = os.path.join(self.dir, "data")
        self.log_path = os.path.join(self.dir, "daemon.log")
        self.settings = {**GENEROUS, **QUIET, **EAGER, **(settings or {})}
        self.arguments, self.environment = list(arguments), environment or {}
        self.process = None
        self.log_start = 0

    def command(self, *words):
        return [BIN, *words]

    def start(self):
        path = os.path.join(self.dir, "notify")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(path)
        self.port = free_port()
        command = self.command("serve", "--data-dir", self.data, "--listen", f"127.0.0.1:{self.port}")
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        command += self.arguments
        environment = {**os.environ, "NOTIFY_SOCKET": path, **sanitizer_options(), **self.environment}
        environment.pop("WATCHDOG_PID", None)
        os.makedirs(self.dir, exist_ok=True)
        self.log_start = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment, preexec_fn=raise_descriptor_limit)
        self.pidfd = os.pidfd_open(self.process.pid)
        self.notified, self.ended, self.news = [], False, threading.Condition()
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()
        self.wait_notified("READY=1", 30)
        with open(os.path.join(self.data, "admin.key"), encoding="ascii") as file:
            self.admin_key = file.read().strip()
        self.admin = Client(self.port, self.admin_key)
        self.anonymous = Client(self.port)
        return self

    def listen(self):
        """A service manager reads all the time; a daemon that notifies would block otherwise."""
        poll = select.poll()
        poll.register(self.notify, select.POLLIN)
        poll.register(self.pidfd, select.POLLIN)
        while True:
            events = dict(poll.poll())
            with self.news:
                if self.notify.fileno() in events:
                    self.notified += self.notify.recv(65536).decode().splitlines()
                else:
                    self.ended = True
                self.news.notify_all()
                if self.ended:
                    return

    def wait_notified(self, text, seconds):
        """Waits until a notification line says `text`; later calls see only what came after it."""
        deadline = time.monotonic() + seconds * SLOW
        with self.news:
            while text not in self.notified:
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    state = "the daemon ended" if self.ended else f"waited {seconds * SLOW:.0f} s"
                    raise AssertionError(f"no notification {text!r}: {state}:\n{self.log()[-4000:]}")
                self.news.wait(left)
            del self.notified[:self.notified.index(text) + 1]

    def signal(self, number):
        self.process.send_signal(number)

    def wait_ended(self, seconds=45):
        try:
            return self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the daemon did not end within {seconds * SLOW:.0f} s:\n{self.log()[-4000:]}") from None

    def stop(self):
        """SIGTERM, exit 0, silent sanitizers. Checks; does not remove the folder."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        status = self.wait_ended()
        self.release()
        self.check_log()
        if status != 0:
            raise AssertionError(f"the daemon ended with {status}:\n{self.log()[-4000:]}")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.release()
        self.check_log()

    def release(self):
        self.process = None
        self.listener.join()
        os.close(self.pidfd)
        self.notify.close()

    def check_log(self):
        match = SANITIZER.search(self.log())
        if match:
            raise AssertionError("a sanitizer spoke:\n" + self.log()[max(0, match.start() - 200):][:6000])

    def remove(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.release()
        if self.own_dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            file.seek(self.log_start)
            return file.read()

    def cli(self, *words, check=True):
        result = subprocess.run(self.command(*words, "--data-dir", self.data), capture_output=True, text=True,
                                timeout=60 * SLOW, env={**os.environ, **sanitizer_options()})
        if check and result.returncode != 0:
            raise AssertionError(f"{words}: status {result.returncode}: {result.stderr}")
        if SANITIZER.search(result.stderr):
            raise AssertionError(result.stderr[:6000])
        return result

    def make_key(self, role, name):
        return self.cli("key", "create", "--role", role, "--name", name).stdout.strip()

    def client(self, role, name):
        return Client(self.port, self.make_key(role, name))

    def metric(self, name, **labels):
        """The sum of the series of a metric that carry these labels."""
        return metric_sum(self.anonymous.get("/metrics").body.decode(), name, **labels)

    def rss(self):
        return rss_bytes(self.process.pid)

    def files(self, folder):
        return sorted(os.path.relpath(os.path.join(base, name), self.data)
                      for base, _, names in os.walk(os.path.join(self.data, folder)) for name in names)

    def ready_assets(self):
        return self.admin.get("/api/v1/assets?status=ready&limit=200").json()["items"]


class MediaHeld:
    """The media processes stand still meanwhile: what waits for a probe stays in processing."""

    def __init__(self, daemon):
        self.pids = []
        for task in os.listdir(f"/proc/{daemon.process.pid}/task"):
            with open(f"/proc/{daemon.process.pid}/task/{task}/children", encoding="ascii") as file:
                self.pids += [int(pid) for pid in file.read().split()]
        assert self.pids, "no media process"

    def __enter__(self):
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)
        return self

    def __exit__(self, *_):
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class DaemonCase(unittest.TestCase):
    """A daemon shared by the tests of a class."""
    settings = {}

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(cls.settings)
        cls.addClassCleanup(cls.daemon.remove)
        cls.daemon.start()
        cls.admin, cls.anonymous = cls.daemon.admin, cls.daemon.anonymous

    @classmethod
    def tearDownClass(cls):
        cls.daemon.stop()

    def run(self, result=None):
        """A daemon that is gone ends the run at once, with its last words."""
        status = self.daemon.process.poll()
        if status is not None:
            raise AssertionError(f"the daemon ended with {status} before {self.id()}:\n{self.daemon.log()[-4000:]}")
        return super().run(result)

    def assertProblem(self, response, status, slug=None):
        """An RFC 9457 answer of this status, or of one of several."""
        wanted = status if isinstance(status, (tuple, list, set)) else (status,)
        self.assertIn(response.status, wanted, response.body[:400])
        self.assertEqual(response.header("Content-Type"), "application/problem+json")
        problem = response.json()
        self.assertEqual(problem["status"], response.status)
        self.assertTrue(problem["title"])
        self.assertEqual(problem["request_id"], response.header("X-Request-Id"))
        if slug:
            self.assertTrue(problem["type"].endswith("/" + slug) or problem["type"].endswith(":" + slug)
                            or problem["type"] == slug, problem["type"])
        return problem

    def assertNothingStaged(self):
        """The file of a refused upload goes when its connection is finished, just after the answer."""
        eventually(lambda: not self.daemon.files("incoming"), 5, "an empty folder of staged uploads")

    def uploaded(self, clip, client=None, name=None):
        response = (client or self.admin).upload(clip, name)
        self.assertEqual(response.status, 201, response.body[:400])
        return response.json()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def raise_descriptor_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def sanitizer_options():
    suppressions = os.path.join(ROOT, "tests", "support")
    return {
        "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
        "TSAN_OPTIONS": f"exitcode=98:suppressions={suppressions}/tsan.supp",
        "LSAN_OPTIONS": f"suppressions={suppressions}/lsan.supp:print_suppressions=0",
    }


def rss_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) * 1024


def metric_sum(text, name, **labels):
    total, found = 0.0, False
    for line in text.splitlines():
        match = re.match(r"streamgate_(\w+)(?:\{(.*)\})? (\S+)", line)
        if not match or match.group(1) != name:
            continue
        own = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match.group(2) or ""))
        if all(own.get(k) == v for k, v in labels.items()):
            total, found = total + float(match.group(3)), True
    return total if found else 0.0


def eventually(condition, seconds, what):
    """For states that nothing announces: asks again every 20 ms until `condition()` is true."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds * SLOW:.0f} s: {what}")
        time.sleep(0.02)


def path_of(url):
    """The path of a URL that must point at this machine."""
    match = re.fullmatch(r"https?://[^/]+(/.*)", url)
    if not match:
        raise AssertionError(f"not an absolute URL: {url}")
    return match.group(1)


def sha256_file(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest


def run(*command, timeout=120, **kwargs):
    return subprocess.run(command, capture_output=True, timeout=timeout * SLOW, **kwargs)


# ---- clips: made once for each machine, shared by all tests and builds ----

VIDEO = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]
AUDIO = ["-c:a", "aac", "-b:a", "96k"]


def source(seconds, size="640x360", rate=30):
    return ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}",
            "-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={seconds}"]


CLIP_ARGUMENTS = {
    "short": [*source(4), *VIDEO, "-g", "60", *AUDIO, "-movflags", "+faststart"],
    "bframes": [*source(20), *VIDEO, "-g", "60", "-bf", "3", *AUDIO, "-movflags", "+faststart"],
    "moov-at-end": [*source(20), *VIDEO, "-g", "60", *AUDIO],
    "silent": [*source(12), "-map", "0:v", *VIDEO, "-g", "60", "-movflags", "+faststart"],
    "audio-only": [*source(12), "-map", "1:a", *AUDIO],
    "long": [*source(60, "320x180"), *VIDEO, "-g", "60", *AUDIO, "-movflags", "+faststart"],
    "heavy": [*source(20, "1920x1080"), *VIDEO, "-g", "60", "-b:v", "8M", *AUDIO, "-movflags", "+faststart"],
}


def clip(name):
    """Path of a clip of CLIP_ARGUMENTS, made when it is not there."""
    return made(f"{name}.mp4", lambda path: ffmpeg(*CLIP_ARGUMENTS[name], "-f", "mp4", path))


def ffmpeg(*arguments):
    result = run("ffmpeg", "-nostdin", "-v", "error", "-y", *arguments, timeout=300)
    if result.returncode != 0:
        raise AssertionError(result.stderr.decode())


def made(name, make):
    """CLIPS/name, made by make(path) under a lock and published by rename, as several tests may want it."""
    os.makedirs(CLIPS, exist_ok=True)
    path = os.path.join(CLIPS, name)
    with open(path + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            make(path + ".part")
            os.rename(path + ".part", path)
    return path


def sparse(size):
    """A maker for made(): a file of `size` zeros that takes no room."""
    def make(path):
        with open(path, "wb") as file:
            file.truncate(size)
    return make


# ---- raw sockets ----

class Raw:
    """A socket to the daemon that sends what it is told and reads until the end."""

    def __init__(self, port, timeout=20):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout * SLOW)

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))
        return self

    def read_all(self):
        """Everything until the daemon closes. A reset counts as a close: it follows data left unread."""
        parts = []
        with contextlib.suppress(ConnectionResetError):
            while part := self.socket.recv(65536):
                parts.append(part)
        return b"".join(parts)

    def read_response(self):
        """One response with Content-Length, the connection left open. (status, headers, body)"""
        answer = http.client.HTTPResponse(self.socket)
        answer.begin()
        return answer.status, answer.headers, answer.read()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def statuses(data):
    """Status codes of the responses in a byte stream."""
    return [int(code) for code in re.findall(rb"(?:^|(?<=\n)|(?<=\}))HTTP/1\.[01] (\d{3}) ", data)]


def main():
    if not os.access(BIN, os.X_OK):
        sys.exit(f"{BIN} is not there: run scripts/build, or set SG_BIN")
    raise_descriptor_limit()
    unittest.main(verbosity=2)
