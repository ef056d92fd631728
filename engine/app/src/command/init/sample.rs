//! The pack of `sluice init` without files: a small shop, whole and with comments.
//!
//! In: the folder. Out: a job file, a schema file and files of rows that run at once.

use std::path::Path;

use super::Draft;

/// The name of the job and of its table.
pub(super) const NAME: &str = "orders";

/// The files of the pack in `folder`, the job first.
pub(super) fn drafts(folder: &Path) -> Vec<Draft> {
    let file = |path: &str, text: String| Draft { path: folder.join(path), text };
    let place = super::yaml::scalar(&format!("{}/sample/*.csv", folder.display()));
    vec![
        file("orders.yaml", JOB.replace("{files}", &place)),
        file("schemas/orders.v1.yaml", SCHEMA.to_string()),
        file("sample/2024-01.csv", JANUARY.to_string()),
        file("sample/2024-02.csv", FEBRUARY.to_string()),
    ]
}

const JOB: &str = r#"# A job: what comes in, what is kept, what is made of it. It runs as it is:
#   sluice run FOLDER, then sluice sql FOLDER "SELECT * FROM revenue_by_month"
job: orders
lake: "${vars.lake}"
vars:
  # Where the tables lie: a folder, or s3://bucket/folder. Set with --set lake=…
  lake: ./lake
  # The files: each is taken once, new ones by the next run. Relative to the folder you run in.
  files: {files}

sources:
  order_files:
    connector: files
    path: "${vars.files}"
    format: csv
    # The columns and their types. `sluice init --from FILES` writes one for files of your own.
    schema: schemas/orders.v1.yaml

tables:
  orders:
    doc: Every order with something in it.
    sql: |
      SELECT *,
             quantity * unit_price AS revenue,
             CAST(date_trunc('month', ordered_at) AS DATE) AS month
      FROM order_files
    # A later row with the same order_id replaces an earlier one; without a key, rows are added.
    key: [order_id]
    partition_by: [month]
    # Rows that break a rule lie in orders__quarantine. Rows that cannot be decoded lie in
    # order_files__rejected, with their bytes and the reason.
    expect:
      something_ordered: {that: quantity > 0, else: quarantine}

views:
  revenue_by_month:
    doc: Orders and revenue per month and country, kept up to date by every run.
    sql: |
      SELECT month, country, count(*) AS orders, sum(revenue) AS revenue
      FROM orders
      GROUP BY month, country
"#;

const SCHEMA: &str = r#"schema: orders.v1
doc: Orders of a small shop.
fields:
  # `from` is the name in the files, `name` the one in SQL.
  - {name: order_id, from: Order, type: int64, required: true}
  # ISO 8601 needs no format; others have one, such as "%d/%m/%Y %H:%M".
  - {name: ordered_at, from: Ordered at, type: timestamp, required: true}
  - {name: country, from: Country, type: string}
  - {name: product, from: Product, type: string}
  - {name: quantity, from: Quantity, type: int64}
  # Money is exact: digits altogether, digits after the point.
  - {name: unit_price, from: Unit price, type: "decimal(12, 2)"}
"#;

const JANUARY: &str = "\
Order,Ordered at,Country,Product,Quantity,Unit price
1001,2024-01-03 09:12,France,Teapot,2,14.50
1002,2024-01-05 17:40,Germany,\"Mug, blue\",6,4.25
1003,2024-01-11 08:03,France,Kettle,1,39.90
1004,2024-01-19 12:55,Spain,Teapot,0,14.50
1005,2024-01-28 20:10,Germany,Tray,3,11.00
";

const FEBRUARY: &str = "\
Order,Ordered at,Country,Product,Quantity,Unit price
1006,2024-02-02 10:21,Spain,Mug,12,3.95
1007,2024-02-09 15:36,France,Tray,2,11.00
1008,2024-02-14 09:09,Germany,Teapot,lots,14.50
1003,2024-02-15 11:00,France,Kettle,2,39.90
";
