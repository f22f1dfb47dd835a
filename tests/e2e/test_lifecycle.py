"""Start, reload, drain, stop, kill: what the daemon says to systemd, and what stays on disk."""
import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import tempfile
import time
import unittest

import support
from support import Daemon, Raw, clip, run


class Lifecycle(unittest.TestCase):
    def daemon(self, *args, **kwargs):
        daemon = Daemon(*args, **kwargs)
        self.addCleanup(daemon.remove)
        return daemon.start()

    def begin_upload(self, daemon, path, share=0.5):
        with open(path, "rb") as file:
            body = file.read()
        raw = Raw(daemon.port, 60)
        raw.send(f"PUT /api/v1/upload/flight.mp4 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {daemon.admin_key}\r\n"
                 f"Content-Length: {len(body)}\r\n\r\n")
        cut = int(len(body) * share)
        raw.send(body[:cut])
        support.eventually(lambda: daemon.files("incoming"), 10, "the upload to have begun")
        return raw, body[cut:]

    def test_the_memory_of_assets_is_warm_after_a_restart(self):
        daemon = self.daemon()
        ids = [daemon.admin.upload(clip("short")).json()["id"] for _ in range(5)]
        daemon.stop()
        self.assertNotIn("cache_warmed", daemon.log())  # nothing was there to load at the first start
        daemon.settings["cache.warm"] = "3"
        daemon.start()
        self.assertRegex(support.eventually(lambda: re.search(r"cache_warmed: .*", daemon.log()), 10, "the event")[0],
                         r"^cache_warmed: 3 assets loaded in \d+ ms")
        self.assertEqual(daemon.metric("cache_warmed_total", namespace="metadata"), 3)
        hits = []
        for asset in reversed(ids):
            before = daemon.metric("get_metadata_cache_hit_total")
            self.assertEqual(daemon.admin.get(f"/api/v1/assets/{asset}").status, 200)
            hits.append(daemon.metric("get_metadata_cache_hit_total") - before)
        self.assertEqual(hits, [1, 1, 1, 0, 0], "the three newest from memory at the first request")
        daemon.stop()

    def test_drain(self):
        daemon = self.daemon()
        raw, rest = self.begin_upload(daemon, clip("bframes"))
        watcher = Raw(daemon.port, 60)  # kept open: newcomers may be refused while draining
        daemon.signal(signal.SIGTERM)
        daemon.wait_notified("STOPPING=1", 10)
        watcher.send("GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(watcher.read_response()[0], 503)
        watcher.close()
        raw.send(rest)
        status, _, body = raw.read_response()
        self.assertEqual(status, 201, body)
        raw.close()
        began = time.monotonic()
        daemon.stop()
        self.assertLess(time.monotonic() - began, 10 * support.SLOW, "nothing was in flight any more")
        daemon.start()
        self.assertEqual(len(daemon.ready_assets()), 1)
        daemon.stop()

    def test_drain_has_an_end(self):
        daemon = self.daemon({"server.drain_timeout": "1s"})
        raw, _ = self.begin_upload(daemon, clip("bframes"))
        daemon.signal(signal.SIGTERM)
        began = time.monotonic()
        daemon.stop()
        self.assertLess(time.monotonic() - began, 10 * support.SLOW)
        raw.close()
        self.assertEqual(daemon.files("incoming"), [])
        daemon.start()
        self.assertEqual(daemon.ready_assets(), [])
        daemon.stop()

    def test_sigint_stops_too(self):
        daemon = self.daemon()
        daemon.signal(signal.SIGINT)
        daemon.stop()

    def config_file(self, text):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "streamgate.conf")
        self.config_text(path, text)
        return path

    def test_reload(self):
        path = self.config_file("[ratelimit]\nauth = 50/5\n[playback]\ndefault_policy = signed\n")
        daemon = self.daemon(arguments=["--config", path])
        self.assertEqual(daemon.admin.upload(clip("short")).json()["playback_policy"], "signed")
        self.config_text(path, "[playback]\ndefault_policy = public\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_notified("RELOADING=1", 10)
        daemon.wait_notified("READY=1", 10)
        self.assertEqual(daemon.admin.upload(clip("short")).json()["playback_policy"], "public")
        # A mistake changes nothing and is said.
        self.config_text(path, "[playback]\ndefault_policy = nonsense\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_notified("RELOADING=1", 10)
        daemon.wait_notified("READY=1", 10)
        self.assertIn("playback.default_policy", daemon.log())
        self.assertEqual(daemon.admin.upload(clip("short")).json()["playback_policy"], "public")
        daemon.stop()

    def test_an_upload_keeps_the_limit_it_began_under(self):
        path = self.config_file("[upload]\nmax_size = 1GiB\n")
        daemon = self.daemon(arguments=["--config", path])
        size = os.path.getsize(clip("bframes"))
        raw, rest = self.begin_upload(daemon, clip("bframes"))
        self.config_text(path, f"[upload]\nmax_size = {size - 1}\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_notified("RELOADING=1", 10)
        daemon.wait_notified("READY=1", 10)
        self.assertEqual(daemon.admin.upload(clip("bframes")).status, 413)
        raw.send(rest)
        self.assertEqual(raw.read_response()[0], 201)
        raw.close()
        daemon.stop()

    @staticmethod
    def config_text(path, text):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def test_watchdog(self):
        daemon = self.daemon(environment={"WATCHDOG_USEC": str(int(2e6 * support.SLOW))})
        for _ in range(2):
            daemon.wait_notified("WATCHDOG=1", 5)
        daemon.stop()

    def test_restart_keeps_what_was_acknowledged(self):
        daemon = self.daemon({"playback.default_policy": "public"})
        asset = daemon.admin.upload(clip("bframes")).json()
        segment = daemon.anonymous.get(f"/stream/{asset['id']}/original/seg-1.m4s")
        key = daemon.admin_key
        daemon.stop()
        daemon.start()
        self.assertEqual(daemon.admin_key, key)
        got = daemon.admin.get(f"/api/v1/assets/{asset['id']}").json()
        for field in ("id", "sha256", "size", "version", "created_at", "title"):
            self.assertEqual(got[field], asset[field])
        again = daemon.anonymous.get(f"/stream/{asset['id']}/original/seg-1.m4s")
        self.assertEqual((again.body, again.header("ETag")), (segment.body, segment.header("ETag")))
        daemon.cli("audit", "verify")
        daemon.stop()

    def test_kill_in_the_middle_of_an_upload(self):
        daemon = self.daemon()
        kept = daemon.admin.upload(clip("short")).json()
        raw, _ = self.begin_upload(daemon, clip("bframes"))
        daemon.kill()
        raw.close()
        self.assertTrue(daemon.files("incoming"))  # what a kill leaves
        began = time.monotonic()
        daemon.start()
        self.assertLess(time.monotonic() - began, 2 * support.SLOW)
        self.assertEqual(daemon.files("incoming"), [])
        self.assertEqual([a["id"] for a in daemon.ready_assets()], [kept["id"]])
        self.assertTrue([f for f in daemon.files("assets") if kept["id"] in f])
        daemon.cli("audit", "verify")
        daemon.stop()

    def test_lost_files_and_rows_are_reconciled(self):
        daemon = self.daemon()
        gone, kept = (daemon.admin.upload(clip("short")).json() for _ in range(2))
        daemon.stop()
        os.unlink(os.path.join(daemon.data, next(f for f in daemon.files("assets") if gone["id"] in f)))
        stray = os.path.join(daemon.data, "assets", "ZZ", "01ARZ3NDEKTSV4RRFFQ69G5FZZ")
        os.makedirs(stray)
        with open(os.path.join(stray, "source"), "wb") as file:
            file.write(b"stray")
        daemon.start()
        self.assertEqual([a["id"] for a in daemon.ready_assets()], [kept["id"]])
        self.assertEqual(daemon.admin.get(f"/api/v1/assets/{gone['id']}").json()["status"], "failed")
        self.assertRegex(daemon.log(), r"removed 0 bodies that were broken off and 1 files without an asset; 1 assets without a file")
        self.assertFalse(os.path.exists(os.path.join(stray, "source")))
        daemon.stop()
        # Said once: a further start finds the same and changes nothing.
        daemon.start()
        self.assertEqual(daemon.admin.get(f"/api/v1/assets/{gone['id']}").json()["version"], gone["version"] + 1)
        daemon.stop()
        events = [json.loads(line) for line in daemon.cli("audit", "export").stdout.splitlines()]
        failed = [e for e in events if e["action"] == "asset.fail"]
        self.assertEqual([(e["resource"], e["actor"]) for e in failed], [(f"asset/{gone['id']}", "system")])
        daemon.cli("audit", "verify")

    def test_a_lost_database_costs_no_files(self):
        daemon = self.daemon()
        asset = daemon.admin.upload(clip("short")).json()
        tus = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", "Upload-Length": "1000"}
        self.assertEqual(daemon.admin.request("POST", "/api/v1/tus", body=b"acknowledged", headers=tus).status, 201)
        self.assertEqual(len(daemon.files("incoming")), 1)
        daemon.stop()
        source = os.path.join(daemon.data, "assets", asset["id"][-2:], asset["id"], "source")
        for number in range(70):
            name = asset["id"][:-3] + f"{number:03d}"
            folder = os.path.join(daemon.data, "assets", name[-2:], name)
            os.makedirs(folder, exist_ok=True)
            if not os.path.exists(os.path.join(folder, "source")):
                os.link(source, os.path.join(folder, "source"))
        files = len(daemon.files("assets"))
        for name in ("streamgate.db", "streamgate.db-wal", "streamgate.db-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(daemon.data, name))
        daemon.start()
        self.assertEqual(len(daemon.files("assets")), files)
        self.assertEqual(len(daemon.files("incoming")), 1)
        self.assertIn("is it the right database?", daemon.log())
        daemon.stop()

    def test_a_killed_media_process_costs_one_request(self):
        daemon = self.daemon({"playback.default_policy": "public"})
        asset = daemon.admin.upload(clip("bframes")).json()
        for pid in children(daemon.process.pid):
            os.kill(pid, signal.SIGKILL)
        support.eventually(lambda: daemon.metric("media_worker_restarts_total") >= 1, 15, "a new media process")
        support.eventually(lambda: daemon.anonymous.get("/ready").status == 200, 15, "readiness")
        self.assertEqual(daemon.anonymous.get(f"/stream/{asset['id']}/original/seg-2.m4s").status, 200)
        daemon.stop()

    def test_a_second_daemon_does_not_share_the_data(self):
        daemon = self.daemon()
        second = run(support.BIN, "serve", "--data-dir", daemon.data, "--listen", f"127.0.0.1:{support.free_port()}",
                     env={**os.environ, **support.sanitizer_options()}, timeout=20)
        self.assertNotEqual(second.returncode, 0)
        self.assertEqual(daemon.anonymous.get("/ready").status, 200)
        daemon.stop()

    def test_port_in_use(self):
        daemon = self.daemon()
        other = os.path.join(daemon.dir, "other")
        second = run(support.BIN, "serve", "--data-dir", other, "--listen", f"127.0.0.1:{daemon.port}", timeout=20)
        self.assertNotEqual(second.returncode, 0)
        self.assertIn(str(daemon.port).encode(), second.stderr + second.stdout)
        daemon.stop()

    def test_no_tokens_or_keys_readable_by_others(self):
        daemon = self.daemon()
        for name in ("admin.key", "playback.key", "webhook.key"):
            self.assertEqual(os.stat(os.path.join(daemon.data, name)).st_mode & 0o777, 0o600)
        daemon.stop()


def children(pid):
    """Processes started by any thread of `pid`."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
            found += [int(x) for x in file.read().split()]
    return found


class CommandLine(unittest.TestCase):
    def run_program(self, *words, **kwargs):
        return run(support.BIN, *words, text=True, **kwargs)

    def test_check_config_names_every_mistake(self):
        text = ("[server]\nlisten = nonsense\nio_threads = 9999\nno_such_key = 1\n[ratelimit]\nupload = 0/0\n"
                "[nowhere]\nx = 1\n[playback]\ndefault_policy = secret\ntoken_ttl = forever\n[media]\nmemory = -1\n")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "bad.conf")
        Lifecycle.config_text(path, text)
        result = self.run_program("check-config", "--config", path, "--set", "log.level=loud", "--set", "log.nothing=1")
        self.assertNotEqual(result.returncode, 0)
        said = result.stdout + result.stderr
        for expected in ("server.listen", "nonsense", "server.io_threads", "9999", "256", "no_such_key", "ratelimit.upload",
                         "0/0", "nowhere", "playback.default_policy", "secret", "playback.token_ttl", "forever",
                         "media.memory", "-1", "log.level", "loud", "log.nothing", f"{path}:2"):
            self.assertIn(expected, said)
        refused = self.run_program("serve", "--config", path)
        self.assertNotEqual(refused.returncode, 0)

    def test_check_config_is_content(self):
        self.assertEqual(self.run_program("check-config").returncode, 0)
        sample = os.path.join(support.ROOT, "config", "streamgate.conf")
        self.assertEqual(self.run_program("check-config", "--config", sample).returncode, 0)

    def test_environment(self):
        result = self.run_program("check-config", env={**os.environ, "STREAMGATE_LOG_LEVEL": "loud"})
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("log.level", result.stdout + result.stderr)

    def test_usage(self):
        self.assertEqual(self.run_program("--help").returncode, 0)
        version = self.run_program("--version")
        self.assertEqual(version.returncode, 0)
        self.assertRegex(version.stdout, r"\d+\.\d+\.\d+")
        for words in ([], ["nonsense"], ["serve", "--nonsense"], ["serve", "--set", "x"], ["key"], ["key", "create"]):
            result = self.run_program(*words, timeout=20)
            self.assertNotEqual(result.returncode, 0, words)
            self.assertTrue(result.stderr, words)

    def test_the_first_start_makes_an_admin_key_whatever_was_made_before(self):
        daemon = Daemon()
        self.addCleanup(daemon.remove)
        os.makedirs(daemon.data)
        daemon.make_key("viewer", "admin")
        daemon.start()
        self.assertEqual(daemon.admin.get("/api/v1/auth/me").json()["role"], "admin")
        key_id = daemon.admin.get("/api/v1/auth/me").json()["key_id"]
        daemon.cli("key", "revoke", key_id)
        daemon.stop()
        daemon.start()  # not the first one: it makes none
        self.assertEqual(daemon.admin.get("/api/v1/auth/me").status, 401)
        daemon.stop()

    def test_output_that_cannot_be_written_is_a_failure(self):
        with tempfile.TemporaryDirectory() as folder, open("/dev/full", "wb") as full:
            for words in (("key", "create", "--role", "viewer", "--name", "v"), ("key", "list"), ("audit", "export"),
                          ("openapi",), ("docs", "config")):
                result = subprocess.run([support.BIN, *words, "--data-dir", folder], stdout=full, stderr=subprocess.PIPE,
                                        timeout=60 * support.SLOW, env={**os.environ, **support.sanitizer_options()})
                self.assertEqual(result.returncode, 1, words)
                self.assertIn(b"output could not be written", result.stderr)

    def test_audit_verify_finds_an_edit(self):
        daemon = Daemon()
        self.addCleanup(daemon.remove)
        daemon.start()
        for i in range(3):
            daemon.make_key("viewer", f"v{i}")
        daemon.cli("audit", "verify")
        daemon.stop()
        database = next(os.path.join(daemon.data, f) for f in os.listdir(daemon.data) if f.endswith((".db", ".sqlite")))
        with contextlib.closing(sqlite3.connect(database)) as connection:
            table = next(n for n, in connection.execute("SELECT name FROM sqlite_master WHERE type='table'") if "audit" in n)
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            self.assertIn("actor", columns)
            for trigger, in connection.execute("SELECT name FROM sqlite_master WHERE type='trigger'").fetchall():
                if "audit" in trigger:
                    connection.execute(f"DROP TRIGGER {trigger}")
            connection.execute(f"UPDATE {table} SET actor = 'mallory' WHERE rowid = 2")
            connection.commit()
        result = daemon.cli("audit", "verify", check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stdout + result.stderr, r"\b2\b")


if __name__ == "__main__":
    support.main()
