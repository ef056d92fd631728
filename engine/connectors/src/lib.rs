//! Connectors of Sluice: where rows come from and where files of rows go.
//!
#![doc = include_str!("../README.md")]

pub mod delta;
pub mod files;
pub mod format;
pub mod generate;
pub mod http;
pub mod kafka;
pub mod message;
pub mod settings;
pub mod webhook;

use std::sync::Arc;

use sluice_core::Registry;

/// All connectors of this crate; webhooks are checked and not built.
pub fn registry() -> Registry {
    Registry::default()
        .with_source(Arc::new(delta::Factory))
        .with_source(Arc::new(files::Factory))
        .with_source(Arc::new(generate::Factory))
        .with_source(Arc::new(kafka::Factory))
        .with_source(Arc::new(webhook::Factory::default()))
        .with_sink(Arc::new(files::Factory))
        .with_sink(Arc::new(http::Factory))
        .with_sink(Arc::new(kafka::Factory))
}

/// All connectors of this crate, with the webhooks of `hub`.
pub fn registry_with(hub: Arc<webhook::Hub>) -> Registry {
    registry().with_source(Arc::new(webhook::Factory::new(hub)))
}
