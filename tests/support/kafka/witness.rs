//! Another client of the same broker, Python's: what a topic holds by its word, what it writes, what
//! is committed to a group; and by its word and another reader's, whether a table is right.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

use super::Broker;
use crate::support::place::Place;
use crate::support::{clients, installed, root};

/// A record as the witness read it.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Seen {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Base64.
    pub key: Option<String>,
    /// Base64.
    pub value: Option<String>,
    pub timestamp: i64,
    /// Names, and values in base64.
    pub headers: Vec<(String, Option<String>)>,
}

/// How a table and the topics it was made from compare.
#[derive(Debug, Clone, Deserialize, PartialEq)]
pub struct Exact {
    pub consumed: u64,
    pub kept: u64,
    pub rejected: u64,
    pub lost: u64,
    pub doubled: u64,
    pub foreign: u64,
    pub differ: u64,
    /// The first of each.
    pub shown: serde_json::Value,
}

#[derive(Deserialize)]
struct At {
    partition: i32,
    offset: i64,
}

/// What a topic holds that may be read, in order per partition.
pub fn consume(broker: &Broker, topics: &[&str]) -> Vec<Seen> {
    let args = [&["consume"], topics].concat();
    let printed = run(broker, &args, "");
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Writes records, each a JSON object with `key`, `value`, `partition`; gives their places.
pub fn produce(broker: &Broker, topic: &str, records: &[serde_json::Value]) -> Vec<(i32, i64)> {
    let lines: Vec<String> = records.iter().map(ToString::to_string).collect();
    let printed = run(broker, &["produce", topic], &lines.join("\n"));
    printed.lines().map(at).collect()
}

/// What is committed to a group, by partition.
pub fn committed(broker: &Broker, group: &str, topic: &str) -> BTreeMap<i32, i64> {
    run(broker, &["committed", group, topic], "").lines().map(at).collect()
}

/// Moves what is committed to a group.
pub fn commit(broker: &Broker, group: &str, topic: &str, partition: i32, offset: i64) {
    let [partition, offset] = [partition.to_string(), offset.to_string()];
    run(broker, &["commit", group, topic, &partition, &offset], "");
}

/// Deletes a group with all that was committed to it.
pub fn forget(broker: &Broker, group: &str) {
    run(broker, &["forget", group], "");
}

/// Holds a table, whose rows say where they come from in `topic`, `part` and `off`, and a source's
/// rejected rows against what the witness reads from topics. `columns` are compared too.
pub fn compare(
    broker: &Broker,
    place: &Place,
    tables: [&str; 2],
    columns: &[&str],
    topics: &[&str],
) -> Exact {
    let [table, rejected] = tables.map(|table| format!("{}/{table}", place.lake()));
    let columns = if columns.is_empty() { "-".to_string() } else { columns.join(",") };
    let mut args = vec![broker.bootstrap(), &table, &rejected, &columns];
    args.extend(topics);
    let script = root().join("tests/clients/exact.py");
    serde_json::from_str(&clients::python(&script, &args, place.env())).unwrap()
}

impl Exact {
    /// Every record is there exactly once, as it was written.
    pub fn holds(&self) {
        let wrong = [self.lost, self.doubled, self.foreign, self.differ];
        assert_eq!(wrong, [0; 4], "lost, doubled, of nowhere, other values: {self:#?}");
        assert_eq!(self.consumed, self.kept + self.rejected, "{self:?}");
        assert!(self.consumed > 0, "the topic is empty, which shows nothing");
    }
}

/// A producer that goes on until it is stopped, whatever happens to its broker.
pub struct Flood {
    child: Child,
}

impl Flood {
    /// Writes about `rate` records a second: `{"id", "site", "amount"}`, a few of them junk.
    pub fn start(broker: &Broker, topic: &str, rate: u32, seed: u64) -> Self {
        let [rate, seed] = [rate.to_string(), seed.to_string()];
        let mut command = client(broker, &["flood", topic, &rate, &seed]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self { child: command.spawn().unwrap() }
    }

    /// Lets it finish what it has begun, and gives how many records it has written.
    pub fn stop(mut self) -> u64 {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "the producer died: {said}");
        said.trim().parse().unwrap()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn at(line: &str) -> (i32, i64) {
    let At { partition, offset } = serde_json::from_str(line).unwrap();
    (partition, offset)
}

fn client(broker: &Broker, args: &[&str]) -> Command {
    let mut command = Command::new(installed(".venv/bin/python"));
    command.arg(root().join("tests/clients/kafka.py")).arg(broker.bootstrap()).args(args);
    command
}

/// Runs the client to its end and gives what it printed.
fn run(broker: &Broker, args: &[&str], input: &str) -> String {
    let mut command = client(broker, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_string();
    // On a thread: the client prints while it reads.
    let fed = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}\n{said}");
    fed.join().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
