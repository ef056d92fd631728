//! Jobs whose epochs are published by hand: what questions see, before and after.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use sluice_core::metric::Unrecorded;
use sluice_core::{Ids, Kind, ManualClock, Memory, Secrets, Unbounded};
use sluice_lake::delta::{self, Head, Txn, schema_string};
use sluice_lake::manifest::{DeltaAction, TableMeta};
use sluice_lake::parquet::{FileNaming, Layout, PartitionedWriter, WriteOptions};
use sluice_lake::snapshot::{Published, PublishedTable, Snapshots};
use sluice_lake::store;
use sluice_lake::table::dataset_prefix;
use tempfile::TempDir;

use super::*;
use crate::function::session;
use crate::job::fake::registry;
use crate::job::{LoadOptions, load};
use crate::plan::build_pack;
use crate::query::{ask, query};

const LIFE: &str = "0123456789abcdef";

#[derive(Debug)]
struct NoIds;

impl Ids for NoIds {
    fn fresh(&self) -> String {
        "0".repeat(32)
    }
}

fn environment(clock: &Arc<ManualClock>) -> Environment {
    Environment {
        registry: registry(),
        clock: clock.clone(),
        ids: Arc::new(NoIds),
        pool: None,
        memory: Unbounded::shared(),
        metrics: Arc::new(Unrecorded),
        partitions: 2,
        host: "here".to_string(),
        pid: 1,
    }
}

/// A job with a table `sales` and a view over it, planned.
async fn job(env: &Environment, folder: &Path, name: &str) -> Readable {
    let lake = folder.join("lake");
    let text = format!(
        "job: {name}\nlake: {}\n\
         sources:\n  orders: {{connector: generate, columns: {{id: {{}}}}}}\n\
         tables:\n  sales: {{sql: SELECT id FROM orders, format: parquet}}\n  \
         days: {{sql: 'SELECT id, id AS day FROM orders', partition_by: [day]}}\n\
         views:\n  total: {{sql: SELECT count(*) AS n FROM sales}}\n",
        lake.display()
    );
    let file = folder.join(format!("{name}.yaml"));
    std::fs::write(&file, text).unwrap();
    let pack = load(&file, &LoadOptions::default(), &env.registry).unwrap();
    let options = SessionOptions { memory: None, partitions: 2, time: EpochTime::default() };
    let context = session(&options).unwrap();
    let graphs = build_pack(&context, &pack, &env.registry).await.unwrap();
    let graph = Arc::new(graphs.into_iter().next().unwrap());
    Readable { graph, secrets: Secrets::default() }
}

/// Publishes an epoch of a job, whose `sales` are so many rows in one file per epoch.
async fn publish(job: &Readable, epoch: u64, rows: i64) {
    let name = &job.graph.job.name;
    let lake = store::open(&job.graph.job.lake, &job.secrets).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let ids = Arc::new(Int64Array::from_iter_values(0..rows));
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, schema.clone(), None).unwrap();
    writer.write(&RecordBatch::try_new(schema, vec![ids]).unwrap()).unwrap();
    writer.close().unwrap();
    let folder = lake.child(name).child("sales");
    let path = folder.child(&format!("{}-0.parquet", dataset_prefix(LIFE, epoch)));
    path.store.put(&path.path, file.into()).await.unwrap();
    let table = PublishedTable::Files {
        location: folder.path.to_string(),
        incarnation: LIFE.to_string(),
        epoch,
        files: epoch + 1,
        partition_by: None,
    };
    let record = Published {
        epoch,
        incarnation: LIFE.to_string(),
        job: name.clone(),
        published_at_ms: 0,
        tables: BTreeMap::from([("sales".to_string(), table)]),
    };
    Snapshots::new(&lake, name).write(&record).await.unwrap();
}

/// Commits rows to the Delta table `days`, one file for each day, and gives its version.
async fn commit(job: &Readable, head: &mut Option<Head>, days: &[i64]) -> i64 {
    let lake = store::open(&job.graph.job.lake, &job.secrets).unwrap();
    let location = lake.child(&job.graph.job.name).child("days");
    let column = |name| Field::new(name, DataType::Int64, true);
    let schema = Arc::new(Schema::new(vec![column("id"), column("day")]));
    let by = vec!["day".to_string()];
    let version = head.as_ref().map_or(0, |head| head.version + 1);
    let naming = FileNaming { prefix: format!("part-{version}"), modified_ms: 1 };
    let layout = Layout::new(location.clone(), schema.clone(), by.clone()).unwrap();
    let memory = Unbounded.reserve("test");
    let mut writer =
        PartitionedWriter::new(layout, WriteOptions::default(), naming, memory).unwrap();
    let values: ArrayRef = Arc::new(Int64Array::from(days.to_vec()));
    let rows = RecordBatch::try_new(schema.clone(), vec![values.clone(), values]).unwrap();
    writer.write(&rows).await.unwrap();
    let create = || TableMeta {
        schema: schema_string(&schema).unwrap(),
        partition_by: by,
        id: "00000000-0000-0000-0000-000000000000".to_string(),
        name: "days".to_string(),
        ..TableMeta::default()
    };
    let action = DeltaAction {
        location: location.path.to_string(),
        base_version: head.as_ref().map(|head| head.version),
        create: head.is_none().then(create),
        adds: writer.finish().await.unwrap(),
        data_change: true,
        operation: "WRITE".to_string(),
        ..DeltaAction::default()
    };
    let txn = Txn { app_id: "test".to_string(), version };
    delta::commit(&location, head, &action, &txn, 1).await.unwrap();
    version
}

pub(super) async fn count(served: &Served, shown: &Arc<Shown>, sql: &str) -> Result<i64> {
    let context = served.session(shown, None);
    let (_, rows) = query(&context, sql).await?;
    let rows: Vec<RecordBatch> =
        rows.try_collect().await.map_err(|e| crate::catalog::sql_error("the query failed", e))?;
    Ok(rows[0].column(0).as_primitive::<Int64Type>().value(0))
}

const SALES: &str = "SELECT count(*) FROM sales";

#[tokio::test]
async fn questions_see_one_epoch_and_the_next_ones_the_next() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::at(1_000));
    let env = environment(&clock);
    let job = job(&env, folder.path(), "shop").await;
    let served = Served::new(&env, Some(1 << 20)).unwrap();
    let mut moved = served.moved();
    served.set_jobs(vec![job.clone()]);

    let error = count(&served, &served.shown(), SALES).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "nobody looked yet: {error}");
    served.refresh().await.unwrap();
    assert_eq!(count(&served, &served.shown(), SALES).await.unwrap(), 0, "before the first epoch");

    publish(&job, 0, 5).await;
    served.refresh().await.unwrap();
    let first = served.shown();
    let sales = ["sales".to_string()];
    let version = first.version_of(&sales);
    assert_eq!(count(&served, &first, SALES).await.unwrap(), 5);
    moved.mark_unchanged();
    served.refresh().await.unwrap();
    assert!(!moved.has_changed().unwrap() && Arc::ptr_eq(&first, &served.shown()));

    publish(&job, 1, 7).await;
    assert_eq!(count(&served, &served.shown(), SALES).await.unwrap(), 5, "nobody looked");
    served.refresh().await.unwrap();
    assert!(moved.has_changed().unwrap());
    let second = served.shown();
    assert_eq!(count(&served, &second, SALES).await.unwrap(), 12);
    assert_eq!(count(&served, &first, SALES).await.unwrap(), 5, "a question keeps what it sees");
    assert_ne!(second.version_of(&sales), version);
    assert_eq!(first.version_of(&sales), version);
    assert_eq!(second.job("shop").unwrap().published.as_ref().unwrap().epoch, 1);
}

#[tokio::test]
async fn a_delta_table_moves_on_and_is_read_by_its_partitions() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::at(1_000));
    let env = environment(&clock);
    let job = job(&env, folder.path(), "shop").await;
    let served = Served::new(&env, None).unwrap();
    served.set_jobs(vec![job.clone()]);
    let (mut head, mut record) = (
        None,
        Published {
            epoch: 0,
            incarnation: LIFE.to_string(),
            job: "shop".to_string(),
            published_at_ms: 0,
            tables: BTreeMap::new(),
        },
    );
    let lake = store::open(&job.graph.job.lake, &job.secrets).unwrap();
    let mut seen = Vec::new();
    for (epoch, days) in [(0, vec![1, 1, 2]), (1, vec![3]), (2, vec![2, 2, 4])] {
        let version = commit(&job, &mut head, &days).await;
        let location = lake.child("shop").child("days").path.to_string();
        let table = PublishedTable::Delta { location, version };
        record.tables.insert("days".to_string(), table);
        record.epoch = epoch;
        Snapshots::new(&lake, "shop").write(&record).await.unwrap();
        served.refresh().await.unwrap();
        let shown = served.shown();
        let of = |condition: &str| format!("SELECT count(*) FROM days WHERE {condition}");
        let mut counts = Vec::new();
        for condition in ["true", "day = 2", "day > 2 AND id > 0", "day IS NULL"] {
            counts.push(count(&served, &shown, &of(condition)).await.unwrap());
        }
        seen.push(counts);
        let (_, table) = shown.find("days").unwrap();
        assert_eq!(table.rows, Some(seen[seen.len() - 1][0].unsigned_abs()));
    }
    assert_eq!(seen, [[3, 1, 0, 0], [4, 1, 1, 0], [7, 3, 2, 0]]);

    // Only files of wanted days are in a plan.
    let context = served.session(&served.shown(), None);
    let (_, rows) = query(&context, "EXPLAIN SELECT id FROM days WHERE day = 4").await.unwrap();
    let rows: Vec<RecordBatch> = rows.try_collect().await.unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
    assert!(text.contains("day=4") && !text.contains("day=2"), "{text}");
}

#[tokio::test]
async fn a_lake_that_does_not_answer_keeps_what_is_known_and_others_go_on() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::at(1_000));
    let env = environment(&clock);
    let good = job(&env, folder.path(), "good").await;
    let other = TempDir::new().unwrap();
    let bad = job(&env, other.path(), "bad").await;
    publish(&good, 0, 3).await;
    // A file where the lake's folder of records should be.
    std::fs::create_dir_all(other.path().join("lake/_sluice/bad/published")).unwrap();
    let record = other.path().join(format!("lake/_sluice/bad/published/{:020}.json", 0));
    std::fs::write(&record, "no record").unwrap();
    let served = Served::new(&env, None).unwrap();
    served.set_jobs(vec![bad, good.clone()]);
    served.refresh().await.unwrap_err();
    assert_eq!(served.troubles().len(), 1);
    let shown = served.shown();
    assert_eq!(count(&served, &shown, "SELECT count(*) FROM good.sales").await.unwrap(), 3);
    let error = count(&served, &shown, "SELECT count(*) FROM bad.sales").await.unwrap_err();
    assert!(error.to_string().contains("could not be read yet job=bad"), "{error}");
    let listed = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'sales'";
    assert_eq!(count(&served, &shown, listed).await.unwrap(), 2);

    std::fs::remove_file(&record).unwrap();
    clock.advance_ms(10_000);
    served.refresh().await.unwrap();
    assert!(served.troubles().is_empty());
    let bad = count(&served, &served.shown(), "SELECT count(*) FROM bad.sales").await;
    assert_eq!(bad.unwrap(), 0);
}

#[tokio::test]
async fn a_name_of_several_jobs_needs_the_job() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let clock = Arc::new(ManualClock::at(1_000));
    let env = environment(&clock);
    let jobs = vec![job(&env, one.path(), "one").await, job(&env, two.path(), "two").await];
    publish(&jobs[0], 0, 2).await;
    let served = Served::new(&env, None).unwrap();
    served.set_jobs(jobs);
    served.refresh().await.unwrap();
    let shown = served.shown();
    let error = count(&served, &shown, SALES).await.unwrap_err();
    assert_eq!(error.hint_text(), Some("write \"one\".sales or \"two\".sales"));
    let context = served.session(&shown, None);
    let question = ask(&context.state(), "SELECT * FROM two.sales, one.sales").await.unwrap();
    assert_eq!(question.facts.reads, ["one.sales", "two.sales"]);
    let version = |name: &str| shown.version_of(&[name.to_string()]);
    assert_ne!(version("one.sales"), version("two.sales"));
    assert_eq!(version("one.sales"), version("one.total"), "the job moves as a whole");
    let names: Vec<&str> = shown.tables().map(|(name, ..)| name).collect();
    assert!(names.contains(&"two.sales__quarantine") && names.contains(&"one.orders__rejected"));
}

/// A session over one job with nothing published, and what keeps it alive.
pub(super) async fn bench(folder: &TempDir) -> (Served, SessionContext) {
    let clock = Arc::new(ManualClock::at(86_400_000));
    let env = environment(&clock);
    let job = job(&env, folder.path(), "shop").await;
    let served = Served::new(&env, None).unwrap();
    served.set_jobs(vec![job]);
    served.refresh().await.unwrap();
    let context = served.session(&served.shown(), None);
    (served, context)
}
