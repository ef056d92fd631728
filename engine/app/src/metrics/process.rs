//! What the operating system says of this process: memory, open files, processor time.
//!
//! In: `/proc`, where there is one. Out: figures, none where there is not.

use std::fs;

use sluice_core::metric::{CPU_SECONDS, Metric, OPEN_FILES, RSS};

/// Ticks of processor time in a second: what Linux tells programs on every machine it runs on.
const TICKS: f64 = 100.0;

/// What can be measured now.
pub(super) fn measured() -> Vec<(&'static Metric, f64)> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let open = fs::read_dir("/proc/self/fd").map(|files| files.count() as f64).ok();
    let figures = [
        (&RSS, resident_bytes(&read("/proc/self/status"))),
        (&OPEN_FILES, open),
        (&CPU_SECONDS, cpu_seconds(&read("/proc/self/stat"))),
    ];
    figures.into_iter().filter_map(|(metric, value)| Some((metric, value?))).collect()
}

/// `VmRSS` of a `/proc/<pid>/status`.
fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// The time in user and system mode of a `/proc/<pid>/stat`; the name in it may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}
