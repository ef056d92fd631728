//! What a project and its jobs say about each other.
//!
//! In: a project with its tree, the jobs of its packs. Out: problems. What stands in one file alone
//! is checked where that file is read.

use std::sync::Arc;

use sluice_core::Problems;

use super::model::{Project, SourceRef};
use crate::job::model::Job;
use crate::job::read::Document;
use crate::job::suggest;

/// The connector that rows can be handed to.
const WEBHOOK: &str = "webhook";

/// Endpoints write to webhook sources that are there.
pub(in crate::job) fn check_sources(
    document: &Document,
    project: &Project,
    jobs: &[Arc<Job>],
    problems: &mut Problems,
) {
    for endpoint in &project.endpoints {
        let Some(forward) = &endpoint.forward else { continue };
        let written = [("conversations", &forward.conversations), ("messages", &forward.messages)];
        for (key, source) in written {
            let wrong = source.as_ref().and_then(|source| wrong_source(source, jobs));
            if let Some((message, hint)) = wrong {
                let pointer = format!("{}/forward/{key}", endpoint.pointer);
                let (file, span) = document.place(&pointer);
                problems.push(file, span, message, Some(hint));
            }
        }
    }
}

/// Message and hint.
fn wrong_source(source: &SourceRef, jobs: &[Arc<Job>]) -> Option<(String, String)> {
    let SourceRef { job: job_name, source: name } = source;
    let Some(job) = jobs.iter().find(|job| job.name == *job_name) else {
        let known = jobs.iter().map(|job| &job.name);
        let hint = suggest::names(job_name, known, "name a job of the project");
        return Some((format!("no such job name={job_name}"), hint));
    };
    let Some(found) = job.sources.iter().find(|s| s.name == *name) else {
        // What is wrong with it is told in the job's file.
        if job.broken.contains(name) {
            return None;
        }
        let known = job.sources.iter().map(|s| &s.name);
        let hint = suggest::names(name, known, "name a source of the job");
        return Some((format!("no such source name={name} job={job_name}"), hint));
    };
    let connector = &found.connector;
    (connector != WEBHOOK).then(|| {
        let message = format!("the source takes no rows name={name} connector={connector}");
        (message, format!("name a source with `connector: {WEBHOOK}`"))
    })
}
