//! A run that is watched: what it tells over HTTP, in its logs and through `status`, and how it ends.

use std::collections::BTreeMap;
use std::net::TcpListener;

use serde_json::Value;

use crate::support::cli::{Output, Running};
use crate::support::place::Place;
use crate::support::scrape::Scrape;
use crate::support::{clients, root, wait};

const JOB: &str = "line.yaml";

/// How long something may take that takes a moment.
const SECONDS_MAX: u64 = 120;

/// Views with few rows and with more than a view may show, and one whose labels tell nothing apart.
const TEXT: &str = r#"job: quality-line
lake: "${vars.lake}"
vars: {lake: ./lake, rows: 5000, epoch: 100000}
sources:
  samples:
    connector: generate
    rows: "${vars.rows}"
    columns:
      id: {sequence: {start: 1}}
      site: {choice: ["north \"1\"", south]}
      amount: {integer: {from: 0, to: 1000}}
      at: {timestamp: {from: "2024-01-01 00:00:00", to: "2024-12-31 00:00:00"}}
tables:
  kept:
    sql: SELECT * FROM samples
    expect: {small: {that: amount < 900, else: quarantine}}
views:
  per_site:
    sql: SELECT site, count(*) AS n, avg(amount) AS mean, max(at) AS last FROM kept GROUP BY site
    metrics: {value: [n, mean, last], labels: [site]}
  per_id:
    sql: SELECT id, amount FROM kept
    metrics: {value: amount, labels: [id], name: every}
  total:
    sql: SELECT count(*) AS n FROM kept
    metrics: {value: n}
epoch: {rows: "${vars.epoch}"}
"#;

/// A run that follows, with its metrics at a port of its own.
struct Watched {
    place: Place,
    running: Running,
    scrape: Scrape,
}

impl Watched {
    fn start() -> Self {
        let place = Place::local();
        place.write(JOB, TEXT);
        let run = place.job("run", JOB).arg("--follow").arg("--metrics").arg("127.0.0.1:0");
        let run = run.arg("--log").arg("info").env("SLUICE_LOG_FORMAT", "json");
        let running = run.start();
        let scrape = Scrape::of(&running);
        Self { place, running, scrape }
    }

    /// The samples once the gauge `wanted` is there and not 0, by name and labels.
    fn samples_with(&self, wanted: &str) -> BTreeMap<String, f64> {
        let text = wait::until(wanted, SECONDS_MAX, || {
            let (_, body) = self.scrape.get("/metrics")?;
            let value = body.lines().find_map(|line| line.strip_prefix(wanted));
            value.is_some_and(|value| value != "0.0").then_some(body)
        });
        let file = self.place.write("scrape.txt", &text);
        let script = root().join("tests/clients/scrape.py");
        let printed = clients::python(&script, &[&file.display().to_string()], &BTreeMap::new());
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_string(), value.parse::<f64>().unwrap())
        };
        printed.lines().map(sample).collect()
    }

    fn stop(self) -> (Place, Output) {
        self.running.signal("TERM");
        (self.place, self.running.wait())
    }
}

fn status(place: &Place) -> Value {
    let told = place.job("status", JOB).arg("--json").ok().stdout;
    let mut told: Value = serde_json::from_str(&told).unwrap();
    told["jobs"][0].take()
}

fn kinds(status: &Value) -> Vec<&str> {
    let reasons = status["reasons"].as_array().unwrap();
    reasons.iter().map(|reason| reason["kind"].as_str().unwrap()).collect()
}

#[test]
fn figures_logs_and_status_tell_what_a_run_does() {
    let watched = Watched::start();
    // The last view that is read; a view of one row has it before there are rows.
    let samples = watched.samples_with("sluice_view_quality_line_total_n ");
    let is = |name: &str, value: f64| {
        let found = samples.get(name).copied();
        assert_eq!(found, Some(value), "{name} of {samples:#?}");
    };
    is("sluice_job_up{job=quality-line}", 1.0);
    is("sluice_epochs_total{job=quality-line,kind=data}", 1.0);
    is("sluice_epochs_total{job=quality-line,kind=rebuild}", 1.0);
    is("sluice_rows_total{job=quality-line,outcome=decoded,source=samples}", 5000.0);
    is("sluice_epoch_seconds_count{job=quality-line,phase=work}", 2.0);
    is("sluice_files{job=quality-line,table=kept}", 1.0);
    is("sluice_log_versions{job=quality-line,table=kept}", 1.0);
    is("sluice_lag_rows{job=quality-line,partition=rows,source=samples}", 0.0);
    is("sluice_view_series_dropped{job=quality-line,view=per_site}", 0.0);
    assert!(samples["sluice_process_open_files{}"] > 0.0);
    assert!(samples["sluice_process_resident_memory_bytes{}"] > 1e6);
    assert_eq!(watched.scrape.get("/health").unwrap().0, "HTTP/1.1 200 OK");
    assert!(watched.scrape.get("/").unwrap().0.contains("404"));

    // While it waits for rows that never come.
    let told = status(&watched.place);
    assert_eq!(kinds(&told), ["nothing_new"], "{told:#}");
    assert_eq!(told["lease"]["alive"], true);
    assert_eq!(told["partitions"][0]["behind"], 0);

    let (place, output) = watched.stop();
    assert_eq!(output.code, Some(0), "{}", output.text());
    let sites =
        place.sql(JOB, "SELECT site, n, mean, CAST(to_unixtime(last) AS DOUBLE) FROM per_site");
    assert_eq!(sites.len(), 2);
    for site in sites {
        for (column, value) in ["n", "mean", "last"].iter().zip(&site[1..]) {
            let name = format!("sluice_view_quality_line_per_site_{column}{{site={}}}", site[0]);
            let (shown, value) = (samples[&name], value.parse::<f64>().unwrap());
            assert!((shown - value).abs() < 1.0, "{name}: {shown} {value}");
        }
    }
    let written = place.cell(JOB, "SELECT n FROM total").parse::<f64>().unwrap();
    is("sluice_view_quality_line_total_n{}", written);
    is("sluice_rows_total{job=quality-line,outcome=written,table=kept}", written);
    is("sluice_rows_total{job=quality-line,outcome=quarantined,table=kept}", 5000.0 - written);
    let series = samples.keys().filter(|name| name.starts_with("sluice_view_every_amount{"));
    assert_eq!(series.count(), 200);
    is("sluice_view_series_dropped{job=quality-line,view=per_id}", written - 200.0);
    logs_are_json(&output);

    let told = status(&place);
    assert_eq!(kinds(&told), ["no_runner"], "{told:#}");
    assert_eq!((&told["runner"]["at"], &told["lease"]), (&"ended".into(), &Value::Null));
    assert_eq!(told["last"]["rows_taken"], 5000);
    let logs = told["upkeep"].as_array().unwrap();
    let kept = logs.iter().find(|table| table["name"] == "kept").unwrap();
    assert_eq!((&kept["log"]["entries"], &kept["files"]["files"]), (&1.into(), &1.into()));
    place.holds(JOB);
}

/// Every line is an object with a time in UTC; the epoch's has its figures as fields.
fn logs_are_json(output: &Output) {
    let lines: Vec<Value> =
        output.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        let at = line["timestamp"].as_str().unwrap();
        assert!(at.ends_with('Z') && at.contains('T'), "{line}");
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    let named = |message: &str| lines.iter().rfind(|line| line["message"] == message).unwrap();
    let sealed = named("epoch sealed");
    assert_eq!((&sealed["job"], &sealed["epoch"]), (&"quality-line".into(), &1.into()));
    assert_eq!(sealed["rows"], 5000);
    for phase in ["seconds", "take", "work", "seal", "decode", "encode"] {
        assert!(sealed[phase].is_f64(), "{phase} of {sealed}");
    }
    assert_eq!(named("epoch published")["epoch"], 1);
    let dropped = named("gauges of a view are not as wanted");
    assert_eq!((&dropped["level"], &dropped["view"]), (&"WARN".into(), &"per_id".into()));
}

#[test]
fn an_address_that_is_taken_or_none_is_refused_before_any_job_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let place = Place::local();
    place.write(JOB, TEXT);
    for (address, why) in [(taken.as_str(), "cannot be listened at"), ("nowhere", "no address")] {
        let output = place.job("run", JOB).arg("--metrics").arg(address).expect(2);
        output.says(&[why, "hint: write --metrics HOST:PORT"]);
    }
    assert!(!place.lake_folder().exists());
}

#[test]
fn status_says_why_there_is_no_output() {
    let place = Place::local();
    place.write(JOB, TEXT);
    let told = status(&place);
    assert_eq!(kinds(&told), ["never_run", "behind"], "{told:#}");
    place.job("run", JOB).arg("--set").arg("epoch=2000").arg("--epochs").arg("2").ok();
    let told = status(&place);
    assert_eq!(kinds(&told), ["no_runner", "behind"], "{told:#}");
    assert_eq!(told["partitions"][0]["behind"], 3000);
    let text = place.job("status", JOB).ok().stdout;
    let rest = "partition rows of samples holds 3000 rows that no epoch took";
    for part in ["nobody runs it", rest, "2,000 rows taken", "small files"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // A runner that died says nothing more, and is not believed to live.
    let mut run = place.job("run", JOB).arg("--follow").start();
    wait::until("the rest", SECONDS_MAX, || {
        assert_eq!(run.ended(), None, "{}", run.said());
        (status(&place)["partitions"][0]["behind"] == 0).then_some(())
    });
    run.signal("KILL");
    run.wait();
    let told = status(&place);
    assert_eq!(kinds(&told), ["runner_gone"], "{told:#}");
}
