//! GpuService: the newest sample, joined with the jobs that hold GPUs. No call touches the driver.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::server::gpu_service_server::GpuService;
use super::{paging, status};
use crate::gpu::{LONGEST_INTERVAL, SHORTEST_INTERVAL, Watcher};
use crate::proto::v1;

/// Answers that wait for a slow client; it misses those that come then.
const ANSWERS_AHEAD: usize = 1;

/// While a driver does not answer, watchers are told so this often.
const STALE_NEWS: Duration = Duration::from_secs(5);

/// The service.
pub(super) struct Gpus {
    watcher: Watcher,
    /// Callers may see processes that belong to no job.
    show_foreign: bool,
}

impl Gpus {
    pub(super) fn new(watcher: Watcher, show_foreign: bool) -> Self {
        Self { watcher, show_foreign }
    }

    /// The uuid of a resource name, of a GPU that is there.
    fn known(&self, field: &str, name: &str) -> Result<v1::Gpu, Status> {
        if !name.starts_with("gpus/") || name.len() == "gpus/".len() {
            return Err(status::invalid_field(field, format!("is {name:?}; gpus/ and the uuid of a GPU are right")));
        }
        let (gpus, _) = self.watcher.joined();
        let names: Vec<_> = gpus.iter().map(|gpu| gpu.name.clone()).collect();
        gpus.into_iter().find(|gpu| gpu.name == name).ok_or_else(|| {
            let there = if names.is_empty() { "no GPU".to_owned() } else { names.join(", ") };
            let source = self.watcher.source();
            let message = format!("there is no {name}; there is {there} ({})", source.message);
            status::not_found("torchd.v1.Gpu", name, message)
        })
    }
}

/// One page of a list, and where the next begins: a token is the number of items before it.
fn page<T>(items: Vec<T>, size: i32, token: &str) -> Result<(Vec<T>, String), Status> {
    let size = paging::size(size, usize::MAX, usize::MAX)?;
    let skipped: usize = paging::token(token)?.unwrap_or(0);
    let all = items.len();
    let page: Vec<T> = items.into_iter().skip(skipped).take(size).collect();
    let end = skipped + page.len();
    let next = if end < all { end.to_string() } else { String::new() };
    Ok((page, next))
}

#[tonic::async_trait]
impl GpuService for Gpus {
    async fn list_gpus(&self, request: Request<v1::ListGpusRequest>) -> Result<Response<v1::ListGpusResponse>, Status> {
        let v1::ListGpusRequest { page_size, page_token } = request.into_inner();
        let (gpus, next_page_token) = page(self.watcher.joined().0, page_size, &page_token)?;
        Ok(Response::new(v1::ListGpusResponse { gpus, next_page_token, source: Some(self.watcher.source()) }))
    }

    async fn get_gpu(&self, request: Request<v1::GetGpuRequest>) -> Result<Response<v1::Gpu>, Status> {
        Ok(Response::new(self.known("name", &request.into_inner().name)?))
    }

    type WatchGpusStream = ReceiverStream<Result<v1::WatchGpusResponse, Status>>;

    async fn watch_gpus(
        &self,
        request: Request<v1::WatchGpusRequest>,
    ) -> Result<Response<Self::WatchGpusStream>, Status> {
        let interval = match request.into_inner().interval {
            None => self.watcher.interval(),
            Some(asked) => Duration::try_from(asked)
                .ok()
                .filter(|asked| (SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(asked))
                .ok_or_else(|| {
                    let found = asked.seconds as f64 + f64::from(asked.nanos) / 1e9;
                    status::invalid_field("interval", format!("is {found} s; 0.1 s to 3600 s is right"))
                })?,
        };
        let (sender, receiver) = mpsc::channel(ANSWERS_AHEAD);
        let watcher = self.watcher.clone();
        tokio::spawn(async move {
            let mut changes = watcher.changes();
            changes.mark_changed();
            loop {
                let begun = Instant::now();
                let is_new = tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return } else { true },
                    () = tokio::time::sleep(STALE_NEWS) => false,
                    () = sender.closed() => return,
                };
                changes.borrow_and_update();
                if !is_new && !watcher.source().stale {
                    continue;
                }
                let answer = v1::WatchGpusResponse { gpus: watcher.joined().0, source: Some(watcher.source()) };
                // Waits for this client alone; meanwhile the newest sample goes on being the
                // newest.
                if sender.send(Ok(answer)).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep_until(begun + interval) => {}
                    () = sender.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_gpu_processes(
        &self,
        request: Request<v1::ListGpuProcessesRequest>,
    ) -> Result<Response<v1::ListGpuProcessesResponse>, Status> {
        let v1::ListGpuProcessesRequest { gpu, page_size, page_token } = request.into_inner();
        if !gpu.is_empty() {
            self.known("gpu", &gpu)?;
        }
        let (_, mut processes) = self.watcher.joined();
        processes.retain(|process| gpu.is_empty() || process.gpu == gpu);
        let (shown, hidden): (Vec<_>, Vec<_>) =
            processes.into_iter().partition(|process| self.show_foreign || !process.job.is_empty());
        let (processes, next_page_token) = page(shown, page_size, &page_token)?;
        Ok(Response::new(v1::ListGpuProcessesResponse {
            processes,
            next_page_token,
            hidden_processes: u32::try_from(hidden.len()).unwrap_or(u32::MAX),
            hidden_memory_bytes: hidden.iter().filter_map(|process| process.used_memory_bytes).sum(),
        }))
    }

    async fn list_gpu_events(
        &self,
        request: Request<v1::ListGpuEventsRequest>,
    ) -> Result<Response<v1::ListGpuEventsResponse>, Status> {
        let v1::ListGpuEventsRequest { gpu, page_size, page_token } = request.into_inner();
        // A GPU that has disappeared has a past all the same.
        if !gpu.is_empty() && self.watcher.events().list(&gpu, None, 1).is_empty() {
            self.known("gpu", &gpu)?;
        }
        let size = paging::size(page_size, 100, 1024)?;
        let before: Option<u64> = paging::token(&page_token)?;
        let mut events = self.watcher.events().list(&gpu, before, size + 1);
        let is_more = events.len() > size;
        events.truncate(size);
        let last = events.last().filter(|_| is_more);
        Ok(Response::new(v1::ListGpuEventsResponse {
            next_page_token: last.map(|event| event.sequence.to_string()).unwrap_or_default(),
            events,
            absent_reason: self.watcher.events().absent_reason(),
        }))
    }
}
