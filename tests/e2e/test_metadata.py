"""Assets: read, change, delete, list; versions and owners."""
import concurrent.futures
import os

import support
from support import clip


class Metadata(support.DaemonCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.ann = cls.daemon.client("creator", "ann")
        cls.bob = cls.daemon.client("creator", "bob")
        cls.viewer = cls.daemon.client("viewer", "vic")

    def asset(self, client=None):
        return self.uploaded(clip("short"), client or self.ann)

    def test_read(self):
        asset = self.asset()
        path = f"/api/v1/assets/{asset['id']}"
        response = self.ann.get(path)
        self.assertEqual(response.status, 200)
        self.assertTrue(response.header("ETag"))
        got = response.json()
        for field in ("id", "status", "title", "description", "tags", "custom", "owner", "playback_policy", "filename",
                      "size", "sha256", "content_type", "duration", "width", "height", "video_codec", "audio_codec",
                      "frame_rate", "renditions", "playback", "error", "version", "created_at", "updated_at"):
            self.assertIn(field, got)
        self.assertRegex(got["created_at"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
        for use in ("hls", "hls_ts", "poster", "source"):
            self.assertIn("/stream/" + got["id"], got["playback"][use])

    def test_revalidation(self):
        """A copy of a signed asset is never as good as new: its token runs out."""
        path = f"/api/v1/assets/{self.asset()['id']}"
        again = self.ann.get(path, headers={"If-None-Match": self.ann.get(path).header("ETag")})
        self.assertEqual(again.status, 200)
        self.assertIn("~", again.json()["playback"]["hls"])
        self.ann.request("PATCH", path, body={"policy": "public"})
        unchanged = self.ann.get(path, headers={"If-None-Match": self.ann.get(path).header("ETag")})
        self.assertEqual((unchanged.status, unchanged.body), (304, b""))

    def test_unknown_and_malformed_ids(self):
        self.assertProblem(self.ann.get("/api/v1/assets/01ARZ3NDEKTSV4RRFFQ69G5FAV"), 404)
        self.assertProblem(self.ann.get("/api/v1/assets/nonsense"), (400, 404))

    def test_change(self):
        asset = self.asset()
        path = f"/api/v1/assets/{asset['id']}"
        etag = self.ann.get(path).header("ETag")
        change = {"title": "Neu", "description": "d", "tags": ["x", "y"], "custom": {"a": [1, None]},
                  "playback_policy": "public"}
        response = self.ann.request("PATCH", path, body=change, headers={"If-Match": etag})
        self.assertEqual(response.status, 200, response.body)
        got = self.ann.get(path).json()
        self.assertEqual({k: got[k] for k in change}, change)
        self.assertEqual(got["version"], asset["version"] + 1)
        self.assertNotEqual(self.ann.get(path).header("ETag"), etag)
        stale = self.ann.request("PATCH", path, body={"title": "z"}, headers={"If-Match": etag})
        self.assertProblem(stale, 412, "precondition-failed")
        self.assertEqual(self.ann.get(path).json()["title"], "Neu")

    def at_once(self, method, path, bodies, headers):
        with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
            send = lambda body: self.ann.request(method, path, body=body, headers=headers)
            return sorted(response.status for response in pool.map(send, bodies))

    def test_changes_at_once(self):
        """Without a version to hold to, every change is made; of those that name one, the first."""
        path = f"/api/v1/assets/{self.asset()['id']}"
        fields = ("title", "description")
        version = 1
        for headers in ({}, {"If-Match": "*"}):
            for attempt in range(4):
                bodies = [{fields[i % 2]: f"{attempt}.{i}"} for i in range(16)]
                self.assertEqual(self.at_once("PATCH", path, bodies, headers), [200] * 16, headers)
                got = self.ann.get(path).json()
                version += 16
                self.assertEqual(got["version"], version)
                for i, field in enumerate(fields):
                    self.assertIn({field: got[field]}, bodies[i::2])
        for attempt in range(4):
            etag = self.ann.get(path).header("ETag")
            bodies = [{"title": f"won.{attempt}.{i}"} for i in range(16)]
            self.assertEqual(self.at_once("PATCH", path, bodies, {"If-Match": etag}), [200] + [412] * 15)
            version += 1
            self.assertEqual(self.ann.get(path).json()["version"], version)

    def test_deletion_of_whatever_version_is_there(self):
        for _ in range(4):
            path = f"/api/v1/assets/{self.asset()['id']}"
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                changes = pool.submit(lambda p=path: [self.ann.request("PATCH", p, body={"title": f"t{i}"}).status
                                                      for i in range(50)])
                support.eventually(lambda p=path: self.ann.get(p).json()["version"] > 3, 10, "some changes")
                gone = self.ann.request("DELETE", path, headers={"If-Match": "*"})
                self.assertEqual(gone.status, 204, gone.body)
                self.assertLessEqual(set(changes.result()), {200, 404})
            self.assertProblem(self.ann.get(path), 404)
        path = f"/api/v1/assets/{self.asset()['id']}"
        etag = self.ann.get(path).header("ETag")
        self.ann.request("PATCH", path, body={"title": "newer"})
        self.assertProblem(self.ann.request("DELETE", path, headers={"If-Match": etag}), 412)

    def test_policy_takes_effect_at_once(self):
        asset = self.asset()
        bare = f"/stream/{asset['id']}/master.m3u8"
        self.assertProblem(self.anonymous.get(bare), 401)
        self.ann.request("PATCH", f"/api/v1/assets/{asset['id']}", body={"playback_policy": "public"})
        self.assertEqual(self.anonymous.get(bare).status, 200)
        self.ann.request("PATCH", f"/api/v1/assets/{asset['id']}", body={"playback_policy": "signed"})
        self.assertProblem(self.anonymous.get(bare), 401)

    def test_tags_are_kept_once(self):
        path = f"/api/v1/assets/{self.asset()['id']}"
        got = self.ann.request("PATCH", path, body={"tags": ["b", "a", "b", "a"]}).json()
        self.assertEqual(got["tags"], ["b", "a"])
        many = [f"t{i % 7}" for i in range(5000)]
        self.assertEqual(len(self.ann.request("PATCH", path, body={"tags": many}).json()["tags"]), 7)
        self.assertProblem(self.ann.request("PATCH", path, body={"tags": [f"t{i}" for i in range(1000)]}), 400)

    def test_numbers_come_back_as_they_were_written(self):
        path = f"/api/v1/assets/{self.asset()['id']}"
        custom = {"time": 1731243600.123, "place": [52.5200065999, 13.404953999], "share": 0.1, "small": 1.5e-7}
        self.assertEqual(self.ann.request("PATCH", path, body={"custom": custom}).json()["custom"], custom)
        self.assertEqual(self.ann.get(path).json()["custom"], custom)

    def test_the_policy_has_two_names_and_one_value(self):
        path = f"/api/v1/assets/{self.asset()['id']}"
        for body in ({"policy": "public", "playback_policy": "signed"}, {"playback_policy": "signed", "policy": "public"}):
            problem = self.assertProblem(self.ann.request("PATCH", path, body=body), 400)
            self.assertEqual(problem["field"], "policy")
        self.assertEqual(self.ann.get(path).json()["version"], 1)

    def test_change_refusals_name_the_field(self):
        path = f"/api/v1/assets/{self.asset()['id']}"
        for body, field in (({"title": "x" * 10000}, "title"), ({"title": 5}, "title"), ({"tags": "x"}, "tags"),
                            ({"custom": []}, "custom"), ({"playback_policy": "secret"}, "polic"),
                            ({"size": 5}, "size"), ({"nonsense": 1}, "nonsense")):
            problem = self.assertProblem(self.ann.request("PATCH", path, body=body), (400, 422))
            self.assertIn(field, str(problem), body)
        for raw in (b"{", b"[]", b"", b'{"title":"\xff"}', b'{"title":"a"} trailing'):
            response = self.ann.request("PATCH", path, body=raw, headers={"Content-Type": "application/json"})
            self.assertProblem(response, 400)
        self.assertProblem(self.ann.request("PATCH", path, body=b'{"title":"a"}',
                                            headers={"Content-Type": "text/plain"}), 415)
        huge = self.ann.request("PATCH", path, body={"description": "x" * (1 << 17)})
        self.assertProblem(huge, 413)

    def test_delete(self):
        asset = self.asset()
        path = f"/api/v1/assets/{asset['id']}"
        playlist = support.path_of(asset["playback"]["hls"])
        self.assertEqual(self.anonymous.get(playlist).status, 200)
        self.assertTrue([f for f in self.daemon.files("assets") if asset["id"] in f])
        self.assertEqual(self.ann.request("DELETE", path).status, 204)
        self.assertProblem(self.ann.get(path), 404)
        self.assertProblem(self.anonymous.get(playlist), 404)
        self.assertFalse([f for f in self.daemon.files("assets") if asset["id"] in f])
        self.assertFalse(os.path.exists(os.path.join(self.daemon.data, "assets", asset["id"][-2:], asset["id"])))
        self.assertProblem(self.ann.request("DELETE", path), 404)

    def test_ownership(self):
        asset = self.asset(self.ann)
        path = f"/api/v1/assets/{asset['id']}"
        self.assertProblem(self.bob.request("PATCH", path, body={"title": "mine"}), (403, 404))
        self.assertProblem(self.bob.request("DELETE", path), (403, 404))
        self.assertProblem(self.viewer.request("DELETE", path), 403)
        self.assertEqual(self.admin.request("PATCH", path, body={"title": "by admin"}).status, 200)
        self.assertEqual(self.admin.request("DELETE", path).status, 204)

    def test_viewers_cannot_upload(self):
        self.assertProblem(self.viewer.upload(clip("short")), 403, "forbidden")

    def test_list(self):
        client = self.daemon.client("creator", "lister")
        made = [self.uploaded(clip("short"), client, f"l{i}.mp4")["id"] for i in range(5)]
        owner = client.get(f"/api/v1/assets/{made[0]}").json()["owner"]
        client.request("PATCH", f"/api/v1/assets/{made[2]}", body={"title": "Bergsee im Nebel", "tags": ["natur"]})
        seen, cursor, pages = [], "", 0
        while True:
            page = client.get(f"/api/v1/assets?limit=2&owner={owner}" + (f"&cursor={cursor}" if cursor else ""))
            self.assertEqual(page.status, 200, page.body)
            seen += [a["id"] for a in page.json()["items"]]
            pages += 1
            cursor = page.json().get("next_cursor")
            if not cursor:
                break
        self.assertEqual(seen, made[::-1])
        self.assertEqual(pages, 3)
        ids = lambda q: [a["id"] for a in client.get("/api/v1/assets?" + q).json()["items"]]
        self.assertEqual(ids("q=bergsee"), [made[2]])
        self.assertEqual(ids("tag=natur"), [made[2]])
        self.assertEqual(ids(f"owner={owner}&sort=created_at"), made)
        self.assertEqual(ids("q=%22%20OR%20*%20NEAR("), [])
        for bad in ("limit=0", "limit=x", "limit=201", "limit=-1", "cursor=zzz", "sort=size", "status=odd",
                    "limit=1&limit=2"):
            self.assertProblem(client.get("/api/v1/assets?" + bad), 400)

    def test_audit_has_the_changes(self):
        asset = self.asset()
        path = f"/api/v1/assets/{asset['id']}"
        self.ann.request("PATCH", path, body={"title": "t"}, headers={"X-Request-Id": "audited-change"})
        self.ann.request("DELETE", path)
        log = self.daemon.cli("audit", "export").stdout
        mine = [line for line in log.splitlines() if asset["id"] in line]
        self.assertGreaterEqual(len(mine), 3)
        self.assertTrue(any("audited-change" in line for line in mine))
        self.daemon.cli("audit", "verify")


if __name__ == "__main__":
    support.main()
