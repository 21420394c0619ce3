"""Files of jobs on a way that damages them or breaks off."""

import asyncio
import os
import pathlib
import tempfile
import unittest

from relay import Relay
from support import LINEAR, WithDaemon, enter

import torchd
from torchd import aio, transport
from torchd.connection import open_connection
from torchd.credentials import Credentials
from torchd.transport import Asyncio

NAME = "artifacts/large.bin"


class Downloads(WithDaemon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.job = cls.client.submit(LINEAR).wait(progress=False)

    def setUp(self):
        self.folder = pathlib.Path(enter(self.addCleanup, tempfile.TemporaryDirectory(prefix="torchd-test-")))
        self.there = pathlib.Path(self.job.message.directory) / NAME
        # Of many messages.
        self.there.write_bytes(os.urandom(2_000_000))
        self.relay = Relay(self.folder, self.client.address)
        self.addCleanup(self.relay.close)
        self.to = self.folder / "to"

    def job_by_relay(self, patience=60.0, packed=True):
        """The job as a client has it behind the relay, with answers that are compressed or not."""
        if not packed:
            before = transport.OPTIONS
            self.addCleanup(setattr, transport, "OPTIONS", before)
            transport.OPTIONS = [*before, ("grpc.compression_enabled_algorithms_bitset", 1)]
        client = enter(self.addCleanup, torchd.connect(self.relay.address, patience=patience))
        return client.job(self.job.name)

    def slices(self, data):
        """Several pieces of a file: one of them comes in one read, however that is cut."""
        return [data[place:place + 16] for place in range(len(data) // 8, len(data) - 16, len(data) // 8)]

    def left(self):
        return sorted(path.name for path in self.to.rglob("*") if path.is_file())

    def test_a_damaged_byte_is_noticed_and_leaves_nothing(self):
        job = self.job_by_relay(packed=False)
        data = self.there.read_bytes()
        self.relay.flips = self.slices(data)
        with self.assertRaisesRegex(torchd.TorchdError, f"{NAME} has come with another checksum than torchd tells.*fetch it again"):
            job.download(self.to, only=NAME)
        self.assertEqual((self.relay.flipped, self.left()), (1, []))
        [path] = job.download(self.to, only=NAME)
        self.assertEqual(path.read_bytes(), data)
        # One that is there stays.
        self.relay.flips = self.slices(data)
        with self.assertRaisesRegex(torchd.TorchdError, "another checksum"):
            job.download(self.to, only=NAME)
        self.assertEqual((self.relay.flipped, self.left(), path.read_bytes()), (2, ["large.bin"], data))

    def test_a_damaged_byte_of_a_packed_answer_is_sent_again(self):
        job = self.job_by_relay()
        data = self.there.read_bytes()
        self.relay.flips = self.slices(data)
        with self.assertLogs("torchd", "WARNING"):
            [path] = job.download(self.to, only=NAME)
        self.assertEqual((self.relay.flipped, self.left(), path.read_bytes()), (1, ["large.bin"], data))

    def test_damaged_weights_are_not_loaded(self):
        import torch
        job = self.job_by_relay(packed=False)
        module = torch.nn.Linear(784, 10)
        names = {"weight", "bias"}
        source = pathlib.Path(self.job.message.directory) / "artifacts/model.safetensors"
        before = {name: value.clone() for name, value in module.state_dict().items()}
        self.assertEqual(set(before), names)
        self.relay.flips = self.slices(source.read_bytes())
        with self.assertRaisesRegex(torchd.TorchdError, "model.safetensors has come with another checksum"):
            job.load_into(module)
        self.assertEqual(self.relay.flipped, 1)
        for name, value in module.state_dict().items():
            self.assertTrue(torch.equal(value, before[name]), name)

    def test_a_download_goes_on_where_it_broke_off(self):
        job = self.job_by_relay()
        data = self.there.read_bytes()
        before = self.relay.sent
        self.relay.breaks_after = 1_500_000
        with self.assertLogs("torchd", "WARNING") as logs:
            [path] = job.download(self.to, only=NAME)
        self.assertIn("is lost", logs.output[0])
        self.assertEqual((self.relay.broken, self.left(), path.read_bytes()), (1, ["large.bin"], data))
        self.assertLess(self.relay.sent - before, 3_000_000, "it was begun anew")

    def test_a_file_that_changed_meanwhile_is_not_taken_for_the_one_that_was_begun(self):
        job = self.job_by_relay()
        other = os.urandom(2_000_000)

        def change():
            aside = self.there.with_name("aside")
            aside.write_bytes(other)
            aside.replace(self.there)

        self.relay.breaks_after, self.relay.on_break = 1_000_000, change
        with self.assertLogs("torchd", "WARNING"), self.assertRaisesRegex(torchd.TorchdError, "another checksum than torchd tells"):
            job.download(self.to, only=NAME)
        self.assertEqual((self.relay.broken, self.left()), (1, []))
        [path] = job.download(self.to, only=NAME)
        self.assertEqual(path.read_bytes(), other)

    def test_a_download_that_is_given_up_leaves_nothing(self):
        job = self.job_by_relay(patience=0.0)
        self.relay.breaks_after, self.relay.on_break = 1_000_000, self.relay.close
        with self.assertLogs("torchd", "WARNING"), self.assertRaises(torchd.ServerLost):
            job.download(self.to, only=NAME)
        self.assertEqual((self.relay.broken, self.left()), (1, []))

    def test_two_at_once_do_not_disturb_each_other(self):
        async def both():
            client = aio.Client(await open_connection(Asyncio, self.relay.address, Credentials(), 60.0))
            job = await client.job(self.job.name)
            paths = await asyncio.gather(*(job.download(self.to, only=NAME) for _ in range(4)))
            await client.close()
            return paths
        for [path] in asyncio.run(both()):
            self.assertEqual(path.read_bytes(), self.there.read_bytes())
        self.assertEqual(self.left(), ["large.bin"])


if __name__ == "__main__":
    unittest.main()
