//! Progress bars: one per job, rows done of rows known so far.
//!
//! In: what the epoch loop reports. Out: bars and notes on standard error; bars only on a terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use sluice_runtime::schedule::{EpochReport, Progress};

use crate::output::seconds;
use crate::talk::Talk;

/// How often a bar is drawn although nothing was reported, so that it is seen to live.
const TICK: Duration = Duration::from_millis(120);

const TEMPLATE: &str =
    "{spinner} {prefix} [{bar:30}] {human_pos}/{human_len} rows, {elapsed} {msg}";

/// The bars of a run.
pub(crate) struct Bars {
    talk: Talk,
    jobs: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Bars {
    /// No bars yet: each appears with its job's first report.
    pub(crate) fn new(talk: &Talk) -> Self {
        Self { talk: talk.clone(), jobs: Mutex::default() }
    }

    /// Takes a job's bar away: its summary says the rest.
    pub(crate) fn done(&self, job: &str) {
        if let Some(bar) = self.jobs.lock().remove(job) {
            bar.finish_and_clear();
        }
    }

    fn bar(&self, job: &str, rows: u64) -> ProgressBar {
        let new = || {
            let plain = |_| ProgressStyle::default_bar();
            let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(plain);
            let bar = self.talk.bars().add(ProgressBar::new(rows));
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix(job.to_string());
            bar.enable_steady_tick(TICK);
            bar
        };
        self.jobs.lock().entry(job.to_string()).or_insert_with(new).clone()
    }
}

impl Progress for Bars {
    fn intake(&self, job: &str, rows_estimated: u64, _bytes: u64) {
        let bar = self.bar(job, rows_estimated);
        bar.set_length(bar.position().saturating_add(rows_estimated));
    }

    fn epoch(&self, job: &str, report: &EpochReport) {
        let bar = self.bar(job, report.rows);
        bar.inc(report.rows);
        // What was estimated is known now.
        bar.set_length(bar.position());
        bar.set_message(format!("epoch {} in {} s", report.epoch, seconds(report.seconds)));
    }

    fn note(&self, text: &str) {
        self.talk.say(&format!("note: {text}\n"));
    }
}
