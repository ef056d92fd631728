//! Rows to requests: bodies, and which rows go together.
//!
//! In: batches of rows. Out: requests, each with the numbers of its rows. The borders depend on the
//! rows and the settings alone, so that the same rows make the same requests under the same keys
//! whenever they are given. Nothing is sent here.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use bytes::Bytes;
use sluice_core::{Error, Refused, Result};

use super::config::{Body, Objects, Settings};
use crate::format::json;

/// What makes the bodies of rows.
#[derive(Debug, Clone)]
pub(super) enum Bodies {
    /// Objects of these columns.
    Objects(Vec<usize>),
    /// The values of a column.
    Column(usize),
}

impl Bodies {
    /// Finds the columns. Errors: `Config` when one is not there, or of a type that does not do.
    pub(super) fn new(settings: &Settings, schema: &Schema) -> Result<Self> {
        let find = |setting: &str, name: &str| {
            schema.index_of(name).map_err(|_| {
                let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                Error::config(format!("{setting} names no column of the rows column={name}"))
                    .hint(format!("columns: {}", names.join(", ")))
            })
        };
        if let Body::Column(name) = &settings.body {
            let index = find("body", name)?;
            let found = schema.field(index).data_type();
            if !found.is_string() && !found.is_binary() {
                let message = format!("a body is a text or bytes column={name} type={found}");
                return Err(Error::config(message)
                    .hint("make it one in the table or view that the sink is fed from"));
            }
            return Ok(Bodies::Column(index));
        }
        for name in &settings.omit {
            find("omit", name)?;
        }
        let kept = |i: &usize| !settings.omit.contains(schema.field(*i).name());
        let columns: Vec<usize> = (0..schema.fields().len()).filter(kept).collect();
        if columns.is_empty() {
            return Err(Error::config("no column is left for the body")
                .hint("leave at least one column out of `omit`"));
        }
        let fields: Vec<_> = columns.iter().map(|i| schema.fields()[*i].clone()).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        json::Encoder::new(&schema, None)?;
        Ok(Bodies::Objects(columns))
    }

    /// The body of each row, or why it has none.
    pub(super) fn of(&self, rows: &RecordBatch) -> Result<Vec<Result<Bytes, String>>> {
        match self {
            Bodies::Objects(columns) => {
                let objects = json::Objects::of(&rows.project(columns)?)?;
                let bytes = Bytes::from(objects.bytes);
                let mut start = 0;
                let slice = |end| Ok(bytes.slice(std::mem::replace(&mut start, end)..end));
                Ok(objects.ends.into_iter().map(slice).collect())
            }
            Bodies::Column(index) => column(rows.column(*index)),
        }
    }
}

fn column(column: &ArrayRef) -> Result<Vec<Result<Bytes, String>>> {
    let plain = match column.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 => cast(column, &DataType::Utf8)?,
        _ => column.clone(),
    };
    let plain = cast(&plain, &DataType::Binary)?;
    let column = plain.as_binary::<i32>();
    let body = |row: usize| match column.is_null(row) {
        true => Err("the body is null".to_string()),
        false => Ok(Bytes::copy_from_slice(column.value(row))),
    };
    Ok((0..column.len()).map(body).collect())
}

/// A request to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// The bodies of its rows, with their numbers; none where all were refused.
    pub rows: Vec<(u64, Bytes)>,
    /// Rows between them that cannot be sent.
    pub refused: Vec<Refused>,
    /// The number of the row behind it.
    pub next: u64,
    bytes: usize,
}

impl Request {
    /// The numbers of its first and its last row.
    pub(super) fn range(&self) -> (u64, u64) {
        let first = self.rows.first().map_or(self.next, |(number, _)| *number);
        let last = self.rows.last().map_or(first, |(number, _)| *number);
        (first, last)
    }

    /// Its body.
    pub(super) fn body(&self, body: &Body) -> Bytes {
        let (open, between, close): (&[u8], &[u8], &[u8]) = match body {
            Body::Objects(Objects::Lines) => (b"", b"\n", b"\n"),
            Body::Objects(Objects::Array) => (b"[", b",", b"]"),
            Body::Objects(Objects::Row) | Body::Column(_) => {
                return self.rows.first().map(|(_, bytes)| bytes.clone()).unwrap_or_default();
            }
        };
        let mut whole = Vec::with_capacity(self.bytes + 2);
        whole.extend_from_slice(open);
        for (at, (_, bytes)) in self.rows.iter().enumerate() {
            if at > 0 {
                whole.extend_from_slice(between);
            }
            whole.extend_from_slice(bytes);
        }
        whole.extend_from_slice(close);
        whole.into()
    }

    /// Two requests with half of its rows each; itself where it has one row.
    pub(super) fn halves(mut self) -> Result<(Self, Self), Self> {
        if self.rows.len() < 2 {
            return Err(self);
        }
        let later = self.rows.split_off(self.rows.len().div_ceil(2));
        let of = |rows: Vec<(u64, Bytes)>| {
            let bytes = rows.iter().map(|(_, bytes)| bytes.len() + 1).sum();
            Self { next: self.next, refused: Vec::new(), rows, bytes }
        };
        Ok((of(std::mem::take(&mut self.rows)), of(later)))
    }
}

/// Puts rows into requests.
#[derive(Debug)]
pub(super) struct Packer {
    rows_max: usize,
    bytes_max: usize,
    open: Request,
    /// Requests that are full.
    full: VecDeque<Request>,
}

impl Packer {
    /// Requests of at most so many rows and bytes.
    pub(super) fn new(rows_max: usize, bytes_max: usize) -> Self {
        Self { rows_max, bytes_max, open: Request::default(), full: VecDeque::new() }
    }

    /// Takes the next row.
    pub(super) fn push(&mut self, body: Result<Bytes, String>) {
        let (row, max) = (self.open.next, self.bytes_max);
        let body = body.and_then(|bytes| match bytes.len() > max {
            true => Err(format!("the body is too large bytes={} max={max}", bytes.len())),
            false => Ok(bytes),
        });
        match body {
            Err(reason) => self.open.refused.push(Refused { row, reason }),
            Ok(bytes) => {
                let more = self.open.bytes + bytes.len() + 1;
                if more > max && !self.open.rows.is_empty() {
                    self.close();
                }
                self.open.bytes += bytes.len() + 1;
                self.open.rows.push((row, bytes));
            }
        }
        self.open.next = row + 1;
        if self.open.rows.len() >= self.rows_max {
            self.close();
        }
    }

    /// No more rows come.
    pub(super) fn finish(&mut self) {
        if !self.open.rows.is_empty() || !self.open.refused.is_empty() {
            self.close();
        }
    }

    /// The next request that is full.
    pub(super) fn take(&mut self) -> Option<Request> {
        self.full.pop_front()
    }

    fn close(&mut self) {
        let next = self.open.next;
        let full = std::mem::replace(&mut self.open, Request { next, ..Request::default() });
        self.full.push_back(full);
    }
}
