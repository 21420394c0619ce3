"""A client that knows nothing of a server but its address: it learns the protocol by reflection, v1 or v1alpha."""

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha import reflection_pb2


class Client:
    def __init__(self, version, channel):
        if isinstance(channel, str):
            channel = grpc.insecure_channel(channel, [("grpc.default_authority", "localhost")])
        self.channel = channel
        # The messages of both versions are the same on the wire.
        self.ask = self.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString)
        self.pool = descriptor_pool.DescriptorPool()
        self.services = [service.name for service in self.reflect(list_services="").list_services_response.service]
        for service in self.services:
            if "reflection" not in service:
                self.learn(file_containing_symbol=service)

    def reflect(self, **question):
        return next(self.ask(iter([reflection_pb2.ServerReflectionRequest(**question)])))

    def learn(self, **question):
        for data in self.reflect(**question).file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            try:
                self.pool.FindFileByName(file.name)
            except KeyError:
                for needed in file.dependency:
                    self.learn(file_by_filename=needed)
                self.pool.Add(file)

    def call(self, service, name, /, **fields):
        method = self.pool.FindServiceByName(service).FindMethodByName(name)
        request = json_format.ParseDict(fields, message_factory.GetMessageClass(method.input_type)())
        kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        return kind(f"/{service}/{name}", request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=message_factory.GetMessageClass(method.output_type).FromString)(request)


def told(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True)
