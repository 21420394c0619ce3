//! A launch and its files, without an engine.

use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;

use super::launch::{Launch, Limits, RankState, Trouble};
use super::record::Record;
use super::*;
use crate::job::end::Exit;

/// Limits that nobody meets.
pub(super) fn limits() -> Limits {
    Limits {
        lease: Duration::ZERO,
        orphan_timeout: Duration::from_secs(3600),
        stop_grace: Duration::from_secs(10),
        log_max_bytes: 1 << 20,
        max_event_bytes: 1 << 20,
        journal_bytes: 1 << 20,
        may_leave_machine: false,
        group_reads: false,
    }
}

/// The part of a rank on the CPU.
pub(super) const PART: RankPart = RankPart { cpu_threads: 1, memory_limit_bytes: None, gpu: false };

fn record(folder: &JobFolder) -> Record {
    let launcher = LauncherKey { owner: "alice".into(), name: "test".into() };
    let place = Place { launcher, engine: Engine::Torchrun, world_size: 1 };
    Record::new(folder, 1, place, "0".repeat(64), Duration::from_secs(60), PART, None).unwrap()
}

fn launch(place: &tempfile::TempDir, limits: Limits) -> (Arc<Launch>, JobFolder) {
    let folder = JobFolder::new(place.path().into());
    for made in [folder.tensorboard(), folder.checkpoints(), folder.artifacts()] {
        fs::create_dir_all(made).unwrap();
    }
    let launch = Launch::new(JobId::new(SystemTime::now(), 1), folder.clone(), record(&folder), limits);
    (Arc::new(launch), folder)
}

fn piece(offset: u64, data: &str) -> Piece {
    Piece { file: "journal".into(), offset, data: data.into(), after_step: 0 }
}

/// A time at which every lease is over.
fn later() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[test]
fn a_rank_is_not_over_while_something_is_written_for_it_and_nothing_is_written_afterwards() {
    let place = tempfile::tempdir().unwrap();
    let (launch, folder) = launch(&place, limits());
    // Opening it waits for somebody who reads.
    nix::unistd::mkfifo(&folder.journal(), Mode::S_IRWXU).unwrap();
    launch.hear(0, 1).unwrap();
    let pushing = launch.clone();
    let push = std::thread::spawn(move || pushing.push(0, 1, vec![piece(0, "abc")]).map(drop));
    while !launch.is_written() {
        std::thread::yield_now();
    }
    assert_eq!(launch.state(0, later()), RankState::Runs, "it is being written");
    let mut read = [0; 3];
    fs::File::open(folder.journal()).unwrap().read_exact(&mut read).unwrap();
    push.join().unwrap().unwrap();
    assert!(matches!(launch.state(0, later()), RankState::Over(Exit::Unknown, Some(Trouble::Lost(_)))));
    fs::remove_file(folder.journal()).unwrap();
    assert!(matches!(launch.push(0, 1, vec![piece(0, "abc")]), Err(LaunchError::Over(0))));
    assert!(!folder.journal().exists());
}

#[test]
fn files_that_came_before_a_launch_was_ended_get_no_names_behind_it() {
    let place = tempfile::tempdir().unwrap();
    let (launch, folder) = launch(&place, limits());
    let file = PutFile { name: "model".into(), size_bytes: 5, sha256: crate::sha256::Sha256::of(b"whole") };
    let plan = PutPlan { rank: 0, outpost: 1, step: None, files: vec![file], removed_steps: Vec::new(), sequence: 1 };
    let mut put = launch.begin_put(plan).unwrap();
    put.write(b"whole").unwrap();
    launch.close();
    assert!(matches!(put.finish(), Err(LaunchError::Over(0))));
    assert_eq!(fs::read_dir(folder.artifacts()).unwrap().count(), 0);
}

#[test]
fn results_of_a_call_that_was_given_up_do_not_come_behind_later_ones() {
    let place = tempfile::tempdir().unwrap();
    let (launch, folder) = launch(&place, limits());
    let begin = |sequence, content: &str| {
        let (size_bytes, sha256) = (content.len() as u64, crate::sha256::Sha256::of(content.as_bytes()));
        let files = vec![PutFile { name: "model".into(), size_bytes, sha256 }];
        let plan = PutPlan { rank: 0, outpost: 1, step: None, files, removed_steps: Vec::new(), sequence };
        let mut put = launch.begin_put(plan).unwrap();
        put.write(content.as_bytes()).unwrap();
        put
    };
    let (earlier, later) = (begin(1, "earlier"), begin(2, "later"));
    later.finish().unwrap();
    earlier.finish().unwrap();
    assert_eq!(fs::read_to_string(folder.artifacts().join("model")).unwrap(), "later");
    assert_eq!(fs::read_dir(folder.artifacts()).unwrap().count(), 1);
    begin(3, "last").finish().unwrap();
    assert_eq!(fs::read_to_string(folder.artifacts().join("model")).unwrap(), "last");
}

#[test]
fn a_rank_whose_mailbox_cannot_be_looked_at_is_not_given_up() {
    let place = tempfile::tempdir().unwrap();
    let folder = JobFolder::new(place.path().into());
    let job = JobId::new(SystemTime::now(), 1);
    let mut record = record(&folder);
    record.mailbox = Some(Mailbox::new(place.path().into(), &job, 1).unwrap());
    let launch = Launch::new(job, folder, record, limits());
    let now = Instant::now();
    let late = now + Duration::from_secs(3600);
    assert_eq!(launch.state(0, late), RankState::Waits, "it may have joined where nobody can look");
    launch.hear(0, 1).unwrap();
    // Each round is a second in which nothing was heard, and the lease is five minutes.
    let after_silence = || {
        for _ in 0..310 {
            launch.state(0, now);
            launch.state(0, now + Duration::from_secs(1));
        }
        launch.state(0, now)
    };
    assert_eq!(after_silence(), RankState::Runs, "nobody has looked yet");
    launch.note_look(Some("no answer".into()));
    assert_eq!((after_silence(), launch.mailbox_trouble().as_deref()), (RankState::Runs, Some("no answer")));
    launch.note_look(None);
    assert_eq!(launch.mailbox_trouble(), None);
    assert!(matches!(after_silence(), RankState::Over(Exit::Unknown, Some(Trouble::Lost(_)))));
}

#[test]
fn a_journal_that_becomes_too_long_ends_its_rank_with_words() {
    let place = tempfile::tempdir().unwrap();
    let (launch, folder) = launch(&place, Limits { journal_bytes: 5, ..limits() });
    assert_eq!(launch.push(0, 1, vec![piece(0, "abc")]).unwrap().1, [3]);
    let Err(full @ LaunchError::Full { .. }) = launch.push(0, 1, vec![piece(3, "def")]) else { panic!("it is taken") };
    let words = full.to_string();
    assert!(words.contains("would have 6 bytes; 5 are the most") && words.contains("jobs.max_event_bytes"), "{words}");
    assert_eq!(launch.state(0, Instant::now()), RankState::Over(Exit::Unknown, Some(Trouble::Full(words))));
    assert_eq!(fs::read_to_string(folder.journal()).unwrap(), "abc");
}

#[test]
fn a_machine_that_lost_bytes_of_earlier_attempts_is_known_to_the_next_daemon_too() {
    let place = tempfile::tempdir().unwrap();
    let folder = JobFolder::new(place.path().into());
    fs::write(folder.journal(), "before").unwrap();
    let (launch, folder) = launch(&place, limits());
    fs::write(folder.journal(), "bef").unwrap();
    assert_eq!(launch.push(0, 1, vec![piece(3, "d")]).unwrap().1, [0], "it is sent from the beginning");
    assert_eq!(launch.push(0, 1, vec![piece(0, "abcd")]).unwrap().1, [4]);
    let record = Record::read(&folder).unwrap().unwrap();
    let next = Launch::adopted(launch.job().clone(), folder.clone(), record, limits());
    assert_eq!(next.push(0, 1, vec![piece(2, "cde")]).unwrap().1, [5]);
    assert_eq!(fs::read_to_string(folder.journal()).unwrap(), "befabcde");
}

/// A launch as a daemon begins it.
fn begin(launches: &Launches, folder: &JobFolder, number: u32) -> Arc<Launch> {
    let launcher = LauncherKey { owner: "alice".into(), name: "test".into() };
    let place = Place { launcher, engine: Engine::Torchrun, world_size: 1 };
    let (job, folder, join_timeout) = (JobId::new(SystemTime::now(), number), folder.clone(), Duration::from_secs(60));
    let beginning = Beginning { job, folder, attempt: 1, place, join_timeout, part: PART, storage: None };
    launches.begin(beginning).unwrap()
}

/// The orders that have been given to a launcher: jobs to start with their tokens, and jobs to end.
fn given(attachment: &mut Attachment) -> Vec<(JobId, Option<String>)> {
    let orders = std::iter::from_fn(|| attachment.orders.try_recv().ok());
    let told = |order| match order {
        LauncherOrder::Launch { launch, token } => (launch.job().clone(), Some(token)),
        LauncherOrder::Stop { job, .. } => (job, None),
    };
    orders.map(told).collect()
}

#[test]
fn an_order_that_a_launcher_has_not_read_comes_again_to_the_same_launcher_alone() {
    let place = tempfile::tempdir().unwrap();
    let folder = JobFolder::new(place.path().into());
    let launches = Launches::new(Limits { lease: Duration::from_secs(60), ..limits() }, LaunchTokens::default());
    let key = LauncherKey { owner: "alice".into(), name: "test".into() };
    let offer = |session| Offer {
        key: key.clone(),
        is_for_all: false,
        engine: Engine::Torchrun,
        slots: 9,
        gpus: None,
        has_no_route: false,
        session,
    };
    let state = |launch: &Launch| launch.state(0, Instant::now());
    let is_lost = |launch: &Launch| matches!(state(launch), RankState::Over(_, Some(Trouble::Lost(_))));
    let name = |launch: &Launch| (launch.job().clone(), launch.attempt());

    let mut first = launches.attach(offer(7), Vec::new());
    let unread = begin(&launches, &folder, 1);
    let sent = given(&mut first);
    assert_eq!(sent.len(), 1);
    drop(first);
    // Nobody has been given this one.
    let between = begin(&launches, &folder, 2);
    let mut again = launches.attach(offer(7), Vec::new());
    let mut orders = given(&mut again);
    orders.sort();
    assert_eq!(orders.len(), 2);
    assert!(orders.contains(&sent[0]), "with the same token");
    assert_eq!((state(&unread), state(&between)), (RankState::Waits, RankState::Waits));

    // A launch that runs, that a rank has joined or that the engine has ended is ordered once.
    let (joined, ended) = (begin(&launches, &folder, 3), begin(&launches, &folder, 4));
    joined.hear(0, 1).unwrap();
    assert!(launches.engine_ended(&key, ended.job(), 1, String::new()));
    let mut again = launches.attach(offer(7), vec![name(&unread), name(&between)]);
    assert_eq!(given(&mut again), []);
    assert_eq!(state(&joined), RankState::Runs);
    assert!(matches!(state(&ended), RankState::Over(_, Some(Trouble::NotStarted(_) | Trouble::Lost(_)))));

    // Another launcher of that name cannot know whether the one before has started ranks.
    let mut other = launches.attach(offer(8), Vec::new());
    assert_eq!(given(&mut other), []);
    assert!(is_lost(&unread) && is_lost(&between));
    // Nor can one that does not say which it is.
    let mut nobody = launches.attach(offer(0), Vec::new());
    let unnamed = begin(&launches, &folder, 5);
    assert_eq!(given(&mut nobody).len(), 1);
    assert_eq!(given(&mut launches.attach(offer(0), Vec::new())), []);
    assert!(is_lost(&unnamed));
}

#[test]
fn files_that_find_no_room_are_told_until_they_do_whatever_else_the_disk_takes() {
    let place = tempfile::tempdir().unwrap();
    let (launch, _folder) = launch(&place, limits());
    launch.note_room(0, Some("no room".into()));
    launch.push(0, 1, vec![piece(0, "abc")]).unwrap();
    assert_eq!(launch.disk_trouble().as_deref(), Some("no room"));
    launch.note_room(0, None);
    assert_eq!(launch.disk_trouble(), None);
}
