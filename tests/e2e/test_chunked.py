"""Chunked uploads: chunks in any order, twice, torn, taken over; completion; what a crash, an expiry, a quota does."""
import base64
import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import random
import struct
import unittest

import support
from support import Raw, clip, eventually, path_of

KIB = 1 << 10


def content(name):
    with open(clip(name), "rb") as file:
        return file.read()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def padded(data, filler):
    """A film followed by bytes that no player looks at (a box `free`)."""
    return data + struct.pack(">I4s", 8 + len(filler), b"free") + filler


def digest_field(data):
    return "sha-256=:" + base64.b64encode(hashlib.sha256(data).digest()).decode() + ":"


def pieces(data, size):
    return [data[at:at + size] for at in range(0, len(data), size)]


def create(client, data, chunk_size=None, **members):
    """The upload announced for `data`."""
    body = {"filename": "film.mp4", "size": len(data), **members}
    if chunk_size:
        body["chunk_size"] = chunk_size
    response = client.request("POST", "/api/v1/uploads", body)
    assert response.status == 201, (response.status, response.body[:400])
    return response.json()


def put(client, upload, n, data, headers=None):
    return client.request("PUT", f"/api/v1/uploads/{upload['id']}/chunks/{n}", body=data, headers=headers)


def send(client, upload, data, order=None):
    """Every chunk of data, or those of `order`, each acknowledged."""
    parts = pieces(data, upload["chunk_size"])
    for n in range(len(parts)) if order is None else order:
        response = put(client, upload, n, parts[n])
        assert response.status == 200, (n, response.status, response.body[:400])


def show(client, upload):
    response = client.get(f"/api/v1/uploads/{upload['id']}")
    assert response.status == 200, (response.status, response.body[:400])
    return response.json()


def complete(client, upload, body=None):
    return client.request("POST", f"/api/v1/uploads/{upload['id']}/complete", body)


def abort(client, upload):
    return client.request("DELETE", f"/api/v1/uploads/{upload['id']}")


def first_segment(client, asset):
    """Plays as far as the first segment of the first rendition."""
    master = path_of(asset["playback"]["hls"])
    lines = client.get(master).body.decode().splitlines()
    media = os.path.dirname(master) + "/" + next(line for line in lines if line and line[0] != "#")
    lines = client.get(media).body.decode().splitlines()
    segment = next(line for line in lines if line and line[0] != "#")
    return client.get(os.path.dirname(media) + "/" + segment)


class Torn:
    """A PUT of a chunk whose head was taken and whose body stops after `sent` bytes."""

    def __init__(self, daemon, upload, n, data, sent):
        self.raw, self.rest = Raw(daemon.port), data[sent:]
        self.raw.send(f"PUT /api/v1/uploads/{upload['id']}/chunks/{n} HTTP/1.1\r\nHost: localhost\r\n"
                      f"Authorization: Bearer {daemon.admin_key}\r\nExpect: 100-continue\r\n"
                      f"Content-Length: {len(data)}\r\n\r\n")
        interim = b""
        while not interim.endswith(b"\r\n\r\n"):
            interim += self.raw.socket.recv(1)
        assert interim.startswith(b"HTTP/1.1 100 "), interim
        self.raw.send(data[:sent])

    def finish(self):
        """Sends the rest: (status, body)."""
        self.raw.send(self.rest)
        status, _, body = self.raw.read_response()
        self.raw.close()
        return status, body


class Chunked(support.DaemonCase):
    settings = {"upload.min_chunk_size": "1KiB", "playback.default_policy": "public"}

    @classmethod
    def tearDownClass(cls):
        """Nobody sends any more, and what was announced and not completed has gone."""
        for upload in cls.admin.get("/api/v1/uploads?status=active&limit=200").json()["items"]:
            abort(cls.admin, upload)
        staged = cls.daemon.files("incoming")
        super().tearDownClass()
        if staged:
            raise AssertionError(f"left behind: {staged}")

    def assertPlays(self, asset):
        response = first_segment(self.anonymous, asset)
        self.assertEqual(response.status, 200)
        self.assertGreater(len(response.body), 1000)

    def staged(self, upload):
        return os.path.join("incoming", upload["id"]) in self.daemon.files("incoming")

    def test_any_order_in_parallel(self):
        data = content("short")
        before = self.daemon.metric("chunk_upload_success_total", kind="chunked")
        completed = self.daemon.metric("complete_upload_success_total", kind="chunked")
        upload = create(self.admin, data, 16 * KIB, sha256=sha256(data).upper(), title="Ein Fílm", tags=["a", "b"],
                        description="kurz", policy="public", custom={"k": 1})
        parts = pieces(data, 16 * KIB)
        self.assertEqual((upload["kind"], upload["status"], upload["size"]), ("chunked", "active", len(data)))
        self.assertEqual((upload["chunks"], upload["chunk_size"]), (len(parts), 16 * KIB))
        self.assertEqual(upload["missing"], [{"first": 0, "last": len(parts) - 1}])
        self.assertEqual((upload["received_bytes"], upload["asset"], upload["error"]), (0, None, None))
        self.assertEqual(upload["sha256"], sha256(data))

        order = list(range(len(parts)))
        random.Random(3).shuffle(order)
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda n: put(self.admin, upload, n, parts[n],
                                                  {"Content-Digest": digest_field(parts[n])}), order))
        for n, answer in zip(order, answers):
            self.assertEqual(answer.status, 200, answer.body)
            body = answer.json()
            self.assertEqual((body["chunk"], body["size"], body["sha256"]), (n, len(parts[n]), sha256(parts[n])))
        self.assertEqual(max(answer.json()["received_bytes"] for answer in answers), len(data))
        state = show(self.admin, upload)
        self.assertEqual((state["missing"], state["received_bytes"], state["status"]), ([], len(data), "active"))
        self.assertEqual(self.daemon.metric("chunk_upload_success_total", kind="chunked") - before, len(parts))

        answer = complete(self.admin, upload, {"sha256": sha256(data)})
        self.assertEqual(answer.status, 201, answer.body)
        asset = answer.json()
        self.assertEqual(answer.header("Location"), f"/api/v1/assets/{asset['id']}")
        self.assertEqual(answer.header("ETag"), self.admin.get(answer.header("Location")).header("ETag"))
        self.assertIn("probe;dur=", answer.header("Server-Timing"))
        self.assertEqual((asset["id"], asset["status"], asset["size"]), (upload["id"], "ready", len(data)))
        self.assertEqual((asset["sha256"], asset["filename"]), (sha256(data), "film.mp4"))
        self.assertEqual((asset["title"], asset["description"], asset["tags"]), ("Ein Fílm", "kurz", ["a", "b"]))
        self.assertEqual((asset["custom"], asset["playback_policy"]), ({"k": 1}, "public"))
        self.assertPlays(asset)
        self.assertEqual(sha256(self.anonymous.get(path_of(asset["playback"]["source"])).body), sha256(data))
        state = show(self.admin, upload)
        self.assertEqual((state["status"], state["asset_id"]), ("done", asset["id"]))
        self.assertEqual(state["asset"], f"/api/v1/assets/{asset['id']}")
        self.assertFalse(self.staged(upload))
        self.assertEqual(self.daemon.metric("complete_upload_success_total", kind="chunked") - completed, 1)

    def test_one_chunk_of_unknown_length(self):
        data = content("short")
        upload = create(self.admin, data)
        self.assertEqual((upload["chunk_size"], upload["chunks"]), (8 << 20, 1))
        answer = put(self.admin, upload, 0, iter(pieces(data, 10000)))
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(complete(self.admin, upload).status, 201)

    def test_large_chunks(self):
        """Long enough to be written out while they still come; twice, torn once in between."""
        data = padded(content("short"), os.urandom(20 << 20))
        upload = create(self.admin, data, 12 << 20, sha256=sha256(data))
        self.assertEqual(upload["chunks"], 2)
        parts = pieces(data, 12 << 20)
        torn = Torn(self.daemon, upload, 1, bytes(len(parts[1])), 7 << 20)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda n: put(self.admin, upload, n, parts[n]).status, (0, 1)))
        self.assertEqual(answers, [200, 200])
        self.assertEqual(torn.finish()[0], 409)
        answer = complete(self.admin, upload)
        self.assertEqual(answer.status, 201, answer.body)
        self.assertPlays(answer.json())

    def test_contested_chunks(self):
        """Six clients send six bodies for the same chunks: what one was told is there stays, whoever comes later."""
        size, film = 64 * KIB, content("short")
        own = len(film) // size + 1  # chunks that hold the film, and the head of the box
        data = padded(film, bytes(size * own - len(film) - 8 + 12 * size))
        upload = create(self.admin, data, size)
        count = upload["chunks"]
        send(self.admin, upload, data, range(own))

        def contend(client):
            told = {}
            for n in range(own, count):
                body = bytes([client + 1]) * size
                answer = put(self.admin, upload, n, body)
                if answer.status == 200:
                    told[n] = answer.json()["sha256"]
                    assert told[n] == sha256(body)
                else:
                    self.assertIn(answer.status, (409, 503), answer.body)
            return told

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            told = list(pool.map(contend, range(6)))
        missing = {n for run in show(self.admin, upload)["missing"] for n in range(run["first"], run["last"] + 1)}
        send(self.admin, upload, data, missing)
        asset = complete(self.admin, upload).json()
        parts = pieces(self.anonymous.get(path_of(asset["playback"]["source"])).body, size)
        for n in range(own, count):
            promised = {answers[n] for answers in told if n in answers} or {sha256(bytes(size))}
            self.assertEqual({sha256(parts[n])}, promised, f"chunk {n}")

    def test_twice_and_otherwise(self):
        data = os.urandom(3000)
        upload = create(self.admin, data, 1024)
        parts = pieces(data, 1024)
        for _ in range(3):
            answer = put(self.admin, upload, 1, parts[1])
            self.assertEqual((answer.status, answer.json()["received_bytes"]), (200, 1024))
        other = bytes(1024)
        problem = self.assertProblem(put(self.admin, upload, 1, other), 409, "conflict")
        self.assertIn("chunk 1", problem["detail"])
        self.assertProblem(put(self.admin, upload, 1, other, {"Content-Digest": digest_field(parts[1])}), 400,
                           "digest-mismatch")
        # The same over many connections at once: each is acknowledged, and it is there once.
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: put(self.admin, upload, 2, parts[2]).status, range(12)))
        self.assertIn(200, answers)
        self.assertLessEqual(set(answers), {200, 409, 503})  # taken over by a newer one; too many wait
        self.assertEqual(put(self.admin, upload, 2, parts[2]).status, 200)
        state = show(self.admin, upload)
        self.assertEqual((state["received_bytes"], state["missing"]), (3000 - 1024, [{"first": 0, "last": 0}]))
        self.assertEqual(abort(self.admin, upload).status, 204)

    def test_digests(self):
        data = os.urandom(2048)
        upload = create(self.admin, data, 1024)
        part = data[:1024]
        self.assertProblem(put(self.admin, upload, 0, part, {"Content-Digest": digest_field(b"x")}), 400,
                           "digest-mismatch")
        self.assertProblem(put(self.admin, upload, 0, part, {"Content-Digest": "sha-256=:no:"}), 400)
        self.assertEqual(show(self.admin, upload)["received_bytes"], 0)
        self.assertEqual(put(self.admin, upload, 0, part, {"Content-Digest": digest_field(part)}).status, 200)
        abort(self.admin, upload)

    def test_lengths_and_numbers(self):
        data = os.urandom(2500)
        upload = create(self.admin, data, 1024)
        for n, size in ((0, 1023), (0, 1025), (0, 0), (2, 1024), (2, 451)):
            problem = self.assertProblem(put(self.admin, upload, n, bytes(size)), 400)
            self.assertIn(problem["field"], ("Content-Length", "body"))
        for n, size in ((0, 1000), (0, 1025), (2, 451), (1, 0)):
            problem = self.assertProblem(put(self.admin, upload, n, iter([bytes(size)])), 400)
            self.assertEqual(problem["field"], "body")
        self.assertProblem(put(self.admin, upload, 3, data[:1024]), 404, "not-found")
        self.assertProblem(put(self.admin, upload, 2 ** 63 - 1, data[:1024]), 404)
        for n in ("-1", "x", "1x", "%2B1", 2 ** 64, "0x1"):
            self.assertProblem(put(self.admin, upload, n, data[:1024]), 400)
        self.assertEqual(show(self.admin, upload)["received_bytes"], 0)
        send(self.admin, upload, data)
        abort(self.admin, upload)

    def test_missing_runs(self):
        data = os.urandom(12 * 1024 - 1)
        upload = create(self.admin, data, 1024)
        send(self.admin, upload, data, [11, 3, 4, 0, 7])
        self.assertEqual(show(self.admin, upload)["missing"],
                         [{"first": a, "last": b} for a, b in ((1, 2), (5, 6), (8, 10))])
        problem = self.assertProblem(complete(self.admin, upload), 409, "conflict")
        self.assertIn("1-2, 5-6, 8-10", problem["detail"])
        send(self.admin, upload, data, [9, 1, 2])
        self.assertEqual(show(self.admin, upload)["missing"],
                         [{"first": a, "last": b} for a, b in ((5, 6), (8, 8), (10, 10))])
        abort(self.admin, upload)

    def test_too_many_missing_runs(self):
        upload = create(self.admin, bytes(2300 * 1024), 1024)

        def every_other(part):
            connection = http.client.HTTPConnection("127.0.0.1", self.daemon.port, timeout=60 * support.SLOW)
            for n in range(1 + 2 * part, 2020, 2 * 8):
                connection.request("PUT", f"/api/v1/uploads/{upload['id']}/chunks/{n}", bytes(1024),
                                   {"Authorization": f"Bearer {self.daemon.admin_key}"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200, answer.status
            connection.close()

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(every_other, range(8)))
        state = show(self.admin, upload)
        self.assertEqual(state["received_bytes"], 1010 * 1024)
        self.assertTrue(state["missing_truncated"])
        self.assertEqual(state["missing"], [{"first": 2 * i, "last": 2 * i} for i in range(1000)])
        abort(self.admin, upload)

    def test_early_completion_disturbs_nobody(self):
        data = content("short")
        upload = create(self.admin, data, len(data))
        torn = Torn(self.daemon, upload, 0, data, len(data) // 2)
        self.assertProblem(complete(self.admin, upload), 409, "conflict")
        self.assertEqual(torn.finish()[0], 200)
        self.assertEqual(complete(self.admin, upload).status, 201)

    def test_completion_is_idempotent(self):
        data = content("short")
        upload = create(self.admin, data, 64 * KIB)
        send(self.admin, upload, data)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: complete(self.admin, upload), range(4)))
        self.assertEqual(sorted(answer.status for answer in answers), [200, 200, 200, 201],
                         [answer.body[:200] for answer in answers])
        self.assertEqual({answer.json()["id"] for answer in answers}, {upload["id"]})
        again = complete(self.admin, upload, {"sha256": sha256(data)})
        self.assertEqual((again.status, again.json()["id"]), (200, upload["id"]))
        self.assertProblem(complete(self.admin, upload, {"sha256": "0" * 64}), 400, "digest-mismatch")
        self.assertEqual(show(self.admin, upload)["status"], "done")
        # A chunk whose acknowledgement was lost may come again; another body is refused.
        self.assertEqual(put(self.admin, upload, 0, data[:64 * KIB]).status, 200)
        self.assertProblem(put(self.admin, upload, 0, bytes(64 * KIB)), 409, "conflict")
        # The asset goes its own way.
        self.assertEqual(abort(self.admin, upload).status, 204)
        self.assertProblem(self.admin.get(f"/api/v1/uploads/{upload['id']}"), 404)
        self.assertEqual(self.admin.get(f"/api/v1/assets/{upload['id']}").json()["status"], "ready")

    def test_processing_is_visible(self):
        data = content("bframes")
        upload = create(self.admin, data)
        send(self.admin, upload, data)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            with support.MediaHeld(self.daemon):
                first = pool.submit(complete, self.admin, upload)
                state = eventually(lambda: (s := show(self.admin, upload))["status"] == "processing" and s, 10,
                                   "an upload in processing")
                self.assertEqual((state["asset_id"], state["missing"]), (upload["id"], []))
                asset = self.admin.get(state["asset"]).json()
                self.assertEqual((asset["status"], asset["playback"]["hls"]), ("processing", None))
                self.assertNotEqual(self.anonymous.get(f"/stream/{upload['id']}/master.m3u8").status, 200)
                self.assertEqual(put(self.admin, upload, 0, data).status, 200)
                second = pool.submit(complete, self.admin, upload)
            self.assertEqual(sorted([first.result().status, second.result().status]), [200, 201])
        self.assertPlays(self.admin.get(state["asset"]).json())

    def test_the_asset_was_deleted(self):
        data = content("short")
        upload = create(self.admin, data)
        send(self.admin, upload, data)
        self.assertEqual(complete(self.admin, upload).status, 201)
        self.assertEqual(self.admin.request("DELETE", f"/api/v1/assets/{upload['id']}").status, 204)
        self.assertProblem(complete(self.admin, upload), 410, "gone")

    def assertFailed(self, upload, slug):
        state = show(self.admin, upload)
        self.assertEqual(state["status"], "failed")
        self.assertTrue(state["error"]["type"].endswith(":" + slug), state["error"])
        self.assertTrue(state["error"]["detail"])
        asset = self.admin.get(f"/api/v1/assets/{upload['id']}")
        self.assertIn(asset.status, (200, 404))
        if asset.status == 200:
            self.assertEqual(asset.json()["status"], "failed")
            self.assertIsNone(asset.json()["playback"]["hls"])
        self.assertFalse(self.staged(upload))
        self.assertFalse([f for f in self.daemon.files("assets") if upload["id"] in f])
        self.assertProblem(self.anonymous.get(f"/stream/{upload['id']}/master.m3u8"), (404, 409))

    def test_wrong_whole_digest(self):
        data = content("short")
        upload = create(self.admin, data, sha256="0" * 64)
        send(self.admin, upload, data)
        for _ in range(2):
            self.assertProblem(complete(self.admin, upload), 400, "digest-mismatch")
        self.assertFailed(upload, "digest-mismatch")
        self.assertProblem(complete(self.admin, upload, {"sha256": sha256(data)}), 400, "digest-mismatch")
        self.assertEqual(abort(self.admin, upload).status, 204)

    def test_a_slip_in_a_completion_costs_no_chunk(self):
        data = content("short")
        upload = create(self.admin, data)
        send(self.admin, upload, data)
        for _ in range(2):
            self.assertProblem(complete(self.admin, upload, {"sha256": "f" * 64}), 400, "digest-mismatch")
        self.assertEqual(show(self.admin, upload)["status"], "active")
        self.assertTrue(self.staged(upload))
        answer = complete(self.admin, upload, {"sha256": sha256(data)})
        self.assertEqual(answer.status, 201, answer.body)
        self.assertEqual(answer.json()["sha256"], sha256(data))

    def test_bad_media(self):
        truncated = content("moov-at-end")[:200000]
        for data, status, slug in ((b"no media at all\n" * 100, 415, "unsupported-media"),
                                   (truncated, 422, "unprocessable-media")):
            upload = create(self.admin, data)
            send(self.admin, upload, data)
            first = self.assertProblem(complete(self.admin, upload), status, slug)
            again = self.assertProblem(complete(self.admin, upload), status, slug)
            self.assertEqual(first["detail"], again["detail"])
            self.assertFailed(upload, slug)
            self.assertProblem(put(self.admin, upload, 0, bytes(len(data))), 409, "conflict")

    def test_abort_during_a_body(self):
        data = os.urandom(300 * KIB)
        upload = create(self.admin, data, 100 * KIB)
        send(self.admin, upload, data, [0])
        torn = Torn(self.daemon, upload, 1, data[100 * KIB:200 * KIB], 50 * KIB)
        self.assertTrue(self.staged(upload))
        self.assertEqual(abort(self.admin, upload).status, 204)
        self.assertFalse(self.staged(upload))
        status, body = torn.finish()
        self.assertEqual(status, 409, body)
        self.assertIn(b":superseded", body)
        self.assertFalse(self.staged(upload))
        for response in (self.admin.get(f"/api/v1/uploads/{upload['id']}"), complete(self.admin, upload),
                         put(self.admin, upload, 0, data[:100 * KIB]), abort(self.admin, upload)):
            self.assertProblem(response, 404, "not-found")

    def test_a_newer_body_takes_over(self):
        data = content("short")
        upload = create(self.admin, data, 100 * KIB)
        parts = pieces(data, 100 * KIB)
        wrong = bytes(100 * KIB)
        before = self.daemon.metric("upload_superseded_total")
        torn = Torn(self.daemon, upload, 0, wrong, 60 * KIB)
        other = Torn(self.daemon, upload, 1, parts[1], 60 * KIB)
        self.assertEqual(put(self.admin, upload, 0, parts[0]).status, 200)
        status, body = torn.finish()
        self.assertEqual(status, 409, body)
        self.assertIn(b":superseded", body)
        self.assertEqual(other.finish()[0], 200)  # of another chunk: not concerned
        self.assertEqual(self.daemon.metric("upload_superseded_total") - before, 1)
        send(self.admin, upload, data, range(2, len(parts)))
        asset = complete(self.admin, upload).json()
        self.assertEqual(asset["sha256"], sha256(data))

    def test_a_dropped_body_leaves_the_chunk_missing(self):
        data = content("short")
        upload = create(self.admin, data, len(data))
        torn = Torn(self.daemon, upload, 0, bytes(len(data)), 50 * KIB)
        torn.raw.close()
        self.assertEqual(show(self.admin, upload)["missing"], [{"first": 0, "last": 0}])
        self.assertEqual(put(self.admin, upload, 0, data).status, 200)
        self.assertEqual(complete(self.admin, upload, {"sha256": sha256(data)}).status, 201)

    def test_owners_and_lists(self):
        one, two = self.daemon.client("creator", "one"), self.daemon.client("creator", "two")
        viewer = self.daemon.client("viewer", "looker")
        mine = [create(one, bytes(1000 + i), filename=f"{i}.mp4") for i in range(5)]
        theirs = create(two, bytes(10))
        for response in (two.get(f"/api/v1/uploads/{mine[0]['id']}"), put(two, mine[0], 0, bytes(1000)),
                         complete(two, mine[0]), abort(two, mine[0])):
            self.assertProblem(response, 403, "forbidden")
        self.assertProblem(viewer.request("POST", "/api/v1/uploads", {"filename": "x", "size": 1}), 403)
        self.assertProblem(self.anonymous.get("/api/v1/uploads"), 401)
        self.assertEqual(show(self.admin, mine[0])["owner"], mine[0]["owner"])

        seen, cursor = [], ""
        while cursor is not None:
            page = one.get(f"/api/v1/uploads?limit=2{'&cursor=' + cursor if cursor else ''}").json()
            self.assertLessEqual(len(page["items"]), 2)
            seen += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
        self.assertEqual(seen, sorted((upload["id"] for upload in mine), reverse=True))
        listed = one.get("/api/v1/uploads?limit=5").json()
        self.assertEqual((len(listed["items"]), listed["next_cursor"]), (5, None))
        self.assertIn(show(one, mine[0]), listed["items"])
        self.assertEqual([u["id"] for u in two.get("/api/v1/uploads").json()["items"]], [theirs["id"]])
        self.assertProblem(two.get(f"/api/v1/uploads?owner={mine[0]['owner']}"), 403)
        self.assertEqual(len(one.get(f"/api/v1/uploads?owner={mine[0]['owner']}").json()["items"]), 5)
        self.assertEqual(len(self.admin.get(f"/api/v1/uploads?owner={mine[0]['owner']}").json()["items"]), 5)
        self.assertIn(theirs["id"], [u["id"] for u in self.admin.get("/api/v1/uploads?limit=200").json()["items"]])
        for query, count in (("status=active", 5), ("status=done", 0), ("kind=chunked", 5), ("kind=tus", 0),
                             ("status=active&kind=import", 0)):
            self.assertEqual(len(one.get(f"/api/v1/uploads?{query}").json()["items"]), count, query)
        for query in ("status=x", "kind=x", "limit=0", "limit=201", "cursor=x"):
            problem = self.assertProblem(one.get(f"/api/v1/uploads?{query}"), 400)
            self.assertEqual(problem["field"], query.split("=")[0])
        self.assertEqual(abort(self.admin, mine[0]).status, 204)
        self.assertEqual(len(one.get("/api/v1/uploads").json()["items"]), 4)

    def test_refused_announcements(self):
        good = {"filename": "a.mp4", "size": 100000}
        cases = [("filename", {"size": 1}), ("size", {"filename": "a"}), ("filename", {**good, "filename": "a/b"}),
                 ("filename", {**good, "filename": 1}), ("colour", {**good, "colour": "red"}),
                 ("sha256", {**good, "sha256": "abc"}), ("sha256", {**good, "sha256": None}),
                 ("chunk_size", {**good, "chunk_size": 1023}), ("chunk_size", {**good, "chunk_size": 0}),
                 ("chunk_size", {**good, "chunk_size": "5"}), ("tags", {**good, "tags": "a"}),
                 ("policy", {**good, "policy": "gated"}), ("title", {**good, "title": "x" * 201}),
                 ("custom", {**good, "custom": []}),
                 ("chunk_size", {**good, "size": 200 << 20, "chunk_size": 1024})]  # more than 100,000 chunks
        cases += [("size", {**good, "size": size}) for size in (0, -1, 1.5, "1", None, True, 1e3)]
        for field, body in cases:
            with self.subTest(body=body):
                self.assertEqual(self.assertProblem(self.admin.request("POST", "/api/v1/uploads", body), 400)["field"],
                                 field)
        self.assertProblem(self.admin.request("POST", "/api/v1/uploads", {**good, "size": 1 << 40}), 413)
        for body in (b"", b"[]", b"{", b'{"size":1,"size":2}', b'{"filename":"a","size":99999999999999999999}'):
            self.assertProblem(self.admin.request("POST", "/api/v1/uploads", body,
                                                  {"Content-Type": "application/json"}), 400)
        tiny = create(self.admin, bytes(10), 10)  # shorter than the least, but the whole
        self.assertEqual(tiny["chunks"], 1)
        for body, field in (({"sha256": "x"}, "sha256"), ({"name": 1}, "name")):
            self.assertEqual(self.assertProblem(complete(self.admin, tiny, body), 400)["field"], field)
        abort(self.admin, tiny)
        for path in ("nothing", "01HZZZZZZZZZZZZZZZZZZZZZZZ"):
            self.assertProblem(self.admin.get(f"/api/v1/uploads/{path}"), 404)

    def inode(self, asset_id):
        return os.stat(os.path.join(self.daemon.data, "assets", asset_id[-2:], asset_id, "source")).st_ino

    def test_a_file_ends_where_the_upload_does(self):
        """Bytes that got behind the end, however they did, are under no hash: they stay out of the asset."""
        data = content("short")
        upload = create(self.admin, data, 100 * KIB)
        send(self.admin, upload, data)
        with open(os.path.join(self.daemon.data, "incoming", upload["id"]), "ab") as file:
            file.write(b"more")
        asset = complete(self.admin, upload).json()
        source = os.path.join(self.daemon.data, "assets", asset["id"][-2:], asset["id"], "source")
        self.assertEqual(os.path.getsize(source), len(data))
        self.assertEqual(support.sha256_file(source).hexdigest(), sha256(data))

    def test_equal_content_is_stored_once(self):
        data = content("silent")
        raw = self.uploaded(clip("silent"))
        upload = create(self.admin, data, 100 * KIB)
        send(self.admin, upload, data)
        chunked = complete(self.admin, upload).json()
        again = self.uploaded(clip("silent"))
        self.assertNotEqual(raw["id"], chunked["id"])
        self.assertEqual(len({self.inode(asset["id"]) for asset in (raw, chunked, again)}), 1)
        self.assertFalse(self.staged(upload))
        self.assertEqual(self.admin.request("DELETE", f"/api/v1/assets/{raw['id']}").status, 204)
        self.assertEqual(self.admin.request("DELETE", f"/api/v1/assets/{again['id']}").status, 204)
        self.assertPlays(chunked)
        source = self.anonymous.get(path_of(chunked["playback"]["source"])).body
        self.assertEqual(sha256(source), sha256(data))

    def test_described(self):
        document = self.anonymous.get("/openapi.json").json()
        self.assertIn("missing", document["components"]["schemas"]["Upload"]["properties"])
        self.assertLessEqual({"get", "post"}, set(document["paths"]["/api/v1/uploads"]))
        self.assertLessEqual({"get", "delete"}, set(document["paths"]["/api/v1/uploads/{id}"]))
        # What is shown is what is described.
        upload = create(self.admin, bytes(10))
        schema = document["components"]["schemas"]["Upload"]
        self.assertLessEqual(set(upload), set(schema["properties"]))
        self.assertLessEqual(set(schema["required"]), set(upload))
        abort(self.admin, upload)


class Crash(unittest.TestCase):
    def test_nothing_acknowledged_is_lost(self):
        """SIGKILL between chunks and within one: after each start exactly the acknowledged ones are there."""
        data = content("short")
        daemon = support.Daemon({"upload.min_chunk_size": "1KiB", "playback.default_policy": "public"})
        self.addCleanup(daemon.remove)
        daemon.start()
        size = len(data) // 7 + 1
        parts = pieces(data, size)
        upload = create(daemon.admin, data, size, sha256=sha256(data))
        there = set()
        for n in (6, 0, 3):
            self.assertEqual(put(daemon.admin, upload, n, parts[n]).status, 200)
            there.add(n)
            torn = Torn(daemon, upload, n - 1 if n else 1, parts[n - 1 if n else 1], 500)
            daemon.kill()
            torn.raw.close()
            daemon.start()
            state = show(daemon.admin, upload)
            missing = {n for run in state["missing"] for n in range(run["first"], run["last"] + 1)}
            self.assertEqual(missing, set(range(len(parts))) - there)
            self.assertEqual(state["received_bytes"], sum(len(parts[n]) for n in there))
        send(daemon.admin, upload, data, missing)
        with concurrent.futures.ThreadPoolExecutor(1) as pool, support.MediaHeld(daemon):
            answer = pool.submit(complete, daemon.admin, upload)
            eventually(lambda: show(daemon.admin, upload)["status"] == "processing", 10, "an upload in processing")
            daemon.kill()
            with self.assertRaises((http.client.HTTPException, ConnectionError)):
                answer.result()
        daemon.start()
        self.assertEqual(show(daemon.admin, upload)["status"], "active")
        self.assertEqual(daemon.admin.get(f"/api/v1/assets/{upload['id']}").status, 404)
        answer = complete(daemon.admin, upload)
        self.assertEqual(answer.status, 201, answer.body)
        daemon.kill()
        daemon.start()
        again = complete(daemon.admin, upload)
        self.assertEqual((again.status, again.json()["sha256"]), (200, sha256(data)))
        self.assertEqual(first_segment(daemon.anonymous, again.json()).status, 200)
        self.assertEqual(daemon.files("incoming"), [])
        daemon.stop()


class Stalled(support.DaemonCase):
    """A machine that stands still for a while costs nobody a file; a file over which the media process fails again
    and again is given up."""
    settings = {"media.timeout": f"{int(1000 * support.SLOW)}ms", "media.workers": "1"}

    def fail_to_complete(self, upload):
        # One that has only just been started anew would not be held.
        support.eventually(lambda: self.daemon.metric("media_workers") == 1, 10, "a media process")
        with support.MediaHeld(self.daemon):
            response = complete(self.admin, upload)
        self.assertProblem(response, (503, 504))

    def test_tried_again(self):
        data = padded(content("short"), b"again")
        upload = create(self.admin, data)
        send(self.admin, upload, data)
        for _ in range(2):
            self.fail_to_complete(upload)
            self.assertEqual(show(self.admin, upload)["status"], "active")
        response = complete(self.admin, upload)
        self.assertEqual(response.status, 201, response.body[:300])
        self.assertEqual(response.json()["sha256"], sha256(data))

    def test_given_up(self):
        data = padded(content("short"), b"never")
        upload = create(self.admin, data)
        send(self.admin, upload, data)
        tries = 0
        # One that finds no media process started yet says nothing about the file, and does not count.
        while show(self.admin, upload)["status"] == "active" and tries < 10:
            self.fail_to_complete(upload)
            tries += 1
        self.assertEqual(show(self.admin, upload)["status"], "failed")
        self.assertGreaterEqual(tries, 3)
        self.assertProblem(complete(self.admin, upload), (503, 504))
        self.assertNothingStaged()


class Expiry(support.DaemonCase):
    settings = {"upload.expiry": "2s", "upload.min_chunk_size": "1KiB", "playback.default_policy": "public"}

    def gone(self, upload):
        return self.admin.get(f"/api/v1/uploads/{upload['id']}").status == 404

    def test_expiry(self):
        before = self.daemon.metric("upload_expired_total")
        data = content("short")
        done = create(self.admin, data)
        send(self.admin, done, data)
        self.assertEqual(complete(self.admin, done).status, 201)
        left = create(self.admin, bytes(2048), 1024)
        send(self.admin, left, bytes(2048), [0])
        self.assertGreater(show(self.admin, left)["expires_at"], left["expires_at"])
        self.assertTrue(self.daemon.files("incoming"))
        eventually(lambda: self.gone(left), 8, "the removal of an abandoned upload")
        self.assertProblem(put(self.admin, left, 1, bytes(1024)), 404)
        eventually(lambda: not self.daemon.files("incoming"), 3, "an empty folder of staged uploads")
        eventually(lambda: self.gone(done), 8, "a finished upload being forgotten")
        asset = self.admin.get(f"/api/v1/assets/{done['id']}").json()
        self.assertEqual(asset["status"], "ready")
        self.assertEqual(first_segment(self.anonymous, asset).status, 200)
        self.assertEqual(self.daemon.metric("upload_expired_total") - before, 1)


class Quota(support.DaemonCase):
    settings = {"quota.max_bytes": str(3 << 20), "quota.max_in_flight": str(2 << 20), "quota.max_assets": "2"}

    def announce(self, client, size):
        return client.request("POST", "/api/v1/uploads", {"filename": "x.mp4", "size": size})

    def test_in_flight(self):
        client = self.daemon.client("creator", "flight")
        before = self.daemon.metric("quota_exceeded_total")
        first = self.announce(client, 3 << 19).json()
        problem = self.assertProblem(self.announce(client, (1 << 19) + 1), 507, "quota-exceeded")
        self.assertIn("quota of", problem["detail"])
        self.assertEqual(abort(client, first).status, 204)
        self.assertEqual(self.announce(client, 2 << 20).status, 201)
        self.assertGreater(self.daemon.metric("quota_exceeded_total"), before)

    def test_in_flight_at_once(self):
        """Each sees room for itself; the transaction counts."""
        body = json.dumps({"filename": "x.mp4", "size": (3 << 19) - 1}).encode()
        for user in range(8):
            key = self.daemon.client("creator", f"flight-{user}").key
            with contextlib.ExitStack() as stack:
                raws = [stack.enter_context(Raw(self.daemon.port)) for _ in range(32)]
                for raw in raws:
                    raw.send(f"POST /api/v1/uploads HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
                             f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
                for raw in raws:
                    raw.send(body[-1:])
                self.assertEqual(sorted(raw.read_response()[0] for raw in raws), [201] + [507] * 31)

    def test_unfinished_uploads_are_assets_to_be(self):
        """Whoever was told to go ahead is not refused after the last byte."""
        client = self.daemon.client("creator", "several")
        opened = [self.announce(client, 1000) for _ in range(2)]
        self.assertEqual([response.status for response in opened], [201] * 2)
        self.assertProblem(self.announce(client, 1000), 507, "quota-exceeded")
        self.assertProblem(client.upload(clip("short")), 507, "quota-exceeded")
        self.assertEqual(abort(client, opened[0].json()).status, 204)
        self.uploaded(clip("short"), client)
        self.assertProblem(self.announce(client, 1000), 507, "quota-exceeded")
        self.assertEqual(abort(client, opened[1].json()).status, 204)
        data = content("short")
        upload = create(client, data)
        send(client, upload, data)
        self.assertProblem(client.upload(clip("short")), 507, "quota-exceeded")
        self.assertEqual(complete(client, upload).status, 201)

    def test_bytes(self):
        client = self.daemon.client("creator", "bytes")
        data = content("short")
        upload = create(client, data)
        send(client, upload, data)
        self.assertEqual(complete(client, upload).status, 201)
        room = (3 << 20) - len(data)
        filling = self.announce(client, 2 << 20)
        self.assertEqual(filling.status, 201)
        self.assertProblem(self.announce(client, room - (2 << 20) + 1), 507, "quota-exceeded")
        self.assertEqual(abort(client, filling.json()).status, 204)
        self.assertEqual(self.announce(self.daemon.client("creator", "another"), 1 << 20).status, 201)

    def test_assets(self):
        client = self.daemon.client("creator", "assets")
        for _ in range(2):
            self.uploaded(clip("short"), client)
        self.assertProblem(self.announce(client, 10), 507, "quota-exceeded")
        self.assertProblem(client.upload(clip("short")), 507, "quota-exceeded")


if __name__ == "__main__":
    support.main()
