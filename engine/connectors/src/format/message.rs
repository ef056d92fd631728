//! Messages to rows, one by one: what brokers and webhooks hand over has its own borders.
//!
//! In: the bytes of one message after another. Out: columns, and for each message that is none of the
//! format the reason. Where messages come from is not known here.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use sluice_core::Result;

/// A format of messages, with its settings; shared by all decoders of a source.
#[async_trait]
pub trait MessageFormat: Send + Sync + std::fmt::Debug {
    /// The columns of a message, without where it came from.
    fn schema(&self) -> SchemaRef;

    /// What a message without a value is.
    fn tombstones(&self) -> Tombstones;

    /// Fetches what decoding these messages needs, such as schemas they name. A message that names
    /// something that does not exist is no error: its decoder refuses it. Errors: `Unavailable`
    /// when who has it cannot be reached, `Config` when it refuses us.
    async fn prepare(&self, messages: &[&[u8]]) -> Result<()>;

    /// A decoder with empty columns.
    fn decoder(&self) -> Box<dyn DecodeMessages>;
}

/// What becomes of messages without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tombstones {
    /// A row whose columns are all null, see [`DecodeMessages::take_null`]; rejected where a column
    /// is required.
    Row,
    /// Nothing: what it says was said by another message. It is passed over and counted.
    Skip,
}

/// Columns that messages are read into. They hold a gibibyte of messages at most before they are
/// finished: places in a column are 31 bits wide.
pub trait DecodeMessages: Send {
    /// Takes one message as one row. A message that is none leaves nothing behind; the reason names
    /// the field.
    fn take(&mut self, message: &[u8]) -> std::result::Result<(), String>;

    /// Takes a row whose columns are all null, for a message without a value. The reason when a
    /// column is required.
    fn take_null(&mut self) -> std::result::Result<(), String>;

    /// The columns of the rows taken since the last call, in the order of the schema.
    fn finish(&mut self) -> Result<Vec<ArrayRef>>;
}
