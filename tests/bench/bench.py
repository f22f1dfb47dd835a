#!/usr/bin/env python3
"""The benchmark: figures of docs/BENCHMARKS.md, measured on this machine with every layer switched on.

usage: bench.py [--runs N] [--seconds S] [--out FILE] [--replace] [PART...]

Parts: serve upload cold storyboard flight instructions memory raw tus small ladder first beside (all by default). Every comparison alternates its two
sides and tells the medians and the raw figures. FILE is written anew with all parts; when only some are run, their
text goes to the terminal, and with --replace takes the place of theirs in FILE.
"""
import argparse
import os
import platform
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import support  # noqa: E402
import parts  # noqa: E402


def machine():
    with open("/proc/cpuinfo", encoding="ascii") as file:
        model = next((l.split(":", 1)[1].strip() for l in file if l.startswith("model name")), platform.machine())
    with open("/proc/meminfo", encoding="ascii") as file:
        memory = int(file.readline().split()[1]) / 2**20
    with open("/etc/os-release", encoding="utf-8") as file:
        system = next(l.split("=", 1)[1].strip().strip('"') for l in file if l.startswith("PRETTY_NAME"))
    return (f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {system}, Linux {platform.release()}; data on "
            f"{filesystem(parts.WORK)}. Client and server share the cores.")


def filesystem(path):
    line = subprocess.run(["df", "--output=fstype,source", path], capture_output=True, text=True).stdout.splitlines()[-1]
    return " ".join(line.split())


def versions():
    found = [("streamgate", subprocess.run([support.BIN, "--version"], capture_output=True, text=True).stdout.strip())]
    for name, command in (("nginx", ["nginx", "-v"]), ("wrk", ["wrk", "-v"]), ("valgrind", ["valgrind", "--version"])):
        result = subprocess.run(command, capture_output=True, text=True)
        found.append((name, (result.stdout + result.stderr).splitlines()[0].strip()))
    return "; ".join(f"{name}: {text}" for name, text in found)


def marked(name, text):
    """A part's section with the marks by which a later run of this part finds it."""
    return f"<!-- {name} -->\n{text}\n<!-- /{name} -->\n"


def replace(path, sections):
    """Puts sections in the place of those of an earlier run, or at the end."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for name, section in sections.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        if begin in text:
            text = text[:text.index(begin)] + marked(name, section) + text[text.index(end) + len(end):]
        else:
            text += "\n" + marked(name, section)
    with open(path + ".part", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path + ".part", path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--out")
    parser.add_argument("--replace", action="store_true")
    parser.add_argument("parts", nargs="*", default=[])
    options = parser.parse_args()
    if options.runs < 1 or set(options.parts) - set(parts.ALL):
        parser.error(f"parts are: {' '.join(parts.ALL)}")
    support.raise_descriptor_limit()
    os.makedirs(parts.WORK, exist_ok=True)
    sections = []
    for name in options.parts or parts.ALL:
        print(f"==> {name}", file=sys.stderr, flush=True)
        sections.append((name, parts.ALL[name](options).rstrip()))
        print(sections[-1][1], flush=True)
    if options.out and options.replace and options.parts:
        replace(options.out, dict(sections))
        return
    text = "\n".join([
        "# Benchmarks", "",
        "Written by `scripts/bench`; every figure is measured, none is edited. Medians, with the raw figures beside them; "
        "the two sides of a comparison take turns. Every layer is on: request ids, rate limits (raised, still checked), "
        "identity by a signed token in the URL, cache, metrics, audit, alerts.", "",
        f"- Machine: {machine()}", f"- {versions()}", "", *(marked(*section) for section in sections)])
    if options.out and not options.parts:
        with open(options.out + ".part", "w", encoding="utf-8") as file:
            file.write(text.rstrip() + "\n")
        os.rename(options.out + ".part", options.out)


main()
