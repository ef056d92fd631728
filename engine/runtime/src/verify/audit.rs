//! The recount: manifests without gaps, offsets that join, rows that add up, files that are there.
//!
//! In: a job's chain, logs, listings and Parquet footers. Out: a list of checks, each of which
//! holds or says what does not.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use serde::Serialize;
use sluice_core::{Offset, Result, format_count};
use sluice_lake::manifest::{Action, Base, Chain, Counts, Entry, EpochKind, TableCounts};
use sluice_lake::snapshot::Snapshots;

use super::recount::recounted;
use super::{outboxes, tables};
use crate::epoch::Environment;
use crate::plan::rejected_name;
use crate::query::{Readable, published};
use crate::recover::{beside, is_replay, lake_of, lake_with, past};

/// At most this many findings are kept per check: enough to see what happened.
const FINDINGS_MAX: usize = 10;

/// The result of a recount.
#[derive(Debug, Clone, Serialize)]
pub struct Audit {
    /// The job.
    pub job: String,
    /// Everything that was checked.
    pub checks: Vec<Check>,
}

impl Audit {
    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|c| c.holds)
    }
}

/// One thing that was recounted.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was counted, or what does not hold.
    pub detail: String,
}

impl Check {
    /// A check with its findings; without findings it holds and shows `counted`.
    pub(super) fn new(name: impl Into<String>, counted: String, findings: &[String]) -> Self {
        let holds = findings.is_empty();
        let mut detail = if holds { counted } else { findings.join("; ") };
        if findings.len() > FINDINGS_MAX {
            let shown = findings[..FINDINGS_MAX].join("; ");
            detail = format!("{shown}; and {} more", findings.len() - FINDINGS_MAX);
        }
        Self { name: name.into(), holds, detail }
    }
}

/// Recounts a job; with `at_sources` what its sources hold as well, which reads all of it again.
pub async fn audit(env: &Environment, job: &Readable, at_sources: bool) -> Result<Audit> {
    let name = job.graph.job.name.clone();
    if let Some(finding) = past(env, &job.graph, &job.secrets).await?.finding() {
        let check = Check::new("manifests", String::new(), &[finding]);
        return Ok(Audit { job: name, checks: vec![check] });
    }
    let lake = lake_of(env, &job.graph, &job.secrets)?;
    let records = outboxes::records(job, &lake).await?;
    let own = recount(env, job, (&name, None), at_sources).await?;
    let life = own.life.clone();
    let Recounted { mut checks, mut totals, entries, base, .. } = own;
    for chain in beside(&lake.root, &name).await? {
        let other = recount(env, job, (&chain, life.as_deref()), at_sources).await?;
        let of = |check: Check| Check { name: format!("{} of {chain}", check.name), ..check };
        checks.extend(other.checks.into_iter().map(of));
        for (sum, more) in totals.iter_mut().zip(other.totals) {
            sum.join(more);
        }
    }
    let published = published(job).await?;
    checks.extend(tables::check_tables(job, &lake, published.as_ref(), &totals).await?);
    checks.extend(outboxes::check(job, &lake, (&entries, base.as_ref()), records).await?);
    Ok(Audit { job: name, checks })
}

/// What one chain of a job says, recounted.
struct Recounted {
    /// The life of its last epoch.
    life: Option<String>,
    checks: Vec<Check>,
    /// Its manifests, and the sum of those that are folded.
    entries: Vec<Entry>,
    base: Option<Base>,
    /// What tables hold by it: up to the last published epoch, and up to the last sealed one. An
    /// epoch that is sealed and not recorded yet may have reached a table or not.
    totals: [Totals; 2],
}

/// Recounts a chain. What one beside the job's own did in another life than the job's is in no table
/// any more.
async fn recount(
    env: &Environment,
    job: &Readable,
    (name, life): (&str, Option<&str>),
    at_sources: bool,
) -> Result<Recounted> {
    let chain = lake_with(env, &job.graph, &job.secrets, name)?;
    let (root, chain) = (chain.root, chain.chain);
    let base = chain.base().await?;
    let (entries, mut checks) = read_chain(&chain, base.as_ref()).await?;
    let replay = is_replay(&job.graph.job.name, name);
    checks.push(sources(&entries, base.as_ref(), replay));
    checks.push(balances(job, &entries));
    // What is taken again and cannot be decoded stands in `__rejected` already.
    checks.extend((!replay).then(|| rejected(job, &entries)));
    if at_sources && !replay {
        checks.extend(recounted(env, job, &entries, base.as_ref()).await?);
    }
    let seen = Snapshots::new(&root, name).latest().await?.map(|p| p.epoch);
    checks.extend(unpublished(seen, &entries));
    let of_life = |found: &str| life.is_none_or(|life| life == found);
    let base = base.filter(|base| of_life(&base.incarnation));
    let counted: Vec<Entry> =
        entries.iter().filter(|e| of_life(&e.manifest.incarnation)).cloned().collect();
    let earlier: Vec<Entry> =
        counted.iter().filter(|e| Some(e.manifest.epoch) <= seen).cloned().collect();
    let totals = [
        Totals::of(&chain, &earlier, base.as_ref()).await?,
        Totals::of(&chain, &counted, base.as_ref()).await?,
    ];
    let life = entries.last().map(|e| e.manifest.incarnation.clone());
    Ok(Recounted { life, checks, entries, base, totals })
}

/// An epoch is sealed only when the one before it is published: no record at all is a loss, unless
/// the first epoch was not finished.
fn unpublished(seen: Option<u64>, entries: &[Entry]) -> Option<Check> {
    let last = entries.last().map_or(0, |e| e.manifest.epoch);
    let finding = format!("no published record is there, the last sealed epoch is {last}");
    (seen.is_none() && last > 0).then(|| Check::new("published", String::new(), &[finding]))
}

/// All manifests that can be read, and whether they form a chain.
async fn read_chain(chain: &Chain, base: Option<&Base>) -> Result<(Vec<Entry>, Vec<Check>)> {
    let numbers = chain.numbers().await?;
    let mut findings = Vec::new();
    let folded = base.map_or(0, |b| b.to);
    let mut expected = 0;
    for n in &numbers {
        while expected < *n {
            if expected >= folded || expected == 0 {
                findings.push(format!("the manifest of epoch {expected} is gone"));
            }
            expected += 1;
        }
        expected = n + 1;
    }
    let mut entries: Vec<Entry> = Vec::new();
    let mut all = chain.all().await?;
    while let Some(entry) = all.next().await {
        match entry {
            Ok(entry) => entries.push(entry),
            Err(e) => findings.push(e.chain()),
        }
    }
    for pair in entries.windows(2) {
        let [before, after] = pair else { continue };
        let joined = after.manifest.epoch == before.manifest.epoch + 1;
        if joined && after.manifest.previous.as_ref() != Some(&before.sha256) {
            let epoch = after.manifest.epoch;
            findings.push(format!("epoch {epoch} was not sealed after the one before it"));
        }
    }
    let counted = format!("{}, {folded} folded", format_count(entries.len() as u64, "manifest"));
    Ok((entries, vec![Check::new("manifests", counted, &findings)]))
}

/// Offsets join without gap or overlap, and counted rows are decoded, rejected or pruned. Those of a
/// replay go on whatever life the job begins: they name the table that they count rows of.
fn sources(entries: &[Entry], base: Option<&Base>, replay: bool) -> Check {
    let mut at: BTreeMap<(String, String), Offset> = BTreeMap::new();
    let mut incarnation = String::new();
    let mut findings = Vec::new();
    let mut rows = Counts::default();
    let (mut gaps, mut lost) = (0, 0);
    for Entry { manifest, .. } in entries {
        if manifest.incarnation != incarnation && !replay {
            at.clear();
            incarnation.clone_from(&manifest.incarnation);
        }
        if let Some(base) = base.filter(|b| b.to == manifest.epoch) {
            for (source, part) in &base.sources {
                for (partition, covered) in &part.covered {
                    at.insert((source.clone(), partition.clone()), covered.to.clone());
                }
            }
        }
        for (source, part) in &manifest.sources {
            rows.add(&part.rows);
            let mut counted = 0;
            for advance in &part.advances {
                let key = (source.clone(), advance.partition.clone());
                let before = at.insert(key, advance.to.clone());
                // Where positions are rows the first one is the source's to choose.
                let first = if part.gaps.is_some() { advance.from.clone() } else { Offset::ZERO };
                let before = before.unwrap_or(first);
                if before != advance.from {
                    findings.push(format!(
                        "epoch {} takes {source}/{} from {:?}, the one before ended at {before:?}",
                        manifest.epoch, advance.partition, advance.from
                    ));
                }
                let rows = part.gaps.is_some() || advance.partition == "rows";
                if let (true, Some(from), Some(to)) = (rows, advance.from.at(), advance.to.at()) {
                    counted += to.saturating_sub(from);
                }
            }
            let told = part.rows.taken() + part.gaps.unwrap_or(0) + part.lost;
            gaps += part.gaps.unwrap_or(0);
            lost += part.lost;
            // An adopted source is taken note of, not read.
            let read = manifest.kind == EpochKind::Data;
            if counted > 0 && counted != told && read {
                findings.push(format!(
                    "epoch {} takes {counted} rows of {source}, {told} are decoded, rejected, \
                     pruned, gaps or lost",
                    manifest.epoch
                ));
            }
        }
    }
    let Counts { decoded, rejected, pruned } = rows;
    let decoded = format_count(decoded, "row");
    let mut counted = format!("{decoded} decoded, {rejected} rejected, {pruned} pruned");
    if gaps > 0 {
        counted += &format!(", {gaps} positions without a row");
    }
    if lost > 0 {
        counted += &format!(", {lost} rows lost, as accepted");
    }
    Check::new("sources", counted, &findings)
}

/// What enters a table is written, quarantined, dropped, late or deduplicated.
fn balances(job: &Readable, entries: &[Entry]) -> Check {
    let mut findings = Vec::new();
    let mut tables = 0;
    for Entry { manifest, .. } in entries {
        for (name, part) in &manifest.tables {
            // Views count groups, not rows that go somewhere.
            if job.graph.views.iter().any(|v| v.spec.name == *name) {
                continue;
            }
            tables += 1;
            if !part.counts.balances() {
                findings.push(format!(
                    "epoch {}: rows entering {name} do not add up: {:?}",
                    manifest.epoch, part.counts
                ));
            }
        }
    }
    Check::new(
        "rows add up",
        format!("{}, epoch by epoch", format_count(tables, "table")),
        &findings,
    )
}

/// Every row that could not be decoded is in its `__rejected`.
fn rejected(job: &Readable, entries: &[Entry]) -> Check {
    let mut findings = Vec::new();
    let mut total = 0;
    for Entry { manifest, .. } in entries {
        for source in &job.graph.sources {
            let name = &source.spec.name;
            let counted = manifest.sources.get(name).map_or(0, |p| p.rows.rejected);
            let kept = manifest.tables.get(&rejected_name(name)).map_or(0, |p| p.counts.written);
            total += kept;
            if counted != kept {
                let epoch = manifest.epoch;
                findings.push(format!(
                    "epoch {epoch} rejected {counted} rows of {name} and kept {kept}"
                ));
            }
        }
    }
    Check::new("rejected rows are kept", format_count(total, "row"), &findings)
}

/// What the manifests say a table holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Total {
    /// Rows added less rows removed.
    pub rows: i128,
    /// Files added, by path relative to the table, with their rows.
    pub files: BTreeMap<String, u64>,
    /// Files removed that were not added here: those of other chains.
    removed: BTreeSet<String>,
}

/// The totals of all tables.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    /// By name.
    pub tables: BTreeMap<String, Total>,
    /// Whether some manifests are folded, so that files cannot all be named.
    pub folded: bool,
    /// Whether they are of several chains, each of which publishes when it likes.
    pub joined: bool,
}

impl Totals {
    async fn of(chain: &Chain, entries: &[Entry], base: Option<&Base>) -> Result<Self> {
        let mut totals = Totals { folded: base.is_some(), ..Totals::default() };
        for entry in entries {
            let repaired = chain.latest_repair(entry.manifest.epoch).await?;
            let manifest = repaired.as_ref().map_or(&entry.manifest, |r| &r.manifest);
            for (name, part) in &manifest.tables {
                let total = totals.tables.entry(name.clone()).or_default();
                total.apply(&part.action);
                if let (EpochKind::Adopt, Action::Delta(_)) = (manifest.kind, &part.action) {
                    *total = Total { rows: i128::from(part.counts.rows_in), ..Total::default() };
                }
            }
            if let Some(base) = base.filter(|b| b.from == entry.manifest.epoch + 1) {
                for (name, counts) in &base.tables {
                    totals.tables.entry(name.clone()).or_default().fold(counts);
                }
            }
        }
        Ok(totals)
    }

    /// Adds what another chain did to the same tables.
    fn join(&mut self, other: Totals) {
        self.folded |= other.folded;
        self.joined = true;
        for (name, more) in other.tables {
            let total = self.tables.entry(name).or_default();
            total.rows += more.rows;
            total.files.extend(more.files);
            total.removed.extend(more.removed);
        }
        for total in self.tables.values_mut() {
            let removed = &total.removed;
            total.files.retain(|path, _| !removed.contains(path));
        }
    }

    /// Whether a table may hold so many rows, when `self` was recorded and `sealed` is sealed.
    pub fn allow(&self, sealed: &Totals, table: &str, rows: i128) -> bool {
        let of = |totals: &Totals| totals.tables.get(table).map_or(0, |total| total.rows);
        let (from, to) = (of(self), of(sealed));
        rows == from || rows == to || (self.joined && from < rows && rows < to)
    }
}

impl Total {
    fn apply(&mut self, action: &Action) {
        match action {
            Action::None | Action::Outbox(_) => {}
            Action::Delta(delta) => {
                if delta.replace {
                    *self = Self::default();
                }
                for file in &delta.removes {
                    self.rows -= i128::from(file.rows);
                    if self.files.remove(&file.path).is_none() {
                        self.removed.insert(file.path.clone());
                    }
                }
                for file in &delta.adds {
                    self.rows += i128::from(file.rows);
                    self.files.insert(file.path.clone(), file.rows);
                }
            }
            Action::Files(files) => {
                if files.replace || files.clear {
                    *self = Self::default();
                }
                for copy in &files.copies {
                    self.rows += i128::from(copy.rows);
                    self.files.insert(copy.to.clone(), copy.rows);
                }
            }
        }
    }

    fn fold(&mut self, counts: &TableCounts) {
        self.rows += i128::from(counts.written) - i128::from(counts.removed);
    }
}
