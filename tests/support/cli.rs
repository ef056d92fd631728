//! Running the built binary: to its end, or as a process to be killed, frozen and thawed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::wait;

/// How long one command may take; far more than any does on a busy machine.
const SECONDS_MAX: u64 = 300;

/// One call of `sluice`, not started yet.
#[derive(Clone, Default)]
pub struct Sluice {
    args: Vec<String>,
    env: BTreeMap<String, String>,
    folder: Option<PathBuf>,
    input: Option<String>,
}

/// What a finished call said.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A call that is under way. It is killed when dropped.
pub struct Running {
    child: Child,
    log: tempfile::TempDir,
    shown: String,
}

impl Sluice {
    pub fn new<S: AsRef<OsStr>>(args: &[S]) -> Self {
        let args = args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()).collect();
        Self { args, ..Self::default() }
    }

    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.insert(key.to_string(), value.into());
        self
    }

    pub fn envs(mut self, all: &BTreeMap<String, String>) -> Self {
        self.env.extend(all.clone());
        self
    }

    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// What it reads from standard input; without, there is nothing to read.
    pub fn input(mut self, text: &str) -> Self {
        self.input = Some(text.to_string());
        self
    }

    /// The built binary.
    pub fn binary() -> &'static str {
        env!("CARGO_BIN_EXE_sluice")
    }

    /// The binary and the arguments, for clients that start it themselves.
    pub fn command(&self) -> Vec<String> {
        let binary = Self::binary().to_string();
        [binary].into_iter().chain(self.args.iter().cloned()).collect()
    }

    /// Starts it.
    pub fn start(&self) -> Running {
        let log = tempfile::tempdir().unwrap();
        let mut command = Command::new(Self::binary());
        command.args(&self.args).envs(&self.env).stdin(Stdio::null());
        if let Some(text) = &self.input {
            let file = log.path().join("stdin");
            std::fs::write(&file, text).unwrap();
            command.stdin(File::open(file).unwrap());
        }
        command.stdout(File::create(log.path().join("stdout")).unwrap());
        command.stderr(File::create(log.path().join("stderr")).unwrap());
        // Two threads each: several of these run at once, and one thread hides races.
        command.env("TOKIO_WORKER_THREADS", "2").env_remove("RUST_LOG");
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        Running { child: command.spawn().unwrap(), log, shown: self.args.join(" ") }
    }

    /// Runs it to its end, whatever that is.
    pub fn output(&self) -> Output {
        self.start().wait()
    }

    /// Runs it; fails unless it succeeds.
    pub fn ok(&self) -> Output {
        self.expect(0)
    }

    /// Runs it; fails unless it ends with `code`.
    pub fn expect(&self, code: i32) -> Output {
        let output = self.output();
        let shown = self.args.join(" ");
        assert_eq!(output.code, Some(code), "sluice {shown}\n{}", output.text());
        output
    }
}

impl Output {
    /// Both streams, for messages.
    pub fn text(&self) -> String {
        format!("--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)
    }

    /// Fails unless stderr says each of `parts`, and never as a panic.
    pub fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is not said\n{}", self.text());
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.text());
    }
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal: `KILL`, `STOP`, `CONT`, `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits until it has stopped itself (or has ended, which the caller did not want).
    pub fn wait_frozen(&mut self) {
        let frozen = self.freezes();
        assert!(frozen, "sluice {} ended before it froze\n{}", self.shown, self.said());
    }

    /// Waits until it has stopped or ended; whether it has stopped.
    pub fn freezes(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.id());
        wait::until("a process to freeze", SECONDS_MAX, || {
            let states = states(Path::new(&tasks))?;
            let ended = states.contains(&'Z');
            (ended || states.iter().all(|state| *state == 'T')).then_some(!ended)
        })
    }

    /// Bytes that it has read so far, as the kernel counts them; nothing when it has ended.
    pub fn bytes_read(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/io", self.id())).ok()?;
        text.lines().find_map(|line| line.strip_prefix("rchar: "))?.parse().ok()
    }

    /// Thaws it until it has ended: it freezes again each time it reaches its step again.
    pub fn thaw(mut self) -> Output {
        let what = format!("the end of sluice {} after its thaw", self.shown);
        wait::until(&what, SECONDS_MAX, || {
            self.signal("CONT");
            self.ended()
        });
        self.wait()
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Output {
        let what = format!("the end of sluice {}", self.shown);
        let status = wait::until(&what, SECONDS_MAX, || self.child.try_wait().unwrap());
        Output { code: status.code(), stdout: self.read("stdout"), stderr: self.read("stderr") }
    }

    /// Waits for its end, which must be a success, and gives the most memory it had resident.
    ///
    /// The kernel keeps the peak; what is missed is what it grows by in the last moment.
    pub fn peak_bytes(mut self) -> u64 {
        let status = format!("/proc/{}/status", self.id());
        let mut peak = 0;
        let what = format!("the end of sluice {}", self.shown);
        wait::until(&what, SECONDS_MAX, || {
            peak = peak.max(high_water_bytes(Path::new(&status)).unwrap_or(0));
            self.ended()
        });
        let output = self.wait();
        assert_eq!(output.code, Some(0), "{}", output.text());
        assert!(peak > 0, "{status} was never read");
        peak
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        format!("{}{}", self.read("stdout"), self.read("stderr"))
    }

    fn read(&self, stream: &str) -> String {
        let bytes = std::fs::read(self.log.path().join(stream)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub fn signal(id: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &id.to_string()]).status().unwrap();
    assert!(status.success(), "kill -s {name} {id}");
}

/// The state of each thread of a process.
fn states(tasks: &Path) -> Option<Vec<char>> {
    let threads = std::fs::read_dir(tasks).ok()?;
    let state = |stat: PathBuf| {
        let text = std::fs::read_to_string(stat).ok()?;
        text.rsplit_once(") ")?.1.chars().next()
    };
    threads.map(|thread| state(thread.ok()?.path().join("stat"))).collect()
}

/// The most memory that a process has had resident; nothing when it has ended.
fn high_water_bytes(status: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
