//! The crates: how many there are, which may use which, what each never sees, and that there is
//! one integration-test executable.

use std::collections::BTreeMap;

const CRATES: usize = 5;

/// Each crate, those of ours it may use, and dependencies it never has.
const RULES: [(&str, &[&str], &[&str]); 5] = [
    ("sluice-core", &[], &["tokio", "datafusion", "object_store", "deltalake"]),
    ("sluice-lake", &["sluice-core"], &["datafusion"]),
    ("sluice-runtime", &["sluice-lake", "sluice-core"], &["rdkafka", "axum"]),
    ("sluice-connectors", &["sluice-lake", "sluice-core"], &["datafusion", "deltalake"]),
    ("sluice", &["sluice-runtime", "sluice-connectors", "sluice-lake", "sluice-core"], &[]),
];

/// What is wrong between the crates of `manifests`: path and text of each `Cargo.toml`.
pub fn check(manifests: &[(String, String)]) -> Vec<String> {
    let mut findings = Vec::new();
    let packages: Vec<_> = manifests.iter().filter_map(|(p, t)| Some((p, package(t)?))).collect();
    if packages.len() > CRATES {
        findings.push(format!("{} crates, limit {CRATES}", packages.len()));
    }
    for (path, (name, dependencies)) in packages {
        let Some((_, may, never)) = RULES.iter().find(|(rule, ..)| *rule == name) else {
            findings.push(format!("{path}: crate {name} is not on the ladder"));
            continue;
        };
        for dependency in dependencies {
            let ours = dependency == "sluice" || dependency.starts_with("sluice-");
            if ours && !may.contains(&dependency.as_str()) {
                findings.push(format!("{path}: {name} uses {dependency}, which is not below it"));
            }
            let banned =
                |ban: &&str| dependency == **ban || dependency.starts_with(&format!("{ban}-"));
            if never.iter().any(banned) {
                findings.push(format!("{path}: {name} never sees {dependency}"));
            }
        }
    }
    findings
}

/// More than one integration-test executable, declared or found by name.
pub fn check_test_executables(manifests: &[(String, String)], files: &[String]) -> Vec<String> {
    let mut executables: Vec<String> = Vec::new();
    for (path, text) in manifests {
        let count = text.lines().filter(|line| line.trim() == "[[test]]").count();
        executables.extend((0..count).map(|_| path.clone()));
    }
    executables.extend(
        files
            .iter()
            .filter(|path| {
                let tests = path.split('/').position(|part| part == "tests");
                let automatic = tests.is_some_and(|at| at == 2 && path.split('/').count() <= 4);
                automatic && path.starts_with("engine/")
            })
            .cloned(),
    );
    executables.sort();
    match executables.len() {
        1 => Vec::new(),
        n => vec![format!("{n} integration-test executables: {}", executables.join(", "))],
    }
}

/// Name and dependencies (of every kind) of a manifest that has a package.
fn package(text: &str) -> Option<(String, Vec<String>)> {
    let mut section = String::new();
    let mut name = None;
    let mut dependencies: BTreeMap<String, ()> = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = title.trim_matches(['[', ']']).to_string();
            if let Some((_, dependency)) = section.split_once("dependencies.") {
                dependencies.insert(dependency.to_string(), ());
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        if section == "package" && key.trim() == "name" {
            name = Some(value.trim().trim_matches('"').to_string());
        }
        if section.ends_with("dependencies") && section != "workspace.dependencies" {
            let dependency = key.trim().split('.').next().unwrap_or_default();
            dependencies.insert(dependency.trim_matches('"').to_string(), ());
        }
    }
    Some((name?, dependencies.into_keys().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, dependencies: &str) -> (String, String) {
        let text = format!("[package]\nname = \"{name}\"\n[dependencies]\n{dependencies}\n");
        (format!("{name}/Cargo.toml"), text)
    }

    #[test]
    fn arrows_up_and_sideways_are_found() {
        let up = manifest("sluice-lake", "sluice-runtime.workspace = true");
        assert!(check(&[up])[0].contains("not below it"));
        let sideways = manifest("sluice-runtime", "[dev-dependencies]\nsluice-connectors = \"1\"");
        assert!(check(&[sideways])[0].contains("sluice-connectors"));
        let table = manifest("sluice-core", "[dependencies.sluice-lake]\npath = \"x\"");
        assert!(check(&[table])[0].contains("sluice-lake"));
        let good = manifest("sluice-runtime", "sluice-lake.workspace = true\ndatafusion = \"1\"");
        assert!(check(&[good]).is_empty());
    }

    #[test]
    fn what_a_crate_never_sees_is_found() {
        let sql = manifest("sluice-connectors", "datafusion-common = \"55\"");
        assert!(check(&[sql])[0].contains("never sees datafusion-common"));
        assert!(check(&[manifest("sluice-core", "tokio = \"1\"")])[0].contains("never sees tokio"));
    }

    #[test]
    fn a_sixth_crate_is_found() {
        let six: Vec<_> = (0..6).map(|n| manifest(&format!("sluice-x{n}"), "")).collect();
        assert!(check(&six)[0].contains("6 crates"));
        assert!(check(&six[..1])[0].contains("not on the ladder"));
    }

    #[test]
    fn a_second_test_executable_is_found() {
        let one = [("Cargo.toml".to_string(), "[[test]]\nname = \"main\"\n".to_string())];
        assert!(
            check_test_executables(&one, &["engine/lake/src/store/tests.rs".into()]).is_empty()
        );
        let found = check_test_executables(&one, &["engine/lake/tests/more.rs".into()]);
        assert!(found[0].contains("engine/lake/tests/more.rs"), "{found:?}");
        assert!(check_test_executables(&[], &[])[0].starts_with("0 "));
    }
}
