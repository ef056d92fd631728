//! The text of the job file: a source, a table of all its rows, and a first view.

use sluice_connectors::files::infer::{Column, Inferred};
use sluice_core::FieldSpec;

use super::yaml::{comment, inline, scalar};
use super::{counted, sentence};

/// Values by which a first view may group: few enough to read, more than one.
const GROUPS: std::ops::RangeInclusive<usize> = 2..=50;

/// Figures that the first view adds up.
const SUMS_MAX: usize = 2;

/// The whole file.
pub(super) fn text(found: &Inferred) -> String {
    let name = &found.name;
    let mut text =
        comment(0, &format!("{name}: made by `sluice init`. {}.", capital(&sentence(found))));
    for line in rejects(found).iter().chain(&found.notes) {
        text.push_str(&comment(0, line));
    }
    text.push_str(&comment(
        0,
        "Change what you like: `sluice validate` says what is wrong, `sluice plan` how it would be \
         run, `sluice run --limit 1000` tries it on few rows and leaves nothing behind.",
    ));
    let job = name.replace('_', "-");
    text.push_str(&format!("job: {job}\nlake: \"${{vars.lake}}\"\nvars:\n"));
    text.push_str(&comment(2, "Where the tables lie: a folder, or s3://bucket/folder."));
    text.push_str("  lake: ./lake\n");
    if let [path] = found.paths.as_slice() {
        let what = "The files: each is taken once, new ones by the next run. Relative to the folder you run in.";
        text.push_str(&comment(2, what));
        text.push_str(&format!("  files: {}\n", scalar(path)));
    }
    text.push_str(&source(found));
    text.push_str(&table(found));
    text.push_str(&view(found));
    text
}

/// What does not fit, a line for each reason.
pub(super) fn rejects(found: &Inferred) -> Vec<String> {
    let kind = |r: &sluice_connectors::files::infer::Rejects| {
        let rows = counted(r.rows, "row");
        format!(
            "{rows} will be rejected, and kept in {}__rejected: {}",
            source_name(found),
            r.example
        )
    };
    found.rejects.iter().map(kind).collect()
}

fn source_name(found: &Inferred) -> String {
    format!("{}_files", found.name)
}

fn source(found: &Inferred) -> String {
    let mut text = format!("\nsources:\n  {}:\n    connector: files\n", source_name(found));
    match found.paths.as_slice() {
        [_] => text.push_str("    path: \"${vars.files}\"\n"),
        several => {
            text.push_str("    path:\n");
            several.iter().for_each(|path| text.push_str(&format!("      - {}\n", scalar(path))));
        }
    }
    for setting in &found.settings {
        if !setting.comment.is_empty() {
            text.push_str(&comment(4, &capital(&setting.comment)));
        }
        text.push_str(&format!("    {}: {}\n", setting.key, inline(&setting.value)));
    }
    text.push_str(&format!("    schema: schemas/{}.v1.yaml\n", found.name));
    text
}

fn table(found: &Inferred) -> String {
    let name = &found.name;
    let mut text = format!("\ntables:\n  {name}:\n    doc: Every row of the files.\n");
    text.push_str(&format!("    sql: SELECT * FROM {}\n", source_name(found)));
    if let Some((field, _)) = fields(found).find(|(field, column)| is_key(field, column)) {
        text.push_str(&comment(
            4,
            &format!(
                "{} is different in every row. With this key, a later row replaces an earlier one:",
                field.name
            ),
        ));
        text.push_str(&format!("    # key: [{}]\n", field.name));
    }
    if let Some((field, _)) = fields(found).find(|(field, column)| is_time(field, column)) {
        let time = &field.name;
        text.push_str(&comment(
            4,
            "Large tables are read faster in partitions, for example by month:",
        ));
        text.push_str(&format!(
            "    # sql: SELECT *, CAST(date_trunc('month', {time}) AS DATE) AS month FROM {}\n",
            source_name(found)
        ));
        text.push_str("    # partition_by: [month]\n");
    } else if let Some((field, _)) = fields(found).find(|(field, column)| is_group(field, column)) {
        text.push_str(&comment(4, "Large tables are read faster in partitions:"));
        text.push_str(&format!("    # partition_by: [{}]\n", field.name));
    }
    text.push_str(&decorated(found));
    if let Some((field, _)) = fields(found).find(|(field, _)| is_figure(field)) {
        let figure = &field.name;
        text.push_str(&comment(
            4,
            "Rows that break a rule can be put aside, dropped, or stop the run:",
        ));
        text.push_str(&format!(
            "    # expect: {{{figure}_not_negative: {{that: {figure} >= 0, else: quarantine}}}}\n"
        ));
    }
    text
}

/// How numbers with signs around them become numbers.
fn decorated(found: &Inferred) -> String {
    let is = |column: &Column| column.notes.iter().any(|n| n.starts_with("numbers written like"));
    let names: Vec<&str> =
        fields(found).filter(|(_, c)| is(c)).map(|(f, _)| f.name.as_str()).collect();
    let Some(first) = names.first() else { return String::new() };
    let mut text = comment(
        4,
        &format!(
            "Text that is numbers ({}) is made such in the SQL, for example:",
            names.join(", ")
        ),
    );
    text.push_str(&format!(
        "    # CAST(regexp_replace({first}, '[^0-9.-]', '', 'g') AS DECIMAL(18, 2)) AS {first}\n"
    ));
    text
}

/// Rows per month, or by a column with few values, or all of them.
fn view(found: &Inferred) -> String {
    let name = &found.name;
    let time = fields(found).find(|(field, column)| is_time(field, column));
    let group = fields(found).find(|(field, column)| is_group(field, column));
    let (by, what, expression) = match (time, group) {
        (Some((field, _)), _) => {
            let month = format!("CAST(date_trunc('month', {}) AS DATE) AS month", field.name);
            ("month".to_string(), "per month", Some(month))
        }
        (None, Some((field, _))) => {
            (field.name.clone(), "for each value", Some(field.name.clone()))
        }
        (None, None) => ("total".to_string(), "altogether", None),
    };
    let mut columns: Vec<String> = expression.iter().cloned().collect();
    columns.push("count(*) AS row_count".to_string());
    let figures = fields(found).filter(|(field, _)| is_figure(field)).take(SUMS_MAX);
    columns.extend(figures.map(|(field, _)| format!("sum({}) AS {}", field.name, field.name)));
    let mut text = format!("\nviews:\n  {name}_by_{by}:\n    doc: Rows {what}.\n    sql: |\n");
    text.push_str(&format!(
        "      SELECT {}\n      FROM {name}\n",
        columns.join(",\n             ")
    ));
    if expression.is_some() {
        text.push_str("      GROUP BY 1\n");
    }
    text
}

fn fields(found: &Inferred) -> impl Iterator<Item = (&FieldSpec, &Column)> {
    found.schema.fields.iter().zip(&found.columns)
}

fn is_time(field: &FieldSpec, column: &Column) -> bool {
    matches!(field.data_type.as_str(), "date" | "timestamp")
        && column.facts.nulls * 2 <= column.facts.rows
}

fn is_group(field: &FieldSpec, column: &Column) -> bool {
    let facts = &column.facts;
    matches!(field.data_type.as_str(), "string" | "bool")
        && facts.distinct.is_some_and(|d| GROUPS.contains(&d) && (d as u64) < facts.rows)
}

fn is_key(field: &FieldSpec, column: &Column) -> bool {
    let facts = &column.facts;
    let all = facts.distinct.is_some_and(|d| d as u64 == facts.rows) && facts.rows > 1;
    all && facts.nulls == 0 && matches!(field.data_type.as_str(), "string" | "int64" | "int32")
}

/// Whether a sum of the column says something: amounts, not identifiers or prices.
fn is_figure(field: &FieldSpec) -> bool {
    let id = [
        "id",
        "no",
        "nr",
        "number",
        "code",
        "key",
        "lat",
        "lon",
        "latitude",
        "longitude",
        "price",
        "rate",
        "ratio",
        "percent",
    ];
    let named = field.name.split('_').any(|part| id.contains(&part));
    let scaled = field.data_type.starts_with("decimal") && !field.data_type.ends_with(", 0)");
    (scaled || field.data_type.starts_with("float")) && !named
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}
