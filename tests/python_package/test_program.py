"""Programs that report with the package, as jobs and by themselves."""

import contextlib
import pathlib
import subprocess
import sys
import tempfile
import unittest

from support import EXAMPLES, TOP, enter, wait_for_state

import torchd

PROGRAM = '''
import os, subprocess, sys, time
import torchd

saved = torchd.resume_from()
print("goes on from", saved and saved.read_text())
begin = int(saved.read_text()) if saved else 0
for step in range(begin, 1000 if not saved else begin + 3):
    torchd.report(step, {"loss/train": 1 / (step + 1)}, odd=float("nan"), progress=step / 1000)
    if step == 0:
        # One that was started has not got the descriptor, and whatever has its number is left alone.
        subprocess.run([sys.executable, "-c", "import torchd; torchd.report(99, loss=1)"], check=True)
    if torchd.should_stop():
        path = torchd.checkpoint_dir() / f"at-{step}"
        path.write_text(str(step + 1))
        torchd.report(step, checkpoint=path)
        sys.exit(0)
    time.sleep(0.02 if not saved else 0)
try:
    torchd.report(artifact="train.py")
except ValueError as error:
    print(error)
result = torchd.checkpoint_dir() / "result"
result.write_text("all of it")
torchd.report(artifact=result)
torchd.finished()
'''


class Programs(unittest.TestCase):
    def test_a_program_is_paused_by_should_stop_and_goes_on_from_its_checkpoint(self):
        folder = pathlib.Path(enter(self.addCleanup, tempfile.TemporaryDirectory())).resolve()
        (folder / "train.py").write_text(PROGRAM)
        settings = {"programs.enabled": "true", "programs.allowed": str(pathlib.Path(sys.executable).parent)}
        client = enter(self.addCleanup, torchd.local(data_root=[folder, TOP / "python"], settings=settings))
        job = client.submit({
            "program": {"command": [sys.executable, "train.py"], "working_dir": str(folder), "env": {"PYTHONPATH": str(TOP / "python")}},
            "resources": {"device": "DEVICE_CPU", "cpu_threads": 1},
        })
        with contextlib.closing(job.watch()) as events:
            for event in events:
                if event.record.HasField("scalars") and event.record.scalars.step >= 5:
                    break
        job.pause()
        wait_for_state(job, "PAUSED")
        stopped = job.scalars()["loss/train"].step[-1]
        job.resume()
        job.wait(progress=False)
        self.assertEqual(job.state, "SUCCEEDED", list(job.logs()))
        scalars = job.scalars()
        self.assertEqual(list(scalars), ["loss/train"], "nothing that is no number, and nothing of a process that it started")
        self.assertEqual(list(scalars["loss/train"].step), list(range(stopped + 4)))
        self.assertIn(f"goes on from {stopped + 1}", "\n".join(job.logs()))
        self.assertIn("artifact is 'train.py'; a path in $TORCHD_PROGRAM_DIR", "\n".join(job.logs()))
        job.download(folder / "results")
        self.assertEqual((folder / "results/artifacts/checkpoints/result").read_text(), "all of it")

    def test_the_example_goes_on_after_a_pause_to_the_numbers_of_an_unbroken_run(self):
        settings = {"programs.enabled": "true", "programs.allowed": str(pathlib.Path(sys.executable).parent)}
        client = enter(self.addCleanup, torchd.local(data_root=[EXAMPLES, TOP / "python"], settings=settings))

        def submit(steps, seconds):
            return client.submit({
                "program": {
                    "command": [sys.executable, "train.py", "--steps", str(steps), "--seconds", str(seconds)],
                    "working_dir": str(EXAMPLES / "programs"),
                    "env": {"PYTHONPATH": str(TOP / "python")},
                },
                "resources": {"device": "DEVICE_CPU", "cpu_threads": 1},
            })

        def wait_for_step(job, step):
            with contextlib.closing(job.watch()) as events:
                for event in events:
                    if event.record.HasField("scalars") and event.record.scalars.step >= step:
                        return

        def curve(job):
            values = job.scalars()["loss/train"]
            return list(values.step), list(values.value)

        broken = submit(10_000_000, 0.01)
        wait_for_step(broken, 5)
        broken.pause()
        wait_for_state(broken, "PAUSED")
        stopped = curve(broken)[0][-1]
        broken.resume()
        wait_for_step(broken, stopped + 5)
        broken.cancel()
        wait_for_state(broken, "CANCELLED")
        self.assertIn(f"goes on from step {stopped}", list(broken.logs()))
        steps, values = curve(broken)
        whole = submit(steps[-1], 0)
        whole.wait(progress=False)
        self.assertEqual(whole.state, "SUCCEEDED", list(whole.logs()))
        self.assertEqual(curve(whole), (steps, values))
        self.assertEqual(steps, list(range(1, steps[-1] + 1)))

    def test_without_torchd_nothing_is_reported_and_nothing_breaks(self):
        with tempfile.TemporaryDirectory() as folder:
            script = "import torchd; torchd.report(1, loss=2); torchd.finished(); print(torchd.should_stop(), torchd.resume_from(), torchd.checkpoint_dir())"
            done = subprocess.run([sys.executable, "-c", script], cwd=folder, env={"PYTHONPATH": str(TOP / "python")}, capture_output=True, text=True)
            self.assertEqual((done.stdout, done.stderr), ("False None checkpoints\n", ""))


if __name__ == "__main__":
    unittest.main()
