//! Object stores started for the tests: S3 and Google's by moto, Azure's by azurite, with latency
//! and faults on request, and stores that break the promise of conditional writes.
//!
//! Each is a child process that ends when the pipe to it closes, which is when the tests end,
//! however they end. They listen on loopback only, on a port of their own choice.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::clients::python;
use super::proxy::Proxy;
use super::{installed, root};

/// Whose protocol a store speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    S3,
    Gcs,
    Azure,
}

/// All of them.
pub const DIALECTS: [Dialect; 3] = [Dialect::S3, Dialect::Gcs, Dialect::Azure];

/// A running object store.
pub struct ObjectStore {
    dialect: Dialect,
    endpoint: String,
    child: Child,
    lifeline: ChildStdin,
    said: BufReader<ChildStdout>,
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

/// How requests go wrong from some moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// Refused: 500, 503, 429.
    Errors,
    /// Done, seconds later.
    Slow,
    /// Done, and answered with a 500.
    Lands,
    /// Done or not, and never answered.
    TimeOuts,
    /// Each of them.
    Mixed,
}

impl Trouble {
    fn name(self) -> &'static str {
        match self {
            Trouble::None => "none",
            Trouble::Errors => "errors",
            Trouble::Slow => "slow",
            Trouble::Lands => "lands-but-500",
            Trouble::TimeOuts => "timeouts",
            Trouble::Mixed => "mixed",
        }
    }
}

/// A request that a store refused in an outage.
#[derive(Debug)]
pub struct Refused {
    /// Its method and URL.
    pub request: String,
    /// How often it was refused.
    pub times: usize,
    /// Seconds until it came again, each time; the last time it may have been let through.
    pub pauses: Vec<f64>,
}

/// The bucket of a store that holds something from the start.
pub const HELD: &str = "held";

/// Stores of a dialect that the tests share: each works on one core only.
const SHARED: usize = 2;

/// The account and the key of every azurite, as everybody knows them.
const AZURITE: [&str; 2] = [
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
];

/// A store that the tests share in turn; each takes a bucket of its own.
pub fn shared(dialect: Dialect) -> &'static ObjectStore {
    static STORES: [[OnceLock<ObjectStore>; SHARED]; DIALECTS.len()] =
        [const { [const { OnceLock::new() }; SHARED] }; DIALECTS.len()];
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed) % SHARED;
    STORES[dialect as usize][turn].get_or_init(|| ObjectStore::new(dialect, Faults::default()))
}

impl ObjectStore {
    /// A store with these faults.
    pub fn new(dialect: Dialect, faults: Faults) -> Self {
        Self::start(dialect, server(dialect, false, faults))
    }

    /// A store whose bucket [`HELD`] holds the files of a folder, at the same path (manifests name
    /// files so) and years old.
    pub fn holding(dialect: Dialect, folder: &Path) -> Self {
        let mut command = server(dialect, false, Faults::default());
        if dialect != Dialect::Azure {
            command.arg(HELD).arg(folder);
            return Self::start(dialect, command);
        }
        // Nobody can tell Azure how old a blob is, so the store tells an old time while it is filled.
        command.arg("old");
        let mut store = Self::start(dialect, command);
        store.make(HELD);
        let script = root().join("tests/clients/fill.py");
        let folder = folder.display().to_string();
        python(&script, &[&dialect.url(HELD), &folder], &store.env());
        writeln!(store.lifeline, "now").unwrap();
        store
    }

    /// A store that lets two creates of one name both pass.
    pub fn unconditional(dialect: Dialect) -> Self {
        if dialect != Dialect::S3 {
            return Self::start(dialect, server(dialect, true, Faults::default()));
        }
        Self::start(dialect, node("s3rver.js"))
    }

    /// The program prints the address it listens on as its first line.
    fn start(dialect: Dialect, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lifeline = child.stdin.take().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut endpoint = String::new();
        said.read_line(&mut endpoint).unwrap();
        assert!(endpoint.starts_with("http://"), "the object store did not start: {command:?}");
        Self { dialect, endpoint: endpoint.trim().to_string(), child, lifeline, said }
    }

    /// An outage: after so many more requests it answers nothing but 503 and 429, in turn, for a
    /// while.
    pub fn outage(&mut self, requests: u32, ms: u32) {
        assert_ne!(self.dialect, Dialect::Azure, "azurite has no outages");
        writeln!(self.lifeline, "outage {requests} {ms}").unwrap();
    }

    /// What it has refused in its outage.
    pub fn refused(&mut self) -> Vec<Refused> {
        writeln!(self.lifeline, "refused").unwrap();
        let mut told = String::new();
        self.said.read_line(&mut told).unwrap();
        let told: Vec<(String, usize, Vec<f64>)> = serde_json::from_str(&told).unwrap();
        let refused = |(request, times, pauses)| Refused { request, times, pauses };
        told.into_iter().map(refused).collect()
    }

    /// From now on, of 1,000 requests so many go wrong.
    pub fn trouble(&mut self, kind: Trouble, per_mille: u32, seed: u64) {
        assert_ne!(self.dialect, Dialect::Azure, "azurite has no such faults");
        writeln!(self.lifeline, "faults {} {per_mille} {seed}", kind.name()).unwrap();
    }

    /// How many requests went wrong so, by kind.
    pub fn struck(&mut self) -> BTreeMap<String, u64> {
        writeln!(self.lifeline, "struck").unwrap();
        let mut told = String::new();
        self.said.read_line(&mut told).unwrap();
        serde_json::from_str(&told).unwrap()
    }

    /// The store as it is seen through a proxy, by all who ask it where it is from now on.
    pub fn behind_a_proxy(mut self) -> (Self, Proxy) {
        let (_, port) = self.endpoint.rsplit_once(':').unwrap();
        let proxy = Proxy::to(port.parse().unwrap());
        self.endpoint = format!("http://127.0.0.1:{}", proxy.port());
        (self, proxy)
    }

    /// The URL of a new, empty bucket.
    pub fn bucket(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bucket-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.make(&name);
        self.dialect.url(&name)
    }

    fn make(&self, bucket: &str) {
        let script = root().join("tests/clients/bucket.py");
        // Moto speaks S3 behind its header map too.
        let env = match self.dialect {
            Dialect::Azure => self.env(),
            _ => self.s3_env(),
        };
        python(&script, &[self.dialect.scheme(), bucket], &env);
    }

    /// What a client needs in its environment.
    pub fn env(&self) -> BTreeMap<String, String> {
        match self.dialect {
            Dialect::S3 => self.s3_env(),
            Dialect::Gcs => {
                let account = serde_json::json!({
                    "gcs_base_url": self.endpoint,
                    "disable_oauth": true,
                    "client_email": "",
                    "private_key": "",
                    "private_key_id": "",
                });
                variables(&[("GOOGLE_SERVICE_ACCOUNT_KEY", &account.to_string())])
            }
            Dialect::Azure => variables(&[
                ("AZURE_STORAGE_ACCOUNT_NAME", AZURITE[0]),
                ("AZURE_STORAGE_ACCOUNT_KEY", AZURITE[1]),
                ("AZURE_STORAGE_USE_EMULATOR", "true"),
                ("AZURITE_BLOB_STORAGE_URL", &self.endpoint),
            ]),
        }
    }

    /// What a job says of a bucket under `storage:`.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let endpoint = self.endpoint.as_str();
        match self.dialect {
            Dialect::S3 => variables(&[
                ("endpoint", endpoint),
                ("region", "us-east-1"),
                ("access_key_id", "S3RVER"),
                ("secret_access_key", "S3RVER"),
            ]),
            Dialect::Gcs => {
                let key = &self.env()["GOOGLE_SERVICE_ACCOUNT_KEY"];
                variables(&[("service_account_key", key)])
            }
            Dialect::Azure => variables(&[
                ("endpoint", &format!("{endpoint}/{}", AZURITE[0])),
                ("account_name", AZURITE[0]),
                ("account_key", AZURITE[1]),
            ]),
        }
    }

    fn s3_env(&self) -> BTreeMap<String, String> {
        variables(&[
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "S3RVER"),
            ("AWS_SECRET_ACCESS_KEY", "S3RVER"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ])
    }
}

impl Dialect {
    fn scheme(self) -> &'static str {
        match self {
            Dialect::S3 => "s3",
            Dialect::Gcs => "gs",
            Dialect::Azure => "az",
        }
    }

    /// The URL of a bucket.
    pub fn url(self, bucket: &str) -> String {
        format!("{}://{bucket}", self.scheme())
    }
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn server(dialect: Dialect, unconditional: bool, faults: Faults) -> Command {
    let numbers = [faults.delay_ms, faults.refused, faults.lost].map(|number| number.to_string());
    if dialect == Dialect::Azure {
        let mut command = node("azurite.js");
        command.args(numbers).args(unconditional.then_some("unconditional"));
        return command;
    }
    let mut command = Command::new(installed(".venv/bin/python"));
    command.arg(root().join("tests/clients/object_store.py"));
    command.arg(match (dialect, unconditional) {
        (Dialect::S3, _) => "s3",
        (_, false) => "gcs",
        (_, true) => "gcs-unconditional",
    });
    command.args(numbers);
    command
}

fn node(script: &str) -> Command {
    let mut command = Command::new(installed(".venv/bin/node"));
    command.arg(root().join("tests/clients").join(script));
    command.env("NODE_PATH", installed(".node/node_modules"));
    command
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
