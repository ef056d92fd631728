//! The expectations of one table at work: what is broken is counted, quarantined or stops the job.
//!
//! In: batches from several streams at once. Out: the rows to keep, and an [`Outcome`]. The shares
//! that `fail_above` is measured by are kept between epochs and sealed with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use sluice_core::{Error, Memory, Result, Unbounded};

use crate::catalog::Aside;
use crate::job::ExpectAction;
use crate::operator::expect::{Action, Expectation, Expectations, Windows, quarantine_rows};
use crate::plan::TableNode;

/// The name under which rows without a key are quarantined.
const NULL_KEY: &str = "key_not_null";

/// The expectations of one table and what they have seen lately.
#[derive(Debug, Clone)]
pub struct Router {
    schema: SchemaRef,
    expectations: Expectations,
    windows: Arc<Mutex<Windows>>,
    epoch: i64,
    /// What quarantined rows are kept in, and whose they are.
    memory: Arc<dyn Memory>,
    owner: String,
}

/// What became of the rows that were routed, besides those kept.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Rows for the table's quarantine, with its schema, of each stream.
    pub quarantined: Vec<Aside>,
    /// Rows that go nowhere.
    pub dropped: u64,
    /// Rows that broke each expectation.
    pub broken: BTreeMap<String, u64>,
}

impl Router {
    /// The expectations of `node`, with the shares of earlier epochs.
    pub fn new(node: &TableNode, windows: Windows, memory: &Arc<dyn Memory>) -> Self {
        let list = node.expectations.iter().map(|e| Expectation {
            name: e.name.clone(),
            predicate: e.predicate.clone(),
            action: match e.action {
                ExpectAction::Warn => Action::Warn,
                ExpectAction::Drop => Action::Drop,
                ExpectAction::Quarantine => Action::Quarantine,
                ExpectAction::Fail => Action::Fail,
            },
            fail_above: e.fail_above,
        });
        let expectations = Expectations::new(list.collect());
        let windows = Arc::new(Mutex::new(windows));
        let owner = format!("quarantined rows of table {}", node.spec.name);
        let (schema, memory) = (node.schema.clone(), memory.clone());
        Self { schema, expectations, windows, epoch: 0, memory, owner }
    }

    /// No expectations: views, rejected and quarantined rows.
    pub fn none(schema: SchemaRef) -> Self {
        let windows = Arc::new(Mutex::new(Windows::default()));
        let (expectations, memory) = (Expectations::default(), Unbounded::shared());
        Self { schema, expectations, windows, epoch: 0, memory, owner: String::new() }
    }

    /// The same expectations for rows of `epoch`.
    #[must_use]
    pub fn at(&self, epoch: u64) -> Self {
        Self { epoch: i64::try_from(epoch).unwrap_or(i64::MAX), ..self.clone() }
    }

    /// Gives the rows to keep; counts and quarantines the others.
    pub fn route(&self, batch: RecordBatch, outcome: &mut Outcome) -> Result<RecordBatch> {
        if self.expectations.list().is_empty() {
            return Ok(batch);
        }
        let routed = self.expectations.route(&batch)?;
        self.windows.lock().observe(&self.expectations, &routed);
        if let Some(failure) = &routed.failed {
            let (name, rows) = (&failure.name, failure.rows);
            return Err(Error::data(format!("an expectation failed name={name} rows={rows}"))
                .hint("mend the data, or send such rows to quarantine with `else: quarantine`"));
        }
        for (name, _, rows) in self.expectations.counts(&routed) {
            *outcome.broken.entry(name.to_string()).or_default() += rows;
        }
        outcome.dropped += routed.dropped;
        if let Some((rows, names)) = &routed.quarantined {
            let rows = quarantine_rows(&self.schema, rows, names, self.epoch)?;
            self.quarantine(rows, outcome)?;
        }
        Ok(routed.kept)
    }

    /// Quarantines rows that have no key.
    pub fn without_key(&self, rows: &[RecordBatch], outcome: &mut Outcome) -> Result<()> {
        for rows in rows.iter().filter(|b| b.num_rows() > 0) {
            let names = vec![NULL_KEY.to_string(); rows.num_rows()];
            *outcome.broken.entry(NULL_KEY.to_string()).or_default() += rows.num_rows() as u64;
            self.quarantine(quarantine_rows(&self.schema, rows, &names, self.epoch)?, outcome)?;
        }
        Ok(())
    }

    fn quarantine(&self, rows: RecordBatch, outcome: &mut Outcome) -> Result<()> {
        if outcome.quarantined.is_empty() {
            outcome.quarantined.push(Aside::of(&*self.memory, &self.owner));
        }
        match outcome.quarantined.last_mut() {
            Some(aside) => aside.push(rows),
            None => Ok(()),
        }
    }

    /// Fails when an expectation was broken too often; asked before the seal.
    pub fn check(&self, table: &str) -> Result<()> {
        let Some(breach) = self.windows.lock().breach(&self.expectations) else { return Ok(()) };
        let (share, limit) = (breach.share * 100.0, breach.limit * 100.0);
        let name = breach.name;
        Err(Error::data(format!(
            "too many rows break an expectation table={table} name={name} share={share:.2}% \
             fail_above={limit}%"
        ))
        .hint("nothing of this epoch was kept; mend the data or raise `fail_above`"))
    }

    /// The shares to seal, when some expectation has a limit.
    pub fn windows(&self) -> Option<Windows> {
        let limited = self.expectations.list().iter().any(|e| e.fail_above.is_some());
        limited.then(|| self.windows.lock().clone())
    }

    /// Starts the next epoch's measuring.
    pub fn sealed(&self) {
        self.windows.lock().sealed(&self.expectations);
    }
}

impl Outcome {
    /// Adds what another stream saw.
    pub fn merge(&mut self, other: Outcome) {
        self.quarantined.extend(other.quarantined);
        self.dropped += other.dropped;
        for (name, rows) in other.broken {
            *self.broken.entry(name).or_default() += rows;
        }
    }

    /// Rows sent to quarantine.
    pub fn quarantined_rows(&self) -> u64 {
        self.quarantined.iter().map(Aside::rows).sum()
    }
}
