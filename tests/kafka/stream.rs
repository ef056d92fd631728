//! A job over topics, in a place of its own, and what has to hold of its table: by another client's
//! word of the topics and another reader's of the table.

use crate::support::cli::{Output, Running, Sluice};
use crate::support::kafka::witness::{self, Exact};
use crate::support::kafka::{Broker, Record};
use crate::support::place::Place;
use crate::support::wait;

/// The job file in the place's folder.
pub const JOB: &str = "samples.yaml";

/// How long a run may take to have published rows; far more than it does on a busy machine.
pub const SECONDS_MAX: u64 = 120;

/// Lines of the source that differ are added to it; so are tables and views.
const TEXT: &str = r#"job: samples
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  samples:
    connector: kafka
    bootstrap: "BOOTSTRAP"
    topics: TOPICS
    format: json
    metadata: [topic, partition, offset]
    schema:
      fields:
        - {name: id, type: int64}
        - {name: site, type: string}
        - {name: amount, type: int64}
SOURCE
tables:
  kept: {sql: "SELECT id, site, amount, _topic AS topic, _partition AS part, _offset AS off FROM samples"}
TABLES
epoch: {every: 200ms}
"#;

/// Columns that are compared with what was written.
const COLUMNS: [&str; 3] = ["id", "site", "amount"];

/// A job over topics.
pub struct Stream<'a> {
    pub broker: &'a Broker,
    pub place: Place,
}

impl<'a> Stream<'a> {
    /// A job over one topic on local disk.
    pub fn of(broker: &'a Broker, topic: &str) -> Self {
        Self::new(broker, Place::local(), broker.bootstrap(), &format!("[{topic}]"), "", "")
    }

    /// A job over one topic on local disk, with lines added to its source.
    pub fn with(broker: &'a Broker, topic: &str, source: &str) -> Self {
        Self::new(broker, Place::local(), broker.bootstrap(), &format!("[{topic}]"), source, "")
    }

    /// A job that reads `topics`, as YAML, through `bootstrap`, with lines added to its source and to
    /// its tables.
    pub fn new(
        broker: &'a Broker,
        place: Place,
        bootstrap: &str,
        topics: &str,
        source: &str,
        tables: &str,
    ) -> Self {
        let stream = Self { broker, place };
        stream.write(bootstrap, topics, source, tables);
        stream
    }

    /// Writes the job file anew.
    pub fn write(&self, bootstrap: &str, topics: &str, source: &str, tables: &str) {
        let text = TEXT.replace("BOOTSTRAP", bootstrap).replace("TOPICS", topics);
        let text = text.replace("SOURCE\n", &indented(source, 4));
        self.place.write(JOB, &text.replace("TABLES\n", &indented(tables, 2)));
    }

    /// A run of the job, not started.
    pub fn run(&self) -> Sluice {
        self.place.job("run", JOB)
    }

    /// A run that goes on until it is stopped.
    pub fn follow(&self) -> Running {
        self.run().arg("--follow").start()
    }

    /// Waits until a query, one cell, answers so while a run goes on.
    pub fn until(&self, query: &str, answer: &str) {
        let what = format!("{answer} as answer to {query}");
        wait::until(&what, SECONDS_MAX, || {
            // There may be no table yet.
            let asked = self.place.job("sql", JOB).arg(query).arg("--format").arg("csv").output();
            let told = asked.stdout.lines().nth(1).map(str::to_string);
            (asked.code == Some(0) && told.as_deref() == Some(answer)).then_some(())
        });
    }

    /// The one cell of a query's only row.
    pub fn cell(&self, query: &str) -> String {
        self.place.cell(JOB, query)
    }

    /// What the topics and the table are by others' word.
    pub fn compared(&self, topics: &[&str]) -> Exact {
        let tables = ["kept", "samples__rejected"];
        witness::compare(self.broker, &self.place, tables, &COLUMNS, topics)
    }

    /// Every record of the topics is in the table or rejected, once, as it was written; and the
    /// audit, which counts for itself, agrees.
    pub fn exact(&self, topics: &[&str]) -> Exact {
        let exact = self.compared(topics);
        exact.holds();
        self.audit();
        exact
    }

    /// What the audit says; fails unless it holds.
    pub fn audit(&self) -> Output {
        self.place.job("audit", JOB).ok()
    }

    /// What the audit says that counts at the brokers as well; fails unless it holds.
    pub fn recounted(&self) -> Output {
        self.place.job("audit", JOB).arg("--sources").ok()
    }

    /// The audit holds and says this.
    pub fn audit_says(&self, part: &str) {
        let output = self.audit();
        assert!(output.stdout.contains(part), "`{part}` is not said\n{}", output.text());
    }
}

/// Stops a run that follows as a service manager does: it ends what it is at, and well.
pub fn ended(running: Running) -> Output {
    running.signal("TERM");
    let output = running.wait();
    assert_eq!(output.code, Some(0), "{}", output.text());
    output
}

/// Rows numbered from `from`, in turn to each of the partitions.
pub fn rows(from: u64, count: u64, partitions: i32) -> Vec<Record> {
    let row = |id: u64| {
        let site = ["north", "south", "west"][(id % 3) as usize];
        let value = serde_json::json!({"id": id, "site": site, "amount": id * 7 % 1_000});
        Record::to((id % partitions as u64) as i32, value.to_string())
    };
    (from..from + count).map(row).collect()
}

fn indented(lines: &str, by: usize) -> String {
    lines.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}
