//! A row group that is being written: its columns, each encoded as suits it.
//!
//! In: rows. Out: the group, appended to its file. When a group ends, whoever writes the file decides.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::Result;
use parquet::file::writer::SerializedFileWriter;

use super::Workshop;
use super::column::DictionaryColumn;

/// What all row groups of a file are made from.
pub(super) struct Recipe {
    pub schema: SchemaRef,
    /// Per field whether it gets a dictionary of ours.
    pub dictionaries: Vec<bool>,
    pub factory: ArrowRowGroupWriterFactory,
    pub shared: Workshop,
}

/// The columns of one row group, in order.
pub(super) struct Group {
    columns: Vec<Column>,
    rows: usize,
}

enum Column {
    Dictionary(Box<DictionaryColumn>),
    /// The leaves of a field, by Parquet's own writer.
    Library(Vec<ArrowColumnWriter>),
}

impl Group {
    /// A group without rows.
    pub(super) fn begin(recipe: &Recipe, file: &SerializedFileWriter<Vec<u8>>) -> Result<Self> {
        let descriptor = file.schema_descr();
        let leaves = recipe.factory.create_column_writers(file.flushed_row_groups().len())?;
        let mut columns: Vec<Column> = Vec::with_capacity(recipe.schema.fields().len());
        for (index, writer) in leaves.into_iter().enumerate() {
            let root = descriptor.get_column_root_idx(index);
            if let Some(Column::Library(writers)) = columns.get_mut(root) {
                writers.push(writer);
                continue;
            }
            let column = descriptor.column(index);
            let compression = file.properties().compression(column.path());
            let of = recipe.schema.field(root).data_type();
            let own = match recipe.dictionaries[root] {
                true => DictionaryColumn::new(of, column, compression, &recipe.shared),
                false => None,
            };
            columns.push(match own {
                Some(own) => Column::Dictionary(Box::new(own)),
                None => Column::Library(vec![writer]),
            });
        }
        Ok(Self { columns, rows: 0 })
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Takes `rows`, or none of them when a field has too many values for its dictionary: the group
    /// has to end, and that field to go without from then on.
    pub(super) fn write(
        &mut self,
        schema: &SchemaRef,
        rows: &RecordBatch,
    ) -> Result<std::result::Result<(), usize>> {
        for (index, (column, array)) in self.columns.iter_mut().zip(rows.columns()).enumerate() {
            if let Column::Dictionary(column) = column
                && column.number(array).is_err()
            {
                self.undo();
                return Ok(Err(index));
            }
        }
        let fields = schema.fields().iter().zip(rows.columns());
        for (column, (field, array)) in self.columns.iter_mut().zip(fields) {
            match column {
                Column::Dictionary(column) => column.put(array)?,
                Column::Library(writers) => {
                    for (writer, leaf) in writers.iter_mut().zip(compute_leaves(field, array)?) {
                        writer.write(&leaf)?;
                    }
                }
            }
        }
        self.rows += rows.num_rows();
        Ok(Ok(()))
    }

    fn undo(&mut self) {
        for column in &mut self.columns {
            if let Column::Dictionary(column) = column {
                column.undo();
            }
        }
    }

    /// What the group takes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.sum(DictionaryColumn::memory_bytes, ArrowColumnWriter::memory_size)
    }

    /// What it would take in the file if it ended here, roughly.
    pub(super) fn encoded_bytes(&self) -> usize {
        self.sum(DictionaryColumn::encoded_bytes, ArrowColumnWriter::get_estimated_total_bytes)
    }

    fn sum(
        &self,
        own: impl Fn(&DictionaryColumn) -> usize,
        library: impl Fn(&ArrowColumnWriter) -> usize,
    ) -> usize {
        let bytes = |column: &Column| match column {
            Column::Dictionary(column) => own(column),
            Column::Library(writers) => writers.iter().map(&library).sum(),
        };
        self.columns.iter().map(bytes).sum()
    }

    /// Ends the group and appends it to `file`.
    pub(super) fn close(self, file: &mut SerializedFileWriter<Vec<u8>>) -> Result<()> {
        let mut group = file.next_row_group()?;
        for column in self.columns {
            match column {
                Column::Dictionary(column) => column.close(&mut group)?,
                Column::Library(writers) => {
                    for writer in writers {
                        writer.close()?.append_to_row_group(&mut group)?;
                    }
                }
            }
        }
        group.close().map(drop)
    }
}
