//! Counting at the sources what was taken of them: gaps between offsets are told apart from loss.
//!
//! In: the ranges that epochs took, and sources that can count theirs again. Out: a check per source:
//! as many rows as its ranges hold were taken, markers of transactions, aborted rows and compacted
//! ones aside. What retention deleted since can only bound the count. Epochs count the rows of a
//! source, not of its partitions: what does not fit is said with all ranges it can be in.

use std::collections::BTreeMap;

use sluice_core::{Advance, Offset, Recount, Result};
use sluice_lake::manifest::{Base, Entry, EpochKind};

use super::audit::Check;
use crate::epoch::Environment;
use crate::query::Readable;

/// So many ranges are named where rows do not fit: enough for a topic of usual width.
const RANGES_MAX: usize = 16;

/// What the last life of a chain took of one source.
#[derive(Debug, Default)]
struct Taken {
    ranges: BTreeMap<String, (Offset, Offset)>,
    rows: u64,
    lost: u64,
}

/// Counts again what each source of the job holds in the ranges that were taken.
pub(super) async fn recounted(
    env: &Environment,
    job: &Readable,
    entries: &[Entry],
    base: Option<&Base>,
) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for source in &job.graph.sources {
        let spec = &source.spec;
        let taken = taken(&spec.name, entries, base);
        let Some(factory) = env.registry.source(&spec.connector) else { continue };
        let ranges: Vec<Advance> = taken
            .ranges
            .iter()
            .filter(|(_, (from, to))| from.at().is_some() && to.at().is_some())
            .map(|(partition, (from, to))| {
                let (partition, from, to) = (partition.clone(), from.clone(), to.clone());
                Advance { partition, from, to }
            })
            .collect();
        let context = env.context(&job.graph.job.name, &job.secrets);
        let told = match factory.recount(&spec.config, &context, &ranges).await {
            Ok(told) if told.is_empty() => continue,
            Ok(told) => told,
            Err(error) => {
                let name = format!("source {}", spec.name);
                checks.push(Check::new(name, String::new(), &[error.chain()]));
                continue;
            }
        };
        let (counted, finding) = compare(taken.rows, taken.lost, &told);
        let findings: Vec<String> = finding.into_iter().collect();
        checks.push(Check::new(format!("source {}", spec.name), counted, &findings));
    }
    Ok(checks)
}

/// The ranges and rows of the last life; what was only taken note of is not counted.
fn taken(source: &str, entries: &[Entry], base: Option<&Base>) -> Taken {
    let mut taken = Taken::default();
    let Some(last) = entries.last() else { return taken };
    let alive = &last.manifest.incarnation;
    if let Some(base) = base.filter(|base| base.incarnation == *alive)
        && let Some(part) = base.sources.get(source)
    {
        taken.rows += part.rows.taken();
        for (partition, covered) in &part.covered {
            taken.ranges.insert(partition.clone(), (covered.from.clone(), covered.to.clone()));
        }
    }
    let folded = base.map_or(0, |base| base.to);
    for Entry { manifest, .. } in entries {
        let counts = manifest.epoch >= folded || manifest.epoch == 0;
        if manifest.incarnation != *alive || !counts || manifest.kind == EpochKind::Adopt {
            continue;
        }
        let Some(part) = manifest.sources.get(source) else { continue };
        taken.rows += part.rows.taken();
        taken.lost += part.lost;
        for advance in &part.advances {
            let range = (advance.from.clone(), advance.to.clone());
            let known = taken.ranges.entry(advance.partition.clone()).or_insert(range);
            // The first epoch is never folded: it comes behind the sum of later ones.
            if advance.to.at() > known.1.at() {
                known.1 = advance.to.clone();
            }
            if let (Some(from), Some(before)) = (advance.from.at(), known.0.at())
                && from < before
            {
                known.0 = advance.from.clone();
            }
        }
    }
    taken
}

/// What was counted, and what contradicts `taken` rows.
fn compare(taken: u64, lost: u64, told: &[Recount]) -> (String, Option<String>) {
    let sum = |part: fn(&Recount) -> u64| told.iter().map(part).sum::<u64>();
    let (there, gone) = (sum(|r| r.rows), sum(|r| r.gone));
    let (aborted, markers) = (sum(|r| r.aborted), sum(|r| r.markers));
    let compacts = told.iter().any(|r| r.compacts);
    let counted = format!(
        "{taken} rows taken, {there} there now, {gone} positions deleted since; of the gaps \
         {aborted} are aborted rows, {markers} markers of transactions{}",
        if compacts { ", rows passed over or compacted" } else { " or rows passed over" }
    );
    // Rows that are gone or compacted away may have been taken; rows that are there must have been.
    let most = if compacts { u64::MAX } else { there + gone };
    let finding = if there > taken + lost {
        let missing = there - taken - lost;
        Some(format!("{missing} rows in the ranges that were taken are in no epoch"))
    } else if taken > most {
        let extra = taken - most;
        Some(format!("{extra} rows more were taken than the ranges ever held"))
    } else {
        None
    };
    let finding = finding.map(|said| format!("{said}: {counted}: {}", ranges(told)));
    (counted, finding)
}

/// The ranges that were counted, with the rows that are there.
fn ranges(told: &[Recount]) -> String {
    let range = |r: &Recount| format!("{} {}..{} has {}", r.partition, r.from, r.to, r.rows);
    let shown: Vec<String> = told.iter().take(RANGES_MAX).map(range).collect();
    let more = match told.len().saturating_sub(RANGES_MAX) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The first epoch stays when others are folded, and is before them.
    #[test]
    fn the_first_epoch_and_the_folded_ones_are_one_range() {
        let first = json!({
            "format": 1, "job": "j", "epoch": 0, "incarnation": "i", "run": "r", "previous": null,
            "definition": "d", "opened_at_ms": 0, "host": "h", "kind": "data",
            "sources": {"s": {
                "advances": [{"partition": "t/0", "from": 0, "to": 10}],
                "rows": {"decoded": 10, "rejected": 0},
                "gaps": 0,
            }},
        });
        let base = json!({
            "format": 1, "job": "j", "incarnation": "i", "from": 1, "to": 5, "since": 1,
            "sha256": "", "tables": {},
            "sources": {"s": {
                "covered": {"t/0": {"from": 10, "to": 30}},
                "rows": {"decoded": 19, "rejected": 1},
            }},
        });
        let manifest = serde_json::from_value(first).unwrap();
        let base: Base = serde_json::from_value(base).unwrap();
        let taken = taken("s", &[Entry { manifest, sha256: String::new() }], Some(&base));
        assert_eq!(taken.rows, 30);
        assert_eq!(taken.ranges["t/0"], (Offset::At(0), Offset::At(30)));
    }

    #[test]
    fn gaps_are_no_loss_and_missing_rows_are() {
        let plain = Recount {
            partition: "t/0".into(),
            from: 0,
            to: 20,
            rows: 10,
            aborted: 5,
            markers: 5,
            gone: 0,
            compacts: false,
        };
        let with = |gone, compacts| Recount { gone, compacts, ..plain.clone() };
        let cases = [
            (10, 0, plain.clone(), true),
            (9, 0, plain.clone(), false),
            (11, 0, plain.clone(), false),
            (12, 0, with(3, false), true),
            (14, 0, with(3, false), false),
            (9, 0, with(3, false), false),
            (9, 1, with(3, false), true),
            (19, 0, with(0, true), true),
            (9, 0, with(0, true), false),
        ];
        for (taken, lost, told, holds) in cases {
            let (_, finding) = compare(taken, lost, std::slice::from_ref(&told));
            assert_eq!(finding.is_none(), holds, "taken={taken} {told:?} {finding:?}");
            assert!(finding.is_none_or(|said| said.contains("t/0 0..20 has 10")));
        }
    }
}
