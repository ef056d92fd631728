//! A schema registry of a test's own, over HTTP, which ends with the test.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use super::{installed, root};

/// A running registry.
pub struct Registry {
    url: String,
    child: Child,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Registry {
    pub fn start() -> Self {
        let mut command = Command::new(installed(".venv/bin/python"));
        command.arg(root().join("tests/clients/registry.py"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lifeline = child.stdin.take().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut url = String::new();
        said.read_line(&mut url).unwrap();
        Self { url: url.trim().to_string(), child, talk: Mutex::new((lifeline, said)) }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Registers a schema of Avro and gives its number.
    pub fn register(&self, schema: &str) -> u32 {
        self.registered(&schema.into())
    }

    /// Registers the text of a `.proto` file and gives its number.
    pub fn register_proto(&self, text: &str) -> u32 {
        self.registered(&serde_json::json!({"schemaType": "PROTOBUF", "schema": text}))
    }

    fn registered(&self, schema: &serde_json::Value) -> u32 {
        let mut talk = self.talk.lock().unwrap();
        let (lifeline, said) = &mut *talk;
        writeln!(lifeline, "{schema}").unwrap();
        let mut number = String::new();
        said.read_line(&mut number).unwrap();
        number.trim().parse().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
