"""The same for asyncio."""

import asyncio
import contextlib
import inspect
import tempfile
import unittest

from support import ENDLESS, EXAMPLES, LINEAR, WithDaemon

import torchd
from torchd import aio


class Asyncio(WithDaemon):
    def test_both_sides_have_the_same_calls(self):
        for core, made in ((aio.Client, torchd.Client), (aio.Job, torchd.Job)):
            for name, member in vars(core).items():
                if name.startswith("_"):
                    continue
                self.assertTrue(hasattr(made, name), name)
                if inspect.isfunction(member):
                    self.assertEqual(inspect.signature(getattr(made, name)), inspect.signature(member))
                    self.assertEqual(getattr(made, name).__doc__, member.__doc__)
                    self.assertFalse(inspect.iscoroutinefunction(getattr(made, name)))

    def test_jobs_are_submitted_watched_and_loaded_beside_one_another(self):
        async def one(client, seed):
            job = await client.submit(LINEAR, {"seed": seed})
            numbers = [event.record.sequence async for event in job.watch() if event.HasField("record")]
            await job.wait(progress=False)
            with tempfile.TemporaryDirectory() as folder:
                paths = await job.download(folder)
            return numbers, len(await job.scalars("loss/train")), len(paths), [line async for line in job.logs()]

        async def several():
            async with await aio.connect(self.client.address) as client:
                return await asyncio.gather(*(one(client, seed) for seed in range(3)))

        for numbers, tags, files, lines in asyncio.run(several()):
            self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
            self.assertEqual((tags, files), (1, 3))
            self.assertTrue(lines)

    def test_a_wait_that_is_cancelled_leaves_the_job(self):
        async def leave():
            async with aio.local(EXAMPLES) as client:
                job = await client.submit(ENDLESS)
                waiting = asyncio.create_task(job.wait(progress=False))
                async with contextlib.aclosing(job.watch()) as events:
                    async for event in events:
                        if event.record.HasField("scalars"):
                            break
                waiting.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await waiting
                state = (await client.job(job.name)).state
                await job.cancel(now=True)
                return state

        self.assertEqual(asyncio.run(leave()), "RUNNING")

    def test_errors_are_the_same(self):
        async def ask():
            async with await aio.connect(self.client.address) as client:
                with self.assertRaises(torchd.NotFound):
                    await client.job("20261123-171455-k7qm")
                with self.assertRaises(torchd.InvalidSpec):
                    await client.submit({"sed": 1})
            with self.assertRaises(torchd.NoServer):
                await aio.connect("unix:/nowhere/torchd.sock")

        asyncio.run(ask())


if __name__ == "__main__":
    unittest.main()
