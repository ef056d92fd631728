//! Standard error: notes, logs and progress bars that do not write over each other.
//!
//! In: lines of text, log events, bars. Out: standard error. Nothing here touches standard output.

use std::io::{self, IsTerminal as _, Write};

use chrono::{DateTime, SecondsFormat};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde_json::json;
use sluice_core::{Clock, Error, Result};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::LogFormat;
use crate::clock::SystemClock;

/// Standard error, shared.
#[derive(Debug, Clone)]
pub(crate) struct Talk {
    bars: MultiProgress,
    format: LogFormat,
    clock: SystemClock,
}

impl Talk {
    /// Bars are drawn only if somebody looks at a terminal and did not ask for machine output.
    pub(crate) fn new(machine: bool, format: LogFormat) -> Self {
        let draws = !machine && format == LogFormat::Text && io::stderr().is_terminal();
        let target =
            if draws { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        Self { bars, format, clock: SystemClock::start() }
    }

    /// Writes text that ends with its own line end, above the bars.
    pub(crate) fn say(&self, text: &str) {
        let line = match self.format {
            LogFormat::Text => text.to_string(),
            LogFormat::Json if text.is_empty() => return,
            LogFormat::Json => self.as_json(text.trim_end()),
        };
        // There is nobody to tell that standard error is gone.
        let _ = self.bars.suspend(|| io::stderr().write_all(line.as_bytes()));
    }

    /// A note as a line among log events.
    fn as_json(&self, text: &str) -> String {
        let at = DateTime::from_timestamp_millis(self.clock.wall_ms()).unwrap_or_default();
        let timestamp = at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let level = if text.contains("error: ") { "ERROR" } else { "INFO" };
        let line =
            json!({"timestamp": timestamp, "level": level, "message": text, "target": "sluice"});
        format!("{line}\n")
    }

    /// The bars.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Sends log events of `filter` (`warn`, `info,sluice_lake=debug`) here.
    pub(crate) fn log(&self, filter: &str) -> Result<()> {
        let filter = EnvFilter::try_new(directives(filter)).map_err(|e| {
            Error::config(format!("not a log level log={filter:?}"))
                .hint(
                    "write error, warn, info, debug, trace, or a list like info,sluice_lake=debug",
                )
                .because(e)
        })?;
        let logs = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(io::stderr().is_terminal())
            .with_writer(self.clone());
        let begun = match self.format {
            LogFormat::Text => logs.try_init(),
            LogFormat::Json => logs.json().flatten_event(true).with_ansi(false).try_init(),
        };
        begun.map_err(|e| Error::bug("logs were set up twice").because(e))
    }
}

/// `filter` as it is taken: what the crates of others tell below a warning is heard only where they
/// are named, as in `info,fjall=info`.
fn directives(filter: &str) -> String {
    let is_wide =
        |part: &&str| part.trim().parse::<LevelFilter>().is_ok_and(|it| it > LevelFilter::WARN);
    let (wide, others): (Vec<&str>, Vec<&str>) = filter.split(',').partition(is_wide);
    // What the library that reads foreign Delta tables complains of comes back as our error.
    let mut all = vec!["buoyant_kernel=off".to_string()];
    // All of our crates begin so.
    all.extend(wide.iter().map(|level| format!("warn,sluice={}", level.trim())));
    all.extend(others.into_iter().map(str::to_string));
    all.join(",")
}

impl<'a> MakeWriter<'a> for Talk {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// One log event on its way out.
pub(crate) struct Line<'a>(&'a Talk);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.bars.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_heard_below_a_warning_only_where_they_are_named() {
        for (filter, expected) in [
            ("warn", "warn"),
            ("off", "off"),
            ("info", "warn,sluice=info"),
            ("sluice_lake=debug", "sluice_lake=debug"),
            ("sluice=trace,debug,fjall=info", "warn,sluice=debug,sluice=trace,fjall=info"),
        ] {
            assert_eq!(directives(filter), format!("buoyant_kernel=off,{expected}"));
            assert!(EnvFilter::try_new(directives(filter)).is_ok(), "{filter}");
        }
    }
}
