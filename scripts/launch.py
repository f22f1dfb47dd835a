#!/usr/bin/env python3
"""Starts a daemon in a session of its own and returns when it says READY=1.

usage: launch.py LOG PROGRAM ARG...

Speaks the service side of sd_notify(3): the daemon sends READY=1 to NOTIFY_SOCKET when it serves, so
nobody polls. Prints the pid. Exit 1 when the daemon ends first or is not ready in time.
"""
import os
import select
import socket
import subprocess
import sys
import tempfile

READY_TIMEOUT_S = 30


def main():
    log, command = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "notify")
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(path)
        with open(log, "ab") as out:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                     start_new_session=True, env={**os.environ, "NOTIFY_SOCKET": path})
        ended = os.pidfd_open(child.pid)
        poll = select.poll()
        poll.register(notify, select.POLLIN)
        poll.register(ended, select.POLLIN)
        while True:
            events = dict(poll.poll(READY_TIMEOUT_S * 1000))
            if notify.fileno() in events:
                if "READY=1" in notify.recv(4096).decode().splitlines():
                    print(child.pid)
                    return 0
            elif ended in events:
                print(f"{command[0]} ended with status {child.wait()}", file=sys.stderr)
                return 1
            elif not events:
                child.kill()
                print(f"{command[0]} was not ready within {READY_TIMEOUT_S} s", file=sys.stderr)
                return 1


sys.exit(main())
