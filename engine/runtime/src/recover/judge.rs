//! Whether a job may go on with the tables that lie in its lake; if not, the refusal in words.
//!
//! In: relations, the heads of their tables, the last manifest and the last published record. The
//! verdict itself is [`super::decide`]'s. Nothing is written.

use sluice_core::{Error, Result};
use sluice_lake::delta::{self, Head};
use sluice_lake::manifest::Action;
use sluice_lake::snapshot::{Published, PublishedTable};
use sluice_lake::table::published_files;

use super::decide::{Found, Known, Verdict, decide_table};
use super::open::{Heads, Opening};
use crate::epoch::{Kind, Relation, Relations};
use crate::job::TableFormat;

/// What a person may do about a table that is not as the manifests left it.
const WAYS_OUT: &str = "--rebuild reads the sources again and replaces the table; --adopt keeps \
                        the table as it is and takes what comes from now on";

/// The same where the table was moved.
const WAYS_BACK: &str = "set the folder back, or run with --rebuild to make the table again from \
                         the sources in its new place";

/// The same where a dataset is to be in the place of a Delta table.
const NOT_OVER_DELTA: &str = "give the table a new name or folder; or delete its folder and run \
                              with --rebuild to make it again from the sources";

impl Opening<'_> {
    /// Stops on the first table that is not as the manifests left it.
    pub fn judge(&self, relations: &Relations, heads: &Heads) -> Result<()> {
        relations.values().try_for_each(|r| self.judge_one(r, heads.get(&r.name)))
    }

    /// Stops when a table that is to be adopted lies elsewhere, or in another format.
    pub async fn judge_adopted(&self, relations: &Relations, heads: &Heads) -> Result<()> {
        for relation in relations.values() {
            if !is_there(relation, heads).await? {
                self.judge_place(relation)?;
            }
        }
        Ok(())
    }

    /// Stops when a table was published in another folder or format.
    fn judge_place(&self, relation: &Relation) -> Result<()> {
        if relation.kind != Kind::Rejected
            && let Some(place) = self.place_before(relation)
        {
            let (name, now) = (&relation.name, &relation.location.path);
            return Err(Error::config(format!(
                "the table lies in another folder until now table={name} before={place} now={now}"
            ))
            .hint(WAYS_BACK));
        }
        if relation.format == TableFormat::Delta
            && let Some(PublishedTable::Files { .. }) = self.published(relation)
        {
            let hint =
                "run with --rebuild to make it again from the sources, or give it a new name";
            return Err(other_format(relation, "Parquet").hint(hint));
        }
        Ok(())
    }

    /// Stops when a table is not as the manifests left it.
    pub fn judge_one(&self, relation: &Relation, head: Option<&Head>) -> Result<()> {
        self.judge_place(relation)?;
        if relation.format != TableFormat::Delta {
            return Ok(());
        }
        let manifest = self.manifest();
        let part = manifest.and_then(|m| m.tables.get(&relation.name));
        let recorded = |r: &Published| {
            Some(r.epoch) == manifest.map(|m| m.epoch) && r.tables.contains_key(&relation.name)
        };
        let published = self.record.as_ref().is_some_and(recorded);
        let existed = part.is_some_and(|p| match &p.action {
            Action::Delta(action) => action.create.is_none() || published,
            _ => true,
        });
        let known = Known {
            job: self.identity.job.clone(),
            incarnation: match self.options.strand.is_beside() {
                true => Some(self.identity.incarnation.clone()),
                false => manifest.map(|m| m.incarnation.clone()),
            },
            last: manifest.map(|m| m.epoch),
            existed,
        };
        let verdict = decide_table(&self.found(relation, head), &known);
        if verdict == Verdict::Fine { Ok(()) } else { Err(refusal(relation, &verdict, &known)) }
    }

    fn published(&self, relation: &Relation) -> Option<&PublishedTable> {
        self.record.as_ref()?.tables.get(&relation.name)
    }

    /// The folder the table was published in, when that is not its folder now.
    fn place_before(&self, relation: &Relation) -> Option<String> {
        let table = self.published(relation)?;
        let (PublishedTable::Delta { location, .. } | PublishedTable::Files { location, .. }) =
            table;
        let here = relation.location.path.to_string();
        (*location != here).then(|| location.clone())
    }

    fn found(&self, relation: &Relation, head: Option<&Head>) -> Found {
        let Some(head) = head else { return Found::Nothing };
        let properties = head.properties();
        let of = |key: &str| properties.get(key).cloned();
        match (of("sluice.job"), of("sluice.incarnation")) {
            (Some(job), Some(incarnation)) => {
                let txn = self.identity.txn(&relation.name);
                let epoch = head.txns.get(&txn).and_then(|v| u64::try_from(*v).ok());
                let other_table = of("sluice.table").is_some_and(|t| t != relation.name);
                Found::Ours { job, incarnation, other_table, epoch }
            }
            _ => Found::Stranger,
        }
    }

    /// A dataset cannot lie where a Delta table is: its log would go on saying what is there.
    pub async fn refuse_delta_under_datasets(&self, relations: &Relations) -> Result<()> {
        for relation in relations.values().filter(|r| r.format == TableFormat::Parquet) {
            if delta::load(&relation.location).await?.is_some() {
                return Err(other_format(relation, "Delta").hint(NOT_OVER_DELTA));
            }
        }
        Ok(())
    }

    /// A dataset that lost files since its last publication is not gone on with.
    pub fn check_dataset(&self, relation: &Relation, there: u64) -> Result<()> {
        let table = self.published(relation);
        if let Some(PublishedTable::Delta { .. }) = table {
            return Err(other_format(relation, "Delta").hint(NOT_OVER_DELTA));
        }
        let Some(PublishedTable::Files { files, .. }) = table else { return Ok(()) };
        if there >= *files {
            return Ok(());
        }
        let (name, place) = (&relation.name, relation.location.describe());
        Err(Error::conflict(format!(
            "files of a dataset are gone table={name} files={there} published={files} path={place}"
        ))
        .hint(WAYS_OUT))
    }
}

/// Whether something of a relation lies at its place.
pub(super) async fn is_there(relation: &Relation, heads: &Heads) -> Result<bool> {
    Ok(match relation.format {
        TableFormat::Delta => heads.contains_key(&relation.name),
        TableFormat::Parquet => !published_files(&relation.location).await?.is_empty(),
    })
}

fn other_format(relation: &Relation, format: &str) -> Error {
    let name = &relation.name;
    Error::config(format!("the table is kept as {format} until now table={name}"))
}

fn refusal(relation: &Relation, verdict: &Verdict, known: &Known) -> Error {
    let table = &relation.name;
    let last = known.last.map_or("none".to_string(), |n| n.to_string());
    let text = match verdict {
        Verdict::Gone => format!("the manifests know a table that is gone table={table}"),
        Verdict::Unknown => {
            format!("there is a table that no epoch of this job knows table={table}")
        }
        Verdict::Other { job, incarnation } => format!(
            "the table belongs to another job or another life of this one table={table} \
             job={job} incarnation={incarnation} expected={}",
            known.incarnation.as_deref().unwrap_or("none")
        ),
        Verdict::Ahead { epoch } => format!(
            "the table is ahead of the manifests table={table} table_epoch={epoch} \
             last_sealed={last}"
        ),
        Verdict::Swapped => {
            format!("another table of this job lies in the place of this one table={table}")
        }
        Verdict::Fine => String::new(),
    };
    let place = relation.location.describe();
    Error::conflict(format!("{text} last_epoch={last} path={place}")).hint(WAYS_OUT)
}
