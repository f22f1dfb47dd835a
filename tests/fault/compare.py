"""After the fault: what the daemon says and what lies on disk, against what clients were told."""
import contextlib
import hashlib
import os
import sqlite3

from common import Lost, eventually, support

API = "/api/v1"
ULID_LENGTH = 26
READY, PROCESSING = 3, 2  # enum sg_asset_status
ACTIVE_STATES = (0, 1)    # enum sg_upload_state: active, processing
CHUNKED = 0               # enum sg_upload_kind
TOP_LEVEL = {"streamgate.db", "streamgate.db-wal", "streamgate.db-shm", "incoming", "assets", "admin.key",
             "playback.key", "webhook.key", "daemon.lock"}
SETTLE = 12  # seconds for what the daemon finishes by itself, which it looks for every few


class Rows:
    """The database as it is now, and the files beside it."""

    def __init__(self, data):
        self.data = data
        with contextlib.closing(sqlite3.connect(f"file:{data}/streamgate.db?mode=ro", uri=True, timeout=10)) as db:
            self.assets = {id_: (status, size, bytes(sha).hex()) for id_, status, size, sha in
                           db.execute("SELECT id, status, size_bytes, sha256 FROM assets")}
            self.uploads, self.chunks = {}, {}
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'uploads'").fetchone():
                self.uploads = {row[0]: row[1:] for row in
                                db.execute("SELECT id, kind, state, offset_bytes, chunk_bytes FROM uploads")}
                for id_, n, length, sha in db.execute("SELECT upload_id, number, len, sha256 FROM upload_chunks"):
                    self.chunks.setdefault(id_, []).append((n, length, bytes(sha)))
        self.staged = set(os.listdir(f"{data}/incoming"))
        self.files, self.empty = set(), []
        for shard in os.listdir(f"{data}/assets"):
            for id_ in os.listdir(f"{data}/assets/{shard}"):
                names = os.listdir(f"{data}/assets/{shard}/{id_}")
                if names == ["source"]:
                    self.files.add(id_)
                else:
                    self.empty.append(f"assets/{shard}/{id_} holds {names}")

    def disorder(self):
        """What may not be when nothing runs: files without rows, rows without files, halves. A list of texts."""
        found = [f"{name} in the data directory" for name in set(os.listdir(self.data)) - TOP_LEVEL]
        found += self.empty
        open_ = {id_ for id_, row in self.uploads.items() if row[1] in ACTIVE_STATES}
        found += [f"staged file {id_} without an open upload" for id_ in self.staged - open_]
        ready = {id_ for id_, row in self.assets.items() if row[0] == READY}
        # A completion that was cut off: the upload is open, its bytes have their last place already.
        found += [f"file of {id_} without a ready asset (row: {self.assets.get(id_)})"
                  for id_ in self.files - ready - open_]
        found += [f"asset {id_} without its file" for id_ in ready - self.files]
        found += [f"asset {id_} has status {row[0]}" for id_, row in self.assets.items() if row[0] != READY]
        found += [f"upload {id_} is still processing" for id_, row in self.uploads.items() if row[1] == 1]
        return found


def source_path(data, id_):
    return f"{data}/assets/{id_[ULID_LENGTH - 2:]}/{id_}/source"


def staged_path(data, id_):
    """Where the bytes of an unfinished upload are: staged, or put in place by a completion that was cut off."""
    path = f"{data}/incoming/{id_}"
    return path if os.path.exists(path) else source_path(data, id_)


def file_hash(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class Comparison:
    def __init__(self, world):
        self.world, self.daemon, self.failures = world, world.daemon, world.failures
        self.fail = world.failures.add

    def run(self):
        try:
            self.everything()
        except Lost as error:
            self.fail(f"no answer while nothing is wrong: {error}; {self.daemon.log_tail()}")
        except OSError as error:
            self.fail(f"a file that should be readable: {error!r}")

    def everything(self):
        report = self.daemon.sanitizer_report()
        if report is not None:
            self.fail(report)
        broken = self.daemon.audit_verify()
        if broken is not None:
            self.fail(f"audit verify: {broken}")
        self.uploads()
        self.joined()
        self.disorder()
        rows = Rows(self.daemon.data)
        self.all_ready(rows)
        self.assets(rows)
        self.staged(rows)

    def disorder(self):
        state = {}

        def in_order():
            try:
                state["found"] = Rows(self.daemon.data).disorder()
            except FileNotFoundError:  # something went while it was listed
                state["found"] = ["the folders change"]
            return not state["found"]
        if not eventually(in_order, SETTLE):
            for text in state["found"]:
                self.fail(text)

    # ---- assets ----

    def all_ready(self, rows):
        """Whatever is visible is complete, and is something that was sent."""
        for id_, (status, size, sha) in rows.assets.items():
            if status != READY or id_ not in rows.files:
                continue
            path = source_path(self.daemon.data, id_)
            if os.path.getsize(path) != size or file_hash(path) != sha:
                self.fail(f"asset {id_} is ready, its file is not what its row says")
            content = self.world.contents.get(sha)
            if content is None:
                self.fail(f"asset {id_} is ready with bytes that nobody sent")
            else:
                self.world.add_asset(id_, content)  # the answer was lost, the asset was made

    def assets(self, rows):
        for asset in list(self.world.assets.values()):
            there = asset.id in rows.assets
            if asset.state == "deleting":
                asset.state = "there" if there else "gone"
            if asset.state == "gone":
                self.failures.check(not there, f"asset {asset.id} was deleted and is back")
                continue
            if not there:
                self.fail(f"asset {asset.id} was acknowledged and is lost; last answer {self.world.when(asset.id)}")
            elif rows.assets[asset.id][2] != asset.content.sha256:
                self.fail(f"asset {asset.id} was acknowledged with other bytes")
            elif not asset.played:
                self.plays(asset)
                asset.played = True
        self.world.assets = {k: a for k, a in self.world.assets.items() if k in rows.assets or a.state == "there"}

    def get(self, path, expected=200, **kwargs):
        response = self.daemon.client.get(path, **kwargs)
        if response.status != expected:
            self.fail(f"GET {path}: {response.status}: {response.body[:300]!r}")
            return None
        return response

    def plays(self, asset):
        shown = self.get(f"{API}/assets/{asset.id}")
        whole = self.get(f"/stream/{asset.id}/source")
        if shown is None or whole is None:
            return
        self.failures.check(whole.body == asset.content.data, f"asset {asset.id}: GET source gives other bytes")
        self.failures.check(shown.json()["status"] == "ready", f"asset {asset.id} is not ready")
        master = support.path_of(shown.json()["playback"]["hls"])
        text = self.get(master)
        if text is None:
            return
        variant = master.rsplit("/", 1)[0] + "/" + next(x for x in text.body.decode().splitlines() if x[:1] != "#")
        listing = self.get(variant)
        if listing is None:
            return
        lines = listing.body.decode().splitlines()
        names = [line.split('"')[1] for line in lines if line.startswith("#EXT-X-MAP")]
        names.append(next(line for line in lines if line[:1] != "#"))
        for name in names:
            self.get(variant.rsplit("/", 1)[0] + "/" + name)

    # ---- uploads ----

    def uploads(self):
        for upload in list(self.world.uploads.values()):
            if upload.kind == "chunked":
                self.chunked(upload)
            else:
                self.tus(upload)
        ended = ("gone", "done", "lost", "joined")
        self.world.uploads = {k: u for k, u in self.world.uploads.items() if u.state not in ended}

    def lost(self, upload, what):
        self.fail(f"{upload.kind} upload {upload.id} ({upload.state}): {what}; last answer "
                  f"{self.world.when(upload.id)}")
        upload.state = "lost"

    def chunked(self, upload):
        def asked():
            response = self.daemon.client.get(f"{API}/uploads/{upload.id}")
            return None if response.status == 200 and response.json()["status"] == "processing" else response
        response = eventually(asked, SETTLE)
        if response is None:
            return self.lost(upload, "processing without end")
        if upload.state in ("deleting", "gone") and response.status == 404:
            upload.state = "gone"
            return None
        if upload.state == "gone":
            return self.lost(upload, f"was deleted and is back: {response.body[:300]!r}")
        if response.status != 200:
            return self.lost(upload, f"was acknowledged: {response.status} {response.body[:300]!r}")
        got = response.json()
        if got["status"] == "done" and upload.state in ("completing", "done"):
            upload.state = "done"
            self.world.add_asset(got["asset_id"], upload.content)
            return None
        if got["status"] != "active" or upload.state == "done":
            return self.lost(upload, f"is {got['status']}: {got.get('error')}")
        upload.state = "active"
        missing = {n for run in got["missing"] for n in range(run["first"], run["last"] + 1)}
        taken = upload.acked & missing
        if taken:
            return self.lost(upload, f"acknowledged chunks are missing: {sorted(taken)}")
        upload.acked = set(range(upload.total)) - missing
        sizes = sum(len(upload.chunk(n)) for n in upload.acked)
        if sizes != got["received_bytes"]:
            return self.lost(upload, f"received_bytes {got['received_bytes']}, the chunks there are {sizes} long")
        if upload.acked:
            with open(staged_path(self.daemon.data, upload.id), "rb") as file:
                for n in upload.acked:
                    if os.pread(file.fileno(), upload.chunk_size, n * upload.chunk_size)[:len(upload.chunk(n))] \
                            != upload.chunk(n):
                        return self.lost(upload, f"chunk {n} is acknowledged and has other bytes")
        return None

    def tus(self, upload):
        response = self.daemon.client.request("HEAD", f"{API}/tus/{upload.id}")
        if upload.state == "joined":
            return None
        if response.status in (404, 410) and upload.state in ("deleting", "gone", "joining"):
            upload.state = "joining" if upload.state == "joining" else "gone"
            return None
        if upload.state == "gone":
            return self.lost(upload, f"was deleted and is back: {response.status}")
        if response.status != 200:
            return self.lost(upload, f"was acknowledged: HEAD {response.status}")
        offset = int(response.header("Upload-Offset"))
        if not upload.acked <= offset <= len(upload.data):
            return self.lost(upload, f"offset {offset}, acknowledged were {upload.acked} of {len(upload.data)}")
        upload.deferred = response.header("Upload-Defer-Length") == "1"
        if offset == len(upload.data) and not upload.partial and not upload.deferred:
            return self.tus_complete(upload)
        if upload.state == "done":
            return self.lost(upload, f"was complete and is at {offset}")
        if upload.state == "deleting":
            upload.state = "active"
        upload.acked = offset
        if offset:
            with open(staged_path(self.daemon.data, upload.id), "rb") as file:
                if file.read(offset) != upload.data[:offset]:
                    return self.lost(upload, f"the first {offset} bytes are acknowledged and are others")
        return None

    def tus_complete(self, upload):
        def asset():
            response = self.daemon.client.get(f"{API}/assets/{upload.id}")
            return response if response.status == 200 and response.json()["status"] == "ready" else None
        if upload.state in ("done", "deleting"):  # the asset itself is compared with the others
            upload.state = "done"
            return None
        if not eventually(asset, SETTLE):
            return self.lost(upload, f"every byte is acknowledged, and there is no asset after {SETTLE} s")
        upload.state = "done"
        self.world.add_asset(upload.id, upload.content)
        return None

    def joined(self):
        """Whether the concatenation took place or not: its bytes are there."""
        for joined in self.world.joined:
            parts = [p for p in joined.parts if p.state == "joining"]
            if not parts:
                continue
            if any(p.id not in self.world.uploads for p in parts):
                continue  # lost, and said
            heads = [self.daemon.client.request("HEAD", f"{API}/tus/{p.id}") for p in joined.parts]
            whole = all(h.status == 200 and int(h.header("Upload-Offset")) == len(p.data)
                        for h, p in zip(heads, joined.parts))

            def made(sha=joined.content.sha256):
                return any(row[0] == READY and row[2] == sha for row in Rows(self.daemon.data).assets.values())
            if whole:
                for part in joined.parts:
                    part.state = "active"
            elif eventually(made, SETTLE):
                for part in joined.parts:
                    part.state = "joined"
            else:
                self.fail(f"concatenation of {[p.id for p in joined.parts]}: neither parts nor an asset: "
                          f"{[(h.status, h.header('Upload-Offset')) for h in heads]}")
        self.world.joined = []

    # ---- staged files, also of uploads whose answer was lost ----

    def staged(self, rows):
        for id_, (kind, state, offset, chunk_bytes) in rows.uploads.items():
            if state not in ACTIVE_STATES or offset == 0:
                continue
            path = staged_path(self.daemon.data, id_)
            if not os.path.exists(path):
                self.fail(f"upload {id_} has {offset} bytes and no staged file")
            elif kind != CHUNKED and os.path.getsize(path) < offset:
                self.fail(f"upload {id_}: offset {offset}, its file has {os.path.getsize(path)} bytes")
            elif kind == CHUNKED:
                with open(path, "rb") as file:
                    for n, length, sha in rows.chunks.get(id_, []):
                        data = os.pread(file.fileno(), length, n * chunk_bytes)
                        if hashlib.sha256(data).digest() != sha:
                            self.fail(f"upload {id_}: chunk {n} is recorded, its bytes are others")
