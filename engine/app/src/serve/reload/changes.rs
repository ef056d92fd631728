//! What is another between two readings of the definitions, and what that means.
//!
//! In: projects and planned jobs, those in force and those that are to be; what `sluice plan` says
//! of a lake. Out: changes with their reasons, in words. Pure: nothing is read and nothing is done.

use std::collections::{BTreeMap, BTreeSet};

use sluice_core::Secrets;
use sluice_runtime::job::{EndpointSpec, Job, MetricsSpec, Project, ServeSpec};
use sluice_runtime::plan::Graph;
use sluice_runtime::query::Readable;
use sluice_runtime::recover::{Change as Foreseen, definition_of};

use super::Change;

/// What is another in `after`, in the order: jobs, users, endpoints, serve.
pub(super) fn changes(
    before: &Project,
    after: &Project,
    jobs_before: &[Readable],
    jobs_after: &[Readable],
) -> Vec<Change> {
    let of_jobs = |jobs: &'_ [Readable]| -> BTreeMap<String, Readable> {
        jobs.iter().map(|job| (job.graph.job.name.clone(), job.clone())).collect()
    };
    let of_users = |project: &Project| -> BTreeMap<String, _> {
        project.users.iter().map(|user| (user.name.clone(), user.clone())).collect()
    };
    let of_endpoints = |project: &Project| -> BTreeMap<String, _> {
        project.endpoints.iter().map(|e| (e.name.clone(), e.clone())).collect()
    };
    let mut changes =
        compared("job", &of_jobs(jobs_before), &of_jobs(jobs_after), |before, after| {
            let mut reasons = job_reasons(&before.graph, &after.graph);
            reasons.extend(secrets_reason(&before.secrets, &after.secrets));
            reasons
        });
    changes.extend(compared("user", &of_users(before), &of_users(after), |before, after| {
        reasons([("role", before.role != after.role), ("token", before.token != after.token)])
    }));
    changes.extend(compared(
        "endpoint",
        &of_endpoints(before),
        &of_endpoints(after),
        endpoint_reasons,
    ));
    let serve = serve_reasons(&before.serve, &after.serve);
    if !serve.is_empty() {
        let (name, how) = (after.name.clone(), "changed");
        changes.push(Change { kind: "serve", name, how, reasons: serve });
    }
    changes
}

/// Entries that came, went, or for which `reasons` gives some.
fn compared<T>(
    kind: &'static str,
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
    reasons: impl Fn(&T, &T) -> Vec<String>,
) -> Vec<Change> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for name in names {
        let (how, reasons) = match (before.get(name), after.get(name)) {
            (Some(before), Some(after)) => ("changed", reasons(before, after)),
            (None, _) => ("added", Vec::new()),
            (_, None) => ("removed", Vec::new()),
        };
        if how != "changed" || !reasons.is_empty() {
            changes.push(Change { kind, name: name.clone(), how, reasons });
        }
    }
    changes
}

fn reasons<const N: usize>(found: [(&str, bool); N]) -> Vec<String> {
    found.into_iter().filter(|(_, is)| *is).map(|(reason, _)| reason.to_string()).collect()
}

/// Why a job is another: what became of its relations, then what else.
fn job_reasons(before: &Graph, after: &Graph) -> Vec<String> {
    let (was, is) = (relations(before), relations(after));
    let names: BTreeSet<&Relation> = was.keys().chain(is.keys()).collect();
    let of_relations = names.into_iter().filter_map(|what| {
        let how = match (was.get(what), is.get(what)) {
            (Some(before), Some(after)) if before == after => return None,
            (Some(_), Some(_)) => "changed",
            (None, _) => "added",
            (_, None) => "removed",
        };
        Some(format!("{} {} {how}", what.0, what.1))
    });
    let (before, after) = (&before.job, &after.job);
    let rest = reasons([
        ("schedule", before.schedule != after.schedule || before.timing != after.timing),
        ("lake", before.lake != after.lake),
        ("target", before.target != after.target),
        ("epoch", before.epoch != after.epoch),
        ("shards", before.shards != after.shards),
        ("storage", before.stores != after.stores),
        ("docs", is_shown_otherwise(before, after)),
    ]);
    of_relations.chain(rest).collect()
}

/// Its kind and its name, neither of which has a space in it.
type Relation = (&'static str, String);

/// What makes each relation of a job what it is, its place and its files included.
fn relations(graph: &Graph) -> BTreeMap<Relation, String> {
    let job = &graph.job;
    let sources = job.sources.iter().map(|s| (("source", s.name.clone()), s.settings_hash()));
    let tables = job.tables.iter().map(|t| {
        let limits: Vec<_> = t.expect.iter().map(|e| (&e.name, e.fail_above)).collect();
        let beside = format!("{} {:?} {limits:?}", t.folder, t.files);
        (("table", t.name.clone()), definition_of(graph, &t.name) + &beside)
    });
    let views = job
        .views
        .iter()
        .map(|v| (("view", v.name.clone()), definition_of(graph, &v.name) + &v.folder));
    let sinks = job.sinks.iter().map(|s| {
        let backlog = format!("{:?}", s.backlog);
        (("sink", s.name.clone()), s.settings_hash() + &backlog)
    });
    sources.chain(tables).chain(views).chain(sinks).collect()
}

/// Whether what is only shown of a relation is another: texts for people, and gauges.
fn is_shown_otherwise(before: &Job, after: &Job) -> bool {
    let after = shown(after);
    shown(before).iter().any(|(name, was)| after.get(name).is_some_and(|is| is != was))
}

fn shown(job: &Job) -> BTreeMap<&str, (&str, Option<&MetricsSpec>)> {
    let tables = job.tables.iter().map(|t| (t.name.as_str(), (t.doc.as_str(), None)));
    let views = job.views.iter();
    let views = views.map(|v| (v.name.as_str(), (v.doc.as_str(), v.metrics.as_ref())));
    tables.chain(views).collect()
}

/// Whether relations of a job are others, so that its lake has something to say.
pub(super) fn moves_relations(change: &Change) -> bool {
    change.kind == "job"
        && change.how == "changed"
        && change.reasons.iter().any(|r| r.contains(' '))
}

/// Adds what a run would do about it to what changed of each relation, as `sluice plan` says it,
/// and why a run would be refused.
pub(super) fn foretell(change: &mut Change, said: &[Foreseen]) {
    for Foreseen { relation, text } in said {
        let text = text.strip_prefix("changed: ").unwrap_or(text);
        let about = |reason: &&mut String| reason.split(' ').nth(1) == Some(relation.as_str());
        if let Some(reason) = change.reasons.iter_mut().find(about) {
            reason.push_str(&format!(": {text}"));
        } else if *relation == change.name {
            change.reasons.push(text.to_string());
        }
    }
}

fn secrets_reason(before: &Secrets, after: &Secrets) -> Option<String> {
    let values = |secrets: &'_ Secrets| -> BTreeMap<String, Option<String>> {
        let value = |name: &str| (name.to_string(), secrets.get(name).map(str::to_string));
        secrets.names().map(value).collect()
    };
    (values(before) != values(after)).then(|| "secrets".to_string())
}

/// Why an endpoint is another.
fn endpoint_reasons(before: &EndpointSpec, after: &EndpointSpec) -> Vec<String> {
    reasons([
        ("path", (before.method, &before.path) != (after.method, &after.path)),
        ("sql", before.sql != after.sql),
        ("params", before.params != after.params),
        ("shape", before.shape != after.shape),
        ("role", before.role != after.role),
        ("cache", before.cache != after.cache),
        ("forward", before.forward != after.forward),
        ("doc", before.doc != after.doc),
    ])
}

/// What of `serve:` is another.
fn serve_reasons(before: &ServeSpec, after: &ServeSpec) -> Vec<String> {
    reasons([
        ("http", before.http != after.http),
        ("postgres", before.postgres != after.postgres),
        ("tls", before.tls != after.tls),
        ("state", before.state != after.state),
        ("site", before.site != after.site),
        ("cors", before.cors != after.cors),
        ("proxies", before.proxies != after.proxies),
        ("limits", before.limits != after.limits),
        ("drain", before.drain != after.drain),
        ("timezone", before.timezone != after.timezone),
        ("history", before.history != after.history),
    ])
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::definitions::{Columns, define, readable};
    use crate::environment::{Resources, environment};

    const PROJECT: &str = r#"
project: shop
lake: ./lake
vars: {rows: 3}
users: {anna: {role: read, token: {sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}}}
endpoints:
  all: {path: /api/all, sql: SELECT id FROM facts, role: public}
  one: {path: "/api/{id}", sql: SELECT id FROM facts WHERE id = $id, params: [$id INT], role: read}
"#;

    const JOB: &str = r#"
job: ingest
sources: {orders: {connector: generate, rows: "${vars.rows}", columns: {id: {sequence: {}}}}}
tables: {facts: {sql: SELECT id FROM orders}}
schedule: {every: 10min}
"#;

    async fn read(
        folder: &Path,
        project: &str,
        job: &str,
    ) -> Result<(Project, Vec<Readable>), String> {
        fs::write(folder.join("sluice.yaml"), project).unwrap();
        fs::write(folder.join("job.yaml"), job).unwrap();
        let environment = environment(&Resources::default());
        let found = define(&environment, folder, &Default::default(), Columns::Declared).await;
        let found = found.map_err(|failure| failure.text())?;
        Ok((found.project, readable(found.graphs).unwrap()))
    }

    fn told(changes: &[Change]) -> Vec<String> {
        let one = |c: &Change| format!("{} {} {}: {}", c.kind, c.name, c.how, c.reasons.join(", "));
        changes.iter().map(one).collect()
    }

    #[tokio::test]
    async fn what_changed_is_told_with_its_reasons() {
        let folder = tempfile::tempdir().unwrap();
        let (before, jobs) = read(folder.path(), PROJECT, JOB).await.unwrap();
        assert_eq!(changes(&before, &before, &jobs, &jobs), Vec::new());
        for (from, to, expected) in [
            ("rows: 3", "rows: 4", vec!["job ingest changed: source orders changed"]),
            ("every: 10min", "every: 5min", vec!["job ingest changed: schedule"]),
            (
                "SELECT id FROM orders",
                "SELECT id + 1 AS id FROM orders",
                vec!["job ingest changed: table facts changed"],
            ),
            (
                "schedule:",
                "views: {some: {sql: SELECT count(*) AS n FROM facts}}\nschedule:",
                vec!["job ingest changed: view some added"],
            ),
            (
                "{facts: {sql: SELECT id FROM orders}}",
                "{facts: {sql: SELECT id FROM orders, folder: kept}}",
                vec!["job ingest changed: table facts changed"],
            ),
            (
                "SELECT id FROM orders}",
                "SELECT id FROM orders, doc: What came in}",
                vec!["job ingest changed: docs"],
            ),
            ("job: ingest", "job: load", vec!["job ingest removed: ", "job load added: "]),
            ("lake: ./lake", "lake: ./other", vec!["job ingest changed: lake"]),
            ("anna: {role: read", "anna: {role: admin", vec!["user anna changed: role"]),
            ("  all:", "  every:", vec!["endpoint all removed: ", "endpoint every added: "]),
            ("params: [$id INT]", "params: [$id TEXT]", vec!["endpoint one changed: params"]),
            ("role: public", "role: operate", vec!["endpoint all changed: role"]),
            ("vars:", "serve: {drain: 5s}\nvars:", vec!["serve shop changed: drain"]),
            ("project: shop", "project: shop  # as before", vec![]),
        ] {
            let change = |text: &str| text.replacen(from, to, 1);
            assert!(PROJECT.contains(from) || JOB.contains(from), "{from}");
            let read = read(folder.path(), &change(PROJECT), &change(JOB)).await;
            let (after, changed) = read.unwrap();
            let found = changes(&before, &after, &jobs, &changed);
            assert_eq!(told(&found), expected, "{to}");
            let back = told(&changes(&after, &before, &changed, &jobs)).join("\n");
            assert_eq!(back.contains("view some removed"), to.starts_with("views:"), "{back}");
        }
    }

    #[tokio::test]
    async fn broken_definitions_are_refused_with_all_their_problems() {
        let folder = tempfile::tempdir().unwrap();
        let project = PROJECT.replace("FROM facts,", "FROM nothing,");
        let text = read(folder.path(), &project, JOB).await.unwrap_err();
        assert!(text.contains("no source, table or view has this name name=nothing"), "{text}");
        assert!(text.contains("sluice.yaml:7:"), "{text}");
        let project = PROJECT.replace("WHERE id = $id", "WHERE id = abss($id)");
        let text = read(folder.path(), &project, JOB).await.unwrap_err();
        assert!(text.contains("abss") && text.contains("sluice.yaml:8:"), "{text}");
    }

    #[tokio::test]
    async fn an_endpoint_behind_a_webhook_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let source = "orders: {connector: webhook, path: \"/api/{what}\", \
                      schema: {fields: [{name: id, type: int64}]}}";
        let generated = JOB.lines().find(|line| line.starts_with("sources:")).unwrap();
        let job = JOB.replace(generated, &format!("sources: {{{source}}}"));
        let text = read(folder.path(), PROJECT, &job).await.unwrap_err();
        for (name, path) in [("all", "/api/all"), ("one", "/api/{id}")] {
            let told = format!("endpoint={name} path={path} job=ingest source=orders");
            assert!(text.contains(&told), "{text}");
        }
    }

    #[test]
    fn what_a_run_would_do_stands_behind_what_changed() {
        let reasons = ["table facts changed", "sink out added", "schedule"];
        let mut change = Change {
            kind: "job",
            name: "ingest".to_string(),
            how: "changed",
            reasons: reasons.map(str::to_string).to_vec(),
        };
        assert!(moves_relations(&change));
        let said = [
            ("facts", "changed: applies to rows from the next epoch on"),
            ("other", "will be created"),
            ("ingest", "a run will be refused: why"),
        ];
        let said = said.map(|(relation, text)| Foreseen {
            relation: relation.to_string(),
            text: text.to_string(),
        });
        foretell(&mut change, &said);
        let expected = [
            "table facts changed: applies to rows from the next epoch on",
            "sink out added",
            "schedule",
            "a run will be refused: why",
        ];
        assert_eq!(change.reasons, expected);
        change.reasons = vec!["schedule".to_string()];
        assert!(!moves_relations(&change));
    }
}
