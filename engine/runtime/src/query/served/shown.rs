//! What a question sees: all tables of all jobs, each job's at one epoch, for as long as it takes.
//!
//! In: jobs as they were loaded. Out: names for SQL, and a version that changes with what lies
//! behind them. A [`Shown`] never changes; the next one takes its place as a whole.
//!
//! A name that two jobs have means neither: such tables go by `"job".name`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{SchemaProvider, TableProvider};
use sha2::{Digest, Sha256};
use sluice_lake::snapshot::Published;

use super::catalog::{Entry, Relations};
use crate::query::{Readable, SYSTEM_SCHEMA};

/// The schema that tables are in.
pub(super) const DEFAULT_SCHEMA: &str = "public";

/// Characters of a version: enough that no two are the same by chance.
const VERSION_CHARS: usize = 20;

/// One relation.
#[derive(Debug)]
pub struct ShownTable {
    /// Its name in its job.
    pub name: String,
    /// `table`, `view`, `rejected`, `quarantine` or `undelivered`.
    pub kind: &'static str,
    /// What it is, for people; empty when nobody said.
    pub doc: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows, where they are known.
    pub rows: Option<u64>,
    /// Its files, where they are known.
    pub files: Option<u64>,
    /// Its rows, for plans.
    pub provider: Arc<dyn TableProvider>,
    /// What tells its states apart besides the epoch of its job.
    pub stamp: Option<String>,
}

/// A job at one epoch.
#[derive(Debug)]
pub struct ShownJob {
    /// The job.
    pub job: Readable,
    /// Changes with its definition.
    pub definition: Arc<str>,
    /// What it published last; none before its first epoch, or while its lake was never read.
    pub published: Option<Published>,
    /// Its relations in the order of its file.
    pub tables: Vec<Arc<ShownTable>>,
}

impl ShownJob {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.job.graph.job.name
    }

    /// The relation of this name.
    pub fn table(&self, name: &str) -> Option<&Arc<ShownTable>> {
        self.tables.iter().find(|table| table.name == name)
    }
}

/// All jobs, each at one epoch.
#[derive(Debug)]
pub struct Shown {
    jobs: Vec<Arc<ShownJob>>,
    schemas: BTreeMap<String, Arc<dyn SchemaProvider>>,
    /// Job and relation by the name that plans have.
    owners: BTreeMap<String, (usize, usize)>,
    /// The same names in the order of jobs and their files.
    listed: Vec<String>,
}

impl Shown {
    /// `jobs` under their names, with the tables of `system`.
    pub(super) fn new(jobs: Vec<Arc<ShownJob>>, system: Arc<dyn SchemaProvider>) -> Self {
        let mut having: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
        for (i, job) in jobs.iter().enumerate() {
            for (k, table) in job.tables.iter().enumerate() {
                having.entry(&table.name).or_default().push((i, k));
            }
        }
        let mut names: BTreeMap<String, BTreeMap<String, Entry>> = BTreeMap::new();
        names.entry(DEFAULT_SCHEMA.to_string()).or_default();
        let mut add = |schema: &str, name: &str, entry: Entry| {
            names.entry(schema.to_string()).or_default().insert(name.to_string(), entry);
        };
        let table = |(i, k): (usize, usize)| Entry::Table(jobs[i].tables[k].provider.clone());
        let mut owners = BTreeMap::new();
        for (name, places) in &having {
            if let [place] = places[..] {
                add(DEFAULT_SCHEMA, name, table(place));
                owners.insert((*name).to_string(), place);
                continue;
            }
            let several = places.iter().map(|(i, _)| jobs[*i].name().to_string()).collect();
            add(DEFAULT_SCHEMA, name, Entry::Several(several));
            for place in places {
                let job = jobs[place.0].name();
                add(job, name, table(*place));
                owners.insert(format!("{job}.{name}"), *place);
            }
        }
        let schema = |entries| Arc::new(Relations::new(entries)) as Arc<dyn SchemaProvider>;
        let named = names.into_iter().map(|(name, entries)| (name, schema(entries)));
        let mut schemas: BTreeMap<_, _> = named.collect();
        schemas.insert(SYSTEM_SCHEMA.to_string(), system);
        let mut listed: Vec<_> = owners.iter().map(|(name, at)| (*at, name.clone())).collect();
        listed.sort();
        let listed = listed.into_iter().map(|(_, name)| name).collect();
        Self { jobs, schemas, owners, listed }
    }

    /// The jobs, in their order.
    pub fn jobs(&self) -> &[Arc<ShownJob>] {
        &self.jobs
    }

    /// The job of this name.
    pub fn job(&self, name: &str) -> Option<&Arc<ShownJob>> {
        self.jobs.iter().find(|job| job.name() == name)
    }

    /// All relations with their jobs, under the names that plans have.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &Arc<ShownJob>, &Arc<ShownTable>)> {
        self.listed.iter().filter_map(|name| {
            let (job, table) = self.find(name)?;
            Some((name.as_str(), job, table))
        })
    }

    /// The relation that plans have by this name, with its job.
    pub fn find(&self, name: &str) -> Option<(&Arc<ShownJob>, &Arc<ShownTable>)> {
        let (i, k) = *self.owners.get(name)?;
        let job = self.jobs.get(i)?;
        Some((job, job.tables.get(k)?))
    }

    /// A short text that is the same as long as nothing changed in any of `relations`: neither an
    /// epoch of their jobs nor how they are made.
    pub fn version_of(&self, relations: &[String]) -> String {
        let mut facts = BTreeSet::new();
        for name in relations {
            let Some((job, table)) = self.find(name) else {
                facts.insert(format!("none {name}"));
                continue;
            };
            let (life, epoch) = match &job.published {
                Some(published) => (published.incarnation.as_str(), published.epoch.to_string()),
                None => ("", String::new()),
            };
            facts.insert(format!("job {} {} {life} {epoch}", job.name(), job.definition));
            facts.extend(table.stamp.as_ref().map(|stamp| format!("table {name} {stamp}")));
        }
        let mut hash = Sha256::new();
        for fact in facts {
            hash.update(fact);
            hash.update([0]);
        }
        let text: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        text.get(..VERSION_CHARS).unwrap_or(&text).to_string()
    }

    pub(super) fn schemas(&self) -> &BTreeMap<String, Arc<dyn SchemaProvider>> {
        &self.schemas
    }
}
