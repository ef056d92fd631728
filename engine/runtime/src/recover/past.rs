//! Whether a job has a past in its lake, for those who only look: a lake whose path is mistyped
//! must not look like one in which all is well.
//!
//! In: a job's graph and lake. Out: whether it ever sealed an epoch there, and its tables when the
//! epochs are gone. Nothing is written.

use std::sync::Arc;

use sluice_core::{Result, Secrets};

use super::judge::is_there;
use super::open::{Opening, lake_of};
use super::reset::Mark;
use crate::epoch::{Environment, Identity};
use crate::plan::Graph;

/// What a lake knows of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Past {
    /// Epochs were sealed.
    Epochs,
    /// There is nothing of the job.
    Nothing {
        /// Where it was looked for.
        lake: String,
    },
    /// There are tables of the job, and no epoch.
    TablesOnly {
        /// Where they are.
        lake: String,
        /// Their names.
        tables: Vec<String>,
    },
    /// A reset of the job was begun and not finished.
    HalfReset {
        /// Where it was.
        lake: String,
    },
}

impl Past {
    /// What is to be said where epochs are needed; nothing when there are some.
    pub fn finding(&self) -> Option<String> {
        match self {
            Past::Epochs => None,
            Past::Nothing { lake } => Some(format!(
                "no epoch was ever sealed here: run the job first, or correct its lake lake={lake}"
            )),
            Past::TablesOnly { lake, tables } => Some(format!(
                "the manifests of the job are gone, its tables are there tables={} lake={lake}",
                tables.join(", ")
            )),
            Past::HalfReset { lake } => Some(format!(
                "a reset of the job was begun and not finished: repeat it lake={lake}"
            )),
        }
    }
}

/// Looks for epochs of a job, and for its tables when there are none.
pub async fn past(env: &Environment, graph: &Arc<Graph>, secrets: &Secrets) -> Result<Past> {
    let lake = lake_of(env, graph, secrets)?;
    if Mark::read(&lake).await? == Some(Mark::Job) {
        return Ok(Past::HalfReset { lake: lake.root.describe() });
    }
    if !lake.chain.numbers().await?.is_empty() {
        return Ok(Past::Epochs);
    }
    let place = lake.root.describe();
    let identity = Identity::main(&graph.job.name, String::new(), String::new());
    let opening = Opening::looking(env, graph, lake, identity, None, None);
    let relations = opening.relations()?;
    let heads = opening.heads(&relations).await?;
    let mut tables = Vec::new();
    for relation in relations.values() {
        if is_there(relation, &heads).await? {
            tables.push(relation.name.clone());
        }
    }
    match tables.is_empty() {
        true => Ok(Past::Nothing { lake: place }),
        false => Ok(Past::TablesOnly { lake: place, tables }),
    }
}
