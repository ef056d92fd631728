//! A table over a known list of Parquet files, with partition values that are not in the files.
//!
//! In: a location, the files of one job snapshot or head, the table's schema. Out: a scan that
//! leaves out files by their partition values, prunes the others by statistics and reads the needed
//! columns. It lists nothing.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::{Precision, Statistics};
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result as SqlResult;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::prelude::SessionContext;
use sluice_core::{Error, Result};
use sluice_lake::manifest::DataFile;
use sluice_lake::store::{Location, Store};

use super::bounds::Bounds;
use super::prune::{Values, is_wanted};

/// So many columns beside those that filters ask are decoded for all rows. It lies between what was
/// measured: beside up to four (TPC-H) decoding all was faster mostly, beside forty it was not.
const OTHER_COLUMNS_MAX: usize = 6;

/// Parquet files that make up a table.
#[derive(Debug, Clone)]
pub struct FilesTable {
    url: ObjectStoreUrl,
    schema: SchemaRef,
    table_schema: TableSchema,
    /// Where the partition columns stand in `schema`.
    order: Vec<usize>,
    files: Vec<PartitionedFile>,
    /// By which files are left out.
    values: Option<Values>,
    rows: u64,
    /// What is known of the columns' values.
    bounds: Bounds,
    /// Whether footers are kept between scans.
    keeps_footers: bool,
}

impl FilesTable {
    /// A table of `schema` over `files` below `location`. Its store is registered with `context`.
    pub fn new<'a>(
        context: &SessionContext,
        location: &Location,
        schema: SchemaRef,
        partition_by: &[String],
        files: impl IntoIterator<Item = &'a DataFile>,
    ) -> Result<Self> {
        let url = register_store(context, &location.store)?;
        let (partition, stored): (Vec<FieldRef>, Vec<FieldRef>) =
            schema.fields().iter().cloned().partition(|f| partition_by.contains(f.name()));
        let partition: Vec<FieldRef> = partition_by
            .iter()
            .filter_map(|name| partition.iter().find(|f| f.name() == name).cloned())
            .collect();
        let table_schema = TableSchema::builder(Arc::new(Schema::new(stored)))
            .with_table_partition_cols(partition.clone())
            .build();
        let order = order_of(&schema, table_schema.table_schema())?;
        let (mut scanned, mut rows) = (Vec::new(), 0);
        for file in files {
            scanned.push(partitioned_file(location, file, &partition)?);
            rows += file.rows;
        }
        let values = Values::of(&partition, &scanned)?;
        let files = scanned;
        let (bounds, keeps_footers) = (Bounds::default(), false);
        Ok(Self { url, schema, table_schema, order, files, values, rows, bounds, keeps_footers })
    }

    /// The same table, whose files' footers are kept by the runtime of the session that scans it,
    /// within that one's limit: for who scans the same files again and again.
    #[must_use]
    pub fn keeping_footers(self) -> Self {
        Self { keeps_footers: true, ..self }
    }

    /// The same table, of whose columns so much is known: plans begin with the smaller side of a
    /// join then.
    #[must_use]
    pub(crate) fn with_bounds(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// A table of `rows` in a file that is not there, to plan with and not to run.
    pub fn supposed(
        context: &SessionContext,
        location: &Location,
        schema: SchemaRef,
        rows: usize,
    ) -> Result<Self> {
        let file = DataFile {
            path: "supposed.parquet".to_string(),
            partition_values: Default::default(),
            bytes: rows as u64,
            rows: rows as u64,
            modified_ms: 0,
            stats: None,
        };
        Self::new(context, location, schema, &[], &[file])
    }

    /// Rows of `files` of its files, as far as they are known: listed datasets do not know theirs.
    fn estimate(&self, files: usize) -> Precision<usize> {
        let share = |rows: u64| {
            let of = u128::from(rows) * files as u128 / self.files.len().max(1) as u128;
            usize::try_from(of).ok()
        };
        match (self.rows, share(self.rows)) {
            (0, _) if !self.files.is_empty() => Precision::Absent,
            (_, Some(rows)) => Precision::Inexact(rows),
            (_, None) => Precision::Absent,
        }
    }

    /// What planning is told of `files` of its files, with the columns of `schema`.
    fn told(&self, schema: &Schema, files: usize) -> Statistics {
        Statistics {
            num_rows: self.estimate(files),
            total_byte_size: Precision::Absent,
            column_statistics: self.bounds.columns(schema),
        }
    }

    /// The files in which `filters` may hold for some row.
    fn wanted(&self, state: &dyn Session, filters: &[Expr]) -> Vec<PartitionedFile> {
        let mask = self.values.as_ref().and_then(|values| values.wanted(state, filters));
        let files = self.files.iter().enumerate();
        let files = files.filter(|(i, _)| is_wanted(mask.as_ref(), *i));
        files.map(|(_, file)| file.clone()).collect()
    }
}

/// Files spread over `partitions` groups of about the same size.
fn groups(mut files: Vec<PartitionedFile>, partitions: usize) -> Vec<FileGroup> {
    let mut groups: Vec<(u64, Vec<PartitionedFile>)> = vec![(0, Vec::new()); partitions.max(1)];
    files.sort_by_key(|f| std::cmp::Reverse(f.object_meta.size));
    for file in files {
        if let Some(group) = groups.iter_mut().min_by_key(|g| g.0) {
            group.0 += file.object_meta.size;
            group.1.push(file);
        }
    }
    groups.into_iter().filter(|g| !g.1.is_empty()).map(|g| FileGroup::new(g.1)).collect()
}

/// Makes `store` known to `context` and gives the name plans use for it.
pub(crate) fn register_store(context: &SessionContext, store: &Store) -> Result<ObjectStoreUrl> {
    let name = format!("sluice://{}", host_of(&store.id()));
    let url = ObjectStoreUrl::parse(&name)
        .map_err(|e| Error::bug("a store has no name in plans").because(e))?;
    context.register_object_store(url.as_ref(), store.object_store());
    Ok(url)
}

/// A host for a store, different for different stores: `my.bucket` is not `my-bucket`.
fn host_of(id: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let write = |c: char| if plain(c) { c.to_string() } else { format!("-{:x}-", u32::from(c)) };
    id.chars().map(write).collect()
}

fn order_of(schema: &Schema, scanned: &Schema) -> Result<Vec<usize>> {
    schema
        .fields()
        .iter()
        .map(|f| {
            scanned
                .index_of(f.name())
                .map_err(|e| Error::bug("a column is missing from a scan").because(e))
        })
        .collect()
}

fn partitioned_file(
    location: &Location,
    file: &DataFile,
    partition: &[FieldRef],
) -> Result<PartitionedFile> {
    let path = location.join(&file.path)?.path;
    let mut scanned = PartitionedFile::new(path.to_string(), file.bytes);
    scanned.object_meta.location = path;
    // With the size it tells whether a footer that was kept is this file's.
    if let Some(modified) = DateTime::from_timestamp_millis(file.modified_ms) {
        scanned.object_meta.last_modified = modified;
    }
    for field in partition {
        let text = file.partition_values.get(field.name()).and_then(Option::as_deref);
        scanned.partition_values.push(partition_value(text, field.data_type())?);
    }
    Ok(scanned)
}

fn partition_value(text: Option<&str>, data_type: &DataType) -> Result<ScalarValue> {
    let value = match text {
        Some(text) => ScalarValue::try_from_string(text.to_string(), data_type),
        None => ScalarValue::try_from(data_type),
    };
    value.map_err(|e| {
        Error::data(format!("a partition value is not a {data_type} value={text:?}")).because(e)
    })
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> SqlResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(self.told(&self.schema, self.files.len()))
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> SqlResult<Arc<dyn ExecutionPlan>> {
        let wanted: Vec<usize> = match projection {
            Some(wanted) => wanted.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let files = self.wanted(state, filters);
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&wanted)?))));
        }
        let scanned: Vec<usize> = wanted.iter().map(|i| self.order[*i]).collect();
        let options = state.config_options().execution.parquet.clone();
        let mut source = ParquetSource::new(self.table_schema.clone())
            .with_table_parquet_options(parquet_options(options))
            .with_pushdown_filters(filters_early(
                wanted.len(),
                filters,
                self.table_schema.file_schema(),
            ));
        if self.keeps_footers {
            let runtime = state.runtime_env();
            let store = runtime.object_store(&self.url)?;
            let footers = runtime.cache_manager.get_file_metadata_cache();
            let factory = CachedParquetFileReaderFactory::new(store, footers);
            source = source.with_parquet_file_reader_factory(Arc::new(factory));
        }
        let statistics = self.told(self.table_schema.table_schema(), files.len());
        let config = FileScanConfigBuilder::new(self.url.clone(), Arc::new(source))
            .with_file_groups(groups(files, state.config().target_partitions()))
            .with_statistics(statistics)
            .with_projection_indices(Some(scanned))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Whether a scan of so many columns asks filters before it decodes the others: worth it where those
/// are many. Where rows are left out here and there it saves no reading of pages, and little
/// decoding. `filters` are those known so far; only columns that files of `stored` have cost anything.
fn filters_early(columns: usize, filters: &[Expr], stored: &Schema) -> bool {
    let asked = filters.iter().flat_map(Expr::column_refs);
    let asked: HashSet<&Column> = asked.filter(|c| stored.index_of(&c.name).is_ok()).collect();
    columns.saturating_sub(asked.len()) > OTHER_COLUMNS_MAX
}

fn parquet_options(
    global: datafusion::config::ParquetOptions,
) -> datafusion::config::TableParquetOptions {
    datafusion::config::TableParquetOptions { global, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn filters_come_first_where_many_columns_are_left() {
        let field = |name| Field::new(name, DataType::Int64, true);
        let stored = Schema::new(vec![field("day"), field("site")]);
        let filters = [col("day").gt(lit(3)), col("day").lt(lit(9)), col("site").eq(lit("a"))];
        let month = [col("month").eq(lit(3))];
        let cases: [(usize, &[Expr], bool); 6] = [
            (2, &filters, false),
            (8, &filters, false),
            (9, &filters, true),
            (40, &filters, true),
            (7, &month, true),
            (6, &[], false),
        ];
        for (columns, filters, early) in cases {
            let found = filters_early(columns, filters, &stored);
            assert_eq!(found, early, "{columns} columns, {filters:?}");
        }
    }

    #[test]
    fn stores_have_different_names_in_plans() {
        let ids =
            ["s3://my.bucket", "s3://my-bucket", "s3://my-2e-bucket", "gs://my-bucket", "file://"];
        let hosts: std::collections::BTreeSet<String> = ids.iter().map(|id| host_of(id)).collect();
        assert_eq!(hosts.len(), ids.len());
        for host in hosts {
            assert!(ObjectStoreUrl::parse(format!("sluice://{host}")).is_ok(), "{host}");
        }
    }
}
