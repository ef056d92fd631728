//! Deleting what an epoch leaves behind once it is published: staged files that have their final
//! names, state files that newer ones replace, change files that no repair can ask for any more.
//!
//! Recovery needs the last manifest's files only. Nothing waits for a delete, and one that fails
//! leaves an orphan, which `maintain` finds.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use object_store::path::Path;
use sluice_core::{Error, Result};
use sluice_lake::manifest::{Action, FileRef, Manifest};
use sluice_lake::store::Store;
use tokio::task::JoinHandle;

use super::work::Worker;

/// Deletes at once: each is one request.
const DELETES_AT_ONCE: usize = 8;

impl Worker {
    /// Notes which state files `manifest` replaces.
    pub(super) fn supersede(&mut self, manifest: &Manifest) {
        let paths = |files: &[FileRef]| files.iter().map(|f| f.path.clone()).collect::<Vec<_>>();
        let now: BTreeSet<String> = manifest.state.values().flat_map(|f| paths(f)).collect();
        let before = self.state.files.values().flat_map(|f| paths(f));
        self.state.superseded.extend(before.filter(|path| !now.contains(path)));
    }

    /// What nobody needs once `manifest` is published.
    pub fn left_behind(&mut self, manifest: &Manifest) -> Vec<String> {
        let mut paths = std::mem::take(&mut self.state.superseded);
        for part in manifest.tables.values() {
            match &part.action {
                Action::Files(files) => paths.extend(files.copies.iter().map(|c| c.from.clone())),
                Action::Delta(action) => {
                    paths.extend(action.change_file.iter().map(|f| f.path.clone()));
                }
                // Who delivers them deletes them.
                Action::None | Action::Outbox(_) => {}
            }
        }
        paths
    }
}

/// Deletes files behind the back of the epoch loop.
#[derive(Debug, Default)]
pub struct Cleaner {
    task: Option<JoinHandle<()>>,
}

impl Cleaner {
    /// Starts to delete these paths of `store`, after what was asked before.
    pub async fn delete(&mut self, store: &Store, paths: Vec<String>) -> Result<()> {
        self.finish().await?;
        if paths.is_empty() {
            return Ok(());
        }
        let store = store.clone();
        self.task = Some(tokio::spawn(async move {
            let work = stream::iter(paths).for_each_concurrent(DELETES_AT_ONCE, |path| {
                let store = store.clone();
                async move {
                    let Ok(at) = Path::parse(&path) else { return };
                    if let Err(error) = store.delete(&at).await {
                        tracing::debug!(path, error = error.chain(), "a file was not deleted");
                    }
                }
            });
            work.await;
        }));
        Ok(())
    }

    /// Waits for what was asked.
    pub async fn finish(&mut self) -> Result<()> {
        match self.task.take() {
            Some(task) => task.await.map_err(|e| Error::bug("a clean-up ended").because(e)),
            None => Ok(()),
        }
    }
}
