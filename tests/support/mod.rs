//! What the tests of the binary share: running it, places for a lake, object stores and brokers of
//! their own, a bad network, files of other writers, and other readers. It knows nothing about what is right; the tests do.

pub mod cli;
pub mod clients;
pub mod csv;
pub mod files;
pub mod kafka;
pub mod place;
pub mod proxy;
pub mod registry;
pub mod scrape;
pub mod store;
pub mod wait;

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Real data beside the checkout; none says so on stderr, and the test ends there.
pub fn shared_data(name: &str) -> Option<PathBuf> {
    let folder = root().join("../shared/data").join(name);
    if folder.is_dir() {
        return folder.canonicalize().ok();
    }
    eprintln!("skipped: no shared data at {}", folder.display());
    None
}

/// A program or module that `tests/setup` installs; fails clearly when it has not been run.
pub fn installed(path: &str) -> PathBuf {
    let found = root().join("tests").join(path);
    assert!(found.exists(), "{} is not there: run tests/setup first", found.display());
    found
}
