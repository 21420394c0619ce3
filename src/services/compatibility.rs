//! CompatibilityService.

use std::time::SystemTime;

use tonic::{Request, Response, Status};

use super::server::compatibility_service_server::CompatibilityService;
use super::{paging, status};
use crate::checkup::Checkup;
use crate::compat::{self, Date, Facts, PlanError, RuntimeFilter, TorchVersion};
use crate::manager::Manager;
use crate::proto::v1;

/// The service.
pub(super) struct Compatibility {
    manager: Manager,
    checkup: Checkup,
}

impl Compatibility {
    pub(super) fn new(manager: Manager, checkup: Checkup) -> Self {
        Self { manager, checkup }
    }

    /// The day of a request; today where it names none.
    fn day(&self, text: &str) -> Result<Date, Status> {
        if text.is_empty() {
            return Ok(Date::of(SystemTime::now()));
        }
        let day: Date = text.parse().map_err(|words: String| status::invalid_field("as_of", words))?;
        match self.checkup.catalogue().first_day() {
            Some(first) if day < first => {
                let words = format!("is {day}; the first runtime in the catalogue was released on {first}");
                Err(status::invalid_field("as_of", words))
            }
            _ => Ok(day),
        }
    }

    /// The PyTorch that a filter asks for: one that somebody has heard of.
    fn pytorch(&self, text: &str) -> Result<Option<TorchVersion>, Status> {
        if text.is_empty() {
            return Ok(None);
        }
        let catalogue = self.checkup.catalogue();
        let wrong = |words: String| status::invalid_field("pytorch_version", words);
        let version = catalogue.read_torch(text).map_err(wrong)?;
        let near = catalogue.nearest_pytorch(&version.number, usize::MAX);
        if near.iter().any(|known| known.is_of(&version.number)) {
            return Ok(Some(version));
        }
        let near: Vec<_> = near.iter().take(3).map(ToString::to_string).collect();
        Err(wrong(format!("is {text}, which is not in the catalogue; the nearest are {}", near.join(", "))))
    }
}

#[tonic::async_trait]
impl CompatibilityService for Compatibility {
    async fn list_runtimes(
        &self,
        request: Request<v1::ListRuntimesRequest>,
    ) -> Result<Response<v1::ListRuntimesResponse>, Status> {
        let request = request.into_inner();
        let day = self.day(&request.as_of)?;
        let filter = RuntimeFilter {
            pytorch: self.pytorch(&request.pytorch_version)?,
            supported_only: request.supported_only,
            lts_only: request.lts_only,
        };
        let size = paging::size(request.page_size, 100, 1000)?;
        let start = paging::token::<usize>(&request.page_token)?.unwrap_or(0);
        let catalogue = self.checkup.catalogue();
        let rows = catalogue.list_runtimes(&filter, day);
        let end = start.saturating_add(size).min(rows.len());
        let page = rows.get(start..end).unwrap_or_default();
        Ok(Response::new(v1::ListRuntimesResponse {
            runtimes: page.iter().map(|row| row.to_proto(catalogue, day)).collect(),
            next_page_token: if end < rows.len() { end.to_string() } else { String::new() },
        }))
    }

    async fn get_runtime(&self, request: Request<v1::GetRuntimeRequest>) -> Result<Response<v1::Runtime>, Status> {
        let v1::GetRuntimeRequest { name, as_of } = request.into_inner();
        let day = self.day(&as_of)?;
        let catalogue = self.checkup.catalogue();
        let query = catalogue.read_runtime(&name).map_err(|words| status::invalid_field("name", words))?;
        let row = catalogue.runtime(&query).map_err(|unknown| status::unknown_runtime(&unknown))?;
        Ok(Response::new(row.to_proto(catalogue, day)))
    }

    async fn plan_install(
        &self,
        request: Request<v1::PlanInstallRequest>,
    ) -> Result<Response<v1::InstallPlan>, Status> {
        match compat::plan(self.checkup.catalogue(), request.get_ref()) {
            Ok(plan) => Ok(Response::new(plan)),
            Err(PlanError::Invalid(wrong)) => Err(status::invalid(&wrong, "")),
            Err(PlanError::Runtime(unknown)) => Err(status::unknown_runtime(&unknown)),
        }
    }

    async fn check_compatibility(
        &self,
        request: Request<v1::CheckCompatibilityRequest>,
    ) -> Result<Response<v1::CompatibilityReport>, Status> {
        let v1::CheckCompatibilityRequest { facts, as_of } = request.into_inner();
        let day = self.day(&as_of)?;
        let Some(facts) = facts else {
            let probe = self.manager.probed().await.map_err(status::of)?;
            return Ok(Response::new(self.checkup.judge(&probe, day).await));
        };
        let catalogue = self.checkup.catalogue();
        let read = Facts::read(&facts, catalogue).map_err(|wrong| status::invalid(&wrong, "facts."))?;
        let report = compat::check(catalogue, &read, day);
        Ok(Response::new(v1::CompatibilityReport { facts: Some(facts), ..report }))
    }
}
