//! Runs that end and runs that go on: what each takes, and which ids are forgotten meanwhile.

use super::*;

const HOUR_MS: i64 = 60 * 60 * 1000;

#[tokio::test]
async fn a_run_that_is_to_end_takes_what_waits_and_nothing_that_still_comes() {
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(state.path(), by_header()).await;
    let post = async |process: &Process, id: i64| {
        process.post(&id.to_string(), &json!({"id": id}).to_string()).await
    };
    for id in 0..3 {
        assert_eq!(post(&process, id).await, 200);
    }
    let mut source = process.source(bounded(Offsets::new())).await.unwrap();
    let other = Process::start(state.path(), by_header()).await;
    assert_eq!(post(&other, 100).await, 200);
    other.hub.close().await;
    let (mut rows, mut offsets) = (Vec::new(), Offsets::new());
    for id in 3..20 {
        assert_eq!(post(&process, id).await, 200);
        process.clock.0.advance_ms(2_000);
        let intake = source.poll(Limit { rows: 1, ..EVERYTHING }).await.unwrap();
        if intake.advances.is_empty() {
            break;
        }
        rows.extend(ids(source.as_ref(), &intake).await);
        offsets.extend(intake.advances.into_iter().map(|a| (a.partition, a.to)));
    }
    assert_eq!(rows, [0, 1, 2]);
    drop(source);
    // The next one has the rest, and what others left first: ours would never end.
    let mut source = process.source(bounded(offsets)).await.unwrap();
    assert_eq!(drain(&mut source).await.0, [100, 3, 4, 5, 6]);
}

#[tokio::test]
async fn short_runs_forget_ids_that_are_old() {
    let state = tempfile::tempdir().unwrap();
    let settings =
        json!({"path": "/hooks/orders", "idempotency": {"json": "$.id", "window": "1h"}});
    let process = Process::start(state.path(), settings).await;
    let rows: Vec<Value> = (0..9_000).map(|id| json!({"id": id})).collect();
    assert_eq!(process.post("", &json!(rows).to_string()).await, 200);
    let mut source = process.source(bounded(Offsets::new())).await.unwrap();
    let (rows, offsets, _) = drain(&mut source).await;
    assert_eq!(rows.len(), 9_000);
    source.acknowledge(&offsets).await.unwrap();
    drop(source);
    let index = process.hub.channel("shop", "orders").index().unwrap();
    assert_eq!(index.count(), 9_000);
    process.clock.0.advance_ms(2 * HOUR_MS);
    let mut source = process.source(bounded(offsets)).await.unwrap();
    assert!(source.poll(EVERYTHING).await.unwrap().advances.is_empty());
    assert_eq!(index.count(), 0);
}

#[tokio::test]
async fn ids_are_kept_while_another_process_may_have_taken_in_their_doubles() {
    let state = tempfile::tempdir().unwrap();
    let (reads, listens) = (
        Process::start(state.path(), by_header()).await,
        Process::start(state.path(), by_header()).await,
    );
    assert_eq!(reads.post("a", "{\"id\": 1}").await, 200);
    let mut source = reads.source(Start::default()).await.unwrap();
    let (rows, offsets, _) = drain(&mut source).await;
    assert_eq!(rows, [1]);
    source.acknowledge(&offsets).await.unwrap();
    listens.clock.0.advance_ms(HOUR_MS / 2);
    assert_eq!(listens.post("a", "{\"id\": 1}").await, 200);
    reads.clock.0.advance_ms(2 * HOUR_MS);
    assert_eq!(drain(&mut source).await.0, [0; 0]);
    // Long after, the double is found.
    listens.hub.close().await;
    reads.clock.0.advance_ms(5_000);
    let (rows, offsets, gaps) = drain(&mut source).await;
    assert_eq!((rows, gaps), (vec![], 1));
    source.acknowledge(&offsets).await.unwrap();
    reads.clock.0.advance_ms(60_000);
    assert_eq!(drain(&mut source).await.0, [0; 0]);
    assert_eq!(reads.hub.channel("shop", "orders").index().unwrap().count(), 0);
}
