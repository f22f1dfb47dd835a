"""tus-js-client against the daemon: dropped links, aborts, kills, parallel parts, and a browser of another origin."""
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading

import support
from support import clip, path_of, run
from tus_support import BASE, TusCase, read

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tus")
SEED = int(os.environ.get("SG_TUS_SEED", "20260"))


class Cutter:
    """A proxy on loopback that resets a connection after so many bytes, of either direction, as the seed
    says; after `cuts` of them it lets everything pass."""

    def __init__(self, port, seed, cuts, longest):
        rng = random.Random(seed)
        self.limits = [rng.randint(1, longest) for _ in range(cuts)]
        self.target, self.cut, self.lock = port, 0, threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            left = [self.limits.pop() if self.limits else None]
            threading.Thread(target=self.serve, args=(client, left), daemon=True).start()

    def serve(self, client, left):
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            up = threading.Thread(target=self.pump, args=(client, server, left))
            up.start()
            self.pump(server, client, left)
            up.join()

    def pump(self, source, sink, left):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                with self.lock:
                    allowed = len(data) if left[0] is None else min(len(data), left[0])
                    if left[0] is not None:
                        left[0] -= allowed
                sink.sendall(data[:allowed])
                if left[0] == 0:
                    with self.lock:
                        self.cut += 1
                        left[0] = -1
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.close()


class TusClient(TusCase):
    settings = {**TusCase.settings, "server.cors_origins": "*"}

    def plan(self, path, port=None, **more):
        options = {"chunkSize": 256 * 1024, "metadata": {"filename": "client.mp4"}, **more.pop("options", {})}
        return json.dumps({"endpoint": f"http://127.0.0.1:{port or self.daemon.port}{BASE}", "file": path,
                           "key": self.daemon.admin_key, "options": options, **more})

    def upload(self, path, **more):
        """(path of the upload, everything the client said)"""
        result = run("node", "client.mjs", self.plan(path, **more), cwd=FOLDER, text=True, timeout=60)
        said = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertTrue(said and "done" in said[-1], (said[-3:], result.stderr[-2000:]))
        return path_of(said[-1]["done"]), said

    def test_pieces(self):
        path = clip("bframes")
        data = read(path)
        url, said = self.upload(path, options={"metadata": {
            "filename": "Ein Film.mp4", "title": "Tïtel", "tags": "a,b", "policy": "public", "filetype": "video/mp4"}})
        asset = self.check_asset(url, data)
        self.assertEqual((asset["filename"], asset["title"]), ("Ein Film.mp4", "Tïtel"))
        self.assertEqual((asset["tags"], asset["playback_policy"]), (["a", "b"], "public"))
        patches = -(-len(data) // (256 * 1024))
        self.assertGreater(patches, 3)
        self.assertEqual(said[-1]["requests"], {"POST": 1, "PATCH": patches})

    def restart(self, **settings):
        self.daemon.stop()
        self.daemon.settings.update(settings)
        self.daemon.start()
        type(self).admin, type(self).anonymous = self.daemon.admin, self.daemon.anonymous

    def test_over_quota(self):
        """A client whose last bytes are refused for good hears so, and does not take its upload for an asset."""
        path = clip("short")
        data = read(path)
        self.uploaded(path)
        url = self.create(len(data))
        self.assertEqual(self.patch(url, 0, data[:-1]).status, 204)
        self.restart(**{"quota.max_assets": "1"})
        self.addCleanup(self.restart, **{"quota.max_assets": "0"})
        for _ in range(2):  # the second time every byte is there already
            plan = self.plan(path, url=f"http://127.0.0.1:{self.daemon.port}{url}", options={"retryDelays": [0, 100]})
            result = run("node", "client.mjs", plan, cwd=FOLDER, text=True, timeout=60, check=False)
            said = [json.loads(line) for line in result.stdout.splitlines()]
            self.assertIn("error", said[-1], said)

    def test_method_override(self):
        path = clip("short")
        url, said = self.upload(path, options={"overridePatchMethod": True})
        self.check_asset(url, read(path))
        self.assertEqual(said[-1]["requests"]["PATCH"], 2)

    def test_data_during_creation(self):
        path = clip("short")
        url, said = self.upload(path, options={"uploadDataDuringCreation": True})
        self.check_asset(url, read(path))
        self.assertEqual(said[-1]["requests"], {"POST": 1, "PATCH": 1})
        url, said = self.upload(path, options={"uploadDataDuringCreation": True, "chunkSize": 16 << 20})
        self.check_asset(url, read(path))
        self.assertEqual(said[-1]["requests"], {"POST": 1})

    def test_parallel_uploads(self):
        path = clip("bframes")
        url, said = self.upload(path, options={"parallelUploads": 3})
        asset = self.check_asset(url, read(path))
        self.assertEqual(asset["filename"], "client.mp4")
        self.assertEqual(said[-1]["requests"]["POST"], 4)

    def test_deferred_length(self):
        path = clip("short")
        url, said = self.upload(path, options={"uploadLengthDeferred": True})
        self.check_asset(url, read(path))

    def test_aborts(self):
        """Retries, because what an aborted request brought may be stored after its successor asked how far it is."""
        path = clip("bframes")
        url, said = self.upload(path, abort_seed=SEED, aborts=25,
                                options={"retryDelays": [0] * 50, "chunkSize": 32 * 1024})
        self.check_asset(url, read(path))
        self.assertEqual(sum("aborted" in what for what in said), 25)

    def test_dropped_links(self):
        """The client knows nothing of the cuts but what its own retries tell it."""
        path = clip("bframes")
        cutter = Cutter(self.daemon.port, SEED, 60, 100_000)
        self.addCleanup(cutter.close)
        url, said = self.upload(path, port=cutter.port, options={"retryDelays": [0] * 200, "chunkSize": 128 * 1024})
        self.check_asset(url, read(path))
        self.assertGreaterEqual(cutter.cut, 20)

    def test_killed_clients(self):
        """The process dies at points the seed chooses, and the next one knows only the URL."""
        path, rng, url = clip("bframes"), random.Random(SEED), None
        for _ in range(4):
            plan = self.plan(path, url=url, options={"chunkSize": 64 * 1024})
            with subprocess.Popen(["node", "client.mjs", plan], cwd=FOLDER, stdout=subprocess.PIPE, text=True) as client:
                chunks = rng.randint(1, 5)
                for line in client.stdout:
                    said = json.loads(line)
                    self.assertNotIn("error", said)
                    url = said.get("url", url)
                    chunks -= "chunk" in said
                    if chunks == 0:
                        client.send_signal(signal.SIGKILL)
                        break
                client.stdout.read()
        offset = self.offset(path_of(url))
        self.assertGreater(offset, 0)
        again, said = self.upload(path, url=url)
        self.assertEqual(again, path_of(url))
        self.assertNotIn("POST", said[-1]["requests"])
        self.check_asset(again, read(path))

    def test_browser(self):
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        self.assertTrue(chromium, "chromium is not installed")
        path = clip("bframes")
        for options in ({}, {"parallelUploads": 3}, {"overridePatchMethod": True, "uploadDataDuringCreation": True}):
            result = run("node", "page.mjs", chromium, self.plan(path, options={"chunkSize": 1 << 20, **options}),
                         cwd=FOLDER, text=True, timeout=90)
            self.assertEqual(result.returncode, 0, result.stderr[-2000:])
            said = json.loads(result.stdout)
            self.assertIn("done", said, said)
            self.check_asset(path_of(said["done"]), read(path))
            # The page may read what tus says across origins.
            self.assertTrue(all(seen[3] == "1.0.0" for seen in said["seen"]), said["seen"])
            self.assertTrue(said["seen"][-1][4].startswith("/api/v1/assets/"), said["seen"])


if __name__ == "__main__":
    support.main()
