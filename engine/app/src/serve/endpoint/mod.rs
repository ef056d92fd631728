//! `endpoints:` of the project: questions with a path of their own, so that a front end gets
//! exactly the API that it calls.
//!
//! In: requests. Out: rows as JSON, or the reply of a model; nothing where the path is no
//! endpoint's, so that others answer. Which endpoints there are is looked up with every request: a
//! reload replaces all of them at once. Values of parameters are bound to the plan of a statement
//! and are never text of it.
//!
//! ```text
//! request ─► route ─► may they? ─► param ─► query::Queries ─► shape ─► answer
//!                                    └────► chat ─► model, webhook::Hub
//! ```

mod answer;
mod chat;
mod desk;
mod model;
mod openapi;
mod param;
mod route;
mod shape;

#[cfg(test)]
mod tests;

pub(crate) use desk::around;
pub(crate) use openapi::openapi_paths;
