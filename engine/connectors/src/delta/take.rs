//! Taking files of versions: each is looked at before it belongs to an epoch.
//!
//! In: parts in order. Out: splits, a rejected row for each file that cannot be read at all, and how
//! many parts that is. A file that is gone ends the poll before it.

use futures::{FutureExt, StreamExt, TryStreamExt};
use sluice_core::{Error, Held, Kind, Reader, Rejected, Result, Scan, Split};
use sluice_lake::delta::feed::{Rows, of_version};
use sluice_lake::parquet::value_array;

use super::reader::Detail;
use super::source::Versions;
use super::versions::{Part, Work};
use crate::files::object::{Found, Object};
use crate::format::parquet::{self, Footer};

/// Files looked at together: hides the latency of an object store.
const LOOKS_AT_ONCE: usize = 16;

/// A bigger file is read in several pieces at once, row groups together: small enough that all cores
/// have something to do, large enough that a footer costs nothing against reading it.
const SPLIT_BYTES: u64 = 32 * 1024 * 1024;

/// What was taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// How many parts.
    pub(super) parts: usize,
    pub(super) splits: Vec<Split>,
    pub(super) unreadable: Vec<Rejected>,
    /// Rows of files that are gone, as accepted.
    pub(super) lost: u64,
    pub(super) notes: Vec<String>,
}

/// One part, looked at.
enum Looked {
    Splits(Vec<Split>),
    Unreadable(Error),
    Gone(Error),
}

impl Versions {
    /// Looks at the first `count` parts and takes those before the first that stops the job. With
    /// `careful` each is read to its end.
    pub(super) async fn take(&self, count: usize, careful: bool) -> Result<Taken> {
        let mut taken = Taken::default();
        let parts: Vec<(&Work, &Part)> = self.queue.parts().take(count).collect();
        let looks = parts.iter().enumerate();
        let looks = looks.map(|(nth, (work, part))| self.look(nth, work, part, careful).boxed());
        let looks: Vec<_> = looks.collect();
        let mut looks = futures::stream::iter(looks).buffered(LOOKS_AT_ONCE);
        let mut parts = parts.iter();
        while let (Some(looked), Some((_, part))) = (looks.next().await, parts.next()) {
            match looked {
                Ok(Looked::Splits(splits)) => taken.splits.extend(splits),
                Ok(Looked::Unreadable(error)) => {
                    let path = self.feed.location().join(&part.file.path)?.describe();
                    // A change file comes twice, once for each kind of its rows.
                    let told = part.rows != Rows::Changed || part.came;
                    taken.unreadable.extend(told.then(|| rejected(path, &error)));
                }
                Ok(Looked::Gone(error)) if self.accept_loss => {
                    taken.lost += part.estimate();
                    taken.notes.push(format!("{}; as accepted", error.message()));
                }
                Ok(Looked::Gone(_)) | Err(_) if taken.parts > 0 => break,
                Ok(Looked::Gone(error)) | Err(error) => return Err(error),
            }
            taken.parts += 1;
        }
        for (ordinal, split) in taken.splits.iter_mut().enumerate() {
            split.ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
        }
        Ok(taken)
    }

    async fn look(&self, nth: usize, work: &Work, part: &Part, careful: bool) -> Result<Looked> {
        let Work { version, committed_ms, .. } = work;
        let location = self.feed.location().join(&part.file.path)?;
        let store = &location.store;
        let Some(meta) = store.head(&location.path).await? else {
            return Ok(Looked::Gone(gone(*version, &location.describe())));
        };
        self.check_partition(*version, part)?;
        let file = u32::try_from(nth).map_err(|e| Error::bug("too many files").because(e))?;
        let detail = Detail {
            found: Found::new(0, store, meta),
            file,
            groups: (0, usize::MAX),
            row: 0,
            change: match (part.rows, part.came) {
                (Rows::Changed, _) => None,
                (_, true) => Some("insert".to_string()),
                (_, false) => Some("delete".to_string()),
            },
            came: part.came,
            version: *version,
            committed_ms: *committed_ms,
            partition: part.file.partition_values.clone(),
        };
        let splits = match self.cut(detail, part).await {
            Ok(splits) => splits,
            Err(error) if error.kind() == Kind::Unreadable => return Ok(Looked::Unreadable(error)),
            Err(error) => return Err(error),
        };
        if careful && let Some(error) = self.read_through(&splits).await? {
            return Ok(Looked::Unreadable(error));
        }
        Ok(Looked::Splits(splits))
    }

    /// The pieces of a file: one, unless it is big and has several row groups.
    async fn cut(&self, detail: Detail, part: &Part) -> Result<Vec<Split>> {
        if detail.found.size <= SPLIT_BYTES {
            let (bytes, rows) = (detail.found.size, part.estimate());
            return Ok(vec![split(detail, rows, bytes)?]);
        }
        let object = Object::new(self.feed.location().store.clone(), detail.found.clone())?;
        let path = detail.found.path.clone();
        let footer = Footer::read(object, &self.settings.layout, &path).await?;
        let (mut splits, mut open, mut row) = (Vec::new(), (0, 0, 0), 0);
        for (group, parquet::Group { rows, bytes }) in footer.groups.iter().enumerate() {
            let (first, rows_before, bytes_before) = open;
            open = (first, rows_before + rows, bytes_before + bytes);
            if open.2 >= SPLIT_BYTES || group + 1 == footer.groups.len() {
                let groups = (first, group + 1);
                splits.push(split(Detail { groups, row, ..detail.clone() }, open.1, open.2)?);
                row += open.1;
                open = (group + 1, 0, 0);
            }
        }
        Ok(splits)
    }

    /// Says which value of a partition cannot be a column's. Errors: `Data`.
    fn check_partition(&self, version: i64, part: &Part) -> Result<()> {
        for field in &self.settings.fields {
            let Some(text) = part.file.partition_values.get(field.origin()) else { continue };
            let wanted = field.arrow_type()?;
            let value = value_array(text.as_deref(), &wanted, &field.name, 1);
            let value = value.map_err(|e| of_version(e, version))?;
            if field.required && value.null_count() > 0 {
                let message = format!(
                    "a required column is empty in a whole partition column={} version={version}",
                    field.name
                );
                return Err(Error::data(message).hint("take `required` from the field"));
            }
        }
        Ok(())
    }

    /// Reads splits to their end; gives the error of a file that cannot be.
    async fn read_through(&self, splits: &[Split]) -> Result<Option<Error>> {
        for split in splits {
            let mut rows = self.reader.open(split.clone(), &Scan::default());
            loop {
                match rows.try_next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) if error.kind() == Kind::Unreadable => return Ok(Some(error)),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }
}

fn split(detail: Detail, rows: u64, bytes: u64) -> Result<Split> {
    Ok(Split {
        ordinal: 0,
        object: detail.found.path.clone(),
        range: (detail.row, detail.row + rows),
        rows,
        bytes,
        detail: serde_json::to_value(detail)
            .map_err(|e| Error::bug("a split cannot be described").because(e))?,
        held: Held::default(),
    })
}

fn rejected(object: String, error: &Error) -> Rejected {
    let hint = error.hint_text().map(|hint| format!("; {hint}")).unwrap_or_default();
    let reason = format!("{}{hint}", error.chain().replace(&format!(" path={object}"), ""));
    Rejected { object, position: 0, bytes: Vec::new(), reason }
}

fn gone(version: i64, path: &str) -> Error {
    Error::conflict(format!("a file was deleted before it was read version={version} path={path}"))
        .hint(
            "let the table keep what it removes longer (delta.deletedFileRetentionDuration); with \
             --accept-loss reading goes on without it",
        )
}
