//! What becomes of deliveries when the disk fails, and when they wait for long.

use super::*;

#[tokio::test]
async fn a_log_that_broke_is_left_to_its_reader_and_its_slot_used_again() {
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(state.path(), by_header()).await;
    let channel = process.hub.channel("shop", "orders");
    assert_eq!(process.post("a", "{\"id\": 1}").await, 200);
    let mut source = process.source(Start::default()).await.unwrap();
    channel.log().unwrap().fail();
    assert_eq!(process.post("b", "{\"id\": 2}").await, 503, "it is left alone for a while");
    process.clock.0.advance_ms(5_000);
    assert_eq!(process.post("b", "{\"id\": 2}").await, 200);
    assert_eq!(channel.log().unwrap().slot(), 1, "the source reads the other one");
    let (rows, offsets, _) = drain(&mut source).await;
    assert_eq!(rows, [1, 2]);
    source.acknowledge(&offsets).await.unwrap();
    process.clock.0.advance_ms(5_000);
    assert_eq!(drain(&mut source).await.0, [0; 0]);
    drop(source);
    // Nobody reads any more: no slot is used up.
    channel.log().unwrap().fail();
    assert_eq!(process.post("c", "{\"id\": 3}").await, 200);
    assert_eq!(channel.log().unwrap().slot(), 0);
    process.clock.0.advance_ms(5_000);
    channel.log().unwrap().fail();
    assert_eq!(process.post("d", "{\"id\": 4}").await, 200);
    assert_eq!(channel.log().unwrap().slot(), 0);
    let mut source = process.source(Start { offsets, ..Start::default() }).await.unwrap();
    assert_eq!(drain(&mut source).await.0, [3, 4]);
}

#[tokio::test]
async fn a_full_log_that_cannot_be_emptied_is_left_for_another() {
    let state = tempfile::tempdir().unwrap();
    let settings = json!({"path": "/hooks/orders", "limits": {"backlog": 20}});
    let process = Process::start(state.path(), settings).await;
    for expected in [200, 200, 200, 503] {
        assert_eq!(process.post("a", "{\"id\": 1}").await, expected);
    }
    let mut source = process.source(Start::default()).await.unwrap();
    let (rows, offsets, _) = drain(&mut source).await;
    assert_eq!(rows, [1, 1, 1]);
    process.hub.channel("shop", "orders").log().unwrap().spoil();
    source.acknowledge(&offsets).await.unwrap();
    process.clock.0.advance_ms(5_000);
    assert_eq!(process.post("a", "{\"id\": 2}").await, 200);
    assert_eq!(drain(&mut source).await.0, [2]);
}

#[tokio::test]
async fn an_older_copy_of_a_log_stops_the_job_and_what_came_since_is_taken() {
    let (state, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let process = Process::start(state.path(), by_header()).await;
    let post = async |process: &Process, id: i64| {
        process.post(&id.to_string(), &json!({"id": id}).to_string()).await
    };
    for id in 0..3 {
        assert_eq!(post(&process, id).await, 200);
    }
    let mut source = process.source(Start::default()).await.unwrap();
    copy(state.path(), left.path());
    for id in 3..9 {
        assert_eq!(post(&process, id).await, 200);
    }
    let (rows, mut offsets, _) = drain(&mut source).await;
    assert_eq!(rows, (0..9).collect::<Vec<_>>());
    drop(source);
    process.hub.close().await;
    // Who listens on the copy gives the numbers of rows that it lacks to others, and soon has as
    // many: it is told all the same, also after a restart.
    for first in [10, 20] {
        let process = Process::start(left.path(), by_header()).await;
        for id in first..first + 4 {
            assert_eq!(post(&process, id).await, 200);
        }
        let refused = process.source(bounded(offsets.clone())).await.err().unwrap();
        assert_eq!(refused.kind(), Kind::Data);
        assert!(refused.hint_text().unwrap().contains("--accept-loss"));
        process.hub.close().await;
    }
    let process = Process::start(left.path(), by_header()).await;
    let start = Start { accept_loss: true, ..bounded(offsets.clone()) };
    let mut source = process.source(start).await.unwrap();
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!((intake.lost, intake.notes.len()), (0, 1));
    assert_eq!(ids(source.as_ref(), &intake).await, [10, 11, 12, 13, 20, 21, 22, 23]);
    offsets.extend(intake.advances.iter().map(|a| (a.partition.clone(), a.to.clone())));
    assert_eq!(offsets.len(), 2, "a partition of its own");
    source.acknowledge(&offsets).await.unwrap();
    drop((source, intake));
    assert_eq!(post(&process, 30).await, 200);
    let mut source = process.source(bounded(offsets)).await.unwrap();
    assert_eq!(drain(&mut source).await.0, [30]);
}

#[tokio::test]
async fn ids_are_remembered_as_long_as_a_double_may_wait() {
    let state = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let process = Process::start(state.path(), by_header()).await;
        assert_eq!(process.post("a", "{\"id\": 1}").await, 200);
        process.hub.close().await;
    }
    let process = Process::idle(state.path(), by_header());
    let mut source = process.source(bounded(Offsets::new())).await.unwrap();
    let intake = source.poll(Limit { rows: 1, ..EVERYTHING }).await.unwrap();
    assert_eq!(ids(source.as_ref(), &intake).await, [1]);
    // The job rests for longer than ids are remembered, and the double waits in the log.
    process.clock.0.advance_ms(2 * 60 * 60 * 1000);
    let (rows, _, gaps) = drain(&mut source).await;
    assert_eq!((rows, gaps), (vec![], 1));
}
