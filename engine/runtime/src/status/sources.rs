//! How far a job is behind its sources: what the last sealed epoch took, and what is there now.
//!
//! In: the offsets of the last manifest, the sources themselves. Out: facts per partition. A source that
//! does not answer in time is a fact too, never an error.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use sluice_core::{Error, Offset, Offsets, Standing};

use crate::epoch::Environment;
use crate::query::Readable;

/// How long a source has to say what it has: somebody sits at a terminal.
const PATIENCE: Duration = Duration::from_secs(5);

/// A partition of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionFacts {
    /// The source.
    pub source: String,
    /// The partition.
    pub partition: String,
    /// The position behind the last row that an epoch sealed; none before the first.
    pub sealed: Option<Offset>,
    /// The first position that can still be read, where the source says it.
    pub first: Option<Offset>,
    /// The position behind the last row there is, where the source says it.
    pub end: Option<Offset>,
    /// Positions from there to here, where positions can be counted.
    pub behind: Option<u64>,
}

/// A source that did not say what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Silent {
    /// The source.
    pub source: String,
    /// Why.
    pub reason: String,
}

/// Asks all sources of a job at once what they have.
pub(super) async fn sources(
    env: &Environment,
    job: &Readable,
    sealed: &BTreeMap<String, Offsets>,
) -> (Vec<PartitionFacts>, Vec<Silent>) {
    let asked = job.graph.sources.iter().map(|node| async move {
        let name = node.spec.name.clone();
        let Some(factory) = env.registry.source(&node.spec.connector) else {
            return (name, Ok(Vec::new()));
        };
        let context = env.context(&job.graph.job.name, &job.secrets);
        let answer = tokio::select! {
            answer = factory.standing(&node.spec.config, &context) => answer,
            () = env.clock.sleep(PATIENCE) => {
                let seconds = PATIENCE.as_secs();
                Err(Error::unavailable(format!("no answer within {seconds} s")))
            }
        };
        (name, answer)
    });
    let (mut facts, mut silent) = (Vec::new(), Vec::new());
    for (source, answer) in futures::future::join_all(asked).await {
        let there = answer.unwrap_or_else(|error| {
            silent.push(Silent { source: source.clone(), reason: error.chain() });
            Vec::new()
        });
        facts.extend(partitions(&source, sealed.get(&source), &there));
    }
    // Other jobs whose tables are read, and sources that are not in the job any more.
    for (source, offsets) in sealed {
        if !job.graph.sources.iter().any(|node| node.spec.name == *source) {
            facts.extend(partitions(source, Some(offsets), &[]));
        }
    }
    (facts, silent)
}

fn partitions(source: &str, sealed: Option<&Offsets>, there: &[Standing]) -> Vec<PartitionFacts> {
    let known = sealed.into_iter().flatten().map(|(partition, _)| partition);
    let names: BTreeSet<&String> = known.chain(there.iter().map(|s| &s.partition)).collect();
    let facts = |partition: &String| {
        let sealed = sealed.and_then(|offsets| offsets.get(partition)).cloned();
        let standing = there.iter().find(|s| s.partition == *partition);
        let (first, end) = (standing.map(|s| s.first.clone()), standing.map(|s| s.end.clone()));
        let from = sealed.as_ref().or(first.as_ref());
        let behind = match (from, &end) {
            (Some(Offset::At(from)), Some(Offset::At(end))) => Some(end.saturating_sub(*from)),
            _ => None,
        };
        let (source, partition) = (source.to_string(), partition.clone());
        PartitionFacts { source, partition, sealed, first, end, behind }
    };
    names.into_iter().map(facts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_is_counted_from_what_is_sealed_or_still_there() {
        let sealed = Offsets::from([
            ("t/0".to_string(), Offset::At(10)),
            ("t/2".to_string(), Offset::Cursor("x".to_string())),
            ("t/3".to_string(), Offset::At(9)),
        ]);
        let standing = |partition: &str, first, end| Standing {
            partition: partition.to_string(),
            first: Offset::At(first),
            end: Offset::At(end),
        };
        let there = [standing("t/0", 4, 15), standing("t/1", 4, 15), standing("t/2", 0, 1)];
        let found = partitions("s", Some(&sealed), &there);
        let behind: Vec<_> = found.iter().map(|f| (f.partition.as_str(), f.behind)).collect();
        assert_eq!(behind, [("t/0", Some(5)), ("t/1", Some(11)), ("t/2", None), ("t/3", None)]);
    }
}
