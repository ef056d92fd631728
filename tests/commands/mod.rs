//! What commands say and do, each by itself; that tables are right is shown elsewhere.

mod answers;
mod avro;
mod formats;
mod init;
mod packed;
mod plan;
mod replay;
mod reset;
mod schemas;
mod shell;
pub mod sql;
mod watch;
