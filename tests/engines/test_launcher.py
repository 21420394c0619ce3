"""What a launcher does with any engine."""

import contextlib
import os
import pathlib
import tempfile
import threading
import unittest
from unittest import mock

from support import ENDLESS, EXAMPLES, JOB, RANKS, TORCHD, WithDaemon, enter, line_of, outposts, past, scaled, wait_for, wait_for_state

import torchd
from torchd import messages
from torchd.address import parse
from torchd.daemon import Daemon
from torchd.launcher import MOST_WORDS, Launcher, LauncherReplaced, Run, last_bytes, rank_environment, usual_name
from torchd.torchrun import Command, Gpus, usual_gpus

RANK = "RANK=0 WORLD_SIZE=1 exec torchd --rank"
"""An engine for one rank."""


class Held:
    """An engine that starts nothing, and ends a launch when it is asked to."""

    number = messages.ENGINE_TORCHRUN
    gpus = None

    def __init__(self, count=1):
        self.begun = threading.Barrier(count + 1)

    def run(self, run):
        stopped = threading.Event()
        run.on_stop(stopped.set)
        self.begun.wait(60)
        stopped.wait()
        return ""


class Failing:
    """An engine that cannot start anything."""

    number = messages.ENGINE_TORCHRUN
    gpus = None

    def run(self, run):
        raise OSError("no such queue")


class OnGpus(unittest.TestCase):
    """The GPUs of torchrun's machine."""

    def test_each_launch_has_gpus_of_its_own_and_waits_for_them(self):
        gpus = Gpus(["4", "GPU-b", "6"])
        first, second, third = (run_of(attempt, world_size) for attempt, world_size in ((1, 2), (2, 1), (3, 2)))
        with gpus.taken(first) as own:
            self.assertEqual(own, ["4", "GPU-b"])
            with gpus.taken(second) as other:
                self.assertEqual(other, ["6"])
            had, waits = [], threading.Event()
            run_stop = third.on_stop
            third.on_stop = lambda ask: (run_stop(ask), waits.set())
            waiting = threading.Thread(target=lambda: had.append(enter(self.addCleanup, gpus.taken(third))))
            waiting.start()
            waits.wait(60)
            self.assertEqual(had, [])
        waiting.join(60)
        self.assertEqual(had, [["6", "4"]])

    def test_a_launch_that_is_stopped_waits_no_longer_and_one_that_is_too_large_is_refused(self):
        gpus, held, stopped = Gpus(["0"]), run_of(1, 1), run_of(2, 1)
        with gpus.taken(held):
            threading.Timer(0.1, stopped.stop).start()
            with gpus.taken(stopped) as own:
                self.assertEqual(own, [])
        with self.assertRaisesRegex(torchd.TorchdError, "this machine has 1 GPUs for ranks, and 2 ranks need one each"), gpus.taken(run_of(3, 2)):
            pass
        with gpus.taken(run_of(4, 1)) as own:
            self.assertEqual(own, ["0"])

    def test_the_gpus_are_those_that_cuda_would_show(self):
        with tempfile.TemporaryDirectory() as folder:
            driver, devices, no = pathlib.Path(folder) / "gpus", pathlib.Path(folder) / "dev", pathlib.Path("/nowhere")
            for name in ("gpus/0000:01:00.0", "gpus/0000:02:00.0", "dev/nvidia7", "dev/nvidiactl", "wsl/dxg"):
                (driver.parent / name).mkdir(parents=True)
            for visible, expected in ((None, ["0", "1"]), ("", []), ("-1", []), ("3, GPU-a,-1,5", ["3", "GPU-a"])):
                with mock.patch.dict(os.environ, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}):
                    if visible is None:
                        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
                    self.assertEqual(usual_gpus(driver, no), expected)
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            self.assertEqual([usual_gpus(driver, devices), usual_gpus(no, devices), usual_gpus(no, driver.parent / "wsl"), usual_gpus(no, no)],
                             [["0"], ["0"], ["0"], []])


def run_of(attempt, world_size):
    """A launch whose ranks have a GPU each."""
    return Run(messages.Launch(job="jobs/one", attempt=attempt, world_size=world_size, gpu=True), {})


class Launchers(WithDaemon):
    def launcher(self, engine, slots=2, **arguments):
        """A launcher for as long as a test takes."""
        launcher = Launcher(engine, self.client, slots=slots, **arguments).start()
        self.addCleanup(launcher.stop)
        return launcher

    def submit(self, **more):
        job = self.client.submit(scaled(JOB, "torchrun", world_size=1, **more))
        self.addCleanup(end, job)
        return job

    def test_another_one_of_the_same_name_takes_its_place(self):
        first = self.launcher(Held(), name="the-one")
        second = self.launcher(Held(), name="the-one")
        with self.assertRaisesRegex(LauncherReplaced, "another launcher has attached as the-one"):
            first.wait()
        second.stop()
        second.wait()

    def test_a_daemon_of_another_version_is_refused_and_both_are_named(self):
        with mock.patch("torchd.launcher.__version__", "0.0.9"), self.assertRaisesRegex(torchd.WrongVersion, f"{torchd.__version__}.*0.0.9"):
            self.launcher(Held())

    def test_a_name_that_is_wrong_and_a_client_of_another_kind_are_refused_at_once(self):
        with self.assertRaisesRegex(torchd.InvalidRequest, "launcher"):
            self.launcher(Held(), name="two words")
        with self.assertRaisesRegex(TypeError, "torchd.connect"):
            Launcher(Held(), self.client._core, slots=1)

    def test_several_launches_run_at_once_and_are_all_ended(self):
        engine = Held(2)
        launcher = self.launcher(engine)
        jobs = [self.submit(), self.submit()]
        engine.begun.wait(60)
        self.assertEqual(sorted(launcher.launches), sorted(job.name for job in jobs))
        launcher.stop()
        self.assertEqual(launcher.launches, [])

    def test_a_launcher_without_gpus_is_given_no_job_on_gpus(self):
        engine = Held()
        engine.gpus = 0
        self.launcher(engine)
        job = self.submit(resources={"device": "cuda", "cpu_threads": 1})
        wait_for(job, lambda message: "needs 1 slot with a GPU of torchrun; its launchers have at most 0" in message.waiting_reason)
        self.submit()
        engine.begun.wait(60)

    def test_a_launch_whose_job_is_cancelled_is_stopped(self):
        engine = Held()
        launcher = self.launcher(engine)
        job = self.submit()
        engine.begun.wait(60)
        (run,) = launcher._runs.values()
        job.cancel()
        self.assertTrue(run.ended.wait(60))

    def test_an_engine_that_grows_is_given_the_job_that_waits_for_it(self):
        engine, has_grown = Held(), threading.Event()
        launcher = self.launcher(engine, slots=1, grown=lambda: 2 if has_grown.is_set() else 1)
        job = self.client.submit(scaled(JOB, "torchrun", world_size=2))
        self.addCleanup(end, job)
        wait_for(job, lambda message: "needs 2 slots" in message.waiting_reason)
        self.assertEqual(launcher.launches, [])
        has_grown.set()
        engine.begun.wait(60)
        self.assertEqual((launcher.slots, launcher.launches), (2, [job.name]))

    def test_an_order_that_was_on_its_way_when_the_engine_grew_is_given_again(self):
        engine, is_lost = Held(), threading.Event()
        launcher = Launcher(engine, self.client, slots=1, grown=lambda: 2 if is_lost.is_set() else 1)
        take = launcher._take

        def lose(order):
            # As gRPC drops what comes while a call is cancelled.
            if order.WhichOneof("order") == "launch" and not is_lost.is_set():
                is_lost.set()
            else:
                take(order)

        with mock.patch.object(launcher, "_take", lose):
            launcher.start()
            self.addCleanup(launcher.stop)
            job = self.submit()
            engine.begun.wait(60)
        self.assertEqual((launcher.slots, list(launcher._runs)), (2, [(job.name, 1)]))
        self.assertEqual(job.refresh().message.attempt, 1)

    def test_an_engine_that_cannot_tell_its_slots_for_a_while_grows_afterwards_and_to_no_more_than_the_daemon_takes(self):
        engine, answers = Held(), iter([OSError("no answer"), OSError("no answer")])

        def grown():
            if error := next(answers, None):
                raise error
            return 5000

        with self.assertLogs("torchd", "WARNING") as told:
            launcher = self.launcher(engine, slots=1, grown=grown)
            job = self.client.submit(scaled(JOB, "torchrun", world_size=2))
            self.addCleanup(end, job)
            engine.begun.wait(60)
        self.assertEqual((launcher.slots, launcher.launches), (4096, [job.name]))
        self.assertEqual([line for line in told.output if "no answer" in line],
                         [f"WARNING:torchd:the slots of launcher {launcher.name} are not told now; it asks again: OSError: no answer"])

    def test_the_words_of_an_engine_that_fails_are_those_of_the_job(self):
        self.launcher(Failing())
        with self.assertRaisesRegex(torchd.JobFailed, "the engine ended before it had joined: OSError: no such queue"):
            self.submit().wait(progress=False)

    def test_names_words_and_addresses(self):
        self.assertRegex(usual_name(), r"^[A-Za-z0-9._@:+-]{1,128}$")
        self.assertEqual(last_bytes("ä" * MOST_WORDS), "ä" * (MOST_WORDS // 2))
        self.assertEqual(rank_environment(parse("unix:/a/b"), None, "/ca.pem"), {"TORCHD_SERVER": "unix:/a/b", "TORCHD_CA_FILE": "/ca.pem"})
        self.assertEqual(rank_environment(parse("unix:/a/b"), "https://head:1", None), {"TORCHD_SERVER": "https://head:1"})
        self.assertEqual(rank_environment(parse("unix:/a/b"), "none", "/ca.pem"), {})


def end(job):
    """Ends a job that has not ended."""
    with contextlib.suppress(torchd.Refused):
        job.cancel(now=True)


class Growth(WithDaemon):
    def test_a_launcher_that_grew_while_its_stream_was_lost_loses_its_place_as_any_other(self):
        state = self.folder / "grown"
        is_down, may_attach, has_grown = threading.Event(), threading.Event(), threading.Event()
        daemon = Daemon(EXAMPLES, state, {})
        client = enter(self.addCleanup, torchd.connect(daemon.address))
        first = Launcher(Held(), client, slots=1, grown=lambda: 2 if has_grown.is_set() else 1, name="the-one").start()
        attach = first._orders

        def attach_later():
            is_down.set()
            may_attach.wait()
            return attach()

        try:
            with mock.patch.object(first, "_orders", attach_later):
                daemon.stop()
                self.assertTrue(is_down.wait(60))
                has_grown.set()
                with first._state:
                    self.assertTrue(first._state.wait_for(lambda: first.slots == 2, 60))
                    first._is_attached = False
                daemon = Daemon(EXAMPLES, state, {})
                may_attach.set()
                with first._state:
                    self.assertTrue(first._state.wait_for(lambda: first._is_attached, 60))
                second = Launcher(Held(), client, slots=1, name="the-one").start()
                self.addCleanup(second.stop)
                with first._state:
                    self.assertTrue(first._state.wait_for(lambda: first._is_over, 20))
                with self.assertRaises(LauncherReplaced):
                    first.wait()
        finally:
            may_attach.set()
            first.stop()
            daemon.stop()


@unittest.skipIf(RANKS, RANKS)
class Restart(WithDaemon):
    def test_a_launcher_attaches_again_to_the_next_daemon_and_its_launches_go_on(self):
        state, settings = self.folder / "other", {"jobs.rank_lease": "10s", "shutdown.runners": "leave"}
        daemon = Daemon(EXAMPLES, state, settings)
        client = enter(self.addCleanup, torchd.connect(daemon.address))
        launcher = Launcher(Command(RANK, TORCHD, self.places), client, slots=2).start()
        try:
            # One whose rank is there for as long as the test looks at it, and one with numbers.
            endless = client.submit(scaled(ENDLESS, "torchrun", world_size=1))
            past(endless, 9)
            (outpost,) = outposts(self.places)
            job = client.submit(scaled(JOB, "torchrun", world_size=1))
            past(job, 9)
            daemon.stop()
            daemon = Daemon(EXAMPLES, state, settings)
            past(endless, endless.message.progress.step + 10)
            self.assertRegex(line_of(outpost), "torchd --rank")
            self.assertEqual(endless.message.attempt, 1)
            endless.cancel()
            wait_for_state(endless, "CANCELLED")
            job.wait(progress=False)
            self.assertEqual(job.message.attempt, 1)
            again = client.submit(scaled(JOB, "torchrun", world_size=1)).wait(progress=False)
            for one in (job, again):
                self.assertEqual((state / one.name / "artifacts/model.safetensors").read_bytes(), self.weights())
        finally:
            # Ranks bring home what they have while there is a daemon.
            launcher.stop()
            daemon.stop()


if __name__ == "__main__":
    unittest.main()
