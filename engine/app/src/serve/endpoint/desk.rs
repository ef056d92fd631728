//! Where requests to endpoints are answered: the endpoints in force, their models, what is kept of
//! them.
//!
//! In: the definitions of the project, as they are replaced. Out: an answer to each request, the
//! health of the models, figures. A model that there was before a reload keeps what is known of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use parking_lot::RwLock;
use serde_json::Value;
use sluice_core::Secrets;
use sluice_core::metric::{ENDPOINT_REQUESTS, FORWARD_SECONDS};
use sluice_runtime::job::{Project, resolve_project};

use super::answer::{self, Sent, Wanted};
use super::chat::{self, Keeping, Question};
use super::model::Model;
use super::route::{Found, Route, find};
use crate::environment::secret;
use crate::serve::Parts;
use crate::serve::shell::ApiError;

/// Bytes of answers that are used again for as long as `cache:` says.
const KEPT_BYTES: u64 = 32 << 20;

/// How often models that do not answer are asked for a sign of life.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// `router`, before which the endpoints of the project are asked.
pub(crate) fn around<S>(router: Router<S>, parts: &Arc<Parts>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let desk = Arc::new(Desk { parts: parts.clone(), table: RwLock::default() });
    tokio::spawn(follow(desk.clone()));
    router.layer(from_fn_with_state(desk, pass))
}

async fn pass(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let table = desk.table().await;
    match find(&table.routes, request.method(), request.uri().path()) {
        Found::Nothing => next.run(request).await,
        Found::Otherwise(methods) => not_so(&methods),
        Found::Here(route, open) => desk.answered(&table, route, open, request).await,
    }
}

/// The path is asked by other methods.
fn not_so(methods: &[&str]) -> Response {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let error = ApiError::new(status, "method_not_allowed", "this is asked by another method")
        .hint("the Allow header lists those it has");
    let mut response = error.into_response();
    if let Ok(allowed) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

struct Desk {
    parts: Arc<Parts>,
    table: RwLock<Option<Arc<Table>>>,
}

/// The endpoints of one reading of the project.
struct Table {
    project: Arc<Project>,
    routes: Vec<Route>,
    /// By the name of their endpoint.
    models: Vec<(String, Arc<Model>)>,
    kept: Cache<Key, Arc<Sent>>,
}

/// An answer that is used again: its endpoint, its parameters, and the span of time it is for.
type Key = (String, String, u128);

impl Table {
    fn model(&self, endpoint: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|(name, _)| name == endpoint).map(|(_, model)| model)
    }
}

/// Keeps up with the definitions, and looks after models that do not answer.
async fn follow(desk: Arc<Desk>) {
    let mut project = desk.parts.project.subscribe();
    let (stop, clock) = (desk.parts.stop.clone(), desk.parts.environment.clock.clone());
    loop {
        let table = desk.table().await;
        for (name, model) in &table.models {
            model.look().await;
            desk.tell(name, model);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = project.changed() => if changed.is_err() { return },
            () = clock.sleep(LOOK_EVERY) => {}
        }
    }
}

impl Desk {
    /// The endpoints in force.
    async fn table(&self) -> Arc<Table> {
        let project = self.parts.project.borrow().clone();
        let before = self.table.read().clone();
        if let Some(table) = before.as_ref().filter(|table| Arc::ptr_eq(&table.project, &project)) {
            return table.clone();
        }
        let table = Arc::new(self.laid(project, before.as_deref()).await);
        *self.table.write() = Some(table.clone());
        table
    }

    async fn laid(&self, project: Arc<Project>, before: Option<&Table>) -> Table {
        let forwards: Vec<_> = project.endpoints.iter().filter(|e| e.forward.is_some()).collect();
        let keys = match forwards.is_empty() {
            true => Secrets::default(),
            false => secrets(project.clone()).await,
        };
        let mut models = Vec::new();
        for spec in forwards {
            let Some(forward) = &spec.forward else { continue };
            let key = forward.key.as_ref().and_then(|name| keys.get(name));
            let known = before.and_then(|table| table.model(&spec.name));
            let model = match known.filter(|model| model.is(forward, key)) {
                Some(model) => model.clone(),
                None => {
                    let environment = &self.parts.environment;
                    let key = key.map(str::to_string);
                    let (clock, ids) = (&environment.clock, &environment.ids);
                    Arc::new(Model::new(forward.clone(), key, clock, ids))
                }
            };
            models.push((spec.name.clone(), model));
        }
        let gone = before.iter().flat_map(|table| table.models.iter().map(|(name, _)| name));
        let here: BTreeSet<&String> = models.iter().map(|(name, _)| name).collect();
        for name in gone.filter(|name| !here.contains(name)) {
            self.parts.health.remove_dependency(&dependency(name));
        }
        for (name, model) in &models {
            self.tell(name, model);
        }
        let routes = project.endpoints.iter().cloned().map(Route::new).collect();
        Table { routes, models, kept: kept(), project }
    }

    /// Says how a model is. One that was never configured is not missed: who asks is told.
    fn tell(&self, endpoint: &str, model: &Model) {
        if !model.is_wanted() {
            self.parts.health.remove_dependency(&dependency(endpoint));
            return;
        }
        if let Some(error) = model.news() {
            tracing::warn!(endpoint, error, "a model does not answer");
        }
        let trouble = model.trouble();
        let reason = trouble.as_deref().unwrap_or_default();
        self.parts.health.set(&dependency(endpoint), trouble.is_none(), reason);
    }

    async fn answered(
        &self,
        table: &Table,
        route: &Route,
        open: Vec<(String, String)>,
        request: Request,
    ) -> Response {
        let response = self.answer(table, route, open, request).await;
        let response = response.unwrap_or_else(IntoResponse::into_response);
        let status = response.status();
        let labels = [route.spec.name.as_str(), status.as_str()];
        self.parts.environment.metrics.count(&ENDPOINT_REQUESTS, &labels, 1);
        response
    }

    async fn answer(
        &self,
        table: &Table,
        route: &Route,
        open: Vec<(String, String)>,
        request: Request,
    ) -> Result<Response, ApiError> {
        let spec = &route.spec;
        let who = answer::allowed(spec, &request)?;
        let body_max = table.project.serve.limits.body;
        let wanted = answer::wanted(route, open, who, request, body_max).await?;
        match table.model(&spec.name) {
            Some(model) => self.reply(&spec.name, model, wanted).await,
            None => self.rows(table, route, wanted).await,
        }
    }

    async fn reply(
        &self,
        endpoint: &str,
        model: &Model,
        wanted: Wanted,
    ) -> Result<Response, ApiError> {
        let question = Question::read(Value::Object(wanted.given.body))?;
        let environment = &self.parts.environment;
        let (clock, ids) = (environment.clock.as_ref(), environment.ids.as_ref());
        let keeping = Keeping { hub: &self.parts.hub, clock, ids };
        let began = clock.monotonic();
        let reply = chat::answer(model, &keeping, question).await;
        if reply.is_ok() {
            let seconds = clock.monotonic().saturating_sub(began).as_secs_f64();
            environment.metrics.observe(&FORWARD_SECONDS, &[endpoint], seconds);
        }
        self.tell(endpoint, model);
        let mut response = Json(reply?).into_response();
        let never = HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, never);
        Ok(response)
    }

    async fn rows(
        &self,
        table: &Table,
        route: &Route,
        wanted: Wanted,
    ) -> Result<Response, ApiError> {
        let (spec, queries) = (&route.spec, &self.parts.queries);
        let params = answer::values(spec, &wanted.given)?;
        let ask = answer::ask(spec, params, &wanted.who)?;
        let Some(span) = spec.cache.filter(|span| !span.is_zero()) else {
            if answer::has_tag(spec)
                && let Some(version) = queries.version(&ask.sql, &wanted.who).await?
            {
                let tag = answer::tag(spec, &ask.params, &version);
                if answer::is_known(&tag, &wanted.headers) {
                    return Ok(answer::unchanged(spec, &tag, None));
                }
            }
            let sent = answer::made(queries, spec, ask).await?;
            return Ok(answer::sent(spec, &sent, &wanted.headers, None));
        };
        let now = self.parts.environment.clock.monotonic();
        let (number, left) = within(now, span);
        let key = (spec.name.clone(), format!("{:?}", ask.params), number);
        let made = async { answer::made(queries, spec, ask).await.map(Arc::new) };
        let sent = table.kept.try_get_with(key, made).await;
        let sent = sent.map_err(|error| error.as_ref().clone())?;
        Ok(answer::sent(spec, &sent, &wanted.headers, Some(left)))
    }
}

/// Which span of time it is, and how much of it is left: an answer is used again until its span is
/// over, by everybody.
fn within(now: Duration, span: Duration) -> (u128, Duration) {
    let (now, long) = (now.as_millis(), span.as_millis().max(1));
    let left = u64::try_from(long - now % long).unwrap_or(u64::MAX);
    (now / long, Duration::from_millis(left))
}

fn kept() -> Cache<Key, Arc<Sent>> {
    let weigh = |key: &Key, sent: &Arc<Sent>| {
        let bytes = key.0.len() + key.1.len() + sent.body.len() + sent.tag.len();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    };
    Cache::builder()
        .max_capacity(KEPT_BYTES)
        .weigher(weigh)
        .eviction_policy(EvictionPolicy::lru())
        .build()
}

/// What the health calls the model of an endpoint.
fn dependency(endpoint: &str) -> String {
    format!("endpoint:{endpoint}")
}

/// The values of the project's secrets, as far as they have some.
async fn secrets(project: Arc<Project>) -> Secrets {
    // Programs that print secrets take their time.
    let looked_up = tokio::task::spawn_blocking(move || resolve_project(&project, secret).0);
    looked_up.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_follow_each_other() {
        let ms = Duration::from_millis;
        let cases = [
            (0, 1000, (0, 1000)),
            (1, 1000, (0, 999)),
            (999, 1000, (0, 1)),
            (1000, 1000, (1, 1000)),
            (61_500, 60_000, (1, 58_500)),
        ];
        for (now, span, (number, left)) in cases {
            assert_eq!(within(ms(now), ms(span)), (number, ms(left)), "{now} {span}");
        }
    }
}
