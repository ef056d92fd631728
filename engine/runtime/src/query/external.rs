//! Tables that no job of the query knows: Delta tables and Parquet files, whoever wrote them.
//!
//! In: `name=URL`, with `@version` for a Delta table as it was. Out: a table of that name in a
//! session. Delta tables are read by the delta-rs library, which knows more of their features than
//! our own reader; stores are opened by `lake::store`, with credentials by environment or by what
//! the jobs of the query say of the bucket.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::{DataFrame, SessionContext, cast, ident};
use deltalake::DeltaTable;
use sluice_core::{Error, Result, Secrets};
use sluice_lake::delta::library_table;
use sluice_lake::store::{self, Location};

use super::{Readable, dataset};
use crate::catalog::sql_error;

/// A table to be named in a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Its name in SQL: lower case.
    pub name: String,
    /// A path or URL: a Parquet file, a folder of them, or a Delta table.
    pub url: String,
    /// The version of a Delta table; none is the newest.
    pub version: Option<u64>,
}

impl External {
    /// Reads `name=URL` or `name=URL@version`. Errors: `Config`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::config(format!("{what} table={text:?}"))
                .hint("write it like sales=s3://bucket/sales, or sales=./sales@7 for version 7")
        };
        let (name, url) = text.split_once('=').ok_or_else(|| wrong("this is no name=URL"))?;
        let name = name.trim().to_ascii_lowercase();
        let mut letters = name.chars();
        let begins = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !begins || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(wrong("a table's name has letters, digits and _ only"));
        }
        let (url, version) = match url.rsplit_once('@') {
            Some((url, version)) => match version.parse() {
                Ok(version) => (url, Some(version)),
                Err(_) => (text.split_once('=').map_or("", |(_, url)| url), None),
            },
            None => (url, None),
        };
        if url.trim().is_empty() {
            return Err(wrong("the URL is missing"));
        }
        Ok(Self { name, url: url.trim().to_string(), version })
    }

    /// Opens it and gives it to `context` under its name.
    pub(super) async fn register(&self, context: &SessionContext, jobs: &[Readable]) -> Result<()> {
        if context.table_exist(self.name.as_str()).unwrap_or(false) {
            let name = &self.name;
            return Err(Error::config(format!("two tables have the same name table={name}"))
                .hint("give the one of --table another name"));
        }
        let location = store::open(&self.url, &secrets_for(&self.url, jobs))?;
        let provider = if is_delta(&location).await? {
            self.delta(context, &location).await?
        } else {
            self.refuse_version(&location)?;
            dataset::provider(context, &location).await?
        };
        context
            .register_table(self.name.as_str(), provider)
            .map_err(|e| sql_error("cannot register a table", e))?;
        Ok(())
    }

    fn refuse_version(&self, location: &Location) -> Result<()> {
        let Some(version) = self.version else { return Ok(()) };
        let place = location.describe();
        let text = format!("only Delta tables have versions version={version} path={place}");
        Err(Error::config(text).hint("leave `@version` away, or name the folder of a Delta table"))
    }

    async fn delta(
        &self,
        context: &SessionContext,
        location: &Location,
    ) -> Result<Arc<dyn TableProvider>> {
        let mut table = library_table(location)?;
        let loaded = match self.version {
            Some(version) => table.load_version(version).await,
            None => table.load().await,
        };
        loaded.map_err(|e| self.unreadable(location, e))?;
        let provider = scan(context, &self.name, &table).await;
        provider.map_err(|e| self.unreadable(location, e))
    }

    fn unreadable(
        &self,
        location: &Location,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        let version = self.version.map_or(String::new(), |v| format!(" version={v}"));
        let place = location.describe();
        let text = format!("this delta table cannot be read path={place}{version}");
        Error::config(text)
            .hint(
                "where a feature is named, switch it off with the client that set it, or write a \
                 copy without it; where a version is missing, take one that the log still has",
            )
            .because(error)
    }
}

/// The secrets of the first job that says something of the bucket of `url`, else of the first job.
fn secrets_for(url: &str, jobs: &[Readable]) -> Secrets {
    let told = jobs.iter().find(|job| job.secrets.store(url).is_some());
    told.or(jobs.first()).map_or_else(Secrets::default, |job| job.secrets.clone())
}

/// Whether a folder has a Delta log; a file has none.
async fn is_delta(location: &Location) -> Result<bool> {
    if dataset::file(location).await.is_some() {
        return Ok(false);
    }
    let log = location.child("_delta_log");
    Ok(!log.store.list(&log.path).await?.is_empty())
}

/// The library's scan, with columns of plain types. It goes by `name` in plans: what is behind the
/// view of a known table is as well known.
async fn scan(
    context: &SessionContext,
    name: &str,
    table: &DeltaTable,
) -> datafusion::error::Result<Arc<dyn TableProvider>> {
    table.update_datafusion_session(&context.state())?;
    let provider = table.table_provider().with_session(Arc::new(context.state())).await?;
    let schema = provider.schema();
    let columns = schema.fields().iter().map(|field| {
        let wanted = plain(field.data_type());
        let column = ident(field.name());
        if &wanted == field.data_type() { column } else { cast(column, wanted).alias(field.name()) }
    });
    let columns: Vec<_> = columns.collect();
    let name = TableReference::bare(name);
    let scan = LogicalPlanBuilder::scan(name, provider_as_source(provider), None)?;
    Ok(DataFrame::new(context.state(), scan.project(columns)?.build()?).into_view())
}

/// `schema` with plain types, everything nullable: a file may lack a column.
pub(super) fn plain_schema(schema: &Schema) -> Schema {
    let plain = |f: &Arc<Field>| Field::new(f.name(), plain(f.data_type()), true);
    Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>())
}

/// The type without encodings: one kind of text and of bytes, so that tables of different writers
/// can be joined and shown alike.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, inner) => plain(inner),
        DataType::RunEndEncoded(_, inner) => plain(inner.data_type()),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_a_name_a_place_and_perhaps_a_version() {
        let cases = [
            ("a=./x", ("a", "./x", None)),
            ("Sales_2=s3://b/p=1/x", ("sales_2", "s3://b/p=1/x", None)),
            ("a=./x@7", ("a", "./x", Some(7))),
            ("a=abfss://c@account.dfs/x", ("a", "abfss://c@account.dfs/x", None)),
            ("a=abfss://c@account.dfs/x@3", ("a", "abfss://c@account.dfs/x", Some(3))),
        ];
        for (text, (name, url, version)) in cases {
            let expected = External { name: name.into(), url: url.into(), version };
            assert_eq!(External::parse(text).unwrap(), expected, "{text}");
        }
        for text in ["", "a", "=x", "a=", "1a=x", "a b=x", "a=@3"] {
            assert!(External::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn encodings_are_taken_off() {
        let dictionary = |inner| DataType::Dictionary(Box::new(DataType::UInt16), Box::new(inner));
        assert_eq!(plain(&dictionary(DataType::Utf8View)), DataType::Utf8);
        assert_eq!(plain(&DataType::Int32), DataType::Int32);
    }
}
