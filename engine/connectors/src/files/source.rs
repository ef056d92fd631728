//! The `files` source: what is there, what is new, what has changed.
//!
//! In: listings and the state of sealed epochs. Out: intakes of whole files, cut into splits. A
//! file is known by its path and taken once; it is never divided between epochs. Nothing is
//! remembered until a poll is done, so that one that fails or is dropped changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use object_store::ObjectMeta;
use sluice_core::{
    Advance, Clock, Error, Intake, Kind, Limit, Offset, Offsets, Reader, Result, Source, Split,
    Start,
};
use sluice_lake::store::Location;

use super::config::{Decoding, OnChangedFile, Settings};
use super::inspect::{Piece, cut, inspect, is_gzip};
use super::object::{Found, Object};
use super::pattern::Pattern;
use super::reader::{Detail, FileReader};
use super::seen::{Seen, Taken, Verdict, from_rows, judge, to_rows};

/// The one partition: files, counted as they are taken.
const PARTITION: &str = "files";

/// Local files up to this size are hashed when they are taken, so that a copy with a new time is
/// not mistaken for a change. Larger ones would cost more to hash than the mistake does.
const HASH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Files looked at together: hides the latency of an object store, and holds few headers.
const INSPECTIONS_AT_ONCE: usize = 8;

/// Bytes of a row, for the limit of rows, before a file is opened.
const ROW_BYTES: u64 = 64;

/// A source of files.
#[derive(Debug)]
pub(super) struct FileSource {
    settings: Settings,
    roots: Vec<Root>,
    clock: Arc<dyn Clock>,
    reader: Arc<FileReader>,
    seen: Seen,
    /// Files taken so far.
    taken: u64,
    /// What was learned about taken files and is worth no epoch of its own.
    learned: Vec<(String, Taken)>,
    /// Whether somebody was told that no file is there.
    told_empty: bool,
}

/// One path of the source, opened.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) pattern: Pattern,
    pub(super) location: Location,
}

/// A file that is to be taken.
#[derive(Debug)]
struct Candidate {
    object: Object,
    /// Its earlier rows are to be taken back.
    replaces: bool,
    /// Only what follows this byte is new.
    tail: Option<u64>,
}

/// What a listing comes to.
#[derive(Debug, Default)]
struct Survey {
    candidates: Vec<Candidate>,
    /// Changes that were spoken of: they are sealed, so that they are spoken of once.
    warned: Vec<(String, Taken)>,
    /// Times that changed and contents that did not.
    learned: Vec<(String, Taken)>,
    notes: Vec<String>,
}

impl FileSource {
    /// A source over `roots`.
    pub(super) fn new(settings: Settings, roots: Vec<Root>, clock: Arc<dyn Clock>) -> Self {
        let stores = roots.iter().map(|root| root.location.store.clone()).collect();
        let reader = Arc::new(FileReader { stores, decoding: settings.decoding.clone() });
        Self {
            settings,
            roots,
            clock,
            reader,
            seen: Seen::new(),
            taken: 0,
            learned: Vec::new(),
            told_empty: false,
        }
    }

    /// Every file that is meant, once, by path.
    async fn list(&self) -> Result<Vec<Found>> {
        let mut files = BTreeMap::new();
        for (i, root) in self.roots.iter().enumerate() {
            for found in root.list(i, self.settings.format.endings()).await? {
                files.entry(found.path.clone()).or_insert(found);
            }
        }
        Ok(files.into_values().collect())
    }

    /// Compares a listing with what was taken.
    async fn survey(&self, files: Vec<Found>) -> Result<Survey> {
        let youngest = self.clock.wall_ms().saturating_sub(self.settings.min_age_ms);
        let mut survey = Survey::default();
        for found in files {
            let store = self.roots[found.root].location.store.clone();
            let object = Object::new(store, found.clone())?;
            let taken = self.seen.get(&found.path);
            let mut verdict = judge(&found, taken, object.is_local());
            let old_enough = self.settings.min_age_ms == 0 || found.modified_ms <= youngest;
            if verdict == Verdict::Same || !old_enough {
                continue;
            }
            let Some(taken) = taken else {
                survey.candidates.push(Candidate { object, replaces: false, tail: None });
                continue;
            };
            if verdict == Verdict::Unclear {
                let hash = Some(object.hash(found.size).await?);
                verdict = if hash == taken.hash { Verdict::Same } else { Verdict::Changed };
            }
            if verdict == Verdict::Same {
                let now = Taken::new(&found, taken.ordinal, taken.hash.clone());
                survey.learned.push((found.path, now));
            } else {
                self.on_change(object, taken, &mut survey).await?;
            }
        }
        Ok(survey)
    }

    /// Does what the job wants done with a file whose content changed.
    async fn on_change(&self, object: Object, taken: &Taken, survey: &mut Survey) -> Result<()> {
        let found = object.found().clone();
        let (path, size, before) = (&found.path, found.size, taken.size);
        match self.settings.on_changed_file {
            OnChangedFile::Warn => {
                survey.notes.push(format!(
                    "a file changed after it was taken and is not read again \
                     path={path} size={size} before={before}"
                ));
                let hash = self.hash_of(&object).await?;
                let now = Taken::new(&found, taken.ordinal, hash);
                survey.warned.push((found.path, now));
            }
            OnChangedFile::Fail => {
                let message = format!(
                    "a file changed after it was taken path={path} size={size} before={before}"
                );
                return Err(Error::data(message)
                    .hint("put the old content back, or choose another `on_changed_file`"));
            }
            OnChangedFile::Replace => {
                survey.candidates.push(Candidate { object, replaces: true, tail: None });
            }
            OnChangedFile::AppendTail => {
                self.check_tail(&object, taken).await?;
                survey.candidates.push(Candidate { object, replaces: false, tail: Some(before) });
            }
        }
        Ok(())
    }

    /// Makes sure that a file only grew, by whole lines.
    async fn check_tail(&self, object: &Object, taken: &Taken) -> Result<()> {
        let found = object.found();
        let refuse = |why: &str| {
            let message =
                format!("{why} path={} size={} before={}", found.path, found.size, taken.size);
            Error::data(message).hint("append_tail reads only what is added to a file at its end")
        };
        if is_gzip(self.settings.compression, &found.path) {
            return Err(refuse("a compressed file changed"));
        }
        if found.size <= taken.size {
            return Err(refuse("a file changed and did not grow"));
        }
        if let Some(hash) = &taken.hash
            && *hash != object.hash(taken.size).await?
        {
            return Err(refuse("a file changed in the part that was taken"));
        }
        let seam = object.read(taken.size.saturating_sub(1)..taken.size + 1).await?;
        match seam[..] {
            [b'\n', _] | [_, b'\n' | b'\r'] | [_] => Ok(()),
            _ => Err(refuse("a file was taken before its last line was complete")),
        }
    }

    /// How many of the candidates fit into `limit`: all up to the first that crosses it.
    fn fitting(candidates: &[Candidate], limit: Limit) -> usize {
        let (mut rows, mut bytes) = (0_u64, 0_u64);
        for (i, candidate) in candidates.iter().enumerate() {
            let crossed = rows >= limit.rows || bytes >= limit.bytes || i as u64 >= limit.files;
            if crossed && i > 0 {
                return i;
            }
            let new = candidate.object.found().size.saturating_sub(candidate.tail.unwrap_or(0));
            bytes = bytes.saturating_add(new);
            rows = rows.saturating_add((new / ROW_BYTES).max(1));
        }
        candidates.len()
    }

    /// The splits of `candidates`, and the files as they are now; fewer than there are candidates
    /// when one does not fit the schema: the epoch ends before it, and the next begins with it.
    async fn take(&self, candidates: &[Candidate]) -> Result<(Vec<Split>, Vec<(String, Taken)>)> {
        let inspections: Vec<_> = candidates.iter().map(|c| self.inspect(c).boxed()).collect();
        let mut inspections = futures::stream::iter(inspections).buffered(INSPECTIONS_AT_ONCE);
        let mut inspected = Vec::with_capacity(candidates.len());
        while let Some(one) = inspections.next().await {
            match one {
                Ok(one) => inspected.push(one),
                Err(error) if error.kind() == Kind::Data && !inspected.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        let (mut splits, mut taken) = (Vec::new(), Vec::new());
        for (i, (candidate, (pieces, hash))) in candidates.iter().zip(inspected).enumerate() {
            let found = candidate.object.found();
            let file = u32::try_from(i).map_err(|e| Error::bug("too many files").because(e))?;
            for piece in self.cut(&candidate.object, pieces).await? {
                let detail = Detail { found: found.clone(), file, shape: piece.shape };
                splits.push(Split {
                    ordinal: u32::try_from(splits.len()).unwrap_or(u32::MAX),
                    object: found.path.clone(),
                    range: piece.range,
                    rows: piece.rows,
                    bytes: piece.bytes,
                    detail: serde_json::to_value(detail)
                        .map_err(|e| Error::bug("a split cannot be described").because(e))?,
                });
            }
            taken.push((found.path.clone(), Taken::new(found, self.taken + i as u64, hash)));
        }
        Ok((splits, taken))
    }

    async fn inspect(&self, candidate: &Candidate) -> Result<(Vec<Piece>, Option<String>)> {
        let pieces = inspect(&candidate.object, &self.settings, candidate.tail).await?;
        Ok((pieces, self.hash_of(&candidate.object).await?))
    }

    /// The hash of a local file that is not large, and of any that may grow: what was taken of it
    /// has to stay as it is.
    async fn hash_of(&self, object: &Object) -> Result<Option<String>> {
        let size = object.found().size;
        let small = object.is_local() && size <= HASH_BYTES_MAX;
        match small || self.settings.on_changed_file == OnChangedFile::AppendTail {
            true => object.hash(size).await.map(Some),
            false => Ok(None),
        }
    }

    async fn cut(&self, object: &Object, pieces: Vec<Piece>) -> Result<Vec<Piece>> {
        let Decoding::Csv(layout, _) = &self.settings.decoding else { return Ok(pieces) };
        let mut all = Vec::new();
        for piece in pieces {
            all.extend(cut(object, layout.dialect(), piece, self.settings.split_bytes).await?);
        }
        Ok(all)
    }

    /// Says once that nothing matches, which mostly means that a path is misspelled.
    fn note_empty(&mut self) -> Vec<String> {
        if self.told_empty || !self.seen.is_empty() {
            return Vec::new();
        }
        self.told_empty = true;
        let paths: Vec<&str> = self.roots.iter().map(|root| root.pattern.text()).collect();
        vec![format!("no file is there path={}", paths.join(", "))]
    }
}

impl Root {
    /// The files of path number `number`.
    async fn list(&self, number: usize, endings: &[&str]) -> Result<Vec<Found>> {
        let Location { store, path } = &self.location;
        if self.pattern.is_plain()
            && !path.as_ref().is_empty()
            && let Some(meta) = store.head(path).await?
        {
            return Ok(vec![Found::new(number, store, &meta)]);
        }
        let mut files = Vec::new();
        let listed = match self.pattern.is_flat() {
            true => self.list_folder().await?,
            false => store.list(path).await?,
        };
        for meta in listed {
            let Some(parts) = meta.location.prefix_match(path) else { continue };
            let relative: Vec<String> = parts.map(|p| p.as_ref().to_string()).collect();
            if self.pattern.admits(&relative.join("/"), endings) {
                files.push(Found::new(number, store, &meta));
            }
        }
        Ok(files)
    }

    /// What lies directly in the base.
    async fn list_folder(&self) -> Result<Vec<ObjectMeta>> {
        let Location { store, path } = &self.location;
        let listed = store.object_store().list_with_delimiter(Some(path)).await;
        let listed = listed.map_err(|e| {
            Error::unavailable(format!("cannot list path={}", self.pattern.text()))
                .hint("check the path and that it may be listed")
                .because(e)
        })?;
        Ok(listed.objects)
    }
}

#[async_trait]
impl Source for FileSource {
    async fn seek(&mut self, start: Start) -> Result<()> {
        let mut seen = Seen::new();
        for rows in &start.state {
            from_rows(&mut seen, rows)?;
        }
        self.taken = start.offsets.get(PARTITION).and_then(Offset::at).unwrap_or(0);
        self.seen = seen;
        self.learned.clear();
        Ok(())
    }

    async fn poll(&mut self, limit: Limit) -> Result<Intake> {
        let files = self.list().await?;
        let nothing = files.is_empty();
        let mut survey = self.survey(files).await?;
        let fitting = Self::fitting(&survey.candidates, limit);
        let candidates = survey.candidates.len();
        survey.candidates.truncate(fitting);
        let (splits, taken) = self.take(&survey.candidates).await?;
        survey.candidates.truncate(taken.len());
        let more = taken.len() < candidates;
        let sealed = !taken.is_empty() || !survey.warned.is_empty();
        let mut rows = taken;
        rows.append(&mut survey.warned);
        if sealed {
            rows.extend(self.learned.iter().cloned());
            rows.extend(survey.learned.iter().cloned());
        }
        let state = if rows.is_empty() { None } else { Some(to_rows(&rows)?) };

        // From here on nothing can fail and nothing waits.
        let from = self.taken;
        self.taken += survey.candidates.len() as u64;
        match sealed {
            true => self.learned.clear(),
            false => self.learned.extend(survey.learned.iter().cloned()),
        }
        self.seen.extend(survey.learned);
        self.seen.extend(rows);
        let mut notes = survey.notes;
        if nothing {
            notes.extend(self.note_empty());
        }
        let (partition, to) = (PARTITION.to_string(), Offset::At(self.taken));
        // A change that was only spoken of moves no offset, but is worth an epoch that keeps it.
        let advance = Advance { partition, from: Offset::At(from), to };
        let retracted = survey.candidates.iter().filter(|c| c.replaces);
        Ok(Intake {
            advances: if sealed { vec![advance] } else { Vec::new() },
            splits,
            state,
            more,
            notes,
            retracted: retracted.map(|c| c.object.found().path.clone()).collect(),
        })
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.reader.clone()
    }

    async fn acknowledge(&mut self, _offsets: &Offsets) -> Result<()> {
        Ok(())
    }
}
