//! Tables and views: statements, keys, partitions, expectations.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sluice_lake::maintain::ZORDER_COLUMNS_MAX;

use super::Builder;
use crate::job::model::{
    EventTime, Expectation, FilesSpec, Merge, MetricsSpec, TableFormat, TableSpec, ViewSpec,
};
use crate::job::named::Named;
use crate::job::read::{Text, segment};
use crate::job::spec::{EventTimeEntry, ExpectEntry, MetricsEntry, TableEntry, ViewEntry};
use crate::job::sql::SqlText;

impl Builder<'_, '_> {
    pub(super) fn tables(&mut self, entries: Named<TableEntry>) -> Vec<TableSpec> {
        let mut tables = Vec::new();
        for (name, entry) in entries {
            tables.extend(self.table(name, entry));
        }
        tables
    }

    pub(super) fn views(&mut self, entries: Named<ViewEntry>) -> Vec<ViewSpec> {
        let mut views = Vec::new();
        for (name, entry) in entries {
            let pointer = format!("/views{}", segment(&name));
            let folder = self.folder(&pointer, &entry.folder);
            let sql = self.statement(&pointer, entry.sql, entry.sql_file);
            let Some(sql) = sql else { continue };
            let metrics = entry.metrics.map(|metrics| self.metrics(&pointer, metrics));
            let (refresh, doc) = (entry.refresh, entry.doc);
            views.push(ViewSpec { name, pointer, sql, folder, refresh, metrics, doc });
        }
        views
    }

    /// Which columns of a view become gauges; that they are there is checked when it is planned.
    fn metrics(&mut self, pointer: &str, entry: MetricsEntry) -> MetricsSpec {
        let (values, labels) = (entry.value.into_vec(), entry.labels);
        let place = format!("{pointer}/metrics");
        self.check_twice(&format!("{place}/value"), &values);
        self.check_twice(&format!("{place}/labels"), &labels);
        if values.is_empty() && !self.is_damaged(&format!("{place}/value")) {
            let hint = "name a column with a number, or take `metrics:` away";
            self.report.at_key(&format!("{place}/value"), "no column is to be shown", hint);
        }
        if let Some(at) = labels.iter().position(|label| values.contains(label)) {
            let label = &labels[at];
            let message = format!("the column is a value and a label column={label}");
            let hint = "a label tells series apart, a value is what they show: keep one";
            self.report.at(&format!("{place}/labels/{at}"), message, hint);
        }
        MetricsSpec { values, labels, name: entry.name }
    }

    fn table(&mut self, name: String, entry: TableEntry) -> Option<TableSpec> {
        let pointer = format!("/tables{}", segment(&name));
        self.check_key(&pointer, &entry);
        self.check_twice(&format!("{pointer}/key"), entry.key.as_deref().unwrap_or_default());
        self.check_twice(&format!("{pointer}/partition_by"), &entry.partition_by);
        let files = self.files(&pointer, &entry);
        let folder = self.folder(&pointer, &entry.folder);
        let event_time = entry.event_time.map(|time| self.event_time(&pointer, time));
        let expect = self.expectations(&pointer, entry.expect);
        let delete_when =
            entry.delete_when.map(|text| self.sql_text(&format!("{pointer}/delete_when"), text));
        let sql = self.statement(&pointer, entry.sql, entry.sql_file)?;
        Some(TableSpec {
            name,
            pointer,
            sql,
            key: entry.key.unwrap_or_default(),
            sequence_by: entry.sequence_by,
            delete_when,
            merge: entry.merge.unwrap_or_default(),
            partition_by: entry.partition_by,
            folder,
            format: entry.format,
            files,
            event_time,
            expect,
            doc: entry.doc,
        })
    }

    /// Keys need Delta; what speaks of keys needs a key.
    fn check_key(&mut self, pointer: &str, entry: &TableEntry) {
        let place = format!("{pointer}/key");
        if entry.key.is_some() {
            if entry.format == TableFormat::Parquet {
                let hint = "take `format: parquet` away, or the key";
                self.report.at_key(&place, "keys need Delta", hint);
            }
            return;
        }
        if self.is_damaged(&place) || self.is_misspelt(pointer, &["key"]) {
            return;
        }
        let merges = entry.merge.is_some_and(|merge| merge != Merge::Replace);
        for (key, given) in [
            ("sequence_by", entry.sequence_by.is_some()),
            ("delete_when", entry.delete_when.is_some()),
            ("merge", merges),
        ] {
            if given {
                let hint = format!("add `key: [column]`, or take {key} away");
                self.report.at_key(
                    &format!("{pointer}/{key}"),
                    format!("only tables with a key have this key={key}"),
                    hint,
                );
            }
        }
    }

    /// What its files are to be like; sorting needs Delta, where files can be replaced.
    fn files(&mut self, pointer: &str, entry: &TableEntry) -> FilesSpec {
        let place = format!("{pointer}/zorder_by");
        self.check_twice(&place, &entry.zorder_by);
        let (given, max) = (entry.zorder_by.len(), ZORDER_COLUMNS_MAX);
        if given > max {
            let message = format!("too many columns to sort by columns={given}");
            let hint = format!("name at most {max}, those that queries filter by most");
            self.report.at_key(&place, message, hint);
        }
        if given > 0 && entry.format == TableFormat::Parquet {
            let hint = "take `format: parquet` away, or zorder_by";
            self.report.at_key(&place, "sorting by compaction needs Delta", hint);
        }
        let size = entry.target_file_size.as_ref();
        let size = size.and_then(|size| self.size(&format!("{pointer}/target_file_size"), size));
        let target_bytes = size.unwrap_or(FilesSpec::default().target_bytes);
        FilesSpec { target_bytes, zorder_by: entry.zorder_by.clone() }
    }

    fn check_twice(&mut self, pointer: &str, columns: &[String]) {
        for (i, column) in columns.iter().enumerate() {
            if columns[..i].contains(column) {
                let message = format!("the column is named twice column={column}");
                self.report.at(&format!("{pointer}/{i}"), message, "name it once");
            }
        }
    }

    fn event_time(&mut self, pointer: &str, entry: EventTimeEntry) -> EventTime {
        let place = format!("{pointer}/event_time/lateness");
        let lateness = entry.lateness.and_then(|text| self.duration(&place, &text));
        EventTime { column: entry.column, lateness: lateness.unwrap_or(Duration::ZERO) }
    }

    fn expectations(&mut self, pointer: &str, entries: Named<ExpectEntry>) -> Vec<Expectation> {
        let mut expectations = Vec::new();
        for (name, entry) in entries {
            let pointer = format!("{pointer}/expect{}", segment(&name));
            let place = format!("{pointer}/fail_above");
            let fail_above = entry.fail_above.and_then(|text| self.share(&place, &text));
            let that = self.sql_text(&format!("{pointer}/that"), entry.that);
            let action = entry.otherwise;
            expectations.push(Expectation { name, that, action, fail_above });
        }
        expectations
    }

    /// A percentage as a share of one.
    fn share(&mut self, pointer: &str, text: &str) -> Option<f64> {
        let number = text.trim_end_matches('%').trim().parse::<f64>().ok();
        let share = number.map(|n| n / 100.0).filter(|share| (0.0..=1.0).contains(share));
        if share.is_none() {
            let message = format!("not a share of rows text={text}");
            self.report.at(pointer, message, "write a percentage from 0% to 100%");
        }
        share
    }

    /// The folder of a table below the lake, without slashes at its ends.
    fn folder(&mut self, pointer: &str, text: &str) -> String {
        let folder = text.trim_matches('/');
        let legal = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            !part.is_empty() && !part.starts_with(['_', '.']) && part.chars().all(plain)
        };
        if text.starts_with('/') || !(folder.is_empty() || folder.split('/').all(legal)) {
            let hint = "a folder lies below the lake, such as `delta` or `raw/sales`; its parts \
                        have letters, digits, `-`, `_`, `.` and begin with a letter or digit";
            let message = format!("not a folder of the lake folder={text}");
            self.report.at(&format!("{pointer}/folder"), message, hint);
        }
        folder.to_string()
    }

    pub(in crate::job) fn statement(
        &mut self,
        pointer: &str,
        sql: Option<String>,
        sql_file: Option<String>,
    ) -> Option<SqlText> {
        let (place, file_place) = (format!("{pointer}/sql"), format!("{pointer}/sql_file"));
        let failed = &self.tree.failed;
        if failed.contains(&place) || failed.contains(&file_place) {
            return None;
        }
        let statement = match (sql, sql_file) {
            (Some(text), None) => self.sql_text(&place, text),
            (None, Some(file)) => self.sql_of_file(&file_place, &file)?,
            (Some(_), Some(_)) => {
                let hint = "keep `sql:` or `sql_file:`";
                self.report.at_key(&file_place, "two statements where there can be one", hint);
                return None;
            }
            (None, None) => {
                let is_told = self.is_damaged(&place) || self.is_damaged(&file_place);
                if !is_told && !self.is_misspelt(pointer, &["sql", "sql_file"]) {
                    let hint = "add `sql:` with a SELECT, or `sql_file:`";
                    self.report.at(pointer, "there is no statement", hint);
                }
                return None;
            }
        };
        if statement.trim().is_empty() {
            let (file, span) = statement.locate(1, 1);
            let hint = Some("write a SELECT statement".to_string());
            self.report.problems().push(&file, Some(span), "the statement is empty", hint);
            return None;
        }
        Some(statement)
    }

    fn sql_text(&self, pointer: &str, text: String) -> SqlText {
        let places = self.tree.places(self.report.document, pointer);
        SqlText::new(text, self.file(), places)
    }

    fn sql_of_file(&mut self, pointer: &str, name: &str) -> Option<SqlText> {
        let path = self.file().parent().unwrap_or(Path::new("")).join(name);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let text = text.replace("\r\n", "\n");
                let places = Text::new(&text).places();
                Some(SqlText::new(text, &path, places))
            }
            Err(error) => {
                let hint = format!(
                    "sql_file is relative to the job file: {} was looked for ({error})",
                    path.display()
                );
                self.report.at(pointer, format!("cannot read the statement file={name}"), hint);
                None
            }
        }
    }
}
