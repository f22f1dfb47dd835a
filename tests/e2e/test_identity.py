"""Who may do what: roles on every row, keys, playback tokens; and that no secret is ever written down."""
import json
import os
import re
import shutil
import subprocess
import time

import support
from support import clip, eventually, path_of


class Identity(support.DaemonCase):
    settings = {"log.level": "debug"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.creator = cls.daemon.client("creator", "carl")
        response = cls.creator.upload(clip("short"))
        assert response.status == 201, response.body
        cls.asset = response.json()
        cls.other = cls.creator.upload(clip("short")).json()

    def token(self, asset=None, **body):
        response = self.creator.request(
            "POST", f"/api/v1/assets/{(asset or self.asset)['id']}/playback-tokens", body=body)
        self.assertIn(response.status, (200, 201), response.body)
        return response.json()["token"]

    def playlist(self, token=None, asset=None, headers=None, name="master.m3u8"):
        prefix = f"~{token}/" if token is not None else ""
        return self.anonymous.get(f"/stream/{(asset or self.asset)['id']}/{prefix}{name}", headers=headers)

    def test_every_protected_row_refuses_strangers(self):
        document = self.anonymous.get("/openapi.json").json()
        protected = public = 0
        for path, operations in document["paths"].items():
            real = path.replace("{id}", self.asset["id"])
            real = re.sub(r"\{[^}]*\}", "x", real)
            for method, operation in operations.items():
                if method not in ("get", "put", "post", "patch", "delete"):
                    continue
                if operation.get("security"):
                    protected += 1
                    for key in (None, "sgk_" + "A" * 43, "x"):
                        headers = {"Authorization": f"Bearer {key}"} if key else {}
                        response = self.anonymous.request(method.upper(), real, headers=headers)
                        self.assertProblem(response, 401, "unauthenticated")
                        self.assertIn("Bearer", response.header("WWW-Authenticate") or "")
                else:
                    public += 1
        self.assertGreaterEqual(protected, 6)
        self.assertGreaterEqual(public, 6)

    def test_every_url_of_a_signed_asset_is_gated(self):
        names = ["master.m3u8", "master-ts.m3u8", "original/index.m3u8", "original/index-ts.m3u8", "original/init.mp4",
                 "original/seg-0.m4s", "original/seg-0.ts", "audio/index.m3u8", "audio/init.mp4", "audio/seg-0.m4s",
                 "poster.jpg", "source"]
        good, wrong = self.token(), self.token(self.other)
        for name in names:
            self.assertEqual(self.playlist(good, name=name).status, 200, name)
            self.assertProblem(self.playlist(None, name=name), 401)
            self.assertProblem(self.playlist("", name=name), (401, 404))
            self.assertProblem(self.playlist(wrong, name=name), 403)
            self.assertProblem(self.playlist(good[:-2] + ("AA" if good[-2:] != "AA" else "BB"), name=name), 401)

    def test_tampering(self):
        good = self.token()
        for position in range(0, len(good), 3):
            letter = "A" if good[position] != "A" else "B"
            response = self.playlist(good[:position] + letter + good[position + 1:])
            # A changed asset id may read as "for another asset"; it never plays.
            self.assertProblem(response, (401, 403))
        for bad in ("x", good[:-1], good + "A", good + "=", good.replace(good[5], "!"), "A" * 500, good + "~" + good):
            self.assertProblem(self.playlist(bad), (401, 403))

    def test_expiry(self):
        token = self.token(expires_in=1)
        self.assertEqual(self.playlist(token).status, 200)
        refused = eventually(lambda: (r := self.playlist(token)).status != 200 and r, 5, "expiry of a token of 1 s")
        self.assertProblem(refused, 401)

    def test_address(self):
        mine, another = self.token(client_address="127.0.0.1"), self.token(client_address="192.0.2.7")
        self.assertEqual(self.playlist(mine).status, 200)
        self.assertProblem(self.playlist(another), 403)
        # Nobody is a trusted proxy here, so the header changes nothing.
        self.assertProblem(self.playlist(another, headers={"X-Forwarded-For": "192.0.2.7"}), 403)

    def test_token_requests_are_checked(self):
        path = f"/api/v1/assets/{self.asset['id']}/playback-tokens"
        for body, field in (({"expires_in": -1}, "expires_in"), ({"expires_in": "x"}, "expires_in"), ({"expires_in": 1e99}, "expires_in"),
                            ({"client_address": "here"}, "client_address"), ({"client_address": 7}, "client_address"), ({"nonsense": 1}, "nonsense")):
            self.assertField(self.creator.request("POST", path, body=body), field)
        stranger = self.daemon.client("creator", "stranger")
        self.assertProblem(stranger.request("POST", path, body={}), (403, 404))

    def assertField(self, response, field):
        problem = self.assertProblem(response, 400)
        self.assertEqual(problem.get("field"), field, problem)
        self.assertNotIn("unpack", problem["detail"])
        self.assertNotIn("xpected", problem["detail"])  # a library's words

    def test_key_requests_are_checked(self):
        good = {"name": "checked", "role": "viewer"}
        for change, field in (({"name": 1}, "name"), ({"name": ""}, "name"), ({"role": None}, "role"), ({"role": "king"}, "role"), ({"user": []}, "user"),
                              ({"expires_in": 1.5}, "expires_in"), ({"expires_in": -1}, "expires_in"), ({"address": "x"}, "address")):
            self.assertField(self.admin.request("POST", "/api/v1/keys", {**good, **change}), field)
        for name in good:
            self.assertField(self.admin.request("POST", "/api/v1/keys", {k: v for k, v in good.items() if k != name}), name)
        self.assertEqual(self.admin.request("POST", "/api/v1/keys", {**good, "user": "ursula", "expires_in": 60}).status, 201)

    def test_a_key_is_no_token(self):
        """Playback is by token alone, for the owner too: a player is never given a key."""
        self.assertProblem(self.creator.get(f"/stream/{self.asset['id']}/master.m3u8"), 401)
        self.assertProblem(self.admin.get(f"/stream/{self.asset['id']}/~{self.creator.key}/master.m3u8"), 401)

    def test_playlists_are_the_same_for_all(self):
        first, second = self.token(), self.token()
        for name in ("master.m3u8", "master-ts.m3u8", "original/index.m3u8", "original/index-ts.m3u8"):
            bodies = {self.playlist(t, name=name).body for t in (first, second)}
            self.assertEqual(len(bodies), 1)
            for line in bodies.pop().decode().splitlines():
                for uri in ([line] if line and not line.startswith("#") else re.findall(r'URI="([^"]*)"', line)):
                    self.assertNotIn("://", uri)
                    self.assertFalse(uri.startswith("/"), uri)

    def test_shared_caches_keep_nothing_of_a_signed_asset(self):
        token = self.token()
        for name in ("master.m3u8", "master-ts.m3u8", "original/index.m3u8", "original/init.mp4", "original/seg-0.ts",
                     "poster.jpg", "source"):
            response = self.playlist(token, name=name)
            self.assertEqual(response.status, 200, name)
            self.assertRegex(response.header("Cache-Control"), "^private, max-age=[0-9]+", name)

    def test_keys(self):
        key = self.daemon.make_key("creator", "temporary")
        self.assertRegex(key, r"^sgk_[A-Za-z0-9_-]{43}$")
        client = support.Client(self.daemon.port, key)
        self.assertEqual(client.get("/api/v1/assets").status, 200)
        listing = self.daemon.cli("key", "list").stdout
        self.assertNotIn(key, listing)
        key_id = next(re.search(r"\b[0-9A-HJKMNP-TV-Z]{26}\b", line).group(0)
                      for line in listing.splitlines() if "temporary" in line)
        self.daemon.cli("key", "revoke", key_id)
        began = time.monotonic()
        eventually(lambda: client.get("/api/v1/assets").status == 401, 10, "the key revoked by another process")
        self.assertLess(time.monotonic() - began, 2 * support.SLOW)
        self.assertNotEqual(self.daemon.cli("key", "revoke", "01ARZ3NDEKTSV4RRFFQ69G5FAV", check=False).returncode, 0)
        for bad in (["--role", "god", "--name", "x"], ["--role", "viewer"], ["--role", "viewer", "--name", "a\nb"]):
            self.assertNotEqual(self.daemon.cli("key", "create", *bad, check=False).returncode, 0)

    def test_a_mistyped_data_directory_is_no_empty_one(self):
        missing = os.path.join(self.daemon.dir, "mistyped")
        for command in (["key", "list"], ["key", "revoke", "01ARZ3NDEKTSV4RRFFQ69G5FAV"], ["audit", "verify"], ["audit", "export"]):
            result = subprocess.run([support.BIN, *command, "--data-dir", missing], capture_output=True, text=True)
            self.assertEqual(result.returncode, 1, command)
            self.assertIn(missing, result.stderr)
            self.assertFalse(os.path.exists(missing), command)
        made = subprocess.run([support.BIN, "key", "create", "--role", "viewer", "--name", "x", "--data-dir", missing],
                              capture_output=True, text=True)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertIn(f"there was no data in {missing}", made.stderr)
        shutil.rmtree(missing)

    def test_malformed_authorization(self):
        for value in ("Bearer", "Bearer ", "Basic YTpi", "Bearer a b", "Bearer " + "x" * 8000, "bearer sgk_"):
            response = self.anonymous.get("/api/v1/assets", headers={"Authorization": value})
            self.assertProblem(response, (400, 401, 431))

    def test_no_secret_is_written_down(self):
        token = self.token()
        key = self.creator.key
        self.playlist(token)
        self.playlist(token[:-1] + "A")
        self.anonymous.get(f"/stream/{self.asset['id']}/~{token}/nowhere/at/all")
        self.anonymous.get(f"/api/v1/~{token}", headers={"Authorization": f"Bearer {key}x"})
        self.anonymous.request("TRACE", f"/stream/{self.asset['id']}/~{token}/source")
        page = self.playlist(token)
        self.assertEqual(page.header("Referrer-Policy"), "no-referrer")
        metrics = self.anonymous.get("/metrics").body.decode()
        audit = self.daemon.cli("audit", "export").stdout
        log = self.daemon.log()
        self.assertIn(self.asset["id"], log + audit)  # they do speak of the asset
        for secret in (token, token[20:60], key, key[12:], self.daemon.admin_key):
            for where, text in (("the log", log), ("/metrics", metrics), ("the audit log", audit)):
                self.assertNotIn(secret, text, f"a secret stands in {where}")
        for path in self.daemon.files(""):
            if path.endswith(("admin.key", "playback.key")) or path.startswith("assets/"):
                continue
            with open(f"{self.daemon.data}/{path}", "rb") as file:
                self.assertNotIn(key.encode(), file.read(), path)

    def test_audit_names_denials(self):
        self.anonymous.get("/api/v1/assets", headers={"X-Request-Id": "denied-one"})
        self.anonymous.get("/api/v1/assets", headers={"X-Request-Id": "denied-two", "Authorization": "Bearer sgk_no"})
        def both():
            log = self.daemon.cli("audit", "export").stdout
            return "denied-two" in log and [json.loads(l) for l in log.splitlines()]
        events = eventually(both, 5, "the denial in the audit log")
        event = next(e for e in events if e.get("request_id") == "denied-two")
        self.assertEqual((event["event_type"], event["result"]), ("authentication", "failure"))


if __name__ == "__main__":
    support.main()
