//! Epochs are epochs: what only looks at all rows is right in the second and in the hundredth
//! epoch, held against the same SQL run over everything.

use crate::support::place::Place;

const JOB: &str = "epochs.yaml";

/// One row per epoch. Every view is a shape that a plan run twice would get wrong.
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
    // The opening time of each epoch: one per row, never back, and not the time of planning.
    let times = [
        "count(DISTINCT taken) FROM kept",
        "count(*) FROM kept AS a JOIN kept AS b ON b.id = a.id + 1 WHERE b.taken < a.taken",
    ];
    assert_eq!(place.figures(JOB, &times), ["103", "0"]);
}
