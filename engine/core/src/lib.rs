//! The words and contracts that every other crate of Sluice shares.
//!
//! In: nothing. Out: errors and problems, schemas, offsets, what a source and a sink promise, the
//! clock and the other things that are injected, names of what is measured, when what failed is tried
//! again. There is no tokio, no DataFusion and no I/O here.

mod breaker;
mod clock;
mod config;
mod error;
mod factory;
mod memory;
pub mod metric;
mod offset;
mod outlet;
mod problem;
mod quantity;
mod schema;
mod secret;
mod sink;
mod source;
mod step;
pub mod testing;

pub use breaker::{Breaker, BreakerState, backed_off};
pub use clock::{Clock, Ids, ManualClock, Phase, Phases};
pub use config::Config;
pub use error::{Error, Kind, Result};
pub use factory::{BuiltSink, Context, Registry, SinkFactory, SourceFactory};
pub use memory::{Common, Memory, Reservation, Share, Unbounded};
pub use offset::{Advance, Offset, Offsets};
pub use outlet::{Delivery, OutboxPosition, OutboxRows, Outlet, OutletContext, Refused};
pub use problem::{Problem, Problems, Span};
pub use quantity::{format_bytes, format_count, parse_bytes, parse_duration};
pub use schema::{DataSchema, FieldSpec, column_name, parse_type, type_name};
pub use secret::{Secrets, bucket_of};
pub use sink::{FileEncoder, FileSink, FileSizing};
pub use source::{
    Bound, Comparison, Decoded, Held, Intake, Lag, Limit, Membership, PASSED_COLUMNS,
    POSITION_COLUMN, REJECTED_FILE_COLUMN, RESCUED_COLUMN, Reader, Recount, Rejected, RowStream,
    SOURCE_FILE_COLUMN, Scan, Shard, Source, Split, Standing, Start, rejected_schema,
    with_position,
};
pub use step::{Step, reach};
