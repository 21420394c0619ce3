//! The binary files of CIFAR, as a spec names them.

use super::read_paths;
use crate::dataset::cifar::{Classes, Files};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

impl Section for Files<String> {
    type Message = v1::CifarDataset;
    const NAME: &str = "cifar";

    fn read(message: &v1::CifarDataset, mut fields: Fields<'_>) -> Option<Self> {
        let paths = read_paths("paths", &message.paths, &mut fields);
        let classes = match message.classes {
            None | Some(10) => Classes::Ten,
            Some(20) => Classes::Twenty,
            Some(100) => Classes::Hundred,
            Some(other) => {
                fields.demand(
                    "classes",
                    false,
                    other,
                    "10 for CIFAR-10, 100 for CIFAR-100 or 20 for its coarse labels",
                );
                Classes::Ten
            }
        };
        fields.done(Self { paths, classes })
    }

    fn to_proto(&self) -> v1::CifarDataset {
        v1::CifarDataset { paths: self.paths.clone(), classes: Some(self.classes.count().into()) }
    }
}
