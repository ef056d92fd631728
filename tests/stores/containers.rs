//! The image and the composition in `docker/`, as linters see them and as the repository is.
//!
//! No container is started here, and the dashboard is only read. Every linter is shown a broken file too, which it has to report:
//! one that finds nothing wrong anywhere would prove nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{installed, root};

/// Runs a linter on a file.
fn lint(program: &str, args: &[&str], file: &Path) -> Output {
    let mut command = Command::new(installed(&format!(".venv/bin/{program}")));
    command.args(args).arg(file).stdin(Stdio::null()).output().unwrap()
}

/// The linter says nothing about a file of `docker/`, and something about it once `part` of it is
/// written as `broken`: its message contains `says`.
fn holds(program: &str, args: &[&str], name: &str, (part, broken, says): (&str, &str, &str)) {
    let file = root().join("docker").join(name);
    let output = lint(program, args, &file);
    assert!(output.status.success(), "{name}: {output:?}");

    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(part), "{name} has no `{part}`");
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join(name);
    fs::write(&wrong, text.replacen(part, broken, 1)).unwrap();
    let output = lint(program, args, &wrong);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains(says), "{name} with `{broken}`: {output:?}");
}

#[test]
fn the_image_passes_its_linter() {
    let base = "FROM debian:bookworm-slim";
    for broken in [
        (base, "FROM debian", "DL3006"),
        (base, "FROM debian:latest", "DL3007"),
        ("COPY jobs ", "ADD jobs ", "DL3020"),
        ("WORKDIR /sluice", "WORKDIR sluice", "DL3000"),
        ("EXPOSE 8080", "EXPOSE 80800", "DL3011"),
    ] {
        holds("hadolint", &[], "Dockerfile", broken);
    }
}

#[test]
fn the_composition_is_one() {
    let schema = ["--builtin-schema", "vendor.compose-spec"];
    for broken in [
        ("image: sluice", "imag: sluice", "imag"),
        ("condition: service_healthy", "condition: healthy", "service_healthy"),
        ("retries: 30", "retries: [30]", "retries"),
    ] {
        holds("check-jsonschema", &schema, "compose.yaml", broken);
    }
}

#[test]
fn the_image_is_built_from_what_is_there() {
    let [image, ignored, manifest] = ["docker/Dockerfile", ".dockerignore", "Cargo.toml"]
        .map(|name| fs::read_to_string(root().join(name)).unwrap());
    // What is let in is there, and what Cargo.toml names is let in.
    let admitted: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*"), "all that is not named is left out");
    for entry in &admitted {
        let path = root().join(entry.trim_end_matches("/*.rs"));
        assert!(path.exists(), ".dockerignore names what is not there: {entry}");
    }
    let named = manifest.lines().filter_map(|line| line.strip_prefix("path = \""));
    for path in named.map(|rest| rest.trim_end_matches('"')) {
        let folder = path.split('/').next().unwrap_or(path);
        let found = admitted.iter().any(|entry| entry.split('/').next() == Some(folder));
        assert!(found, "an image cannot be built without {path}");
    }
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let compiler = format!("FROM rust:{}-", version.unwrap().trim_matches('"'));
    assert!(image.contains(&compiler), "the image is built by another compiler than {compiler}");
    assert!(image.contains("\nUSER 10001:10001\n"), "the job does not run as root");
}

#[test]
fn the_server_is_looked_after() {
    let image = fs::read_to_string(root().join("docker/Dockerfile")).unwrap();
    // It is what is built when nobody says which.
    let (_, serve) = image.split_once("\nFROM run AS serve\n").unwrap();
    assert!(!serve.contains("\nFROM "), "the server is the last stage");
    for needed in [
        "HEALTHCHECK ",
        "GET /health/live ",
        "CMD [\"serve\", \"jobs/travel-assistant\"]",
        "VOLUME /sluice/state",
    ] {
        assert!(serve.contains(needed), "the server's image has no `{needed}`");
    }
    let composition = yaml("compose.yaml");
    let service = &composition["services"]["serve"];
    assert_eq!(service["build"]["target"].as_str(), Some("serve"));
    // Its secrets come from the shell: none has a value.
    let environment = service["environment"].as_mapping().unwrap();
    let secrets: Vec<bool> = environment
        .iter()
        .filter(|(name, _)| name.as_str().is_some_and(|name| name.starts_with("TRAVEL_")))
        .map(|(_, value)| value.is_null())
        .collect();
    assert!(secrets.len() >= 4 && secrets.iter().all(|is_empty| *is_empty), "{secrets:?}");
}

#[test]
fn both_run_the_main_job() {
    for name in ["Dockerfile", "compose.yaml"] {
        let text = fs::read_to_string(root().join("docker").join(name)).unwrap();
        let mut lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        assert!(lines.any(|line| line.contains("jobs/insurance-movements")), "{name}");
    }
    assert!(root().join("jobs/insurance-movements").is_dir());
}

/// A YAML file of `docker/`.
fn yaml(name: &str) -> saphyr::YamlOwned {
    use saphyr::LoadableYamlNode;
    let text = fs::read_to_string(root().join("docker").join(name)).unwrap();
    saphyr::YamlOwned::load_from_str(&text).unwrap().remove(0)
}

#[test]
fn what_shows_metrics_fits_together() {
    for name in ["prometheus.yml", "grafana/datasource.yaml", "grafana/dashboards.yaml"] {
        assert!(yaml(name).is_mapping(), "{name}");
    }
    let text = fs::read_to_string(root().join("docker/compose.yaml")).unwrap();
    // What the composition hands to containers is there.
    let mounted: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ./")?.split(':').next())
        .collect();
    assert_eq!(mounted.len(), 4, "{mounted:?}");
    for path in mounted {
        assert!(root().join("docker").join(path).is_file(), "compose.yaml mounts {path}");
    }
    let images = text.lines().filter_map(|line| line.trim().strip_prefix("image: "));
    for image in images.filter(|image| !image.starts_with("sluice")) {
        let (_, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
        assert!(tag.chars().any(|c| c.is_ascii_digit()), "{image} has no version");
    }
}

/// What the dashboard may ask for.
const METRICS: [&str; 18] = [
    "sluice_epochs_total",
    "sluice_epoch_seconds_bucket",
    "sluice_rows_total",
    "sluice_lag_rows",
    "sluice_lag_seconds",
    "sluice_state_bytes",
    "sluice_files",
    "sluice_memory_bytes",
    "sluice_view_",
    "sluice_view_series_dropped",
    "sluice_http_requests_total",
    "sluice_http_seconds_bucket",
    "sluice_webhook_requests_total",
    "sluice_webhook_ack_seconds_bucket",
    "sluice_webhook_backlog_rows",
    "sluice_queries_total",
    "sluice_query_seconds_bucket",
    "sluice_runs_total",
];

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let text = fs::read_to_string(root().join("docker/grafana/dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let source = fs::read_to_string(root().join("docker/grafana/datasource.yaml")).unwrap();
    let mut asked = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let uid = panel["datasource"]["uid"].as_str().unwrap();
        assert!(source.contains(&format!("uid: {uid}\n")), "no data source {uid}");
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap();
            // Gauges of views have their views' labels only, and this one is about them.
            let of_views = expr.contains("sluice_view_");
            assert!(!of_views || !expr.contains("$job"), "{expr}");
            assert!(!of_views || expr.contains("!=\"sluice_view_series_dropped\""), "{expr}");
            let names = expr.split(|c: char| c != '_' && !c.is_ascii_alphanumeric());
            asked.extend(names.filter(|name| name.starts_with("sluice_")).map(str::to_string));
        }
    }
    for name in &asked {
        assert!(METRICS.contains(&name.as_str()), "the dashboard asks for {name}");
    }
    for name in METRICS {
        assert!(asked.iter().any(|asked| asked == name), "the dashboard shows no {name}");
    }
}
