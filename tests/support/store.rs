//! Object stores started for the tests: S3 by moto, with latency and faults on request, and
//! s3rver, which breaks the promise of conditional writes.
//!
//! Each is a child process that ends when the pipe to it closes, which is when the tests end,
//! however they end. They listen on loopback only, on a port of their own choice.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::{installed, root};

/// A running object store.
pub struct ObjectStore {
    endpoint: String,
    child: Child,
    _lifeline: ChildStdin,
}

/// What the store does wrong, per request.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// Waits this long before it answers.
    pub delay_ms: u32,
    /// Of 1,000 requests, how many get a 500 instead of being done.
    pub refused: u32,
    /// Of 1,000 requests, how many are done and get a 500 all the same.
    pub lost: u32,
}

/// The bucket that a store has from the start.
pub const HELD: &str = "held";

/// Stores that the tests share: each works on one core only.
const SHARED: usize = 2;

/// An S3 store that the tests share in turn; each takes a bucket of its own.
pub fn s3() -> &'static ObjectStore {
    static STORES: [OnceLock<ObjectStore>; SHARED] = [const { OnceLock::new() }; SHARED];
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed) % SHARED;
    STORES[turn].get_or_init(|| ObjectStore::s3(Faults::default()))
}

impl ObjectStore {
    /// An S3 store of moto's with these faults.
    pub fn s3(faults: Faults) -> Self {
        Self::start(moto(faults))
    }

    /// An S3 store of moto's whose bucket [`HELD`] holds the files of a folder, at the same path
    /// (manifests name files so) and as old as they are.
    pub fn holding(folder: &Path) -> Self {
        let mut command = moto(Faults::default());
        command.arg(HELD).arg(folder);
        Self::start(command)
    }

    /// The store that lets two creates of one name both pass.
    pub fn s3rver() -> Self {
        let mut command = Command::new(installed(".venv/bin/node"));
        command.arg(root().join("tests/clients/s3rver.js"));
        command.env("NODE_PATH", installed(".node/node_modules"));
        Self::start(command)
    }

    /// The program prints the address it listens on as its first line.
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lifeline = child.stdin.take().unwrap();
        let mut endpoint = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
        assert!(endpoint.starts_with("http://"), "the object store did not start: {command:?}");
        Self { endpoint: endpoint.trim().to_string(), child, _lifeline: lifeline }
    }

    /// A new, empty bucket.
    pub fn bucket(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bucket-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let script = root().join("tests/clients/bucket.py");
        super::clients::python(&script, &[&name], &self.env());
        name
    }

    /// What a client needs in its environment.
    pub fn env(&self) -> BTreeMap<String, String> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "S3RVER"),
            ("AWS_SECRET_ACCESS_KEY", "S3RVER"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ]
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .into()
    }
}

fn moto(faults: Faults) -> Command {
    let mut command = Command::new(installed(".venv/bin/python"));
    command.arg(root().join("tests/clients/object_store.py"));
    for number in [faults.delay_ms, faults.refused, faults.lost] {
        command.arg(number.to_string());
    }
    command
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
