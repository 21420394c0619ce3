"""Starts TensorBoard on a folder and prints what its HTTP API tells of the scalars: {run: {tag: [[time, step, value], ...]}}.

It loads in the background, and --counts tells what has to be there, {run: {tag: points}}: it is asked until each run has its tags with so many
points or more, and then a little longer, so that what comes too much is seen.
"""

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
parser.add_argument("--counts", required=True, type=json.loads)
arguments = parser.parse_args()

LIMIT = time.monotonic() + 100
RELOAD = 1
command = [sys.executable, "-m", "tensorboard.main", "--logdir", arguments.logdir, "--load_fast", arguments.load_fast,
           "--host", "127.0.0.1", "--port", "0", "--reload_interval", str(RELOAD)]
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
    whole_since = None
    while True:
        shown = {
            run: {tag: get(plugin + "scalars?" + urllib.parse.urlencode({"run": run, "tag": tag})) for tag in tags}
            for run, tags in get(plugin + "tags").items()
        }
        is_whole = all(
            len(shown.get(run, {}).get(tag, [])) >= count
            for run, counts in arguments.counts.items()
            for tag, count in counts.items()
        )
        if not is_whole:
            whole_since = None
        elif whole_since is None:
            whole_since = time.monotonic()
        elif time.monotonic() > whole_since + 2 * RELOAD:
            break
        if time.monotonic() > LIMIT:
            counts = {run: {tag: len(points) for tag, points in tags.items()} for run, tags in shown.items()}
            sys.exit(f"TensorBoard shows {counts}")
        time.sleep(0.1)
    json.dump(shown, sys.stdout)
finally:
    server.terminate()
    server.wait()
