//! Connectors of Sluice: where rows come from and where files of rows go.
//!
#![doc = include_str!("../README.md")]

pub mod delta;
pub mod files;
pub mod format;
pub mod generate;
pub mod kafka;
pub mod message;
pub mod settings;

use std::sync::Arc;

use sluice_core::Registry;

/// All connectors of this crate.
pub fn registry() -> Registry {
    Registry::default()
        .with_source(Arc::new(delta::Factory))
        .with_source(Arc::new(files::Factory))
        .with_source(Arc::new(generate::Factory))
        .with_source(Arc::new(kafka::Factory))
        .with_sink(Arc::new(files::Factory))
        .with_sink(Arc::new(kafka::Factory))
}
