"""Calls over TLS by grpcio, with a client certificate and without."""

import json
import pathlib
import sys

import grpc
from reflection import Client, told

address, *files = sys.argv[1:]
ca, cert, key = (pathlib.Path(file).read_bytes() for file in files)

shown = grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert))
caller = Client("v1", shown).call("torchd.v1.SystemService", "GetCaller")
try:
    Client("v1", grpc.secure_channel(address, grpc.ssl_channel_credentials(ca)))
    without = "answered"
except grpc.RpcError as error:
    without = error.code().name
print(json.dumps({"caller": told(caller), "without": without}))
