//! Our committer: a prepared change becomes one entry of the log, once, whoever writes it.
//!
//! In: the head in memory and a sealed action. Out: the version that holds it. Calling it again
//! with the same transaction does nothing. Removes are committed only while every removed file is
//! active; nothing here recomputes or repairs.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use sluice_core::{Error, Result};

use super::action::{self, Metadata};
use super::decide::{Change, Decision, Facts, Stop, compare, decide_commit, widen};
use super::schema::parse_schema;
use super::{EntryFacts, Head, load, load_at, log, protocol, refresh};
use crate::manifest::{DataFile, DeltaAction, TableMeta};
use crate::store::{Create, Location};

/// Lost races in a row before giving up. Each one means that somebody else committed meanwhile;
/// a table with that many writers is better off with fewer.
const ATTEMPTS_MAX: u32 = 64;

/// Tries that ended without an answer before giving up: the store's client has tried each of them
/// for minutes already.
const UNKNOWN_MAX: usize = 3;

/// What the log calls us.
const ENGINE: &str = concat!("sluice/", env!("CARGO_PKG_VERSION"));

/// Who commits what: one application id per table and incarnation, one version per epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    /// `sluice/<job>/<incarnation>/<table>`.
    pub app_id: String,
    /// The epoch.
    pub version: i64,
}

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// We wrote this version.
    Done {
        /// The version written.
        version: i64,
    },
    /// The change was in the table already; this version holds it.
    Already {
        /// The newest version known.
        version: i64,
    },
    /// Nothing was written: files that the change removes are not active any more.
    RemovesGone {
        /// Those files.
        paths: Vec<String>,
        /// The version the change has to be prepared against again.
        version: i64,
    },
}

/// Commits `action` as `txn`. `head` is what the caller knows of the table (`None`: nothing yet)
/// and is moved to the version that was found or written; an error leaves it at some true version.
///
/// Errors: `Conflict` when the table is gone, is another one, went back, or was changed in a way
/// that the change cannot live with; `Unavailable` when the store does not answer.
pub async fn commit(
    location: &Location,
    head: &mut Option<Head>,
    action: &DeltaAction,
    txn: &Txn,
    now_ms: i64,
) -> Result<Committed> {
    let mut attempt =
        Attempt { location, action, txn, now_ms, base: None, change: Change::Harmless };
    if head.is_none() {
        *head = load(location).await?;
    }
    let mut unknown = Vec::new();
    for _ in 0..ATTEMPTS_MAX {
        attempt.look_back(head.as_ref()).await?;
        match decide_commit(&attempt.facts(head.as_ref())) {
            Decision::Already => return attempt.already(head.as_ref()).await,
            Decision::RemovesGone => return Ok(attempt.removes_gone(head.as_ref())),
            Decision::Stop(stop) => return Err(attempt.stopped(stop)),
            Decision::Create | Decision::Write if unknown.len() >= UNKNOWN_MAX => break,
            Decision::Create | Decision::Write => {}
        }
        match attempt.write(head).await? {
            Create::Done => return Ok(Committed::Done { version: version_of(head.as_ref()) }),
            Create::Exists => {}
            Create::Unknown(error) => unknown.push(error),
        }
        attempt.catch_up(head).await?;
    }
    let table = location.describe();
    Err(match unknown.pop() {
        Some(cause) => {
            Error::unavailable(format!("cannot commit to a table table={table}")).because(cause)
        }
        None => Error::unavailable(format!(
            "every try to commit to a table was lost table={table} tries={ATTEMPTS_MAX}"
        ))
        .hint("another client commits to the table all the time"),
    })
}

/// One change on its way into the log.
struct Attempt<'a> {
    location: &'a Location,
    action: &'a DeltaAction,
    txn: &'a Txn,
    now_ms: i64,
    /// The last definition the change is known to live with.
    base: Option<Metadata>,
    /// What others did since then.
    change: Change,
}

impl Attempt<'_> {
    /// Before the first try: what happened between the version the change was prepared against
    /// and the head, which may have been loaded long after.
    async fn look_back(&mut self, head: Option<&Head>) -> Result<()> {
        let (None, Some(head)) = (&self.base, head) else { return Ok(()) };
        let base = self.action.base_version.unwrap_or(head.version);
        let done = head.txns.get(&self.txn.app_id).is_some_and(|v| *v >= self.txn.version);
        if base >= head.version || done || self.action.replace {
            self.base = Some(head.metadata.clone());
            return Ok(());
        }
        let mut entries = Vec::new();
        for version in base + 1..=head.version {
            let lines = log::entry(self.location, version).await?;
            let lines = lines.ok_or_else(|| log::gap(self.location, version))?;
            entries.push(EntryFacts::of(version, &lines)?);
        }
        if entries.iter().all(|e| e.metadata.is_none()) {
            self.base = Some(head.metadata.clone());
        } else {
            self.base = load_at(self.location, base).await?.map(|old| old.metadata);
        }
        self.take_in(&entries)
    }

    fn take_in(&mut self, entries: &[EntryFacts]) -> Result<()> {
        for entry in entries {
            if entry.protocol {
                self.change = Change::Protocol;
            }
            let Some(new) = &entry.metadata else { continue };
            if let (Some(old), Change::Harmless) = (&self.base, &self.change) {
                self.change = compare(old, new)?;
            }
            self.base = Some(new.clone());
        }
        Ok(())
    }

    fn facts(&self, head: Option<&Head>) -> Facts {
        let base = self.action.base_version.unwrap_or(i64::MIN);
        Facts {
            exists: head.is_some(),
            known: head.and_then(|h| h.txns.get(&self.txn.app_id).copied()),
            wanted: self.txn.version,
            creates: self.action.create.is_some(),
            replaces: self.action.replace,
            behind: head.is_some_and(|h| h.version < base),
            change: self.change.clone(),
            removes_gone: head.is_some_and(|h| !self.gone(h).is_empty()),
        }
    }

    fn gone(&self, head: &Head) -> Vec<String> {
        let removes = self.action.removes.iter();
        removes.filter(|f| !head.files.contains_key(&f.path)).map(|f| f.path.clone()).collect()
    }

    /// Somebody else may have written our entry and died before it was durable.
    async fn already(&self, head: Option<&Head>) -> Result<Committed> {
        let version = version_of(head);
        let path = log::entry_path(self.location, version)?;
        // Old entries may have been cleaned up behind a checkpoint.
        if self.location.store.local_path(&path).is_some_and(|local| local.exists()) {
            self.location.store.settle(&path).await?;
        }
        Ok(Committed::Already { version })
    }

    fn removes_gone(&self, head: Option<&Head>) -> Committed {
        let paths = head.map(|h| self.gone(h)).unwrap_or_default();
        Committed::RemovesGone { paths, version: version_of(head) }
    }

    fn stopped(&self, stop: Stop) -> Error {
        let table = self.location.describe();
        let app = &self.txn.app_id;
        match stop {
            Stop::Gone => Error::conflict(format!("a table of this job is gone table={table}"))
                .hint("restore it, or make it again from its inputs with --rebuild"),
            Stop::Foreign => Error::conflict(format!(
                "a table that this job did not make stands in its place table={table} txn={app}"
            ))
            .hint("replace its rows with --rebuild, keep them with --adopt, or name another table"),
            Stop::Behind => Error::conflict(format!(
                "a table is older than what this job published table={table} published={}",
                self.action.base_version.unwrap_or(0)
            ))
            .hint("it was restored or swapped: put it back, or make it again with --rebuild"),
            Stop::Protocol => {
                Error::conflict(format!("another client changed a table's protocol table={table}"))
                    .hint("undo the change there, or make the table again with --rebuild")
            }
            Stop::Metadata(what) => Error::conflict(format!(
                "another client changed a table's definition: {what} table={table}"
            ))
            .hint("undo the change there, or make the table again with --rebuild"),
        }
    }

    async fn write(&self, head: &mut Option<Head>) -> Result<Create> {
        let version = head.as_ref().map_or(0, |h| h.version + 1);
        let text = self.entry(head.as_ref())?;
        let path = log::entry_path(self.location, version)?;
        let created = self.location.store.create(&path, Bytes::from(text.clone())).await?;
        if matches!(created, Create::Done) {
            let lines = action::parse(text.as_bytes(), path.as_ref())?;
            match head {
                Some(head) => drop(head.apply(version, lines)?),
                None => {
                    let mut state = log::Replay { version, ..log::Replay::default() };
                    state.apply(lines)?;
                    *head = Some(Head::of(state, self.location)?);
                }
            }
        }
        Ok(created)
    }

    /// After a lost race: reads what is new, and only that.
    async fn catch_up(&mut self, head: &mut Option<Head>) -> Result<()> {
        match head {
            Some(head) => {
                let entries = refresh(self.location, head).await?;
                self.take_in(&entries)
            }
            None => {
                *head = load(self.location).await?;
                Ok(())
            }
        }
    }

    /// The entry's text, one JSON object per line.
    fn entry(&self, head: Option<&Head>) -> Result<String> {
        if let Some(head) = head {
            protocol::check(&head.protocol, &head.metadata)?;
        }
        let removes: Vec<&DataFile> = match head {
            Some(head) if self.action.replace => head.files.values().collect(),
            _ => self.action.removes.iter().collect(),
        };
        if let Some(head) = head {
            self.check_append_only(head, &removes)?;
        }
        let mut lines = vec![self.commit_info(head, !removes.is_empty())];
        lines.extend(self.definition(head)?);
        lines.push(json!({"txn": {
            "appId": self.txn.app_id, "version": self.txn.version, "lastUpdated": self.now_ms,
        }}));
        let change = self.action.data_change;
        // delta-rs commits an OPTIMIZE from an old version unless a file that it removes was since
        // removed by a data change: its rows would be in the table twice. So each of our removes
        // is one, except where the table's own property forbids it.
        let gone = change || !head.is_some_and(append_only);
        lines.extend(removes.iter().map(|f| action::remove_line(f, gone, self.now_ms)));
        lines.extend(self.action.adds.iter().map(|f| action::add_line(f, change)));
        Ok(lines.iter().map(|line| format!("{line}\n")).collect())
    }

    fn check_append_only(&self, head: &Head, removes: &[&DataFile]) -> Result<()> {
        if append_only(head) && self.action.data_change && !removes.is_empty() {
            let table = self.location.describe();
            return Err(Error::conflict(format!("a table takes appends only table={table}"))
                .hint("unset its property delta.appendOnly, or use a table without key"));
        }
        Ok(())
    }

    fn commit_info(&self, head: Option<&Head>, removes: bool) -> Value {
        let mode = if self.action.replace { "Overwrite" } else { "Append" };
        let partition_by = head.map(Head::partition_by).unwrap_or_default();
        let mut info = json!({
            "timestamp": self.now_ms,
            "operation": self.action.operation,
            "operationParameters": {
                "mode": mode,
                "partitionBy": json!(partition_by).to_string(),
                "epoch": self.txn.version.to_string(),
            },
            "isBlindAppend": !removes && !self.action.replace,
            "engineInfo": ENGINE,
        });
        if let Some(head) = head {
            info["readVersion"] = head.version.into();
        }
        json!({ "commitInfo": info })
    }

    /// `protocol` and `metaData`, as far as they are new.
    fn definition(&self, head: Option<&Head>) -> Result<Vec<Value>> {
        let protocol = json!({"protocol": {
            "minReaderVersion": protocol::READER_VERSION,
            "minWriterVersion": protocol::WRITER_VERSION,
        }});
        let metadata = |m: &Metadata| json!({ "metaData": m });
        match (head, &self.action.create, &self.action.evolve) {
            (None, Some(create), _) => Ok(vec![protocol, metadata(&new_metadata(create))]),
            (Some(_), Some(create), _) if self.action.replace => {
                Ok(vec![metadata(&new_metadata(create))])
            }
            (Some(head), _, Some(evolve)) => {
                Ok(self.evolved(head, evolve)?.iter().map(metadata).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The head's definition with the job's new columns and properties; `None` when it has them.
    fn evolved(&self, head: &Head, evolve: &TableMeta) -> Result<Option<Metadata>> {
        let wanted = parse_schema(&evolve.schema)?;
        let new =
            widen(&head.schema, &wanted).map_err(|what| self.stopped(Stop::Metadata(what)))?;
        let retyped = wanted.fields().iter().filter(|f| {
            head.schema.field_with_name(f.name()).is_ok_and(|now| now.data_type() != f.data_type())
        });
        let names: Vec<&str> = new.iter().chain(retyped).map(|f| f.name().as_str()).collect();
        let mut metadata = head.metadata.clone();
        metadata.schema_string = put_fields(&metadata.schema_string, &evolve.schema, &names)?;
        metadata.configuration.extend(evolve.properties.clone());
        Ok(Some(metadata).filter(|m| *m != head.metadata))
    }
}

fn version_of(head: Option<&Head>) -> i64 {
    head.map_or(-1, |h| h.version)
}

fn new_metadata(meta: &TableMeta) -> Metadata {
    Metadata {
        id: meta.id.clone(),
        name: Some(meta.name.clone()),
        description: None,
        format: action::Format::default(),
        schema_string: meta.schema.clone(),
        partition_columns: meta.partition_by.clone(),
        configuration: meta.properties.clone().into_iter().collect::<BTreeMap<_, _>>(),
        created_time: Some(meta.created_ms),
    }
}

/// `base` with the fields called `names` of `from`: in the place of those it has, but for what
/// others put into them, and else at its end.
fn put_fields(base: &str, from: &str, names: &[&str]) -> Result<String> {
    if names.is_empty() {
        return Ok(base.to_string());
    }
    let damaged = |e| Error::data("a table's schema is not JSON").because(e);
    let mut base: Value = serde_json::from_str(base).map_err(damaged)?;
    let from: Value = serde_json::from_str(from).map_err(damaged)?;
    let fields = from.get("fields").and_then(Value::as_array).cloned().unwrap_or_default();
    let new = fields.into_iter().filter(|f| {
        f.get("name").and_then(Value::as_str).is_some_and(|name| names.contains(&name))
    });
    let Some(have) = base.get_mut("fields").and_then(Value::as_array_mut) else {
        return Ok(base.to_string());
    };
    for field in new {
        match have.iter_mut().find(|old| old.get("name") == field.get("name")) {
            Some(old) => old["type"] = field["type"].clone(),
            None => have.push(field),
        }
    }
    Ok(base.to_string())
}

/// Whether the table's property lets nobody remove rows.
fn append_only(head: &Head) -> bool {
    head.properties().get("delta.appendOnly").is_some_and(|value| value == "true")
}
