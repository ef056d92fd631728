//! The files for clusters and clouds in `docker/`: Kubernetes' own schemas, Terraform's own form and
//! its judgement of variables, and what lifecycle rules and accounts are allowed.
//!
//! No cluster and no cloud is asked. As with the image, every check is shown a broken file too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{installed, root};

/// What is wrong, as `tests/clients/deployment.py` tells it; empty when nothing is.
fn findings(args: &[&str]) -> String {
    let mut command = Command::new(installed(".venv/bin/python"));
    command.arg(root().join("tests/clients/deployment.py")).args(args).stdin(Stdio::null());
    let output = command.output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.is_empty(), "{args:?}: {said}");
    assert_eq!(output.status.success(), found.is_empty(), "{args:?}: {found}");
    found
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `folder` of `docker/` in a place of its own, in whose `file` a part is replaced.
fn broken(folder: &str, file: &str, part: &str, by: &str) -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join(folder.replace('/', "-"));
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(root().join("docker").join(folder)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    let whole = fs::read_to_string(copy.join(file)).unwrap();
    assert!(whole.contains(part), "{folder}/{file} has no `{part}`");
    fs::write(copy.join(file), whole.replacen(part, by, 1)).unwrap();
    (place, copy)
}

#[test]
fn kubernetes_takes_its_files() {
    let folder = root().join("docker/kubernetes");
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut args = vec!["kubernetes"];
    args.extend(files.iter().map(|file| text(file)));
    assert_eq!(findings(&args), "");

    for (file, part, by, says) in [
        ("serve.yaml", "httpGet", "httGet", "httGet"),
        ("serve.yaml", "runAsNonRoot: true", "runAsNonRoot: maybe", "boolean"),
        ("serve.yaml", "apps/v1", "app/v1", "has no app/v1 Deployment"),
        ("state.yaml", "[ReadWriteOnce]", "ReadWriteOnce", "array"),
        ("service.yaml", "port: 80,", "port: http,", "integer"),
    ] {
        let (_place, copy) = broken("kubernetes", file, part, by);
        let found = findings(&["kubernetes", text(&copy.join(file))]);
        assert!(found.contains(says), "{file} with `{by}`: {found}");
    }
}

#[test]
fn a_server_in_a_cluster_is_looked_after_and_may_do_little() {
    let serve = fs::read_to_string(root().join("docker/kubernetes/serve.yaml")).unwrap();
    for needed in [
        "startupProbe:",
        "path: /health/startup",
        "livenessProbe:",
        "path: /health/live",
        "readinessProbe:",
        "path: /health/ready",
        "terminationGracePeriodSeconds: 60",
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "capabilities: {drop: [ALL]}",
        "claimName: sluice-state",
    ] {
        assert!(serve.contains(needed), "serve.yaml has no `{needed}`");
    }
    // What is a secret comes from one, and no file has its value.
    assert!(serve.contains("secretRef: {name: sluice}"));
    for entry in fs::read_dir(root().join("docker/kubernetes")).unwrap() {
        let path = entry.unwrap().path();
        let whole = fs::read_to_string(&path).unwrap();
        assert!(!whole.contains("kind: Secret\n"), "{}", path.display());
    }
}

#[test]
fn no_lifecycle_rule_takes_anything_of_a_lake() {
    for cloud in ["s3", "gcs"] {
        let folder = root().join("docker/terraform").join(cloud);
        let folder = text(&folder);
        assert_eq!(findings(&["terraform", folder]), "");
        assert_eq!(findings(&["prefixes", folder, "lakes/", "tmp/", "lake/", "inbox/old/"]), "");
        for (lake, prefix) in
            [("lakes/", "lakes/"), ("lakes/", "lakes/a/_sluice/"), ("team/lakes/", "team/")]
        {
            let found = findings(&["prefixes", folder, lake, prefix]);
            let found = found.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(found.contains("no rule may cover them"), "{cloud} {lake} {prefix}: {found}");
        }
    }
    let takes = "a rule takes objects of lakes";
    let more = "the account may do more";
    for (cloud, file, part, by, says) in [
        ("s3", "main.tf", "prefix = rule.value", "prefix = \"\"", takes),
        ("s3", "main.tf", "abort_incomplete_multipart_upload", "expiration", takes),
        ("s3", "main.tf", "\n  bucket = var.bucket", "\n  bucket  = var.bucket", "fmt"),
        ("s3", "account.tf", "\"s3:GetObject\"", "\"s3:*\"", more),
        ("s3", "account.tf", "s3:DeleteObject", "s3:DeleteBucket", more),
        ("gcs", "main.tf", "[lifecycle_rule.value]", "[\"\"]", takes),
        ("gcs", "main.tf", "\"AbortIncompleteMultipartUpload\"", "\"Delete\"", takes),
        ("gcs", "account.tf", "storage.objects.get", "storage.buckets.update", more),
    ] {
        let (_place, copy) = broken(&format!("terraform/{cloud}"), file, part, by);
        let found = findings(&["terraform", text(&copy)]);
        assert!(found.contains(says), "{cloud}/{file} with `{by}`: {found}");
    }
}
