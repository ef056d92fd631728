//! The steps of the epoch protocol, one enum, at each of which a test can kill or freeze the
//! process.
//!
//! In a debug build `SLUICE_STOP=<step>@<epoch>=kill|freeze` makes the process send itself SIGKILL
//! or SIGSTOP when it reaches that step of that epoch. In a release build [`reach`] is nothing.
//! It decides nothing about the protocol itself.

/// Every point between two writes of the protocol, in the order they are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// The lease is held, nothing has been read yet.
    LeaseTaken,
    /// Sources were asked, nothing has been written.
    Polled,
    /// The rows for a sink outside of the lake are in files of its outbox, nothing names them.
    OutboxWritten,
    /// Data files of the epoch's tables are durable, nothing names them.
    FilesWritten,
    /// Files of operator and source state are durable, nothing names them.
    StateWritten,
    /// Side files of the manifest are durable, the manifest is not there.
    SideFilesWritten,
    /// The manifest was created: the epoch is sealed, the runner does not know yet.
    Sealed,
    /// Before the first table's publication.
    PublishStarted,
    /// One table is published, the next is not.
    TablePublished,
    /// A staged file was copied to its final name, others were not.
    FileCopied,
    /// A lost race with removes was repaired and sealed as `<n>.r<k>`, and is not committed yet.
    RepairSealed,
    /// All tables are published, the record for readers is not written.
    TablesPublished,
    /// The published record is written, sources are not acknowledged.
    RecordWritten,
    /// Sources are acknowledged.
    Acknowledged,
    /// A sink outside of the lake has the rows of a file of its outbox, and they do not count yet.
    RowsHandedOver,
    /// They count; no record says so.
    Delivered,
    /// The epoch's rows are recorded as delivered, the files of the outbox are still there.
    DeliveryRecorded,
    /// A compaction's new files are durable, its manifest is not sealed.
    CompactionWritten,
    /// Old manifests are folded into `base.json`, not deleted yet.
    ManifestsFolded,
    /// A Delta checkpoint of one table is written, others are not.
    CheckpointWritten,
    /// One old entry of a Delta log is deleted, others are not.
    LogExpired,
}

impl Step {
    /// All steps, for the test that insists on a case per step.
    pub const ALL: [Step; 21] = [
        Step::LeaseTaken,
        Step::Polled,
        Step::OutboxWritten,
        Step::FilesWritten,
        Step::StateWritten,
        Step::SideFilesWritten,
        Step::Sealed,
        Step::PublishStarted,
        Step::TablePublished,
        Step::FileCopied,
        Step::RepairSealed,
        Step::TablesPublished,
        Step::RecordWritten,
        Step::Acknowledged,
        Step::RowsHandedOver,
        Step::Delivered,
        Step::DeliveryRecorded,
        Step::CompactionWritten,
        Step::ManifestsFolded,
        Step::CheckpointWritten,
        Step::LogExpired,
    ];

    /// The name used in `SLUICE_STOP`.
    pub fn name(self) -> &'static str {
        match self {
            Step::LeaseTaken => "lease-taken",
            Step::Polled => "polled",
            Step::OutboxWritten => "outbox-written",
            Step::FilesWritten => "files-written",
            Step::StateWritten => "state-written",
            Step::SideFilesWritten => "side-files-written",
            Step::Sealed => "sealed",
            Step::PublishStarted => "publish-started",
            Step::TablePublished => "table-published",
            Step::FileCopied => "file-copied",
            Step::RepairSealed => "repair-sealed",
            Step::TablesPublished => "tables-published",
            Step::RecordWritten => "record-written",
            Step::Acknowledged => "acknowledged",
            Step::RowsHandedOver => "rows-handed-over",
            Step::Delivered => "delivered",
            Step::DeliveryRecorded => "delivery-recorded",
            Step::CompactionWritten => "compaction-written",
            Step::ManifestsFolded => "manifests-folded",
            Step::CheckpointWritten => "checkpoint-written",
            Step::LogExpired => "log-expired",
        }
    }
}

/// Says that `step` of `epoch` is reached; in a debug build a test may have asked to stop here.
#[cfg(debug_assertions)]
pub fn reach(step: Step, epoch: u64) {
    let Ok(wanted) = std::env::var("SLUICE_STOP") else { return };
    let Some((place, action)) = wanted.split_once('=') else { return };
    if place != format!("{}@{epoch}", step.name()) {
        return;
    }
    let script = if action == "freeze" { FREEZE } else { "kill -KILL \"$1\"" };
    let pid = std::process::id().to_string();
    // The shell's own `kill`: no unsafe code for a thing only tests use.
    let _ = std::process::Command::new("sh").args(["-c", script, "sh", &pid]).status();
    if action == "freeze" {
        return;
    }
    // The signal may reach another thread first: this one goes no further.
    loop {
        std::thread::park();
    }
}

/// Stops a process and ends when each of its threads has stopped: the signal meets one of them
/// first, and the caller must not run on meanwhile.
#[cfg(debug_assertions)]
const FREEZE: &str = r#"kill -STOP "$1"
for attempt in $(seq 200); do
  grep -qs '^State:.[^T]' /proc/"$1"/task/*/status || exit 0
  sleep 0.01
done"#;

/// Says that `step` of `epoch` is reached; nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_step: Step, _epoch: u64) {}
