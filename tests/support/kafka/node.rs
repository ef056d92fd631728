//! One node of Apache Kafka, run with the jars that `tests/setup` fetches: KRaft, broker and
//! controller in one process, on loopback.
//!
//! In: its number, its ports, who votes. Out: a process that can be killed, stopped and started again
//! on what it wrote. It ends with the tests, however they end. Clients are not known here.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::proxy::free_port;
use crate::support::{cli, installed, root};

/// The cluster's id; one for all, for none ever meets another.
const CLUSTER: &str = "c2x1aWNlLXRlc3RzLXh4eA";

/// Small, and quick to start rather than quick in the long run: the tests' load is small, and what is
/// to be tested wants the processors too.
const JVM: [&str; 5] = [
    "-Xmx512m",
    "-Xms128m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
];

/// Settings of every node. Logs are looked after often, so that retention and compaction happen while
/// a test waits; buffers are small; partitions of internal topics are few.
const SETTINGS: &str = "process.roles=broker,controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENT
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
log.retention.check.interval.ms=500
log.initial.task.delay.ms=500
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=2
num.io.threads=4
num.replica.fetchers=1
broker.heartbeat.interval.ms=500
";

/// A listener beside the one of every node: clients are told to come back to another port than the
/// one it listens on, which is a proxy's.
#[derive(Clone, Copy)]
pub struct Detour {
    pub listens: u16,
    pub advertised: u16,
}

/// A listener that speaks TLS and wants a name and a password.
#[derive(Clone)]
pub struct Secure {
    pub port: u16,
    /// Key and certificate in one file, PEM.
    pub store: PathBuf,
    pub user: String,
    pub password: String,
}

/// Which ports a node has.
#[derive(Clone)]
pub struct Ports {
    pub client: u16,
    pub controller: u16,
    pub detours: Vec<Detour>,
    pub secure: Option<Secure>,
}

impl Ports {
    pub fn free() -> Self {
        let (client, controller) = (free_port(), free_port());
        Self { client, controller, detours: Vec::new(), secure: None }
    }
}

/// One node, running or not.
pub struct Node {
    folder: PathBuf,
    /// Whether the folder goes when the process is let go: then it cannot be started again.
    removes: bool,
    process: Option<Process>,
}

struct Process {
    wrapper: Child,
    id: u32,
}

impl Node {
    /// Node `number` of those whose `ports` these are, from 0, with its log in `folder`.
    pub fn new(number: usize, ports: &[Ports], folder: &Path, removes: bool) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("properties"), properties(number, ports, folder)).unwrap();
        let folder = folder.to_path_buf();
        Self { folder, removes, process: None }
    }

    /// The command that makes its log's folder what a node can start on.
    pub fn format(&self) -> Child {
        let properties = self.folder.join("properties");
        let mut command = java("kafka.tools.StorageTool");
        command.args(["format", "--cluster-id", CLUSTER, "--config"]).arg(properties);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        command.spawn().unwrap()
    }

    /// Starts it; whether it can be reached is for a client to find out.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "the node runs already");
        let mut run = java("kafka.Kafka");
        run.arg(self.folder.join("properties"));
        let mut command = Command::new("sh");
        command.arg(root().join("tests/clients/lifeline.sh"));
        command.arg(if self.removes { self.folder.as_os_str() } else { "".as_ref() });
        command.arg(self.folder.join("output")).arg(run.get_program()).args(run.get_args());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut wrapper = command.spawn().unwrap();
        let mut id = String::new();
        BufReader::new(wrapper.stdout.take().unwrap()).read_line(&mut id).unwrap();
        self.process = Some(Process { wrapper, id: id.trim().parse().unwrap() });
    }

    /// Ends it at once, as a failing machine would.
    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // The wrapper's standard input is closed by waiting for it; it kills the node and ends.
        let ended = process.wrapper.wait().unwrap();
        assert!(ended.success() || ended.code().is_some(), "{ended:?}");
    }

    /// Sends it a signal: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        cli::signal(self.process.as_ref().map_or(0, |process| process.id), name);
    }

    /// Whether its process is there.
    pub fn lives(&self) -> bool {
        let id = self.process.as_ref().map_or(0, |process| process.id);
        // One that has ended and was not waited for is there still, as a zombie. Its command line
        // would not tell: that of one that begins is empty for a moment as well.
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    }

    /// What it said, for messages.
    pub fn said(&self) -> String {
        let bytes = std::fs::read(self.folder.join("output")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether the jars and what runs them are there.
pub fn can_run() -> bool {
    let jars = root().join("tests/.kafka/.done").exists();
    let tried = Command::new("java").arg("-version").stderr(Stdio::null()).status();
    jars && tried.is_ok_and(|status| status.success())
}

fn java(class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(JVM).arg("-cp").arg(installed(".kafka").join("*")).arg(class);
    command
}

fn properties(number: usize, ports: &[Ports], folder: &Path) -> String {
    let own = &ports[number];
    let voter = |(n, ports): (usize, &Ports)| format!("{}@127.0.0.1:{}", n + 1, ports.controller);
    let voters: Vec<String> = ports.iter().enumerate().map(voter).collect();
    let mut listeners = format!("CLIENT://127.0.0.1:{}", own.client);
    let mut advertised = listeners.clone();
    let mut protocols = "CONTROLLER:PLAINTEXT,CLIENT:PLAINTEXT".to_string();
    for (n, Detour { listens, advertised: told }) in own.detours.iter().enumerate() {
        let _ = write!(listeners, ",DETOUR{n}://127.0.0.1:{listens}");
        let _ = write!(advertised, ",DETOUR{n}://127.0.0.1:{told}");
        let _ = write!(protocols, ",DETOUR{n}:PLAINTEXT");
    }
    let mut more = String::new();
    if let Some(secure) = &own.secure {
        let _ = write!(listeners, ",SECURE://127.0.0.1:{}", secure.port);
        let _ = write!(advertised, ",SECURE://127.0.0.1:{}", secure.port);
        protocols += ",SECURE:SASL_SSL";
        more = secured(secure);
    }
    let replicas = ports.len().min(3);
    let in_sync = replicas.div_ceil(2);
    // A restarted node is let in again when the life before is over for the others: soon where nodes
    // are killed on purpose.
    let session_ms = 3_000;
    format!(
        "{SETTINGS}node.id={}
controller.quorum.voters={}
listeners={listeners},CONTROLLER://127.0.0.1:{}
advertised.listeners={advertised}
listener.security.protocol.map={protocols}
log.dirs={}
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
broker.session.timeout.ms={session_ms}
{more}",
        number + 1,
        voters.join(","),
        own.controller,
        folder.join("log").display(),
    )
}

/// Settings of the listener that wants a name and a password.
fn secured(Secure { store, user, password, .. }: &Secure) -> String {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    format!(
        "listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={}
listener.name.secure.sasl.enabled.mechanisms=PLAIN
listener.name.secure.plain.sasl.jaas.config={module} required user_{user}=\"{password}\";
",
        store.display(),
    )
}
