//! Keys that JSON objects come with later: in `_rescued` at first, a column from the next epoch on.

use sluice_core::Step;

use crate::protocol::killed;
use crate::support::place::Place;
use crate::support::wait;

const JOB: &str = "events.yaml";

/// No view depends on which columns there are.
const TEXT: &str = r#"job: events
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  events:
    connector: files
    path: "./input/*.jsonl"
    on_new_column: add
    schema:
      fields:
        - {name: id, type: int64}
        - {name: who, type: struct, fields: [{name: name, type: string}]}
tables:
  kept: {sql: SELECT * FROM events}
  newest: {sql: SELECT * FROM events, key: [id]}
views:
  counted: {sql: "SELECT id % 2 AS odd, count(*) AS n FROM kept GROUP BY 1"}
"#;

const FIRST: &str = r#"{"id": 1, "who": {"name": "a"}}
{"id": 2, "unitPrice": 4.50, "who": {"name": "b", "age": 7}}
"#;

fn place(text: &str) -> Place {
    let place = Place::local();
    place.write(JOB, text);
    place.write("input/1.jsonl", FIRST);
    place
}

/// Columns of the rows of `kept` from `id` on.
fn rows(place: &Place, columns: &str, id: u32) -> Vec<Vec<String>> {
    place.sql(JOB, &format!("SELECT {columns} FROM kept WHERE id >= {id} ORDER BY id"))
}

#[test]
fn a_key_is_rescued_and_a_column_from_the_next_epoch_on() {
    let place = place(TEXT);
    place.run(JOB);
    let rescued = r#"{"unitPrice":4.50,"who.age":7}"#;
    assert_eq!(rows(&place, "id, _rescued", 1), [["1", ""], ["2", rescued]]);
    assert_eq!(place.next_epoch(JOB), 3, "the empty view, the rows, what was learned of them");
    place.holds(JOB);
    let plan = place.job("plan", JOB).ok().stdout;
    assert!(plan.contains("kept: gets new columns"), "{plan}");
    assert!(plan.contains("columns=unit_price\n"), "{plan}");
    place.run(JOB);
    assert_eq!(place.next_epoch(JOB), 3, "it is learned once");

    let more =
        "{\"id\": 3, \"unitPrice\": \"5\", \"Note\": null}\n{\"id\": 4, \"unitPrice\": [1]}\n";
    place.write("input/2.jsonl", more);
    place.run(JOB);
    let columns = "id, unit_price, _rescued";
    let before = ["2", "", rescued];
    let after = [["3", "5", r#"{"Note":null}"#], ["4", "[1]", ""]];
    assert_eq!(rows(&place, columns, 2), [before, after[0], after[1]]);
    place.holds(JOB);
    place.write("input/3.jsonl", "{\"id\": 2, \"Note\": \"n\"}\n");
    place.run(JOB);
    let counts = "SELECT count(*), count(unit_price), count(note), count(_rescued) FROM";
    assert_eq!(place.sql(JOB, &format!("{counts} kept")), [["5", "2", "1", "2"]]);
    assert_eq!(place.sql(JOB, &format!("{counts} newest")), [["4", "2", "1", "1"]]);
    place.holds(JOB);

    // A new life begins with what the schema says, and learns again.
    place.job("run", JOB).arg("--rebuild").ok();
    assert_eq!(place.sql(JOB, "SELECT count(*), count(_rescued) FROM kept"), [["5", "4"]]);
    place.write("input/4.jsonl", "{\"id\": 6, \"Note\": \"m\", \"unitPrice\": 1}\n");
    place.run(JOB);
    assert_eq!(rows(&place, "note, unit_price, _rescued", 6), [["m", "1", ""]]);
    place.holds(JOB);
}

#[test]
fn who_dies_before_it_is_learned_loses_nothing() {
    let place = place(TEXT);
    killed(place.job("run", JOB), Step::Polled, 2);
    assert_eq!(place.next_epoch(JOB), 2);
    place.run(JOB);
    assert_eq!(place.next_epoch(JOB), 2, "the rows are sealed, and nothing asks for them again");
    place.write("input/2.jsonl", "{\"id\": 3, \"unitPrice\": 5}\n");
    place.run(JOB);
    assert_eq!(rows(&place, "id, _rescued", 3), [["3", r#"{"unitPrice":5}"#]]);
    place.holds(JOB);
    place.write("input/3.jsonl", "{\"id\": 4, \"unitPrice\": 6}\n");
    place.run(JOB);
    assert_eq!(rows(&place, "id, unit_price, _rescued", 4), [["4", "6", ""]]);
    place.holds(JOB);
}

#[test]
fn views_over_all_columns_are_built_afresh() {
    let text = format!("{TEXT}  copy: {{sql: SELECT * FROM kept WHERE id > 1}}\n");
    let place = place(&text);
    place.run(JOB);
    place.write("input/2.jsonl", "{\"id\": 3, \"unitPrice\": 5}\n");
    place.run(JOB);
    let copy = place.sql(JOB, "SELECT id, unit_price FROM copy ORDER BY id");
    assert_eq!(copy, [["2", ""], ["3", "5"]]);
    place.holds(JOB);
    // A run that goes on learns between two of its epochs.
    let run = place.job("run", JOB).arg("--follow").start();
    for id in [13, 14] {
        place.write(&format!("input/{id}.jsonl"), &format!("{{\"id\": {id}, \"a\": 0}}\n"));
        wait::until("the row", 120, || (rows(&place, "id", id).len() == 1).then_some(()));
    }
    run.signal("TERM");
    assert_eq!(run.wait().code, Some(0));
    assert_eq!(rows(&place, "a, _rescued", 13), [["", r#"{"a":0}"#], ["0", ""]]);
    place.holds(JOB);
}
