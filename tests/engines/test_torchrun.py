"""Jobs whose ranks the real torchrun starts, by `torchd launch`."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import unittest

from support import (ENDLESS, JOB, PACKAGE, RANKS, TORCH, TORCHD, WithDaemon, all_processes, enter, environment_of, line_of, outposts, parent_of, past, runners,
                     scaled, strike, wait_for_state)

RETRY = {"max_restarts": 5, "initial_backoff": "0.1s"}

AGENTS = """
for node in 0 1; do
    "$PYTHON" -m torch.distributed.run --nnodes 2 --node-rank $node --nproc-per-node $((TORCHD_WORLD_SIZE / 2)) --rdzv-backend c10d \\
        --rdzv-endpoint "$MEETING" --rdzv-id "${TORCHD_JOB#jobs/}-$TORCHD_ATTEMPT" --local-addr 127.0.0.1 --max-restarts 0 --no-python torchd --rank &
done
wait
"""
"""Two agents, as on two machines."""


@contextlib.contextmanager
def launching(test, *arguments, **environment):
    """`torchd launch` with these arguments, which has to end in order."""
    command = [str(TORCHD), "launch", "--server", test.client.address, "--torchd", str(TORCHD), "--dir", str(test.places), *arguments]
    own = {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}", "PYTHONPATH": str(PACKAGE), "PYTHON": sys.executable}
    launcher = subprocess.Popen(command, env={**os.environ, **own, **environment}, stdin=subprocess.DEVNULL)
    try:
        yield launcher
    finally:
        launcher.send_signal(signal.SIGTERM)
        code = launcher.wait()
    if code != 0:
        raise AssertionError(f"the launcher has ended with {code}")


class Alone(unittest.TestCase):
    def test_torchd_launch_is_the_command_of_the_package_and_says_where_it_is_missing(self):
        environment = {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}

        def launch(*arguments, **more):
            return subprocess.run([str(TORCHD), "launch", *arguments], env={**environment, **more}, cwd="/", capture_output=True, text=True)

        told = launch("--help", PYTHONPATH=str(PACKAGE))
        self.assertEqual((told.returncode, told.stderr), (0, ""))
        self.assertIn("--torchrun-program", told.stdout)
        wrong = launch("--command", "true", PYTHONPATH=str(PACKAGE))
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("--slots is missing", wrong.stderr)
        missing = launch("--torchrun")
        self.assertEqual(missing.returncode, 1)
        self.assertRegex(missing.stderr, "python3 has no package torchd, which has the launchers; install the wheel of torchd")
        swallowed = launch("--config", "x", "--torchrun", PYTHONPATH=str(PACKAGE))
        self.assertEqual(swallowed.returncode, 2)
        self.assertIn("--config", swallowed.stderr)
        behind = subprocess.run([str(TORCHD), "--check-config", "launch", "--torchrun"], capture_output=True, text=True)
        self.assertEqual((behind.returncode, behind.stderr), (64, "torchd: launch comes first: torchd launch --torchrun\n"))


@unittest.skipIf(RANKS, RANKS)
@unittest.skipIf(TORCH, TORCH)
class Torchrun(WithDaemon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        enter(cls.addClassCleanup, launching(cls, "--torchrun", "--slots", "2"))

    def test_a_job_is_trained_to_the_numbers_of_this_machine(self):
        self.assert_whole(self.client.submit(scaled(JOB, "torchrun")))

    def test_ranks_without_a_route_to_the_daemon_train_by_files_alone(self):
        job = self.client.submit(scaled(JOB, "torchrun", storage=self.folder / "mailboxes"))
        past(job, 3)
        for pid in outposts(self.places):
            given = environment_of(pid)
            self.assertNotIn("TORCHD_SERVER", given)
            self.assertTrue(given["TORCHD_RANK_MAILBOX"].startswith(f"{self.folder}/mailboxes/torchd-{job.name.removeprefix('jobs/')}-1"))
        self.assert_whole(job)

    def test_pause_and_cancel_end_every_process_and_the_token_is_in_no_command_line(self):
        job = self.client.submit(scaled(ENDLESS, "torchrun"))
        past(job, 3)
        ours = outposts(self.places)
        self.assertEqual(len(ours), 2)
        agent = parent_of(ours[0])
        self.assertIn("torch.distributed.run", line_of(agent))
        token = environment_of(ours[0])["TORCHD_TOKEN"]
        self.assertEqual([line for line in map(line_of, all_processes()) if token in line], [])
        ours += [agent, *runners(self.places)]
        self.assertEqual(len(ours), 5)
        job.pause()
        wait_for_state(job, "PAUSED")
        self.assert_gone(job, ours)
        job.resume()
        past(job, job.message.progress.step + 3, attempt=2)
        ours = [*outposts(self.places), *runners(self.places)]
        self.assertEqual(len(ours), 4)
        ours.append(parent_of(ours[0]))
        job.cancel()
        wait_for_state(job, "CANCELLED")
        self.assert_gone(job, ours)

    def test_after_kills_of_runner_outpost_and_agent_the_next_attempts_reach_the_same_numbers(self):
        job = self.client.submit(scaled(JOB, "torchrun", retry=RETRY))
        past(job, 9)
        strike(runners(self.places)[0])
        past(job, 9, attempt=2)
        strike(outposts(self.places)[1])
        past(job, 9, attempt=3)
        agent = parent_of(outposts(self.places)[0])
        self.assertIn("torch.distributed.run", line_of(agent))
        strike(agent)
        self.assert_whole(job, attempts=4)

    def test_a_job_that_needs_more_slots_waits_and_says_so(self):
        job = self.client.submit(scaled(JOB, "torchrun", world_size=4))
        self.assertRegex(job.refresh().message.waiting_reason, "needs 4 slots of torchrun|[Nn]o launcher of torchrun is attached")
        job.cancel()


@unittest.skipIf(RANKS, RANKS)
@unittest.skipIf(TORCH, TORCH)
class Command(WithDaemon):
    def test_two_agents_of_a_command_train_a_job(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meeting = f"127.0.0.1:{free.getsockname()[1]}"
        with launching(self, "--command", AGENTS, "--slots", "2", MEETING=meeting):
            self.assert_whole(self.client.submit(scaled(JOB, "torchrun")))
        self.assertEqual([line for line in map(line_of, all_processes()) if meeting in line], [])

    def test_a_command_that_fails_is_told_by_the_job(self):
        with launching(self, "--command", "echo no such partition >&2", "--slots", "4"):
            job = self.client.submit(scaled(JOB, "torchrun", world_size=4))
            with self.assertRaisesRegex(Exception, "the engine ended before it had joined: no such partition"):
                job.wait(progress=False)

    def test_a_launcher_that_is_told_to_end_lets_ranks_save_and_the_next_one_goes_on(self):
        with launching(self, "--torchrun", "--slots", "2"):
            job = self.client.submit(scaled(JOB, "torchrun", retry=RETRY))
            past(job, 9)
            ours = [*outposts(self.places), *runners(self.places)]
        self.assertEqual(len(ours), 4)
        self.assert_gone(job, ours)
        with launching(self, "--torchrun", "--slots", "2"):
            self.assert_whole(job, attempts=2)


if __name__ == "__main__":
    unittest.main()
