//! Avro object container files.
//!
//! In: bytes in pieces and a data schema. Out: typed rows and the rows that could not be decoded.
//! Where blocks stand is found here, so that a broken one costs no other; arrow-avro makes columns
//! of each, and they are brought to the schema by name as those of Parquet files are. It opens no
//! files.

mod decode;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, HEADER_BYTES_MAX, Head};
