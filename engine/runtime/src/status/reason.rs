//! Why there is no output: from facts about a job to sentences.
//!
//! In: who runs it, what is sealed and published, what its sources and the jobs it reads have. Out: what
//! holds up what, the nearest cause first. Pure: nothing is asked here.

use std::cmp::Reverse;

use serde::Serialize;
use sluice_core::format_count;
use sluice_lake::manifest::Found;

use super::runner::{At, RunnerNote};
use super::sources::{PartitionFacts, Silent};

/// A runner that says nothing new for so long while it is at one thing is worth a word.
const LONG_MS: i64 = 60_000;

/// So many partitions are told by their names, those with the most rows; the others as a sum.
const PARTITIONS_TOLD: usize = 5;

/// Another job whose tables are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// The job.
    pub job: String,
    /// Its published epochs that were seen by the last sealed epoch.
    pub seen: u64,
    /// Its published epochs.
    pub has: u64,
}

/// What the reasons rest on.
#[derive(Debug, Default)]
pub struct Facts<'a> {
    /// The time, milliseconds since 1970.
    pub now_ms: i64,
    /// Who has the lease.
    pub lease: Option<&'a Found>,
    /// What the last runner said of itself.
    pub note: Option<&'a RunnerNote>,
    /// The last sealed epoch.
    pub sealed: Option<u64>,
    /// The last published epoch.
    pub published: Option<u64>,
    /// Tables whose last sealed epoch is not published yet.
    pub unpublished: &'a [String],
    /// Partitions of sources.
    pub partitions: &'a [PartitionFacts],
    /// Sources that did not answer.
    pub silent: &'a [Silent],
    /// Other jobs that are read.
    pub upstream: &'a [Upstream],
}

/// One thing that holds something up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What it is, for programs.
    pub kind: &'static str,
    /// The same for people: lower case, without a full stop.
    pub text: String,
}

/// What holds the job up, the nearest cause first; at least one.
pub fn decide(facts: &Facts<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut add = |kind: &'static str, text: String| reasons.push(Reason { kind, text });
    let alive = facts.lease.filter(|lease| lease.alive);
    match (facts.lease, alive) {
        (_, Some(_)) => {}
        (Some(dead), None) => {
            let (host, pid) = (&dead.holder.host, dead.holder.pid);
            add(
                "runner_gone",
                format!("its runner is gone: process {pid} of {host} does not live any more"),
            );
        }
        (None, None) if facts.sealed.is_none() && facts.note.is_none() => {
            add("never_run", "the job was never run".to_string());
        }
        (None, None) => add("no_runner", format!("nobody runs it{}", last_end(facts))),
    }
    if let Some(sealed) = facts.sealed.filter(|sealed| facts.published != Some(*sealed)) {
        let tables = match facts.unpublished {
            [] => String::new(),
            tables => format!(" in {}", tables.join(", ")),
        };
        let text = format!("epoch {sealed} is sealed and not published yet{tables}");
        add("unpublished", text);
    }
    // What a runner says counts while it lives, and only if it is the one that has the lease.
    let own = |note: &&RunnerNote| {
        alive.is_some_and(|l| l.holder.pid == note.pid && l.holder.host == note.host)
    };
    if let Some(note) = facts.note.filter(own) {
        note_reasons(facts.now_ms, note, &mut add);
    }
    for silent in facts.silent {
        let text = format!("source {} does not say what it has: {}", silent.source, silent.reason);
        add("source_silent", text);
    }
    behind_reasons(facts, &mut add);
    for upstream in facts.upstream {
        let Upstream { job, seen, has } = upstream;
        match has {
            0 => {
                add("waits_for_job", format!("it reads job {job}, which has published nothing yet"))
            }
            has if has > seen => {
                let new = format_count(has - seen, "epoch");
                add("job_not_taken", format!("job {job} published {new} that it has not taken"));
            }
            _ => add(
                "job_taken",
                format!("job {job} published nothing new since epoch {}", seen - 1),
            ),
        }
    }
    if reasons.is_empty() {
        let text = match facts.partitions.iter().any(|p| p.behind.is_some()) {
            true => "its sources have nothing new",
            false => "it is at work; its sources do not say whether they have something new",
        };
        reasons.push(Reason { kind: "nothing_new", text: text.to_string() });
    }
    reasons
}

/// How the last run ended, as far as it said.
fn last_end(facts: &Facts<'_>) -> String {
    let Some(note) = facts.note else { return String::new() };
    let ago = ago(facts.now_ms, note.since_ms);
    match (&note.trouble, note.at) {
        (Some(trouble), At::Ended) if trouble.at_ms >= note.sealed_at_ms.unwrap_or(0) => {
            format!("; the last run ended {ago} after a failure: {}", trouble.message)
        }
        (_, At::Ended) => format!("; the last run ended {ago}"),
        _ => "; the last run did not say that it ended".to_string(),
    }
}

fn note_reasons(now_ms: i64, note: &RunnerNote, add: &mut impl FnMut(&'static str, String)) {
    for circuit in &note.circuits {
        let (since, next) = (span(now_ms, circuit.since_ms), circuit.until_ms - now_ms);
        let failures = format_count(u64::from(circuit.failures), "failure");
        let next = match next.max(0) / 1000 {
            0 => "now".to_string(),
            seconds => format!("in {seconds} s"),
        };
        let what = &circuit.dependency;
        add(
            "circuit_open",
            format!("{what} is left alone for {since} after {failures}; tried again {next}"),
        );
    }
    let long = now_ms.saturating_sub(note.since_ms) >= LONG_MS;
    let since = span(now_ms, note.since_ms);
    let epoch = note.epoch.map(|n| format!(" {n}")).unwrap_or_default();
    match note.at {
        At::Opening if long => add("opening", format!("its runner opens the job for {since}")),
        At::Working if long => add("working", format!("epoch{epoch} is at work for {since}")),
        At::Sealing if long => {
            add(
                "sealing",
                format!("epoch{epoch} is done and waits for {since} for the publication before it"),
            );
        }
        At::Waiting => {
            let why = note.trouble.as_ref().map(|t| format!(": {}", t.message));
            add(
                "waiting",
                format!("its runner waits for {since} to try again{}", why.unwrap_or_default()),
            );
        }
        _ => {}
    }
}

fn behind_reasons(facts: &Facts<'_>, add: &mut impl FnMut(&'static str, String)) {
    let sealed_ms = facts.note.and_then(|note| note.sealed_at_ms);
    let since = sealed_ms.map(|at| format!(" since the last seal {}", ago(facts.now_ms, at)));
    let since = since.unwrap_or_default();
    let behind = facts.partitions.iter().filter_map(|p| Some((p, p.behind.filter(|n| *n > 0)?)));
    let mut behind: Vec<(&PartitionFacts, u64)> = behind.collect();
    if behind.len() > PARTITIONS_TOLD {
        behind.sort_by_key(|(_, rows)| Reverse(*rows));
    }
    let others = behind.split_off(PARTITIONS_TOLD.min(behind.len()));
    for (partition, rows) in behind {
        let PartitionFacts { source, partition, .. } = partition;
        let rows = format_count(rows, "row");
        add(
            "behind",
            format!("partition {partition} of {source} holds {rows} that no epoch took{since}"),
        );
    }
    if !others.is_empty() {
        let rows = format_count(others.iter().map(|(_, rows)| rows).sum(), "row");
        let partitions = format_count(others.len() as u64, "more partition");
        let hold = if others.len() == 1 { "holds" } else { "hold" };
        add("behind", format!("{partitions} {hold} {rows} that no epoch took{since}"));
    }
}

/// How long ago something was, for people.
fn ago(now_ms: i64, at_ms: i64) -> String {
    format!("{} ago", span(now_ms, at_ms))
}

/// The time from then to now, for people.
fn span(now_ms: i64, at_ms: i64) -> String {
    let seconds = now_ms.saturating_sub(at_ms).max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use sluice_core::Offset;
    use sluice_lake::manifest::Holder;

    use super::super::runner::{Circuit, Trouble};
    use super::*;

    const NOW: i64 = 10_000_000;

    fn lease(alive: bool) -> Found {
        let holder = Holder { run: "r".into(), host: "h".into(), pid: 7 };
        Found { holder, acquired_at_ms: 0, renewed_at_ms: 0, alive }
    }

    fn note(at: At, since_s: i64) -> RunnerNote {
        let (host, since_ms) = ("h".to_string(), NOW - since_s * 1000);
        RunnerNote { host, pid: 7, at, since_ms, epoch: Some(4), ..RunnerNote::default() }
    }

    fn partition(name: &str, behind: Option<u64>) -> PartitionFacts {
        PartitionFacts {
            source: "orders".into(),
            partition: name.into(),
            sealed: Some(Offset::At(1)),
            first: None,
            end: None,
            behind,
        }
    }

    fn told(facts: &Facts<'_>) -> Vec<String> {
        decide(facts).into_iter().map(|r| format!("{}: {}", r.kind, r.text)).collect()
    }

    #[test]
    fn a_job_that_nobody_runs_says_so_first() {
        let facts = Facts { now_ms: NOW, ..Facts::default() };
        assert_eq!(told(&facts), ["never_run: the job was never run"]);
        let facts = Facts { sealed: Some(3), published: Some(3), ..facts };
        assert_eq!(told(&facts), ["no_runner: nobody runs it"]);
        let mut ended = note(At::Ended, 180);
        let facts = Facts { note: Some(&ended), ..facts };
        assert_eq!(told(&facts), ["no_runner: nobody runs it; the last run ended 3 min ago"]);
        let message = "no space left".to_string();
        ended.trouble = Some(Trouble { at_ms: NOW, kind: "unavailable".into(), message });
        let partitions = [partition("t/0", Some(5)), partition("t/1", Some(0))];
        let unpublished = ["sales".to_string()];
        let dead = lease(false);
        let facts = Facts {
            now_ms: NOW,
            note: Some(&ended),
            sealed: Some(4),
            published: Some(3),
            unpublished: &unpublished,
            partitions: &partitions,
            ..Facts::default()
        };
        let expected = [
            "no_runner: nobody runs it; the last run ended 3 min ago after a failure: no space left",
            "unpublished: epoch 4 is sealed and not published yet in sales",
            "behind: partition t/0 of orders holds 5 rows that no epoch took",
        ];
        assert_eq!(told(&facts), expected);
        let facts = Facts { lease: Some(&dead), ..facts };
        assert!(told(&facts)[0].starts_with("runner_gone: its runner is gone: process 7 of h"));
    }

    #[test]
    fn a_runner_that_lives_is_believed() {
        let alive = lease(true);
        let idle = note(At::Taking, 500);
        let facts = Facts {
            now_ms: NOW,
            lease: Some(&alive),
            note: Some(&idle),
            sealed: Some(3),
            published: Some(3),
            ..Facts::default()
        };
        assert!(told(&facts)[0].starts_with("nothing_new: it is at work"));
        let none = [partition("t/0", Some(0))];
        let facts = Facts { partitions: &none, ..facts };
        assert_eq!(told(&facts), ["nothing_new: its sources have nothing new"]);
        let busy = note(At::Working, 90);
        let facts = Facts { note: Some(&busy), ..facts };
        assert_eq!(told(&facts), ["working: epoch 4 is at work for 90 s"]);
        let mut waits = note(At::Waiting, 3);
        let (since_ms, until_ms) = (NOW - 70_000, NOW + 12_500);
        let dependency = "source:orders".to_string();
        waits.circuits = vec![Circuit { dependency, failures: 6, since_ms, until_ms }];
        let facts = Facts { note: Some(&waits), ..facts };
        let expected = [
            "circuit_open: source:orders is left alone for 70 s after 6 failures; tried again in 12 s",
            "waiting: its runner waits for 3 s to try again",
        ];
        assert_eq!(told(&facts), expected);
        // What another process said long ago is nothing.
        let other = RunnerNote { pid: 8, ..waits.clone() };
        let facts = Facts { note: Some(&other), ..facts };
        assert_eq!(told(&facts), ["nothing_new: its sources have nothing new"]);
    }

    #[test]
    fn what_it_waits_for_is_named() {
        let alive = lease(true);
        let up = |job: &str, seen, has| Upstream { job: job.into(), seen, has };
        let upstream = [up("a", 0, 0), up("b", 2, 4), up("c", 3, 3)];
        let silent = [Silent { source: "orders".into(), reason: "no answer".into() }];
        let many: Vec<_> = (0..8).map(|n| partition(&format!("t/{n}"), Some(n))).collect();
        let facts = Facts {
            now_ms: NOW,
            lease: Some(&alive),
            partitions: &many,
            silent: &silent,
            upstream: &upstream,
            ..Facts::default()
        };
        let expected = [
            "source_silent: source orders does not say what it has: no answer",
            "behind: partition t/7 of orders holds 7 rows that no epoch took",
            "behind: partition t/6 of orders holds 6 rows that no epoch took",
            "behind: partition t/5 of orders holds 5 rows that no epoch took",
            "behind: partition t/4 of orders holds 4 rows that no epoch took",
            "behind: partition t/3 of orders holds 3 rows that no epoch took",
            "behind: 2 more partitions hold 3 rows that no epoch took",
            "waits_for_job: it reads job a, which has published nothing yet",
            "job_not_taken: job b published 2 epochs that it has not taken",
            "job_taken: job c published nothing new since epoch 2",
        ];
        assert_eq!(told(&facts), expected);
    }
}
