"""Starts TensorBoard on a folder and prints what its HTTP API tells of the scalars: {tag: [[time, step, value], ...]}."""

import argparse
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("--logdir", required=True)
parser.add_argument("--load_fast", required=True)
arguments = parser.parse_args()

LIMIT = time.monotonic() + 100
command = [sys.executable, "-m", "tensorboard.main", "--logdir", arguments.logdir, "--load_fast", arguments.load_fast,
           "--host", "127.0.0.1", "--port", "0", "--reload_interval", "1"]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def get(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.load(answer)


try:
    words = []
    for line in server.stderr:
        words.append(line)
        found = re.search(r"(http://127\.0\.0\.1:\d+/)", line)
        if found:
            break
    else:
        sys.exit("TensorBoard did not start:\n" + "".join(words))
    plugin = found.group(1) + "data/plugin/scalars/"
    # TensorBoard loads in the background: ask until the last thing that was written is there.
    while True:
        runs = get(plugin + "tags")
        if any("accuracy/validation" in tags for tags in runs.values()):
            shown = {}
            for run, tags in runs.items():
                for tag in tags:
                    shown[tag] = get(plugin + "scalars?" + urllib.parse.urlencode({"run": run, "tag": tag}))
            if len(shown["accuracy/validation"]) == 2 and len(shown["loss/train"]) == 12:
                break
        if time.monotonic() > LIMIT:
            sys.exit(f"TensorBoard shows {runs}")
        time.sleep(0.1)
    json.dump(shown, sys.stdout)
finally:
    server.terminate()
    server.wait()
