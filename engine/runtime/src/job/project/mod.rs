//! The project: `sluice.yaml`, which says what its packs have in common and how they are served.
//!
//! ```text
//! sluice.yaml ─► tree ─┬─► what jobs lack (read::layer) ─► each Job
//!                      └─► JSON Schema ─► meaning ─► Project
//! ```
//!
//! In: the file, or a pack below it. Out: a [`Project`], and its tree for the readers of its jobs.
//! It reads files the way jobs are read; no address is opened here, and no secret is looked up.

mod check;
mod endpoint;
mod find;
mod model;
mod origin;
mod param;
mod read;
mod route;
mod serve;
mod spec;

pub use model::{
    EndpointSpec, ForwardSpec, Method, Origin, ParamFrom, ParamSpec, Project, Role, ServeLimits,
    ServeSpec, Shape, SourceRef, TlsSpec, TokenRef, UserSpec,
};
pub use serve::is_loopback;

pub(super) use check::check_sources;
pub(super) use find::{PROJECT_FILE, default_packs, file_above, file_at, folder_of, holds};
pub(super) use origin::origins;
pub(super) use read::{Found, around, read};
pub(super) use spec::ProjectSpec;

#[cfg(test)]
mod tests;
