//! What LaminarDB does with the topic of kafka.py: JSON → one Delta table by site, exactly
//! once, a checkpoint a second. Arguments, as of ematix_kafka.py: bootstrap, topic, rows, folder. Prints
//! one line of JSON: rows, seconds from the start of this program to the commit that holds the last row,
//! versions of the table, version of LaminarDB. Fails where the pipeline stops or 600 s have gone.
//!
//! Rows are counted in the log of the table (`numRecords` of its adds), not by the engine's own counters.
//! It does not look at the values of rows, does not kill the engine and start it again (the protocol of
//! exactly once is at work, its recovery is not tried), and does not clear the folder: it must be empty.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use laminar_db::{DeliveryGuarantee, LaminarConfig, LaminarDB};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// As pinned in Cargo.toml; the crate does not tell it.
const VERSION: &str = "0.33.0";
const CHECKPOINT_MS: u64 = 1000;
/// How long the engine lets batches gather before a cycle (default 5 ms): larger batches for the sink.
const BATCH_WINDOW: Duration = Duration::from_millis(20);
const POLL: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(600);

/// Its own preset for throughput; beyond that a longer queue behind the consumer and a shorter one in
/// librdkafka, because a full queue pauses the partitions, which throws away what librdkafka has fetched.
const THROUGHPUT: &str = "'latency.profile' = 'throughput', 'reader.channel.capacity' = '262144', \
    'backpressure.low.watermark' = '0.1', 'queued.max.messages.kbytes' = '4096'";

fn statements(bootstrap: &str, topic: &str, table: &Path) -> [String; 3] {
    let (group, table) = (process::id(), table.display());
    [
        format!(
            "CREATE SOURCE samples (id BIGINT, site VARCHAR, line VARCHAR, score DOUBLE, ok BOOLEAN, at TIMESTAMP) \
             FROM KAFKA ('bootstrap.servers' = '{bootstrap}', 'topic' = '{topic}', 'group.id' = 'laminar-{group}', \
             'startup.mode' = 'earliest', 'metadata.columns' = 'partition,offset', {THROUGHPUT}) FORMAT JSON"
        ),
        "CREATE STREAM wanted AS SELECT id, site, line, score, ok, at, _partition AS part, _offset AS off FROM samples"
            .to_owned(),
        format!(
            "CREATE SINK kept FROM wanted INTO \"delta-lake\" ('table.path' = '{table}', 'auto.create' = 'true', \
             'write.mode' = 'append', 'partition.columns' = 'site')"
        ),
    ]
}

/// The log of a Delta table, each version read once.
struct Log {
    folder: PathBuf,
    versions: u64,
    rows: u64,
}

impl Log {
    fn follow(&mut self) -> Result<()> {
        while let Ok(text) =
            fs::read_to_string(self.folder.join(format!("{:020}.json", self.versions)))
        {
            for line in text.lines() {
                let action: Value = serde_json::from_str(line)?;
                if let Some(add) = action.get("add") {
                    let stats: Value =
                        serde_json::from_str(add["stats"].as_str().unwrap_or("null"))?;
                    self.rows += stats["numRecords"].as_u64().ok_or("an add without numRecords")?;
                }
            }
            self.versions += 1;
        }
        Ok(())
    }
}

async fn run() -> Result<()> {
    let began = Instant::now();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [bootstrap, topic, rows, folder, ..] = arguments.as_slice() else {
        return Err("arguments: bootstrap, topic, rows, folder".into());
    };
    let rows: u64 = rows.parse()?;
    fs::create_dir_all(folder)?;
    let folder = fs::canonicalize(folder)?;
    let table = folder.join("kept");

    let mut config = LaminarConfig {
        storage_dir: Some(folder.join("state")),
        delivery_guarantee: DeliveryGuarantee::ExactlyOnce,
        pipeline_batch_window: Some(BATCH_WINDOW),
        ..LaminarConfig::default()
    };
    config.checkpoint.get_or_insert_default().interval_ms = Some(CHECKPOINT_MS);
    let db = LaminarDB::open_with_config(config)?;
    for statement in statements(bootstrap, topic, &table) {
        db.execute(&statement).await.map_err(|error| format!("{statement}: {error}"))?;
    }
    db.start().await?;

    let mut log = Log { folder: table.join("_delta_log"), versions: 0, rows: 0 };
    while log.rows < rows {
        let state = db.pipeline_state();
        if state != "Running" || began.elapsed() > LIMIT {
            let (fault, found, seconds) = (db.last_fault(), log.rows, began.elapsed().as_secs());
            return Err(
                format!("{found} rows of {rows} after {seconds} s: {state}, {fault:?}").into()
            );
        }
        tokio::time::sleep(POLL).await;
        log.follow()?;
    }
    let seconds = began.elapsed().as_secs_f64();
    db.shutdown().await?;
    // What a last commit may have added: more rows than the topic has would show here.
    log.follow()?;
    println!(
        "{}",
        json!({"rows": log.rows, "seconds": seconds, "versions": log.versions, "version": VERSION})
    );
    Ok(())
}

#[tokio::main]
async fn main() {
    if let Err(error) = run().await {
        eprintln!("{error}");
        process::exit(1);
    }
}
