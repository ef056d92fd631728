//! What a run with `--metrics` answers, as text. It knows no metric; the tests do.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::cli::Running;
use super::wait;

/// How long a run may take to listen; far more than it does on a busy machine.
const SECONDS_MAX: u64 = 120;

/// Where a run answers.
pub struct Scrape {
    address: String,
}

impl Scrape {
    /// Of a run that was given `--metrics 127.0.0.1:0`: waits until it says which port that is.
    pub fn of(running: &Running) -> Self {
        let address = wait::until("the port of the metrics", SECONDS_MAX, || {
            let said = running.said();
            let (_, rest) = said.split_once("metrics at http://")?;
            Some(rest.split_once("/metrics")?.0.to_string())
        });
        Self { address }
    }

    /// The status and the body of a page.
    pub fn get(&self, page: &str) -> Option<(String, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let request = format!("GET {page} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.lines().next()?.to_string(), body.to_string()))
    }

    /// The sample of a metric that has these labels, each written `name="value"`.
    pub fn sample(&self, metric: &str, labels: &[&str]) -> Option<f64> {
        let (_, body) = self.get("/metrics")?;
        let samples = body.lines().filter_map(|line| line.strip_prefix(metric)?.rsplit_once(' '));
        let mut found = samples.filter(|(has, _)| labels.iter().all(|label| has.contains(label)));
        found.next()?.1.parse().ok()
    }
}
