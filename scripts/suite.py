#!/usr/bin/env python3
"""Joins the tests of several build directories into one, so that one ctest runs and counts them all.

usage: suite.py OUT PART...   where PART is `lint` or NAME=BUILD-DIR[=LABEL-REGEX]

Writes OUT/CTestTestfile.cmake with every test under the name NAME/<its name>.
"""
import json
import os
import subprocess
import sys

KEPT = ("LABELS", "TIMEOUT", "ENVIRONMENT", "RUN_SERIAL", "WORKING_DIRECTORY")


def quoted(text):
    return "[===[" + str(text) + "]===]"


def tests_of(build_dir, labels):
    command = ["ctest", "--test-dir", build_dir, "--show-only=json-v1"] + (["-L", labels] if labels else [])
    listing = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return listing["tests"]


def entry(name, command, properties):
    lines = [f"add_test({quoted(name)} {' '.join(map(quoted, command))})"]
    if properties:
        pairs = []
        for key, value in properties.items():
            if isinstance(value, list):
                value = ";".join(value)
            if isinstance(value, bool):
                value = "TRUE" if value else "FALSE"
            pairs.append(f"{key} {quoted(value)}")
        lines.append(f"set_tests_properties({quoted(name)} PROPERTIES {' '.join(pairs)})")
    return "\n".join(lines)


def main():
    out, parts = sys.argv[1], sys.argv[2:]
    entries = []
    for part in parts:
        if part == "lint":
            lint = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lint")
            entries.append(entry("lint", [lint], {"TIMEOUT": 600}))
            continue
        name, build_dir, *labels = part.split("=", 2)
        found = tests_of(build_dir, labels[0] if labels else None)
        if not found:
            sys.exit(f"no tests in {build_dir}")
        for test in found:
            if not test.get("command"):
                sys.exit(f"{build_dir}: {test['name']} is not built")
            properties = {p["name"]: p["value"] for p in test["properties"] if p["name"] in KEPT}
            entries.append(entry(f"{name}/{test['name']}", test["command"], properties))
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "CTestTestfile.cmake"), "w", encoding="utf-8") as file:
        file.write("\n".join(entries) + "\n")


main()
