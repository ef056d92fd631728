//! Real sales in five portions with restarts between: exactly the figures that were computed from
//! the same files without this engine.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::clients::totals;
use crate::support::place::{Kind, Place};
use crate::support::{csv, root, shared_data};

const PORTIONS: usize = 5;
const FILES: usize = 141;

/// A call of `command` on the pack's own job, with the real files as its sales.
fn pack(place: &Place, command: &str) -> crate::support::cli::Sluice {
    let sales = place.path("input/*.csv").display().to_string();
    let pack = root().join("jobs/retail-360").display().to_string();
    place.job(command, &pack).arg("--set").arg(format!("sales={sales}"))
}

fn run(place: &Place) -> crate::support::cli::Sluice {
    pack(place, "run").arg("--only").arg("retail-360")
}

fn answer(place: &Place, query: &str) -> Vec<Vec<String>> {
    let output = pack(place, "sql").arg(query).arg("--format").arg("csv").ok();
    csv::parse(&output.stdout).split_off(1)
}

fn feed(place: &Place, files: &[PathBuf]) {
    fs::create_dir_all(place.path("input")).unwrap();
    for file in files {
        fs::copy(file, place.path("input").join(file.file_name().unwrap())).unwrap();
    }
}

fn days(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), FILES);
    files
}

/// What the tables and views have to say.
fn figures(place: &Place) {
    let facts = "SELECT count(*), sum(revenue), count(DISTINCT country) FROM sales_facts";
    assert_eq!(answer(place, facts), [["207737", "3706827.641", "36"]]);
    let quarantine = "SELECT count(*) FROM sales_facts__quarantine";
    assert_eq!(answer(place, quarantine), [["1292"]]);
    let daily = "SELECT count(*), sum(revenue) FROM daily_kpi";
    assert_eq!(answer(place, daily), [["141", "3706827.641"]]);
    let best = "SELECT day, revenue FROM daily_kpi WHERE day = '2010-12-01' \
        UNION ALL (SELECT day, revenue FROM daily_kpi ORDER BY revenue DESC LIMIT 1) \
        ORDER BY day";
    let best = answer(place, best);
    assert_eq!(best, [["2010-12-01", "58635.560"], ["2011-03-29", "70531.470"]]);
    let countries = "SELECT country, revenue FROM country_kpi ORDER BY revenue DESC LIMIT 3";
    let expected = [
        ["United Kingdom", "3117720.121"],
        ["Netherlands", "112906.680"],
        ["Germany", "91688.250"],
    ];
    assert_eq!(answer(place, countries), expected);
    let columns = "invoice, stock_code, description, quantity, unit_price, invoice_date, \
        customer_id, country";
    let all = format!(
        "WITH lines AS (SELECT {columns} FROM sales_facts \
           UNION ALL SELECT {columns} FROM sales_facts__quarantine) \
         SELECT count(*), count(DISTINCT invoice), \
           count(CASE WHEN invoice LIKE 'C%' THEN 1 END), \
           count(CASE WHEN customer_id IS NULL THEN 1 END), \
           count(CASE WHEN quantity <= 0 THEN 1 END), \
           count(*) - (SELECT count(*) FROM (SELECT DISTINCT {columns} FROM lines)) FROM lines"
    );
    let expected = ["209029", "10783", "3783", "59976", "4434", "1747"];
    assert_eq!(answer(place, &all), [expected]);
}

fn five_portions(kind: Kind) {
    let Some(folder) = shared_data("retail/by-day") else { return };
    let place = Place::new(kind);
    for portion in days(&folder).chunks(FILES.div_ceil(PORTIONS)) {
        feed(&place, portion);
        run(&place).ok();
    }
    figures(&place);
    run(&place).ok();
    figures(&place);
    pack(&place, "audit").ok();
    pack(&place, "verify").ok();
    for client in ["deltalake", "polars"] {
        let sums = totals(&place, client, "delta/sales_facts", &["revenue"]);
        assert_eq!(sums, ["207737", "3706827.641"], "{client}");
        let sums = totals(&place, client, "views/daily_kpi", &["revenue", "orders"]);
        let own = answer(&place, "SELECT count(*), sum(revenue), sum(orders) FROM daily_kpi");
        assert_eq!(sums, own[0], "{client}");
    }
    if kind == Kind::Local {
        let sums = totals(&place, "duckdb", "delta/sales_facts", &["revenue"]);
        assert_eq!(sums, ["207737", "3706827.641"]);
    }
}

#[test]
fn real_sales_in_five_portions() {
    five_portions(Kind::Local);
}

#[test]
fn real_sales_in_five_portions_on_s3() {
    five_portions(Kind::S3);
}

#[test]
fn the_generated_sample_by_default() {
    let place = Place::local();
    let pack = root().join("jobs/retail-360").display().to_string();
    place.job("run", &pack).arg("--set").arg("rows=5000").ok();
    let parts = [
        "count(*) FROM sales_facts",
        "count(*) FROM sales_facts__quarantine",
        "count(*) FROM sales__rejected",
    ];
    let rows = place.figures(&pack, &parts);
    let [facts, quarantined, rejected] = &rows[..] else { panic!("{rows:?}") };
    let number = |text: &String| text.parse::<u64>().unwrap();
    assert_eq!(number(facts) + number(quarantined) + number(rejected), 5000);
    assert!(number(quarantined) > 0, "the sample has no quirks: {rows:?}");
    place.holds(&pack);
}
