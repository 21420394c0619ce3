//! Peers of a bench: Python programs that are started once, and do on request what the bench does
//! itself.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};

use crate::rounds::{ROUNDS, Spread};

/// A running program, which answers each line that it reads with the seconds that its processors
/// worked for what the line asks.
pub(crate) struct Peer {
    child: Child,
    questions: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// Starts it, on one thread.
    pub(crate) fn start(mut command: Command, arguments: &[&OsStr]) -> Self {
        command.envs([("OMP_NUM_THREADS", "1"), ("POLARS_MAX_THREADS", "1")]);
        let child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("Python: make pytorch");
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, questions, answers }
    }

    fn seconds(&mut self, question: &str) -> f64 {
        let questions = self.questions.as_mut().expect("it is piped");
        writeln!(questions, "{question}").and_then(|()| questions.flush()).expect("the peer reads");
        let answer = self.answers.next().expect("the peer answers").expect("text");
        answer.parse().expect("seconds")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.questions = None;
        self.child.wait().expect("it is ours");
    }
}

/// Seconds that processors have worked for this process.
pub(crate) fn worked() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the usage of this process");
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// Seconds that processors work for a task.
pub(crate) fn worked_for(task: impl FnOnce()) -> f64 {
    let begun = worked();
    task();
    worked() - begun
}

/// Lets this process and a peer do the same by turns, and tells the times of both and how many
/// times ours the peer takes. A question is a name and what the peer is asked; `unit` makes
/// something of seconds that people think in. The first turn of each does not count. Returns the
/// seconds of all others: ours, and those of the peer for each question.
pub(crate) fn by_turns(
    what: &str,
    unit: impl Fn(f64) -> String,
    mut ours: impl FnMut() -> f64,
    peer: &mut Peer,
    questions: &[(&str, &str)],
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let (mut own, mut others) = (Vec::new(), vec![Vec::new(); questions.len()]);
    for round in 0..=ROUNDS {
        // Neither side always comes after the other.
        let first = (round % 2 == 0).then(&mut ours);
        let taken: Vec<f64> = questions.iter().map(|(_, question)| peer.seconds(question)).collect();
        let taken_here = first.unwrap_or_else(&mut ours);
        if round > 0 {
            own.push(taken_here);
            others.iter_mut().zip(taken).for_each(|(other, taken)| other.push(taken));
        }
    }
    println!("{what}: torchd {}", unit(Spread::of(own.iter().copied()).median));
    for ((name, _), other) in questions.iter().zip(&others) {
        let times = Spread::of(other.iter().zip(&own).map(|(other, own)| other / own));
        println!(
            "  {name} {}: {:.2} times ({:.2} to {:.2} in {ROUNDS} rounds)",
            unit(Spread::of(other.iter().copied()).median),
            times.median,
            times.least,
            times.most
        );
    }
    (own, others)
}
