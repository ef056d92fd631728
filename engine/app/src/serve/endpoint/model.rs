//! A model that answers in an endpoint's place, by the protocol that OpenAI made common.
//!
//! In: the turns of a conversation. Out: the model's turn, or why there is none: nothing is ever
//! made up in its place. A model that fails again and again is left alone for a while, and asked
//! for a sign of life after it, so that it is used again without anybody doing anything.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sluice_core::{Breaker, BreakerState, Clock, Ids};
use sluice_runtime::job::ForwardSpec;

/// The longest answer that is read: a book's chapter, not a file.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How long a connection, or a sign of life, may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Characters of a server's own words that are told on.
const WORDS_MAX: usize = 200;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Turn {
    /// `user`, `assistant` or `system`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// Why a model says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Silence {
    /// There is none, or none that can be asked.
    Unconfigured(String),
    /// It failed again and again, and is left alone for so long.
    LeftAlone(String, Duration),
    /// It has too much to do.
    Busy(Option<Duration>),
    /// It takes too long.
    Late,
    /// It does not like the question.
    Refused(String),
    /// It is not there, or does not speak the protocol.
    Broken(String),
}

/// A model.
#[derive(Debug)]
pub(super) struct Model {
    pub spec: ForwardSpec,
    key: Option<String>,
    client: Result<Client, String>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    circuit: Mutex<Circuit>,
}

#[derive(Debug, Default)]
struct Circuit {
    breaker: Breaker,
    /// Whether somebody tries whether it is back.
    trying: bool,
    /// Whether it was ever asked.
    asked: bool,
    /// Why it failed last; none while it works, or nobody asked.
    trouble: Option<String>,
    /// The trouble that was told on last.
    told: Option<String>,
}

impl Model {
    /// The model of `spec`, whose key has this value. Nothing is asked yet.
    pub fn new(
        spec: ForwardSpec,
        key: Option<String>,
        clock: &Arc<dyn Clock>,
        ids: &Arc<dyn Ids>,
    ) -> Self {
        // A key must not follow a redirect to somebody else.
        let client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIME)
            .build()
            .map_err(|e| format!("the client cannot be made: {e}"));
        let (clock, ids, circuit) = (clock.clone(), ids.clone(), Mutex::default());
        Self { spec, key, client, clock, ids, circuit }
    }

    /// Whether `spec` and `key` are this model's.
    pub fn is(&self, spec: &ForwardSpec, key: Option<&str>) -> bool {
        self.spec == *spec && self.key.as_deref() == key
    }

    /// Whether there is to be one: without a place there is none, and nobody misses it.
    pub fn is_wanted(&self) -> bool {
        !self.spec.url.is_empty()
    }

    /// Its trouble, the first time that is asked for.
    pub fn news(&self) -> Option<String> {
        let mut circuit = self.circuit.lock();
        let is_new = circuit.told != circuit.trouble;
        circuit.told = circuit.trouble.clone();
        circuit.told.clone().filter(|_| is_new)
    }

    /// Why it cannot be used now; none while it can, as far as is known.
    pub fn trouble(&self) -> Option<String> {
        match self.configured() {
            Err(why) => Some(why),
            Ok(_) => self.circuit.lock().trouble.clone(),
        }
    }

    /// Why it cannot be asked now; none where it may answer.
    pub fn silent(&self) -> Option<Silence> {
        match self.configured() {
            Err(why) => Some(Silence::Unconfigured(why)),
            Ok(_) => self.try_it().err(),
        }
    }

    /// Whether it can be asked at all.
    fn configured(&self) -> Result<&Client, String> {
        if !self.is_wanted() {
            return Err("no model is configured".to_string());
        }
        if let Some(name) = &self.spec.key
            && self.key.is_none()
        {
            return Err(format!("the key of the model has no value secret={name}"));
        }
        self.client.as_ref().map_err(Clone::clone)
    }

    /// What it says next.
    pub async fn reply(&self, turns: &[Turn]) -> Result<String, Silence> {
        let client = self.configured().map_err(Silence::Unconfigured)?;
        let _trying = self.try_it()?;
        let mut said: Vec<Turn> = Vec::with_capacity(turns.len() + 1);
        if !self.spec.system.is_empty() {
            let (role, content) = ("system".to_string(), self.spec.system.clone());
            said.push(Turn { role, content });
        }
        said.extend_from_slice(turns);
        let body = json!({"model": self.spec.model, "messages": said, "stream": false});
        let request = client.post(format!("{}/chat/completions", self.spec.url)).json(&body);
        let asked = self.with_key(request).send();
        let reply = tokio::select! {
            biased;
            reply = answered(asked) => reply,
            () = self.clock.sleep(self.spec.timeout) => Err(Silence::Late),
        };
        self.learn(reply.as_ref().err());
        reply
    }

    /// Asks for a sign of life where there was trouble and it is time to look again, and once where
    /// nobody has asked yet: one that is not there is known before anybody needs it.
    pub async fn look(&self) {
        let Ok(client) = self.configured() else { return };
        let (first, trouble) = {
            let circuit = self.circuit.lock();
            (!circuit.asked, circuit.trouble.is_some())
        };
        if !first && !trouble {
            return;
        }
        let Ok(_trying) = self.try_it() else { return };
        let request = client.get(format!("{}/models", self.spec.url));
        let found = tokio::select! {
            biased;
            found = self.with_key(request).send() => found.map_err(|e| unreached(&e)),
            () = self.clock.sleep(CONNECT_TIME) => Err(Silence::Late),
        };
        let found = found.and_then(|response| match response.status() {
            // Not every server lists its models, but one that says so is there.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(()),
            status if first || status.is_success() => Ok(()),
            status => Err(refusal(status, None, "")),
        });
        self.learn(found.err().as_ref());
    }

    fn with_key(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Leave to ask: while it is left alone nobody has it, and then one at a time.
    fn try_it(&self) -> Result<Trying<'_>, Silence> {
        let mut circuit = self.circuit.lock();
        let now = self.clock.monotonic();
        let probing = match circuit.breaker.state(now) {
            BreakerState::Closed => false,
            BreakerState::HalfOpen if !circuit.trying => true,
            _ => {
                let why = circuit.trouble.clone().unwrap_or_else(|| "it failed".to_string());
                let left = circuit.breaker.left(now).max(Duration::from_secs(1));
                return Err(Silence::LeftAlone(why, left));
            }
        };
        circuit.trying |= probing;
        Ok(Trying { model: self, probing })
    }

    /// Takes note of how it went.
    fn learn(&self, silence: Option<&Silence>) {
        let mut circuit = self.circuit.lock();
        circuit.asked = true;
        match silence.and_then(fault) {
            Some(why) => {
                circuit.breaker.failed(self.clock.monotonic(), self.ids.chance());
                circuit.trouble = Some(why);
            }
            None => {
                circuit.breaker.proved();
                circuit.trouble = None;
            }
        }
    }
}

/// Ends a try when it is dropped, also where who asked has left.
struct Trying<'a> {
    model: &'a Model,
    probing: bool,
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if self.probing {
            self.model.circuit.lock().trying = false;
        }
    }
}

/// What is the matter with the model; none where it was the question.
fn fault(silence: &Silence) -> Option<String> {
    match silence {
        Silence::Refused(_) | Silence::Unconfigured(_) | Silence::LeftAlone(..) => None,
        Silence::Busy(_) => Some("the model has too much to do".to_string()),
        Silence::Late => Some("the model does not answer in time".to_string()),
        Silence::Broken(why) => Some(why.clone()),
    }
}

async fn answered(
    asked: impl Future<Output = reqwest::Result<Response>>,
) -> Result<String, Silence> {
    let mut response = asked.await.map_err(|e| unreached(&e))?;
    let status = response.status();
    let wait = response.headers().get(reqwest::header::RETRY_AFTER);
    let wait = wait.and_then(|v| v.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|e| unreached(&e))? {
        body.extend_from_slice(&part);
        if body.len() > ANSWER_BYTES_MAX {
            let most = ANSWER_BYTES_MAX;
            return Err(Silence::Broken(format!(
                "the model says more than it may bytes_max={most}"
            )));
        }
    }
    if !status.is_success() {
        return Err(refusal(status, wait, &words(&body)));
    }
    reply_in(&body).ok_or_else(|| Silence::Broken("the model's answer has no reply in it".into()))
}

/// The reply in the body of a chat completion.
fn reply_in(body: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let reply = answer.pointer("/choices/0/message/content")?.as_str()?;
    Some(reply.to_string())
}

/// What a server says of its refusal, in one short line.
fn words(body: &[u8]) -> String {
    let answer: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let said = answer.as_ref().and_then(|a| a.pointer("/error/message").or(a.pointer("/error")));
    let said = said.and_then(|said| said.as_str()).unwrap_or_default();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    said.chars().take(WORDS_MAX).map(plain).collect::<String>().trim().to_string()
}

/// What a status that is no success means.
fn refusal(status: StatusCode, wait: Option<Duration>, words: &str) -> Silence {
    let said = if words.is_empty() { String::new() } else { format!(": {words}") };
    match status {
        StatusCode::TOO_MANY_REQUESTS => Silence::Busy(wait),
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => {
            Silence::Refused(format!("the model refuses the question status={status}{said}"))
        }
        // Servers may repeat the key in their words.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Silence::Broken(format!("the model does not take the key status={status}"))
        }
        status => Silence::Broken(format!("the model cannot answer status={status}{said}")),
    }
}

fn unreached(error: &reqwest::Error) -> Silence {
    if error.is_timeout() {
        return Silence::Late;
    }
    let what = if error.is_connect() { "cannot be reached" } else { "broke off" };
    Silence::Broken(format!("the model {what}"))
}

#[cfg(test)]
mod tests {
    use sluice_core::ManualClock;

    use super::*;
    use crate::clock::RandomIds;

    fn spec(url: &str, key: Option<&str>) -> ForwardSpec {
        ForwardSpec {
            url: url.to_string(),
            model: "m".to_string(),
            key: key.map(str::to_string),
            timeout: Duration::from_secs(5),
            system: String::new(),
            conversations: None,
            messages: None,
        }
    }

    fn model(spec: ForwardSpec, key: Option<&str>) -> (Model, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(0));
        let (shared, ids): (Arc<dyn Clock>, Arc<dyn Ids>) = (clock.clone(), Arc::new(RandomIds));
        (Model::new(spec, key.map(str::to_string), &shared, &ids), clock)
    }

    #[tokio::test]
    async fn what_is_not_configured_says_so() {
        let (none, _) = model(spec("", None), None);
        let said = none.reply(&[]).await;
        assert_eq!(said, Err(Silence::Unconfigured("no model is configured".to_string())));
        let (keyless, _) = model(spec("http://127.0.0.1:1/v1", Some("chat")), None);
        let said = keyless.reply(&[]).await;
        assert!(matches!(said, Err(Silence::Unconfigured(why)) if why.contains("secret=chat")));
        assert!(none.trouble().is_some() && keyless.trouble().is_some());
        // A place without its key is half of a model: somebody wants it.
        assert!(!none.is_wanted() && keyless.is_wanted());
        let (there, _) = model(spec("http://127.0.0.1:1/v1", None), None);
        assert_eq!(there.trouble(), None);
        assert!(there.is(&spec("http://127.0.0.1:1/v1", None), None));
        assert!(!there.is(&spec("http://127.0.0.1:1/v1", None), Some("k")));
    }

    #[tokio::test]
    async fn a_model_that_is_away_is_known_before_anybody_asks() {
        let (model, _) = model(spec("http://127.0.0.1:1/v1", None), None);
        model.look().await;
        assert!(model.trouble().is_some());
        assert_eq!((model.news(), model.news()), (model.trouble(), None), "once is enough");
    }

    #[test]
    fn a_model_that_fails_is_left_alone_and_tried_by_one_at_a_time() {
        let (model, clock) = model(spec("http://127.0.0.1:1/v1", None), None);
        let broken = Silence::Broken("away".to_string());
        for _ in 0..5 {
            assert!(model.try_it().is_ok());
            model.learn(Some(&broken));
        }
        assert_eq!(model.trouble().as_deref(), Some("away"));
        assert!(matches!(model.try_it(), Err(Silence::LeftAlone(why, _)) if why == "away"));
        clock.advance_ms(60_000);
        let first = model.try_it().unwrap();
        assert!(model.try_it().is_err(), "one is enough");
        drop(first);
        assert!(model.try_it().is_ok(), "the first one left");
        model.learn(Some(&Silence::Refused("too long".to_string())));
        assert_eq!(model.trouble(), None, "one that refuses a question is there");
        assert!(model.try_it().is_ok());
    }

    #[test]
    fn answers_and_refusals_are_read() {
        let reply = |text: &str| reply_in(text.as_bytes());
        let good = r#"{"choices": [{"message": {"role": "assistant", "content": "Hello"}}]}"#;
        assert_eq!(reply(good).as_deref(), Some("Hello"));
        for bad in ["", "{}", r#"{"choices": []}"#, r#"{"choices": [{"message": {}}]}"#] {
            assert_eq!(reply(bad), None, "{bad}");
        }
        assert_eq!(words(br#"{"error": {"message": "too\nlong"}}"#), "too long");
        assert_eq!(words(br#"{"error": "no"}"#), "no");
        assert_eq!(words(b"<html>"), "");
        let wait = Some(Duration::from_secs(7));
        assert_eq!(refusal(StatusCode::TOO_MANY_REQUESTS, wait, "x"), Silence::Busy(wait));
        let refused = refusal(StatusCode::UNAUTHORIZED, None, "key sk-123 is wrong");
        assert!(matches!(&refused, Silence::Broken(why) if !why.contains("sk-123")), "{refused:?}");
        assert!(matches!(refusal(StatusCode::BAD_REQUEST, None, ""), Silence::Refused(_)));
        assert!(matches!(refusal(StatusCode::BAD_GATEWAY, None, ""), Silence::Broken(_)));
    }
}
