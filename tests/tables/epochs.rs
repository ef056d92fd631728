//! Epochs are epochs: what only looks at all rows is right in the second and in the hundredth
//! epoch, held against the same SQL run over everything.

use crate::support::place::Place;

const JOB: &str = "epochs.yaml";

/// One row per epoch. Every view is a shape that a plan run twice would get wrong, every keyed table
/// a way in which what came before decides.
const TEXT: &str = r#"job: epochs
lake: "${vars.lake}"
vars: {lake: ./lake, rows: 1}
sources:
  numbers:
    connector: generate
    seed: 11
    rows: "${vars.rows}"
    columns:
      id: {sequence: {start: 1}}
      kind: {choice: {red: 5, green: 3, blue: 1}}
      score: {integer: {from: -1000, to: 1000}}
  colours:
    connector: files
    path: ./input/*.csv
    schema: {fields: [{name: kind, type: string}, {name: hue, type: int64}]}
tables:
  kept: {sql: "SELECT id, kind, score, now() AS taken FROM numbers"}
  hues: {sql: "SELECT kind, hue FROM colours", key: [kind]}
  best: {sql: "SELECT kind, id, score FROM numbers", key: [kind], sequence_by: score}
  alive: {sql: "SELECT id % 7 AS slot, id, score FROM numbers", key: [slot], sequence_by: id, delete_when: score < 0}
  patched:
    sql: "SELECT id % 7 AS slot, id, CASE WHEN id % 2 = 0 THEN score END AS a, CASE WHEN id % 5 = 0 THEN score END AS b FROM numbers"
    key: [slot]
    sequence_by: id
    merge: coalesce
  mended:
    sql: "SELECT id % 7 AS slot, id, CASE WHEN id % 2 = 0 THEN score END AS a, CASE WHEN id % 5 = 0 THEN score END AS b, score < -500 AS gone FROM numbers"
    key: [slot]
    sequence_by: id
    merge: coalesce
    delete_when: gone
  unnumbered: {sql: "SELECT id % 7 AS slot, score FROM numbers", key: [slot], delete_when: score < 0}
views:
  extremes: {sql: "SELECT kind, max(score) AS hi, min(score) AS lo, max(id) AS last FROM kept GROUP BY kind"}
  overall: {sql: "SELECT count(*) AS n, max(score) AS hi, min(score) AS lo, avg(score) AS mean FROM kept"}
  top: {sql: "SELECT id, score FROM kept ORDER BY score DESC, id LIMIT 3"}
  bottom: {sql: "SELECT id, score FROM kept ORDER BY score, id LIMIT 3 OFFSET 1"}
  joined: {sql: "SELECT k.id, h.hue FROM kept AS k JOIN hues AS h ON k.kind = h.kind WHERE k.score > 0"}
  unmatched: {sql: "SELECT k.id FROM kept AS k LEFT JOIN hues AS h ON k.kind = h.kind WHERE h.kind IS NULL"}
  paired: {sql: "SELECT a.kind, count(*) AS n FROM kept AS a JOIN best AS b ON a.kind = b.kind AND a.score <= b.score GROUP BY a.kind"}
  known: {sql: "SELECT count(*) AS n FROM kept WHERE kind IN (SELECT kind FROM hues)"}
  above: {sql: "SELECT id FROM kept WHERE score > (SELECT avg(score) FROM kept)"}
  ranked: {sql: "SELECT kind, id, row_number() OVER (PARTITION BY kind ORDER BY score DESC, id) AS place FROM kept"}
  both: {sql: "SELECT kind FROM kept UNION SELECT kind FROM hues"}
  several: {sql: "SELECT kind, count(DISTINCT score) AS n FROM kept GROUP BY kind HAVING count(*) > 1"}
  rolled: {sql: "SELECT kind, score, count(*) AS n FROM kept GROUP BY ROLLUP (kind, score)"}
  hi_of_hi: {sql: "SELECT max(hi) AS hi, count(*) AS n FROM extremes"}
epoch: {rows: 1}
"#;

/// Rows of each slot by age, to ask the keyed tables' questions of all rows at once. Rows come in
/// the order of their sequence, so the last to come is the newest. `{gone}` says what deletes.
const SLOTS: &str = "WITH slots AS (SELECT id % 7 AS slot, id, score, {gone} AS gone FROM kept), \
    lasts AS (SELECT slot, max(id) AS id FROM slots GROUP BY slot), \
    since AS (SELECT slot, max(id) AS id FROM slots WHERE gone GROUP BY slot), \
    living AS (SELECT s.* FROM slots AS s LEFT JOIN since AS d ON s.slot = d.slot \
        WHERE d.id IS NULL OR s.id > d.id), \
    newest AS (SELECT l.* FROM living AS l JOIN lasts ON l.slot = lasts.slot AND l.id = lasts.id), \
    a AS (SELECT slot, max(id) AS id FROM living WHERE id % 2 = 0 GROUP BY slot), \
    b AS (SELECT slot, max(id) AS id FROM living WHERE id % 5 = 0 GROUP BY slot) ";

const NEWEST: &str = "SELECT slot, score FROM newest ORDER BY slot";

const FILLED: &str = "SELECT n.slot, x.score AS a, y.score AS b FROM newest AS n \
    LEFT JOIN a ON a.slot = n.slot LEFT JOIN living AS x ON x.slot = a.slot AND x.id = a.id \
    LEFT JOIN b ON b.slot = n.slot LEFT JOIN living AS y ON y.slot = b.slot AND y.id = b.id \
    ORDER BY n.slot";

/// Keyed tables against one query over all rows that ever came: what is kept, what deletes, the
/// query.
const KEYED: [(&str, &str, &str); 4] = [
    ("slot, score FROM alive", "score < 0", NEWEST),
    ("slot, a, b FROM patched", "false", FILLED),
    ("slot, a, b FROM mended", "score < -500", FILLED),
    ("slot, score FROM unnumbered", "score < 0", NEWEST),
];

fn run(place: &Place, rows: u32) {
    place.job("run", JOB).arg("--set").arg(format!("rows={rows}")).ok();
    place.job("audit", JOB).ok();
    let verified = place.job("verify", JOB).ok();
    assert!(verified.stdout.contains("14 of 14 hold"), "{}", verified.text());
    let parts = [
        "count(*) FROM kept",
        "max(score) FROM kept",
        "hi FROM overall",
        "max(score) FROM top",
        "max(score) FROM best",
        "hi FROM hi_of_hi",
    ];
    let found = place.figures(JOB, &parts);
    assert_eq!(found[0], rows.to_string());
    assert!(found[2..].iter().all(|max| *max == found[1]), "{parts:?}: {found:?}");
    for (table, gone, query) in KEYED {
        let kept = place.table(JOB, &format!("SELECT {table} ORDER BY slot"));
        let all = place.table(JOB, &format!("{}{query}", SLOTS.replace("{gone}", gone)));
        assert_eq!(kept, all, "{table} after {rows} rows");
    }
}

#[test]
fn answers_are_right_in_the_second_and_in_the_hundredth_epoch() {
    let place = Place::local();
    place.write(JOB, TEXT);
    place.write("input/1.csv", "kind,hue\nred,1\n");
    run(&place, 2);
    place.write("input/2.csv", "kind,hue\ngreen,2\nred,3\n");
    run(&place, 100);
    run(&place, 103);
    // Some slots are empty and some are not, and a field of a deleted row was not taken over.
    let slots = [
        "count(*) BETWEEN 1 AND 6 FROM alive",
        "count(*) FROM patched WHERE a IS NOT NULL AND b IS NOT NULL",
        "count(*) BETWEEN 1 AND 6 FROM mended",
        "count(*) > 0 FROM mended WHERE a IS NULL OR b IS NULL",
    ];
    assert_eq!(place.figures(JOB, &slots), ["true", "7", "true", "true"]);
    // The opening time of each epoch: one per row, never back, and not the time of planning.
    let times = [
        "count(DISTINCT taken) FROM kept",
        "count(*) FROM kept AS a JOIN kept AS b ON b.id = a.id + 1 WHERE b.taken < a.taken",
    ];
    assert_eq!(place.figures(JOB, &times), ["103", "0"]);
}

/// Aggregates of every kind, one view each.
const AGGREGATES: [&str; 27] = [
    "array_agg(x ORDER BY id)",
    "string_agg(CAST(x AS VARCHAR), ',' ORDER BY id)",
    "first_value(x ORDER BY id)",
    "last_value(x ORDER BY id)",
    "nth_value(x, 2 ORDER BY id)",
    "median(x)",
    "percentile_cont(0.5) WITHIN GROUP (ORDER BY x)",
    "corr(x, id)",
    "regr_slope(x, id)",
    "bit_and(id)",
    "bool_or(x > 3)",
    "stddev(x)",
    "var_pop(x)",
    "covar_samp(x, id)",
    "approx_distinct(id)",
    "count(DISTINCT x)",
    "sum(DISTINCT x)",
    "avg(DISTINCT x)",
    "max([x, id])",
    "array_agg(DISTINCT x ORDER BY x)",
    "grouping(g)",
    "max(named_struct('a', x))",
    "count(DISTINCT [x])",
    "min(x > 2)",
    "sum(x) FILTER (WHERE x > 2)",
    "array_agg(struct(x) ORDER BY id)",
    "CAST(max(arrow_cast(id, 'Duration(Second)')) AS VARCHAR)",
];

#[test]
fn every_aggregate_is_kept_or_recomputed() {
    let mut job =
        "job: aggregates\nlake: \"${vars.lake}\"\nvars: {lake: ./lake, rows: 0}\nsources:\n  \
        numbers:\n    connector: generate\n    rows: \"${vars.rows}\"\n    columns:\n      \
        id: {sequence: {start: 1}}\n      x: {integer: {from: 0, to: 50}}\ntables:\n  \
        kept: {sql: \"SELECT id, id % 7 AS g, CAST(x AS DOUBLE) AS x FROM numbers\"}\n\
        epoch: {rows: 100}\nviews:\n"
            .to_string();
    for (k, aggregate) in AGGREGATES.iter().enumerate() {
        let line =
            format!("  v{k}: {{sql: \"SELECT g, {aggregate} AS r FROM kept GROUP BY g\"}}\n");
        job.push_str(&line);
    }
    let place = Place::local();
    place.write("aggregates.yaml", &job);
    for rows in [300, 600] {
        place.job("run", "aggregates.yaml").arg("--set").arg(format!("rows={rows}")).ok();
        place.holds("aggregates.yaml");
    }
    let plan = place.job("plan", "aggregates.yaml").ok().stdout;
    let strategies = |name: &str| plan.lines().filter(|l| l.contains(name)).count();
    assert_eq!((strategies("incremental"), strategies("recomputed")), (26, 1), "{plan}");
}

const JOINS: &str = r#"job: joins
lake: "${vars.lake}"
vars: {lake: ./lake, rows: 10}
sources:
  numbers: {connector: generate, rows: "${vars.rows}", columns: {id: {sequence: {start: 1}}}}
  colours:
    connector: files
    path: ./input/*.csv
    schema: {fields: [{name: k, type: int64}, {name: hue, type: int64}]}
tables:
  kept: {sql: SELECT id FROM numbers}
  hues: {sql: "SELECT k, hue FROM colours", key: [k]}
views:
  coloured: {sql: "SELECT k.id, h.hue FROM kept AS k LEFT JOIN hues AS h ON k.id % 3 = h.k"}
  known: {sql: "SELECT id FROM kept WHERE id IN (SELECT k FROM hues)"}
  unknown: {sql: "SELECT id FROM kept WHERE NOT EXISTS (SELECT 1 FROM hues WHERE hues.k = kept.id)"}
  hues_used: {sql: "SELECT h.k, k.id FROM hues AS h LEFT JOIN kept AS k ON h.k = k.id"}
"#;

#[test]
fn a_join_takes_new_rows_while_the_other_side_stays() {
    let place = Place::local();
    place.write("joins.yaml", JOINS);
    let touched = |rows: u32| {
        let set = format!("rows={rows}");
        let run = place.job("run", "joins.yaml").arg("--set").arg(set).arg("--json").ok().stdout;
        let run: serde_json::Value = serde_json::from_str(&run).unwrap();
        place.holds("joins.yaml");
        let views = run["jobs"][0]["views"].as_array().unwrap().clone();
        views.iter().map(|view| view["touched"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    place.write("input/1.csv", "k,hue\n0,5\n1,7\n");
    assert_eq!(touched(10), [10, 1, 9, 2]);
    // The last one is recomputed: a new number may replace a row without one.
    assert_eq!(touched(14), [4, 0, 4, 2]);
    place.write("input/2.csv", "k,hue\n2,9\n1,8\n");
    assert_eq!(touched(16), [16, 2, 14, 3]);
    assert_eq!(touched(17), [1, 0, 1, 3]);
}

const KEYS: &str = r#"job: keys
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  lines:
    connector: files
    path: ./input/*.csv
    schema: {fields: [{name: id, type: int64}, {name: p, type: int64}]}
tables:
  facts: {sql: "SELECT id, p FROM lines"}
  plain: {sql: "SELECT id, p FROM lines", key: [id]}
  chosen: {sql: "SELECT id, p FROM lines WHERE p > 0", key: [id], sequence_by: p, merge: coalesce}
  checked: {sql: "SELECT id, p FROM lines", key: [id], expect: {above: {that: p > 0, else: quarantine}}}
  further: {sql: "SELECT id, p FROM large", key: [id], delete_when: p > 100}
views:
  large: {sql: "SELECT id, p FROM facts WHERE p > 5"}
  sums: {sql: "SELECT sum(p) AS p FROM plain"}
"#;

#[test]
fn an_epoch_without_rows_passes_a_keyed_table() {
    let place = Place::local();
    place.write("keys.yaml", KEYS);
    let files =
        ["id,p\n", "id,p\nbad,x\n", "id,p\n1,-4\n", "id,p\n1,7\n2,3\n", "id,p\n", "id,p\n2,-1\n"];
    for (k, text) in files.iter().enumerate() {
        place.write(&format!("input/{k}.csv"), text);
        place.run("keys.yaml");
        place.holds("keys.yaml");
    }
    let parts = ["plain", "chosen", "checked", "further", "large"];
    let parts = parts.map(|table| format!("string_agg(p::text, ';' ORDER BY id) FROM {table}"));
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    assert_eq!(place.figures("keys.yaml", &parts), ["7;-1", "7;3", "7;3", "7", "7"]);
}
