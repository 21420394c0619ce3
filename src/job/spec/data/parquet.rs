//! Tables in Parquet files, as a spec names them.

use super::table::{self, RolesMessage};
use crate::dataset::parquet::Files;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

impl Section for Files<String> {
    type Message = v1::ParquetDataset;
    const NAME: &str = "parquet";

    fn read(message: &v1::ParquetDataset, mut fields: Fields<'_>) -> Option<Self> {
        let (roles, ()) = table::split_roles!(message.clone(), v1::ParquetDataset {});
        let paths = table::read_paths(&roles, &mut fields);
        let roles = roles.read(&mut fields);
        fields.done(Self { paths, roles })
    }

    fn to_proto(&self) -> v1::ParquetDataset {
        table::with_roles!(v1::ParquetDataset::default(), RolesMessage::of(&self.paths, &self.roles))
    }
}
