"""Fits a line by stochastic gradient descent, in plain Python: a program that reports, saves, stops when it is asked to, and goes on to the same numbers.

    torchctl run -- python3 examples/programs/train.py --steps 500

It needs the package torchd and nothing else. By itself it runs as well, and tells nobody.
"""

import argparse
import json
import random
import time

import torchd


def batch(seed, step):
    """Points of a line with noise: a function of seed and step, so that a resumed run draws those that an unbroken one would have drawn."""
    draw = random.Random(f"{seed} {step}")
    return [(x, 3 * x - 1 + draw.gauss(0, 0.1)) for x in (draw.uniform(-1, 1) for _ in range(16))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rate", type=float, default=0.05, help="the learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.01, help="the time that a step takes, so that there is something to pause")
    arguments = parser.parse_args()

    state = {"step": 0, "slope": 0.0, "offset": 0.0}
    if saved := torchd.resume_from():
        state = json.loads(saved.read_text())
        print("goes on from step", state["step"])

    for step in range(state["step"] + 1, arguments.steps + 1):
        points = batch(arguments.seed, step)
        errors = [(x, state["slope"] * x + state["offset"] - y) for x, y in points]
        state["slope"] -= arguments.rate * 2 * sum(error * x for x, error in errors) / len(points)
        state["offset"] -= arguments.rate * 2 * sum(error for _, error in errors) / len(points)
        state["step"] = step
        torchd.report(step, {"loss/train": sum(error * error for _, error in errors) / len(points)}, progress=step / arguments.steps)
        is_stopped = torchd.should_stop()
        if is_stopped or step % 100 == 0:
            path = torchd.checkpoint_dir() / f"step-{step}.json"
            path.write_text(json.dumps(state))
            torchd.report(step, checkpoint=path)
        if is_stopped:
            return
        time.sleep(arguments.seconds)
    torchd.finished()
    print(f"y = {state['slope']:.2f} x {state['offset']:+.2f}")


if __name__ == "__main__":
    main()
