"""docs/CDN.md as it stands: its nginx keeps segments for everybody and plays them to nobody without a token, and its check of tokens agrees with the daemon's."""
import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import support
from support import Client, clip, eventually, free_port, path_of

CDN = os.path.join(support.ROOT, "docs", "CDN.md")


def example(language):
    with open(CDN, encoding="utf-8") as file:
        return re.search(rf"```{language}\n(.*?)```", file.read(), re.S).group(1)


class Nginx:
    def __init__(self, origin_port):
        self.port, self.dir = free_port(), tempfile.mkdtemp(prefix="streamgate-nginx-")
        body = example("nginx").replace("listen 80;", f"listen 127.0.0.1:{self.port};").replace("127.0.0.1:8080", f"127.0.0.1:{origin_port}")
        body = body.replace("/var/cache/nginx/", self.dir + "/")
        paths = "".join(f"{name}_temp_path {self.dir}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        self.conf = os.path.join(self.dir, "nginx.conf")
        with open(self.conf, "w", encoding="utf-8") as file:
            file.write(f"daemon off; pid {self.dir}/pid; error_log {self.dir}/error.log info; worker_processes 1;\n"
                       f"{'user root;' if os.getuid() == 0 else ''}events {{}}\nhttp {{\naccess_log off;\n{paths}{body}}}\n")
        program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
        assert program, "nginx is not installed"
        self.process = subprocess.Popen([program, "-c", self.conf, "-p", self.dir, "-e", f"{self.dir}/error.log"])
        eventually(self.up, 10, "nginx that answers")

    def up(self):
        if self.process.poll() is not None:
            raise AssertionError(f"nginx ended:\n{self.log()}")
        with contextlib.suppress(OSError):
            return Client(self.port).get("/health").status == 200
        return False

    def log(self):
        with open(f"{self.dir}/error.log", encoding="utf-8") as file:
            return file.read()

    def stop(self):
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(20 * support.SLOW)
        shutil.rmtree(self.dir, ignore_errors=True)


class Cdn(support.DaemonCase):
    settings = {"playback.default_policy": "signed", "playback.segment_duration": "2s", "server.trusted_proxies": "127.0.0.1"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.nginx = Nginx(cls.daemon.port)
        cls.addClassCleanup(cls.nginx.stop)
        cls.edge = Client(cls.nginx.port)

    def token(self, asset, **wanted):
        response = self.admin.request("POST", f"/api/v1/assets/{asset['id']}/playback-tokens", body=wanted)
        self.assertEqual(response.status, 201, response.body)
        return response.json()["token"]

    def at(self, asset, token, rest):
        return f"/stream/{asset['id']}/~{token}/{rest}"

    def made(self):
        """Segments sent by the daemon, however they were made."""
        return self.daemon.metric("stream_requests_total", kind="segment")

    def test_one_copy_for_all_viewers(self):
        asset = self.uploaded(clip("bframes"))
        first, second = self.token(asset), self.token(asset, expires_in=5000)
        self.assertNotEqual(first, second)
        direct = self.anonymous.get(self.at(asset, first, "original/seg-1.m4s"))
        before = self.made()
        answers = [self.edge.get(self.at(asset, token, "original/seg-1.m4s")) for token in (first, second, first)]
        self.assertEqual([(a.status, a.header("X-Cache")) for a in answers], [(200, "MISS"), (200, "HIT"), (200, "HIT")])
        self.assertEqual({a.body for a in answers}, {direct.body})
        self.assertEqual({a.header("ETag") for a in answers}, {direct.header("ETag")})
        self.assertEqual({a.header("Content-Type") for a in answers}, {"video/mp4"})
        self.assertEqual(self.made(), before + 1)
        again = self.edge.get(self.at(asset, second, "original/seg-1.m4s"), headers={"If-None-Match": direct.header("ETag")})
        self.assertEqual((again.status, again.body), (304, b""))
        part = self.edge.get(self.at(asset, second, "original/seg-1.m4s"), headers={"Range": "bytes=10-19"})
        self.assertEqual((part.status, part.body), (206, direct.body[10:20]))
        self.assertEqual(self.made(), before + 1)

    def test_playlists(self):
        asset = self.uploaded(clip("bframes"))
        token = self.token(asset)
        for name in ("master.m3u8", "master-ts.m3u8", "manifest.mpd", "original/index.m3u8", "original/index-ts.m3u8", "storyboard.vtt"):
            direct = self.anonymous.get(self.at(asset, token, name))
            kept = [self.edge.get(self.at(asset, token, name)) for _ in range(2)]
            self.assertEqual([a.status for a in kept], [200, 200], name)
            self.assertEqual({(a.body, a.header("ETag")) for a in kept}, {(direct.body, direct.header("ETag"))}, name)
            self.assertEqual(kept[0].header("X-Cache"), "MISS", name)

    def test_refused_although_kept(self):
        asset, other = self.uploaded(clip("bframes")), self.uploaded(clip("short"))
        good = self.token(asset)
        for rest in ("original/seg-0.m4s", "original/init.mp4", "original/seg-0.ts", "original/index.m3u8", "master.m3u8"):
            with self.subTest(rest=rest):
                self.assertEqual(self.edge.get(self.at(asset, good, rest)).status, 200)
                self.assertEqual(self.edge.get(f"/stream/{asset['id']}/{rest}").status, 401)
                self.assertEqual(self.edge.get(self.at(asset, good[:-1] + ("A" if good[-1] != "A" else "B"), rest)).status, 401)
                self.assertEqual(self.edge.get(self.at(asset, self.token(other), rest)).status, 403)
                self.assertEqual(self.edge.get(self.at(asset, self.token(asset, client_address="203.0.113.7"), rest)).status, 403)
                self.assertEqual(self.edge.get(self.at(asset, self.token(asset, client_address="127.0.0.1"), rest)).status, 200)
                self.assertEqual(self.edge.get(self.at(asset, good, rest)).header("X-Cache") in ("HIT", "EXPIRED", "REVALIDATED"), True)

    def test_an_expired_token_is_refused_although_kept(self):
        asset = self.uploaded(clip("bframes"))
        short = self.token(asset, expires_in=2)
        path = self.at(asset, short, "original/seg-2.m4s")
        self.assertEqual(self.edge.get(path).status, 200)
        until = time.monotonic() + 2 + 2 + 1  # its life, what the gate keeps, the rounding of its clock
        eventually(lambda: self.edge.get(path).status == 401, 10, "a refusal")
        self.assertLess(time.monotonic(), until + support.SLOW)
        self.assertEqual(self.edge.get(self.at(asset, self.token(asset), "original/seg-2.m4s")).header("X-Cache"), "HIT")

    def test_a_deleted_asset_is_refused_although_kept(self):
        asset = self.uploaded(clip("bframes"))
        path = self.at(asset, self.token(asset), "original/seg-0.m4s")
        self.assertEqual(self.edge.get(path).status, 200)
        self.assertEqual(self.admin.request("DELETE", f"/api/v1/assets/{asset['id']}").status, 204)
        eventually(lambda: self.edge.get(path).status == 403, 10, "a refusal")

    def test_public(self):
        asset = self.uploaded(clip("bframes"))
        changed = self.admin.request("PATCH", f"/api/v1/assets/{asset['id']}", body={"playback_policy": "public"}, headers={"If-Match": "*"})
        self.assertEqual(changed.status, 200, changed.body)
        answers = [self.edge.get(f"/stream/{asset['id']}/original/seg-0.m4s") for _ in range(2)]
        self.assertEqual([(a.status, a.header("X-Cache")) for a in answers], [(200, "MISS"), (200, "HIT")])
        self.assertIn("immutable", answers[0].header("Cache-Control"))

    def test_the_token_as_it_is_described(self):
        there = {}
        exec(example("python"), there)  # pylint: disable=exec-used
        with open(os.path.join(self.daemon.data, "playback.key"), "rb") as file:
            key = file.read()
        asset, other = self.uploaded(clip("bframes")), self.uploaded(clip("short"))
        plain, bound, bound6 = self.token(asset), self.token(asset, client_address="127.0.0.1"), self.token(asset, client_address="2001:db8::7")
        forged = [plain[:i] + ("A" if plain[i] != "A" else "Q") + plain[i + 1:] for i in (0, 1, 5, 30, 40, 76)]
        for who, token, address in [(asset, plain, "127.0.0.1"), (other, plain, "127.0.0.1"), (asset, bound, "127.0.0.1"), (asset, bound, "10.0.0.1"),
                                    (asset, bound6, "2001:db8::7"), (asset, bound6, "127.0.0.1"), (asset, plain[:-1], "127.0.0.1"),
                                    *((asset, f, "127.0.0.1") for f in forged)]:
            says = self.anonymous.request("HEAD", self.at(who, token, "master.m3u8"), headers={"X-Forwarded-For": address}).status
            self.assertEqual(there["may_play"](key, who["id"], token, address), says, (token, address))
        expired = self.token(asset, expires_in=1)
        eventually(lambda: there["may_play"](key, asset["id"], expired, "127.0.0.1") == 401, 5, "an expired token")

    def test_what_the_gate_costs(self):
        """The gate is a text: no media process, however many segments are asked for through it."""
        asset = self.uploaded(clip("bframes"))
        token = self.token(asset)
        builds = self.daemon.metric("stream_builds_total", kind="master")
        for number in range(5):
            self.assertEqual(self.edge.get(self.at(asset, token, f"original/seg-{number}.m4s")).status, 200)
        self.assertLessEqual(self.daemon.metric("stream_builds_total", kind="master"), builds + 1)


if __name__ == "__main__":
    support.main()
