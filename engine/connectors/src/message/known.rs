//! The schemas that messages named so far.
//!
//! In: ids, and a registry that is asked for those that are new. Out: who reads the messages of
//! each. An id stands for one schema for ever, so what was found is never asked for again; what was
//! not found is asked for again after a while, since somebody may be about to register it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use sluice_core::{Clock, Result};

use super::registry::{Registry, Schema};
use super::rows::Body;

/// New ids that one chunk of messages may name: topics have a handful of schemas, and junk that
/// looks like ids is not to hammer the registry.
const LOOKUPS_MAX: usize = 64;

/// Requests under way at once.
const LOOKUPS_AT_ONCE: usize = 8;

/// How long an id that does not exist is not asked for again.
const ABSENT: Duration = Duration::from_secs(30);

/// Ids that do not exist are remembered up to this many: some hundred KiB.
const ABSENT_MAX: usize = 10_000;

/// Who reads a schema; or why nobody can.
type Compile = dyn Fn(&Schema) -> Result<Arc<dyn Body>, String> + Send + Sync;

/// Schemas by id.
pub(super) struct Known {
    registry: Registry,
    clock: Arc<dyn Clock>,
    compile: Box<Compile>,
    entries: RwLock<HashMap<u32, Entry>>,
}

#[derive(Debug, Clone)]
enum Entry {
    Read(Arc<dyn Body>),
    /// It cannot be read, for this reason.
    Refused(String),
    /// It does not exist; not to be asked for before this time.
    Absent(Duration),
}

impl Known {
    /// None so far.
    pub(super) fn new(
        registry: Registry,
        clock: Arc<dyn Clock>,
        compile: impl Fn(&Schema) -> Result<Arc<dyn Body>, String> + Send + Sync + 'static,
    ) -> Self {
        Self { registry, clock, compile: Box::new(compile), entries: RwLock::default() }
    }

    /// Makes the schemas known that are not, in the order in which they come, up to a limit.
    pub(super) async fn prepare(&self, ids: impl Iterator<Item = u32>) -> Result<()> {
        let wanted = self.wanted(ids);
        if wanted.is_empty() {
            return Ok(());
        }
        let lookups = wanted.into_iter().map(|id| self.look_up(id));
        let mut found = stream::iter(lookups).buffer_unordered(LOOKUPS_AT_ONCE);
        while let Some((id, entry)) = found.try_next().await? {
            let mut entries = self.write();
            let absent = entries.values().filter(|e| matches!(e, Entry::Absent(_))).count();
            if absent >= ABSENT_MAX {
                entries.retain(|_, e| !matches!(e, Entry::Absent(_)));
            }
            entries.insert(id, entry);
        }
        Ok(())
    }

    fn wanted(&self, ids: impl Iterator<Item = u32>) -> Vec<u32> {
        let entries = self.read();
        let now = self.clock.monotonic();
        let mut wanted = Vec::new();
        let mut last = None;
        for id in ids {
            // Most messages name the schema of the one before.
            if last.replace(id) == Some(id) {
                continue;
            }
            let ask = match entries.get(&id) {
                None => true,
                Some(Entry::Absent(until)) => now >= *until,
                Some(_) => false,
            };
            if ask && !wanted.contains(&id) {
                wanted.push(id);
            }
            if wanted.len() == LOOKUPS_MAX {
                break;
            }
        }
        wanted
    }

    async fn look_up(&self, id: u32) -> Result<(u32, Entry)> {
        let entry = match self.registry.schema(id).await? {
            None => Entry::Absent(self.clock.monotonic() + ABSENT),
            Some(schema) => match (self.compile)(&schema) {
                Ok(body) => Entry::Read(body),
                Err(reason) => Entry::Refused(format!("schema {id}: {reason}")),
            },
        };
        Ok((id, entry))
    }

    /// Who reads messages of this schema; or why nobody does.
    pub(super) fn body(&self, id: u32) -> Result<Arc<dyn Body>, String> {
        match self.read().get(&id) {
            Some(Entry::Read(body)) => Ok(body.clone()),
            Some(Entry::Refused(reason)) => Err(reason.clone()),
            Some(Entry::Absent(_)) => Err(format!("unknown schema id {id}")),
            None => Err(format!("schema id {id} is one of too many unknown ones at once")),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<u32, Entry>> {
        // What is behind it is right between any two steps.
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<u32, Entry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("registry", &self.registry).finish_non_exhaustive()
    }
}
