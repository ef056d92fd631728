//! The main pack: generated movements as CSV files, a Parquet dataset, a Delta table and five
//! views; more rows go after the first; other readers see the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::clients::totals;
use crate::support::place::{Place, listing};
use crate::support::{csv, root};

const VIEWS: [&str; 5] =
    ["anomalies", "retrocessions", "monthly_trends", "agency_performance", "conformity"];

fn pack() -> String {
    root().join("jobs/insurance-movements").display().to_string()
}

fn run(place: &Place, rows: u32) {
    place.job("run", &pack()).arg("--set").arg(format!("rows={rows}")).ok();
}

/// The generated rows as they stand in the CSV files, read by nobody's engine.
fn raw(lake: &Path) -> Vec<BTreeMap<String, String>> {
    let mut rows = Vec::new();
    for (file, _) in listing(&lake.join("raw")) {
        let mut lines = csv::parse(&fs::read_to_string(file).unwrap()).into_iter();
        let header = lines.next().unwrap();
        rows.extend(lines.map(|line| header.iter().cloned().zip(line).collect()));
    }
    rows
}

fn cents(text: &str) -> i64 {
    let (whole, digits) = text.split_once('.').unwrap_or((text, "0"));
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: i64 = format!("{digits:0<2}")[..2].parse().unwrap();
    whole.parse::<i64>().unwrap() * 100 + sign * digits
}

fn money(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}

/// The views' figures, counted from the CSV files.
fn figures(place: &Place, rows: usize) {
    let raw = raw(place.lake_folder());
    assert_eq!(raw.len(), rows);
    let mut months: BTreeMap<String, (u64, i64, u64, i64)> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, (u64, i64)> = BTreeMap::new();
    for row in &raw {
        let amount = cents(&row["montant"]);
        let kind = kinds.entry(&row["type_op"]).or_insert((0, i64::MIN));
        *kind = (kind.0 + 1, kind.1.max(amount));
        let month = format!("{}-01", &row["date_op"][..7]);
        match row["type_op"].as_str() {
            "cotisation" => {
                let month = months.entry(month).or_default();
                (month.0, month.1) = (month.0 + 1, month.1 + amount);
            }
            "remboursement" => {
                let month = months.entry(month).or_default();
                (month.2, month.3) = (month.2 + 1, month.3 + amount);
            }
            _ => {}
        }
    }
    let expected: Vec<Vec<String>> = months
        .into_iter()
        .map(|(month, (n, sum, m, paid))| {
            vec![month, n.to_string(), money(sum), m.to_string(), money(paid), money(sum - paid)]
        })
        .collect();
    let query = "SELECT mois, cotisations, montant_cotisations, remboursements, \
        montant_remboursements, solde FROM monthly_trends ORDER BY mois";
    assert_eq!(place.sql(&pack(), query), expected);
    let expected: Vec<Vec<String>> = kinds
        .into_iter()
        .map(|(kind, (n, max))| vec![kind.to_string(), n.to_string(), money(max)])
        .collect();
    let query = "SELECT type_op, operations, montant_max FROM anomalies ORDER BY type_op";
    assert_eq!(place.sql(&pack(), query), expected);
    place.holds(&pack());
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
