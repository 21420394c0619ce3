"""The way to a daemon, and what is told where there is none, or a wrong one."""

import os
import pathlib
import socket
import tempfile
import unittest
from unittest import mock

import grpc
from stand_in import serving
from support import LINEAR, WithDaemon

import torchd
from torchd import address, credentials, version


def tells(number):
    return lambda request, context: {"torchd_version": number}


class Connecting(WithDaemon):
    def test_without_an_address_the_socket_of_the_user_comes_first(self):
        with tempfile.TemporaryDirectory() as home:
            place = pathlib.Path(home) / ".local/state/torchd"
            place.mkdir(parents=True)
            (place / "torchd.sock").symlink_to(self.state / "torchd.sock")
            with mock.patch.dict(os.environ, {"HOME": home}), torchd.connect() as client:
                self.assertEqual(client.address, f"unix:{place / 'torchd.sock'}")

    def test_torchd_server_is_the_only_place_where_it_is_set(self):
        with mock.patch.dict(os.environ, {"TORCHD_SERVER": f"unix:{self.state / 'torchd.sock'}"}), torchd.connect() as client:
            self.assertEqual(client.version().torchd_version, torchd.__version__)
        self.assertEqual([place.told for place in address.usual({"TORCHD_SERVER": "box:1"})], ["box:1"])
        self.assertEqual(address.usual({})[-1].told, "127.0.0.1:7080")

    def test_a_wrong_address_says_what_is_right(self):
        for text, words in (("localhost", "has no port"), ("https://box", "has no port"), (":7080", "has no port")):
            with self.assertRaisesRegex(ValueError, f"{words}.*host:port, https://host:port or unix:PATH is right"):
                torchd.connect(text)

    def test_where_no_server_is_every_place_is_told(self):
        with socket.socket() as nobody, tempfile.TemporaryDirectory() as home:
            nobody.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{nobody.getsockname()[1]}"
            with self.assertRaises(torchd.NoServer) as caught:
                torchd.connect(place)
            self.assertIn(f"{place}: ", str(caught.exception))
            self.assertIn("torchd.local(data_root=DIR)", str(caught.exception))
            with mock.patch.dict(os.environ, {"HOME": home}), mock.patch.object(address, "DEFAULT", place), self.assertRaises(torchd.NoServer) as caught:
                torchd.connect()
            self.assertIn(f"unix:{home}/.local/state/torchd/torchd.sock: No such file or directory", str(caught.exception))

    def test_a_server_that_is_too_old_or_too_new_is_refused(self):
        for number, words in (("0.0.9", "older"), ("0.2.0", "newer"), ("1.0.0", "newer")):
            with serving(GetVersion=tells(number)) as place, self.assertRaisesRegex(torchd.WrongVersion, rf"is {number}, {words} than this package") as caught:
                torchd.connect(place)
            self.assertIn(f"pip install 'torchd=={'.'.join(number.split('.')[:2])}.*'", str(caught.exception))
        with serving(GetVersion=tells("0.1.7")) as place, torchd.connect(place) as client:
            self.assertEqual(client.version().torchd_version, "0.1.7")

    def test_from_1_0_on_the_first_number_counts(self):
        with mock.patch.object(version, "__version__", "1.4.0"):
            version.check("1.9.2", "here")
            for number in ("0.9.0", "2.0.0", "", "x.y"):
                with self.assertRaises(torchd.WrongVersion):
                    version.check(number, "here")

    def test_a_method_that_an_older_server_lacks_is_told_as_such(self):
        with serving(GetVersion=tells("0.1.0")) as place, torchd.connect(place) as client:
            with self.assertRaisesRegex(torchd.WrongVersion, "has no GetCluster: it is older than this package"):
                client.cluster()

    def test_the_reason_why_an_answer_cannot_be_read_is_logged(self):
        with serving(GetVersion=tells("0.1.0"), GetCluster=lambda *_: b"\xff") as place, torchd.connect(place) as client:
            with self.assertLogs("torchd", "ERROR") as logged, self.assertRaises(torchd.ServerLost):
                client.cluster()
            self.assertRegex(logged.output[0], "an answer of GetCluster, 1 bytes, cannot be read: DecodeError")

    def test_a_token_goes_with_each_call(self):
        seen = []

        def note(request, context):
            seen.append(dict(context.invocation_metadata()).get("authorization"))
            return {"torchd_version": "0.1.0"}

        with serving(GetVersion=note) as place, mock.patch.object(credentials, "of_this_machine", lambda port: (None, ())):
            torchd.connect(place, token="secret")
            with mock.patch.dict(os.environ, {"TORCHD_TOKEN": "from the environment"}):
                torchd.connect(place)
            torchd.connect(place)
        self.assertEqual(seen, ["Bearer secret", "Bearer from the environment", None])

    def test_a_token_lies_in_a_file_and_goes_to_no_other_machine_in_clear(self):
        seen = []

        def note(request, context):
            seen.append(dict(context.invocation_metadata()).get("authorization"))
            return {"torchd_version": "0.1.0"}

        with serving(GetVersion=note) as place, tempfile.TemporaryDirectory() as home:
            file = pathlib.Path(home) / "a.token"
            file.write_text("of the file\n")
            with mock.patch.dict(os.environ, {"TORCHD_TOKEN_FILE": str(file)}):
                torchd.connect(place)
            # The user's own daemon has left one: who listens is that user.
            own = pathlib.Path(home) / ".local/state/torchd"
            own.mkdir(parents=True)
            (own / "token").write_text("of the state folder\n")
            with mock.patch.dict(os.environ, {"HOME": home}):
                torchd.connect(place)
                with mock.patch.object(credentials, "listening", lambda port: (4_000_000_001, 7)):
                    torchd.connect(place)
        self.assertEqual(seen, ["Bearer of the file", "Bearer of the state folder", None])
        with self.assertRaisesRegex(ValueError, "would not be encrypted.*https:// is right"):
            torchd.connect("192.0.2.1:7080", token="secret")

    def test_a_token_that_was_found_goes_over_no_connection_to_another_listener(self):
        seen, kept = [], []

        def note(request, context):
            seen.append((context.peer(), dict(context.invocation_metadata()).get("authorization")))
            # As a stream that is under way does.
            kept.append(client._core._connection.transport.channel)
            return {}

        with serving(GetVersion=tells("0.1.0"), GetCluster=note) as place, tempfile.TemporaryDirectory() as home:
            own = pathlib.Path(home) / ".local/state/torchd"
            own.mkdir(parents=True)
            (own / "token").write_text("found\n")
            with mock.patch.dict(os.environ, {"HOME": home}), torchd.connect(place) as client:
                client.cluster()
                # Another socket listens by now: that of another user, and a daemon's again.
                for listener in [(4_000_000_001, 7), (os.geteuid(), 8)]:
                    with mock.patch.object(credentials, "listening", lambda port: listener):
                        client.cluster()
        peers = [peer for peer, _ in seen]
        self.assertEqual([token for _, token in seen], ["Bearer found", None, "Bearer found"])
        self.assertEqual(len(set(peers)), 3, "each listener has a connection of its own")

    def test_the_user_who_listens_on_a_port_is_told_by_the_kernel(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            self.assertEqual(credentials.listening(port), (os.geteuid(), os.fstat(listener.fileno()).st_ino))
        self.assertIsNone(credentials.listening(port))

    def test_a_server_with_tls_is_known_by_its_authority(self):
        tls = pathlib.Path(__file__).parents[1] / "data" / "tls"
        key, certificate = ((tls / name).read_bytes() for name in ("localhost.key", "localhost.crt"))
        seen = []

        def note(request, context):
            seen.append(dict(context.invocation_metadata()).get("authorization"))
            return {"torchd_version": "0.1.0"}

        with serving(grpc.ssl_server_credentials([(key, certificate)]), GetVersion=note) as place:
            place = place.replace("127.0.0.1", "https://localhost")
            torchd.connect(place, token="secret", ca_file=tls / "ca.pem")
            with mock.patch.dict(os.environ, {"TORCHD_CA_FILE": str(tls / "ca.pem")}):
                torchd.connect(place)
            with self.assertRaises(torchd.NoServer):
                torchd.connect(place)
        self.assertEqual(seen, ["Bearer secret", None])
        with self.assertRaisesRegex(ValueError, "go together"):
            torchd.connect("https://localhost:1", cert_file=tls / "localhost.crt")

    def test_a_socket_of_a_stranger_is_no_daemon(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            path = pathlib.Path(folder) / "torchd.sock"
            listener.bind(str(path))
            listener.listen()
            place = address.parse(f"unix:{path}")
            self.assertIsNone(place.why_not())
            # The kernel tells the user of the listener, who is compared with us and the folder's owner.
            with mock.patch.object(address.os, "geteuid", lambda: 4_000_000_001), \
                    mock.patch.object(address.struct, "unpack", lambda *_: (1, 4_000_000_002, 1)):
                self.assertIn("uid 4000000002 listens there", place.why_not())

    def test_a_refused_token_says_how_one_is_given(self):
        def refuse(request, context):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")

        with serving(GetVersion=refuse) as place, self.assertRaisesRegex(torchd.NotAllowed, "no token. A token is given as connect"):
            torchd.connect(place)


class FullQueue(WithDaemon):
    settings = {"jobs.max_queued": 1, "jobs.cpu_slots": 1}

    def test_a_full_queue_says_when_to_ask_again(self):
        endless = {**LINEAR, "training": {"max_steps": 10_000_000}}
        with self.assertRaises(torchd.QueueFull) as caught:
            for _ in range(3):
                self.client.submit(endless)
        self.assertGreater(caught.exception.retry_after, 0)
        self.assertEqual(caught.exception.reason, "QUEUE_FULL")


if __name__ == "__main__":
    unittest.main()
