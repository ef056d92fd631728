//! The production shell: everything between a socket and a route.
//!
//! In: routes, users, limits. Out: answers for those who may ask, as often as they may, and what who
//! watches the process needs to know. What is answered is the routes' own matter.
//!
//! A request passes the layers from the top down, its answer from the bottom up:
//!
//! ```text
//! listen, stream   sockets, TLS, connections that take too long, draining
//! observe          request id, access log, figures, headers for browsers       (request)
//! screen           panics and bare answers become problems                     (error)
//! hooks            webhook routes leave here: they have rules of their own     (admit)
//! CORS             preflights end here                                         (tower-http)
//! compression      gzip of what is worth it                                    (tower-http)
//! admit            who asks, rate limit, what they may                         (auth, limit, rules)
//! bounded          size and time of the body, time until the answer            (admit, body)
//! routes           probes and metrics (health); the rest, each with `require`
//! ```

mod activity;
mod admit;
mod auth;
mod body;
mod error;
mod health;
mod limit;
mod listen;
mod request;
mod rules;
mod socket;
mod stream;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use parking_lot::RwLock;
use serde_json::Value;
use sluice_core::metric::Recorder;
use sluice_core::{Clock, Ids};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use self::health::Reason;
use self::limit::Limiter;
use self::rules::Rules;
use crate::metrics::Board;
use crate::serve::Parts;

pub(crate) use activity::{Activity, Entry};
pub(crate) use auth::{Access, Caller, Pass, digest_text, require};
pub(crate) use error::{ApiError, Problem, scrubbed};
pub(crate) use health::{Health, concerns};
pub(crate) use limit::{Client, Share, Shares};
pub(crate) use listen::{Port, tls_config};
pub(crate) use request::to_its_end;
pub(crate) use rules::is_own;
pub(crate) use socket::{Bound, Claim, hold_new, refuse_strangers};

/// Failed attempts of one address within a minute: more than people make, fewer than guessing needs.
const ATTEMPTS_MAX: u32 = 10;

/// The template that a path belongs to.
type Template = dyn Fn(&str) -> Option<Arc<str>> + Send + Sync;

/// Webhook routes: the template that a path belongs to, and who answers there.
struct Hooks {
    template: Box<Template>,
    /// Whether what is sent to a path without a template was meant for some route.
    near: Box<dyn Fn(&str) -> bool + Send + Sync>,
    router: Router,
}

/// What the layers share.
struct Shell {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    metrics: Arc<dyn Recorder>,
    board: Arc<Board>,
    access: Arc<Access>,
    health: Arc<Health>,
    rules: RwLock<Arc<Rules>>,
    limiter: RwLock<Arc<Limiter>>,
    attempts: Limiter,
    hooks: Option<Hooks>,
    /// What runs tell: troubles, and figures of jobs.
    told: Box<dyn Fn() -> (Vec<Reason>, Value) + Send + Sync>,
    /// The figures as they were told last, and when that was.
    figures: Mutex<Option<(Duration, Bytes)>>,
    stop: CancellationToken,
    /// Requests whose answer has not left.
    at_work: AtomicUsize,
}

/// `routes` with all layers around them, and with probes and metrics.
pub(crate) fn app(parts: Arc<Parts>, routes: Router<Arc<Parts>>) -> Router {
    let shell = Arc::new(Shell::of(&parts));
    tokio::spawn(admit::follow(shell.clone(), parts.project.subscribe()));
    shell.wrap(routes.with_state(parts))
}

impl Shell {
    fn of(parts: &Arc<Parts>) -> Self {
        let rules = Rules::of(&parts.project.borrow());
        let environment = &parts.environment;
        let (hub, near) = (parts.hub.clone(), parts.hub.clone());
        let runs = parts.clone();
        Self {
            clock: environment.clock.clone(),
            ids: environment.ids.clone(),
            metrics: environment.metrics.clone(),
            board: parts.board.clone(),
            access: parts.access.clone(),
            health: parts.health.clone(),
            limiter: RwLock::new(Arc::new(limiter(&rules, &environment.clock))),
            attempts: Limiter::new(
                ATTEMPTS_MAX,
                Duration::from_secs(60),
                environment.clock.clone(),
            ),
            rules: RwLock::new(Arc::new(rules)),
            hooks: Some(Hooks {
                template: Box::new(move |path: &str| hub.template(path)),
                near: Box::new(move |path: &str| near.is_near(path)),
                router: parts.hub.router(),
            }),
            told: Box::new(move || admit::told(&runs)),
            figures: Mutex::default(),
            stop: parts.stop.clone(),
            at_work: AtomicUsize::new(0),
        }
    }

    fn rules(&self) -> Arc<Rules> {
        self.rules.read().clone()
    }

    /// The webhook route that a path belongs to.
    fn hook(&self, path: &str) -> Option<Arc<str>> {
        let hooks = self.hooks.as_ref().filter(|_| !rules::is_own(path))?;
        (hooks.template)(path)
    }

    /// Whether a path that nobody has was meant for a webhook route.
    fn is_astray(&self, path: &str) -> bool {
        let hooks = self.hooks.as_ref().filter(|_| !rules::is_own(path));
        hooks.is_some_and(|hooks| (hooks.near)(path))
    }

    fn facts(&self) -> (Vec<Reason>, Value) {
        (self.told)()
    }
}

fn limiter(rules: &Rules, clock: &Arc<dyn Clock>) -> Limiter {
    Limiter::new(rules.requests, rules.per, clock.clone())
}

#[cfg(test)]
mod tests;
