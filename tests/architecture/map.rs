//! What the documents claim about the repository: the README's map, links, the test command.
//!
//! The map is the table under `## Map`; the first cell of a row names a path in backquotes.

/// Paths that the map names, in order.
pub fn paths(readme: &str) -> Vec<String> {
    let section = readme.split("\n## ").find(|part| part.starts_with("Map")).unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.trim().strip_prefix("| `")?.split('`').next())
        .map(|path| path.trim_end_matches('/').to_string())
        .collect()
}

/// Top-level folders that the map names.
pub fn folders(readme: &str) -> Vec<String> {
    paths(readme).into_iter().filter(|path| !path.contains(['/', '.'])).collect()
}

/// Folders that only the map or only the disk knows.
pub fn check(readme: &str, folders_on_disk: &[String]) -> Vec<String> {
    let named = folders(readme);
    let mut findings = Vec::new();
    for folder in folders_on_disk {
        if !named.contains(folder) {
            findings.push(format!("README.md: the map does not name {folder}"));
        }
    }
    for folder in named {
        if !folders_on_disk.contains(&folder) {
            findings.push(format!("README.md: the map names {folder}, which is not there"));
        }
    }
    findings
}

/// Targets of relative links, without anchors.
pub fn links(markdown: &str) -> Vec<String> {
    markdown
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split('#').next().unwrap_or_default().to_string())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

/// The README has exactly two commands in `sh` blocks, and CI runs the second word for word.
pub fn check_test_command(readme: &str, ci: &str) -> Vec<String> {
    let commands: Vec<&str> =
        readme.split("```sh\n").skip(1).filter_map(|block| block.split("\n```").next()).collect();
    let [_, test] = commands[..] else {
        return vec![format!("README.md: {} commands, want two", commands.len())];
    };
    if ci.lines().any(|line| line == test) {
        return Vec::new();
    }
    vec![format!("the README tests with `{test}`, which CI does not run")]
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "# A\n\n## Map\n| | |\n|---|---|\n| `engine` | x |\n| `jobs/` | y |\n\
                          | `engine/core` | z |\n\n## Next\n| `not` | map |\n";

    #[test]
    fn an_untrue_map_is_found() {
        let on_disk = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        assert!(check(README, &on_disk(&["engine", "jobs"])).is_empty());
        assert!(check(README, &on_disk(&["engine", "jobs", "src"]))[0].contains("not name src"));
        assert!(check(README, &on_disk(&["engine"]))[0].contains("jobs, which is not there"));
        assert_eq!(paths(README), ["engine", "jobs", "engine/core"]);
    }

    #[test]
    fn links_are_found() {
        let text = "[a](b/c.md#d) and [e](https://f) and [g](#h) and [i](../j)";
        assert_eq!(links(text), ["b/c.md", "../j"]);
    }

    #[test]
    fn another_test_command_is_found() {
        let readme = "```sh\nrun me\n```\ntext\n```sh\ntest me\n```\n";
        assert!(check_test_command(readme, "set -e\ntest me\n").is_empty());
        assert!(check_test_command(readme, "test me twice\n")[0].contains("does not run"));
        assert!(check_test_command("```sh\nrun\n```\n", "run")[0].contains("1 commands"));
    }
}
