//! The role that each method needs, as the protocol says.

use std::collections::HashMap;

use prost_reflect::{MethodDescriptor, Value};

use crate::proto::{self, v1};
use crate::role::Role;

/// The option of a method in the protocol.
const OPTION: &str = "torchd.v1.role";
/// Anybody may ask whether torchd serves.
const HEALTH: [&str; 2] = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];

/// The right to call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nobody is asked.
    Nothing,
    /// This role or a higher one.
    Role(Role),
}

/// The rights that methods need, by path. What is not ours and not here needs the least role:
/// strangers learn nothing of it.
#[derive(Debug)]
pub(super) struct Methods(HashMap<String, Needs>);

impl Methods {
    pub(super) fn new() -> Self {
        let methods = proto::descriptors().services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let ours = methods.map(|method| {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            // A method without the option is a mistake that a test finds; until then it is closed.
            (path, Needs::Role(role_of(&method).unwrap_or(Role::Admin)))
        });
        Self(ours.chain(HEALTH.map(|path| (path.to_owned(), Needs::Nothing))).collect())
    }

    pub(super) fn needs(&self, path: &str) -> Needs {
        self.0.get(path).copied().unwrap_or(Needs::Role(Role::Viewer))
    }
}

/// The role in the options of a method; None where there is none.
fn role_of(method: &MethodDescriptor) -> Option<Role> {
    let option = method.parent_pool().get_extension_by_name(OPTION)?;
    let options = method.options();
    match *options.get_extension(&option) {
        Value::EnumNumber(number) => Role::try_from(v1::Role::try_from(number).ok()?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_says_which_role_it_needs() {
        let mut count = 0;
        for method in proto::descriptors().services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            assert!(role_of(&method).is_some(), "{} has no option (role)", method.full_name());
            count += 1;
        }
        assert!(count > 25, "{count}");
    }

    #[test]
    fn reading_needs_less_than_changing_and_health_needs_nothing() {
        let methods = Methods::new();
        for (path, needs) in [
            ("/torchd.v1.JobService/GetJob", Needs::Role(Role::Viewer)),
            ("/torchd.v1.JobService/CreateJob", Needs::Role(Role::Submitter)),
            ("/torchd.v1.TokenService/CreateToken", Needs::Role(Role::Admin)),
            ("/grpc.health.v1.Health/Check", Needs::Nothing),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Needs::Role(Role::Viewer)),
            ("/nothing", Needs::Role(Role::Viewer)),
        ] {
            assert_eq!(methods.needs(path), needs, "{path}");
        }
    }
}
