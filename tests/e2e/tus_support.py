"""What the tests of tus stand on: requests as the protocol words them."""
import base64
import hashlib

import support
from support import Raw, eventually, path_of

BASE = "/api/v1/tus"
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}


def encoded(**pairs):
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())


def checksum(algorithm, data):
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


def read(path):
    with open(path, "rb") as file:
        return file.read()


class TusCase(support.DaemonCase):
    settings = {"upload.max_size": "32MiB", "upload.commit_bytes": "64KiB"}

    def create(self, length=None, client=None, **headers):
        """The path of a new upload."""
        sent = {**TUS, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if length is not None:
            sent["Upload-Length"] = str(length)
        answer = (client or self.admin).request("POST", BASE, headers=sent)
        self.assertEqual(answer.status, 201, answer.body)
        return path_of(answer.header("Location"))

    def patch(self, url, offset, data, client=None, **headers):
        sent = {**BYTES, "Upload-Offset": str(offset), **{n.replace("_", "-"): v for n, v in headers.items()}}
        return (client or self.admin).request("PATCH", url, body=data, headers=sent)

    def head(self, url, client=None):
        return (client or self.admin).request("HEAD", url, headers=TUS)

    def offset(self, url):
        answer = self.head(url)
        self.assertEqual(answer.status, 200)
        return int(answer.header("Upload-Offset"))

    def wait_offset(self, url, offset):
        eventually(lambda: self.offset(url) == offset, 10, f"offset {offset} of {url}")

    def check_asset(self, url, data, answer=None):
        """The asset of a complete upload holds exactly the data. Its JSON."""
        path = "/api/v1/assets/" + url.rpartition("/")[2]
        if answer is not None:
            self.assertIn(answer.status, (201, 204), answer.body)
            self.assertEqual(answer.header("Content-Location"), path)
        asset = self.admin.get(path)
        self.assertEqual(asset.status, 200, asset.body)
        asset = asset.json()
        self.assertEqual((asset["status"], asset["size"]), ("ready", len(data)))
        source = self.anonymous.get(path_of(asset["playback"]["source"]))
        self.assertEqual(hashlib.sha256(source.body).digest(), hashlib.sha256(data).digest())
        return asset

    def raw_patch(self, raw, url, offset, framing, key=None):
        raw.send(f"PATCH {url} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key or self.daemon.admin_key}\r\n"
                 f"Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n"
                 f"Upload-Offset: {offset}\r\n{framing}\r\n\r\n")
        return raw

    def assertGone(self, *urls):
        """Nothing is left of the files of these uploads."""
        ids = {url.rpartition("/")[2] for url in urls}
        eventually(lambda: not ids & {name.rpartition("/")[2] for name in self.daemon.files("incoming")}, 5,
                   "the files of these uploads to go")

    def hanging(self, url, offset, length, sent):
        """A PATCH of `length` bytes of which only `sent` come."""
        raw = self.raw_patch(Raw(self.daemon.port), url, offset, f"Content-Length: {length}")
        self.addCleanup(raw.close)
        return raw.send(sent)

    def wait_received(self, count):
        eventually(lambda: self.daemon.metric("uploads_in_flight") == count, 10, f"{count} bodies in flight")
