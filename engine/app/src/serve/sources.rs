//! What jobs need before they run: the values of their secrets, and sources that listen.
//!
//! In: planned jobs, the project. Out: jobs that can be run and read, the project's secrets,
//! webhook routes that take rows. A source listens before its job runs, so that nothing sent in
//! between is refused.

use std::sync::Arc;

use sluice_connectors::webhook::Hub;
use sluice_core::{Error, Result, Secrets};
use sluice_runtime::epoch::Environment;
use sluice_runtime::job::{Project, resolve_project};
use sluice_runtime::plan::Graph;
use sluice_runtime::query::Readable;

use crate::definitions::readable;
use crate::environment::secret;
use crate::failure::Failure;

/// Looks up the secrets of all jobs, where one without a value is an error, and those of the
/// project that have one.
pub(super) async fn with_secrets(
    graphs: Vec<Arc<Graph>>,
    project: Arc<Project>,
) -> Result<(Vec<Readable>, Secrets), Failure> {
    // Programs that print secrets take their time.
    let looked_up = tokio::task::spawn_blocking(move || {
        let jobs = readable(graphs)?;
        let (secrets, missing) = resolve_project(&project, secret);
        for (name, error) in missing {
            tracing::warn!(secret = name, error = %error.chain(), "a secret of the project is missing");
        }
        Ok::<_, Failure>((jobs, secrets))
    });
    looked_up.await.map_err(|e| Error::bug("looking up secrets ended in the middle").because(e))?
}

/// The connector whose sources are all replaced at once.
const WEBHOOK: &str = "webhook";

/// Lets all sources of `jobs` listen that others send rows to, and no other webhooks. Errors: of
/// kind `Config` when two webhooks have one path; then those that were there go on.
pub(super) async fn listen(hub: &Hub, environment: &Environment, jobs: &[Readable]) -> Result<()> {
    let mut webhooks = Vec::new();
    for Readable { graph, secrets } in jobs {
        let context = environment.context(&graph.job.name, secrets);
        for source in &graph.job.sources {
            if source.connector == WEBHOOK {
                webhooks.push((source.config.clone(), context.clone()));
            } else if let Some(factory) = environment.registry.source(&source.connector) {
                let listening = factory.listen(&source.config, &context).await;
                listening.map_err(|e| e.of("source", &source.name).of("job", &graph.job.name))?;
            }
        }
    }
    for (job, source, error) in hub.replace(&webhooks).await? {
        let error = error.chain();
        tracing::error!(job, source, error, "a webhook puts deliveries off: it has no log");
    }
    Ok(())
}
