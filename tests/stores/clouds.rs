//! S3, Google's and Azure's stores as places for lakes and files: what they promise, how they are
//! reached, and what is said when they cannot be. The main pack works in each of them, and another
//! client reads the same there.

use sluice_core::Secrets;
use sluice_lake::store::open;
use sluice_lake::testing::store_conformance;

use crate::support::clients::{python, totals};
use crate::support::place::{Kind, Place};
use crate::support::root;
use crate::support::store::{DIALECTS, Dialect, ObjectStore, shared};

#[test]
fn every_store_keeps_the_same_promises() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for dialect in DIALECTS {
        let store = shared(dialect);
        let bucket = store.bucket();
        let secrets = Secrets::default().with_store(&bucket, store.settings());
        let folder = open(&format!("{bucket}/some/folder"), &secrets).unwrap();
        runtime.block_on(store_conformance(&folder)).unwrap();
    }
}

fn pack() -> String {
    root().join("jobs/insurance-movements").display().to_string()
}

/// Generated, stored raw, made into tables and views, all in a bucket; and more of it.
fn the_main_pack_works(kind: Kind) {
    let place = Place::new(kind);
    for rows in ["rows=3000", "rows=5000"] {
        place.job("run", &pack()).arg("--set").arg(rows).ok();
    }
    place.holds(&pack());
    let own = place.sql(&pack(), "SELECT count(*), sum(montant) FROM movements").remove(0);
    assert_eq!(own[0], "5000");
    let own = [own[0].clone(), own[1].trim_end_matches('0').trim_end_matches('.').to_string()];
    for client in ["deltalake", "polars"] {
        assert_eq!(totals(&place, client, "delta/movements", &["montant"]), own, "{client}");
    }
    let views = ["anomalies", "retrocessions", "monthly_trends", "agency_performance"];
    for view in views.into_iter().chain(["conformity"]) {
        let count = place.cell(&pack(), &format!("SELECT count(*) FROM {view}"));
        let read = totals(&place, "deltalake", &format!("views/{view}"), &[]);
        assert_eq!(read, [count], "{view}");
    }
}

#[test]
fn the_main_pack_works_on_s3() {
    the_main_pack_works(Kind::S3);
}

#[test]
fn the_main_pack_works_on_gcs() {
    the_main_pack_works(Kind::Gcs);
}

#[test]
fn the_main_pack_works_on_azure() {
    the_main_pack_works(Kind::Azure);
}

/// A job that reads from one store and writes into another.
const BETWEEN: &str = r#"job: between
lake: "${vars.lake}"
vars: {lake: ./lake, input: ./input}
secrets: {inbox_key: {env: INBOX_KEY}, lake_key: {env: LAKE_KEY}}
storage:
  inbox: {url: "${vars.input}", access_key_id: S3RVER, secret_access_key: "${secrets.inbox_key}", SETTINGS}
  lake: {url: "${vars.lake}", account_name: devstoreaccount1, account_key: "${secrets.lake_key}", ENDPOINT}
sources:
  orders:
    connector: files
    path: "${vars.input}/*.csv"
    schema: {fields: [{name: id, type: int64}]}
tables:
  kept: {sql: SELECT id FROM orders}
"#;

#[test]
fn buckets_have_credentials_of_their_own() {
    let (inbox, lake) = (shared(Dialect::S3), shared(Dialect::Azure));
    let place = Place::local();
    let input = place.write("input/1.csv", "id\n1\n2\n3\n");
    let folder = input.parent().unwrap().display().to_string();
    let bucket = inbox.bucket();
    python(&root().join("tests/clients/fill.py"), &[&bucket, &folder], &inbox.env());
    let address = |store: &ObjectStore| format!("endpoint: \"{}\"", store.settings()["endpoint"]);
    let text = BETWEEN.replace("SETTINGS", &format!("region: eu-west-1, {}", address(inbox)));
    place.write("between.yaml", &text.replace("ENDPOINT", &address(lake)));
    let url = lake.bucket();
    let call = |command: &str| {
        let call = place.sluice(&[command, "between.yaml"]);
        let call = call.arg("--set").arg(format!("lake={url}/lake"));
        let call = call.arg("--set").arg(format!("input={bucket}{folder}"));
        // What the environment has for everybody is not mixed with it.
        call.env("AWS_SESSION_TOKEN", "another's").env("AZURE_STORAGE_SAS_TOKEN", "sv=another")
    };
    let keyed = |command: &str| {
        call(command).env("INBOX_KEY", "S3RVER").env("LAKE_KEY", &lake.settings()["account_key"])
    };
    keyed("run").ok();
    let rows = keyed("sql").arg("SELECT count(*) FROM kept").arg("--format").arg("csv").ok();
    assert_eq!(rows.stdout.lines().last(), Some("3"), "{}", rows.text());
    // Tables that no job has are read with what the job says of their buckets.
    let table = keyed("sql").arg("--table").arg(format!("again={url}/lake/kept"));
    let rows = table.arg("SELECT sum(id) FROM again").arg("--format").arg("csv").ok();
    assert_eq!(rows.stdout.lines().last(), Some("6"), "{}", rows.text());
    let wrong = call("run").env("INBOX_KEY", "S3RVER").env("LAKE_KEY", "d3Jvbmc=").expect(1);
    wrong.says(&["check the credentials", "AZURE_STORAGE_ACCOUNT_KEY", "`storage:`"]);
}

const SMALL: &str = r#"job: small
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  numbers: {connector: generate, rows: 3, columns: {id: {sequence: {start: 1}}}}
tables:
  kept: {sql: SELECT id FROM numbers}
"#;

#[test]
fn what_is_missing_is_named() {
    let place = Place::local();
    place.write("small.yaml", SMALL);
    let run =
        |lake: &str| place.sluice(&["run", "small.yaml", "--set"]).arg(format!("lake={lake}"));
    for dialect in DIALECTS {
        let refused = run(&dialect.url("nobody-made-this")).envs(&shared(dialect).env()).expect(1);
        refused.says(&["nobody-made-this", "hint: create the ", "check its name"]);
    }
    // Nobody is asked but a port where nobody listens.
    let none = ("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9");
    let refused = run("s3://acme").env(none.0, none.1).expect(1);
    refused.says(&["hint: no credentials are set; set AWS_ACCESS_KEY_ID", "AWS_REGION"]);
    let refused = run("az://acme").expect(1);
    refused.says(&["url=az://acme", "hint: set AZURE_STORAGE_ACCOUNT_NAME"]);
    let refused = run("gs://acme").env("GOOGLE_APPLICATION_CREDENTIALS", "./no-key.json").expect(1);
    refused.says(&["url=gs://acme", "no-key.json", "hint: set GOOGLE_APPLICATION_CREDENTIALS"]);
    let refused = run("s3://acme").env("AWS_ACCESS_KEY_ID", "a").expect(1);
    refused.says(&["url=s3://acme", "AWS_SECRET_ACCESS_KEY"]);
}
