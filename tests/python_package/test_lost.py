"""Daemons that go away, and programs that do."""

import contextlib
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

from support import ENDLESS, EXAMPLES, LINEAR, TOP, enter, first_scalar

import torchd
from torchd.daemon import Daemon


class Lost(unittest.TestCase):
    def setUp(self):
        self.state = pathlib.Path(enter(self.addCleanup, tempfile.TemporaryDirectory(prefix="torchd-test-")))

    def start(self):
        """A daemon whose runners go on without it, on the same Unix socket each time."""
        daemon = Daemon(EXAMPLES, self.state)
        self.addCleanup(daemon.stop)
        return daemon

    def kill(self, daemon):
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.stop()

    def test_a_watch_goes_on_behind_its_last_record(self):
        daemon = self.start()
        client = enter(self.addCleanup, torchd.connect(daemon.address))
        job = client.submit(ENDLESS)
        numbers, again, enough = [], None, None
        with self.assertLogs("torchd", "WARNING") as logs, contextlib.closing(job.watch()) as events:
            for event in events:
                if event.HasField("record"):
                    numbers.append(event.record.sequence)
                if len(numbers) >= 5 and again is None:
                    self.kill(daemon)
                    again, enough = self.start(), numbers[-1] + 200
                if enough is not None and numbers[-1] > enough:
                    break
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        self.assertIn("is lost", logs.output[0])
        job.cancel(now=True)
        with self.assertRaises(torchd.JobFailed):
            job.wait(progress=False)

    def test_a_wait_is_over_where_no_daemon_comes_back(self):
        daemon = self.start()
        client = enter(self.addCleanup, torchd.connect(daemon.address, patience=0.3))
        job = client.submit(ENDLESS)
        first_scalar(job)
        job.pause()
        with contextlib.suppress(torchd.JobPaused):
            job.wait(progress=False)
        events = job.watch()
        next(events)
        self.kill(daemon)
        with self.assertLogs("torchd", "WARNING"), self.assertRaisesRegex(torchd.ServerLost, f"the connection to torchd at {daemon.address} is lost"):
            for _ in events:
                pass
        self.assertIn("as it was told last; ServerLost since then", job._repr_html_())
        with self.assertRaises(torchd.ServerLost):
            client.jobs()

    def test_ctrl_c_leaves_the_job_and_says_so(self):
        daemon = self.start()
        client = enter(self.addCleanup, torchd.connect(daemon.address))
        job = client.submit(ENDLESS)
        waiting = subprocess.Popen([sys.executable, "-c", WAITS, daemon.address, job.name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env={"PYTHONPATH": str(TOP / "python")})
        self.assertEqual(waiting.stdout.readline(), "waits\n")
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate()
        self.assertIn("KeyboardInterrupt", said)
        self.assertIn(f"{job.name} goes on without you: wait() again, or cancel() it", said)
        self.assertIn(client.job(job.name).state, ("STARTING", "RUNNING"))
        job.cancel()

    def test_a_daemon_of_ones_own_ends_with_its_program_however_that_ends(self):
        code = "import torchd, signal\nwith torchd.local() as client:\n    print(client.address, flush=True)\n    signal.pause()"
        program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(TOP / "python")})
        place = program.stdout.readline().strip()
        with torchd.connect(place) as client:
            pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal() and is_daemon_at(entry, place)]
            self.assertEqual(len(pids), 1)
            ended = os.pidfd_open(pids[0])
            program.kill()
            program.communicate()
            self.assertTrue(select.select([ended], [], [], 60)[0], "the daemon goes on")
            os.close(ended)
            with self.assertRaises(torchd.ServerLost):
                client.version()

    def test_a_daemon_that_does_not_start_says_why(self):
        with self.assertRaisesRegex(torchd.NoServer, "(?s)has ended with 64.*quota_bytes"):
            Daemon(settings={"uploads.quota_bytes": "many"})

    def test_a_job_goes_on_with_the_next_daemon(self):
        with torchd.local(EXAMPLES, state_dir=self.state) as client:
            job = client.submit(LINEAR, {"training.epochs": 400, "checkpoint.every_steps": 5})
            first_scalar(job)
        with torchd.local(EXAMPLES, state_dir=self.state) as client:
            self.assertGreaterEqual(client.job(job.name).wait(progress=False).message.attempt, 2)

    def test_upload_goes_on_where_it_stopped(self):
        from torchd import uploads
        daemon = self.start()
        client = enter(self.addCleanup, torchd.connect(daemon.address))
        path = self.state / "large.bin"
        path.write_bytes(os.urandom(3 * uploads.PIECE_BYTES + 5))
        held, go_on = threading.Event(), threading.Event()
        sent = []
        pieces = uploads._Pieces.__iter__

        def breaks(self):
            for number, request in enumerate(pieces(self)):
                sent.append(len(request.data))
                yield request
                if number == 2 and not held.is_set():
                    held.set()
                    go_on.wait()

        uploads._Pieces.__iter__ = breaks
        self.addCleanup(setattr, uploads._Pieces, "__iter__", pieces)

        def restart():
            held.wait()
            partial = self.state / "uploads"
            while not any(file.stat().st_size >= 2 * uploads.PIECE_BYTES for file in partial.rglob("*") if file.is_file()):
                os.sched_yield()
            self.kill(daemon)
            self.start()
            go_on.set()

        other = threading.Thread(target=restart)
        other.start()
        told = client.upload(path, "large.bin")
        other.join()
        self.assertEqual((told.size_bytes, told.sha256), (path.stat().st_size, uploads.checksum(path)))
        # A piece may have been taken from the file for the call that broke.
        self.assertLessEqual(sum(sent), path.stat().st_size + uploads.PIECE_BYTES)
        sent.clear()
        client.upload(path, "large.bin")
        self.assertEqual(sent, [])
        self.assertEqual([file.name for file in client.files()], ["large.bin"])
        client.remove_file("large.bin")
        self.assertEqual(client.files(), [])


WAITS = """
import sys
import torchd
from torchd import progress
job = torchd.connect(sys.argv[1]).job(sys.argv[2])
# What shows a job is called from within the wait.
progress.Silence.show = lambda self, job: print("waits", flush=True)
job.wait(progress=False)
"""


def is_daemon_at(pid, place):
    """Whether a process is the daemon whose socket lies at a place."""
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    folder = place.removeprefix("unix:").removesuffix("/torchd.sock").encode()
    return words[0].endswith(b"torchd") and folder in words


if __name__ == "__main__":
    unittest.main()
