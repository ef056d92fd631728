//! Finished pages of row groups that are still being written: in memory up to a limit, beyond it in
//! a temporary file.
//!
//! In: pages of all open files of one writer. Out: the same pages, when their row group ends. So
//! row groups are as large beside little memory as beside much. The file has no name and goes
//! with the writer, also when the process is killed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
pub(super) use parquet::arrow::arrow_writer::PageKey;
use parquet::arrow::arrow_writer::{PageStore, PageStoreArgs, PageStoreFactory};
use parquet::errors::{ParquetError, Result};

/// The pages of all files of one writer.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    held: Arc<Mutex<Held>>,
}

#[derive(Debug)]
struct Held {
    /// Bytes of pages in memory, and how many there may be.
    resident: usize,
    resident_max: usize,
    /// Made with the first page that has no room.
    file: Option<Arc<File>>,
    /// Where the next page goes in the file, and how many pages there are still wanted.
    end: u64,
    spilled: usize,
}

/// Where a page lies.
#[derive(Debug)]
enum Place {
    Memory(Bytes),
    File { at: u64, len: usize },
    Taken,
}

impl Spool {
    /// A spool that keeps at most `resident_max` bytes in memory.
    pub(super) fn new(resident_max: usize) -> Self {
        let held = Held { resident: 0, resident_max, file: None, end: 0, spilled: 0 };
        Self { held: Arc::new(Mutex::new(held)) }
    }

    /// The pages of one column of a row group; none yet.
    pub(super) fn pages(&self) -> Pages {
        Pages { spool: self.clone(), places: Vec::new(), resident: 0 }
    }

    fn put(&self, page: Bytes) -> std::io::Result<Place> {
        let mut held = self.held.lock();
        if held.resident + page.len() <= held.resident_max {
            held.resident += page.len();
            return Ok(Place::Memory(page));
        }
        let file = match &held.file {
            Some(file) => file.clone(),
            None => {
                let file = Arc::new(tempfile::tempfile()?);
                held.file = Some(file.clone());
                file
            }
        };
        let (at, len) = (held.end, page.len());
        file.write_all_at(&page, at)?;
        held.end += len as u64;
        held.spilled += 1;
        Ok(Place::File { at, len })
    }

    fn take(&self, place: Place) -> std::io::Result<Bytes> {
        let mut held = self.held.lock();
        match place {
            Place::Memory(page) => {
                held.resident -= page.len();
                Ok(page)
            }
            Place::File { at, len } => {
                let mut page = vec![0; len];
                if let Some(file) = &held.file {
                    file.read_exact_at(&mut page, at)?;
                }
                held.gone();
                Ok(page.into())
            }
            Place::Taken => Ok(Bytes::new()),
        }
    }
}

impl Held {
    /// A page of the file is not wanted any more. An empty file is begun anew.
    fn gone(&mut self) {
        self.spilled -= 1;
        if self.spilled == 0 {
            self.end = 0;
        }
    }
}

impl PageStoreFactory for Spool {
    fn create(&self, _args: &PageStoreArgs<'_>) -> Result<Box<dyn PageStore>> {
        Ok(Box::new(self.pages()))
    }
}

/// The pages of one column of one row group.
pub(super) struct Pages {
    spool: Spool,
    places: Vec<Place>,
    resident: usize,
}

impl PageStore for Pages {
    fn put(&mut self, page: Bytes) -> Result<PageKey> {
        let place = self.spool.put(page).map_err(failed)?;
        if let Place::Memory(page) = &place {
            self.resident += page.len();
        }
        self.places.push(place);
        Ok(PageKey::new(self.places.len() as u64 - 1))
    }

    fn take(&mut self, key: PageKey) -> Result<Bytes> {
        let place = usize::try_from(key.get()).ok().and_then(|at| self.places.get_mut(at));
        let place = place.ok_or_else(|| ParquetError::General("no such page".to_string()))?;
        let place = std::mem::replace(place, Place::Taken);
        if let Place::Memory(page) = &place {
            self.resident -= page.len();
        }
        self.spool.take(place).map_err(failed)
    }

    fn memory_size(&self) -> usize {
        self.resident
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let mut held = self.spool.held.lock();
        for place in self.places.drain(..) {
            match place {
                Place::Memory(page) => held.resident -= page.len(),
                Place::File { .. } => held.gone(),
                Place::Taken => {}
            }
        }
    }
}

fn failed(error: std::io::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(byte: u8) -> Bytes {
        Bytes::from(vec![byte; 10])
    }

    #[test]
    fn pages_come_back_from_memory_and_from_the_file() {
        let spool = Spool::new(25);
        let (mut one, mut other) = (spool.pages(), spool.pages());
        let keys: Vec<PageKey> = (0..4).map(|byte| one.put(page(byte)).unwrap()).collect();
        let key = other.put(page(9)).unwrap();
        assert_eq!((one.memory_size(), other.memory_size()), (20, 0));
        let spilled = |held: &Held| (held.spilled, held.end);
        assert_eq!(spilled(&spool.held.lock()), (3, 30));
        assert_eq!(other.take(key).unwrap(), page(9));
        for (byte, key) in keys.iter().enumerate().rev() {
            assert_eq!(one.take(*key).unwrap(), page(byte as u8));
        }
        assert_eq!((one.memory_size(), spool.held.lock().end), (0, 0), "the file is begun anew");
    }

    #[test]
    fn pages_that_nobody_takes_make_room() {
        let spool = Spool::new(10);
        let mut pages = spool.pages();
        for byte in 0..3 {
            pages.put(page(byte)).unwrap();
        }
        drop(pages);
        let held = spool.held.lock();
        assert_eq!((held.resident, held.spilled, held.end), (0, 0, 0));
    }
}
