//! Taking files: what is looked at before a file belongs to an epoch.
//!
//! In: files that are new or changed, in order. Out: splits, what is remembered of each file, and a
//! rejected row for each that cannot be read at all. A file that does not fit the schema ends the
//! epoch before it, and so does one with a column that is to be added. It remembers nothing.

use futures::{FutureExt, StreamExt, TryStreamExt};
use sluice_core::{Error, FieldSpec, Held, Kind, Reader, Rejected, Result, Scan, Split};

use super::config::{OnChangedFile, OnNewColumn};
use super::cut::{Cut, cut};
use super::inspect::{Inspected, Piece, inspect};
use super::object::Object;
use super::reader::Detail;
use super::seen::Taken;
use super::source::FileSource;

/// Local files up to this size are hashed when they are taken, so that a copy with a new time is
/// not mistaken for a change. Larger ones would cost more to hash than the mistake does.
const HASH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Files looked at together: hides the latency of an object store, and holds few headers.
const INSPECTIONS_AT_ONCE: usize = 16;

/// Files whose looking at is prepared together: enough to keep the store busy, and little to hold.
const CANDIDATES_AT_ONCE: usize = 512;

/// A file that is to be taken.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) object: Object,
    /// Its earlier rows are to be taken back.
    pub(super) replaces: bool,
    /// Only what follows this byte is new.
    pub(super) tail: Option<u64>,
}

/// What became of the candidates.
#[derive(Debug, Default)]
pub(super) struct Take {
    pub(super) splits: Vec<Split>,
    /// The files as they are now, in order; fewer than candidates when one ends the epoch.
    pub(super) taken: Vec<(String, Taken)>,
    /// Files that cannot be read.
    pub(super) unreadable: Vec<Rejected>,
    /// Columns that the candidates from the first untaken one on have and the schema does not.
    pub(super) columns: Vec<FieldSpec>,
}

/// One file, looked at.
enum Looked {
    Fits(Vec<Piece>, Option<String>),
    /// With columns that are to be added.
    Wider(Vec<FieldSpec>),
    /// Not to be read, and why.
    Unreadable(Error),
}

impl FileSource {
    /// Looks at `candidates` and takes those up to the first that ends the epoch. With `careful`
    /// each is read to its end.
    pub(super) async fn take(&self, candidates: &[Candidate], careful: bool) -> Result<Take> {
        let mut take = Take::default();
        for some in candidates.chunks(CANDIDATES_AT_ONCE) {
            let looks: Vec<_> = some.iter().map(|c| self.look(c).boxed()).collect();
            let mut looks = futures::stream::iter(looks).buffered(INSPECTIONS_AT_ONCE);
            let mut some = some.iter();
            while let (Some(looked), Some(candidate)) = (looks.next().await, some.next()) {
                match looked {
                    Ok(Looked::Wider(columns)) => take.learn(columns),
                    // Behind the first file that is wider only columns are looked for.
                    Ok(_) if !take.columns.is_empty() => {}
                    Ok(looked) => self.add(&mut take, candidate, looked, careful).await?,
                    Err(_) if !take.columns.is_empty() => return Ok(take),
                    Err(error) if error.kind() == Kind::Data && !take.taken.is_empty() => {
                        return Ok(take);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(take)
    }

    async fn add(
        &self,
        take: &mut Take,
        candidate: &Candidate,
        looked: Looked,
        careful: bool,
    ) -> Result<()> {
        let found = candidate.object.found();
        let number = take.taken.len();
        let (pieces, hash) = match looked {
            Looked::Fits(pieces, hash) => (pieces, hash),
            Looked::Unreadable(error) => return self.set_aside(take, candidate, &error),
            Looked::Wider(_) => return Err(Error::bug("a file with new columns is taken")),
        };
        let file = u32::try_from(number).map_err(|e| Error::bug("too many files").because(e))?;
        let mut splits = Vec::new();
        let how = if careful { Cut::Exact } else { Cut::Likely };
        for piece in self.cut(&candidate.object, pieces, how).await? {
            let detail = Detail { found: found.clone(), file, shape: piece.shape };
            splits.push(Split {
                ordinal: u32::try_from(take.splits.len() + splits.len()).unwrap_or(u32::MAX),
                object: found.path.clone(),
                range: piece.range,
                rows: piece.rows,
                bytes: piece.bytes,
                detail: serde_json::to_value(detail)
                    .map_err(|e| Error::bug("a split cannot be described").because(e))?,
                held: Held::default(),
            });
        }
        if careful && let Some(error) = self.read_through(&splits).await? {
            return self.set_aside(take, candidate, &error);
        }
        take.splits.extend(splits);
        let ordinal = self.taken + number as u64;
        take.taken.push((found.path.clone(), Taken::new(found, ordinal, hash)));
        Ok(())
    }

    /// Takes a file that cannot be read: one rejected row stands for it.
    fn set_aside(&self, take: &mut Take, candidate: &Candidate, error: &Error) -> Result<()> {
        let found = candidate.object.found();
        let ordinal = self.taken + take.taken.len() as u64;
        let taken = Taken::new(found, ordinal, None).unreadable(&self.described);
        take.taken.push((found.path.clone(), taken));
        let hint = error.hint_text().map(|hint| format!("; {hint}")).unwrap_or_default();
        let (object, named) = (found.path.clone(), format!(" path={}", found.path));
        let reason = format!("{}{hint}", error.chain().replace(&named, ""));
        take.unreadable.push(Rejected { object, position: 0, bytes: Vec::new(), reason });
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

    async fn look(&self, candidate: &Candidate) -> Result<Looked> {
        let object = candidate.object.kept();
        let Inspected { pieces, new } = match inspect(&object, &self.settings, candidate.tail).await
        {
            Ok(inspected) => inspected,
            Err(error) if error.kind() == Kind::Unreadable => {
                return Ok(Looked::Unreadable(error));
            }
            Err(error) => return Err(error),
        };
        if !new.is_empty() && self.settings.on_new_column == OnNewColumn::Add {
            return Ok(Looked::Wider(new));
        }
        Ok(Looked::Fits(pieces, self.hash_of(&object).await?))
    }

    /// The hash of a local file that is not large, and of any that may grow: what was taken of it
    /// has to stay as it is.
    pub(super) async fn hash_of(&self, object: &Object) -> Result<Option<String>> {
        let size = object.found().size;
        let small = object.is_local() && size <= HASH_BYTES_MAX;
        match small || self.settings.on_changed_file == OnChangedFile::AppendTail {
            true => object.hash(size).await.map(Some),
            false => Ok(None),
        }
    }

    async fn cut(&self, object: &Object, pieces: Vec<Piece>, how: Cut) -> Result<Vec<Piece>> {
        let mut all = Vec::new();
        for piece in pieces {
            all.extend(cut(object, &self.settings, piece, how).await?);
        }
        Ok(all)
    }
}

impl Take {
    fn learn(&mut self, columns: Vec<FieldSpec>) {
        for column in columns {
            if !self.columns.iter().any(|known| known.origin() == column.origin()) {
                self.columns.push(column);
            }
        }
    }
}
