"""A plain tus client for two servers: creates, sends PATCH after PATCH, remembers the highest Upload-Offset it was
told. Nothing but tus 1.0.0 core and creation."""
import base64
import random
import threading

from common import SLOW, Content, Lost, log_uniform

CLIENTS = 6


class Upload:
    def __init__(self, id_, content):
        self.id, self.content, self.acked = id_, content, None


class Uploads:
    """Clients that upload one file after another until `ended` is set."""

    def __init__(self, client, rng):
        self.client, self.all, self.lock = client, [], threading.Lock()
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(rng.getrandbits(60),), daemon=True)
                        for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def work(self, seed):
        rng = random.Random(seed)
        while not self.ended.is_set():
            try:
                if not self.upload(rng):
                    return
            except Lost:
                return

    def upload(self, rng):
        content = Content(rng.getrandbits(60), int(log_uniform(rng, 8000, 1500000)))
        name = base64.b64encode(b"t.mp4").decode()
        response = self.client.request("POST", "/api/v1/tus", headers={
            "Upload-Length": str(content.size), "Upload-Metadata": f"filename {name}", "Content-Length": "0"})
        if response.status != 201 or self.ended.is_set():
            return False
        upload = Upload(response.header("Location").rsplit("/", 1)[1], content)
        with self.lock:
            self.all.append(upload)
        upload.acked = at = 0
        while at < content.size:
            n = min(content.size - at, int(log_uniform(rng, 1000, 400000)))
            response = self.client.request("PATCH", f"/api/v1/tus/{upload.id}", content.data[at:at + n], {
                "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(at)})
            if response.status != 204 or self.ended.is_set():
                return False  # in a power cut no answer comes after it (world.py)
            at = int(response.header("Upload-Offset"))
            upload.acked = at
        return True

    def settle(self):
        for thread in self.threads:
            thread.join(60 * SLOW)
            if thread.is_alive():
                raise AssertionError("a client waits for an answer that never comes")
