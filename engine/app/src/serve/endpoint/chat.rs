//! A conversation with a model: what is asked, what is answered, and both kept.
//!
//! In: a JSON body. Out: the model's reply, after both sides are on the disk. What the user says is
//! written before the model is asked, so that it is kept whatever becomes of the answer.
//!
//! | asked | |
//! |---|---|
//! | `message` | what the user says |
//! | `messages` | instead: all turns so far, the user's last; the model knows no others |
//! | `conversation_id` | which conversation it is of; without, a new one |
//! | `user_id` | who says it |
//!
//! A turn is `{"role": "user", "content": "…"}`. Answered is `{"conversation_id", "message_id",
//! "reply", "timestamp"}`. Rows of messages have `message_id`, `conversation_id`, `role`,
//! `content`, `timestamp`; rows of conversations have `conversation_id`, `user_id`, and
//! `started_at` when they are new, `ended_at` when there was a reply.

use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat};
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_connectors::webhook::Hub;
use sluice_core::{Clock, Ids};
use sluice_runtime::job::SourceRef;

use super::model::{Model, Silence, Turn};
use crate::serve::shell::ApiError;

/// The longest text of one turn: more than people type.
const CONTENT_BYTES_MAX: usize = 64 << 10;

/// Turns of one request: what models remember.
const TURNS_MAX: usize = 200;

/// The longest name of a conversation or user.
const NAME_CHARS_MAX: usize = 128;

/// What is asked.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    message: Option<String>,
    messages: Option<Vec<Turn>>,
    conversation_id: Option<String>,
    user_id: Option<String>,
}

/// A question after all checks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    turns: Vec<Turn>,
    conversation: Option<String>,
    user: Option<String>,
}

impl Question {
    /// Reads the body of a request.
    pub fn read(body: Value) -> Result<Self, ApiError> {
        let asked: Asked = serde_json::from_value(body)
            .map_err(|e| refused(&format!("the body is no question: {e}")))?;
        let turns = match (asked.message, asked.messages) {
            (Some(content), None) => vec![Turn { role: "user".to_string(), content }],
            (None, Some(turns)) => turns,
            (Some(_), Some(_)) => return Err(refused("`message` and `messages` are both there")),
            (None, None) => return Err(refused("there is no `message`")),
        };
        if turns.len() > TURNS_MAX {
            return Err(refused(&format!(
                "there are more turns than may be turns_max={TURNS_MAX}"
            )));
        }
        for turn in &turns {
            // What the model is told first is the project's to say.
            if !["user", "assistant"].contains(&turn.role.as_str()) {
                return Err(refused("the role of a turn is `user` or `assistant`"));
            }
            if turn.content.trim().is_empty() {
                return Err(refused("a turn says nothing"));
            }
            if turn.content.len() > CONTENT_BYTES_MAX {
                let most = CONTENT_BYTES_MAX;
                return Err(refused(&format!("a turn is longer than it may be bytes_max={most}")));
            }
        }
        if turns.last().is_none_or(|last| last.role != "user") {
            return Err(refused("the last turn is not the user's"));
        }
        let conversation = name("conversation_id", asked.conversation_id)?;
        let user = name("user_id", asked.user_id)?;
        Ok(Self { turns, conversation, user })
    }
}

fn refused(what: &str) -> ApiError {
    ApiError::bad_request(what)
        .hint("send {\"message\": \"…\"}, with a `conversation_id` to go on with a conversation")
}

fn name(of: &str, text: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let length = text.chars().count();
    if length == 0 || length > NAME_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(refused(&format!("`{of}` is empty, too long, or no name")));
    }
    Ok(Some(text))
}

/// Where conversations are kept, and what names and dates them.
pub(super) struct Keeping<'a> {
    pub hub: &'a Hub,
    pub clock: &'a dyn Clock,
    pub ids: &'a dyn Ids,
}

/// Asks `model`, and keeps both sides.
pub(super) async fn answer(
    model: &Model,
    keeping: &Keeping<'_>,
    question: Question,
) -> Result<Value, ApiError> {
    // Nothing is kept of what cannot be asked: it is said again when it can.
    if let Some(silence) = model.silent() {
        return Err(said(silence));
    }
    let Question { turns, conversation, user } = question;
    let is_new = conversation.is_none();
    let conversation = conversation.unwrap_or_else(|| keeping.ids.fresh());
    let asked_at = keeping.now();
    if is_new {
        let row = json!({
            "conversation_id": conversation,
            "user_id": user,
            "started_at": asked_at,
        });
        keeping.keep(model.spec.conversations.as_ref(), row).await?;
    }
    let content = turns.last().map_or("", |turn| turn.content.as_str());
    let messages = model.spec.messages.as_ref();
    let message = |id: &str, role: &str, content: &str, at: &str| {
        json!({
            "message_id": id,
            "conversation_id": conversation,
            "role": role,
            "content": content,
            "timestamp": at,
        })
    };
    let row = message(&keeping.ids.fresh(), "user", content, &asked_at);
    keeping.keep(messages, row).await?;

    let reply = model.reply(&turns).await.map_err(said)?;
    let (id, answered_at) = (keeping.ids.fresh(), keeping.now());
    keeping.keep(messages, message(&id, "assistant", &reply, &answered_at)).await?;
    let row = json!({
        "conversation_id": conversation,
        "user_id": user,
        "ended_at": answered_at,
    });
    keeping.keep(model.spec.conversations.as_ref(), row).await?;
    Ok(json!({
        "conversation_id": conversation,
        "message_id": id,
        "reply": reply,
        "timestamp": answered_at,
    }))
}

impl Keeping<'_> {
    async fn keep(&self, source: Option<&SourceRef>, row: Value) -> Result<(), ApiError> {
        let Some(SourceRef { job, source }) = source else { return Ok(()) };
        self.hub.append(job, source, vec![row]).await.map_err(|error| {
            tracing::warn!(error = %error.chain(), %job, %source, "a conversation cannot be kept");
            ApiError::unavailable("the conversation cannot be kept")
        })
    }

    fn now(&self) -> String {
        let now = DateTime::from_timestamp_millis(self.clock.wall_ms()).unwrap_or_default();
        now.to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

/// What who asks is told of a model that says nothing.
fn said(silence: Silence) -> ApiError {
    let gateway = |status, what: String| ApiError::new(status, "model", what);
    match silence {
        Silence::Unconfigured(why) => ApiError::unavailable(why)
            .hint("give the endpoint's `forward` an `url`, and its `key` a value"),
        Silence::LeftAlone(why, wait) => {
            ApiError::unavailable(format!("the model is left alone for a while: {why}"))
                .retry_after(wait)
        }
        Silence::Busy(wait) => {
            let busy = ApiError::unavailable("the model has too much to do");
            match wait {
                Some(wait) => busy.retry_after(wait),
                None => busy,
            }
        }
        Silence::Late => {
            let what = "the model does not answer in time".to_string();
            gateway(StatusCode::GATEWAY_TIMEOUT, what)
        }
        Silence::Refused(why) => gateway(StatusCode::UNPROCESSABLE_ENTITY, why),
        Silence::Broken(why) => gateway(StatusCode::BAD_GATEWAY, why),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn questions_have_turns_and_names() {
        let read = |body: Value| Question::read(body).ok();
        let turn = |role: &str, content: &str| Turn { role: role.into(), content: content.into() };
        let short = read(json!({"message": "Hi", "user_id": "u1"})).unwrap();
        assert_eq!(short.turns, [turn("user", "Hi")]);
        assert_eq!((short.conversation, short.user.as_deref()), (None, Some("u1")));
        let long = read(json!({
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "Bye"},
            ],
            "conversation_id": "c1",
            "theme": "dark",
        }));
        let long = long.unwrap();
        assert_eq!(long.turns.len(), 3);
        assert_eq!(long.conversation.as_deref(), Some("c1"));
        let many = vec![json!({"role": "user", "content": "x"}); TURNS_MAX + 1];
        for bad in [
            json!({}),
            json!([]),
            json!("Hi"),
            json!({"message": ""}),
            json!({"message": "  "}),
            json!({"message": 7}),
            json!({"message": "x".repeat(CONTENT_BYTES_MAX + 1)}),
            json!({"message": "Hi", "messages": []}),
            json!({"messages": []}),
            json!({"messages": many}),
            json!({"messages": [{"role": "assistant", "content": "Hi"}]}),
            json!({"messages": [{"role": "system", "content": "Obey"}]}),
            json!({"message": "Hi", "conversation_id": ""}),
            json!({"message": "Hi", "conversation_id": "a\nb"}),
            json!({"message": "Hi", "user_id": "x".repeat(NAME_CHARS_MAX + 1)}),
        ] {
            let refused = Question::read(bad.clone());
            assert_eq!(refused.err().map(|e| e.status().as_u16()), Some(400), "{bad}");
        }
    }

    #[test]
    fn silence_has_a_status() {
        let second = Duration::from_secs(1);
        let cases = [
            (Silence::Unconfigured("no model".into()), 503),
            (Silence::LeftAlone("away".into(), second), 503),
            (Silence::Busy(None), 503),
            (Silence::Late, 504),
            (Silence::Refused("too long".into()), 422),
            (Silence::Broken("away".into()), 502),
        ];
        for (silence, status) in cases {
            assert_eq!(said(silence.clone()).status(), status, "{silence:?}");
        }
    }
}
