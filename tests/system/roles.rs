//! Every method of every service, by every role and door, as the daemon answers.

use std::collections::BTreeMap;

use http::uri::PathAndQuery;
use prost_reflect::{DescriptorPool, Value};
use tonic::Code;
use tonic::client::{Grpc, GrpcService};
use tonic::service::interceptor::InterceptedService;
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use torchd::proto::v1;

use super::credentials::{Files, Good, Headers, Link, over_tcp, refusal, token};

/// A message without fields, which every request can be.
#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

/// The answer to one question of reflection.
async fn reflect(link: &Link, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(link.clone());
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
    let answer: ServerReflectionResponse = answers.into_inner().message().await.unwrap().unwrap();
    answer.message_response.unwrap()
}

/// The methods of all services, as reflection tells them, each with the role of its option; None
/// where it has none.
async fn methods(link: &Link) -> BTreeMap<String, Option<v1::Role>> {
    let MessageResponse::ListServicesResponse(listed) =
        reflect(link, MessageRequest::ListServices(String::new())).await
    else {
        panic!("the services are not listed");
    };
    let mut pool = DescriptorPool::global();
    let mut found = BTreeMap::new();
    for service in listed.service {
        let question = MessageRequest::FileContainingSymbol(service.name.clone());
        let mut wanted = vec![question];
        let mut files = Vec::new();
        while let Some(question) = wanted.pop() {
            let MessageResponse::FileDescriptorResponse(answer) = reflect(link, question).await else {
                panic!("{} is not told", service.name);
            };
            for bytes in answer.file_descriptor_proto {
                let file: prost_types::FileDescriptorProto = prost::Message::decode(&*bytes).unwrap();
                let is_known = |name: &str| pool.get_file_by_name(name).is_some();
                let needed = file.dependency.iter().filter(|name| !is_known(name)).cloned();
                wanted.extend(needed.map(MessageRequest::FileByFilename));
                files.push((file.name().to_owned(), bytes));
            }
        }
        // Those that others need come last.
        for (name, bytes) in files.into_iter().rev() {
            if pool.get_file_by_name(&name).is_none() {
                pool.decode_file_descriptor_proto(&*bytes).unwrap();
            }
        }
        let option = pool.get_extension_by_name("torchd.v1.role");
        for method in pool.get_service_by_name(&service.name).unwrap().methods() {
            let options = method.options();
            let role = option.as_ref().and_then(|option| match *options.get_extension(option) {
                Value::EnumNumber(number) => v1::Role::try_from(number).ok(),
                _ => None,
            });
            let path = format!("/{}/{}", service.name, method.name());
            found.insert(path, role.filter(|role| *role != v1::Role::Unspecified));
        }
    }
    found
}

/// The answer to an empty request: the code, and the reason.
async fn ask<C>(channel: C, path: &str) -> (Code, String)
where
    C: GrpcService<tonic::body::Body>,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    C::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <C::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut client = Grpc::new(channel);
    assert!(client.ready().await.is_ok());
    let codec = ProstCodec::<Empty, Empty>::default();
    let path: PathAndQuery = path.parse().unwrap();
    // Any method may be asked like this; one that streams sends its first message, or its end.
    let asked = client.streaming(tonic::Request::new(tokio_stream::once(Empty {})), path, codec).await;
    match asked {
        Err(status) => refusal(&status),
        Ok(answer) => match answer.into_inner().message().await {
            Ok(_) => (Code::Ok, String::new()),
            Err(status) => refusal(&status),
        },
    }
}

#[tokio::test]
async fn every_method_asks_for_the_role_of_its_option_at_every_door() {
    let files = Files::new();
    let daemon = files.mutual("admin=admin,submitter=submitter,viewer=viewer").start();
    // The loopback port of another daemon, since one address is one door.
    let local = super::daemon::Daemon::start();
    let roles = [(v1::Role::Viewer, "viewer"), (v1::Role::Submitter, "submitter"), (v1::Role::Admin, "admin")];
    let strange = files.clients.sign(&["stranger"], Good::Now);
    let mut callers: Vec<(&str, Option<v1::Role>, Link)> = Vec::new();
    let with = |channel, headers| InterceptedService::new(channel, headers);
    for (role, name) in roles {
        let secret = token(&local, name, role, "").await;
        callers.push(("loopback", Some(role), over_tcp(&local, Headers::token(&secret)).await));
        let secret = token(&daemon, name, role, "").await;
        let channel = files.connect(&daemon, None).await.unwrap();
        callers.push(("tls", Some(role), with(channel, Headers::token(&secret))));
        let shown = files.clients.sign(&[name], Good::Now);
        let channel = files.connect(&daemon, Some(&shown)).await.unwrap();
        callers.push(("mutual tls", Some(role), with(channel, Headers::default())));
    }
    callers.push(("unix", Some(v1::Role::Admin), with(local.channel().await, Headers::default())));
    callers.push(("loopback", None, over_tcp(&local, Headers::default()).await));
    callers.push(("tls", None, with(files.connect(&daemon, None).await.unwrap(), Headers::default())));
    let channel = files.connect(&daemon, Some(&strange)).await.unwrap();
    callers.push(("mutual tls", None, with(channel, Headers::default())));

    let methods = methods(&callers[0].2).await;
    assert!(methods.len() > 30, "{methods:?}");
    let mut table = String::new();
    for (path, option) in &methods {
        let needs = match path.as_str() {
            path if path.starts_with("/grpc.health.v1.Health/") => None,
            path if path.starts_with("/grpc.reflection.") => Some(v1::Role::Viewer),
            path => Some(option.unwrap_or_else(|| panic!("{path} has no role"))),
        };
        for (door, role, link) in &callers {
            let (code, reason) = ask(link.clone(), path).await;
            table.push_str(&format!("{path} | {door} | {role:?} | {code:?} {reason}\n"));
            let is_refused = matches!(code, Code::Unauthenticated | Code::PermissionDenied);
            match (needs, role) {
                (None, _) => assert!(!is_refused, "{path} {door} {role:?}: {code:?}"),
                (Some(_), None) => assert_eq!(code, Code::Unauthenticated, "{path} {door}: {reason}"),
                (Some(v1::Role::Rank), Some(role)) => {
                    let expected = (Code::PermissionDenied, "NOT_A_RANK".to_owned());
                    assert_eq!((code, reason), expected, "{path} {door} {role:?}");
                }
                (Some(needs), Some(role)) if (*role as i32) < (needs as i32) => {
                    let expected = (Code::PermissionDenied, "ROLE_TOO_LOW".to_owned());
                    assert_eq!((code, reason), expected, "{path} {door} {role:?}");
                }
                // What is wrong with an empty request is the method's to say.
                (Some(_), Some(_)) => assert!(!is_refused, "{path} {door} {role:?}: {code:?} {reason}"),
            }
        }
    }
    if let Some(file) = std::env::var_os("ROLES_TABLE") {
        std::fs::write(file, table).unwrap();
    }
}
