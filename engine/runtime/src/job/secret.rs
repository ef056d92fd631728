//! Values for the secrets of a job, at the moment it is run.
//!
//! In: a job and a way to look up environment variables. Out: [`Secrets`] with the settings of the
//! job's buckets, or which of them have no value. Nothing here prints a value, and reading a job file never needs one.

use std::collections::BTreeMap;
use std::fs;

use sluice_core::{Error, Result, Secrets};

use super::model::{Job, SecretRef};

/// Looks up all secrets of `job`; `environment` gives the value of an environment variable.
pub fn resolve_secrets(job: &Job, environment: impl Fn(&str) -> Option<String>) -> Result<Secrets> {
    let mut values = BTreeMap::new();
    for (name, secret) in &job.secrets {
        values.insert(name.clone(), value(name, secret, &environment)?);
    }
    let mut secrets = Secrets::new(values);
    for store in &job.stores {
        let settings = store.settings.iter();
        let settings = settings.map(|(key, text)| (key.clone(), secrets.fill(text)));
        let settings = settings.collect();
        secrets = secrets.with_store(&store.url, settings);
    }
    Ok(secrets)
}

fn value(
    name: &str,
    secret: &SecretRef,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<String> {
    match secret {
        SecretRef::Env(variable) => environment(variable).ok_or_else(|| {
            Error::config(format!("a secret has no value secret={name} variable={variable}"))
                .hint(format!("set the environment variable {variable}"))
        }),
        SecretRef::File(path) => {
            let text = fs::read_to_string(path).map_err(|e| {
                let path = path.display();
                Error::config(format!("cannot read a secret secret={name} file={path}"))
                    .hint("make the file readable for the user that runs the job")
                    .because(e)
            })?;
            Ok(text.trim_end_matches(['\r', '\n']).to_string())
        }
    }
}
