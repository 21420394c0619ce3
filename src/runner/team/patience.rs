//! How long a thread spins before it sleeps, by the load of the machine.
//!
//! A thread that sleeps takes some 50 microseconds to come back, in which a small kernel is done
//! several times over: so on a quiet machine a thread spins for longer than the code between two
//! regions takes. Where others want the core, a thread that spins takes it from them, and often
//! from the very thread that it waits for. The kernel tells for how long a thread was ready to run
//! and had no core (sched-stats.rst, `/proc/PID/task/TID/schedstat`): where that is much of the
//! time, the machine counts as busy for a while.

use std::cell::RefCell;
use std::fs::File;
use std::hint::spin_loop;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::futex;
use torchd::job::spec::ThreadWait;

/// The longest time of spinning where there are cores for all threads: as GNU's runtime has it.
const LONG: Duration = Duration::from_millis(3);
/// The same on a busy machine: less than it takes to wake a thread.
const SHORT: Duration = Duration::from_micros(5);
/// The least time between two looks at the load.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Regions between two looks at the clock.
const REGIONS: u32 = 8;
/// The part of the time for which a thread waits for a core, above which the machine is busy. A few
/// hundredths are nothing: every machine has other work, and its slices take some milliseconds each.
const BUSY: f64 = 0.25;
/// How long it counts as busy after that was seen, in milliseconds: at first, and at most. A machine
/// that is found busy again soon after counts as busy for twice as long, since a job that leaves a
/// core to others may not see them until it wants that core back.
const BUSY_FOR: [u64; 2] = [1_000, 16_000];
/// The time after a busy one that is soon, in milliseconds.
const SOON: u64 = 500;

/// How long the threads of a process spin.
#[derive(Debug)]
pub(super) struct Patience {
    /// Pauses of the processor before a thread sleeps.
    pauses: AtomicU32,
    /// The same on a quiet machine.
    long: AtomicU32,
    /// The same on a busy machine.
    short: AtomicU32,
    is_adaptive: AtomicBool,
    is_busy: AtomicBool,
    /// The time for which it counts as busy, in milliseconds.
    busy_for: AtomicU64,
    /// The time until which the machine counts as busy, in milliseconds.
    busy_until: AtomicU64,
}

static PATIENCE: Patience = Patience::new();

/// From here on threads wait like this.
pub(super) fn set(wait: ThreadWait) {
    PATIENCE.set(wait, pauses(LONG), pauses(SHORT));
}

impl Patience {
    /// None.
    pub(super) const fn new() -> Self {
        Self {
            pauses: AtomicU32::new(0),
            long: AtomicU32::new(0),
            short: AtomicU32::new(0),
            is_adaptive: AtomicBool::new(false),
            is_busy: AtomicBool::new(false),
            busy_for: AtomicU64::new(0),
            busy_until: AtomicU64::new(0),
        }
    }

    /// Threads wait like this, with so many pauses on a quiet machine and on a busy one. Before the
    /// first look the machine counts as busy: that costs a job on a quiet one a tenth of a second,
    /// and many short jobs at once would do nothing but spin.
    pub(super) fn set(&self, wait: ThreadWait, long: u32, short: u32) {
        self.long.store(long, Ordering::Relaxed);
        self.short.store(short, Ordering::Relaxed);
        let pauses = match wait {
            ThreadWait::Passive => 0,
            ThreadWait::Adaptive => short,
            ThreadWait::Active | ThreadWait::Openmp => long,
        };
        self.pauses.store(pauses, Ordering::Relaxed);
        self.is_busy.store(wait == ThreadWait::Adaptive, Ordering::Relaxed);
        self.is_adaptive.store(wait == ThreadWait::Adaptive, Ordering::Relaxed);
    }

    /// Pauses before a thread sleeps, now.
    pub(super) fn pauses(&self) -> u32 {
        self.pauses.load(Ordering::Relaxed)
    }

    /// Adapts to the part of the time for which a thread has waited for a core until `now`, in
    /// milliseconds.
    pub(super) fn adapt(&self, share: f64, now: u64) {
        let until = self.busy_until.load(Ordering::Relaxed);
        if share > BUSY {
            let before = self.busy_for.load(Ordering::Relaxed);
            let busy_for = match before {
                0 => BUSY_FOR[0],
                // It is busy still.
                _ if until > now => before,
                _ if until + SOON > now => (2 * before).min(BUSY_FOR[1]),
                _ => BUSY_FOR[0],
            };
            self.busy_for.store(busy_for, Ordering::Relaxed);
            self.busy_until.store(now + busy_for, Ordering::Relaxed);
        }
        let is_busy = self.busy_until.load(Ordering::Relaxed) > now;
        self.is_busy.store(is_busy, Ordering::Relaxed);
        let pauses = if is_busy { &self.short } else { &self.long };
        self.pauses.store(pauses.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The number of pauses that take so long. Processors differ by a factor of ten.
fn pauses(time: Duration) -> u32 {
    const TRIED: u32 = 1000;
    let each = (0..3).map(|_| {
        let begun = Instant::now();
        (0..TRIED).for_each(|_| spin_loop());
        begun.elapsed() / TRIED
    });
    let each = each.min().unwrap_or_default().max(Duration::from_nanos(1));
    u32::try_from(time.as_nanos() / each.as_nanos()).unwrap_or(u32::MAX)
}

/// Spins until it is time, though not for long; whether it is.
pub(super) fn spin(is_time: impl Fn() -> bool) -> bool {
    for _ in 0..PATIENCE.pauses() {
        if is_time() {
            return true;
        }
        spin_loop();
    }
    is_time()
}

/// Sleeps until it is woken, unless the word is another already. May come back early.
pub(super) fn sleep(word: &AtomicU32, value: u32) {
    // A signal, or a word that has changed, is no error here.
    let _ = futex::wait(word, futex::Flags::PRIVATE, value, None);
}

/// Wakes all that sleep at a word.
pub(super) fn wake_all(word: &AtomicU32) {
    let _ = futex::wake(word, futex::Flags::PRIVATE, i32::MAX.unsigned_abs());
}

/// How this thread has waited for a core.
#[derive(Debug)]
struct Waits {
    /// Regions since the last look at the clock.
    regions: u32,
    last: Option<Look>,
}

#[derive(Debug)]
struct Look {
    time: Instant,
    /// Nanoseconds of waiting until then.
    waited: u64,
    /// None where the kernel does not tell.
    schedstat: Option<File>,
}

thread_local! {
    static WAITS: RefCell<Waits> = const { RefCell::new(Waits { regions: 0, last: None }) };
}

/// Whether the machine counts as busy.
pub(super) fn is_busy() -> bool {
    PATIENCE.is_busy.load(Ordering::Relaxed)
}

/// Looks at the load if it is time, and adapts to it. Whether the machine counts as busy.
pub(super) fn look() -> bool {
    if !PATIENCE.is_adaptive.load(Ordering::Relaxed) {
        return false;
    }
    WAITS.with_borrow_mut(|waits| {
        waits.regions += 1;
        if waits.regions < REGIONS {
            return;
        }
        waits.regions = 0;
        let now = Instant::now();
        match &mut waits.last {
            None => {
                let schedstat = File::open("/proc/thread-self/schedstat").ok();
                waits.last = Some(Look { time: now, waited: waited(schedstat.as_ref()), schedstat });
            }
            Some(last) if now - last.time >= LOOK_EVERY => {
                let total = waited(last.schedstat.as_ref());
                let share = total.saturating_sub(last.waited) as f64 / (now - last.time).as_nanos() as f64;
                (last.time, last.waited) = (now, total);
                PATIENCE.adapt(share, millis_until(now));
            }
            Some(_) => {}
        }
    });
    is_busy()
}

/// Milliseconds since the first call.
fn millis_until(now: Instant) -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let passed = now.saturating_duration_since(*BEGUN.get_or_init(Instant::now));
    u64::try_from(passed.as_millis()).unwrap_or(u64::MAX / 2)
}

/// Nanoseconds for which this thread was ready to run and had no core: the second field.
fn waited(schedstat: Option<&File>) -> u64 {
    let mut text = [0; 64];
    let length = schedstat.and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
    let field = std::str::from_utf8(&text[..length]).ok().and_then(|text| text.split_whitespace().nth(1)?.parse().ok());
    field.unwrap_or(0)
}
