//! LaunchService: launchers and outposts.

use std::io::{Read, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, try_unfold, unfold};
use tonic::{Code, Request, Response, Status, Streaming};

use super::access;
use super::bodies::Taken;
use super::clients::Clients;
use super::server::launch_service_server::LaunchService;
use super::status::{self, invalid_field, plain};
use crate::access::{KnownBy, OfLaunch};
use crate::gate::Wanted;
use crate::job::spec::Engine;
use crate::job::{JobId, end::Exit};
use crate::journal::ExitNote;
use crate::launches::{
    Attachment, Join, Launch, LaunchError, LauncherKey, LauncherOrder, Launches, Offer, Piece, PutFile, PutPlan,
    VERSION, Wish,
};
use crate::manager::{Manager, Promise};
use crate::proto::v1::{self, launcher_order::Order, put_files_request::Part};
use crate::role::Role;

/// A message of this service may have as many bytes, whatever the settings allow others: pieces of
/// 64 files of a megabyte do not come at once, one and some small ones do.
pub(super) const MESSAGE_BYTES: usize = 4 << 20;
/// Bytes of a file in a message.
const PIECE_BYTES: usize = 256 << 10;
/// Slots that a launcher can offer.
const MOST_SLOTS: u32 = 4096;

/// The service.
pub(super) struct LaunchList {
    launches: Launches,
    manager: Manager,
    clients: Clients,
}

impl LaunchList {
    pub(super) fn new(launches: Launches, manager: Manager, clients: Clients) -> Self {
        Self { launches, manager, clients }
    }

    /// The launch of the caller's token.
    fn launch<T>(&self, request: &Request<T>) -> Result<Arc<Launch>, Status> {
        let caller = access::caller(request)?;
        let KnownBy::Launch(OfLaunch { job, attempt }) = &caller.by else {
            let words = "this is for ranks, which have the token of their launch";
            return Err(plain(Code::PermissionDenied, "NOT_A_RANK", words));
        };
        let over =
            || plain(Code::FailedPrecondition, "ATTEMPT_OVER", format!("attempt {attempt} of jobs/{job} is over"));
        self.launches.of(job, *attempt).ok_or_else(over)
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Wanted) -> Result<T, LaunchError> + Send + 'static,
    ) -> Result<T, Status> {
        self.clients.write(work).await?.map_err(of_launch)
    }

    /// The room for files that are about to come, as for copies on this machine; None for those
    /// that are at home already. Where there is none the job is told, and the files come again.
    async fn room(&self, launch: &Arc<Launch>, plan: &PutPlan) -> Result<Option<Promise>, Status> {
        launch.hear(plan.rank, plan.outpost).map_err(of_launch)?;
        let (asked, told) = (launch.clone(), plan.clone());
        let (needed, freed) = self.write(move |_| asked.room_for(&told)).await?;
        let room = match needed {
            0 => Ok(None),
            _ => match self.manager.place_for(launch.job(), needed, freed).await {
                Ok(place) => self.clients.write(move |_| place.promise()).await?.map(Some),
                Err(error) => Err(error),
            },
        };
        launch.note_room(plan.rank, room.as_ref().err().map(ToString::to_string));
        room.map_err(status::of)
    }

    /// Takes the files of a stream. `is_checkpoint` says which kind they are.
    async fn put(&self, request: Request<Streaming<v1::PutFilesRequest>>, is_checkpoint: bool) -> Result<(), Status> {
        let launch = self.launch(&request)?;
        let taken = request.extensions().get::<Taken>().cloned().unwrap_or_default();
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|first| first.part);
        let Some(Part::Begin(begin)) = first else {
            return Err(invalid_field("begin", "is missing in the first message of the stream"));
        };
        let v1::PutFilesBegin { rank, outpost, step, files, removed_steps, sequence } = begin;
        let file = |v1::PutFile { name, size_bytes, sha256 }| PutFile { name, size_bytes, sha256 };
        let step = is_checkpoint.then_some(step);
        let plan =
            PutPlan { rank, outpost, step, files: files.into_iter().map(file).collect(), removed_steps, sequence };
        let mut room = self.room(&launch, &plan).await?;
        let mut put = self.write(move |_| launch.begin_put(plan)).await?;
        taken.mark();
        while let Some(message) = parts.message().await? {
            let Some(Part::Data(data)) = message.part else {
                return Err(invalid_field("data", "is missing in a message after the first"));
            };
            let count = data.len() as u64;
            put = self.write(move |_| put.write(&data).map(|()| put)).await?;
            if let Some(room) = &mut room {
                room.written(count);
            }
            taken.mark();
        }
        self.write(move |_| put.finish()).await
    }
}

type Orders = Pin<Box<dyn Stream<Item = Result<v1::LauncherOrder, Status>> + Send>>;
type Bytes = Pin<Box<dyn Stream<Item = Result<v1::GetLaunchFileResponse, Status>> + Send>>;

#[tonic::async_trait]
impl LaunchService for LaunchList {
    type AttachLauncherStream = Orders;
    type GetLaunchFileStream = Bytes;

    async fn attach_launcher(
        &self,
        request: Request<v1::AttachLauncherRequest>,
    ) -> Result<Response<Self::AttachLauncherStream>, Status> {
        let caller = access::caller(&request)?;
        access::Target::of(&request).tell(&request.get_ref().launcher);
        let v1::AttachLauncherRequest { launcher, engine, slots, running, session, gpus, no_route } =
            request.into_inner();
        let key = LauncherKey { owner: caller.owner, name: named(launcher)? };
        let Some(engine) = Engine::from_proto(engine) else {
            return Err(invalid_field("engine", format!("is {engine}; torchrun or spark is needed")));
        };
        if slots == 0 || slots > MOST_SLOTS {
            return Err(invalid_field("slots", format!("is {slots}; 1 to {MOST_SLOTS} is right")));
        }
        let running = running.into_iter().map(|name| Ok((job_of(&name.job)?, name.attempt)));
        let running = running.collect::<Result<_, Status>>()?;
        let is_for_all = caller.role == Role::Admin;
        let offer = Offer { key, is_for_all, engine, slots, gpus, has_no_route: no_route, session };
        let attachment = self.launches.attach(offer, running);
        let attached = v1::LauncherOrder { order: Some(Order::Attached(v1::Attached { version: VERSION.into() })) };
        Ok(Response::new(Box::pin(orders(attached, attachment))))
    }

    async fn end_launch(
        &self,
        request: Request<v1::EndLaunchRequest>,
    ) -> Result<Response<v1::EndLaunchResponse>, Status> {
        let caller = access::caller(&request)?;
        access::Target::of(&request).tell(&request.get_ref().job);
        let v1::EndLaunchRequest { launcher, job, attempt, message } = request.into_inner();
        let key = LauncherKey { owner: caller.owner, name: named(launcher)? };
        // One that is over, and forgotten, is as good as ended.
        self.launches.engine_ended(&key, &job_of(&job)?, attempt, message);
        Ok(Response::new(v1::EndLaunchResponse {}))
    }

    async fn join_launch(
        &self,
        request: Request<v1::JoinLaunchRequest>,
    ) -> Result<Response<v1::JoinLaunchResponse>, Status> {
        let launch = self.launch(&request)?;
        let v1::JoinLaunchRequest { rank, outpost, world_size, version, host } = request.into_inner();
        let join = Join { rank, outpost, world_size, version, host };
        let joined = launch.clone();
        let (order, files, log_max_bytes) = self
            .write(move |_| {
                joined.join(join)?;
                Ok((joined.order(rank)?, joined.files()?, joined.log_bytes(rank)))
            })
            .await?;
        let limits = launch.limits();
        let time = |time: Duration| time.try_into().ok();
        Ok(Response::new(v1::JoinLaunchResponse {
            job: launch.job().name(),
            attempt: launch.attempt(),
            order,
            files: files.into_iter().map(|(path, size_bytes)| v1::LaunchFile { path, size_bytes }).collect(),
            lease: time(limits.lease),
            orphan_timeout: time(limits.orphan_timeout),
            stop_grace: time(limits.stop_grace),
            log_max_bytes,
            memory_limit_bytes: launch.part().memory_limit_bytes,
            may_leave_machine: limits.may_leave_machine,
        }))
    }

    async fn get_launch_file(
        &self,
        request: Request<v1::GetLaunchFileRequest>,
    ) -> Result<Response<Self::GetLaunchFileStream>, Status> {
        let launch = self.launch(&request)?;
        let v1::GetLaunchFileRequest { path, offset, length } = request.into_inner();
        let file = self
            .write(move |_| {
                let mut file = launch.open_file(&path)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(file.take(if length == 0 { u64::MAX } else { length }))
            })
            .await?;
        let clients = self.clients.clone();
        let pieces = try_unfold((file, clients), |(mut file, clients)| async move {
            let read = move |_: &Wanted| {
                let mut data = Vec::with_capacity(PIECE_BYTES);
                let read = file.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut data);
                read.map(|_| (data, file))
            };
            let (read, _room) = clients.read_into(PIECE_BYTES, read).await?;
            let (data, file) = read.map_err(|error| of_launch(error.into()))?;
            let piece = (!data.is_empty()).then_some((v1::GetLaunchFileResponse { data }, (file, clients)));
            Ok::<_, Status>(piece)
        });
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn push_journal(
        &self,
        request: Request<v1::PushJournalRequest>,
    ) -> Result<Response<v1::PushJournalResponse>, Status> {
        let launch = self.launch(&request)?;
        let v1::PushJournalRequest { rank, outpost, pieces, carries } = request.into_inner();
        let piece = |v1::Piece { file, offset, data, after_step }| Piece { file, offset, data, after_step };
        let pieces: Vec<_> = pieces.into_iter().map(piece).collect();
        // A disk that is slow keeps no lease from being renewed.
        let wish = launch.hear(rank, outpost).map_err(of_launch)?;
        if carries {
            launch.note_carried(rank);
        }
        let (wish, received) = match pieces.is_empty() {
            true => (wish, Vec::new()),
            false => self.write(move |_| launch.push(rank, outpost, pieces)).await?,
        };
        let wish = match wish {
            Wish::GoOn => v1::RankWish::Unspecified,
            Wish::Stop => v1::RankWish::Stop,
            Wish::Kill => v1::RankWish::Kill,
        };
        Ok(Response::new(v1::PushJournalResponse { wish: wish.into(), received }))
    }

    async fn put_checkpoint(
        &self,
        request: Request<Streaming<v1::PutFilesRequest>>,
    ) -> Result<Response<v1::PutFilesResponse>, Status> {
        self.put(request, true).await.map(|()| Response::new(v1::PutFilesResponse {}))
    }

    async fn put_artifacts(
        &self,
        request: Request<Streaming<v1::PutFilesRequest>>,
    ) -> Result<Response<v1::PutFilesResponse>, Status> {
        self.put(request, false).await.map(|()| Response::new(v1::PutFilesResponse {}))
    }

    async fn end_rank(&self, request: Request<v1::EndRankRequest>) -> Result<Response<v1::EndRankResponse>, Status> {
        let launch = self.launch(&request)?;
        let v1::EndRankRequest { rank, outpost, exit, fault } = request.into_inner();
        let note: ExitNote = serde_json::from_slice(&exit)
            .map_err(|error| invalid_field("exit", format!("is no exit note: {error}")))?;
        let exit: Exit = note.exit();
        let fault = (!fault.is_empty()).then_some(fault);
        launch.hear(rank, outpost).map_err(of_launch)?;
        self.write(move |_| launch.end_rank(rank, outpost, exit, fault)).await?;
        Ok(Response::new(v1::EndRankResponse {}))
    }
}

/// The orders of a launcher, with `first` before them.
fn orders(
    first: v1::LauncherOrder,
    attachment: Attachment,
) -> impl Stream<Item = Result<v1::LauncherOrder, Status>> + Send {
    unfold((Some(first), Some(attachment)), |(first, attachment)| async move {
        let mut attachment = attachment?;
        if let Some(first) = first {
            return Some((Ok(first), (None, Some(attachment))));
        }
        match attachment.next().await {
            Some(order) => Some((Ok(message(order)), (None, Some(attachment)))),
            None => {
                let words = "another launcher of this name has attached and takes its place";
                Some((Err(plain(Code::Aborted, "LAUNCHER_REPLACED", words)), (None, None)))
            }
        }
    })
}

fn message(order: LauncherOrder) -> v1::LauncherOrder {
    let order = match order {
        LauncherOrder::Launch { launch, token } => Order::Launch(v1::Launch {
            job: launch.job().name(),
            attempt: launch.attempt(),
            world_size: launch.world_size(),
            token,
            join_timeout: launch.join_timeout().try_into().ok(),
            cpu_threads: launch.part().cpu_threads,
            gpu: launch.part().gpu,
            mailbox: launch.mailbox().map(|mailbox| mailbox.path().display().to_string()).unwrap_or_default(),
        }),
        LauncherOrder::Stop { job, attempt } => Order::Stop(v1::LaunchName { job: job.name(), attempt }),
    };
    v1::LauncherOrder { order: Some(order) }
}

fn job_of(name: &str) -> Result<JobId, Status> {
    super::jobs::job_id(name)
}

fn named(name: String) -> Result<Arc<str>, Status> {
    let is_right = |character: char| character.is_ascii_alphanumeric() || ".-_@:+".contains(character);
    if name.is_empty() || name.len() > 128 || !name.chars().all(is_right) {
        let what = format!("is {name:?}; up to 128 letters, digits and . - _ @ : + are right");
        return Err(invalid_field("launcher", what));
    }
    Ok(name.into())
}

fn of_launch(error: LaunchError) -> Status {
    let words = error.to_string();
    match error {
        LaunchError::NoSuchRank { .. } => plain(Code::OutOfRange, "NO_SUCH_RANK", words),
        LaunchError::WorldSize { .. } => plain(Code::FailedPrecondition, "OTHER_WORLD_SIZE", words),
        LaunchError::Version { .. } => plain(Code::FailedPrecondition, "OTHER_VERSION", words),
        LaunchError::Taken { .. } => plain(Code::AlreadyExists, "RANK_TAKEN", words),
        LaunchError::Over(_) => plain(Code::FailedPrecondition, "RANK_OVER", words),
        LaunchError::Name { field, .. } => invalid_field(field, words),
        LaunchError::Damaged(_) => plain(Code::DataLoss, "DAMAGED_FILES", words),
        LaunchError::Full { .. } => plain(Code::ResourceExhausted, "RANK_FULL", words),
        LaunchError::Folder(error) => status::of_io("the job's folder", &error),
    }
}
