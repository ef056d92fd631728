//! The order in which the jobs of a pack run: each after those that its schedule names.

use std::collections::BTreeSet;

use sluice_core::Problems;

use super::load::Draft;
use super::model::Schedule;
use super::suggest;

/// Indices of `drafts` in run order; among those that wait for nobody, in the order given. Names
/// in `beside` are jobs that exist but are not read.
pub(super) fn run_order(
    drafts: &[Draft],
    beside: &BTreeSet<String>,
    problems: &mut Problems,
) -> Vec<usize> {
    let waits: Vec<Vec<(usize, usize)>> =
        drafts.iter().map(|draft| waits_for(draft, drafts, beside, problems)).collect();
    let mut order: Vec<usize> = Vec::with_capacity(drafts.len());
    while order.len() < drafts.len() {
        let is_ready = |i: &usize| {
            !order.contains(i) && waits[*i].iter().all(|(other, _)| order.contains(other))
        };
        match (0..drafts.len()).find(is_ready) {
            Some(next) => order.push(next),
            None => {
                report_circle(drafts, &waits, &order, problems);
                break;
            }
        }
    }
    order
}

/// The drafts that a draft waits for, each with its place in `after`.
fn waits_for(
    draft: &Draft,
    drafts: &[Draft],
    beside: &BTreeSet<String>,
    problems: &mut Problems,
) -> Vec<(usize, usize)> {
    let Some(Schedule::After(names)) = draft.job.as_ref().map(|job| &job.schedule) else {
        return Vec::new();
    };
    let mut waits = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let found = drafts.iter().position(|other| other.name.as_ref() == Some(name));
        match found {
            Some(other) => waits.push((other, i)),
            None if beside.contains(name) => {}
            None => {
                let known: BTreeSet<&String> = drafts
                    .iter()
                    .filter_map(|d| d.name.as_ref())
                    .chain(beside)
                    .filter(|known| Some(*known) != draft.name.as_ref())
                    .collect();
                let hint = suggest::names(name, known, "name a job of the same folder");
                let span = draft.document.span(&format!("/schedule/after/{i}"));
                let message = format!("no such job in the pack name={name}");
                problems.push(&draft.document.file, span, message, Some(hint));
            }
        }
    }
    waits
}

/// Tells of every job that lies on a circle, at the name that closes it.
fn report_circle(
    drafts: &[Draft],
    waits: &[Vec<(usize, usize)>],
    done: &[usize],
    problems: &mut Problems,
) {
    for (i, draft) in drafts.iter().enumerate() {
        if done.contains(&i) {
            continue;
        }
        for (other, place) in &waits[i] {
            if reaches(waits, *other, i) {
                let span = draft.document.span(&format!("/schedule/after/{place}"));
                let hint = "take one of the names out of `after:`".to_string();
                let message = "jobs wait for each other in a circle";
                problems.push(&draft.document.file, span, message, Some(hint));
            }
        }
    }
}

fn reaches(waits: &[Vec<(usize, usize)>], from: usize, to: usize) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        if at == to {
            return true;
        }
        if seen.insert(at) {
            open.extend(waits[at].iter().map(|(other, _)| *other));
        }
    }
    false
}
