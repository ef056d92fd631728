//! Any bytes are a job or a list of problems.

use super::*;

/// Lines of job files, right and wrong, that are put together at random.
const LINES: [&str; 40] = [
    "job: shop",
    "lake: ./lake",
    "vars: {lake: ./lake, rows: 100}",
    "targets: {dev: {default: true}, prod: {vars: {lake: s3://a}}}",
    "secrets: {token: {env: TOKEN}}",
    "sources:",
    "  orders: {connector: generate, rows: 5, columns: {id: {}, amount: {}}}",
    "  sales:",
    "    connector: files",
    "    path: \"${vars.lake}/*.csv\"",
    "    path: [a, b]",
    "    schema: {fields: [{name: id, type: int64}]}",
    "    schema: {fields: [{name: x, type: list(struct), fields: [{name: y, type: struct}]}]}",
    "tables:",
    "  facts: {sql: SELECT id FROM orders}",
    "  facts:",
    "    sql: |",
    "      SELECT id, ${vars.rows} FROM orders",
    "    key: [id]",
    "    partition_by: [day]",
    "    expect: {p: {that: id > 0, else: drop, fail_above: 5%}}",
    "views:",
    "  v: {sql: SELECT count(*) AS n FROM facts}",
    "sinks:",
    "  out: {connector: files, from: v, path: ./out}",
    "epoch: {every: 5s, rows: 10}",
    "schedule: {cron: \"*/5 * * * *\"}",
    "tests: [{name: t, given: {orders: []}, expect: {facts: []}}]",
    "---",
    "&a *a",
    "!!map {}",
    "? x",
    "- ",
    "  \t",
    "{",
    "]",
    "\"",
    "'",
    ": :",
    "\u{0}é\u{feff}",
];

/// Lines chosen by `choices`; a choice that is none is bytes of its own.
fn text(choices: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for choice in choices {
        match LINES.get(usize::from(*choice) % 64) {
            Some(line) => text.extend_from_slice(line.as_bytes()),
            None => text.extend([*choice, b' ', *choice / 2]),
        }
        text.push(b'\n');
    }
    text
}

fn reads(name: &str, bytes: &[u8]) {
    let root = folder(name, &[]);
    fs::create_dir_all(&root).unwrap();
    let file = root.join("job.yaml");
    fs::write(&file, bytes).unwrap();
    if let Err(problems) = load(&file, &LoadOptions::default(), &registry()) {
        assert!(!problems.is_empty(), "{:?}", String::from_utf8_lossy(bytes));
    }
    let _ = fs::remove_dir_all(&root);
}

#[test]
fn any_lines_are_a_job_or_problems() {
    bolero::check!()
        .with_iterations(300)
        .with_max_len(24)
        .for_each(|choices: &[u8]| reads("fuzz-lines", &text(choices)));
}

#[test]
fn any_bytes_are_a_job_or_problems() {
    bolero::check!()
        .with_iterations(300)
        .with_max_len(200)
        .for_each(|bytes: &[u8]| reads("fuzz-bytes", bytes));
}

#[test]
fn a_job_with_any_byte_changed_is_a_job_or_problems() {
    bolero::check!().with_iterations(300).with_max_len(8).for_each(|changes: &[u8]| {
        let mut bytes = WHOLE.as_bytes().to_vec();
        for change in changes.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
            bytes[at] = change[2];
        }
        reads("fuzz-changed", &bytes);
    });
}
