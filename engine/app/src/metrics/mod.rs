//! What is measured, over HTTP: `/metrics` for Prometheus, `/health` for who restarts processes.
//!
//! In: an address, a board. Out: a listener that is bound before any job starts, and answers until the
//! process ends. Both pages are public: they tell names and figures, no rows but those that a job file
//! puts into `metrics:`, and take nothing in.

mod board;
mod process;

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sluice_core::{Error, Result};

pub(crate) use board::Board;

/// The content type of OpenMetrics text.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A bound port; nobody is answered yet.
#[derive(Debug)]
pub(crate) struct Port {
    listener: TcpListener,
    /// Where it is.
    pub(crate) address: SocketAddr,
}

impl Port {
    /// Takes the port. Errors: `Config` for an address that is none, is not this machine's, or is taken.
    pub(crate) fn bind(address: &str) -> Result<Self> {
        let refused = |what: &str, error: std::io::Error| {
            Error::config(format!("{what} address={address}"))
                .hint("write --metrics HOST:PORT, such as 127.0.0.1:9090; port 0 takes any")
                .because(error)
        };
        let found = address.to_socket_addrs();
        let found: Vec<SocketAddr> = found.map_err(|e| refused("this is no address", e))?.collect();
        let listener = TcpListener::bind(found.as_slice());
        let listener = listener.map_err(|e| refused("the address cannot be listened at", e))?;
        // The listener belongs to tokio from now on.
        let address = listener.set_nonblocking(true).and_then(|()| listener.local_addr());
        let address = address.map_err(|e| refused("the address cannot be listened at", e))?;
        Ok(Self { listener, address })
    }

    /// Answers until the process ends.
    pub(crate) fn serve(self, board: Arc<Board>) -> Result<()> {
        let failed = |e: std::io::Error| Error::unavailable("cannot serve metrics").because(e);
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(failed)?;
        let pages = Router::new()
            .route("/metrics", get(metrics))
            .route("/health", get(health))
            .with_state(board);
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, pages).await {
                tracing::warn!(%error, "metrics are not served any more");
            }
        });
        Ok(())
    }
}

async fn metrics(State(board): State<Arc<Board>>) -> Response {
    match board.text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// 200 while every job that this process runs is at work.
async fn health(State(board): State<Arc<Board>>) -> Response {
    match board.is_healthy() {
        true => "ok\n".into_response(),
        false => {
            (StatusCode::SERVICE_UNAVAILABLE, "no job is at work, or one ended\n").into_response()
        }
    }
}
