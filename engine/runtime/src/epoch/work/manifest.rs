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
            watermarks: BTreeMap::new(),
            state,
            tables,
            definitions: self.state.definitions.clone(),
            repairs: 0,
        }
    }
}
