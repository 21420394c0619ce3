"""Jobs whose ranks are barrier tasks of the real Spark, with two executors of a core each."""

import os
import sys
import unittest
from unittest import mock

from support import (ENDLESS, JAVA, JOB, PYSPARK, RANKS, TORCHD, WithDaemon, all_processes, environment_of, line_of, outposts, parent_of, past, runners,
                     scaled, strike, until_gone, wait_for, wait_for_state)

import torchd
import torchd.spark
from torchd.launcher import EngineGone

RETRY = {"max_restarts": 3, "initial_backoff": "0.1s"}


def end_java():
    """Ends the Java of a session: the next one would find its settings there."""
    from pyspark import SparkContext
    gateway = SparkContext._gateway
    SparkContext._gateway = SparkContext._jvm = None
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait()


@unittest.skipIf(RANKS, RANKS)
@unittest.skipIf(PYSPARK, PYSPARK)
@unittest.skipIf(JAVA, JAVA)
class WithSpark(WithDaemon):
    """Tests with a session of Spark."""

    @classmethod
    def more(cls):
        """More settings of the session."""
        return {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Executors have no package torchd: only this program knows where it lies.
        os.environ.update(SPARK_LOCAL_IP="127.0.0.1", SPARK_LOCAL_HOSTNAME="127.0.0.1", PYSPARK_PYTHON=sys.executable)
        os.environ.update(SPARK_WORKER_DIR=str(cls.folder / "work"), SPARK_LOCAL_DIRS=str(cls.folder / "spark"))
        os.environ.pop("PYTHONPATH", None)
        from pyspark.sql import SparkSession
        settings = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
                    "spark.driver.memory": "512m", "spark.executor.memory": "512m", "spark.ui.showConsoleProgress": "false", **cls.more()}
        builder = SparkSession.builder.master("local-cluster[2,1,512]").appName("torchd tests")
        for name, value in settings.items():
            builder = builder.config(name, value)
        cls.addClassCleanup(end_java)
        cls.spark = builder.getOrCreate()
        cls.addClassCleanup(cls.spark.stop)
        cls.spark.sparkContext.setLogLevel("OFF")

    def attach(self, **arguments):
        """A launcher for as long as a test takes."""
        given = {"program": str(TORCHD), "folder": str(self.places), **arguments}
        launcher = torchd.spark.attach(self.spark, self.client, **given)
        self.addCleanup(launcher.stop)
        return launcher


class Spark(WithSpark):
    def test_a_job_is_trained_to_the_numbers_of_this_machine_also_with_fewer_ranks_than_wished(self):
        # Executors join one after the other, also after the launcher has attached.
        launcher = self.attach()
        self.assert_whole(self.client.submit(scaled(JOB, "spark")))
        job = self.client.submit(scaled(JOB, "spark", world_size=4, min_world_size=1))
        past(job, 3)
        self.assertEqual([environment_of(pid)["WORLD_SIZE"] for pid in outposts(self.places)], ["2", "2"])
        self.assert_whole(job)
        self.assertEqual(launcher.slots, 2)

    def test_executors_without_a_route_to_the_daemon_train_by_files_alone(self):
        self.attach(rank_server="none")
        job = self.client.submit(scaled(JOB, "spark", storage=self.folder / "mailboxes"))
        past(job, 3)
        self.assertEqual(["TORCHD_SERVER" in environment_of(pid) for pid in outposts(self.places)], [False, False])
        self.assert_whole(job)
        job = self.client.submit(scaled(JOB, "spark"))
        self.addCleanup(job.cancel, now=True)
        wait_for(job, lambda message: "have no route to torchd; scale.storage needs none" in message.waiting_reason)

    def test_cancel_ends_every_process_and_the_token_is_in_no_command_line(self):
        self.attach()
        job = self.client.submit(scaled(ENDLESS, "spark"))
        past(job, 3)
        ours = outposts(self.places)
        token = environment_of(ours[0])["TORCHD_TOKEN"]
        self.assertEqual([line for line in map(line_of, all_processes()) if token in line], [])
        ours += runners(self.places)
        self.assertEqual(len(ours), 4)
        job.cancel()
        wait_for_state(job, "CANCELLED")
        self.assert_gone(job, ours)

    def test_after_the_kill_of_an_executor_the_job_goes_on_to_the_same_numbers(self):
        self.attach()
        job = self.client.submit(scaled(JOB, "spark", retry=RETRY))
        past(job, 9)
        ours = [*outposts(self.places), *runners(self.places)]
        self.assertEqual(len(ours), 4)
        executor = parent_of(ours[1])
        while "CoarseGrainedExecutorBackend" not in line_of(executor):
            executor = parent_of(executor)
        strike(executor)
        wait_for(job, lambda message: message.attempt > 1)
        for pid in ours:
            until_gone(pid)
        # The launcher has waited for the executor to come back.
        self.assert_whole(job, attempts=2)

    def test_a_session_without_room_is_told_at_once(self):
        self.attach(slots=4)
        job = self.client.submit(scaled(JOB, "spark", world_size=4))
        with self.assertRaisesRegex(torchd.JobFailed, "room for 2 tasks at once, and 4 ranks are to be started"):
            job.wait(progress=False)

    def test_a_program_that_is_not_there_is_told_by_its_place(self):
        self.attach(program="/nowhere/torchd")
        job = self.client.submit(scaled(JOB, "spark"))
        with self.assertRaisesRegex(torchd.JobFailed, "there is no program torchd on 127.0.0.1: /nowhere/torchd") as failed:
            job.wait(progress=False)
        self.assertNotIn("Traceback", failed.exception.message)

    def test_what_a_rank_says_is_told_by_the_job(self):
        self.attach(rank_server="127.0.0.1:1x")
        job = self.client.submit(scaled(JOB, "spark"))
        with self.assertRaisesRegex(torchd.JobFailed, "(?s)rank . on 127.0.0.1 has ended with 1:.*127.0.0.1:1x"):
            job.wait(progress=False)

    def test_a_launcher_that_stops_lets_ranks_save_and_the_next_one_goes_on(self):
        launcher = self.attach()
        job = self.client.submit(scaled(JOB, "spark", retry=RETRY))
        past(job, 9)
        ours = [*outposts(self.places), *runners(self.places)]
        launcher.stop()
        self.assert_gone(job, ours)
        self.attach()
        self.assert_whole(job, attempts=2)

    def test_growth_goes_by_what_spark_tells_and_by_no_guess(self):
        context = mock.Mock(defaultParallelism=64)
        java = context._jsc.sc.return_value
        java.isStopped.return_value = False
        java.maxNumConcurrentTasks.side_effect = [OSError("no answer"), OSError("no answer"), 2]
        engine = torchd.spark.Spark(context)
        self.assertEqual(engine.slots(), 64, "a launcher that attaches needs some number")
        with self.assertRaisesRegex(OSError, "no answer"):
            engine.told_slots()
        self.assertEqual(engine.told_slots(), 2)

    def test_addresses_that_executors_cannot_reach_and_sessions_without_the_api_are_refused(self):
        context = mock.Mock(master="spark://elsewhere:7077")
        with self.assertRaisesRegex(torchd.TorchdError, "cannot reach torchd at unix:.*rank_server"):
            torchd.spark.attach(mock.Mock(sparkContext=context), self.client, 2)
        with self.assertRaisesRegex(torchd.TorchdError, "no session of Spark with the RDD API"):
            torchd.spark.attach(object(), self.client)
        with self.assertRaisesRegex(EngineGone, "the session of Spark has ended"):
            torchd.spark.attach(mock.Mock(parallelize=print, _jsc=None), self.client)


class OnGpus(WithSpark):
    """Executors with GPUs that Spark assigns to tasks; nobody computes on them."""

    @classmethod
    def more(cls):
        found = cls.folder / "gpus"
        found.write_text("#!/bin/sh\necho '{\"name\": \"gpu\", \"addresses\": [\"5\"]}'\n")
        found.chmod(0o755)
        return {"spark.worker.resource.gpu.amount": "1", "spark.worker.resource.gpu.discoveryScript": str(found),
                "spark.executor.resource.gpu.amount": "1", "spark.task.resource.gpu.amount": "1"}

    def test_each_rank_is_shown_the_gpu_of_its_task(self):
        ranks = self.folder / "told"
        ranks.mkdir()
        program = self.folder / "torchd"
        # Spark ends the other task once one has failed.
        program.write_text(f"#!/bin/sh\nenv >{ranks}/$RANK\nuntil [ -e {ranks}/0 -a -e {ranks}/1 ]; do sleep 0.1; done\necho no GPU here >&2\nexit 1\n")
        program.chmod(0o755)
        self.attach(program=str(program))
        job = self.client.submit(scaled(JOB, "spark", resources={"device": "cuda"}))
        with self.assertRaisesRegex(torchd.JobFailed, "no GPU here"):
            job.wait(progress=False)
        for rank in ("0", "1"):
            given = dict(line.partition("=")[::2] for line in (ranks / rank).read_text().splitlines())
            self.assertEqual([given.get(name) for name in ("CUDA_VISIBLE_DEVICES", "LOCAL_RANK", "CUDA_DEVICE_ORDER")], ["5", "0", "PCI_BUS_ID"])


if __name__ == "__main__":
    unittest.main()
