//! Rows as the body of an answer: JSON, CSV, an Arrow stream, Parquet.
//!
//! In: a stream of batches, how many rows may go out. Out: a body that is made piece by piece while
//! the client takes it; when the client leaves, the stream is dropped and the query ends. A failure
//! in the middle breaks the body off, so that nobody takes half an answer for a whole one; JSON says
//! before that why.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::json;
use sluice_core::{Error, Kind, Result, type_name};

use super::answer::Format;
use crate::output::{csv_header, csv_lines, json_names, json_rows};
use crate::serve::query::QueryError;
use crate::serve::shell::scrubbed;

/// Rows that are encoded at one go: a worker thread is not held for long.
const ROWS_AT_ONCE: usize = 1_024;

/// Rows of a row group of Parquet, and its bytes: one group is held in memory.
const GROUP_ROWS: usize = 128 * 1_024;
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// A stream of rows that holds what its query needs.
pub(super) type RowStream = BoxStream<'static, Result<RecordBatch, QueryError>>;

/// What a JSON answer has around its rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Around {
    /// The names and types of the columns.
    pub(super) columns: bool,
    /// The epoch the rows are of; not told for what no single job made.
    pub(super) epoch: Option<u64>,
    /// Where the next rows are, if there are more.
    pub(super) next: Option<String>,
}

/// Rows on their way out.
pub(super) struct Outgoing {
    pub(super) schema: SchemaRef,
    pub(super) rows: RowStream,
    /// Rows that go out at most; what lies behind them is only told to be there.
    pub(super) limit: Option<u64>,
}

/// The first rows have come, or the failure before them: that still has a status of its own.
pub(super) async fn begun(mut rows: RowStream) -> Result<RowStream, QueryError> {
    match rows.next().await {
        Some(Ok(first)) => Ok(stream::iter([Ok(first)]).chain(rows).boxed()),
        Some(Err(error)) => Err(error),
        None => Ok(stream::empty().boxed()),
    }
}

/// The body of an answer. Errors: `Config` when the form cannot hold a column.
pub(super) fn body(format: Format, outgoing: Outgoing, around: &Around) -> Result<Body> {
    let encoder = encoder(format, &outgoing.schema, around)?;
    let state = Encoding {
        rows: Some(outgoing.rows),
        rest: None,
        left: outgoing.limit.unwrap_or(u64::MAX),
        more: false,
        encoder: Some(encoder),
        begun: false,
        failed: None,
    };
    Ok(Body::from_stream(stream::try_unfold(state, Encoding::step)))
}

/// Turns batches into bytes, in one form.
trait Encoder: Send {
    /// What comes before the rows.
    fn head(&mut self) -> Result<Vec<u8>>;
    /// Rows, or as many of them as are ready.
    fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>>;
    /// What comes behind the rows; `more` when there are others.
    fn tail(self: Box<Self>, more: bool) -> Result<Vec<u8>>;
    /// What comes behind rows that end too early, in a form that has a place to say why.
    fn broken(&self, why: &str) -> Vec<u8>;
}

struct Encoding {
    /// None when they have ended or enough have come.
    rows: Option<RowStream>,
    rest: Option<RecordBatch>,
    left: u64,
    more: bool,
    /// None when the tail is out.
    encoder: Option<Box<dyn Encoder>>,
    begun: bool,
    /// Why it is broken off, when that is said.
    failed: Option<Error>,
}

impl Encoding {
    /// The next piece that is not empty.
    async fn step(mut self) -> Result<Option<(Bytes, Self)>> {
        if let Some(error) = self.failed.take() {
            // What was said leaves before the connection ends.
            tokio::task::yield_now().await;
            return Err(error);
        }
        loop {
            let bytes = match self.piece().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(None),
                Err(error) => self.last_words(error)?,
            };
            if !bytes.is_empty() {
                return Ok(Some((Bytes::from(bytes), self)));
            }
        }
    }

    /// What is said before the body is broken off. Errors: nothing is, in this form.
    fn last_words(&mut self, error: Error) -> Result<Vec<u8>> {
        tracing::warn!(error = error.chain(), "an answer was broken off");
        let why = match error.kind() {
            Kind::Bug => "something broke while this was answered".to_string(),
            Kind::Unavailable => scrubbed(error.message()),
            _ => scrubbed(&error.chain()),
        };
        let said = self.encoder.as_ref().map(|encoder| encoder.broken(&why)).unwrap_or_default();
        if said.is_empty() {
            return Err(error);
        }
        self.failed = Some(error);
        Ok(said)
    }

    async fn piece(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        if !self.begun {
            self.begun = true;
            return encoder.head().map(Some);
        }
        if let Some(rows) = self.slice().await? {
            let Some(encoder) = &mut self.encoder else { return Ok(None) };
            return encoder.rows(&rows).map(Some);
        }
        let encoder = self.encoder.take();
        encoder.map(|encoder| encoder.tail(self.more)).transpose()
    }

    /// The next few rows; none at the end, or when as many as may go out have.
    async fn slice(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.batch().await? else { return Ok(None) };
        if self.left == 0 {
            self.more = true;
            self.rows = None;
            return Ok(None);
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let take = batch.num_rows().min(ROWS_AT_ONCE).min(left);
        self.left -= take as u64;
        if take < batch.num_rows() {
            self.rest = Some(batch.slice(take, batch.num_rows() - take));
        }
        Ok(Some(batch.slice(0, take)))
    }

    /// Rows that have come and not gone out; never an empty batch.
    async fn batch(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        let Some(rows) = &mut self.rows else { return Ok(None) };
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(broken)?;
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
        self.rows = None;
        Ok(None)
    }
}

fn encoder(format: Format, schema: &SchemaRef, around: &Around) -> Result<Box<dyn Encoder>> {
    Ok(match format {
        Format::Json => Box::new(Json {
            schema: schema.clone(),
            names: json_names(schema),
            around: around.clone(),
            rows: 0,
        }),
        Format::Csv => Box::new(Csv { schema: schema.clone() }),
        Format::Arrow => Box::new(Arrow {
            writer: StreamWriter::try_new(Vec::new(), schema).map_err(unfit)?,
            schema: schema.clone(),
        }),
        Format::Parquet => {
            let properties = WriterProperties::builder()
                .set_compression(Compression::SNAPPY)
                .set_max_row_group_row_count(Some(GROUP_ROWS))
                .set_max_row_group_bytes(Some(GROUP_BYTES))
                .build();
            let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties));
            Box::new(Parquet { writer: writer.map_err(unfit)?, schema: schema.clone() })
        }
    })
}

/// A failure of the query in the middle of its rows.
fn broken(error: QueryError) -> Error {
    match error {
        QueryError::Refused(error) | QueryError::Failed(error) => error,
        QueryError::Busy { .. } => Error::unavailable("too many queries are at work or wait"),
        QueryError::TooLong => Error::data("the query took longer than it may"),
        QueryError::TooLarge(what) => Error::data(what),
    }
}

/// The form cannot hold these columns.
fn unfit(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::config("the rows cannot be written in the form asked for")
        .hint("cast the columns it has no types for, or ask for application/json")
        .because(error)
}

/// Rows under the schema the client was told: plans may call a column less nullable than they said.
fn fitted(schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new(schema.clone(), rows.columns().to_vec())?)
}

/// `{"epoch": 7, "rows": [{…}], "more": true, "next": "/v1/…"}`
struct Json {
    schema: SchemaRef,
    names: Vec<String>,
    around: Around,
    rows: u64,
}

impl Encoder for Json {
    fn head(&mut self) -> Result<Vec<u8>> {
        let mut text = "{".to_string();
        if self.around.columns {
            let fields = self.schema.fields().iter();
            let column =
                fields.map(|f| json!({ "name": f.name(), "type": type_name(f.data_type()) }));
            let columns: Vec<_> = column.collect();
            text.push_str(&format!("\"columns\":{},", json!(columns)));
        } else {
            text.push_str(&format!("\"epoch\":{},", json!(self.around.epoch)));
        }
        text.push_str("\"rows\":[");
        Ok(text.into_bytes())
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        for row in json_rows(&self.names, rows)? {
            text.extend_from_slice(if self.rows == 0 { b"\n" } else { b",\n" });
            serde_json::to_writer(&mut text, &row)
                .map_err(|e| Error::bug("cannot write JSON").because(e))?;
            self.rows += 1;
        }
        Ok(text)
    }

    fn tail(self: Box<Self>, more: bool) -> Result<Vec<u8>> {
        let text = match self.around.columns {
            true => format!("],\"more\":{more}}}\n"),
            false => {
                let next = json!(self.around.next.filter(|_| more));
                format!("],\"more\":{more},\"next\":{next}}}\n")
            }
        };
        Ok(text.into_bytes())
    }

    fn broken(&self, why: &str) -> Vec<u8> {
        // The object stays open: nobody takes it for a whole one.
        format!("],\"error\":{}\n", json!(why)).into_bytes()
    }
}

struct Csv {
    schema: SchemaRef,
}

impl Encoder for Csv {
    fn head(&mut self) -> Result<Vec<u8>> {
        Ok(csv_header(&self.schema).into_bytes())
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>> {
        Ok(csv_lines(rows)?.into_bytes())
    }

    fn tail(self: Box<Self>, _more: bool) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn broken(&self, _why: &str) -> Vec<u8> {
        Vec::new()
    }
}

struct Arrow {
    writer: StreamWriter<Vec<u8>>,
    schema: SchemaRef,
}

impl Encoder for Arrow {
    fn head(&mut self) -> Result<Vec<u8>> {
        Ok(std::mem::take(self.writer.get_mut()))
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>> {
        self.writer.write(&fitted(&self.schema, rows)?)?;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    fn tail(mut self: Box<Self>, _more: bool) -> Result<Vec<u8>> {
        self.writer.finish()?;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    fn broken(&self, _why: &str) -> Vec<u8> {
        Vec::new()
    }
}

struct Parquet {
    writer: ArrowWriter<Vec<u8>>,
    schema: SchemaRef,
}

impl Encoder for Parquet {
    fn head(&mut self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>> {
        self.writer.write(&fitted(&self.schema, rows)?).map_err(unfit)?;
        // The writer counts what it wrote, not what lies here: taking it moves no offset.
        Ok(std::mem::take(self.writer.inner_mut()))
    }

    fn tail(mut self: Box<Self>, _more: bool) -> Result<Vec<u8>> {
        self.writer.finish().map_err(unfit)?;
        Ok(std::mem::take(self.writer.inner_mut()))
    }

    fn broken(&self, _why: &str) -> Vec<u8> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::ipc::reader::StreamReader;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn schema() -> SchemaRef {
        let name = Field::new("name", DataType::Utf8, true);
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), name]))
    }

    /// `count` rows in batches of `size`.
    fn outgoing(count: i64, size: usize, limit: Option<u64>) -> Outgoing {
        let ids: Vec<i64> = (0..count).collect();
        let batch = |ids: &[i64]| {
            let names = ids.iter().map(|id| (id % 2 == 0).then(|| format!("n,{id}")));
            let columns: Vec<arrow::array::ArrayRef> = vec![
                Arc::new(Int64Array::from(ids.to_vec())),
                Arc::new(names.collect::<StringArray>()),
            ];
            Ok(RecordBatch::try_new(schema(), columns).expect("rows"))
        };
        let batches: Vec<_> = ids.chunks(size).map(batch).collect();
        Outgoing { schema: schema(), rows: stream::iter(batches).boxed(), limit }
    }

    async fn bytes(format: Format, outgoing: Outgoing, around: &Around) -> Vec<u8> {
        let body = body(format, outgoing, around).expect("a body");
        axum::body::to_bytes(body, usize::MAX).await.expect("bytes").to_vec()
    }

    #[tokio::test]
    async fn json_tells_what_is_around_the_rows() {
        let page = Around { epoch: Some(7), next: Some("/n".to_string()), ..Around::default() };
        let query = Around { columns: true, ..Around::default() };
        let cases = [
            (outgoing(0, 1, None), &page, r#"{"epoch":7,"rows":[],"more":false,"next":null}"#),
            (
                outgoing(2, 1, Some(2)),
                &page,
                r#"{"epoch":7,"rows":[{"id":0,"name":"n,0"},{"id":1,"name":null}],"more":false,"next":null}"#,
            ),
            (
                outgoing(2, 2, Some(1)),
                &page,
                r#"{"epoch":7,"rows":[{"id":0,"name":"n,0"}],"more":true,"next":"/n"}"#,
            ),
            (
                outgoing(1, 1, None),
                &query,
                r#"{"columns":[{"name":"id","type":"int64"},{"name":"name","type":"string"}],"rows":[{"id":0,"name":"n,0"}],"more":false}"#,
            ),
        ];
        for (outgoing, around, wanted) in cases {
            let text = bytes(Format::Json, outgoing, around).await;
            let text = String::from_utf8(text).expect("text").replace('\n', "");
            assert_eq!(text, wanted);
        }
    }

    #[tokio::test]
    async fn every_form_holds_the_rows_that_may_go_out() {
        for (count, size, limit, wanted) in
            [(0, 1, None, 0), (5_000, 3_000, None, 5_000), (5_000, 3_000, Some(4_100), 4_100)]
        {
            let around = Around::default();
            let csv = bytes(Format::Csv, outgoing(count, size, limit), &around).await;
            let lines = String::from_utf8(csv).expect("text").lines().count();
            assert_eq!(lines, wanted + 1);

            let arrow = bytes(Format::Arrow, outgoing(count, size, limit), &around).await;
            let reader = StreamReader::try_new(arrow.as_slice(), None).expect("a stream");
            assert_eq!(reader.map(|b| b.expect("rows").num_rows()).sum::<usize>(), wanted);

            let file = bytes(Format::Parquet, outgoing(count, size, limit), &around).await;
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file));
            let reader = reader.expect("a file").build().expect("a reader");
            assert_eq!(reader.map(|b| b.expect("rows").num_rows()).sum::<usize>(), wanted);
        }
    }

    #[tokio::test]
    async fn a_failure_breaks_the_body_off() {
        let failing = || {
            let mut good = outgoing(3, 3, None);
            let bad = stream::iter([Err(QueryError::TooLong)]);
            good.rows = good.rows.chain(bad).boxed();
            good
        };
        for format in [Format::Json, Format::Csv, Format::Arrow, Format::Parquet] {
            let body = body(format, failing(), &Around::default()).expect("a body");
            assert!(axum::body::to_bytes(body, usize::MAX).await.is_err(), "{format:?}");
        }
        let body = body(Format::Json, failing(), &Around::default()).expect("a body");
        let pieces: Vec<_> = body.into_data_stream().collect().await;
        let (last, before) = pieces.split_last().expect("pieces");
        assert!(last.is_err());
        let said = before.last().and_then(|piece| piece.as_ref().ok()).expect("last words");
        assert_eq!(&said[..], b"],\"error\":\"the query took longer than it may\"\n");
        let first = stream::iter([Err(QueryError::TooLong)]).boxed();
        assert!(begun(first).await.is_err());
    }
}
