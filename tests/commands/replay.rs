//! `sluice replay`: rows taken again after the job was mended, once, however often it is killed.

use crate::protocol::{APPEND_STEPS, killed};
use crate::support::cli::Sluice;
use crate::support::place::Place;

const JOB: &str = "shop.yaml";

const TEXT: &str = r#"job: shop
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  orders:
    connector: files
    path: ./input/*.csv
    schema:
      fields:
        - {name: id, type: int64}
        - {name: amount, type: AMOUNT}
        - {name: region, type: string}
tables:
  facts:
    sql: SELECT id, cast(amount AS double) AS amount, region FROM orders
    expect: {sane: {that: amount BOUND, else: quarantine}}
  latest: {sql: "SELECT region, id FROM orders", key: [region], sequence_by: id}
views:
  totals: {sql: "SELECT region, count(*) AS n FROM facts GROUP BY region"}
  largest: {sql: "SELECT id, amount FROM facts ORDER BY amount DESC, id LIMIT 2"}
"#;

/// The job as it was, and with a wider type and a looser check.
fn job(amount: &str, bound: &str) -> String {
    TEXT.replace("AMOUNT", amount).replace("BOUND", bound)
}

/// Four rows that are good, two whose amount is no whole number, one that is no order at all, two
/// that are too large.
fn started() -> Place {
    let place = Place::local();
    place.write(JOB, &job("int64", "< 1000"));
    place.write("input/1.csv", "id,amount,region\n1,10,a\n2,20.5,b\n3,30,a\n4,5000,b\nx,1,a\n");
    place.run(JOB);
    place.write("input/2.csv", "region,amount,id\nb,7,5\na,8.25,6\nc,9,7\nc,6000,8\n");
    place.run(JOB);
    place
}

fn replay(place: &Place, from: &str) -> Sluice {
    place.job("replay", JOB).arg("--from").arg(from)
}

/// Rows of the facts, of its quarantine, of the rejected, and the newest order of region a.
fn figures(place: &Place) -> Vec<String> {
    place.figures(
        JOB,
        &[
            "count(*) FROM facts",
            "count(*) FROM facts__quarantine",
            "count(*) FROM orders__rejected",
            "max(id) FROM latest WHERE region = 'a'",
        ],
    )
}

fn complete(place: &Place) {
    assert_eq!(figures(place), ["8", "2", "3", "6"]);
    place.run(JOB);
    place.holds(JOB);
    assert_eq!(place.cell(JOB, "SELECT sum(n) FROM totals"), "8");
    assert_eq!(place.cell(JOB, "SELECT max(amount) FROM largest"), "6000.0");
}

#[test]
fn each_row_is_taken_again_once() {
    let place = started();
    assert_eq!(figures(&place), ["4", "2", "3", "3"]);
    // Nothing is mended: nothing changes.
    place.write(JOB, &job("float64", "< 1000"));
    let told = replay(&place, "rejected").ok().stdout;
    assert!(told.contains("3 rows of orders__rejected taken again, 1 still"), "{told}");
    assert_eq!(figures(&place), ["6", "2", "3", "6"]);
    let told = replay(&place, "rejected").ok().stdout;
    assert!(told.contains("0 rows"), "{told}");
    place.job("audit", JOB).ok();
    place.job("verify", JOB).expect(1);
    place.run(JOB);
    place.holds(JOB);
    place.write(JOB, &job("float64", "< 10000"));
    replay(&place, "quarantine").ok();
    replay(&place, "quarantine").ok();
    complete(&place);
    // What comes later is taken by the next one.
    place.write("input/3.csv", "id,amount,region\n9,much,a\n10,99999,a\n");
    place.run(JOB);
    let told = replay(&place, "rejected").ok().stdout;
    assert!(told.contains("1 row of orders__rejected taken again, 1 still"), "{told}");
    assert_eq!(figures(&place), ["8", "3", "4", "10"]);
    place.run(JOB);
    place.holds(JOB);
}

#[test]
fn killed_at_each_step() {
    for step in APPEND_STEPS {
        let place = started();
        place.write(JOB, &job("float64", "< 10000"));
        killed(replay(&place, "rejected"), step, 0);
        replay(&place, "rejected").ok();
        killed(replay(&place, "quarantine"), step, 0);
        replay(&place, "quarantine").ok();
        replay(&place, "rejected").ok();
        complete(&place);
    }
}

#[test]
fn what_cannot_be_taken_again_is_refused() {
    let place = started();
    place.write(JOB, &job("float64", "< 1000").replace(", sequence_by: id", ""));
    replay(&place, "rejected").expect(1).says(&["has a key and no `sequence_by`", "table=latest"]);
    let remembered =
        job("float64", "< 1000").replace("sequence_by: id", "sequence_by: id, delete_when: id < 0");
    place.write(JOB, &remembered);
    replay(&place, "rejected").expect(1).says(&["what is remembered", "table=latest"]);
    place.write(JOB, &job("float64", "< 1000"));
    replay(&place, "rejected").arg("--source").arg("none").expect(2).says(&["no such job"]);
    let other = Place::local();
    other.write(JOB, &job("float64", "< 1000"));
    replay(&other, "rejected").expect(1).says(&["no epoch was ever sealed here"]);
}
