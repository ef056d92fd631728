//! Numbered objects of one folder, `<20 digits>.json`, and a hint where the newest is.
//!
//! The newest is found forward from the hint; a hint that is missing, wrong or far behind costs
//! one listing and nothing else. What the objects hold is not looked at here.

use bytes::Bytes;
use object_store::ObjectMeta;
use object_store::path::Path;

use sluice_core::Result;

use super::Location;

/// Steps forward from the hint before one listing is cheaper. The hint is moved every epoch, so
/// it is rarely more than two behind.
const FORWARD_MAX: u64 = 32;

/// The name of the hint.
const HINT: &str = "_last";

/// Digits of a number: as many as the largest `u64` has, so that names sort as numbers.
const DIGITS: usize = 20;

/// A folder of numbered objects.
#[derive(Debug, Clone)]
pub struct Series {
    folder: Location,
}

impl Series {
    /// The series in `folder`.
    pub fn new(folder: Location) -> Self {
        Self { folder }
    }

    /// The folder.
    pub fn folder(&self) -> &Location {
        &self.folder
    }

    /// The path of object `n`.
    pub fn path(&self, n: u64) -> Path {
        self.companion(n, ".json")
    }

    /// The path of an object that belongs to `n`: its number followed by `rest`.
    pub fn companion(&self, n: u64, rest: &str) -> Path {
        self.folder.path.clone().join(format!("{n:0DIGITS$}{rest}"))
    }

    /// The number at the start of an object's name, and the rest of the name.
    pub fn parse(path: &Path) -> Option<(u64, &str)> {
        let name = path.filename()?;
        let (digits, rest) = (name.get(..DIGITS)?, name.get(DIGITS..)?);
        let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
        Some((digits.parse().ok().filter(|_| all_digits)?, rest))
    }

    /// Whether object `n` is there.
    pub async fn has(&self, n: u64) -> Result<bool> {
        Ok(self.folder.store.head(&self.path(n)).await?.is_some())
    }

    /// The largest number, none when there is no object.
    pub async fn newest(&self) -> Result<Option<u64>> {
        let Some(hint) = self.hint().await? else { return self.newest_listed(None).await };
        // Two more are looked at with it: the hint of published records is one behind.
        let after = async |n: u64| self.has(hint.saturating_add(n)).await;
        let (here, first, mut next) = futures::try_join!(after(0), after(1), after(2))?;
        if !here {
            return self.newest_listed(None).await;
        }
        if !first {
            return Ok(Some(hint));
        }
        let mut newest = hint + 1;
        while next {
            newest += 1;
            if newest - hint >= FORWARD_MAX {
                return self.newest_listed(Some(newest)).await;
            }
            next = self.has(newest + 1).await?;
        }
        Ok(Some(newest))
    }

    /// Says that `n` is the newest, or close to it. May be lost, and never goes back: whoever
    /// was frozen for long must not lead readers to an object that others have left behind.
    pub async fn set_hint(&self, n: u64) -> Result<()> {
        if self.hint().await?.is_some_and(|hint| hint >= n) {
            return Ok(());
        }
        let path = self.folder.path.clone().join(HINT);
        self.folder.store.put_hint(&path, Bytes::from(n.to_string())).await
    }

    /// Everything whose name starts with a number, with that number and the rest of the name,
    /// sorted: the objects (rest `.json`) and what belongs to them.
    pub async fn listed(&self) -> Result<Vec<(u64, String, ObjectMeta)>> {
        let found = self.folder.store.list(&self.folder.path).await?;
        Ok(found.into_iter().filter_map(numbered).collect())
    }

    async fn hint(&self) -> Result<Option<u64>> {
        let path = self.folder.path.clone().join(HINT);
        let bytes = self.folder.store.get(&path).await?;
        let text = bytes.and_then(|b| String::from_utf8(b.to_vec()).ok());
        Ok(text.and_then(|t| t.parse().ok()).filter(|n| *n < u64::MAX))
    }

    async fn newest_listed(&self, after: Option<u64>) -> Result<Option<u64>> {
        let store = &self.folder.store;
        let found = match after {
            Some(n) => store.list_after(&self.folder.path, &self.path(n)).await?,
            None => store.list(&self.folder.path).await?,
        };
        let objects = found.into_iter().filter_map(numbered).filter(|(_, rest, _)| rest == ".json");
        Ok(objects.map(|(n, _, _)| n).max().or(after))
    }
}

fn numbered(meta: ObjectMeta) -> Option<(u64, String, ObjectMeta)> {
    let (n, rest) = Series::parse(&meta.location).map(|(n, rest)| (n, rest.to_string()))?;
    Some((n, rest, meta))
}
