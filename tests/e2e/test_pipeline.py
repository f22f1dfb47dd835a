"""What every request gets: ids, trace context, limits, conditions, metrics, documents."""
import re

import support
from support import Client, clip, run


class Pipeline(support.DaemonCase):
    settings = {"playback.default_policy": "public", "server.cors_origins": "https://app.example"}

    def test_request_id(self):
        made = self.anonymous.get("/version").header("X-Request-Id")
        self.assertRegex(made, r"^[0-9A-HJKMNP-TV-Z]{26}$")
        self.assertNotEqual(made, self.anonymous.get("/version").header("X-Request-Id"))
        kept = self.anonymous.get("/version", headers={"X-Request-Id": "abc.DEF_1-2"})
        self.assertEqual(kept.header("X-Request-Id"), "abc.DEF_1-2")
        for bad in ("a b", "x" * 27, "a\"b", "<script>"):
            replaced = self.anonymous.get("/version", headers={"X-Request-Id": bad})
            self.assertRegex(replaced.header("X-Request-Id"), r"^[0-9A-HJKMNP-TV-Z]{26}$")

    def test_trace_context(self):
        trace = "0af7651916cd43dd8448eb211c80319c"
        response = self.anonymous.get("/version", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        match = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", response.header("traceparent"))
        self.assertEqual(match.group(1), trace)
        self.assertNotEqual(match.group(2), "b7ad6b7169203331")
        for bad in ("", "00-" + "0" * 32 + "-b7ad6b7169203331-01", f"00-{trace}-" + "0" * 16 + "-01",
                    f"ff-{trace}-b7ad6b7169203331-01", f"00-{trace.upper()}-b7ad6b7169203331-01", "garbage"):
            response = self.anonymous.get("/version", headers={"traceparent": bad} if bad else {})
            match = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", response.header("traceparent"))
            self.assertNotIn(match.group(1), (trace, "0" * 32))

    def test_methods(self):
        refused = self.anonymous.request("DELETE", "/version")
        self.assertProblem(refused, 405)
        self.assertEqual(set(re.split(r",\s*", refused.header("Allow"))), {"GET", "HEAD", "OPTIONS"})
        self.assertProblem(self.anonymous.request("BREW", "/version"), (405, 501))
        options = self.anonymous.request("OPTIONS", "/version")
        self.assertIn(options.status, (200, 204))
        self.assertIn("GET", options.header("Allow"))
        self.assertProblem(self.anonymous.get("/no/such/thing"), 404, "not-found")

    def test_cors_is_from_config(self):
        allowed = self.admin.get("/api/v1/assets", headers={"Origin": "https://app.example"})
        self.assertEqual(allowed.header("Access-Control-Allow-Origin"), "https://app.example")
        other = self.admin.get("/api/v1/assets", headers={"Origin": "https://evil.example"})
        self.assertIsNone(other.header("Access-Control-Allow-Origin"))

    def test_health(self):
        for path in ("/health", "/health/live", "/health/ready", "/ready"):
            response = self.anonymous.get(path)
            self.assertEqual(response.status, 200, path)
            response.json()
        version = self.anonymous.get("/version").json()
        self.assertRegex(version["version"], r"^\d+\.\d+\.\d+")

    def test_metrics(self):
        asset = self.uploaded(clip("short"))
        self.anonymous.get(f"/stream/{asset['id']}/original/seg-0.m4s")
        self.anonymous.get(f"/stream/{asset['id']}/original/seg-0.m4s")
        self.anonymous.get("/secret/path/nobody/serves")
        response = self.anonymous.get("/metrics")
        self.assertTrue(response.header("Content-Type").startswith("text/plain; version=0.0.4"))
        result = run("promtool", "check", "metrics", input=response.body)
        self.assertEqual((result.returncode, result.stdout + result.stderr), (0, b""))
        text = response.body.decode()
        self.assertNotIn("nobody", text)
        self.assertNotIn(asset["id"], text)
        for name in ("request_count_total", "request_success_total", "upload_requests_total", "upload_success_total",
                     "stream_requests_total", "stream_builds_total", "cache_hit_total", "not_found_total",
                     "create_metadata_success_total", "build_info", "process_resident_memory_bytes"):
            self.assertGreater(support.metric_sum(text, name), 0, name)
        newer = self.anonymous.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        self.assertTrue(newer.header("Content-Type").startswith("application/openmetrics-text"))
        self.assertTrue(newer.body.endswith(b"# EOF\n"))

    def test_metric_counts_are_right(self):
        count = lambda: self.daemon.metric("request_count_total", route="/version", code="2xx")
        before = count()
        for _ in range(10):
            self.anonymous.get("/version")
        self.assertEqual(count() - before, 10)

    def test_openapi(self):
        document = self.anonymous.get("/openapi.json").json()
        self.assertTrue(document["openapi"].startswith("3.1"))
        result = run(support.BIN, "openapi")
        self.assertEqual(result.returncode, 0)
        self.assertIn(b'"openapi"', result.stdout)
        ids = set()
        for path, operations in document["paths"].items():
            self.assertTrue(path.startswith("/"))
            for method, operation in operations.items():
                if method == "parameters":
                    continue
                self.assertTrue(operation["summary"])
                self.assertTrue(operation["responses"])
                named = {p["name"] for p in operation.get("parameters", []) + operations.get("parameters", [])
                         if p.get("in") == "path"}
                self.assertEqual(named, set(re.findall(r"\{(\w+)\}", path)), path)
                if "operationId" in operation:
                    self.assertNotIn(operation["operationId"], ids)
                    ids.add(operation["operationId"])

    def test_conditional(self):
        asset = self.uploaded(clip("short"))
        path = f"/stream/{asset['id']}/original/index.m3u8"
        first = self.anonymous.get(path)
        etag = first.header("ETag")
        self.assertRegex(etag, r'^"[^"]+"$')
        for value in (etag, "*", f'"x", {etag}', f"W/{etag}"):
            self.assertEqual(self.anonymous.get(path, headers={"If-None-Match": value}).status, 304, value)
        self.assertEqual(self.anonymous.get(path, headers={"If-None-Match": '"x"'}).status, 200)

    def test_nothing_internal_in_errors(self):
        for response in (self.anonymous.get("/api/v1/assets"), self.anonymous.get("/x"),
                         self.admin.get("/api/v1/assets?limit=x")):
            text = response.body.decode()
            self.assertNotRegex(text, r"/tmp|/work|src/|\.c:\d+|sqlite|SELECT")
            self.assertEqual(response.header("X-Content-Type-Options"), "nosniff")


class FreshMetrics(support.DaemonCase):
    def test_they_begin_at_zero(self):
        """Prometheus sees a first event only as a step from 0, so the series must be there before it."""
        body = self.anonymous.get("/metrics").body
        result = run("promtool", "check", "metrics", input=body)
        self.assertEqual((result.returncode, result.stdout + result.stderr), (0, b""))
        text = body.decode()
        with open(f"{support.ROOT}/include/streamgate/base/metrics.def", encoding="utf-8") as table:
            rows = re.findall(r'^SG_METRIC\(\w+,\s*"(\w+)",\s*(\w+),\s*"([\w,]*)', table.read(), re.MULTILINE)
        self.assertGreater(len(rows), 50)
        kinds = {"COUNTER": "counter", "GAUGE": "gauge", "HISTOGRAM_S": "histogram", "HISTOGRAM_B": "histogram"}
        missing = [name for name, kind, labels in rows
                   if "route" not in labels and f"# TYPE streamgate_{name} {kinds[kind]}\n" not in text]
        self.assertEqual(missing, [])
        for series in ('rate_limit_exceeded_total{policy="auth",scope="ip"}', 'upload_failed_total{kind="raw"}',
                       'upload_success_total{kind="tus"}', 'auth_failed_total{method="api_key"}',
                       'malformed_requests_total{reason="framing"}', 'chunk_upload_success_total{kind="chunked"}',
                       'complete_upload_success_total{kind="import"}', "chunk_size_bytes_count"):
            self.assertTrue(f"\nstreamgate_{series} 0\n" in text, series)
        # One series for each route, method and class of status would be thousands of lines.
        self.assertFalse("route=\"/api/v1/assets" in text)


class Limits(support.DaemonCase):
    settings = {"ratelimit.metadata": "5/1", "ratelimit.streaming": "1000/100", "server.trusted_proxies": "127.0.0.1",
                "ratelimit.auth": "5/1"}

    def test_exceeding(self):
        me = {"X-Forwarded-For": "192.0.2.1"}
        codes, last = [], None
        for _ in range(8):
            last = self.admin.get("/api/v1/assets", headers=me)
            codes.append(last.status)
        self.assertEqual(codes[:5], [200] * 5)
        self.assertEqual(codes[-1], 429)
        problem = self.assertProblem(last, 429, "rate-limited")
        self.assertNotIn("metadata = ", str(problem))
        self.assertGreaterEqual(int(last.header("Retry-After")), 1)
        self.assertEqual(last.header("RateLimit-Limit"), "5")
        self.assertEqual(last.header("RateLimit-Remaining"), "0")
        self.assertGreaterEqual(int(last.header("RateLimit-Reset")), 1)
        self.assertGreater(self.daemon.metric("rate_limit_exceeded_total"), 0)

    def test_per_address(self):
        for _ in range(6):
            self.anonymous.get("/api/v1/assets", headers={"X-Forwarded-For": "192.0.2.20"})
        limited = self.anonymous.get("/api/v1/assets", headers={"X-Forwarded-For": "192.0.2.20"})
        self.assertEqual(limited.status, 429)
        other = self.anonymous.get("/api/v1/assets", headers={"X-Forwarded-For": "192.0.2.21"})
        self.assertEqual(other.status, 401)

    def test_ipv6_is_by_64(self):
        for i in range(8):
            self.anonymous.get("/api/v1/assets", headers={"X-Forwarded-For": f"2001:db8:1:2::{i:x}"})
        limited = self.anonymous.get("/api/v1/assets", headers={"X-Forwarded-For": "2001:db8:1:2:ffff::1"})
        self.assertEqual(limited.status, 429)
        other = self.anonymous.get("/api/v1/assets", headers={"X-Forwarded-For": "2001:db8:1:3::1"})
        self.assertEqual(other.status, 401)

    def test_a_user_is_limited_wherever_from(self):
        client = self.daemon.client("viewer", "wanderer")
        codes = [client.get("/api/v1/assets", headers={"X-Forwarded-For": f"198.51.100.{i}"}).status for i in range(10)]
        self.assertEqual(codes[0], 200)
        self.assertEqual(codes[-1], 429)

    def test_health_is_never_limited(self):
        for _ in range(50):
            self.assertEqual(self.anonymous.get("/health").status, 200)
            self.assertEqual(self.anonymous.get("/metrics").status, 200)

    def test_headers_say_what_is_left(self):
        response = Client(self.daemon.port, self.daemon.admin_key).get(
            "/stream/01ARZ3NDEKTSV4RRFFQ69G5FAV/master.m3u8", headers={"X-Forwarded-For": "192.0.2.90"})
        self.assertEqual(response.header("RateLimit-Limit"), "1000")
        self.assertLess(int(response.header("RateLimit-Remaining")), 1000)

    def test_content_for_players_is_lean(self):
        asset = self.admin.upload(clip("short"), headers={"X-Forwarded-For": "192.0.2.91"}).json()
        path = support.path_of(asset["playback"]["hls"])
        me = {"X-Forwarded-For": "192.0.2.92"}
        first = self.anonymous.get(path, headers=me)
        self.assertEqual((first.status, first.header("RateLimit-Limit"), first.header("traceparent")), (200, None, None))
        sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        traced = self.anonymous.get(path, headers={**me, "traceparent": sent})
        self.assertEqual(traced.header("traceparent").split("-")[1], sent.split("-")[1])
        for _ in range(2000):  # the bucket refills with 100 a second
            last = self.anonymous.get(path, headers=me)
            if last.header("RateLimit-Limit"):
                break
        self.assertEqual((last.status, last.header("RateLimit-Limit")), (200, "1000"))
        self.assertLessEqual(int(last.header("RateLimit-Remaining")), 500)


if __name__ == "__main__":
    support.main()
