//! The page's buttons: run, pause, resume, cancel.
//!
//! In: a form that was sent from the page itself, whoever may operate. Out: what the scheduler
//! says, an entry in the activity log, whether or not somebody waits for it, and the page again,
//! with a note. Pages of others cannot press buttons: where a browser says that a form comes from
//! elsewhere, or does not say that it comes from here, it is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::Redirect;
use parking_lot::Mutex;

use super::PLACE;
use crate::serve::Parts;
use crate::serve::shell::{ApiError, Caller, to_its_end};

/// Callers whose notes are kept: more than look at the page at once.
const NOTICES_MAX: usize = 100;

/// What became of what callers asked for, until they are shown it. Whether it was done, and words.
#[derive(Debug, Default)]
pub(crate) struct Notices(Mutex<BTreeMap<String, (bool, String)>>);

impl Notices {
    /// Keeps a note for a caller.
    fn put(&self, who: &str, done: bool, words: String) {
        let mut kept = self.0.lock();
        if kept.len() >= NOTICES_MAX && !kept.contains_key(who) {
            kept.pop_first();
        }
        kept.insert(who.to_string(), (done, words));
    }

    /// Takes a caller's note.
    pub(super) fn take(&self, who: &str) -> Option<(bool, String)> {
        self.0.lock().remove(who)
    }
}

/// Does what a button says.
pub(super) async fn act(
    State(parts): State<Arc<Parts>>,
    Path((job, action)): Path<(String, String)>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Redirect, ApiError> {
    if !is_own(&headers) {
        return Err(ApiError::forbidden("this form was not sent by the page")
            .hint("open the page and press its button, or POST to /v1/jobs/{job}/run"));
    }
    if parts.scheduler.job(&job).is_none() {
        return Err(ApiError::not_found(format!("there is no such job job={job:?}")));
    }
    let button = Button::named(&action);
    let button = button.ok_or_else(|| ApiError::not_found("there is no such button"))?;
    to_its_end(async move { press(&parts, button, &job, &caller.name).await }).await?;
    Ok(Redirect::to(PLACE))
}

/// What is pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Button {
    Run,
    Pause,
    Resume,
    Cancel,
}

impl Button {
    const ALL: [Self; 4] = [Self::Run, Self::Pause, Self::Resume, Self::Cancel];

    /// As paths have it.
    fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|button| button.name() == name)
    }
}

/// Does what a button says, writes it down, and leaves a note for who pressed it.
async fn press(parts: &Parts, button: Button, job: &str, who: &str) {
    let scheduler = &parts.scheduler;
    let (done, word) = match button {
        Button::Run => (scheduler.run(job, who).await.map(drop), "started"),
        Button::Pause => (scheduler.pause(job, who).await, "paused"),
        Button::Resume => (scheduler.resume(job, who).await, "resumed"),
        Button::Cancel => (scheduler.cancel(job, who).await, "cancelled: it ends after its epoch"),
    };
    let outcome = match &done {
        Ok(()) => "done".to_string(),
        Err(error) => format!("refused: {}", error.message()),
    };
    parts.activity.record(who, button.name(), job, &outcome);
    let words = match &done {
        Ok(()) => format!("{job} {word}"),
        Err(error) => format!("{job}: {}", error.message()),
    };
    parts.page.notices.put(who, done.is_ok(), words);
}

/// Whether a form was sent from a page of this very server. What is no browser says nothing.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    match (text(header::ORIGIN.as_str()), text(header::HOST.as_str())) {
        (Some(origin), Some(host)) => {
            let (_, authority) = origin.split_once("://").unwrap_or(("", ""));
            authority.eq_ignore_ascii_case(host)
        }
        (Some(_), None) => false,
        (None, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn only_the_page_itself_presses_its_buttons() {
        let cases: [(&[(&str, &str)], bool); 9] = [
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("origin", "http://localhost:8080"), ("host", "localhost:8080")], true),
            (&[("origin", "http://evil.example"), ("host", "localhost:8080")], false),
            (&[("origin", "null"), ("host", "localhost:8080")], false),
            (&[("origin", "http://localhost:8080")], false),
            (&[("host", "localhost:8080")], true),
        ];
        for (pairs, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(is_own(&headers), expected, "{pairs:?}");
        }
    }

    #[test]
    fn buttons_are_known_by_their_names() {
        for button in Button::ALL {
            assert_eq!(Button::named(button.name()), Some(button));
        }
        assert_eq!(Button::named("rebuild"), None);
    }

    #[test]
    fn notes_are_shown_once_to_whom_they_are_for() {
        let notices = Notices::default();
        notices.put("ana", true, "shop started".into());
        assert_eq!(notices.take("bob"), None);
        assert_eq!(notices.take("ana"), Some((true, "shop started".to_string())));
        assert_eq!(notices.take("ana"), None);
        for at in 0..NOTICES_MAX * 2 {
            notices.put(&at.to_string(), true, String::new());
        }
        assert_eq!(notices.0.lock().len(), NOTICES_MAX);
    }
}
