"""A client that knows nothing of torchd but its address: it learns the protocol by reflection, v1 or v1alpha, and runs a job."""

import json
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha import reflection_pb2

version, address = sys.argv[1:]
channel = grpc.insecure_channel(address)
# The messages of both versions are the same on the wire.
ask = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString)


def reflect(**question):
    return next(ask(iter([reflection_pb2.ServerReflectionRequest(**question)])))


services = [service.name for service in reflect(list_services="").list_services_response.service]
pool = descriptor_pool.DescriptorPool()


def learn(**question):
    for data in reflect(**question).file_descriptor_response.file_descriptor_proto:
        file = descriptor_pb2.FileDescriptorProto.FromString(data)
        try:
            pool.FindFileByName(file.name)
        except KeyError:
            for needed in file.dependency:
                learn(file_by_filename=needed)
            pool.Add(file)


for service in services:
    if "reflection" not in service:
        learn(file_containing_symbol=service)


def call(service, name, /, **fields):
    method = pool.FindServiceByName(service).FindMethodByName(name)
    request = json_format.ParseDict(fields, message_factory.GetMessageClass(method.input_type)())
    kind = channel.unary_stream if method.server_streaming else channel.unary_unary
    return kind(f"/{service}/{name}", request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=message_factory.GetMessageClass(method.output_type).FromString)(request)


def idx(name):
    return {"idx": {"images": f"mnist-5k/{name}-images-idx3-ubyte.gz", "labels": f"mnist-5k/{name}-labels-idx1-ubyte.gz"}}


health = call("grpc.health.v1.Health", "Check", service="torchd.v1.JobService")
job = call("torchd.v1.JobService", "CreateJob", spec={
    "seed": 1,
    "model": {"mnist_cnn": {}},
    "data": {"train": idx("train"), "validation": idx("t10k")},
    "training": {"max_steps": 20},
    "optimizer": {"sgd": {"learning_rate": 0.01}},
})
for answer in call("torchd.v1.JobService", "WatchJob", name=job.name):
    for event in answer.events:
        if event.HasField("snapshot"):
            last = event.snapshot
told = json_format.MessageToDict(last, preserving_proto_field_name=True)
print(json.dumps({
    "services": services,
    "health": json_format.MessageToDict(health)["status"],
    "state": told["state"],
    "steps": int(told["progress"]["step"]),
}))
