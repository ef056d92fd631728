//! Whole projects through the whole reader: what jobs get from them, and what is wrong with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sluice_core::Problems;

use crate::job::fake::registry;
use crate::job::{
    Job, LoadOptions, Method, Origin, Pack, ParamFrom, Project, Role, SecretRef, Shape, TokenRef,
    load_project, project_schema, read_pack, resolve_project, resolve_secrets,
};

fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("sluice-project-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    for (file, text) in files {
        let file = path.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    path
}

fn options(target: Option<&str>, set: &[(&str, &str)]) -> LoadOptions {
    let set = set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    LoadOptions { target: target.map(str::to_string), set }
}

fn shown(problems: &Problems, root: &Path) -> Vec<String> {
    let one = |p: &sluice_core::Problem| {
        let file = p.file.strip_prefix(root).unwrap_or(&p.file).display().to_string();
        let place = p.span.map_or(String::new(), |s| format!("{}:{}: ", s.line, s.column));
        assert!(p.hint.as_ref().is_some_and(|h| !h.is_empty()), "no hint: {p}");
        format!("{file}:{place}{}", p.message)
    };
    problems.sorted().into_iter().map(one).collect()
}

fn loaded(
    name: &str,
    files: &[(&str, &str)],
    options: &LoadOptions,
) -> Result<(Project, Vec<Pack>), Vec<String>> {
    let root = folder(name, files);
    let loaded = load_project(&root, options, &registry());
    let _ = fs::remove_dir_all(&root);
    loaded.map_err(|problems| shown(&problems, &root))
}

const PROJECT: &str = r#"
project: acme
packs: [jobs/a, jobs/b]
lake: "${vars.root}/lake"
vars: {root: ./data, rows: 10, host: "127.0.0.1"}
targets:
  dev: {default: true}
  prod:
    vars: {root: s3://acme, rows: 1000}
    secrets: {key: {command: [vault, read, key]}}
    storage: {acme: {url: s3://acme, region: eu-west-3, secret_access_key: "${secrets.key}"}}
secrets:
  key: {env: KEY}
  anna: {env: ANNA}
  model: {env: MODEL}
storage:
  acme: {url: s3://acme, region: us-east-1}
  other: {url: s3://other, secret_access_key: "${secrets.model}"}
epoch: {every: 5s}
serve:
  http: "${vars.host}:9000"
  limits: {requests: 5, query_memory: 1MiB, query_time: 2s}
  timezone: Europe/Paris
  cors: [https://app.example.com]
users:
  anna: {role: admin, token: "${secrets.anna}"}
  bo: {role: read, token: {sha256: "2CF24DBA5FB0A30E26E83B2AC5B9E29E1B161E5C1FA7425E73043362938B9824"}}
endpoints:
  recent:
    path: /api/recent
    sql: SELECT a FROM t WHERE a > $least AND b = $city
    params: ["$least INT = 30", "$city TEXT"]
    role: public
    cache: 10s
  one:
    path: /api/items/{id}
    sql: SELECT a FROM t WHERE a = $id AND ($since IS NULL OR b > $since)
    params: {id: {type: BIGINT}, since: {type: TIMESTAMP, optional: true}}
    shape: object
    role: read
  chat:
    path: /api/chat
    role: operate
    forward: {url: "", model: m, key: "${secrets.model}"}
"#;

const A: &str = r#"
job: first
sources: {s: {connector: generate, rows: "${vars.rows}", columns: {a: {}, b: {}}}}
tables: {t: {sql: "SELECT a, b FROM s"}}
"#;

const B: &str = r#"
job: second
lake: ./own
vars: {rows: 7}
epoch: {rows: 100, every: 1s}
sources: {s: {connector: generate, rows: "${vars.rows}", columns: {a: {}}}}
tables: {u: {sql: SELECT a FROM s}}
"#;

const FILES: [(&str, &str); 3] =
    [("sluice.yaml", PROJECT), ("jobs/a/a.yaml", A), ("jobs/b/b.yaml", B)];

fn jobs(packs: &[Pack]) -> [Arc<Job>; 2] {
    [packs[0].jobs[0].clone(), packs[1].jobs[0].clone()]
}

#[test]
fn a_whole_project_is_read_without_an_open_question() {
    let (project, _) = loaded("whole", &FILES, &LoadOptions::default()).unwrap();
    assert_eq!((project.name.as_str(), project.target.as_deref()), ("acme", Some("dev")));
    let serve = &project.serve;
    assert_eq!((serve.http.as_str(), serve.postgres.as_deref()), ("127.0.0.1:9000", None));
    assert_eq!((serve.limits.requests, serve.limits.query_memory), (5, 1 << 20));
    assert_eq!(serve.limits.query_time, Duration::from_secs(2));
    assert_eq!((serve.limits.queue, serve.drain), (64, Duration::from_secs(30)));
    assert_eq!(serve.timezone.name(), "Europe/Paris");
    assert_eq!(serve.state, project.root.join(".sluice"));
    assert_eq!(project.users[0].token, TokenRef::Secret("anna".into()));
    assert_eq!(project.users[1].role, Role::Read);
    assert!(matches!(&project.users[1].token, TokenRef::Sha256(hex) if hex.starts_with("2cf24d")));
    let [recent, one, chat] = project.endpoints.as_slice() else { unreachable!("three") };
    assert_eq!((recent.method, recent.shape, recent.role), (Method::Get, Shape::List, None));
    assert_eq!(recent.params[0].default, Some(json!(30)));
    assert_eq!(recent.params[1].from, ParamFrom::Query);
    assert_eq!(recent.cache, Some(Duration::from_secs(10)));
    assert_eq!((one.params[0].from, one.role), (ParamFrom::Path, Some(Role::Read)));
    assert_eq!(one.params[1].default, Some(serde_json::Value::Null));
    let forward = chat.forward.as_ref().unwrap();
    assert_eq!((chat.method, forward.key.as_deref()), (Method::Post, Some("model")));
    assert!(forward.url.is_empty() && chat.sql.is_none());
}

#[test]
fn a_project_lends_what_a_job_lacks_and_later_wins() {
    let rows = |job: &Job| job.sources[0].config.value["rows"].clone();
    let (_, packs) = loaded("lends", &FILES, &LoadOptions::default()).unwrap();
    let [first, second] = jobs(&packs);
    assert_eq!((first.lake.as_str(), second.lake.as_str()), ("./data/lake", "./own"));
    assert_eq!((rows(&first), rows(&second)), (json!(10), json!(7)));
    assert_eq!(first.epoch.every, Some(Duration::from_secs(5)));
    assert_eq!((second.epoch.every, second.epoch.rows), (Some(Duration::from_secs(1)), 100));

    let (project, packs) = loaded("prod", &FILES, &options(Some("prod"), &[])).unwrap();
    let [first, second] = jobs(&packs);
    assert_eq!(project.lake.as_deref(), Some("s3://acme/lake"));
    assert_eq!((first.lake.as_str(), second.lake.as_str()), ("s3://acme/lake", "./own"));
    assert_eq!((rows(&first), rows(&second)), (json!(1000), json!(1000)), "a target over both");
    assert_eq!(
        project.secrets["key"],
        SecretRef::Command(vec!["vault".into(), "read".into(), "key".into()])
    );

    let (_, packs) = loaded("set", &FILES, &options(Some("prod"), &[("rows", "3")])).unwrap();
    assert!(jobs(&packs).iter().all(|job| rows(job) == json!(3)));
    let unknown = loaded("unknown", &FILES, &options(Some("prd"), &[("rwos", "3")]));
    assert_eq!(
        unknown.err().unwrap(),
        [
            "sluice.yaml:--set of an unknown variable name=rwos",
            "sluice.yaml:no such target name=prd",
        ]
    );
}

#[test]
fn a_job_has_those_buckets_and_secrets_of_its_project_that_it_needs() {
    let (_, packs) = loaded("needs-not", &FILES, &LoadOptions::default()).unwrap();
    let [first, second] = jobs(&packs);
    assert!(first.stores.is_empty() && first.secrets.is_empty(), "{first:?}");
    assert!(resolve_secrets(&second, |_| None).is_ok());
    let (_, packs) = loaded("needs", &FILES, &options(Some("prod"), &[])).unwrap();
    let [first, second] = jobs(&packs);
    assert_eq!(first.stores.len(), 1);
    assert_eq!(first.stores[0].settings["region"], "eu-west-3", "the target's bucket");
    assert_eq!(first.secrets.keys().collect::<Vec<_>>(), ["key"]);
    assert!(second.stores.is_empty() && second.secrets.is_empty());
}

#[test]
fn every_value_knows_where_it_was_written() {
    let given = options(Some("prod"), &[("host", "127.0.0.2")]);
    let root = folder("origins", &FILES);
    let [first, second] = ["jobs/a", "jobs/b"].map(|pack| {
        let (pack, problems) = read_pack(&root.join(pack), &given, &registry());
        assert_eq!(shown(&problems, &root), Vec::<String>::new());
        pack.jobs[0].clone()
    });
    let _ = fs::remove_dir_all(&root);
    let shown = |job: &Job, key: &str| {
        let text = job.origins[key].to_string();
        text.split('/').next_back().unwrap_or_default().to_string()
    };
    for (key, expected) in [
        ("lake", "b.yaml:3:7"),
        ("target", "--target"),
        ("vars.rows", "sluice.yaml:9:35 (target prod)"),
        ("vars.host", "--set"),
        ("epoch.rows", "b.yaml:5:15"),
        ("epoch.every", "b.yaml:5:27"),
    ] {
        assert_eq!(shown(&second, key), expected, "{key}");
    }
    assert!(matches!(&second.origins["vars.root"], Origin::Written { by_project: true, .. }));
    // A project lends limits and buckets too, of these the ones that a job names.
    assert_eq!(shown(&first, "epoch.every"), "sluice.yaml:19:16");
    assert_eq!(shown(&first, "storage.acme"), "sluice.yaml:11:15 (target prod)");
    assert!(!first.origins.contains_key("epoch.rows"));
    assert!(!second.origins.contains_key("storage.acme"));
}

#[test]
fn a_pack_belongs_to_the_project_that_names_it() {
    let project = "project: p\nlake: ./lake\npacks: [jobs/a]\n";
    let root = folder(
        "member",
        &[
            ("sluice.yaml", project),
            ("jobs/a/a.yaml", &A.replace("\"${vars.rows}\"", "1")),
            ("jobs/c/c.yaml", &A.replace("\"${vars.rows}\"", "1")),
        ],
    );
    let (pack, problems) =
        read_pack(&root.join("jobs/a/a.yaml"), &LoadOptions::default(), &registry());
    assert!(problems.is_empty(), "{problems}");
    assert_eq!(pack.jobs[0].lake, "./lake");
    let (_, problems) = read_pack(&root.join("jobs/c"), &LoadOptions::default(), &registry());
    assert_eq!(shown(&problems, &root), ["jobs/c/c.yaml:2:1: a key is missing key=lake"]);
    let _ = fs::remove_dir_all(&root);
}

#[test]
fn around_a_pack_without_a_project_there_is_one_with_defaults() {
    let root = folder("bare", &[("b.yaml", B)]);
    let (project, packs) = load_project(&root, &LoadOptions::default(), &registry()).unwrap();
    assert_eq!((project.file.as_deref(), project.lake.as_deref()), (None, Some("./own")));
    assert_eq!((packs[0].jobs.len(), project.serve.http.as_str()), (1, "127.0.0.1:8080"));
    let _ = fs::remove_dir_all(&root);
    let folders = [("sluice.yaml", "project: p\nlake: l\n"), ("b.yaml", B)];
    let (project, packs) = loaded("root", &folders, &LoadOptions::default()).unwrap();
    assert_eq!((project.packs.len(), packs[0].jobs[0].name.as_str()), (1, "second"));
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_place() {
    let project = r#"
project: acme
packs: [jobs/a, jobs/b, jobs/x]
lake: "${vars.rooot}/lake"
vars: {root: ./data, rows: 10}
serve:
  http: 0.0.0.0
  timezone: Europe/Pariss
  limits: {per: 0s, querys: 3}
  cors: [app.example.com]
users:
  anna: {role: boss, token: s3cret}
  bo: {role: read, token: s3cret}
endpoints:
  a: {path: /api/a, sql: "SELECT $day, $b", params: ["$days INT = 30", "$b int"], role: public}
  b: {path: "/api/{id}", sql: SELECT 1 AS a, role: public}
  c: {path: /api/a, sql: "SELECT $x", params: {x: {type: INTT}}, role: public}
  d: {path: /v1/x, sql: SELECT 1 AS a}
  e: {path: /api/e, sql: "SELECT $f", params: {f: {type: INT, default: many, from: body}}, role: read}
  f: {path: /api/f, role: read, forward: {url: host, key: plain, messages: first.nothing}}
"#;
    let files =
        [("sluice.yaml", project), FILES[1], ("jobs/b/b.yaml", &B.replace("rows: 7", "root: 5"))];
    let found = loaded("wrong", &files, &LoadOptions::default()).err().unwrap();
    assert_eq!(
        found,
        [
            "jobs/b/b.yaml:4:14: a number here, text in the project",
            "sluice.yaml:3:25: no such folder pack=jobs/x",
            "sluice.yaml:4:7: no such variable name=rooot",
            "sluice.yaml:7:9: not an address text=0.0.0.0",
            "sluice.yaml:8:13: no such time zone name=Europe/Pariss",
            "sluice.yaml:9:17: the time is zero",
            "sluice.yaml:9:21: unknown key key=querys",
            "sluice.yaml:10:10: not an origin text=app.example.com",
            "sluice.yaml:12:16: not a value that can stand here value=boss",
            "sluice.yaml:13:27: a secret does not stand in a file",
            "sluice.yaml:15:34: no such parameter name=day",
            "sluice.yaml:16:13: the path names a parameter that is not declared name=id",
            "sluice.yaml:17:13: the path is taken path=/api/a method=GET",
            "sluice.yaml:17:58: not a type of a parameter type=INTT",
            "sluice.yaml:18:3: a key is missing key=role",
            "sluice.yaml:18:13: the path is served already path=/v1/x",
            "sluice.yaml:19:72: the default is no INT value=\"many\"",
            "sluice.yaml:19:84: the parameter does not stand there name=f",
            "sluice.yaml:20:48: not the address of a server url=host",
            "sluice.yaml:20:59: a secret does not stand in a file",
            "sluice.yaml:20:76: no such source name=nothing job=first",
        ]
    );
}

#[test]
fn addresses_and_folders_of_the_server_are_of_this_machine() {
    let project = "project: p\nlake: l\nserve: {http: 21234, state: s3://a/b, site: gone}\n";
    let root = folder("served", &[("sluice.yaml", project), ("b.yaml", B)]);
    let problems = load_project(&root, &LoadOptions::default(), &registry()).err().unwrap();
    let _ = fs::remove_dir_all(&root);
    let found = shown(&problems, &root);
    let wanted = [
        "sluice.yaml:3:15: expected text, found a number",
        "sluice.yaml:3:29: the state is kept on the local disk text=s3://a/b",
        "sluice.yaml:3:45: no such folder site=",
    ];
    assert!(found.iter().zip(wanted).all(|(f, w)| f.starts_with(w)), "{found:#?}");
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    assert!(problems.to_string().contains("such as `127.0.0.1:8080`"), "{problems}");
}

#[test]
fn the_key_of_a_model_that_is_not_configured_is_not_missing() {
    let missing = |url: &str| {
        let forward = format!("{{url: \"{url}\", key: \"${{secrets.model}}\"}}");
        let endpoint = format!("chat: {{path: /api/chat, role: public, forward: {forward}}}");
        let project = format!(
            "project: p\nlake: l\nsecrets: {{model: {{env: MODEL}}}}\nendpoints:\n  {endpoint}\n"
        );
        let files = [("sluice.yaml", project.as_str()), ("b.yaml", B)];
        let (project, _) = loaded("idle", &files, &LoadOptions::default()).unwrap();
        resolve_project(&project, |_| None).1.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(missing(""), Vec::<String>::new());
    assert_eq!(missing("http://127.0.0.1:11434/v1"), ["model"]);
}

#[test]
fn an_address_for_others_needs_users() {
    let project = "project: p\nlake: l\nserve: {http: 0.0.0.0:80}\n";
    let found = loaded("open", &[("sluice.yaml", project), ("b.yaml", B)], &LoadOptions::default());
    assert_eq!(
        found.err().unwrap(),
        ["sluice.yaml:3:15: others can reach this address and nobody is known address=0.0.0.0:80"]
    );
}

#[test]
fn pages_of_everybody_may_call_only_where_somebody_is_known() {
    let cors = |users: &str| {
        let project = format!("project: p\nlake: l\nserve: {{cors: [\"*\"]}}\n{users}");
        let files = [("sluice.yaml", project.as_str()), ("b.yaml", B)];
        loaded("cors", &files, &LoadOptions::default()).map(|(project, _)| project.serve.cors)
    };
    let hash = "a".repeat(64);
    let users = format!("users: {{a: {{role: read, token: {{sha256: {hash}}}}}}}\n");
    assert_eq!(cors(&users).unwrap(), ["*"]);
    assert_eq!(
        cors("").unwrap_err(),
        ["sluice.yaml:3:16: pages of everybody may call and nobody is known"]
    );
}

#[test]
fn names_are_unique_over_the_packs_of_a_project() {
    let twin = B.replace("{u:", "{t:");
    let files = [FILES[0], FILES[1], ("jobs/b/b.yaml", twin.as_str())];
    let found = loaded("unique", &files, &LoadOptions::default()).err().unwrap();
    assert_eq!(found, ["jobs/b/b.yaml:7:10: the name is taken by another job name=t"]);
}

#[test]
fn a_secret_without_a_value_keeps_nothing_else_from_one() {
    let (project, _) = loaded("secrets", &FILES, &LoadOptions::default()).unwrap();
    let (secrets, missing) =
        resolve_project(&project, |name| (name == "ANNA").then(|| "t0ken".to_string()));
    assert_eq!(secrets.get("anna"), Some("t0ken"));
    assert_eq!(missing.keys().collect::<Vec<_>>(), ["key", "model"]);
}

#[test]
fn the_editors_schema_admits_the_project() {
    let schema = project_schema();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let parse = |text: &str| {
        let mut problems = Problems::new();
        let document = crate::job::read::Document::parse(Path::new("p"), text, &mut problems);
        document.unwrap().value
    };
    let errors: Vec<String> =
        validator.iter_errors(&parse(PROJECT)).map(|e| e.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
    for (from, to) in [("role: admin", "role: boss"), ("requests: 5", "request: 5")] {
        assert!(!validator.is_valid(&parse(&PROJECT.replacen(from, to, 1))), "{to}");
    }
}
