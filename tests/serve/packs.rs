//! The packs of the repository as servers: what their generators make comes out of the paths that front
//! ends call, and is what another reader counts; and their READMEs say what it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{SECRETS, started, stopped};
use crate::support::cli::{Running, Sluice};
use crate::support::kafka::Broker;
use crate::support::place::{Place, listing};
use crate::support::proxy::free_port;
use crate::support::{clients, root};

/// The file that makes a pack a project.
const PROJECT: &str = "sluice.yaml";

/// A pack with a lake and a state of its own, and where it is served.
struct Pack {
    place: Place,
    folder: PathBuf,
    http: u16,
    env: BTreeMap<String, String>,
    set: Vec<String>,
}

impl Pack {
    /// The names of its secrets begin with `prefix`.
    fn new(name: &str, prefix: &str) -> Self {
        let folder = root().join("jobs").join(name);
        let env = secrets(prefix);
        Self { place: Place::local(), folder, http: free_port(), env, set: Vec::new() }
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.set.push(format!("{name}={value}"));
        self
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// A command over a file of the pack, without any secret.
    fn bare(&self, name: &str, file: &str) -> Sluice {
        let command = self.place.job(name, &self.folder.join(file).display().to_string());
        let state = self.place.path("state").display().to_string();
        let command = command.env("SLUICE_STATE", state);
        self.set.iter().fold(command, |command, set| command.arg("--set").arg(set))
    }

    fn command(&self, name: &str, file: &str) -> Sluice {
        self.bare(name, file).envs(&self.env)
    }

    /// A process that serves it, and has said so.
    fn start(&self) -> Running {
        let serve = self.command("serve", PROJECT).arg("--http");
        let serve = serve.arg(format!("127.0.0.1:{}", self.http)).arg("--postgres");
        started(serve.arg(format!("127.0.0.1:{}", free_port())).arg("--log").arg("warn").start())
    }

    /// Runs a client with the server's address and more arguments.
    fn client(&self, script: &str, more: &[&str]) {
        let url = self.url();
        let args = [&[url.as_str()], more].concat();
        clients::python(&root().join("tests/clients").join(script), &args, &self.env);
    }
}

/// Values for the secrets of a pack, and for the names that clients know its tokens by.
fn secrets(prefix: &str) -> BTreeMap<String, String> {
    let known = BTreeMap::from(SECRETS);
    let own = [
        ("DASHBOARD_TOKEN", known["READER_TOKEN"]),
        ("OPERATOR_TOKEN", known["OPERATOR_TOKEN"]),
        ("ADMIN_TOKEN", known["ADMIN_TOKEN"]),
        ("WEBHOOK_SECRET", known["HOOKS_SECRET"]),
        ("REPORTS_TOKEN", "reports-0123456789abcdef"),
        ("MODEL_KEY", "model-0123456789abcdef"),
    ];
    let own = own.map(|(name, value)| (format!("{prefix}_{name}"), value.to_string()));
    let shared = SECRETS.map(|(name, value)| (name.to_string(), value.to_string()));
    own.into_iter().chain(shared).collect()
}

#[test]
fn the_travel_assistants_figures_are_those_of_its_tables() {
    let travel = Pack::new("travel-assistant", "TRAVEL").set("conversations", "300");
    let url = travel.url();
    // So few come at once that the run meets times at which none is due.
    let travel = travel.set("conversations_per_second", "40").set("webhooks", &url);
    let server = travel.start();
    // Nothing is kept of what cannot be answered: messages are counted below.
    travel.client("travel.py", &["silent"]);
    travel.command("run", "1-generate.yaml").ok();
    travel.client("travel.py", &["figures", travel.place.lake()]);
    stopped(server);
    travel.command("audit", PROJECT).ok();
}

#[test]
fn a_chat_is_answered_and_both_sides_are_kept() {
    let port = free_port();
    let travel = Pack::new("travel-assistant", "TRAVEL").set("model", "tiny");
    let travel = travel.set("model_url", &format!("http://127.0.0.1:{port}/v1"));
    let server = travel.start();
    travel.client("travel.py", &["chat", &port.to_string()]);
    stopped(server);
    travel.command("audit", PROJECT).ok();
}

#[test]
fn bugs_and_samples_are_counted_however_they_come() {
    let broker = Broker::shared();
    let [samples, reports] = ["samples", "reports"].map(|what| broker.topic(what, 2, &[]));
    let quality = Pack::new("quality-control", "QUALITY").set("bootstrap", broker.bootstrap());
    let quality = quality.set("samples_topic", &samples).set("bugs_topic", &reports);
    // Samples of two and a half minutes, and of a dozen lots.
    let quality = quality.set("samples", "3000").set("reports", "200");
    let quality = quality.set("reports_start", &days_ago(10));
    // Whoever has nothing but Kafka needs no secret, and is not kept waiting by the webhook.
    quality.bare("run", PROJECT).ok();
    let server = quality.start();
    quality.client("quality.py", &[quality.place.lake(), "3000", "200"]);
    stopped(server);
    quality.command("audit", PROJECT).ok();
    quality.command("verify", PROJECT).ok();
}

#[test]
fn every_pack_and_every_variant_is_valid() {
    let files = listing(&root().join("jobs")).into_iter().map(|(path, _)| path);
    let jobs = files.filter(|path| path.extension().is_some_and(|name| name == "yaml"));
    let packs: BTreeSet<PathBuf> = jobs.map(|job| job.parent().unwrap().to_path_buf()).collect();
    assert!(packs.len() >= 5, "{packs:?}");
    let place = Place::local();
    for pack in packs {
        let validate = place.sluice(&["validate", &pack.display().to_string()]);
        validate.ok();
        if pack.join(PROJECT).is_file() {
            validate.arg("--target").arg("prod").ok();
        }
    }
}

#[test]
fn readmes_set_what_a_project_takes_from_the_environment() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    for (pack, readme) in [
        ("travel-assistant", "jobs/travel-assistant/README.md"),
        ("travel-assistant", "docker/README.md"),
        ("quality-control", "jobs/quality-control/README.md"),
    ] {
        let (project, text) = (read(&format!("jobs/{pack}/{PROJECT}")), read(readme));
        let rests = project.split("{env: ").skip(1);
        let names: Vec<&str> = rests.filter_map(|rest| rest.split('}').next()).collect();
        assert!(names.len() >= 3, "{names:?}");
        for name in names {
            assert!(text.contains(&format!("{name}=")), "{readme} does not set {name}");
        }
    }
}

/// A time so many days before now, as job files write it.
fn days_ago(days: u32) -> String {
    let then = format!("{days} days ago");
    let output = Command::new("date").args(["-u", "-d", then.as_str(), "+%F %T"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}
