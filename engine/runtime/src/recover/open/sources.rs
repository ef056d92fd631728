//! The sources of a chain, at the position where its last epoch ended.
//!
//! In: restored offsets and state. Out: sources that were sought. A chain that takes nothing of the
//! job's sources has none.

use sluice_core::{Error, Offsets, Result, Secrets, Start};

use super::{Opening, RecoverOptions};
use crate::epoch::{SourceRun, Strand, Worker, source_owner};

impl Opening<'_> {
    pub(super) async fn sources(
        &self,
        worker: &Worker,
        secrets: &Secrets,
    ) -> Result<Vec<SourceRun>> {
        let mut runs = Vec::new();
        for node in self.graph.sources.iter().filter(|_| self.reads_sources() && !self.options.idle)
        {
            let at = |error: Error| error.at_source(&node.spec.name);
            let factory = self.env.registry.source(&node.spec.connector);
            let factory = factory.ok_or_else(|| Error::bug("a source has no connector"))?;
            let context = self.env.context(&self.identity.job, secrets);
            let mut source = factory.build(&node.spec.config, &context).await.map_err(at)?;
            let name = node.spec.name.clone();
            let offsets: Offsets = worker.state.offsets.get(&name).cloned().unwrap_or_default();
            let files = worker.state.files.get(&source_owner(&name));
            let state = match files {
                Some(files) => worker.folder.read(files).await?,
                None => Vec::new(),
            };
            let RecoverOptions { careful, bounded, accept_loss, strand, .. } = self.options;
            let shard = if let Strand::Shard(shard) = strand { Some(shard) } else { None };
            let offsets_now = offsets.clone();
            let start = Start { offsets: offsets_now, state, careful, bounded, accept_loss, shard };
            source.seek(start).await.map_err(at)?;
            runs.push(SourceRun { name, source, offsets });
        }
        Ok(runs)
    }
}
