//! Which launcher a job gets, and what a job that gets none waits for.

use std::collections::HashMap;

use super::{LauncherKey, Launches, Offer, Place, how_to_attach};
use crate::job::JobId;
use crate::job::spec::Engine;

/// Why a job gets no launcher now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoPlace {
    /// No launcher that is attached could ever have room for it.
    Nowhere(String),
    /// These launchers could, and have no room now.
    Taken {
        /// Why, in words.
        words: String,
        /// Those that could have room.
        launchers: Vec<LauncherKey>,
    },
    /// Jobs ahead of it wait for all launchers that could have room.
    Behind(Vec<LauncherKey>),
}

/// The launcher that a job needs.
#[derive(Debug, Clone)]
pub struct Demand {
    /// Its engine.
    pub engine: Engine,
    /// The numbers of ranks that it may have, the most wished first.
    pub sizes: Vec<u32>,
    /// Each rank takes a GPU.
    pub on_gpu: bool,
    /// Ranks need no route to the daemon.
    pub by_mailbox: bool,
}

/// The jobs that wait for launchers, as far as a queue was looked through: a large job is never
/// overtaken for ever by small ones that would use the same launcher.
#[derive(Debug, Default)]
pub struct Line(HashMap<LauncherKey, (JobId, usize)>);

impl Line {
    /// A job waits for launchers. Those behind it get none of these.
    pub fn add(&mut self, id: &JobId, launchers: &[LauncherKey]) {
        for launcher in launchers {
            self.0.entry(launcher.clone()).or_insert_with(|| (id.clone(), 0)).1 += 1;
        }
    }

    /// The first job that waits for one of these launchers, and how many there are.
    pub fn ahead(&self, launchers: &[LauncherKey]) -> Option<(JobId, usize)> {
        launchers.iter().filter_map(|launcher| self.0.get(launcher)).max_by_key(|(_, jobs)| *jobs).cloned()
    }

    fn keeps(&self, launcher: &LauncherKey) -> bool {
        self.0.contains_key(launcher)
    }
}

impl Launches {
    /// Finds room for a job of that owner at a launcher that no job of `line` waits for.
    ///
    /// # Errors
    /// Why there is none now.
    pub fn find_place(&self, owner: &str, demand: &Demand, line: &Line) -> Result<Place, NoPlace> {
        let Demand { engine, ref sizes, on_gpu, by_mailbox } = *demand;
        let state = self.state();
        let offers = state.launchers.values().map(|attached| &attached.offer);
        let serves = |offer: &&Offer| offer.engine == engine && (offer.is_for_all || *offer.key.owner == *owner);
        let (serving, routeless): (Vec<_>, Vec<_>) =
            offers.filter(serves).partition(|offer| by_mailbox || !offer.has_no_route);
        let gpus = |offer: &Offer| offer.gpus.filter(|_| on_gpu).unwrap_or(u32::MAX);
        let room = |offer: &Offer| offer.slots.min(gpus(offer));
        let free = |offer: &Offer| {
            let of_gpus = gpus(offer).saturating_sub(state.taken_by(&offer.key, |launch| launch.part().gpu));
            offer.slots.saturating_sub(state.taken(&offer.key)).min(of_gpus)
        };
        let least = sizes.iter().copied().min().unwrap_or(1);
        let able: Vec<_> = serving.iter().filter(|offer| room(offer) >= least).collect();
        // A launcher that may have no GPU for a job on GPUs, one with GPUs for a job on the CPU.
        let is_unsuited =
            |offer: &Offer| if on_gpu { offer.gpus.is_none() } else { offer.gpus.is_some_and(|gpus| gpus > 0) };
        let found = sizes.iter().find_map(|size| {
            let with_room = able.iter().filter(|offer| free(offer) >= *size && !line.keeps(&offer.key));
            // Of those that suit the tightest, so that others stay free for larger jobs.
            let best = with_room.min_by_key(|offer| {
                let is_wasted = is_unsuited(offer) || (by_mailbox && !offer.has_no_route);
                (is_wasted, free(offer), offer.key.name.clone())
            });
            best.map(|offer| Place { launcher: offer.key.clone(), engine, world_size: *size })
        });
        found.ok_or_else(|| {
            let launchers: Vec<_> = able.iter().map(|offer| offer.key.clone()).collect();
            // Those that nobody ahead waits for are too full.
            let open: Vec<_> = able.iter().filter(|offer| !line.keeps(&offer.key)).collect();
            let noun = match (least, on_gpu) {
                (1, false) => "slot",
                (_, false) => "slots",
                (1, true) => "slot with a GPU",
                (_, true) => "slots with GPUs",
            };
            let most = serving.iter().map(|offer| room(offer)).max();
            let words = match (open.iter().map(|offer| (free(offer), room(offer))).max(), most) {
                (Some((free, slots)), _) => {
                    let others = if open.len() < able.len() { "; jobs ahead wait for the other launchers" } else { "" };
                    format!(
                        "needs {least} {noun} of {engine}; at most {free} of {slots} of a launcher are free{others}"
                    )
                }
                (None, Some(most)) => {
                    format!("needs {least} {noun} of {engine}; its launchers have at most {most}")
                }
                (None, None) if !routeless.is_empty() => {
                    format!("the ranks of its launchers of {engine} have no route to torchd; scale.storage needs none")
                }
                (None, None) => {
                    format!("no launcher of {engine} is attached for {owner}; {}", how_to_attach(engine))
                }
            };
            if launchers.is_empty() {
                NoPlace::Nowhere(words)
            } else if launchers.iter().all(|launcher| line.keeps(launcher)) {
                NoPlace::Behind(launchers)
            } else {
                NoPlace::Taken { words, launchers }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::tests::{PART, limits};
    use super::*;
    use crate::access::LaunchTokens;
    use crate::journal::JobFolder;
    use crate::launches::{Beginning, RankPart};

    fn key(name: &str) -> LauncherKey {
        LauncherKey { owner: "alice".into(), name: name.into() }
    }

    fn offer(name: &str, slots: u32) -> Offer {
        Offer {
            key: key(name),
            is_for_all: false,
            engine: Engine::Torchrun,
            slots,
            gpus: None,
            has_no_route: false,
            session: 0,
        }
    }

    fn demand(sizes: &[u32], on_gpu: bool) -> Demand {
        Demand { engine: Engine::Torchrun, sizes: sizes.to_vec(), on_gpu, by_mailbox: false }
    }

    #[test]
    fn a_launcher_whose_ranks_have_no_route_gets_jobs_with_mailboxes_alone() {
        let launches = Launches::new(limits(), LaunchTokens::default());
        let find = |by_mailbox| {
            let demand = Demand { by_mailbox, ..demand(&[1], false) };
            launches.find_place("alice", &demand, &Line::default()).map(|place| place.launcher.name.to_string())
        };
        let _apart = launches.attach(Offer { has_no_route: true, ..offer("apart", 8) }, Vec::new());
        assert_eq!(find(true), Ok("apart".to_owned()));
        let Err(NoPlace::Nowhere(words)) = find(false) else { panic!("it is given a launcher") };
        assert!(words.contains("have no route to torchd; scale.storage needs none"), "{words}");
        let _near = launches.attach(offer("near", 9), Vec::new());
        assert_eq!([find(false), find(true)], [Ok("near".to_owned()), Ok("apart".to_owned())]);
    }

    #[test]
    fn a_job_on_gpus_gets_a_launcher_that_has_them() {
        let launches = Launches::new(limits(), LaunchTokens::default());
        let find = |sizes: &[u32], on_gpu| {
            launches.find_place("alice", &demand(sizes, on_gpu), &Line::default()).map(|place| {
                let Place { launcher, world_size, .. } = place;
                (launcher.name.to_string(), world_size)
            })
        };
        let words = |found: Result<_, NoPlace>| match found {
            Err(NoPlace::Nowhere(words) | NoPlace::Taken { words, .. }) => words,
            other => panic!("{other:?}"),
        };
        let _bare = launches.attach(Offer { gpus: Some(0), ..offer("bare", 8) }, Vec::new());
        assert_eq!(find(&[2], false), Ok(("bare".into(), 2)));
        let told = words(find(&[2], true));
        assert_eq!(told, "needs 2 slots with GPUs of torchrun; its launchers have at most 0");
        let _box = launches.attach(Offer { gpus: Some(4), ..offer("box", 9) }, Vec::new());
        assert_eq!(find(&[8, 4, 2], true), Ok(("box".into(), 4)));
        let files = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(files.path().into());
        folder.make_rank_folders(3).unwrap();
        let place = Place { launcher: key("box"), engine: Engine::Torchrun, world_size: 3 };
        launches
            .begin(Beginning {
                job: JobId::new(SystemTime::now(), 1),
                folder,
                attempt: 1,
                place,
                join_timeout: Duration::from_secs(60),
                part: RankPart { gpu: true, ..PART },
                storage: None,
            })
            .unwrap();
        assert_eq!(find(&[1], true), Ok(("box".into(), 1)));
        let told = words(find(&[2], true));
        assert_eq!(told, "needs 2 slots with GPUs of torchrun; at most 1 of 4 of a launcher are free");
        // Without a word about GPUs it may have them.
        let _any = launches.attach(offer("any", 2), Vec::new());
        assert_eq!(find(&[2], true), Ok(("any".into(), 2)));
        assert_eq!(find(&[1], true), Ok(("box".into(), 1)), "it has one for certain");
        let _small = launches.attach(Offer { gpus: Some(1), ..offer("small", 1) }, Vec::new());
        assert_eq!(find(&[1], false), Ok(("any".into(), 1)), "GPUs stay free for those who need them");
    }

    #[test]
    fn what_a_job_waits_for_no_job_behind_it_gets() {
        let launches = Launches::new(limits(), LaunchTokens::default());
        let _small = launches.attach(offer("small", 2), Vec::new());
        let mut line = Line::default();
        let find = |sizes: &[u32], line: &Line| launches.find_place("alice", &demand(sizes, false), line);
        assert!(matches!(launches.find_place("bob", &demand(&[1], false), &line), Err(NoPlace::Nowhere(_))));
        assert!(matches!(find(&[4], &line), Err(NoPlace::Nowhere(_))), "nobody is held back for what never comes");
        assert_eq!(find(&[4, 2, 1], &line).map(|place| place.world_size), Ok(2));
        let (large, other) = (JobId::new(SystemTime::now(), 1), JobId::new(SystemTime::now(), 2));
        line.add(&large, &[key("small")]);
        line.add(&other, &[key("small")]);
        let behind = find(&[1], &line);
        assert_eq!(behind, Err(NoPlace::Behind(vec![key("small")])));
        assert_eq!(line.ahead(&[key("small")]), Some((large, 2)));
        let _free = launches.attach(offer("free", 8), Vec::new());
        assert_eq!(find(&[2], &line).map(|place| place.launcher), Ok(key("free")), "nobody waits for this one");
        assert_eq!(line.ahead(&[key("free")]), None);
        let Err(NoPlace::Nowhere(words)) = find(&[9], &line) else { panic!("it has room for eight") };
        assert_eq!(words, "needs 9 slots of torchrun; its launchers have at most 8");
    }

    #[test]
    fn a_job_that_waits_is_told_of_launchers_that_it_could_have() {
        let launches = Launches::new(limits(), LaunchTokens::default());
        let _attached = [("large", 8), ("small", 2), ("one", 1)]
            .map(|(name, slots)| launches.attach(offer(name, slots), Vec::new()));
        let place = |launcher| Place { launcher: key(launcher), engine: Engine::Torchrun, world_size: 1 };
        let (folders, ids) = (
            [(); 2].map(|()| tempfile::tempdir().unwrap()),
            [3, 4].map(|number| JobId::new(SystemTime::now(), number)),
        );
        for (launcher, folder, job) in [("small", &folders[0], &ids[0]), ("one", &folders[1], &ids[1])] {
            let folder = JobFolder::new(folder.path().into());
            let (job, place, join_timeout) = (job.clone(), place(launcher), Duration::from_secs(60));
            let beginning = Beginning { job, folder, attempt: 1, place, join_timeout, part: PART, storage: None };
            launches.begin(beginning).unwrap();
        }
        let mut line = Line::default();
        line.add(&ids[0], &[key("large")]);
        let words = |size: u32, line: &Line| match launches.find_place("alice", &demand(&[size], false), line) {
            Err(NoPlace::Taken { words, .. }) => words,
            other => panic!("{other:?}"),
        };
        // Seven of the first one are free, and a job ahead waits for it; the last one is too small.
        let ahead = "a launcher are free; jobs ahead wait for the other launchers";
        assert_eq!(words(2, &line), format!("needs 2 slots of torchrun; at most 1 of 2 of {ahead}"));
        launches.find_place("alice", &demand(&[1], false), &line).unwrap();
        line.add(&ids[1], &[key("small")]);
        assert_eq!(words(1, &line), format!("needs 1 slot of torchrun; at most 0 of 1 of {ahead}"));
    }
}
