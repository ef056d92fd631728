//! Signals: SIGTERM and Ctrl-C end the process in order, SIGHUP reads the definitions again.
//!
//! In: signals. Out: the token that stops everything is cancelled; definitions are reloaded. A
//! second signal ends the process at once, which the protocol allows at any moment.

use std::sync::Arc;

use sluice_core::{Error, Result};
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::reload::{ReloadError, reload};
use crate::failure::EXIT_FAILED;
use crate::talk::Talk;

/// Waits for signals to end, from the first moment on.
pub(super) fn watch_end(talk: Talk, stop: CancellationToken) -> Result<()> {
    let mut ends = Ends::listen()?;
    tokio::spawn(async move {
        ends.next().await;
        talk.say("stopping: what was begun is ended; once more to stop at once\n");
        stop.cancel();
        ends.next().await;
        std::process::exit(i32::from(EXIT_FAILED));
    });
    Ok(())
}

/// Reloads at each SIGHUP, until the process is to stop.
#[cfg(unix)]
pub(super) fn watch_reload(talk: Talk, parts: &Arc<Parts>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangups = signal(SignalKind::hangup()).map_err(no_signals)?;
    let (parts, stop) = (Arc::downgrade(parts), parts.stop.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                came = hangups.recv() => if came.is_none() { return },
            }
            let Some(parts) = parts.upgrade() else { return };
            tell(&talk, &parts).await;
        }
    });
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn watch_reload(_talk: Talk, _parts: &Arc<Parts>) -> Result<()> {
    Ok(())
}

#[cfg(unix)]
async fn tell(talk: &Talk, parts: &Parts) {
    match reload(parts, "SIGHUP", false).await {
        Ok(reloaded) if reloaded.changes.is_empty() => talk.say("definitions: nothing changed\n"),
        Ok(reloaded) => {
            for change in reloaded.changes {
                let why = change.reasons.join(", ");
                let why = if why.is_empty() { why } else { format!(": {why}") };
                talk.say(&format!("{} {} {}{why}\n", change.kind, change.name, change.how));
            }
        }
        Err(ReloadError::Problems(problems)) => {
            talk.say(&format!(
                "{problems}\nerror: the definitions are wrong, those in force stay\n"
            ));
        }
        Err(ReloadError::Failed(error)) => {
            let text = crate::failure::error_text(&error);
            talk.say(&format!("{text}the definitions in force stay\n"));
        }
    }
}

fn no_signals(error: std::io::Error) -> Error {
    Error::unavailable("signals cannot be waited for").because(error)
}

/// The signals that ask for the end.
struct Ends {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Ends {
    #[cfg(unix)]
    fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
        Ok(Self { terminate, interrupt })
    }

    #[cfg(not(unix))]
    fn listen() -> Result<Self> {
        Ok(Self {})
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        // A process that cannot be told ends when it is ended.
        let _ = tokio::signal::ctrl_c().await;
    }
}
