//! The `files` source: what is there, what is new, what has changed.
//!
//! In: listings and the state of sealed epochs. Out: intakes of whole files, cut into splits. A
//! file is known by its path and taken once; it is never divided between epochs. Nothing is
//! remembered until a poll is done, so that one that fails or is dropped changes nothing.

use std::mem;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::ObjectMeta;
use sluice_core::{
    Advance, Clock, Context, Error, Intake, Limit, Offset, Offsets, Reader, Result, Source, Start,
};
use sluice_lake::store::{Location, Scheme};

use super::config::{Decoding, OnChangedFile, Settings};
use super::cut::ends_in_quotes;
use super::inspect::{codec_of, learn};
use super::object::{Found, Object};
use super::pattern::Pattern;
use super::reader::FileReader;
use super::seen::{Seen, Taken, Verdict, from_rows, judge, to_rows};
use super::take::{Candidate, Take};
use crate::format::json;

/// The one partition: files, counted as they are taken.
const PARTITION: &str = "files";

/// Bytes of a row, for the limit of rows, before a file is opened.
const ROW_BYTES: u64 = 64;

/// A source of files.
#[derive(Debug)]
pub(super) struct FileSource {
    pub(super) settings: Settings,
    /// A hash of the settings that decide whether a file can be read.
    pub(super) described: String,
    roots: Vec<Root>,
    clock: Arc<dyn Clock>,
    pub(super) reader: Arc<FileReader>,
    seen: Seen,
    /// Files taken so far.
    pub(super) taken: u64,
    /// Whether the next poll reads everything before it takes it.
    careful: bool,
    /// What the last listing found and no poll has taken yet.
    waiting: Vec<Candidate>,
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

/// What a listing comes to.
#[derive(Debug, Default)]
struct Survey {
    candidates: Vec<Candidate>,
    /// Candidates for later polls.
    waiting: Vec<Candidate>,
    /// Whether no file is there at all.
    empty: bool,
    /// Changes that were spoken of: they are sealed, so that they are spoken of once.
    warned: Vec<(String, Taken)>,
    /// Times that changed and contents that did not.
    learned: Vec<(String, Taken)>,
    notes: Vec<String>,
}

impl FileSource {
    /// The source `name` over `roots`; `described` is a hash of how files are read.
    pub(super) fn new(
        name: &str,
        settings: Settings,
        described: String,
        roots: Vec<Root>,
        context: &Context,
    ) -> Self {
        let stores = roots.iter().map(|root| root.location.store.clone()).collect();
        let (decoding, memory) = (settings.decoding.clone(), context.memory.as_ref());
        let reader = Arc::new(FileReader::new(name, stores, decoding, memory));
        let clock = context.clock.clone();
        Self {
            settings,
            described,
            roots,
            clock,
            reader,
            seen: Seen::new(),
            taken: 0,
            careful: false,
            waiting: Vec::new(),
            learned: Vec::new(),
            told_empty: false,
        }
    }

    /// Every file that is meant, once, by path.
    async fn list(&self) -> Result<Vec<Found>> {
        let mut files = Vec::new();
        for (i, root) in self.roots.iter().enumerate() {
            files.extend(root.list(i, self.settings.format.endings()).await?);
        }
        // The sort is stable: of several roots that have a file, the first keeps it.
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|again, first| again.path == first.path);
        Ok(files)
    }

    /// Compares a listing with what was taken.
    async fn survey(&self, files: Vec<Found>) -> Result<Survey> {
        let youngest = self.clock.wall_ms().saturating_sub(self.settings.min_age_ms);
        let mut survey = Survey { empty: files.is_empty(), ..Survey::default() };
        for found in files {
            let store = &self.roots[found.root].location.store;
            let taken = self.seen.get(&found.path);
            let local = store.scheme() == Scheme::Local;
            let mut verdict = judge(&found, taken, local, &self.described);
            let old_enough = self.settings.min_age_ms == 0 || found.modified_ms <= youngest;
            if verdict == Verdict::Same || !old_enough {
                continue;
            }
            let object = Object::new(store.clone(), found.clone())?;
            let Some(taken) = taken.filter(|_| verdict != Verdict::New) else {
                // One that could not be read leaves a rejected row, which goes with the others.
                let replaces = taken.is_some() && self.settings.on_changed_file.replaces();
                survey.candidates.push(Candidate { object, replaces, tail: None });
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
        if codec_of(self.settings.compression, &found.path).is_some() {
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
            [b'\n', _] | [_, b'\n' | b'\r'] | [_]
                if !ends_in_quotes(object, &self.settings, taken.size).await? =>
            {
                Ok(())
            }
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

    /// What a poll says instead of taking anything, once rows had keys that are to be columns.
    fn wider(&self) -> Option<Intake> {
        let Decoding::Json(layout) = &self.settings.decoding else { return None };
        let keys = layout.keys().met();
        if keys.is_empty() {
            return None;
        }
        let columns = learn(keys.iter().map(|key| (key.as_str(), "string")), &self.settings);
        let learned = self.settings.learned.len() + columns.len();
        let full = (learned >= json::LEARNED_MAX).then(|| {
            format!("no more columns are added, other keys stay in `_rescued` columns={learned}")
        });
        Some(Intake { columns, more: true, notes: full.into_iter().collect(), ..Intake::default() })
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
    pub(super) async fn list(&self, number: usize, endings: &[&str]) -> Result<Vec<Found>> {
        let Location { store, path } = &self.location;
        if self.pattern.is_plain()
            && !path.as_ref().is_empty()
            && let Some(meta) = store.head(path).await?
        {
            return Ok(vec![Found::new(number, store, meta)]);
        }
        let mut files = Vec::new();
        let listed = match self.pattern.is_flat() {
            true => self.list_folder().await?,
            false => store.list(path).await?,
        };
        let base = if path.as_ref().is_empty() { String::new() } else { format!("{path}/") };
        for meta in listed {
            let relative = meta.location.as_ref().strip_prefix(&base);
            if relative.is_some_and(|relative| self.pattern.admits(relative, endings)) {
                files.push(Found::new(number, store, meta));
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
        self.careful = start.careful;
        self.waiting.clear();
        self.learned.clear();
        Ok(())
    }

    async fn poll(&mut self, limit: Limit) -> Result<Intake> {
        if let Some(wider) = self.wider() {
            return Ok(wider);
        }
        let (mut survey, take) = loop {
            let listed = self.waiting.is_empty();
            let mut survey = match listed {
                true => self.survey(self.list().await?).await?,
                false => Survey { candidates: mem::take(&mut self.waiting), ..Survey::default() },
            };
            let rest = survey.candidates.split_off(Self::fitting(&survey.candidates, limit));
            match self.take(&survey.candidates, self.careful).await {
                Ok(take) => {
                    survey.waiting = survey.candidates.split_off(take.taken.len());
                    survey.waiting.extend(rest);
                    break (survey, take);
                }
                // The listing is old: what it says may not be true any more.
                Err(_) if !listed => {}
                Err(error) => return Err(error),
            }
        };
        let Take { splits, taken, unreadable, columns } = take;
        let more = !survey.waiting.is_empty();
        let sealed = !taken.is_empty() || !survey.warned.is_empty();
        let mut rows = taken;
        rows.append(&mut survey.warned);
        if sealed {
            rows.extend(self.learned.iter().cloned());
            rows.extend(survey.learned.iter().cloned());
        }
        let state = if rows.is_empty() { None } else { Some(to_rows(&rows)?) };

        // From here on nothing can fail and nothing waits.
        self.careful = false;
        self.waiting = survey.waiting;
        let from = self.taken;
        self.taken += survey.candidates.len() as u64;
        match sealed {
            true => self.learned.clear(),
            false => self.learned.extend(survey.learned.iter().cloned()),
        }
        self.seen.extend(survey.learned);
        self.seen.extend(rows);
        let mut notes = survey.notes;
        if survey.empty {
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
            unreadable,
            columns,
            ..Intake::default()
        })
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.reader.clone()
    }

    async fn acknowledge(&mut self, _offsets: &Offsets) -> Result<()> {
        Ok(())
    }
}
