//! What an epoch's manifest says once its nodes have run.
//!
//! In: what was taken and written. Out: a manifest, not sealed. Nothing is written here.

use std::collections::BTreeMap;

use sluice_core::{Advance, Offset};
use sluice_lake::manifest::{
    Action, Counts, EpochKind, FORMAT, Manifest, SourcePart, TableCounts, TablePart,
};

use super::{EPOCHS_PARTITION, Open, Worker, job_source};

impl Worker {
    pub(in crate::epoch) fn manifest(&self, open: Open<'_>, kind: EpochKind) -> Manifest {
        let mut sources = BTreeMap::new();
        let mut offsets = self.state.offsets.clone();
        let mut watermarks = self.state.watermarks.clone();
        for taken in open.taken {
            // What is adopted is taken note of, not read.
            let rows = match kind {
                EpochKind::Adopt => Counts::default(),
                _ => Counts {
                    decoded: taken.tally.decoded(),
                    rejected: taken.rejected(),
                    pruned: taken.tally.pruned(),
                },
            };
            let (advances, gaps, lost) = (taken.advances.clone(), taken.gaps, taken.lost);
            let part = SourcePart { advances, rows, gaps, lost };
            sources.insert(taken.name.clone(), part);
            offsets.insert(taken.name.clone(), taken.offsets.clone());
            raise(&mut watermarks, &taken.name, &taken.newest_ms);
        }
        // Other jobs' epochs count as seen where views and tables took their rows.
        let saw = matches!(kind, EpochKind::Data | EpochKind::Rebuild);
        for (job, epochs) in self.foreign.epochs.iter().filter(|_| saw) {
            let source = job_source(job);
            let to = Offset::At(*epochs);
            let partition = EPOCHS_PARTITION.to_string();
            let before = offsets.entry(source.clone()).or_default();
            let from = before.insert(partition.clone(), to.clone()).unwrap_or(Offset::ZERO);
            if from != to {
                let advances = vec![Advance { partition, from, to }];
                sources.insert(source, SourcePart { advances, ..SourcePart::default() });
            }
        }
        let mut tables = open.tables;
        for relation in self.state.relations.values().filter(|r| r.exists) {
            tables.entry(relation.name.clone()).or_insert_with(|| TablePart {
                counts: TableCounts::default(),
                action: Action::None,
            });
        }
        let mut state = self.state.files.clone();
        state.extend(open.state);
        Manifest {
            format: FORMAT,
            job: self.identity.chain.clone(),
            epoch: open.epoch,
            incarnation: self.identity.incarnation.clone(),
            run: self.identity.run.clone(),
            previous: self.state.previous.clone(),
            definition: self.graph.job.definition_hash(),
            opened_at_ms: open.opened_at_ms,
            host: self.env.host.clone(),
            kind,
            sources,
            offsets,
            watermarks,
            state,
            tables,
            definitions: self.state.definitions.clone(),
            repairs: 0,
        }
    }
}

/// Raises watermarks to the newest event times that an epoch took of a source, per partition. None goes
/// back: rows that come late are older than others which were taken before them.
fn raise(watermarks: &mut BTreeMap<String, i64>, source: &str, newest_ms: &BTreeMap<String, i64>) {
    for (partition, ms) in newest_ms {
        let watermark = watermarks.entry(format!("{source}/{partition}")).or_insert(*ms);
        *watermark = (*ms).max(*watermark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watermarks_rise_and_never_go_back() {
        let named = |list: &[(&str, i64)]| -> BTreeMap<String, i64> {
            list.iter().map(|(name, ms)| (name.to_string(), *ms)).collect()
        };
        // Epoch by epoch: the source, the newest it gave, and what is known afterwards.
        let epochs = [
            ("orders", named(&[("t/0", 7)]), named(&[("orders/t/0", 7)])),
            // Older rows, and those of a partition that had none yet.
            (
                "orders",
                named(&[("t/0", 5), ("t/1", 2)]),
                named(&[("orders/t/0", 7), ("orders/t/1", 2)]),
            ),
            // A source that knows no event time.
            ("files", named(&[]), named(&[("orders/t/0", 7), ("orders/t/1", 2)])),
            // Times before 1970 are times.
            (
                "old",
                named(&[("t/0", -3)]),
                named(&[("old/t/0", -3), ("orders/t/0", 7), ("orders/t/1", 2)]),
            ),
        ];
        let mut watermarks = BTreeMap::new();
        for (source, newest_ms, expected) in epochs {
            raise(&mut watermarks, source, &newest_ms);
            assert_eq!(watermarks, expected, "after {source}");
        }
    }
}
