//! Compaction: an epoch without sources that folds small files into big ones.
//!
//! In: the heads of Delta tables. Out: a manifest whose actions change no rows. It is a step of
//! the job's own runner between epochs, so nobody races it but strangers; if one of those takes
//! away a file first, the compaction of that table is dropped, never repaired.

use sluice_core::{Result, Step, reach};
use sluice_lake::maintain::{self, CompactOptions};
use sluice_lake::manifest::{Action, EpochKind, Manifest, TableCounts};

use super::work::{Open, Worker};
use crate::job::TableFormat;

/// Large enough that a reader's requests are few, small enough to be rewritten now and then.
const TARGET_BYTES: u64 = 128 * 1024 * 1024;

/// When small files are folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// A partition with at least this many small files is folded.
    pub files_min: usize,
    /// The size folded files should have.
    pub target_bytes: u64,
}

impl Compaction {
    /// Whatever can be folded, as somebody asked for it.
    pub const ALL: Self = Self { files_min: 2, target_bytes: TARGET_BYTES };
}

impl Default for Compaction {
    fn default() -> Self {
        Self { files_min: 8, target_bytes: TARGET_BYTES }
    }
}

impl Worker {
    /// Folds small files; none when there is nothing to fold.
    pub async fn compact(&mut self, compaction: Compaction) -> Result<Option<Manifest>> {
        let mut open = self.open(&[]);
        let names: Vec<String> = self.state.relations.keys().cloned().collect();
        for name in names {
            self.compact_table(&mut open, &name, compaction).await?;
        }
        if open.tables.is_empty() {
            return Ok(None);
        }
        reach(Step::CompactionWritten, open.epoch);
        Ok(Some(self.manifest(open, EpochKind::Compaction)))
    }

    async fn compact_table(
        &mut self,
        open: &mut Open<'_>,
        name: &str,
        compaction: Compaction,
    ) -> Result<()> {
        let relation = self.relation(name)?.clone();
        if relation.format != TableFormat::Delta || !relation.exists {
            return Ok(());
        }
        let Compaction { target_bytes, files_min } = compaction;
        let options = CompactOptions { target_bytes, files_min };
        let groups = maintain::plan_compaction(&relation.files, options);
        if groups.is_empty() {
            return Ok(());
        }
        let target = self.target(open, &relation);
        let (mut adds, mut removes) = (Vec::new(), Vec::new());
        for (index, group) in groups.into_iter().enumerate() {
            let writer = target.writer(index)?;
            let folded = maintain::compact(&target.layout, &group, writer).await?;
            adds.extend(folded.adds);
            removes.extend(folded.removes);
        }
        let mut action = self.delta_action(open, &relation, adds, removes)?;
        action.data_change = false;
        action.operation = "OPTIMIZE".to_string();
        self.record(open, name, Action::Delta(action), TableCounts::default())
    }
}
