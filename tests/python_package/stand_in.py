"""A server that answers a few methods as a test says: for answers that a real daemon of this
version does not give."""

import contextlib
from concurrent import futures

import grpc

import support  # noqa: F401 (finds the package)
from torchd.protocol import METHODS


@contextlib.contextmanager
def serving(tls=None, /, **answers):
    """Answers each method by its name: a function of request and context gives the fields of the
    answer, or its bytes; over TLS with these credentials. Yields the address."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    for name, answer in answers.items():
        method = METHODS[name]
        service, _, short = method.path.removeprefix("/").partition("/")

        def handle(request, context, answer=answer, method=method):
            told = answer(request, context)
            return told if isinstance(told, bytes) else method.response(**told).SerializeToString()

        handler = grpc.unary_unary_rpc_method_handler(handle, request_deserializer=method.request.FromString)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {short: handler})])
    port = server.add_secure_port("127.0.0.1:0", tls) if tls else server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
