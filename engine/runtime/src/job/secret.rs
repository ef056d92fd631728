//! Values for the secrets of a job or project, at the moment it is run.
//!
//! In: a job or project and a way to look up environment variables. Out: [`Secrets`] with the
//! settings of its buckets, or which of them have no value. Nothing here prints a value, and
//! reading a job file never needs one.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use sluice_core::{Error, Result, Secrets};

use super::model::{Job, SecretRef, StoreSpec};
use super::project::{Project, TokenRef};

/// How long a program may take to print a secret: time for a vault on another continent, and short
/// enough that whoever starts a job sees what it waits for.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(10);

/// What a program may print. Keys and certificates have a few KiB; more is not a secret.
const COMMAND_BYTES_MAX: u64 = 64 << 10;

/// How soon a program that has said everything is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Looks up all secrets of `job`; `environment` gives the value of an environment variable.
pub fn resolve_secrets(job: &Job, environment: impl Fn(&str) -> Option<String>) -> Result<Secrets> {
    let mut values = BTreeMap::new();
    for (name, secret) in &job.secrets {
        values.insert(name.clone(), value(name, secret, &environment)?);
    }
    Ok(with_stores(values, &job.stores))
}

/// Looks up the secrets of `project`: those that have a value, and what keeps the others from one.
/// Nothing of a project but the user or endpoint that needs it has to wait for a secret, and the key of
/// a model that is not configured is needed by nobody.
pub fn resolve_project(
    project: &Project,
    environment: impl Fn(&str) -> Option<String>,
) -> (Secrets, BTreeMap<String, Error>) {
    let mut values = BTreeMap::new();
    let mut missing = BTreeMap::new();
    for (name, secret) in &project.secrets {
        match value(name, secret, &environment) {
            Ok(value) => {
                values.insert(name.clone(), value);
            }
            Err(_) if is_idle(project, name) => {}
            Err(error) => {
                missing.insert(name.clone(), error);
            }
        }
    }
    (with_stores(values, &project.stores), missing)
}

/// Whether nothing would use a secret but models that are not configured.
fn is_idle(project: &Project, name: &str) -> bool {
    let reference = format!("${{secrets.{name}}}");
    let mut settings = project.stores.iter().flat_map(|store| store.settings.values());
    let by_stores = settings.any(|text| text.contains(&reference));
    let token = TokenRef::Secret(name.to_string());
    let by_users = project.users.iter().any(|user| user.token == token);
    let models = project.endpoints.iter().filter_map(|endpoint| endpoint.forward.as_ref());
    let mut models = models.filter(|model| model.key.as_deref() == Some(name)).peekable();
    let by_models = models.peek().is_some();
    by_models && !by_stores && !by_users && models.all(|model| model.url.is_empty())
}

fn with_stores(values: BTreeMap<String, String>, stores: &[StoreSpec]) -> Secrets {
    let mut secrets = Secrets::new(values);
    for store in stores {
        let settings = store.settings.iter();
        let settings = settings.map(|(key, text)| (key.clone(), secrets.fill(text)));
        let settings = settings.collect();
        secrets = secrets.with_store(&store.url, settings);
    }
    secrets
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
        SecretRef::Command(command) => {
            printed(command, COMMAND_TIME_MAX).map_err(|(message, cause)| {
                let program = command.first().map_or("", String::as_str);
                let error = Error::config(format!("{message} secret={name} program={program}"))
                    .hint("run the command yourself: it has to print the secret and end with 0");
                match cause {
                    Some(cause) => error.because(cause),
                    None => error,
                }
            })
        }
    }
}

/// Message, and what is behind it.
type Refusal = (&'static str, Option<std::io::Error>);

/// What `command` prints, without the white space around it. It gets no input, and what it says
/// beside is not read: it may hold the secret.
fn printed(command: &[String], time_max: Duration) -> Result<String, Refusal> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(("no program is named", None));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| ("cannot start the program of a secret", Some(e)))?;
    let done = read_within(&mut child, time_max)
        .and_then(|output| Ok((output, ended_within(&mut child, time_max)?)));
    if done.is_err() {
        // It may have ended by itself in between.
        let _ = child.kill();
        let _ = child.wait();
    }
    let (output, status) = done?;
    if !status.success() {
        return Err(("the program of a secret failed", None));
    }
    match String::from_utf8(output) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_string()),
        Ok(_) => Err(("the program of a secret prints nothing", None)),
        Err(_) => Err(("the program of a secret prints no text", None)),
    }
}

/// Reads on a thread of its own, because a pipe is read without a time limit.
fn read_within(child: &mut Child, time_max: Duration) -> Result<Vec<u8>, Refusal> {
    let Some(pipe) = child.stdout.take() else { return Ok(Vec::new()) };
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.take(COMMAND_BYTES_MAX + 1).read_to_end(&mut bytes);
        // Nobody waits any more when it took too long.
        let _ = sender.send(read.map(|_| bytes));
    });
    match receiver.recv_timeout(time_max) {
        Ok(Ok(bytes)) if bytes.len() as u64 > COMMAND_BYTES_MAX => {
            Err(("the program of a secret prints more than a secret", None))
        }
        Ok(read) => read.map_err(|e| ("cannot read what the program of a secret prints", Some(e))),
        Err(RecvTimeoutError::Timeout) => Err(("the program of a secret takes too long", None)),
        Err(RecvTimeoutError::Disconnected) => Ok(Vec::new()),
    }
}

/// Waits for a program that has closed its output, which most do by ending.
fn ended_within(child: &mut Child, time_max: Duration) -> Result<ExitStatus, Refusal> {
    let mut left = time_max;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if left.is_zero() => {
                return Err(("the program of a secret takes too long", None));
            }
            Ok(None) => std::thread::park_timeout(LOOK_AGAIN),
            Err(error) => return Err(("the program of a secret is gone", Some(error))),
        }
        left = left.saturating_sub(LOOK_AGAIN);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn of(script: &str, seconds: u64) -> Result<String, &'static str> {
        let command: Vec<String> = ["sh", "-c", script].map(String::from).to_vec();
        printed(&command, Duration::from_secs(seconds)).map_err(|(message, _)| message)
    }

    #[test]
    fn a_program_prints_a_secret_or_is_refused() {
        assert_eq!(of("printf '  s3cret\\n\\n'", 60), Ok("s3cret".to_string()));
        for (script, message) in [
            ("exit 3", "the program of a secret failed"),
            ("echo half; exit 1", "the program of a secret failed"),
            ("true", "the program of a secret prints nothing"),
            ("printf '\\377'", "the program of a secret prints no text"),
            ("head -c 70000 /dev/zero", "the program of a secret prints more than a secret"),
        ] {
            assert_eq!(of(script, 60), Err(message), "{script}");
        }
        assert_eq!(of("exec sleep 60", 1), Err("the program of a secret takes too long"));
        let missing = ["/nowhere/at/all".to_string()];
        let refused = printed(&missing, Duration::from_secs(1)).map_err(|(message, _)| message);
        assert_eq!(refused, Err("cannot start the program of a secret"));
    }

    #[test]
    fn no_shell_reads_the_arguments() {
        let command: Vec<String> = ["printf", "%s", "$HOME;id"].map(String::from).to_vec();
        let text = printed(&command, Duration::from_secs(60)).map_err(|(message, _)| message);
        assert_eq!(text, Ok("$HOME;id".to_string()));
    }
}
