//! What is kept of questions: answers until they are another, and what statements read.
//!
//! In: questions with the version that their answer has now. Out: the answer, if it was given
//! before; the same answer for all who ask at one moment. An answer that is out of date is never
//! found again, because its version is part of its key; it goes when others need its room.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::ScalarValue;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use parking_lot::RwLock;
use sluice_runtime::query::Facts;

use super::{Answer, Ask, QueryError};

/// Bytes of statements whose reads are known: some thousand of them.
const FACTS_BYTES: u64 = 4 << 20;

/// What an entry takes besides what is in it.
const ENTRY_BYTES: usize = 256;

/// An answer that nobody asked for so long goes.
const IDLE: Duration = Duration::from_secs(600);

/// A question, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    sql: String,
    params: Vec<(String, ScalarValue)>,
    rows_max: Option<u64>,
    version: String,
}

impl Key {
    /// `ask`, whose answer has `version`. Who asks does not matter.
    pub fn of(ask: &Ask, version: String) -> Self {
        let (sql, params) = (ask.sql.clone(), ask.params.clone());
        Self { sql, params, rows_max: ask.rows_max, version }
    }

    fn bytes(&self) -> usize {
        let params = self.params.iter().map(|(name, value)| name.len() + value.size());
        self.sql.len() + self.version.len() + params.sum::<usize>()
    }
}

/// What is kept.
pub(super) struct Kept {
    answers: RwLock<Cache<Key, Arc<Answer>>>,
    facts: Cache<String, Arc<Facts>>,
}

impl Kept {
    /// Keeps so many bytes of answers.
    pub fn new(bytes: u64) -> Self {
        let weigh = |sql: &String, facts: &Arc<Facts>| {
            let reads = facts.reads.iter().map(String::len).sum::<usize>();
            weight(sql.len() + reads)
        };
        let facts = Cache::builder().max_capacity(FACTS_BYTES).weigher(weigh).build();
        Self { answers: RwLock::new(answers(bytes)), facts }
    }

    /// Keeps so many from now on; what was kept is gone.
    pub fn resize(&self, bytes: u64) {
        let mut kept = self.answers.write();
        if kept.policy().max_capacity() != Some(bytes) {
            *kept = answers(bytes);
        }
    }

    /// Bytes of answers that are kept, about.
    pub fn bytes(&self) -> u64 {
        self.answers.read().weighted_size()
    }

    /// The answer, if it is kept.
    pub async fn get(&self, key: &Key) -> Option<Arc<Answer>> {
        let answers = self.answers.read().clone();
        answers.get(key).await
    }

    /// The answer: that which is kept, that which somebody else asked for just now, or `made`.
    pub async fn answer(
        &self,
        key: Key,
        made: impl Future<Output = Result<Answer, QueryError>>,
    ) -> Result<Arc<Answer>, QueryError> {
        let answers = self.answers.read().clone();
        let made = async { made.await.map(Arc::new) };
        answers.try_get_with(key, made).await.map_err(|error| error.copy())
    }

    /// What `sql` reads: as it is known, or found out by `planned`.
    pub async fn facts(
        &self,
        sql: &str,
        planned: impl Future<Output = Result<Facts, QueryError>>,
    ) -> Result<Arc<Facts>, QueryError> {
        if let Some(facts) = self.facts.get(sql).await {
            return Ok(facts);
        }
        let planned = async { planned.await.map(Arc::new) };
        let known = self.facts.try_get_with(sql.to_string(), planned).await;
        known.map_err(|error| error.copy())
    }
}

fn answers(bytes: u64) -> Cache<Key, Arc<Answer>> {
    let weigh = |key: &Key, answer: &Arc<Answer>| weight(key.bytes() + answer.held.size());
    // An answer to a new version is worth more than one to an old version that was asked for often.
    Cache::builder()
        .max_capacity(bytes)
        .weigher(weigh)
        .eviction_policy(EvictionPolicy::lru())
        .time_to_idle(IDLE)
        .build()
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes + ENTRY_BYTES).unwrap_or(u32::MAX)
}
