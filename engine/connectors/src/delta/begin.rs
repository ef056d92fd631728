//! Where reading begins, or goes on after a restart.
//!
//! In: a position or the settings' `start`, and the log. Out: the first [`Work`] and the [`Tail`] that
//! later versions follow. What is lost is never passed over unless somebody accepted it.

use sluice_core::{Error, Kind, Result};
use sluice_lake::delta::feed::{Extent, Feed, Mark, Snapshot};

use super::config::{Settings, Start};
use super::lost::{Facts, Verdict, judge, refusal};
use super::position::{Position, table_id};
use super::versions::{Definition, Work, check_columns, check_names};

/// The version that the next one is to follow.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    pub(super) version: i64,
    /// What its entry is recognised by; none where it has none.
    pub(super) mark: Option<Mark>,
    /// The table's id; empty while it is not known.
    pub(super) table: String,
    /// The columns at the version, once somebody asked.
    pub(super) definition: Option<Definition>,
}

/// Where reading begins.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) works: Vec<Work>,
    /// Files of the first that were taken before.
    pub(super) taken: u64,
    pub(super) tail: Tail,
}

/// A table about to be read.
pub(super) struct Opening<'a> {
    pub(super) feed: &'a Feed,
    pub(super) settings: &'a Settings,
    pub(super) extent: Extent,
    pub(super) accept_loss: bool,
}

impl Opening<'_> {
    /// Begins where the settings say; none when that is a version that is not there yet. `late` says
    /// that the table came up while it was waited for, so that all of it is new.
    pub(super) async fn begin(&self, late: bool) -> Result<Option<Begun>> {
        let newest = self.snapshot(self.extent.newest).await?;
        check_names(self.settings, &newest.schema, newest.version)?;
        let first = match self.settings.start {
            Start::Earliest => {
                check_columns(self.settings, &newest.schema, None, newest.version)?;
                return Ok(Some(from_snapshot(newest)));
            }
            Start::Latest if late => 0,
            Start::Latest => self.extent.newest + 1,
            Start::Version(version) => version,
            Start::Time(ms) => self.feed.version_at(self.extent, ms).await?,
        };
        if first > self.extent.newest + 1 {
            return Ok(None);
        }
        let table = newest.table.clone();
        let before = match first - 1 {
            version if version == newest.version => Some(newest),
            // What was cleaned up or never was is not needed to read what comes after it.
            version => self.feed.snapshot(version).await.ok().flatten(),
        };
        if let Some(before) = &before {
            check_columns(self.settings, &before.schema, None, before.version)?;
        }
        let position = Position {
            version: first - 1,
            files: None,
            snapshot: false,
            table: table_id(&table),
            entry: String::new(),
        };
        let facts = Facts { extent: self.extent, same_entry: None, table: None };
        let definition = before.as_ref().map(Definition::of);
        let mark = before.and_then(|before| before.entry);
        match judge(&position, facts) {
            Verdict::GoesOn => {
                let hash = mark.as_ref().map(|mark| mark.hash.as_str()).unwrap_or_default();
                let works = vec![Work::mark(position.version, &table, hash)];
                let Position { version, table, .. } = position;
                Ok(Some(Begun { works, taken: 0, tail: Tail { version, mark, table, definition } }))
            }
            lost => self.go_on(lost, &position).await.map(Some),
        }
    }

    /// Goes on behind `position`.
    pub(super) async fn resume(&self, position: &Position) -> Result<Begun> {
        let mark = match position.entry.is_empty() {
            true => None,
            false => self.feed.mark(position.version).await?,
        };
        let same_entry = mark.as_ref().map(|mark| mark.hash == position.entry);
        let verdict = self.judge(position, same_entry).await?;
        if verdict != Verdict::GoesOn {
            return self.go_on(verdict, position).await;
        }
        let Position { version, table, .. } = position.clone();
        let tail = Tail { version, mark, table, definition: None };
        let Some(taken) = position.files else {
            return Ok(Begun { works: Vec::new(), taken: 0, tail });
        };
        let work = match position.snapshot {
            true => match self.feed.snapshot(version).await {
                Ok(snapshot) => snapshot.map(Work::of_snapshot),
                Err(error) if error.kind() == Kind::Conflict => None,
                Err(error) => return Err(error),
            },
            false => self.version(version, &tail).await?,
        };
        match work {
            Some(work) => Ok(Begun { works: vec![work], taken, tail }),
            None => self.go_on(Verdict::Gone(version, version), position).await,
        }
    }

    /// Whether reading can go on behind `position`. The table's id is asked only where the entry
    /// there does not answer for it.
    pub(super) async fn judge(
        &self,
        position: &Position,
        same_entry: Option<bool>,
    ) -> Result<Verdict> {
        let table = match same_entry == Some(true) || position.table.is_empty() {
            true => None,
            false => Some(table_id(&self.snapshot(self.extent.newest).await?.table)),
        };
        let facts = Facts { extent: self.extent, same_entry, table: table.as_deref() };
        Ok(judge(position, facts))
    }

    /// Goes on behind what is lost, if that is accepted. Errors: `Conflict` if it is not.
    pub(super) async fn go_on(&self, lost: Verdict, position: &Position) -> Result<Begun> {
        let Some(refused) = refusal(lost, &self.settings.path, position) else {
            return Err(Error::bug("nothing is lost"));
        };
        if !self.accept_loss {
            return Err(refused);
        }
        let mut begun = match lost {
            Verdict::Recreated => from_snapshot(self.snapshot(self.extent.newest).await?),
            Verdict::SetBack => self.behind(self.extent.newest).await?,
            Verdict::Gone(_, to) => self.behind(to).await?,
            Verdict::Rewritten | Verdict::GoesOn => self.behind(position.version).await?,
        };
        if let Some(work) = begun.works.first_mut() {
            if let Verdict::Gone(from, to) = lost {
                work.lost = u64::try_from(to - from + 1).unwrap_or(0);
            }
            work.notes.push(format!("{}; as accepted", refused.message()));
        }
        Ok(begun)
    }

    /// Begins with what comes after `version`.
    async fn behind(&self, version: i64) -> Result<Begun> {
        let mark = self.feed.mark(version).await?;
        let table = table_id(&self.snapshot(self.extent.newest).await?.table);
        let hash = mark.as_ref().map(|mark| mark.hash.as_str()).unwrap_or_default();
        let works = vec![Work::mark(version, &table, hash)];
        Ok(Begun { works, taken: 0, tail: Tail { version, mark, table, definition: None } })
    }

    /// What a version did, read again.
    async fn version(&self, version: i64, tail: &Tail) -> Result<Option<Work>> {
        let Some(read) = self.feed.read(version, 1).await?.into_iter().next() else {
            return Ok(None);
        };
        let partitioned = self.settings.feed && read.lacks_partitions() && {
            self.feed.snapshot(version).await?.is_some_and(|snapshot| snapshot.partitioned)
        };
        Work::of(read, &tail.table, partitioned, self.settings).map(Some)
    }

    async fn snapshot(&self, version: i64) -> Result<Snapshot> {
        let gone = || {
            let table = &self.settings.path;
            Error::conflict(format!("the table is gone table={table}")).hint("put it back")
        };
        self.feed.snapshot(version).await?.ok_or_else(gone)
    }
}

impl Definition {
    /// Of a table as it was.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self { schema: snapshot.schema.clone(), partitioned: snapshot.partitioned }
    }
}

/// Begins with all rows of a table.
fn from_snapshot(snapshot: Snapshot) -> Begun {
    let tail = Tail {
        version: snapshot.version,
        mark: snapshot.entry.clone(),
        table: table_id(&snapshot.table),
        definition: Some(Definition::of(&snapshot)),
    };
    Begun { works: vec![Work::of_snapshot(snapshot)], taken: 0, tail }
}
