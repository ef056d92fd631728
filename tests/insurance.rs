//! The main pack: generated movements as CSV files, a Parquet dataset, a Delta table and five
//! views; more rows go after the first; other readers see the same; and it needs little memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::clients::{python, totals};
use crate::support::place::{Place, listing};
use crate::support::root;

const VIEWS: [&str; 5] =
    ["anomalies", "retrocessions", "monthly_trends", "agency_performance", "conformity"];

fn pack() -> String {
    root().join("jobs/insurance-movements").display().to_string()
}

fn run(place: &Place, rows: u32) {
    place.job("run", &pack()).arg("--set").arg(format!("rows={rows}")).ok();
}

/// Columns that are divided: two engines agree on all but the last digits.
const DIVIDED: [&str; 2] = ["montant_moyen", "ecart_type"];

/// Every row and column of all five views is what Polars counts from the CSV files.
fn figures(place: &Place, rows: u32) {
    let raw = place.lake_folder().join("raw").display().to_string();
    let script = root().join("tests/clients/insurance.py");
    let counted = python(&script, &[&raw], place.env());
    let counted: BTreeMap<String, Vec<Vec<String>>> = serde_json::from_str(&counted).unwrap();
    assert_eq!(counted.keys().map(String::as_str).collect::<BTreeSet<_>>(), VIEWS.into());
    for (view, expected) in &counted {
        let found = place.table(&pack(), &format!("SELECT * FROM {view} ORDER BY 1, 2"));
        assert_eq!(found.len(), expected.len(), "{view}");
        for (found, row) in found.iter().zip(expected) {
            let same = found.len() == row.len()
                && found.iter().zip(row).zip(&expected[0]).all(|((found, cell), column)| {
                    found == cell || DIVIDED.contains(&column.as_str()) && near(found, cell)
                });
            assert!(same, "{view}: {found:?} instead of {row:?}");
        }
    }
    let operations = "SELECT sum(operations) FROM agency_performance";
    assert_eq!(place.cell(&pack(), operations), rows.to_string());
    place.holds(&pack());
}

fn near(found: &str, expected: &str) -> bool {
    let [found, expected] = [found, expected].map(|text| text.parse::<f64>().unwrap());
    (found - expected).abs() <= 2e-6
}

#[test]
fn movements_become_files_tables_and_views_and_grow() {
    let place = Place::local();
    run(&place, 20_000);
    assert_eq!(listing(&place.lake_folder().join("raw")).len(), 5);
    let dataset = listing(&place.lake_folder().join("staging/movements_staging"));
    let folders = dataset.iter().filter(|(file, _)| {
        let text = file.display().to_string();
        text.contains("/pays=FR/produit=auto/") && text.ends_with(".parquet")
    });
    assert!(folders.count() > 0, "{dataset:?}");
    figures(&place, 20_000);

    let first = "SELECT count(*), sum(montant), min(date_op), max(agence_id) FROM movements \
        WHERE id_mouvement <= 'M0020000'";
    let before = place.sql(&pack(), first);
    run(&place, 20_000);
    figures(&place, 20_000);
    run(&place, 40_000);
    figures(&place, 40_000);
    assert_eq!(place.sql(&pack(), first), before, "the first rows changed");
    let ids = "SELECT count(DISTINCT id_mouvement), max(id_mouvement) FROM movements_staging";
    assert_eq!(place.sql(&pack(), ids), [["40000", "M0040000"]]);
    others_agree(&place);
}

fn others_agree(place: &Place) {
    let own = place.sql(&pack(), "SELECT count(*), sum(montant) FROM movements").remove(0);
    let own = vec![own[0].clone(), own[1].trim_end_matches('0').trim_end_matches('.').to_string()];
    for client in ["deltalake", "polars", "duckdb"] {
        assert_eq!(totals(place, client, "delta/movements", &["montant"]), own, "{client}");
    }
    let dataset = totals(place, "parquet", "staging/movements_staging", &["montant"]);
    assert_eq!(dataset, own);
    for view in VIEWS {
        let count = place.cell(&pack(), &format!("SELECT count(*) FROM {view}"));
        for client in ["deltalake", "polars"] {
            assert_eq!(
                totals(place, client, &format!("views/{view}"), &[]),
                std::slice::from_ref(&count)
            );
        }
    }
}

#[test]
fn all_five_views_are_kept_incrementally_and_the_plan_says_so() {
    let place = Place::local();
    let plan = place.job("plan", &pack()).ok().stdout;
    for view in VIEWS {
        let line = plan.lines().find(|line| line.contains(view)).unwrap_or_default();
        assert!(line.contains("incremental"), "{view}\n{plan}");
    }
    assert!(listing(place.lake_folder()).is_empty(), "a plan writes nothing");
}

/// As many as a development build works through in a quarter of a minute.
const MANY_ROWS: u32 = 3_000_000;
const GIB: u64 = 1 << 30;

#[test]
fn half_a_gibibyte_for_the_job_is_less_than_one_for_the_process() {
    let place = Place::local();
    let run = place.job("run", &pack()).arg("--memory").arg("512MiB");
    let run = run.arg("--set").arg(format!("rows={MANY_ROWS}"));
    let peak = run.start().peak_bytes();
    assert!(peak < GIB, "{} MiB", peak >> 20);
    let rows = place.cell(&pack(), "SELECT count(*) FROM movements");
    assert_eq!(rows, MANY_ROWS.to_string());
}
