"""Players in headless Chromium that a test leads step by step (browser/renditions.mjs)."""
import json
import os
import queue
import shutil
import subprocess
import threading

import support

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "browser")
LIMIT_S = 30


class Browser:
    """One Chromium. Calls of several pages may be under way at once."""

    def __init__(self):
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        if not chromium:
            raise AssertionError("chromium is not installed")
        self.process = subprocess.Popen(["node", "renditions.mjs", chromium], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1, env={**os.environ, "SG_SLOW": str(support.SLOW)})
        self.lock, self.waiting, self.number = threading.Lock(), {}, 0
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            with self.lock:
                box = self.waiting.pop(answer["id"])
            box.put(answer)
        with self.lock:
            for box in self.waiting.values():
                box.put({"error": "the browser's process ended"})

    def begin(self, **asked):
        with self.lock:
            self.number += 1
            box = self.waiting[self.number] = queue.Queue()
            asked["id"] = self.number
            self.process.stdin.write(json.dumps(asked) + "\n")
        return box

    def ask(self, **asked):
        answer = self.begin(**asked).get(timeout=asked.get("limit_s", LIMIT_S * support.SLOW) + 30)
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["value"]

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20 * support.SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()


class Player:
    """A page with a player of `kind`: hls, shaka or dash. What it can be told is in browser/stage.js."""

    def __init__(self, browser, kind, url):
        self.browser, self.kind = browser, kind
        self.page = browser.ask(open=kind)
        self.offers = self.tell("begin", kind=kind, url=url)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.browser.ask(page=self.page, close=True)

    def tell(self, name, limit_s=None, **given):
        asked = {"page": self.page, "call": name, "with": given}
        return self.browser.ask(**asked, **({"limit_s": limit_s * support.SLOW} if limit_s else {}))

    def levels(self):
        return self.offers["levels"]

    def report(self):
        return self.tell("report")
