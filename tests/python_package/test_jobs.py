"""What can be done with a job."""

import contextlib
import pathlib
import tempfile
import unittest

from support import ENDLESS, EXAMPLES, LINEAR, WithDaemon, first_scalar, wait_for_state

import torchd
from torchd import messages
from torchd.downloads import below


class Jobs(WithDaemon):
    def test_a_job_is_waited_for_and_leaves_its_results(self):
        job = self.client.submit(EXAMPLES / "mnist.toml", {"training.epochs": 1, "display_name": "<first>"})
        self.assertIs(job.wait(progress=False), job)
        self.assertEqual(job.state, "SUCCEEDED")
        result = job.result()
        self.assertGreater(result.scalars["accuracy/validation"], 0.5)
        self.assertIn("artifacts/model.safetensors", result.artifacts)
        self.assertEqual([checkpoint.step for checkpoint in job.checkpoints()], [63])
        self.assertTrue(any("trained to the end" in line for line in job.logs()))
        self.assertEqual(len(list(job.logs(tail=1))), 1)
        with tempfile.TemporaryDirectory() as folder:
            paths = job.download(folder)
            self.assertEqual({path.name for path in paths}, {"model.pt", "model.safetensors", "preprocessing.json"})
            for path in paths:
                here = pathlib.Path(job.message.directory) / "artifacts" / path.name
                self.assertEqual(path.read_bytes(), here.read_bytes())
            with self.assertRaisesRegex(torchd.InvalidRequest, "no file like 'x/.'; it has artifacts/model.pt"):
                job.download(folder, only="x/*")

    def test_its_curves_are_columns(self):
        job = self.client.submit(LINEAR).wait(progress=False)
        scalars = job.scalars()
        self.assertEqual(list(scalars["loss/train"].step), list(range(1, 9)))
        self.assertEqual(list(job.scalars("loss/train")), ["loss/train"])
        frame = scalars.to_pandas()
        self.assertEqual(list(frame.columns), ["tag", "step", "time", "value"])
        rows = frame[frame.tag == "loss/train"]
        self.assertEqual(list(rows.value), list(scalars["loss/train"].value))
        self.assertLess(abs(rows.time.iloc[0].timestamp() - scalars["loss/train"].time[0]), 1e-5)
        self.assertEqual(scalars.to_polars().filter(tag="loss/train")["step"].to_list(), list(range(1, 9)))
        import matplotlib
        matplotlib.use("svg")
        self.assertEqual(len(scalars.plot("loss/train").lines), 1)

    def test_a_page_for_notebooks_has_state_curve_and_no_markup_of_others(self):
        job = self.client.submit(LINEAR, {"display_name": "<script>alert(1)</script>"}).wait(progress=False)
        page = job._repr_html_()
        self.assertIn("&lt;script&gt;", page)
        self.assertNotIn("<script", page)
        self.assertIn("SUCCEEDED", page)
        self.assertIn("<polyline points=", page)

    def test_a_job_that_has_told_nothing_yet_has_a_page_without_a_curve(self):
        job = self.client.submit(ENDLESS)
        page = job._repr_html_()
        job.cancel(now=True)
        self.assertNotIn("since then", page)
        self.assertIn("linear", page)

    def test_records_come_in_order_from_any_on(self):
        job = self.client.submit(LINEAR).wait(progress=False)
        numbers = [event.record.sequence for event in job.watch() if event.HasField("record")]
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        self.assertEqual([event.record.sequence for event in job.watch(after=numbers[3]) if event.HasField("record")], numbers[4:])

    def test_a_wait_reads_no_records(self):
        job = self.client.submit(LINEAR)
        connection = job._core._connection
        follow, seen = connection.follow, []

        async def noting(name, request, advance):
            async with contextlib.aclosing(follow(name, request, advance)) as answers:
                async for answer in answers:
                    seen.extend(answer.events)
                    yield answer

        connection.follow = noting
        self.addCleanup(delattr, connection, "follow")
        self.assertEqual(job.wait(progress=False).state, "SUCCEEDED")
        self.assertEqual([event for event in seen if event.HasField("record")], [])
        self.assertGreater(len(seen), 0)

    def test_it_is_paused_edited_resumed_and_cancelled(self):
        job = self.client.submit(ENDLESS)
        first_scalar(job)
        job.pause()
        wait_for_state(job, "PAUSED")
        with self.assertRaisesRegex(torchd.JobPaused, "is paused.*resume"):
            job.wait(progress=False)
        with self.assertRaises(torchd.InvalidSpec) as caught:
            job.resume(learning_rat=1)
        self.assertEqual(caught.exception.fields[0].text, "no such field; did you mean learning_rate?")
        job.resume(learning_rate=0.005, set={"checkpoint.keep_latest": 5})
        self.assertEqual((job.message.spec.optimizer.sgd.learning_rate, job.message.spec.checkpoint.keep_latest), (0.005, 5))
        with self.assertRaisesRegex(torchd.Refused, "is not paused|PAUSED|paused") as refused:
            job.resume()
        self.assertEqual(refused.exception.reason, "JOB_NOT_PAUSED")
        with self.assertRaisesRegex(torchd.TorchdError, "has no result: wait"):
            job.load_into(None)
        job.cancel()
        with self.assertRaises(torchd.JobFailed) as failed:
            job.wait(progress=False)
        self.assertEqual(failed.exception.reason, "cancelled")
        job.delete()
        with self.assertRaises(torchd.NotFound):
            self.client.job(job.name)

    def test_it_waits_for_another_and_gets_another_priority(self):
        first = self.client.submit(ENDLESS)
        job = self.client.submit(LINEAR, {"after": [{"job": first.name, "condition": "succeeded"}]})
        self.assertEqual([other.job for other in job.message.open_dependencies], [first.name])
        self.assertEqual(job.set_priority(7).message.spec.priority, 7)
        again = job.redo(priority=-2, after=[{"job": job.name, "condition": "succeeded"}])
        self.assertEqual((again.message.spec.priority, again.message.spec.after[0].job), (-2, job.name))
        with self.assertRaises(torchd.InvalidRequest):
            job.set_priority(1001)
        first.cancel(now=True)
        with self.assertRaises(torchd.JobFailed) as failed:
            job.wait(progress=False)
        self.assertEqual(failed.exception.reason, "dependency_failed")

    def test_a_failed_job_tells_reason_words_and_log(self):
        job = self.client.submit(LINEAR, {"optimizer.sgd.learning_rate": 1e38, "training.epochs": 20})
        with self.assertRaises(torchd.JobFailed) as failed:
            job.wait(progress=False)
        self.assertEqual(failed.exception.reason, "diverged")
        self.assertTrue(failed.exception.message)
        self.assertTrue(failed.exception.log)
        self.assertIn(failed.exception.log[-1], str(failed.exception))

    def test_jobs_are_found_by_name_state_and_label(self):
        job = self.client.submit(LINEAR, {"labels.team": "vision"}).wait(progress=False)
        self.assertEqual(self.client.job(job.name.removeprefix("jobs/")).name, job.name)
        self.assertEqual([found.name for found in self.client.jobs("SUCCEEDED", labels={"team": "vision"})], [job.name])
        self.assertEqual(self.client.jobs("succeeded", labels={"team": "none"}), [])
        self.assertEqual(len(self.client.jobs(limit=1)), 1)
        with self.assertRaisesRegex(torchd.InvalidRequest, "WALKING.*queued or starting"):
            self.client.jobs("WALKING")

    def test_one_request_id_makes_one_job(self):
        names = {self.client.submit(LINEAR, request_id="once").name for _ in range(2)}
        self.assertEqual(len(names), 1)
        with self.assertRaises(torchd.AlreadyThere):
            self.client.submit(LINEAR, {"seed": 5}, request_id="once")

    def test_the_machine_is_told(self):
        self.assertEqual(self.client.cluster().mode, messages.CLUSTER_MODE_DRIVER_ONLY)
        self.assertEqual(self.client.version().torchd_version, torchd.__version__)
        self.assertIsInstance(self.client.gpus(), list)
        self.assertTrue(self.client.check(facts={"driver_version": "470.82.01"}).verdict)
        self.assertTrue(self.client.plan_install(pytorch_version="2.7.0", accelerator="cpu", python_version="3.12").SerializeToString())
        self.assertTrue(self.client.runtimes()[0].name.startswith("runtimes/"))
        with self.assertRaisesRegex(torchd.InvalidRequest, "pytorch: no such field; did you mean pytorch_version"):
            self.client.plan_install(pytorch="2.7.0")


class Names(unittest.TestCase):
    def test_no_file_of_a_job_is_written_outside_of_the_folder(self):
        folder = pathlib.Path("here")
        self.assertEqual(below(folder, "jobs/a/artifacts/model.pt", "jobs/a"), folder / "artifacts" / "model.pt")
        for name in ("jobs/a/../b", "/etc/passwd", "jobs/a/x/../../../b", "jobs/a/", ""):
            with self.subTest(name), self.assertRaisesRegex(torchd.TorchdError, "would lie outside of here"):
                below(folder, name, "jobs/a")


if __name__ == "__main__":
    unittest.main()
