//! What a process gives to everything it runs: connectors, clock, ids, memory, cores, its name.
//!
//! In: `--memory` and `--threads`. Out: the runtime's [`Environment`]. Secrets are looked up here
//! too, because only `app` reads the process's environment.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluice_connectors::webhook::{Hub, HubSettings};
use sluice_connectors::{registry, registry_with};
use sluice_core::metric::{Recorder, Unrecorded};
use sluice_runtime::epoch::Environment;

use crate::clock::{RandomIds, SystemClock};
use crate::memory::{self, Pool, PoolMemory};

/// What a process may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes of the memory pool; default: 60 % of the machine's memory.
    pub memory_bytes: Option<u64>,
    /// Worker threads and plan partitions; default: the number of cores.
    pub threads: Option<usize>,
}

impl Resources {
    /// Threads to use, at least 1.
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads.unwrap_or_else(cores).max(1)
    }
}

/// The environment of this process.
pub fn environment(resources: &Resources) -> Environment {
    pooled(resources).0
}

/// The environment of this process, and its memory pool for who measures it.
pub(crate) fn pooled(resources: &Resources) -> (Environment, Arc<Pool>) {
    let bytes = resources.memory_bytes.unwrap_or_else(memory::default_bytes);
    let pool = memory::pool(bytes);
    let environment = Environment {
        registry: registry(),
        clock: Arc::new(SystemClock::start()),
        ids: Arc::new(RandomIds),
        memory: Arc::new(PoolMemory::new(pool.clone())),
        pool: Some(pool.clone()),
        metrics: Arc::new(Unrecorded),
        partitions: resources.threads(),
        host: host(),
        pid: std::process::id(),
    };
    (environment, pool)
}

/// The same environment, whose figures are told to `metrics`, and whose webhooks listen by
/// themselves while a run follows. They are kept in `$SLUICE_STATE`, else in `state`, where a
/// server of the same project has them too.
pub(crate) fn running(
    environment: Environment,
    metrics: Arc<dyn Recorder>,
    state: &Path,
) -> Environment {
    let state = std::env::var_os("SLUICE_STATE").map_or_else(|| state.into(), PathBuf::from);
    let environment = Environment { metrics, ..environment };
    let registry = registry_with(hub(&environment, &state, true));
    Environment { registry, ..environment }
}

/// Webhooks that are kept in `state`. With `listens` they open the addresses of their sources by
/// themselves.
pub(crate) fn hub(environment: &Environment, state: &Path, listens: bool) -> Arc<Hub> {
    Hub::new(HubSettings {
        state: state.to_path_buf(),
        clock: environment.clock.clone(),
        ids: environment.ids.clone(),
        metrics: environment.metrics.clone(),
        listens,
    })
}

/// A secret's value in the process's environment.
pub fn secret(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where things of this user are kept from one session to the next: `$XDG_STATE_HOME/sluice`, by
/// default `~/.local/state/sluice`; none without a home.
pub fn state_folder() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    state.map(|folder| folder.join("sluice"))
}

/// The sockets that whoever started this process hands over, by their names, the way systemd does
/// (`LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`); unnamed ones have empty names.
pub fn passed_sockets() -> Vec<String> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.trim().parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_string);
    // More than a few are nobody's intention.
    let count = number("LISTEN_FDS").unwrap_or(0).min(16);
    (0..count).map(|_| names.next().unwrap_or_default()).collect()
}

fn host() -> String {
    let file = |path| std::fs::read_to_string(path).ok();
    file("/proc/sys/kernel/hostname")
        .or_else(|| file("/etc/hostname"))
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_string())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_string())
}
