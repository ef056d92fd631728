//! Reading a sample the way a job would.
//!
//! In: the entry that a job is going to have, and a schema. Out: batches, and the rows that cannot
//! be decoded, counted by reason. It goes through the source itself, so that what is promised here
//! is what happens later.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use futures::StreamExt;
use sluice_core::{Config, Context, Limit, Result, Scan, SourceFactory, Start};

use super::super::Factory;

/// Bytes of rows, as they lie in memory, that are looked at: a second or two of work.
const SAMPLE_BYTES_MAX: usize = 96 * 1024 * 1024;

/// The least that is looked at in each file.
const FILE_BYTES_MIN: usize = 256 * 1024;

/// Rows that could not be decoded, of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejects {
    /// Why, without the text that differs from row to row.
    pub reason: String,
    /// How many.
    pub rows: u64,
    /// The whole reason of the first.
    pub example: String,
}

/// What reading a sample came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    /// Rows decoded.
    pub(super) rows: u64,
    /// Rows that were not, by reason.
    pub(super) rejects: Vec<Rejects>,
    /// Whether everything in the files was read.
    pub(super) complete: bool,
}

/// Reads the files of `config`, each from its beginning, and shows every batch to `each`.
pub(super) async fn read(
    config: &Config,
    context: &Context,
    files: usize,
    each: &mut (dyn FnMut(&RecordBatch) + Send),
) -> Result<Reading> {
    let mut source = Factory.build(config, context).await?;
    source.seek(Start::default()).await?;
    let mut reading = Reading { complete: true, ..Reading::default() };
    let mut kinds: BTreeMap<String, Rejects> = BTreeMap::new();
    let room = (SAMPLE_BYTES_MAX / files.max(1)).max(FILE_BYTES_MIN);
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    loop {
        let limit = Limit { rows: u64::MAX, bytes: u64::MAX, files: u64::MAX };
        let intake = source.poll(limit).await?;
        let (more, reader) = (intake.more, source.reader());
        for file in &intake.unreadable {
            count(&mut kinds, &file.reason);
        }
        for split in intake.splits {
            let used = taken.entry(split.object.clone()).or_default();
            let mut rows = reader.open(split, &Scan::default());
            while let Some(decoded) = rows.next().await {
                let decoded = decoded?;
                each(&decoded.rows);
                reading.rows += decoded.rows.num_rows() as u64;
                *used += decoded.rows.get_array_memory_size();
                decoded.rejected.iter().for_each(|row| count(&mut kinds, &row.reason));
                if *used >= room {
                    reading.complete = false;
                    break;
                }
            }
        }
        if !more {
            break;
        }
    }
    reading.rejects = kinds.into_values().collect();
    Ok(reading)
}

fn count(kinds: &mut BTreeMap<String, Rejects>, reason: &str) {
    let kind = kind_of(reason).to_string();
    let new = || Rejects { reason: kind.clone(), rows: 0, example: reason.to_string() };
    kinds.entry(kind.clone()).or_insert_with(new).rows += 1;
}

/// A reason without the text of the one value that it is about.
fn kind_of(reason: &str) -> &str {
    reason.split(" text=").next().unwrap_or(reason)
}
