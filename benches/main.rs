//! What is measured in-process: the cost of an epoch, of keeping a view, of a topic's records.
//!
//! Every measurement runs whole jobs through the engine's public functions on folders of its own
//! below the temporary folder. Nothing here decides whether a change lands.

#![expect(clippy::expect_used, reason = "a bench that cannot run stops")]
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

mod job;
mod kafka;

use std::time::Duration;

use criterion::{Criterion, criterion_group};

use job::{Bench, median};

/// Epochs per measurement of an epoch's cost: enough for a median, few enough for a minute.
const EPOCHS: u64 = 200;

fn epoch(c: &mut Criterion) {
    let mut group = c.benchmark_group("epoch of 1,000 rows");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for place in ["memory", "disk"] {
        group.bench_function(place, |b| {
            b.iter_custom(|epochs| Bench::one_table(place).epochs(epochs.max(20)).total());
        });
        let run = Bench::one_table(place).epochs(EPOCHS);
        let (p50, p99) = (run.quantile(0.5), run.quantile(0.99));
        eprintln!("epoch on {place}: p50 {p50:?}, p99 {p99:?} over {EPOCHS} epochs");
    }
    group.finish();
}

fn view(c: &mut Criterion) {
    let mut group = c.benchmark_group("incremental view after 10,000 rows");
    group.sample_size(10);
    let before = [100_000, 10_000_000];
    let mut medians = Vec::new();
    for rows in before {
        let mut bench = Bench::views("disk", rows);
        let mut seconds = Vec::new();
        group.bench_function(format!("over {rows} rows"), |b| {
            b.iter_custom(|times| {
                let mut total = Duration::ZERO;
                for _ in 0..times {
                    let (spent, read) = bench.grow(10_000);
                    assert_eq!(read, [10_000; 3], "rows the operators read");
                    seconds.push(spent.as_secs_f64());
                    total += spent;
                }
                total
            });
        });
        medians.push(median(&mut seconds));
    }
    if medians.iter().all(|m| m.is_finite()) {
        eprintln!("views over 10 M rows take {:.2} x those over 100,000", medians[1] / medians[0]);
    }
    group.finish();
}

criterion_group!(benches, epoch, view);
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if !kafka::main(&arguments) {
        benches();
        Criterion::default().configure_from_args().final_summary();
    }
}
