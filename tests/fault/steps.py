"""The steps of an upload under which a single fault is put: each is prepared without it, taken with it, then looked
at, tried again and brought to its end without it."""
import os

from common import Content, Lost, eventually, problem_of
from compare import SETTLE, staged_path
from world import API, Chunked, Joined, Tus

OCTETS = "application/offset+octet-stream"


class Step:
    """prepare() before, act() -> Response under the fault, check(response) after it. needs: a feature."""
    needs = "raw"

    def __init__(self, world, rng):
        self.world, self.rng, self.failures = world, rng, world.failures
        self.daemon = world.daemon
        self.content = Content(rng.getrandbits(60), rng.randrange(30000, 150000))
        world.contents[self.content.sha256] = self.content
        self.label = type(self).__name__

    def request(self, method, path, body=None, headers=None):
        return self.daemon.client.request(method, path, body=body, headers=headers)

    def prepare(self):
        pass

    def wants(self, response, *expected):
        """A step that must go well because no fault is there (any more)."""
        return self.failures.check(response.status in expected,
                                   lambda: f"{self.label}, without a fault: {response.status} {response.body[:300]!r}")

    def refused_well(self, response):
        why = problem_of(response)
        self.failures.check(why is None, lambda: f"{self.label}: refused with {why}")

    def is_asset(self, response, *expected):
        """The answer acknowledges an asset with the right bytes; or it is refused, and False is returned."""
        if not self.wants(response, *expected):
            return False
        got = response.json()
        self.failures.check(got["sha256"] == self.content.sha256, lambda: f"{self.label}: another sha256")
        self.has_source(got["id"])
        self.world.add_asset(got["id"], self.content)
        return True

    def has_source(self, id_):
        source = self.request("GET", f"/stream/{id_}/source")
        self.failures.check(source.status == 200 and source.body == self.content.data,
                            lambda: f"{self.label}: source of {id_}: {source.status}, {len(source.body)} bytes")

    def put_raw(self):
        return self.request("PUT", f"{API}/upload/f.mp4", self.content.data)


class Raw(Step):
    def act(self):
        return self.put_raw()

    def check(self, response):
        if response.status == 201:
            self.is_asset(response, 201)
            return
        self.refused_well(response)
        self.is_asset(self.put_raw(), 201)


class AssetDelete(Step):
    def prepare(self):
        self.id = self.put_raw().json()["id"]
        self.world.add_asset(self.id, self.content)
        self.asset = self.world.assets[self.id]
        self.asset.state = "deleting"

    def act(self):
        return self.request("DELETE", f"{API}/assets/{self.id}")

    def check(self, response):
        if response.status != 204:
            self.refused_well(response)
            if self.request("GET", f"{API}/assets/{self.id}").status == 200:
                self.has_source(self.id)
                self.wants(self.act(), 204)
        self.wants(self.request("GET", f"{API}/assets/{self.id}"), 404)
        self.asset.state = "gone"


# ---- chunked ----

class ChunkedStep(Step):
    needs = "chunked"

    def create(self):
        size = -(-self.content.size // 3)
        return self.request("POST", f"{API}/uploads", {"filename": "c.mp4", "size": self.content.size,
                                                       "chunk_size": size, "sha256": self.content.sha256})

    def created(self, response):
        got = response.json()
        self.upload = Chunked(got["id"], self.content, got["chunk_size"])
        self.world.uploads[self.upload.id] = self.upload

    def put(self, n):
        return self.request("PUT", f"{API}/uploads/{self.upload.id}/chunks/{n}", self.upload.chunk(n))

    def put_well(self, *numbers):
        for n in numbers:
            if self.wants(self.put(n), 200):
                self.upload.acked.add(n)

    def complete(self):
        return self.request("POST", f"{API}/uploads/{self.upload.id}/complete")

    def status(self):
        return self.request("GET", f"{API}/uploads/{self.upload.id}")

    def finish(self):
        """What is missing is sent, what was acknowledged is not, and the whole must be right."""
        status = self.status()
        if not self.wants(status, 200):
            return
        missing = {n for run in status.json()["missing"] for n in range(run["first"], run["last"] + 1)}
        self.failures.check(not missing & self.upload.acked, lambda: f"{self.label}: acknowledged chunks are missing")
        if missing != set(range(self.upload.total)):
            with open(staged_path(self.daemon.data, self.upload.id), "rb") as file:
                for n in set(range(self.upload.total)) - missing:
                    chunk = self.upload.chunk(n)
                    there = os.pread(file.fileno(), len(chunk), n * self.upload.chunk_size)
                    self.failures.check(there == chunk, lambda n=n: f"{self.label}: chunk {n} counts and differs")
        self.put_well(*sorted(missing))
        self.is_asset(self.complete(), 200, 201)
        self.upload.state = "done"


class UploadCreate(ChunkedStep):
    def act(self):
        return self.create()

    def check(self, response):
        if response.status != 201:
            self.refused_well(response)
            response = self.create()
        if self.wants(response, 201):
            self.created(response)
            self.finish()


class ChunkFirst(ChunkedStep):
    """The chunk that makes the staged file."""
    number, before = 1, ()

    def prepare(self):
        self.created(self.create())
        self.put_well(*self.before)

    def act(self):
        return self.put(self.number)

    def check(self, response):
        if response.status == 200:
            self.upload.acked.add(self.number)
        else:
            self.refused_well(response)
        self.finish()


class ChunkNext(ChunkFirst):
    number, before = 0, (2,)


class Complete(ChunkedStep):
    def prepare(self):
        self.created(self.create())
        self.put_well(0, 1, 2)
        self.upload.state = "completing"

    def act(self):
        return self.complete()

    def check(self, response):
        if response.status not in (200, 201):
            self.refused_well(response)
            self.finish()
            return
        self.is_asset(response, 200, 201)
        self.is_asset(self.complete(), 200)
        self.upload.state = "done"


class UploadDelete(ChunkedStep):
    def prepare(self):
        self.created(self.create())
        self.put_well(1)
        self.upload.state = "deleting"

    def act(self):
        return self.request("DELETE", f"{API}/uploads/{self.upload.id}")

    def check(self, response):
        if response.status != 204:
            self.refused_well(response)
            if self.status().status == 200:
                self.wants(self.act(), 204)
        self.wants(self.status(), 404)
        self.upload.state = "gone"


# ---- tus ----

class TusStep(Step):
    needs = "tus"
    body = 0  # bytes sent with the creation
    partial = False

    def create(self, data=None):
        data = self.content.data if data is None else data
        headers = {"Upload-Length": str(len(data)), **({"Upload-Concat": "partial"} if self.partial else {})}
        if self.body:
            headers["Content-Type"] = OCTETS
        return self.request("POST", f"{API}/tus", data[:self.body] or None, headers)

    def created(self, response, data=None):
        data = self.content.data if data is None else data
        upload = Tus(response.header("Location").rsplit("/", 1)[1], data, self.content, self.partial)
        upload.acked = int(response.header("Upload-Offset") or 0)
        self.world.uploads[upload.id] = upload
        return upload

    def patch(self, upload, at, n):
        headers = {"Content-Type": OCTETS, "Upload-Offset": str(at)}
        return self.request("PATCH", f"{API}/tus/{upload.id}", upload.data[at:at + n], headers)

    def head(self, upload):
        return self.request("HEAD", f"{API}/tus/{upload.id}")

    def patched(self, response):
        if response.status == 204:
            self.upload.acked = int(response.header("Upload-Offset"))
        else:
            self.refused_well(response)

    def finish(self, upload):
        head = self.head(upload)
        if not self.wants(head, 200):
            return
        offset = int(head.header("Upload-Offset"))
        self.failures.check(upload.acked <= offset <= len(upload.data),
                            lambda: f"{self.label}: offset {offset}, acknowledged {upload.acked}")
        path = staged_path(self.daemon.data, upload.id)
        if offset and os.path.exists(path):
            with open(path, "rb") as file:
                self.failures.check(file.read(offset) == upload.data[:offset],
                                    lambda: f"{self.label}: offset {offset}, the bytes below it differ")
        if offset < len(upload.data):
            answer = self.patch(upload, offset, len(upload.data) - offset)
            if answer.status == 409:
                # What came of the broken body was made durable after HEAD was asked: it is told the true end.
                offset = int(answer.header("Upload-Offset"))
                answer = self.patch(upload, offset, len(upload.data) - offset)
            if not self.wants(answer, 204):
                return
        upload.acked = len(upload.data)
        if upload.partial:
            return

        def ready():
            response = self.request("GET", f"{API}/assets/{upload.id}")
            return response if response.status == 200 and response.json()["status"] == "ready" else None
        asset = eventually(ready, SETTLE)
        if self.failures.check(asset is not None,
                               lambda: f"{self.label}: every byte is there, and no asset after {SETTLE} s"):
            self.is_asset(asset, 200)
        upload.state = "done"


class TusCreate(TusStep):
    def act(self):
        return self.create()

    def check(self, response):
        if response.status != 201:
            self.refused_well(response)
            response = self.create()
        if self.wants(response, 201):
            self.finish(self.created(response))


class TusCreateWithBody(TusCreate):
    body = 20000


class TusPatchFirst(TusStep):
    before = 0

    def prepare(self):
        self.upload = self.created(self.create())
        if self.before:
            self.wants(self.patch(self.upload, 0, self.before), 204)
            self.upload.acked = self.before

    def act(self):
        return self.patch(self.upload, self.upload.acked, 12345)

    def check(self, response):
        self.patched(response)
        self.finish(self.upload)


class TusPatchNext(TusPatchFirst):
    before = 5000


class TusPatchLast(TusPatchFirst):
    before = 15000

    def act(self):
        return self.patch(self.upload, self.upload.acked, len(self.upload.data))


class TusJoin(TusStep):
    partial = True

    def prepare(self):
        data, middle = self.content.data, self.content.size // 2
        self.parts = []
        for piece in (data[:middle], data[middle:]):
            part = self.created(self.create(piece), piece)
            self.wants(self.patch(part, 0, len(piece)), 204)
            part.acked, part.state = len(piece), "joining"
            self.parts.append(part)
        self.world.joined.append(Joined(self.content, self.parts))

    def act(self):
        urls = " ".join(f"{API}/tus/{p.id}" for p in self.parts)
        return self.request("POST", f"{API}/tus", headers={"Upload-Concat": f"final;{urls}"})

    def check(self, response):
        if response.status != 201:
            self.refused_well(response)
            for part in self.parts:
                head = self.head(part)
                if not self.wants(head, 200):
                    return
                self.failures.check(int(head.header("Upload-Offset")) == len(part.data),
                                    lambda: f"{self.label}: a part lost bytes")
            response = self.act()
        if not self.wants(response, 201):
            return
        for part in self.parts:
            part.state = "joined"
        id_ = response.header("Location").rsplit("/", 1)[1]

        def ready():
            asset = self.request("GET", f"{API}/assets/{id_}")
            return asset if asset.status == 200 and asset.json()["status"] == "ready" else None
        asset = eventually(ready, SETTLE)
        if self.failures.check(asset is not None, lambda: f"{self.label}: joined, and no asset after {SETTLE} s"):
            self.is_asset(asset, 200)


class TusDelete(TusPatchFirst):
    before = 5000

    def prepare(self):
        super().prepare()
        self.upload.state = "deleting"

    def act(self):
        return self.request("DELETE", f"{API}/tus/{self.upload.id}")

    def check(self, response):
        if response.status != 204:
            self.refused_well(response)
            if self.head(self.upload).status == 200:
                self.wants(self.act(), 204)
        self.wants(self.head(self.upload), 404, 410)
        self.upload.state = "gone"


# After some faults the daemon makes the asset by itself, seconds later: trials of these take long.
OWED = (TusPatchLast, TusJoin)
STEPS = (Raw, AssetDelete, UploadCreate, ChunkFirst, ChunkNext, Complete, UploadDelete, TusCreate, TusCreateWithBody,
         TusPatchFirst, TusPatchNext, TusPatchLast, TusJoin, TusDelete)


def taken(step):
    """The answer of act(), or None when there was none."""
    try:
        return step.act()
    except Lost:
        return None
