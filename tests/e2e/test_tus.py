"""tus 1.0.0: the protocol and each extension word for word, and what must be refused."""
import concurrent.futures
import contextlib
import email.utils
import os
import re
import threading
import time

import support
from support import Raw, clip, eventually, path_of
from tus_support import BASE, BYTES, TUS, TusCase, checksum, encoded, read


class Protocol(TusCase):
    def test_options(self):
        for path in (BASE, f"{BASE}/01ARZ3NDEKTSV4RRFFQ69G5FAV"):
            answer = self.anonymous.request("OPTIONS", path)
            self.assertEqual(answer.status, 204)
            self.assertEqual(answer.header("Tus-Version"), "1.0.0")
            self.assertEqual(answer.header("Tus-Max-Size"), str(32 << 20))
            self.assertEqual(set(answer.header("Tus-Extension").split(",")), {
                "creation", "creation-with-upload", "creation-defer-length", "checksum", "concatenation",
                "expiration", "termination"})
            self.assertEqual(set(answer.header("Tus-Checksum-Algorithm").split(",")), {"sha1", "sha256", "md5"})
            allow = "POST, OPTIONS" if path == BASE else "HEAD, PATCH, DELETE, OPTIONS"
            self.assertEqual(answer.header("Allow"), allow)

    def test_version(self):
        url = self.create(10)
        for method, path in (("POST", BASE), ("HEAD", url), ("PATCH", url), ("DELETE", url)):
            for wrong in ({}, {"Tus-Resumable": "0.2.2"}, {"Tus-Resumable": "1.0.0, 1.0.0"}):
                headers = {**BYTES, "Upload-Length": "10", "Upload-Offset": "0", **wrong}
                if not wrong:
                    del headers["Tus-Resumable"]
                answer = self.admin.request(method, path, headers=headers)
                self.assertEqual(answer.status, 412, (method, wrong))
                self.assertEqual(answer.header("Tus-Version"), "1.0.0")
                self.assertEqual(answer.header("Tus-Resumable"), "1.0.0")
        self.assertEqual(self.offset(url), 0)

    def test_every_answer_names_the_version(self):
        url = self.create(10)
        for answer in (self.anonymous.request("HEAD", url, headers=TUS), self.patch(url, 5, b"x"),
                       self.head(BASE + "/01ARZ3NDEKTSV4RRFFQ69G5FAV"), self.patch(url, 0, b"x" * 11),
                       self.admin.request("POST", BASE, headers={**TUS, "Upload-Length": "x"}),
                       self.admin.request("POST", BASE, headers={**TUS, "Upload-Length": str(1 << 50)})):
            self.assertGreaterEqual(answer.status, 400)
            self.assertEqual(answer.header("Tus-Resumable"), "1.0.0")

    def test_methods(self):
        url = self.create(10)
        for method, path in (("GET", url), ("PUT", url), ("POST", url), ("GET", BASE), ("PATCH", BASE), ("DELETE", BASE)):
            answer = self.admin.request(method, path, headers=TUS)
            self.assertProblem(answer, 405, "method-not-allowed")
            self.assertIn("OPTIONS", answer.header("Allow"))

    def test_upload_in_pieces(self):
        data = read(clip("short"))
        url = self.create(len(data), Upload_Metadata=encoded(filename="Ein Film.mp4"))
        self.assertRegex(url, rf"^{BASE}/[0-9A-Z]{{26}}$")
        at = 0
        for end in (1, 2, 100_000, 100_000, len(data) - 1):
            answer = self.patch(url, at, data[at:end])
            self.assertEqual(answer.status, 204, answer.body)
            self.assertEqual(answer.header("Upload-Offset"), str(end))
            self.assertIsNone(answer.header("Content-Location"))
            expires = email.utils.parsedate_to_datetime(answer.header("Upload-Expires")).timestamp()
            self.assertAlmostEqual(expires, time.time() + 86400, delta=120)
            head = self.head(url)
            self.assertEqual((head.status, head.header("Upload-Offset")), (200, str(end)))
            self.assertEqual(head.header("Upload-Length"), str(len(data)))
            self.assertEqual(head.header("Upload-Metadata"), encoded(filename="Ein Film.mp4"))
            self.assertIn("no-store", head.header("Cache-Control"))
            self.assertIsNone(head.header("Upload-Defer-Length"))
            at = end
        answer = self.patch(url, at, data[at:])
        self.assertEqual((answer.status, answer.header("Upload-Offset")), (204, str(len(data))))
        asset = self.check_asset(url, data, answer)
        self.assertEqual((asset["filename"], asset["title"]), ("Ein Film.mp4", "Ein Film.mp4"))
        head = self.head(url)
        self.assertEqual((head.status, head.header("Upload-Offset")), (200, str(len(data))))
        # The answer to the last bytes may have been lost: asking again is no mistake; more bytes are.
        self.check_asset(url, data, self.patch(url, len(data), b""))
        self.assertProblem(self.patch(url, len(data), b"x"), 413)
        self.assertGone(url)

    def test_creation_is_refused(self):
        good = {**TUS, "Upload-Length": "10"}
        for headers, status in (
                (TUS, 400), ({**good, "Upload-Defer-Length": "1"}, 400), ({**TUS, "Upload-Defer-Length": "2"}, 400),
                ({**good, "Upload-Concat": "nonsense"}, 400), ({**good, "Upload-Concat": "final;"}, 400),
                ({**good, "Upload-Concat": f"final;{BASE}/01ARZ3NDEKTSV4RRFFQ69G5FAV"}, 400),
                ({**TUS, "Upload-Concat": f"final;{BASE}/01ARZ3NDEKTSV4RRFFQ69G5FAV"}, 400),
                ({**good, "Upload-Metadata": "filename"}, 201), ({**good, "Upload-Metadata": "filename !"}, 400),
                ({**good, "Upload-Metadata": "a,a"}, 400), ({**good, "Upload-Metadata": encoded(filename="a/b")}, 400),
                ({**good, "Upload-Metadata": encoded(policy="open")}, 400),
                ({**good, "Upload-Metadata": encoded(custom="[]")}, 400),
                ({**good, "Upload-Metadata": encoded(title="\0")}, 400),
                ({**TUS, "Upload-Length": "0"}, 400), ({**TUS, "Upload-Length": str((32 << 20) + 1)}, 413),
                ({**TUS, "Upload-Length": str(32 << 20)}, 201)):
            answer = self.admin.request("POST", BASE, headers=headers)
            self.assertEqual(answer.status, status, (headers, answer.body))
        for number in ("-1", "+1", "0x10", "1e3", "1.5", "one", "1 0", str(1 << 63), str(1 << 64), str((1 << 64) + 10)):
            answer = self.admin.request("POST", BASE, headers={**TUS, "Upload-Length": number})
            self.assertProblem(answer, 400)
        with Raw(self.daemon.port) as raw:
            raw.send(f"POST {BASE} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.daemon.admin_key}\r\n"
                     "Tus-Resumable: 1.0.0\r\nUpload-Length: 10\r\nUpload-Length: 20\r\n\r\n")
            self.assertEqual(raw.read_response()[0], 400)

    def test_patch_is_refused(self):
        url = self.create(10)
        self.assertEqual(self.patch(url, 0, b"abc").status, 204)
        for headers, status in (
                ({**BYTES}, 400), ({**TUS, "Upload-Offset": "3"}, 415),
                ({**TUS, "Upload-Offset": "3", "Content-Type": "application/octet-stream"}, 415),
                ({**BYTES, "Upload-Offset": "-3"}, 400), ({**BYTES, "Upload-Offset": "3 "}, 204),
                ({**BYTES, "Upload-Offset": "0x3"}, 400), ({**BYTES, "Upload-Offset": str((1 << 64) + 3)}, 400),
                ({**BYTES, "Upload-Offset": "3", "Upload-Length": "11"}, 400),
                ({**BYTES, "Upload-Offset": "3", "Upload-Length": "x"}, 400),
                ({**BYTES, "Upload-Offset": "3", "Upload-Length": "10"}, 204),
                ({**BYTES, "Upload-Offset": "3", "Upload-Checksum": "sha1"}, 400),
                ({**BYTES, "Upload-Offset": "3", "Upload-Checksum": "crc32 AAAAAA=="}, 400)):
            answer = self.admin.request("PATCH", url, body=b"", headers=headers)
            self.assertEqual(answer.status, status, (headers, answer.body))
        for wrong in (0, 2, 4, 10, 11, 1 << 31, 1 << 32, 1 << 53, (1 << 63) - 1):
            answer = self.patch(url, wrong, b"x")
            self.assertProblem(answer, 409, "conflict")
            self.assertEqual(answer.header("Upload-Offset"), "3")
        for missing in ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "x", "01arz3ndektsv4rrffq69g5fav"):
            self.assertProblem(self.patch(f"{BASE}/{missing}", 0, b"x"), 404, "not-found")
            self.assertEqual(self.head(f"{BASE}/{missing}").status, 404)
        self.assertEqual(self.offset(url), 3)

    def test_owners(self):
        creator, other, viewer = (self.daemon.client(role, name) for role, name in
                                  (("creator", "tus-one"), ("creator", "tus-two"), ("viewer", "tus-viewer")))
        url = self.create(10, creator)
        part = self.create(3, creator, Upload_Concat="partial")
        self.assertEqual(self.patch(part, 0, b"abc", creator).status, 204)
        for client, status in ((other, 403), (viewer, 403), (self.anonymous, 401)):
            self.assertEqual(self.head(url, client).status, status)
            self.assertProblem(self.patch(url, 0, b"x", client), status)
            self.assertProblem(client.request("DELETE", url, headers=TUS), status)
            self.assertProblem(client.request("POST", BASE, headers={**TUS, "Upload-Concat": f"final;{part}"}), status)
        self.assertProblem(viewer.request("POST", BASE, headers={**TUS, "Upload-Length": "1"}), 403)
        self.assertEqual(self.head(url, creator).status, 200)
        self.assertEqual(self.patch(url, 0, b"abc").status, 204)  # an admin may
        self.assertEqual(self.offset(url), 3)

    def test_method_override(self):
        data = read(clip("short"))
        url = self.create(len(data))

        def override(method, headers=None, body=None, name="POST"):
            return self.admin.request(name, url, body=body, headers={
                **TUS, "X-HTTP-Method-Override": method, **(headers or {})})
        half = len(data) // 2
        answer = override("PATCH", {**BYTES, "Upload-Offset": "0"}, data[:half])
        self.assertEqual((answer.status, answer.header("Upload-Offset")), (204, str(half)))
        answer = override("HEAD")
        self.assertEqual((answer.status, answer.header("Upload-Offset")), (200, str(half)))
        for method in ("GET", "PUT", "patch", "OPTIONS", "BREW", ""):  # plain POSTs, which this has no row for
            self.assertProblem(override(method, {**BYTES, "Upload-Offset": str(half)}, data[half:]), 405)
        self.assertProblem(override("DELETE", name="PUT"), 405)  # only a POST may mean something else
        self.check_asset(url, data, override("PATCH", {**BYTES, "Upload-Offset": str(half)}, data[half:]))
        self.assertEqual(override("DELETE").status, 204)
        self.assertEqual(self.head(url).status, 404)
        # Rows that do not say so are not reached: this asset would be gone.
        asset = "/api/v1/assets/" + url.rpartition("/")[2]
        self.assertProblem(self.admin.request("POST", asset, headers={"X-HTTP-Method-Override": "DELETE"}), 405)
        self.assertEqual(self.admin.get(asset).status, 200)

    def test_not_media(self):
        before = len(self.daemon.files("assets"))
        url = self.create(8)
        self.assertProblem(self.patch(url, 0, b"no media"), (415, 422))
        self.assertEqual(self.head(url).status, 410)
        self.assertProblem(self.patch(url, 8, b""), 410, "gone")
        self.assertEqual(len(self.daemon.files("assets")), before)
        self.assertGone(url)
        self.assertEqual(self.admin.request("DELETE", url, headers=TUS).status, 204)
        self.assertEqual(self.head(url).status, 404)

    def test_metrics(self):
        names = ("upload_requests_total", "upload_success_total", "chunk_upload_success_total",
                 "complete_upload_success_total")
        before = [self.daemon.metric(name, kind="tus") for name in names]
        data = read(clip("short"))
        url = self.create(len(data))
        for at in range(0, len(data), 200_000):
            self.assertEqual(self.patch(url, at, data[at:at + 200_000]).status, 204)
        after = [self.daemon.metric(name, kind="tus") for name in names]
        self.assertEqual([b - a for a, b in zip(before, after)], [1, 1, 3, 1])


class Extensions(TusCase):
    def test_metadata(self):
        data = read(clip("short"))
        given = encoded(filename="a.mp4", name="b.mp4", title="Ein Fílm", description="kurz", tags="one, two",
                        policy="public", custom='{"a": 1}', filetype="video/quicktime", relativePath="x") + ",empty"
        url = self.create(len(data), Upload_Metadata=given)
        self.assertEqual(self.head(url).header("Upload-Metadata"), given)
        asset = self.check_asset(url, data, self.patch(url, 0, data))
        self.assertEqual((asset["filename"], asset["title"], asset["description"]), ("a.mp4", "Ein Fílm", "kurz"))
        self.assertEqual((asset["tags"], asset["playback_policy"], asset["custom"]), (["one", "two"], "public", {"a": 1}))
        self.assertEqual(asset["content_type"], "video/mp4")
        self.assertEqual(self.anonymous.get(f"/stream/{asset['id']}/source").status, 200)

    def test_nameless(self):
        data = read(clip("short"))
        for metadata, name in ((encoded(name="b.mp4"), "b.mp4"), (encoded(title="T"), "upload")):
            url = self.create(len(data), Upload_Metadata=metadata)
            self.assertEqual(self.check_asset(url, data, self.patch(url, 0, data))["filename"], name)

    def test_deferred_length(self):
        data = read(clip("short"))
        half = len(data) // 2
        url = self.create(Upload_Defer_Length="1")
        head = self.head(url)
        self.assertEqual((head.header("Upload-Defer-Length"), head.header("Upload-Length")), ("1", None))
        self.assertEqual(self.patch(url, 0, data[:half]).status, 204)
        for wrong, status in ((half - 1, 400), ((32 << 20) + 1, 413), (half + 1, 413)):
            body = data[half:] if wrong == half + 1 else b""
            self.assertProblem(self.patch(url, half, body, Upload_Length=str(wrong)), status)
        self.assertEqual(self.head(url).header("Upload-Defer-Length"), "1")
        answer = self.patch(url, half, data[half:-1], Upload_Length=str(len(data)))
        self.assertEqual(answer.status, 204, answer.body)
        head = self.head(url)
        self.assertEqual((head.header("Upload-Length"), head.header("Upload-Defer-Length")), (str(len(data)), None))
        self.assertProblem(self.patch(url, len(data) - 1, data[-1:], Upload_Length=str(len(data) + 1)), 400)
        self.check_asset(url, data, self.patch(url, len(data) - 1, data[-1:], Upload_Length=str(len(data))))

    def test_length_after_the_last_byte(self):
        data = read(clip("short"))
        url = self.create(Upload_Defer_Length="1")
        self.assertEqual(self.patch(url, 0, data).status, 204)
        self.check_asset(url, data, self.patch(url, len(data), b"", Upload_Length=str(len(data))))

    def test_deferred_length_is_bounded(self):
        url = self.create(Upload_Defer_Length="1")
        block = b"x" * (1 << 20)
        for i in range(32):
            self.assertEqual(self.patch(url, i << 20, block).status, 204)
        self.assertProblem(self.patch(url, 32 << 20, b"x"), 413)
        with Raw(self.daemon.port) as raw:
            self.raw_patch(raw, url, 32 << 20, "Transfer-Encoding: chunked").send("1\r\nx\r\n0\r\n\r\n")
            self.assertEqual(raw.read_response()[0], 413)
        self.assertEqual(self.offset(url), 32 << 20)
        self.assertEqual(self.admin.request("DELETE", url, headers=TUS).status, 204)

    def test_checksum(self):
        data = read(clip("short"))
        url = self.create(len(data))
        third = len(data) // 3
        for i, algorithm in enumerate(("sha1", "sha256", "md5")):
            at, end = i * third, (i + 1) * third if i < 2 else len(data)
            for wrong in (checksum(algorithm, data[at:end] + b"x"), checksum(algorithm, b"")):
                answer = self.patch(url, at, data[at:end], Upload_Checksum=wrong)
                self.assertProblem(answer, 460, "checksum-mismatch")
                self.assertEqual(self.offset(url), at)
            answer = self.patch(url, at, data[at:end], Upload_Checksum=checksum(algorithm, data[at:end]))
            self.assertEqual(answer.status, 204, answer.body)
        self.check_asset(url, data, answer)

    def test_checksum_of_a_broken_body(self):
        """Larger than upload.commit_bytes, so that without a checksum some of it would have been stored on the way."""
        data = b"x" * 1_000_000
        url = self.create(len(data))
        raw = self.raw_patch(Raw(self.daemon.port), url, 0, f"Upload-Checksum: {checksum('sha1', data)}\r\n"
                             f"Content-Length: {len(data)}")
        raw.send(data[:900_000])
        self.wait_received(1)
        raw.close()
        self.wait_received(0)
        self.assertEqual(self.patch(url, 0, b"", Upload_Checksum=checksum("sha1", b"")).status, 204)
        self.assertEqual(self.offset(url), 0)

    def test_nothing_is_left_behind_the_end(self):
        """Bytes that did not count lie behind the end that the upload is given later."""
        data = read(clip("short"))
        url = self.create(Upload_Defer_Length="1")
        junk = b"\0" * (2 * len(data))
        self.assertProblem(self.patch(url, 0, junk, Upload_Checksum=checksum("md5", data)), 460)
        answer = self.patch(url, 0, data, Upload_Length=str(len(data)))
        asset = self.check_asset(url, data, answer)
        self.assertEqual(os.path.getsize(os.path.join(self.daemon.data, "assets", asset["id"][-2:], asset["id"],
                                                      "source")), len(data))

    def test_creation_with_upload(self):
        data = read(clip("short"))
        half = len(data) // 2
        base = {**BYTES, "Upload-Length": str(len(data))}
        answer = self.admin.request("POST", BASE, body=data[:half], headers=base)
        self.assertEqual((answer.status, answer.header("Upload-Offset")), (201, str(half)))
        self.assertIsNotNone(answer.header("Upload-Expires"))
        url = path_of(answer.header("Location"))
        self.check_asset(url, data, self.patch(url, half, data[half:]))
        answer = self.admin.request("POST", BASE, body=data, headers={**base, "Upload-Checksum": checksum("md5", data)})
        self.assertEqual((answer.status, answer.header("Upload-Offset")), (201, str(len(data))))
        self.check_asset(path_of(answer.header("Location")), data, answer)

    def test_creation_with_upload_is_refused(self):
        data = read(clip("short"))
        before = self.daemon.files("incoming")
        base = {**BYTES, "Upload-Length": str(len(data))}
        for headers, status, slug in (
                ({**base, "Content-Type": "video/mp4"}, 415, "unsupported-media"),
                ({**base, "Upload-Length": "10"}, 413, "content-too-large"),
                ({**base, "Upload-Checksum": checksum("md5", b"x")}, 460, "checksum-mismatch"),
                ({**base, "Upload-Checksum": "md5"}, 400, None),
                ({**base, "Upload-Concat": f"final;{BASE}/01ARZ3NDEKTSV4RRFFQ69G5FAV"}, 400, None)):
            answer = self.admin.request("POST", BASE, body=data, headers=headers)
            self.assertProblem(answer, status, slug)
            self.assertIsNone(answer.header("Location"))
        with Raw(self.daemon.port) as raw:
            raw.send(f"POST {BASE} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.daemon.admin_key}\r\n"
                     "Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\nUpload-Length: 10\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n14\r\n" + "x" * 20 + "\r\n0\r\n\r\n")
            self.assertEqual(raw.read_response()[0], 413)
        eventually(lambda: self.daemon.files("incoming") == before, 5, "what was refused to go")

    def parts(self, data, cuts, client=None):
        urls = []
        for at, end in zip((0, *cuts), (*cuts, len(data))):
            url = self.create(end - at, client, Upload_Concat="partial")
            if end > at:
                answer = self.patch(url, 0, data[at:end], client)
                self.assertEqual(answer.status, 204, answer.body)
                self.assertIsNone(answer.header("Content-Location"))
            urls.append(url)
        return urls

    def concat(self, urls, client=None, **headers):
        return (client or self.admin).request("POST", BASE, headers={
            **TUS, "Upload-Concat": "final;" + " ".join(urls), **{n.replace("_", "-"): v for n, v in headers.items()}})

    def test_concatenation(self):
        data = read(clip("short"))
        urls = self.parts(data, (100_000, 100_000, 300_001))
        head = self.head(urls[0])
        self.assertEqual((head.header("Upload-Concat"), head.header("Upload-Offset")), ("partial", "100000"))
        urls[0] = f"http://127.0.0.1:{self.daemon.port}{urls[0]}"  # absolute and relative ones, as the protocol says
        answer = self.concat(urls, Upload_Metadata=encoded(filename="whole.mp4", tags="joined"))
        self.assertEqual(answer.status, 201, answer.body)
        url = path_of(answer.header("Location"))
        asset = self.check_asset(url, data, answer)
        self.assertEqual((asset["filename"], asset["tags"]), ("whole.mp4", ["joined"]))
        head = self.head(url)
        self.assertEqual(head.header("Upload-Concat"), "final;" + " ".join(urls))  # as it was received
        self.assertEqual((head.header("Upload-Length"), head.header("Upload-Offset")), (str(len(data)),) * 2)
        self.assertProblem(self.patch(url, len(data), b"x"), 403)
        self.assertProblem(self.patch(url, 0, b"x"), 403)
        for part in urls[1:]:
            self.assertEqual(self.head(part).status, 404)
        # The answer may have been lost: the same wish gets the same upload, of the same user.
        again = self.concat(urls)
        self.assertEqual((again.status, path_of(again.header("Location"))), (201, url), again.body)
        self.assertEqual(again.header("Content-Location"), answer.header("Content-Location"))
        self.assertProblem(self.concat(urls[1:]), 400)
        self.assertProblem(self.concat(urls, self.daemon.client("creator", "other-joiner")), 400)
        self.assertGone(url, *urls)

    def test_concatenated_once(self):
        """Of several that join the same parts at once, one does: their bytes would count for nobody the second time."""
        data = read(clip("short"))
        for _ in range(5):
            urls, answers, before = self.parts(data, (1000, 2000)), [], len(self.daemon.ready_assets())
            joiners = [threading.Thread(target=lambda urls=urls, answers=answers: answers.append(self.concat(urls)))
                       for _ in range(4)]
            for joiner in joiners:
                joiner.start()
            for joiner in joiners:
                joiner.join()
            done = [answer for answer in answers if answer.status == 201]
            self.assertTrue(done, [answer.status for answer in answers])
            self.assertEqual(len({answer.header("Location") for answer in done}), 1)
            for answer in answers:
                self.assertIn(answer.status, (201, 400, 409), answer.body)
            self.check_asset(path_of(done[0].header("Location")), data, done[0])
            self.assertEqual(len(self.daemon.ready_assets()), before + 1)

    def test_concatenation_is_refused(self):
        data = read(clip("short"))
        whole = self.create(10)
        first, second = self.parts(data, (1000,))
        broken = self.create(10, Upload_Concat="partial")
        deferred = self.create(Upload_Concat="partial", Upload_Defer_Length="1")
        for urls, status in (
                ([first, broken], 409), ([first, deferred], 409), ([first, whole], 400), ([first, first], 400),
                ([first, f"{BASE}/01ARZ3NDEKTSV4RRFFQ69G5FAV"], 400), ([first, "/api/v1/uploads/x"], 400),
                ([first + "," + second], 400)):
            self.assertProblem(self.concat(urls), status)
        self.assertEqual(self.concat([first] * 1001).status, 431)
        big = self.parts(b"\0" * (17 << 20), ())[0]
        again = self.parts(b"\0" * (16 << 20), ())[0]
        self.assertProblem(self.concat([big, again]), 413)
        self.assertProblem(self.concat([second, first]), (415, 422))  # the wrong way round is no film
        answer = self.concat([first, second])  # after all of that the parts are what they were
        self.assertEqual(answer.status, 201, answer.body)
        self.check_asset(path_of(answer.header("Location")), data, answer)
        for url in (whole, broken, deferred, big, again):
            self.assertEqual(self.admin.request("DELETE", url, headers=TUS).status, 204)
        self.assertGone(whole, broken, deferred, big, again, first, second)

    def test_many_parts(self):
        """As many as a head takes: HEAD gives all of them back."""
        data = read(clip("short"))
        n = 350
        urls = self.parts(data, tuple(range(1000, 1000 * n, 1000)))
        answer = self.concat(urls)
        self.assertEqual(answer.status, 201, answer.body)
        url = path_of(answer.header("Location"))
        self.check_asset(url, data, answer)
        self.assertEqual(len(self.head(url).header("Upload-Concat").split()), n)

    def test_termination(self):
        url = self.create(1000)
        self.assertEqual(self.patch(url, 0, b"abc").status, 204)
        hung = self.hanging(url, 3, 997, b"x")
        self.wait_received(1)
        self.assertEqual(self.admin.request("DELETE", url, headers=TUS).status, 204)
        self.assertEqual(self.head(url).status, 404)
        self.assertProblem(self.admin.request("DELETE", url, headers=TUS), 404)
        hung.send(b"x" * 996)
        self.assertEqual(hung.read_response()[0], 409)
        self.assertEqual(self.head(url).status, 404)
        self.assertGone(url)


class Rates(TusCase):
    settings = {**TusCase.settings, "ratelimit.upload": "100/10", "ratelimit.default": "1000/100"}  # as they are by default

    def test_small_chunks_are_parts_of_one_upload(self):
        """A client that sends chunk after chunk is not told to come again: most give up then."""
        data = read(clip("short"))
        url, step = self.create(len(data)), len(data) // 250 + 1
        for at in range(0, len(data), step):
            answer = self.patch(url, at, data[at:at + step])
            self.assertEqual(answer.status, 204, (at, answer.body))
        self.check_asset(url, data)


class Expiry(TusCase):
    settings = {**TusCase.settings, "upload.expiry": "2s"}

    def test_expires(self):
        url = self.create(10)
        self.assertEqual(self.patch(url, 0, b"abc").status, 204)
        head = self.head(url)
        expires = email.utils.parsedate_to_datetime(head.header("Upload-Expires")).timestamp()
        self.assertLess(abs(expires - time.time()), 10)
        eventually(lambda: self.head(url).status == 404, 15, "an upload that expires")
        self.assertProblem(self.patch(url, 3, b"x"), 404)
        self.assertGone(url)


class Quota(TusCase):
    settings = {**TusCase.settings, "quota.max_bytes": "1MiB"}

    def test_quota(self):
        data = read(clip("short"))
        creator = self.daemon.client("creator", "tus-quota")
        answer = creator.request("POST", BASE, headers={**TUS, "Upload-Length": str((1 << 20) + 1)})
        self.assertProblem(answer, 507, "quota-exceeded")
        url = self.create(None, creator, Upload_Defer_Length="1")
        self.assertProblem(self.patch(url, 0, b"x" * ((1 << 20) + 1), creator), 507, "quota-exceeded")
        self.assertProblem(self.patch(url, 0, b"", creator, Upload_Length=str((1 << 20) + 1)), 507, "quota-exceeded")
        self.assertEqual(creator.request("DELETE", url, headers=TUS).status, 204)
        # The parts hold the bytes of the whole: they count once.
        self.assertGreater(3 * len(data), 1 << 20)
        first = self.create(1000, creator, Upload_Concat="partial")
        second = self.create(len(data) - 1000, creator, Upload_Concat="partial")
        padding = self.create((1 << 20) - len(data), creator)
        self.assertEqual(self.patch(first, 0, data[:1000], creator).status, 204)
        self.assertEqual(self.patch(second, 0, data[1000:], creator).status, 204)
        answer = creator.request("POST", BASE, headers={**TUS, "Upload-Concat": f"final;{first} {second}"})
        self.assertEqual(answer.status, 201, answer.body)
        self.assertEqual(creator.request("DELETE", padding, headers=TUS).status, 204)


    def test_quota_of_unknown_length(self):
        """Neither the body nor the upload says how long it gets: it ends where the quota does."""
        creator = self.daemon.client("creator", "tus-quota-unknown")
        url = self.create(None, creator, Upload_Defer_Length="1")
        piece = b"x" * (1 << 20)
        with Raw(self.daemon.port) as raw:
            self.raw_patch(raw, url, 0, "Transfer-Encoding: chunked", creator.key)
            with contextlib.suppress(ConnectionError):
                for _ in range(20):
                    raw.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                raw.send("0\r\n\r\n")
            status, _, body = raw.read_response()
        self.assertEqual(status, 507, body)
        self.assertIn(b"quota-exceeded", body)
        self.assertLessEqual(int(self.head(url, creator).header("Upload-Offset")), 1 << 20)
        self.assertEqual(creator.request("DELETE", url, headers=TUS).status, 204)

    def test_deferred_lengths_at_once(self):
        """Of uploads that say their lengths together only as many may as the quota has room for."""
        creator = self.daemon.client("creator", "tus-quota-together")
        urls = [self.create(None, creator, Upload_Defer_Length="1") for _ in range(16)]
        with concurrent.futures.ThreadPoolExecutor(len(urls)) as pool:
            answers = list(pool.map(lambda url: self.patch(url, 0, b"", creator, Upload_Length=str(1 << 19)), urls))
        self.assertEqual(sorted(answer.status for answer in answers), [204] * 2 + [507] * 14)


class Crossing(TusCase):
    settings = {**TusCase.settings, "server.cors_origins": "https://app.example"}

    def test_preflight(self):
        wanted = ("authorization", "content-type", "tus-resumable", "upload-length", "upload-offset", "upload-metadata",
                  "upload-checksum", "upload-concat", "upload-defer-length", "x-http-method-override")
        for path, methods in ((BASE, {"POST"}), (f"{BASE}/01ARZ3NDEKTSV4RRFFQ69G5FAV", {"HEAD", "PATCH", "DELETE"})):
            for method in methods:
                answer = self.anonymous.request("OPTIONS", path, headers={
                    "Origin": "https://app.example", "Access-Control-Request-Method": method,
                    "Access-Control-Request-Headers": ",".join(wanted)})
                self.assertEqual(answer.status, 204)
                self.assertEqual(answer.header("Access-Control-Allow-Origin"), "https://app.example")
                self.assertLessEqual(methods, set(answer.header("Access-Control-Allow-Methods").split(", ")))
                allowed = {name.lower() for name in answer.header("Access-Control-Allow-Headers").split(", ")}
                self.assertLessEqual(set(wanted), allowed)

    def test_exposed(self):
        answer = self.admin.request("POST", BASE, headers={**TUS, "Upload-Length": "10", "Origin": "https://app.example"})
        exposed = set(answer.header("Access-Control-Expose-Headers").split(", "))
        self.assertLessEqual({
            "Location", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm",
            "Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Expires", "Upload-Defer-Length",
            "Upload-Concat", "Content-Location"}, exposed)
        self.assertLessEqual({name for name in answer.headers if re.match("(?i)tus-|upload-", name)}, exposed)


if __name__ == "__main__":
    support.main()
