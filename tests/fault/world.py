"""What clients were told, the clients, and the comparison with what is there after the fault.

Invariant: an object changes to a final state in the model only on a whole answer; before a request that may end
it, its state says that both outcomes are possible. An object is worked on by one thread at a time.
"""
import base64
import hashlib
import random
import re
import threading
import time

from common import Content, Lost, log_uniform, pieces, say, support
from compare import Comparison

API = "/api/v1"
ULID = r"[0-9A-HJKMNP-TV-Z]{26}"
WORKERS = 6
PRUNE_ABOVE = 40  # assets
OPEN_MOST = 30    # unfinished uploads kept for later


class Unknown(Exception):
    """The request's outcome is not known: the worker ends, the comparison finds out."""


class Asset:
    """state: there, deleting (either is right), gone."""

    def __init__(self, id_, content):
        self.id, self.content, self.state, self.played = id_, content, "there", False


class Chunked:
    """state: active, completing, done, deleting, gone. acked: numbers of the chunks that were answered 200."""
    kind = "chunked"

    def __init__(self, id_, content, chunk_size):
        self.id, self.content, self.chunk_size = id_, content, chunk_size
        self.acked, self.state = set(), "active"
        self.total = -(-content.size // chunk_size)

    def chunk(self, n):
        return self.content.data[n * self.chunk_size:(n + 1) * self.chunk_size]


class Tus:
    """state: active, deleting, gone, done; a partial one also: joining, and joined, when it may stay until it expires.
    acked: the highest Upload-Offset told."""
    kind = "tus"

    def __init__(self, id_, data, content, partial=False):
        self.id, self.data, self.content, self.partial = id_, data, content, partial
        self.acked, self.state = 0, "active"
        self.deferred = False


class Joined:
    """Partial uploads that were, or may have been, made into one asset."""

    def __init__(self, content, parts):
        self.content, self.parts = content, parts


class World:
    """answers_end: with the fault answers end too, as in a power cut. The cut of a file system is not of one moment: an
    fdatasync that is under way can still report success for what is lost, to a daemon that goes on running."""

    def __init__(self, daemon, failures, features, answers_end=False):
        self.answers_end = answers_end
        self.daemon, self.failures, self.features = daemon, failures, features
        self.assets, self.uploads, self.joined = {}, {}, []
        self.contents = {}
        self.lock = threading.Lock()  # guards the containers, busy and operations
        self.busy = set()
        self.ended = threading.Event()
        self.operations = 0
        self.answered, self.fault_at = {}, None

    # ---- requests ----

    def ask(self, expected, method, path, body=None, headers=None):
        client = self.daemon.client
        try:
            response = client.request(method, path, body=body, headers=headers)
        except Lost as error:
            if not self.ended.is_set():
                self.failures.add(f"no answer before the fault: {error}; {self.daemon.log_tail(600)}")
            raise Unknown from error
        if response.status not in expected:
            if not self.ended.is_set():
                self.failures.add(f"{method} {path}: {response.status}, not {expected}: {response.body[:300]!r}")
            raise Unknown
        if self.answers_end and self.ended.is_set():
            raise Unknown
        with self.lock:
            self.operations += 1
            for id_ in re.findall(ULID, path + (response.header("Location") or "")):
                self.answered[id_] = time.monotonic()
        return response

    def when(self, id_):
        """How long before the fault the last answer about id_ came, for the text of a failure."""
        if id_ not in self.answered or self.fault_at is None:
            return "not in this trial"
        return f"{(self.fault_at - self.answered[id_]) * 1000:.1f} ms before the fault"

    def content(self, rng):
        with self.lock:
            known = list(self.contents.values())
        if known and rng.random() < 0.1:
            return rng.choice(known)  # the same bytes again: stored once
        made = Content(rng.getrandbits(60), int(log_uniform(rng, 8000, 1500000)))
        with self.lock:
            self.contents[made.sha256] = made
        return made

    def add_asset(self, id_, content):
        with self.lock:
            self.assets.setdefault(id_, Asset(id_, content))

    def made(self, response, content):
        """An answer that acknowledges an asset."""
        asset = response.json()
        self.failures.check(asset["sha256"] == content.sha256, lambda: f"{asset['id']}: answered another sha256")
        self.failures.check(asset["status"] == "ready", lambda: f"{asset['id']}: answered {asset['status']}")
        self.add_asset(asset["id"], content)

    def take(self, rng, candidates):
        """One of candidates() for this thread alone, or None."""
        with self.lock:
            free = [x for x in candidates() if x.id not in self.busy]
            if not free:
                return None
            chosen = rng.choice(free)
            self.busy.add(chosen.id)
            return chosen

    def leave(self, thing):
        with self.lock:
            self.busy.discard(thing.id)

    # ---- operations ----

    def raw(self, rng):
        content = self.content(rng)
        headers = {"Content-Length": str(content.size)}
        if rng.random() < 0.3:
            digest = base64.b64encode(bytes.fromhex(content.sha256)).decode()
            headers["Content-Digest"] = f"sha-256=:{digest}:"
        body = pieces(content.data, rng, rng.choice((0, 0, 0.002)))
        self.made(self.ask((201,), "PUT", f"{API}/upload/f.mp4", body, headers), content)

    def delete_asset(self, rng):
        asset = self.take(rng, lambda: [a for a in self.assets.values() if a.state == "there"])
        if asset is None:
            return
        asset.state = "deleting"
        self.ask((204,), "DELETE", f"{API}/assets/{asset.id}")
        asset.state = "gone"
        self.leave(asset)

    def play(self, rng):
        asset = self.take(rng, lambda: [a for a in self.assets.values() if a.state == "there"])
        if asset is None:
            return
        start = rng.randrange(asset.content.size)
        got = self.ask((206,), "GET", f"/stream/{asset.id}/source", headers={"Range": f"bytes={start}-"})
        self.failures.check(got.body == asset.content.data[start:], lambda: f"{asset.id}: the source differs")
        self.leave(asset)

    def chunked(self, rng):
        content = self.content(rng)
        wish = {"filename": "c.mp4", "size": content.size, "chunk_size": rng.choice((4096, 20000, 65536, 300000))}
        if rng.random() < 0.5:
            wish["sha256"] = content.sha256
        made = self.ask((201,), "POST", f"{API}/uploads", wish).json()
        upload = Chunked(made["id"], content, made["chunk_size"])
        with self.lock:
            self.uploads[upload.id] = upload
            self.busy.add(upload.id)
        self.continue_chunked(upload, rng)

    def put_chunks(self, upload, numbers, rng):
        while numbers:
            try:
                n = numbers.pop()
            except IndexError:
                return
            data = upload.chunk(n)
            headers = {"Content-Length": str(len(data))}
            if rng.random() < 0.5:
                digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
                headers["Content-Digest"] = f"sha-256=:{digest}:"
            self.ask((200,), "PUT", f"{API}/uploads/{upload.id}/chunks/{n}", pieces(data, rng, 0), headers)
            upload.acked.add(n)

    def in_parallel(self, jobs):
        """Runs the jobs on threads of their own; Unknown when one of them ended so."""
        lost = []

        def run(job):
            try:
                job()
            except Unknown:
                lost.append(True)
        threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if lost:
            raise Unknown

    def continue_chunked(self, upload, rng):
        numbers = [n for n in range(upload.total) if n not in upload.acked]
        rng.shuffle(numbers)
        leave_some = rng.random() < 0.2 and len(numbers) > 1
        rest = numbers[:rng.randrange(1, len(numbers))] if leave_some else []
        numbers = numbers[len(rest):]
        seeds = [rng.getrandbits(60) for _ in range(rng.choice((1, 2, 3)))]
        self.in_parallel([lambda s=s: self.put_chunks(upload, numbers, random.Random(s)) for s in seeds])
        if rng.random() < 0.1:
            self.delete_upload(upload)
        elif not rest:
            upload.state = "completing"
            wish = {"sha256": upload.content.sha256} if rng.random() < 0.5 else None
            self.made(self.ask((200, 201), "POST", f"{API}/uploads/{upload.id}/complete", wish), upload.content)
            upload.state = "done"
        self.leave(upload)

    def delete_upload(self, upload):
        upload.state = "deleting"
        path = f"{API}/uploads/{upload.id}" if upload.kind == "chunked" else f"{API}/tus/{upload.id}"
        self.ask((204,), "DELETE", path)
        upload.state = "gone"

    def create_tus(self, rng, data, content, partial=False):
        headers = {"Upload-Metadata": "filename " + base64.b64encode(b"t.mp4").decode()}
        deferred = rng.random() < 0.2
        if deferred:
            headers["Upload-Defer-Length"] = "1"
        else:
            headers["Upload-Length"] = str(len(data))
        if partial:
            headers["Upload-Concat"] = "partial"
        first = b""
        if rng.random() < 0.3 and not deferred:
            first = data[:rng.randrange(1, len(data))]
            headers["Content-Type"] = "application/offset+octet-stream"
            headers["Content-Length"] = str(len(first))
        response = self.ask((201,), "POST", f"{API}/tus", first or None, headers)
        upload = Tus(response.header("Location").rsplit("/", 1)[1], data, content, partial)
        upload.deferred = deferred
        upload.acked = int(response.header("Upload-Offset") or 0)
        if first:
            self.failures.check(upload.acked == len(first), lambda: f"{upload.id}: created with {upload.acked}")
        with self.lock:
            self.uploads[upload.id] = upload
            self.busy.add(upload.id)
        return upload

    def patch(self, upload, rng, until):
        while upload.acked < until:
            n = min(until - upload.acked, int(log_uniform(rng, 1000, 400000)))
            data = upload.data[upload.acked:upload.acked + n]
            headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(upload.acked),
                       "Content-Length": str(n)}
            if upload.deferred:
                headers["Upload-Length"] = str(len(upload.data))
            if rng.random() < 0.3:
                algorithm = rng.choice(("sha1", "sha256", "md5"))
                digest = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
                headers["Upload-Checksum"] = f"{algorithm} {digest}"
            body = pieces(data, rng, rng.choice((0, 0, 0.002)))
            response = self.ask((204,), "PATCH", f"{API}/tus/{upload.id}", body, headers)
            told = int(response.header("Upload-Offset"))
            self.failures.check(told == upload.acked + n,
                                lambda: f"{upload.id}: {told} after {n} more than {upload.acked}")
            upload.acked, upload.deferred = told, False

    def tus(self, rng):
        content = self.content(rng)
        self.continue_tus(self.create_tus(rng, content.data, content), rng)

    def continue_tus(self, upload, rng):
        length = len(upload.data)
        whole = rng.random() > 0.2
        self.patch(upload, rng, length if whole else rng.randrange(upload.acked, length))
        if upload.acked == length and not upload.partial:
            upload.state = "done"
            self.add_asset(upload.id, upload.content)
        elif rng.random() < 0.1:
            self.delete_upload(upload)
        self.leave(upload)

    def concatenated(self, rng):
        content = self.content(rng)
        count = rng.choice((2, 3))
        cuts = [content.size * i // count for i in range(count + 1)]
        parts = [self.create_tus(rng, content.data[a:b], content, True) for a, b in zip(cuts, cuts[1:])]
        seeds = [rng.getrandbits(60) for _ in parts]
        self.in_parallel([lambda p=p, s=s: self.patch(p, random.Random(s), len(p.data)) for p, s in zip(parts, seeds)])
        for part in parts:
            part.state = "joining"
        with self.lock:
            self.joined.append(Joined(content, parts))
        urls = " ".join(f"{API}/tus/{p.id}" for p in parts)
        response = self.ask((201,), "POST", f"{API}/tus", headers={"Upload-Concat": f"final;{urls}"})
        self.add_asset(response.header("Location").rsplit("/", 1)[1], content)
        for part in parts:
            part.state = "joined"
            self.leave(part)

    def resume(self, rng):
        upload = self.take(rng, lambda: [u for u in self.uploads.values() if u.state == "active"])
        if upload is None:
            return
        if upload.kind == "chunked":
            self.continue_chunked(upload, rng)
        elif upload.partial:
            self.patch(upload, rng, len(upload.data))
            self.delete_upload(upload)
            self.leave(upload)
        else:
            self.continue_tus(upload, rng)

    # ---- a trial's load ----

    def operation(self, rng):
        with self.lock:
            n_assets = sum(a.state == "there" for a in self.assets.values())
            n_open = sum(u.state == "active" for u in self.uploads.values())
        wanted = [(self.raw, 4), (self.delete_asset, 6 if n_assets > PRUNE_ABOVE else 1), (self.play, 1)]
        if "chunked" in self.features:
            wanted.append((self.chunked, 4))
        if "tus" in self.features:
            wanted += [(self.tus, 4), (self.concatenated, 2)]
        if n_open:
            wanted.append((self.resume, 12 if n_open > OPEN_MOST else 2))
        return rng.choices([w[0] for w in wanted], [w[1] for w in wanted])[0]

    def work(self, seed):
        rng = random.Random(seed)
        while not self.ended.is_set():
            try:
                self.operation(rng)(rng)
            except Unknown:
                return

    def fault(self):
        """From now on an answer may stay away."""
        self.fault_at = time.monotonic()
        self.ended.set()

    def begin(self, rng, workers=WORKERS):
        self.ended.clear()
        self.answered.clear()
        self.busy.clear()
        self.threads = [threading.Thread(target=self.work, args=(rng.getrandbits(60),), daemon=True)
                        for _ in range(workers)]
        for thread in self.threads:
            thread.start()

    def settle(self):
        """After the fault: until every client has noticed."""
        for thread in self.threads:
            thread.join(60 * support.SLOW)
            if thread.is_alive():
                self.failures.add("a client waits for an answer that never comes")

    def forget_assets(self, keep):
        """Deletes all but the first ones, so that comparing stays quick; their contents are forgotten next time."""
        kept = {x.content.sha256 for x in (*self.assets.values(), *self.uploads.values())}
        self.contents = {sha: content for sha, content in self.contents.items() if sha in kept}
        for asset in list(self.assets.values())[keep:]:
            asset.state = "deleting"
            if self.daemon.client.request("DELETE", f"{API}/assets/{asset.id}").status == 204:
                asset.state = "gone"

    def compare(self):
        Comparison(self).run()

    def finish_everything(self, rng):
        """The end of a data directory: every open upload is continued to its end, then all is compared."""
        self.finish_uploads(rng)
        for asset in self.assets.values():
            asset.played = False
        self.compare()

    def finish_uploads(self, rng):
        """What is missing is sent, and nothing else."""
        self.ended.clear()
        self.busy.clear()
        for upload in list(self.uploads.values()):
            if upload.state != "active":
                continue
            try:
                if upload.kind == "chunked":
                    missing = [n for n in range(upload.total) if n not in upload.acked]
                    self.put_chunks(upload, missing, rng)
                    self.made(self.ask((200, 201), "POST", f"{API}/uploads/{upload.id}/complete"), upload.content)
                    upload.state = "done"
                elif not upload.partial:
                    self.patch(upload, rng, len(upload.data))
                    upload.state = "done"
                    self.add_asset(upload.id, upload.content)
            except Unknown:
                say(f"upload {upload.id} could not be finished")
        self.ended.set()


def features(daemon):
    """What this daemon takes."""
    found = {"raw"}
    if daemon.client.request("POST", f"{API}/uploads", {}).status not in (404, 405):
        found.add("chunked")
    if daemon.client.request("OPTIONS", f"{API}/tus").header("Tus-Version"):
        found.add("tus")
    return found
