"""Awkward sources, one by one: what the player gets is the source, frame for frame (media_corpus.py)."""
import os
import subprocess
import sys

import support

HERE = os.path.dirname(os.path.abspath(__file__))


class Corpus(support.DaemonCase):
    settings = {"ratelimit.enabled": "false"}

    def test_corpus(self):
        command = [sys.executable, "-B", os.path.join(HERE, "media_corpus.py"), "--base", f"http://127.0.0.1:{self.daemon.port}",
                   "--key", self.daemon.admin_key, "--compare", os.path.join(os.path.dirname(support.BIN), "unit_media_plain")]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
        print(done.stdout, flush=True)
        self.assertEqual(done.returncode, 0, "see the lines marked FAIL")


if __name__ == "__main__":
    support.main()
