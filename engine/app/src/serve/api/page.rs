//! A page of a relation's rows: which columns, filters, order, how many, from where on.
//!
//! In: the pairs of a query string, the relation's columns. Out: one SELECT with quoted names and
//! typed placeholders, and the link to the page behind it. Pages follow each other only in an order;
//! the asked columns that the order leaves out are appended to it, so that rows that are equal in
//! it do not change places between two pages.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use sha2::{Digest as _, Sha256};
use sluice_core::{Error, Result};

use super::filter::{Bound, Filter, is_sortable, no_column, quoted};

/// Rows of a page when nothing is said: a screen.
pub(super) const ROWS_DEFAULT: u64 = 100;

/// Rows of a page at most: it is held in memory; `POST /v1/sql` streams more.
pub(super) const ROWS_MAX: u64 = 10_000;

/// Rows that can be skipped: each page sorts all that lie before it.
pub(super) const OFFSET_MAX: u64 = 1_000_000;

/// Filters of one request: more are a query, and each is planned.
const FILTERS_MAX: usize = 50;

/// Digits of the fingerprint in a cursor: it finds mix-ups, it keeps nobody out.
const FINGERPRINT_DIGITS: usize = 16;

/// One key of an order.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    column: String,
    descending: bool,
}

/// What is asked of a relation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Page {
    /// Rows at most.
    pub(super) limit: u64,
    /// Rows before the first.
    pub(super) offset: u64,
    columns: Vec<String>,
    order: Vec<Key>,
    filters: Vec<Filter>,
    /// The parameters that every page of the same rows has.
    kept: Vec<(String, String)>,
    fingerprint: String,
}

/// A SELECT and the values of its placeholders.
#[derive(Debug, PartialEq)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) params: Vec<(String, ScalarValue)>,
}

/// The parameters that are no filters, as they came.
#[derive(Default)]
struct Reserved<'p> {
    columns: Option<&'p str>,
    order: Option<&'p str>,
    limit: Option<&'p str>,
    offset: Option<&'p str>,
    cursor: Option<&'p str>,
}

impl Page {
    /// Reads the pairs of a query string. Errors: `Config`, for who asked.
    pub(super) fn parse(
        relation: &str,
        schema: &Schema,
        pairs: &[(String, String)],
    ) -> Result<Self> {
        let mut reserved = Reserved::default();
        let mut filters = Vec::new();
        for (key, text) in pairs {
            let Some(place) = reserved.place(key) else {
                filters.push(Filter::parse(key, text, schema)?);
                continue;
            };
            if place.replace(text.as_str()).is_some() {
                return Err(Error::config(format!("given twice parameter={key}")));
            }
        }
        if filters.len() > FILTERS_MAX {
            let message = format!("too many filters filters={}", filters.len());
            return Err(Error::config(message).hint(format!("at most {FILTERS_MAX}")));
        }
        let columns = columns(reserved.columns, schema)?;
        let order = order(reserved.order, schema)?;
        let limit = number("limit", reserved.limit, ROWS_MAX)?.unwrap_or(ROWS_DEFAULT);
        let kept = |key: &str| !matches!(key, "offset" | "cursor");
        let kept: Vec<_> = pairs.iter().filter(|(key, _)| kept(key)).cloned().collect();
        let fingerprint = fingerprint(relation, &kept);
        let offset = offset(&reserved, &fingerprint, order.is_empty())?;
        Ok(Self { limit, offset, columns, order, filters, kept, fingerprint })
    }

    /// Refuses what only whole pages have.
    pub(super) fn refuse_offset(&self) -> Result<()> {
        if self.offset == 0 {
            return Ok(());
        }
        Err(Error::config("changes start at the first row parameter=offset"))
    }

    /// The SELECT of this page from a relation, as SQL names it; it has one row more than the page if
    /// another one follows.
    pub(super) fn statement(&self, relation: &str, schema: &Schema) -> Statement {
        let mut bound = Bound::default();
        let names: Vec<_> = self.columns.iter().map(|name| quoted(name)).collect();
        let mut sql = format!("SELECT {} FROM {relation}", names.join(", "));
        let conditions: Vec<_> = self.filters.iter().map(|f| f.sql(&mut bound)).collect();
        if !conditions.is_empty() {
            sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
        }
        if !self.order.is_empty() {
            let keys: Vec<_> = self.total_order(schema).iter().map(Key::sql).collect();
            sql.push_str(&format!(" ORDER BY {}", keys.join(", ")));
        }
        sql.push_str(&format!(" LIMIT {}", self.limit + 1));
        if self.offset > 0 {
            sql.push_str(&format!(" OFFSET {}", self.offset));
        }
        Statement { sql, params: bound.0 }
    }

    /// The asked order, and behind it every asked column that it does not have.
    fn total_order(&self, schema: &Schema) -> Vec<Key> {
        let mut keys = self.order.clone();
        for column in &self.columns {
            let known = keys.iter().any(|key| key.column == *column);
            let field = schema.fields().iter().find(|f| f.name() == column);
            if !known && field.is_some_and(is_sortable) {
                keys.push(Key { column: column.clone(), descending: false });
            }
        }
        keys
    }

    /// The link to the page behind this one; none without an order, or too far away.
    pub(super) fn next(&self, path: &str) -> Option<String> {
        let offset = self.offset + self.limit;
        if self.order.is_empty() || offset > OFFSET_MAX {
            return None;
        }
        let mut link = format!("{path}?");
        for (key, text) in &self.kept {
            link.push_str(&format!("{}={}&", escaped(key), escaped(text)));
        }
        link.push_str(&format!("cursor={offset}-{}", self.fingerprint));
        Some(link)
    }
}

impl<'p> Reserved<'p> {
    /// Where the value of a reserved parameter goes.
    fn place(&mut self, key: &str) -> Option<&mut Option<&'p str>> {
        Some(match key {
            "columns" => &mut self.columns,
            "order" => &mut self.order,
            "limit" => &mut self.limit,
            "offset" => &mut self.offset,
            "cursor" => &mut self.cursor,
            _ => return None,
        })
    }
}

impl Key {
    /// NULLs come last either way: who asks for the largest wants values.
    fn sql(&self) -> String {
        let direction = if self.descending { "DESC" } else { "ASC" };
        format!("{} {direction} NULLS LAST", quoted(&self.column))
    }
}

fn columns(text: Option<&str>, schema: &Schema) -> Result<Vec<String>> {
    let Some(text) = text else {
        return Ok(schema.fields().iter().map(|f| f.name().clone()).collect());
    };
    let mut seen = BTreeSet::new();
    for name in text.split(',') {
        if schema.field_with_name(name).is_err() {
            return Err(no_column(name, schema));
        }
        if !seen.insert(name) {
            return Err(Error::config(format!("given twice parameter=columns column={name:?}")));
        }
    }
    Ok(text.split(',').map(str::to_string).collect())
}

/// `-day,site`: by day, the latest first, then by site.
fn order(text: Option<&str>, schema: &Schema) -> Result<Vec<Key>> {
    let mut keys: Vec<Key> = Vec::new();
    for part in text.into_iter().flat_map(|text| text.split(',')) {
        let (name, descending) = match part.strip_prefix('-') {
            Some(name) => (name, true),
            None => (part, false),
        };
        let field = schema.fields().iter().find(|f| f.name() == name);
        let field = field.ok_or_else(|| no_column(name, schema))?;
        if !is_sortable(field) {
            return Err(Error::config(format!(
                "a column of this type has no order column={name:?}"
            )));
        }
        if keys.iter().any(|key| key.column == name) {
            return Err(Error::config(format!("given twice parameter=order column={name:?}")));
        }
        keys.push(Key { column: name.to_string(), descending });
    }
    Ok(keys)
}

/// A whole number from 0, or for `limit` from 1, to `max`.
fn number(name: &str, text: Option<&str>, max: u64) -> Result<Option<u64>> {
    let Some(text) = text else { return Ok(None) };
    let min = u64::from(name == "limit");
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(number) if digits && (min..=max).contains(&number) => Ok(Some(number)),
        _ => Err(Error::config(format!("not a whole number from {min} to {max} parameter={name}"))),
    }
}

fn offset(reserved: &Reserved<'_>, fingerprint: &str, unordered: bool) -> Result<u64> {
    let offset = match (reserved.cursor, reserved.offset) {
        (Some(_), Some(_)) => {
            return Err(Error::config("either a cursor or an offset parameter=cursor"));
        }
        (Some(cursor), None) => of_cursor(cursor, fingerprint)?,
        (None, text) => number("offset", text, OFFSET_MAX)?.unwrap_or(0),
    };
    if offset > 0 && unordered {
        return Err(Error::config("pages follow each other only in an order parameter=order")
            .hint("name columns: order=-day,site"));
    }
    Ok(offset)
}

fn of_cursor(cursor: &str, fingerprint: &str) -> Result<u64> {
    let wrong = |message: &str| {
        Error::config(format!("{message} parameter=cursor"))
            .hint("take the `next` link of the page before as it is")
    };
    let (offset, print) = cursor.split_once('-').ok_or_else(|| wrong("no cursor of ours"))?;
    if print != fingerprint {
        return Err(wrong("a cursor of other filters, columns, order or limit"));
    }
    let offset = number("cursor", Some(offset), OFFSET_MAX);
    offset.ok().flatten().ok_or_else(|| wrong("no cursor of ours"))
}

/// What tells the parameters of two requests apart.
fn fingerprint(relation: &str, pairs: &[(String, String)]) -> String {
    let mut hash = Sha256::new();
    for text in
        [relation].into_iter().chain(pairs.iter().flat_map(|(k, v)| [k.as_str(), v.as_str()]))
    {
        // With its length, so that no two lists of texts are the same bytes.
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hexadecimal(&hash.finalize(), FINGERPRINT_DIGITS)
}

/// The first `digits` hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8], digits: usize) -> String {
    let mut text = bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    text.truncate(digits);
    text
}

/// A text as part of a query string.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~,".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn schema() -> Schema {
        let list = DataType::List(Field::new("element", DataType::Utf8, true).into());
        Schema::new(vec![
            Field::new("day", DataType::Date32, false),
            Field::new("site", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
            Field::new("tags", list, true),
        ])
    }

    fn pairs(query: &[(&str, &str)]) -> Vec<(String, String)> {
        query.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect()
    }

    fn page(query: &[(&str, &str)]) -> Result<Page> {
        Page::parse("sales", &schema(), &pairs(query))
    }

    #[test]
    fn requests_become_statements() {
        let all = "SELECT \"day\", \"site\", \"n\", \"tags\" FROM \"sales\"";
        let cases: [(&[(&str, &str)], String); 5] = [
            (&[], format!("{all} LIMIT 101")),
            (
                &[("limit", "5"), ("site", "x"), ("n.gt", "1")],
                format!("{all} WHERE \"site\" = $p1 AND \"n\" > $p2 LIMIT 6"),
            ),
            (
                &[("order", "-n"), ("offset", "20"), ("limit", "10")],
                format!(
                    "{all} ORDER BY \"n\" DESC NULLS LAST, \"day\" ASC NULLS LAST, \
                     \"site\" ASC NULLS LAST LIMIT 11 OFFSET 20"
                ),
            ),
            (
                &[("columns", "site,tags"), ("order", "day")],
                "SELECT \"site\", \"tags\" FROM \"sales\" ORDER BY \"day\" ASC NULLS LAST, \
                 \"site\" ASC NULLS LAST LIMIT 101"
                    .to_string(),
            ),
            (&[("columns", "n")], "SELECT \"n\" FROM \"sales\" LIMIT 101".to_string()),
        ];
        for (query, sql) in cases {
            let page = page(query).expect(&sql);
            assert_eq!(page.statement("\"sales\"", &schema()).sql, sql);
        }
    }

    #[test]
    fn wrong_requests_are_refused_with_a_reason() {
        let cases: [(&[(&str, &str)], &str); 15] = [
            (&[("limit", "0")], "from 1 to 10000"),
            (&[("limit", "10001")], "from 1 to 10000"),
            (&[("limit", "+5")], "from 1 to 10000"),
            (&[("limit", "")], "from 1 to 10000"),
            (&[("limit", "5"), ("limit", "6")], "given twice"),
            (&[("offset", "-1"), ("order", "day")], "from 0 to"),
            (&[("offset", "10")], "only in an order"),
            (&[("order", "nothing")], "no such column"),
            (&[("order", "day,-day")], "given twice"),
            (&[("order", "")], "no such column"),
            (&[("order", "tags")], "no order"),
            (&[("columns", "day,day")], "given twice"),
            (&[("columns", "day;site")], "no such column"),
            (&[("cursor", "10-abc"), ("order", "day")], "a cursor of other"),
            (&[("cursor", "10"), ("order", "day")], "no cursor"),
        ];
        for (query, message) in cases {
            let error = page(query).expect_err(message);
            assert!(error.message().contains(message), "{query:?}: {error}");
        }
    }

    #[test]
    fn a_page_leads_to_the_next_one() {
        let first = page(&[("order", "-n"), ("site", "a b&c"), ("limit", "10")]).expect("a page");
        let link = first.next("/v1/views/sales").expect("a next page");
        let (before, cursor) = link.rsplit_once("cursor=").expect("a cursor");
        assert_eq!(before, "/v1/views/sales?order=-n&site=a%20b%26c&limit=10&");
        let query = [("limit", "10"), ("order", "-n"), ("site", "a b&c"), ("cursor", cursor)];
        // The parameters' places count: who takes the link keeps them.
        assert!(page(&query).is_err());
        let query = [("order", "-n"), ("site", "a b&c"), ("limit", "10"), ("cursor", cursor)];
        assert_eq!(page(&query).map(|p| p.offset).ok(), Some(10));
        let query = [("order", "-n"), ("site", "other"), ("limit", "10"), ("cursor", cursor)];
        assert!(page(&query).is_err());
        assert_eq!(page(&[]).expect("a page").next("/v1/views/sales"), None);
    }

    #[test]
    fn lists_of_texts_have_fingerprints_of_their_own() {
        let prints = [
            fingerprint("a", &pairs(&[])),
            fingerprint("a", &pairs(&[("b", "c")])),
            fingerprint("a", &pairs(&[("bc", "")])),
            fingerprint("ab", &pairs(&[("", "c")])),
        ];
        let distinct: BTreeSet<_> = prints.iter().collect();
        assert_eq!(distinct.len(), prints.len());
    }
}
