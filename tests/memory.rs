//! Memory: a run stays near what `--memory` says, whatever the rows, partitions, keys, joins and
//! files; what cannot fit ends with the name of who wanted it.

use crate::support::place::{Place, listing};

const MIB: u64 = 1 << 20;

/// What a process takes that no pool counts: its code, threads, buffers on their way. It is 100 to
/// 150 MiB here, whatever the rows.
const BESIDE_THE_POOL: u64 = 192 * MIB;

/// Rows that come without files, as many as `rows` says, 50,000 an epoch at most.
const GENERATED: &str = r#"job: generated
lake: "${vars.lake}"
vars: {lake: ./lake, rows: 200000}
sources:
  rows:
    connector: generate
    seed: 7
    rows: "${vars.rows}"
    columns:
      id: {sequence: {start: 1}}
      amount: {integer: {from: 0, to: 1000}}
      who: {integer: {from: 1, to: 1000000, format: "customer {:09}"}}
"#;

fn place(tables: &str) -> Place {
    let place = Place::local();
    place.write("job.yaml", &format!("{GENERATED}{tables}"));
    place
}

/// Runs the job within `mib`, and gives the most that it had resident.
fn peak(place: &Place, mib: u64, rows: u64) -> u64 {
    let run = place.job("run", "job.yaml").arg("--memory").arg(format!("{mib}MiB"));
    let peak = run.arg("--set").arg(format!("rows={rows}")).start().peak_bytes();
    let bound = mib * MIB + BESIDE_THE_POOL;
    assert!(peak < bound, "{} MiB resident, the bound is {}", peak / MIB, bound / MIB);
    peak
}

#[test]
fn many_partitions_make_a_file_each_and_little_more() {
    const PARTITIONS: usize = 1000;
    let place = place(&format!(
        "tables:\n  spread: {{sql: \"SELECT *, id % {PARTITIONS} AS part FROM rows\", \
         partition_by: [part]}}\n"
    ));
    peak(&place, 128, 100_000);
    let files = listing(&place.lake_folder().join("spread"));
    let files = files.iter().filter(|(file, _)| file.extension().is_some_and(|e| e == "parquet"));
    let (files, streams) = (files.count(), 2);
    // What came before it was seen that there are too many partitions made files too.
    assert!(files >= PARTITIONS && files <= PARTITIONS * (streams + 2), "{files} files");
    let parts = ["count(*) FROM spread", "count(DISTINCT part) FROM spread", "sum(id) FROM spread"];
    assert_eq!(place.figures("job.yaml", &parts), ["100000", "1000", "5000050000"]);
    place.holds("job.yaml");
}

#[test]
fn an_epoch_of_keyed_rows_need_not_fit() {
    let place = place(
        "tables:\n  kept: {sql: \"SELECT id % 150000 AS id, amount, who, id AS n FROM rows\", \
         key: [id]}\n",
    );
    // 600,000 rows of some 60 bytes, four of each key, are more than half the pool.
    peak(&place, 48, 600_000);
    peak(&place, 48, 750_000);
    let parts = ["count(*) FROM kept", "min(n) FROM kept", "max(n) FROM kept", "sum(n) FROM kept"];
    // The last row of each key: 600,000 … 749,999, and 750,000 for the key 0.
    let sum = (600_001u64..=750_000).sum::<u64>().to_string();
    assert_eq!(place.figures("job.yaml", &parts), ["150000", "600001", "750000", &sum]);
    place.holds("job.yaml");
}

#[test]
fn three_tables_that_do_not_fit_are_joined() {
    let place = place(
        "tables:\n  kept: {sql: SELECT * FROM rows}\nviews:\n  joined:\n    sql: |\n      \
         SELECT count(*) AS n, sum(a.amount + b.amount + c.amount) AS total, max(b.who) AS who\n      \
         FROM kept a JOIN kept b ON a.id = b.id JOIN kept c ON b.id = c.id AND b.who = c.who\n",
    );
    peak(&place, 48, 600_000);
    let once = "SELECT count(*) AS n, sum(amount) * 3 AS total, max(who) AS who FROM kept";
    let joined = place.sql("job.yaml", "SELECT n, total, who FROM joined");
    assert_eq!(joined, place.sql("job.yaml", once));
}

#[test]
fn what_cannot_fit_ends_with_the_name_of_who_wanted_it() {
    let place = place(
        "tables:\n  kept: {sql: SELECT * FROM rows}\nviews:\n  by_who:\n    sql: \
         SELECT id, who, count(*) AS n, sum(amount) AS total FROM kept GROUP BY id, who\n",
    );
    let run = |mib: u64| {
        let run = place.job("run", "job.yaml").arg("--memory").arg(format!("{mib}MiB"));
        run.arg("--set").arg("rows=400000")
    };
    let refused = run(32).output();
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    refused.says(&["not enough memory", "groups of view by_who", "hint: ", "--memory"]);
    // Nothing of the epoch was sealed, and with more memory the same job goes through.
    run(512).ok();
    assert_eq!(place.cell("job.yaml", "SELECT count(*) FROM by_who"), "400000");
    place.holds("job.yaml");
}

#[test]
fn windows_that_keep_all_rows_count_them() {
    let place = place(
        "tables:\n  kept: {sql: SELECT * FROM rows}\nviews:\n  shares:\n    sql: \
         SELECT id, who, sum(amount) OVER (PARTITION BY id % 2) AS total FROM kept\n",
    );
    let run = place.job("run", "job.yaml").arg("--memory").arg("32MiB");
    let refused = run.arg("--set").arg("rows=400000").output();
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    refused.says(&["rows of shares failed", "WindowAggExec[", "hint: ", "--memory"]);
    peak(&place, 256, 400_000);
    let parts = ["count(*) FROM shares", "count(DISTINCT total) FROM shares"];
    assert_eq!(place.figures("job.yaml", &parts), ["400000", "2"]);
    place.holds("job.yaml");
}

/// A job over CSV files with an `id` and a `text`.
fn files(tables: &str) -> Place {
    let place = Place::local();
    let text = format!(
        "job: files\nlake: \"${{vars.lake}}\"\nvars: {{lake: ./lake}}\nsources:\n  wide:\n    \
         connector: files\n    path: ./input/*.csv\n    split_bytes: 4MiB\n    schema:\n      \
         fields: [{{name: id, type: int64}}, {{name: text, type: string}}]\ntables:\n  {tables}\n"
    );
    place.write("job.yaml", &text);
    place
}

/// `count` files of `rows` rows each, with a text as wide as `width`; ids go on from file to file.
fn write_files(place: &Place, count: usize, rows: usize, width: usize) {
    for file in 0..count {
        let rows = (0..rows).map(|i| format!("{},{i:0>width$}\n", file * rows + i));
        let text = format!("id,text\n{}", rows.collect::<String>());
        place.write(&format!("input/{file}.csv"), &text);
    }
}

/// Runs the job within `mib` and what a process takes beside it.
fn fits(place: &Place, mib: u64) {
    let run = place.job("run", "job.yaml").arg("--memory").arg(format!("{mib}MiB")).start();
    let peak = run.peak_bytes();
    assert!(peak < mib * MIB + BESIDE_THE_POOL, "{} MiB resident", peak / MIB);
}

#[test]
fn files_are_read_beside_sorts_that_fill_the_pool() {
    let place =
        files("kept: {sql: \"SELECT id % 100000 AS id, text, id AS n FROM wide\", key: [id]}");
    write_files(&place, 6, 100_000, 80);
    fits(&place, 40);
    let parts = ["count(*) FROM kept", "min(n) FROM kept", "sum(n) FROM kept"];
    let sum = (500_000u64..600_000).sum::<u64>().to_string();
    assert_eq!(place.figures("job.yaml", &parts), ["100000", "500000", &sum]);
    place.holds("job.yaml");
}

#[test]
fn a_record_that_cannot_fit_ends_with_the_name_of_its_source() {
    let place = files("kept: {sql: \"SELECT id, length(text) AS n FROM wide\"}");
    let record = "x".repeat(12 << 20);
    place.write("input/a.csv", &format!("id,text\n1,short\n2,{record}\n"));
    let run =
        |mib: u64| place.job("run", "job.yaml").arg("--memory").arg(format!("{mib}MiB")).output();
    let refused = run(12);
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    refused.says(&["not enough memory", "decoding of source wide", "hint: ", "--memory"]);
    assert_eq!(run(256).code, Some(0));
    assert_eq!(place.cell("job.yaml", "SELECT max(n) FROM kept"), record.len().to_string());
    place.holds("job.yaml");
}

#[test]
fn rows_that_are_set_aside_need_not_fit() {
    let place = files(
        "kept:\n    sql: SELECT id, text FROM wide\n    expect: {odd: {that: \"id % 2 = 1\", else: \
         quarantine}}",
    );
    let good = (0..400_000).map(|i| format!("{i},some text of the row number {i:0>40}\n"));
    let bad = (0..400_000).map(|i| format!("{i}x,some text of the row number {i:0>40}\n"));
    let text: String = good.zip(bad).map(|(good, bad)| good + &bad).collect();
    place.write("input/a.csv", &format!("id,text\n{text}"));
    fits(&place, 48);
    let parts = [
        "count(*) FROM kept",
        "count(*) FROM kept__quarantine",
        "count(*) FROM wide__rejected",
        "count(DISTINCT position) FROM wide__rejected",
    ];
    let counts = place.figures("job.yaml", &parts);
    assert_eq!(counts, ["200000", "200000", "400000", "400000"]);
    place.holds("job.yaml");
}

#[test]
fn keyed_rows_may_be_wide() {
    let place =
        files("kept: {sql: \"SELECT id % 20000 AS id, text, id AS n FROM wide\", key: [id]}");
    write_files(&place, 2, 20_000, 900);
    fits(&place, 64);
    assert_eq!(
        place.figures("job.yaml", &["count(*) FROM kept", "min(n) FROM kept"]),
        ["20000", "20000"]
    );
    place.holds("job.yaml");
}
