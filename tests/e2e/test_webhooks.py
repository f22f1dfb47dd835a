"""Webhooks, against receivers that keep what they get, answer as told, and check each signature by themselves."""
import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import os
import re
import signal
import tempfile
import threading
import time
import unittest

import support
from support import DaemonCase, Daemon, SLOW, clip, eventually

HOOKS = "/api/v1/webhooks"
LOCAL = {"webhook.allow_addresses": "127.0.0.0/8", "webhook.retry_base": "50ms"}


def signature(secret, message_id, timestamp, body):
    """The specification's own words: HMAC-SHA256 over id.timestamp.body, in base64."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


# A hook that is pinged is told nothing else: of all events some, as an alert about a busy machine, come by themselves.
PINGS = {"events": ["asset.deleted"]}


class Receiver:
    """An HTTP server on a free port. `answer(request)` gives a status, or (status, headers, body), and may block."""

    class Request:
        def __init__(self, headers, body, path):
            self.headers, self.body, self.path, self.at = headers, body, path, time.monotonic()
            self.json = json.loads(body)
            self.type, self.id = self.json["type"], headers["Webhook-Id"]

        def signed_by(self, secret):
            wanted = signature(secret, self.id, self.headers["Webhook-Timestamp"], self.body)
            return wanted in self.headers["Webhook-Signature"].split(" ")

    def __init__(self, answer=lambda request: 204, port=0):
        self.answer, self.requests, self.news = answer, [], threading.Condition()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Receiver.Request(self.headers, body, self.path)
                with receiver.news:
                    receiver.requests.append(request)
                    receiver.news.notify_all()
                answer = receiver.answer(request)
                status, headers, content = answer if isinstance(answer, tuple) else (answer, {}, b"")
                with contextlib.suppress(ConnectionError):
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    if status != 204:
                        self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *words):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *words):
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def wait(self, condition, seconds=15, what=""):
        """Waits until condition(requests) is true; gives its value."""
        deadline = time.monotonic() + seconds * SLOW
        with self.news:
            while True:
                value = condition(list(self.requests))
                if value:
                    return value
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not within {seconds} s: {what}; got {[r.type for r in self.requests]}")
                self.news.wait(left)

    def of(self, asset_id, *types):
        """The first request of each of these types about the asset, once all are there."""
        def there(requests):
            found = {r.type: r for r in reversed(requests) if r.json["data"].get("id") == asset_id}
            return [found[t] for t in types] if all(t in found for t in types) else None
        return self.wait(there, what=f"{types} of {asset_id}")


class WebhookCase(DaemonCase):
    settings = LOCAL

    def receiver(self, *args, **kwargs):
        receiver = Receiver(*args, **kwargs)
        self.addCleanup(receiver.close)
        return receiver

    def hook(self, url, client=None, **members):
        client = client or self.admin
        made = client.request("POST", HOOKS, body={"url": url, **members})
        self.assertEqual(made.status, 201, made.body)
        hook = made.json()
        self.assertEqual(made.header("Location"), f"{HOOKS}/{hook['id']}")
        self.addCleanup(lambda: self.daemon.process and client.request("DELETE", f"{HOOKS}/{hook['id']}"))
        return hook

    def ping(self, hook, client=None):
        answer = (client or self.admin).request("POST", f"{HOOKS}/{hook['id']}/test")
        self.assertEqual(answer.status, 202, answer.body)
        return answer.json()

    def deliveries(self, hook, query="", client=None):
        answer = (client or self.admin).get(f"{HOOKS}/{hook['id']}/deliveries{query}")
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json()["items"]

    def settled(self, hook, delivery, state, seconds=15):
        """The delivery once it is in this state."""
        def look():
            found = [d for d in self.deliveries(hook) if d["id"] == delivery["id"]]
            return found[0] if found and found[0]["state"] == state else None
        return eventually(look, seconds, f"a delivery that is {state}")


class Hooks(WebhookCase):
    def test_made_shown_changed_removed(self):
        receiver = self.receiver()
        hook = self.hook(receiver.url, description="mine", events=["asset.ready", "job.failed"])
        self.assertRegex(hook["secret"], r"^whsec_[A-Za-z0-9+/]{43}=$")
        self.assertEqual((hook["events"], hook["enabled"], hook["scope"]), (["asset.ready", "job.failed"], True, "all"))
        path = f"{HOOKS}/{hook['id']}"
        shown = self.admin.get(path).json()
        self.assertNotIn("secret", shown)
        self.assertEqual(shown["url"], receiver.url)
        changed = self.admin.request("PATCH", path, body={"events": ["*"], "enabled": False, "description": "x"})
        self.assertEqual(changed.status, 200, changed.body)
        self.assertEqual((changed.json()["events"], changed.json()["enabled"]), (["*"], False))
        self.assertProblem(self.admin.request("POST", f"{path}/test"), 409)
        self.assertIn(hook["id"], [h["id"] for h in self.admin.get(HOOKS).json()["items"]])
        self.assertEqual(self.admin.request("DELETE", path).status, 204)
        self.assertProblem(self.admin.get(path), 404)
        self.assertProblem(self.admin.request("DELETE", path), 404)
        audit = self.daemon.cli("audit", "export", check=False).stdout
        if audit:
            self.assertIn("webhook.create", audit)
            self.assertNotIn(hook["secret"], audit)

    def test_refusals(self):
        for body in ({}, {"url": 7}, {"url": "ftp://example.com/"}, {"url": "http://user@example.com/"}, {"url": "/x"},
                     {"url": "https://example.com/", "events": []}, {"url": "https://example.com/", "events": ["x"]},
                     {"url": "https://example.com/", "events": ["ping"]}, {"url": "https://example.com/", "secret": "s"},
                     {"url": "https://example.com/", "enabled": 1}, {"url": "https://example.com/", "description": "x" * 201}):
            problem = self.assertProblem(self.admin.request("POST", HOOKS, body=body), 400)
            self.assertIn(problem["field"], {"url", *body} - ({"url"} if len(body) > 1 else set()), problem)
        self.assertProblem(self.anonymous.request("POST", HOOKS, body={"url": "https://example.com/"}), 401)
        self.assertProblem(self.daemon.client("viewer", "hook-viewer").request(
            "POST", HOOKS, body={"url": "https://example.com/"}), 403)
        self.assertProblem(self.admin.get(f"{HOOKS}/nonsense"), 404)
        self.assertProblem(self.admin.get(f"{HOOKS}?cursor=x"), 400)

    def test_pages(self):
        creator = self.daemon.client("creator", "pages")
        ids = [self.hook("https://example.com/", creator)["id"] for _ in range(5)]
        first = creator.get(f"{HOOKS}?limit=3").json()
        second = creator.get(f"{HOOKS}?limit=3&cursor={first['next_cursor']}").json()
        # Newest first; two of one millisecond, made by different threads, stand in either order.
        self.assertEqual([h["id"] for h in first["items"] + second["items"]], sorted(ids, reverse=True))
        self.assertIsNone(second["next_cursor"])

    def test_so_many_and_no_more(self):
        creator = self.daemon.client("creator", "many")
        for _ in range(20):
            self.hook("https://example.com/", creator)
        self.assertProblem(creator.request("POST", HOOKS, body={"url": "https://example.com/"}), 409)

    def test_ownership(self):
        receiver, creator, other = self.receiver(), self.daemon.client("creator", "owner"), self.daemon.client("creator", "other")
        hook = self.hook(receiver.url, creator)
        path = f"{HOOKS}/{hook['id']}"
        delivery = self.ping(hook, creator)
        for method, where, body in (("GET", "", None), ("PATCH", "", {"enabled": False}), ("DELETE", "", None),
                                    ("POST", "/rotate-secret", None), ("POST", "/test", None), ("GET", "/deliveries", None),
                                    ("POST", f"/deliveries/{delivery['id']}/redeliver", None)):
            self.assertProblem(other.request(method, path + where, body=body), 403)
        self.assertNotIn(hook["id"], [h["id"] for h in other.get(HOOKS).json()["items"]])
        self.assertEqual(self.admin.get(path).status, 200)
        self.assertProblem(creator.request("POST", HOOKS, body={"url": receiver.url, "events": ["alert.raised"]}), 403)
        # A delivery is found below its own webhook only.
        mine = self.hook(receiver.url, other)
        self.assertProblem(other.request("POST", f"{HOOKS}/{mine['id']}/deliveries/{delivery['id']}/redeliver"), 404)


class Deliveries(WebhookCase):
    def test_signature(self):
        receiver = self.receiver()
        hook = self.hook(receiver.url, **PINGS)
        before = int(time.time())
        delivery = self.ping(hook)
        request = receiver.wait(lambda rs: rs and rs[0])
        self.assertEqual(request.type, "ping")
        self.assertEqual(request.headers["Content-Type"], "application/json")
        self.assertTrue(request.headers["User-Agent"].startswith("StreamGate/"))
        self.assertEqual(request.id, request.json["id"])
        self.assertEqual(request.id, delivery["event_id"])
        self.assertTrue(before <= int(request.headers["Webhook-Timestamp"]) <= time.time() + 1)
        self.assertEqual(request.headers["Webhook-Signature"],
                         signature(hook["secret"], request.id, request.headers["Webhook-Timestamp"], request.body))
        settled = self.settled(hook, delivery, "delivered")
        self.assertEqual((settled["attempts"], settled["status"], settled["error"]), (1, 204, None))
        self.assertEqual(settled["payload"], request.json)
        self.assertGreaterEqual(settled["latency"], 0)

    def test_verified_as_documented(self):
        with open(os.path.join(support.ROOT, "docs", "WEBHOOKS.md"), encoding="utf-8") as file:
            blocks = dict(re.findall(r"```(python|sh)\n(.*?)```", file.read(), re.S))
        receiver = self.receiver()
        hook = self.hook(receiver.url, description="caf\u00e9")
        asset = self.uploaded(clip("short"), name="documented.mp4")
        request = receiver.of(asset["id"], "asset.ready")[0]
        scope = {}
        exec(blocks["python"], scope)
        self.assertTrue(scope["verify"](hook["secret"], request.headers, request.body))
        self.assertFalse(scope["verify"](hook["secret"], request.headers, request.body + b" "))
        self.assertFalse(scope["verify"](hook["secret"], request.headers, request.body, tolerance=-1))
        with tempfile.NamedTemporaryFile() as body:
            body.write(request.body)
            body.flush()
            variables = {"secret": hook["secret"], "id": request.id, "timestamp": request.headers["Webhook-Timestamp"],
                         "signature": request.headers["Webhook-Signature"], "body": body.name}
            genuine = support.run("sh", "-c", blocks["sh"], env={**os.environ, **variables})
            self.assertEqual((genuine.stdout, genuine.returncode), (b"genuine\n", 0), genuine.stderr)
            forged = support.run("sh", "-c", blocks["sh"], env={**os.environ, **variables, "timestamp": "1"})
            self.assertEqual((forged.stdout, forged.returncode), (b"forged\n", 1), forged.stderr)

    def test_rotation(self):
        receiver = self.receiver()
        hook = self.hook(receiver.url, **PINGS)
        rotated = self.admin.request("POST", f"{HOOKS}/{hook['id']}/rotate-secret").json()
        self.assertNotEqual(rotated["secret"], hook["secret"])
        self.assertIsNotNone(rotated["previous_secret_until"])
        self.ping(hook)
        request = receiver.wait(lambda rs: rs and rs[0])
        self.assertTrue(request.signed_by(rotated["secret"]) and request.signed_by(hook["secret"]))
        self.assertEqual(len(request.headers["Webhook-Signature"].split(" ")), 2)
        newest = self.admin.request("POST", f"{HOOKS}/{hook['id']}/rotate-secret").json()
        self.ping(hook)
        request = receiver.wait(lambda rs: len(rs) > 1 and rs[1])
        self.assertTrue(request.signed_by(newest["secret"]) and request.signed_by(rotated["secret"]))
        self.assertFalse(request.signed_by(hook["secret"]))

    def test_events_of_an_upload(self):
        receiver, others = self.receiver(), self.receiver()
        creator = self.daemon.client("creator", "uploader")
        hook = self.hook(receiver.url, creator)
        self.hook(others.url, self.daemon.client("creator", "stranger"))
        everything = self.receiver()
        self.hook(everything.url)
        only = self.receiver()
        self.hook(only.url, creator, events=["asset.deleted"])
        asset = creator.upload(clip("short"), "first.mp4").json()
        self.assertEqual(creator.request("DELETE", f"/api/v1/assets/{asset['id']}").status, 204)
        requests = receiver.of(asset["id"], "upload.completed", "asset.created", "asset.ready", "asset.deleted")
        for request in requests:
            self.assertTrue(request.signed_by(hook["secret"]))
        data = requests[2].json["data"]
        for name in ("id", "title", "description", "tags", "custom", "owner", "filename", "size", "sha256", "content_type",
                     "width", "height", "video_codec", "audio_codec", "error", "created_at"):
            self.assertEqual(data[name], asset[name], name)
        self.assertEqual(data["status"], "ready")
        self.assertAlmostEqual(data["duration"], asset["duration"], places=3)
        self.assertEqual(requests[0].json["data"]["kind"], "direct")
        self.assertEqual(len({r.id for r in requests}), 4)
        same = everything.of(asset["id"], "asset.ready")[0]
        self.assertEqual(same.body, requests[2].body)
        self.assertEqual(only.wait(lambda rs: rs)[0].type, "asset.deleted")
        self.assertEqual(others.requests, [])

    def test_events_of_a_chunked_upload(self):
        receiver = self.receiver()
        creator = self.daemon.client("creator", "chunker")
        self.hook(receiver.url, creator)
        with open(clip("short"), "rb") as file:
            content = file.read()
        made = creator.request("POST", "/api/v1/uploads", body={"filename": "c.mp4", "size": len(content)}).json()
        self.assertEqual(creator.request("PUT", f"/api/v1/uploads/{made['id']}/chunks/0", body=content).status // 100, 2)
        done = creator.request("POST", f"/api/v1/uploads/{made['id']}/complete")
        self.assertIn(done.status, (200, 201), done.body)
        completed, created, ready = receiver.of(made["id"], "upload.completed", "asset.created", "asset.ready")
        self.assertEqual(completed.json["data"]["kind"], "chunked")
        self.assertEqual(completed.json["data"]["asset_id"], made["id"])
        self.assertEqual((created.json["data"]["status"], ready.json["data"]["status"]), ("ready", "ready"))

    def test_failed_asset(self):
        receiver = self.receiver()
        creator = self.daemon.client("creator", "failer")
        self.hook(receiver.url, creator, events=["asset.failed", "asset.created", "upload.completed"])
        content = b"this is no film" * 5000
        made = creator.request("POST", "/api/v1/uploads", body={"filename": "c.mp4", "size": len(content)}).json()
        self.assertEqual(creator.request("PUT", f"/api/v1/uploads/{made['id']}/chunks/0", body=content).status // 100, 2)
        self.assertGreaterEqual(creator.request("POST", f"/api/v1/uploads/{made['id']}/complete").status, 400)
        _, failed = receiver.of(made["id"], "asset.created", "asset.failed")
        self.assertEqual(failed.json["data"]["status"], "failed")
        self.assertTrue(failed.json["data"]["error"])
        self.assertNotIn("upload.completed", [r.type for r in receiver.requests])

    def test_failed_job(self):
        receiver = self.receiver()
        self.hook(receiver.url, events=["job.failed"])
        needed = self.admin.request("POST", "/api/v1/jobs", body={"type": "gc", "delay": 3600}).json()
        waiting = self.admin.request("POST", "/api/v1/jobs", body={"type": "gc", "depends_on": [needed["id"]]}).json()
        self.assertEqual(self.admin.request("DELETE", f"/api/v1/jobs/{needed['id']}").status, 200)
        data = receiver.of(waiting["id"], "job.failed")[0].json["data"]
        self.assertEqual((data["type"], data["state"], data["error"]), ("gc", "failed", "dependency-failed"))

    def test_retry_after_500(self):
        failures = iter([500, 503, 429, 302])
        receiver = self.receiver(lambda request: (next(failures, 200), {"Location": "http://127.0.0.1:1/"}, b"no"))
        hook = self.hook(receiver.url, **PINGS)
        delivery = self.ping(hook)
        requests = receiver.wait(lambda rs: len(rs) >= 5 and rs)
        self.assertEqual(len({r.id for r in requests}), 1)
        self.assertEqual(len({r.body for r in requests}), 1)
        for request in requests:
            self.assertTrue(request.signed_by(hook["secret"]))
        self.assertGreater(requests[4].at - requests[3].at, requests[1].at - requests[0].at)
        settled = self.settled(hook, delivery, "delivered")
        self.assertEqual((settled["attempts"], settled["status"]), (5, 200))

    def test_retry_after_refused_connection(self):
        port = support.free_port()
        hook = self.hook(f"http://127.0.0.1:{port}/", **PINGS)
        delivery = self.ping(hook)
        failed = eventually(lambda: [d for d in self.deliveries(hook) if d["attempts"] >= 2], 15, "two tries")[0]
        self.assertEqual((failed["state"], failed["status"]), ("pending", None))
        self.assertIn("no connection", failed["error"])
        receiver = self.receiver(port=port)
        receiver.wait(lambda rs: rs)
        self.settled(hook, delivery, "delivered")
        self.assertEqual(len(receiver.requests), 1)

    def test_redeliver(self):
        receiver = self.receiver()
        hook = self.hook(receiver.url, **PINGS)
        delivery = self.ping(hook)
        self.settled(hook, delivery, "delivered")
        again = self.admin.request("POST", f"{HOOKS}/{hook['id']}/deliveries/{delivery['id']}/redeliver")
        self.assertEqual(again.status, 202, again.body)
        self.assertEqual(again.json()["state"], "pending")
        first, second = receiver.wait(lambda rs: len(rs) > 1 and rs)
        self.assertEqual((first.id, first.body), (second.id, second.body))
        self.settled(hook, delivery, "delivered")
        nothing = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
        self.assertProblem(self.admin.request("POST", f"{HOOKS}/{hook['id']}/deliveries/{nothing}/redeliver"), 404)

    def test_gone(self):
        receiver = self.receiver(lambda request: 410)
        hook = self.hook(receiver.url, **PINGS)
        delivery = self.ping(hook)
        settled = self.settled(hook, delivery, "failed")
        self.assertEqual((settled["attempts"], settled["status"]), (1, 410))
        shown = self.admin.get(f"{HOOKS}/{hook['id']}").json()
        self.assertFalse(shown["enabled"])
        self.assertIn("410", shown["disabled_reason"])
        self.assertProblem(self.admin.request("POST", f"{HOOKS}/{hook['id']}/deliveries/{delivery['id']}/redeliver"), 409)
        receiver.answer = lambda request: 200
        self.assertTrue(self.admin.request("PATCH", f"{HOOKS}/{hook['id']}", body={"enabled": True}).json()["enabled"])
        self.admin.request("POST", f"{HOOKS}/{hook['id']}/deliveries/{delivery['id']}/redeliver")
        self.settled(hook, delivery, "delivered")

    def test_large_answer(self):
        receiver = self.receiver(lambda request: (200, {}, b"x" * (8 << 20)))
        hook = self.hook(receiver.url, **PINGS)
        self.settled(hook, self.ping(hook), "delivered")

    def test_slow_receiver_delays_nobody(self):
        release = threading.Event()
        self.addCleanup(release.set)
        slow = self.receiver(lambda request: release.wait(60 * SLOW) and 200 or 200)
        quick = self.receiver()
        slow_hooks = [self.hook(slow.url, **PINGS) for _ in range(3)]
        hook = self.hook(quick.url, **PINGS)
        for slow_hook in slow_hooks:
            for _ in range(20):
                self.ping(slow_hook)
        slow.wait(lambda rs: len(rs) >= 12, what="four of each under way")
        for n in range(10):
            start = time.monotonic()
            self.ping(hook)
            quick.wait(lambda rs, n=n: len(rs) > n)
            self.assertLess(time.monotonic() - start, 2 * SLOW)
        self.assertEqual(len(slow.requests), 12)
        release.set()
        slow.wait(lambda rs: len(rs) == 60, 30)
        eventually(lambda: not self.deliveries(slow_hooks[0], "?state=pending"), 15, "nothing pending")

    def test_log(self):
        receiver = self.receiver()
        hook = self.hook(receiver.url, **PINGS)
        pings = [self.ping(hook)["id"] for _ in range(5)]
        eventually(lambda: len(self.deliveries(hook, "?state=delivered")) == 5, 15, "five that arrived")
        answer = self.admin.get(f"{HOOKS}/{hook['id']}/deliveries?limit=3").json()
        rest = self.admin.get(f"{HOOKS}/{hook['id']}/deliveries?limit=3&cursor={answer['next_cursor']}").json()
        self.assertEqual([d["id"] for d in answer["items"] + rest["items"]], pings[::-1])
        self.assertIsNone(rest["next_cursor"])
        self.assertEqual(self.deliveries(hook, "?state=failed"), [])
        self.assertProblem(self.admin.get(f"{HOOKS}/{hook['id']}/deliveries?state=x"), 400)
        self.assertGreaterEqual(self.daemon.metric("webhook_delivered_total"), 5)

    def test_removed_with_all_that_waits(self):
        port = support.free_port()
        hook = self.hook(f"http://127.0.0.1:{port}/", **PINGS)
        for _ in range(30):
            self.ping(hook)
        self.assertEqual(self.admin.request("DELETE", f"{HOOKS}/{hook['id']}").status, 204)
        receiver = self.receiver(port=port)
        eventually(lambda: self.daemon.metric("webhook_pending") == 0, 15, "nothing pending")
        self.assertEqual(receiver.requests, [])

    def test_a_dead_receiver_gets_all_once_it_is_back(self):
        port = support.free_port()
        hook = self.hook(f"http://127.0.0.1:{port}/", **PINGS)
        for _ in range(200):
            self.ping(hook)
        eventually(lambda: [d for d in self.deliveries(hook, "?limit=200") if d["attempts"] >= 1], 15, "a try")
        receiver = self.receiver(port=port)
        self.admin.request("PATCH", f"{HOOKS}/{hook['id']}", body={"description": "back"})
        receiver.wait(lambda rs: len({r.id for r in rs}) == 200, 30)


class Alerts(unittest.TestCase):
    def test_alerts_are_told_to_administrators(self):
        daemon = Daemon({**LOCAL, "alerts.min_requests": "1"})
        self.addCleanup(daemon.remove)
        daemon.start()
        receiver, creators = Receiver(), Receiver()
        self.addCleanup(receiver.close)
        self.addCleanup(creators.close)
        made = daemon.admin.request("POST", HOOKS, body={"url": receiver.url, "events": ["alert.raised", "alert.resolved"]})
        self.assertEqual(made.status, 201, made.body)
        self.assertEqual(daemon.client("creator", "c").request("POST", HOOKS, body={"url": creators.url}).status, 201)
        daemon.signal(signal.SIGHUP)  # which is one: the configuration was reloaded
        request = receiver.wait(lambda rs: [r for r in rs if r.json["data"]["name"] == "configuration_changed"])[0]
        self.assertEqual((request.type, request.json["data"]["level"]), ("alert.raised", "info"))
        self.assertTrue(request.signed_by(made.json()["secret"]))
        self.assertEqual(creators.requests, [])
        daemon.stop()


class Closed(DaemonCase):
    """As it comes: nothing private may be posted to."""
    settings = {"webhook.retry_base": "50ms"}

    def test_private_addresses_are_refused(self):
        for url in ("http://127.0.0.1:1/", "http://[::1]/", "http://10.0.0.1/", "http://169.254.169.254/latest",
                    "http://2130706433/", "http://0x7f.1/", "http://[::ffff:127.0.0.1]/"):
            problem = self.assertProblem(self.admin.request("POST", HOOKS, body={"url": url}), 403)
            self.assertIn("address", json.dumps(problem))

    def test_names_of_private_addresses_are_not_connected_to(self):
        receiver = Receiver()
        self.addCleanup(receiver.close)
        hook = self.admin.request("POST", HOOKS, body={"url": f"http://localhost:{receiver.port}/"}).json()
        self.admin.request("POST", f"{HOOKS}/{hook['id']}/test")
        tried = eventually(lambda: [d for d in self.admin.get(f"{HOOKS}/{hook['id']}/deliveries").json()["items"]
                                    if d["attempts"] > 0], 15, "a try")[0]
        self.assertIn("may not be posted to", tried["error"])
        self.assertEqual((tried["state"], tried["status"], receiver.requests), ("pending", None, []))


class Endings(unittest.TestCase):
    def test_given_up_when_the_time_is_over(self):
        daemon = Daemon({**LOCAL, "webhook.retry_for": "1s"})
        self.addCleanup(daemon.remove)
        daemon.start()
        hook = daemon.admin.request("POST", HOOKS, body={"url": f"http://127.0.0.1:{support.free_port()}/"}).json()
        daemon.admin.request("POST", f"{HOOKS}/{hook['id']}/test")
        failed = eventually(lambda: daemon.admin.get(f"{HOOKS}/{hook['id']}/deliveries?state=failed").json()["items"],
                            15, "a delivery that failed")[0]
        self.assertGreater(failed["attempts"], 2)
        self.assertIsNone(failed["next_attempt_at"])
        self.assertEqual(daemon.metric("webhook_failed_total"), 1)
        daemon.stop()

    def test_killed_between_commit_and_delivery(self):
        daemon = Daemon(LOCAL)
        self.addCleanup(daemon.remove)
        daemon.start()
        taken, release = threading.Event(), threading.Event()

        def hang(request):
            taken.set()
            release.wait(60 * SLOW)
            return 200

        receiver = Receiver(hang)
        self.addCleanup(receiver.close)
        self.addCleanup(release.set)
        made = daemon.admin.request("POST", HOOKS, body={"url": receiver.url, "events": ["asset.ready"]}).json()
        asset = daemon.admin.upload(clip("short")).json()
        self.assertTrue(taken.wait(15 * SLOW))
        daemon.kill()  # the receiver has it and has not said so
        receiver.answer = lambda request: 200
        daemon.start()
        first, second = receiver.wait(lambda rs: len(rs) > 1 and rs, 20)
        self.assertEqual((first.id, first.body), (second.id, second.body))
        self.assertEqual(second.json["data"]["id"], asset["id"])
        self.assertTrue(second.signed_by(made["secret"]))  # which outlives the restart
        eventually(lambda: daemon.admin.get(f"{HOOKS}/{made['id']}/deliveries?state=delivered").json()["items"], 15,
                   "that it arrived is known")
        daemon.stop()

    def test_killed_at_once_after_the_commit(self):
        """The answer to the upload is the promise that the event is told, whenever the daemon dies."""
        daemon = Daemon(LOCAL)
        self.addCleanup(daemon.remove)
        daemon.start()
        receiver = Receiver()
        self.addCleanup(receiver.close)
        daemon.admin.request("POST", HOOKS, body={"url": receiver.url, "events": ["asset.ready"]})
        promised = []
        for n in range(5):
            promised.append(daemon.admin.upload(clip("short"), f"{n}.mp4").json()["id"])
            daemon.kill()
            daemon.start()
        receiver.wait(lambda rs: {r.json["data"]["id"] for r in rs} == set(promised), 20)
        daemon.stop()

    def test_stops_while_receivers_hang(self):
        daemon = Daemon(LOCAL)
        self.addCleanup(daemon.remove)
        daemon.start()
        release = threading.Event()
        receiver = Receiver(lambda request: release.wait(60 * SLOW) and 200 or 200)
        self.addCleanup(receiver.close)
        self.addCleanup(release.set)
        hook = daemon.admin.request("POST", HOOKS, body={"url": receiver.url}).json()
        for _ in range(10):
            daemon.admin.request("POST", f"{HOOKS}/{hook['id']}/test")
        receiver.wait(lambda rs: len(rs) == 4)
        start = time.monotonic()
        daemon.stop()
        self.assertLess(time.monotonic() - start, 15 * SLOW)

    def test_the_key_of_secrets_is_a_file_of_its_own(self):
        daemon = Daemon(LOCAL)
        self.addCleanup(daemon.remove)
        daemon.start()
        made = daemon.admin.request("POST", HOOKS, body={"url": "http://127.0.0.1:1/"}).json()
        daemon.stop()
        self.assertEqual(os.stat(os.path.join(daemon.data, "webhook.key")).st_mode & 0o777, 0o600)
        raw = base64.b64decode(made["secret"].removeprefix("whsec_"))
        for name in os.listdir(daemon.data):
            path = os.path.join(daemon.data, name)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    content = file.read()
                self.assertNotIn(made["secret"].encode(), content, name)
                self.assertNotIn(raw, content, name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
