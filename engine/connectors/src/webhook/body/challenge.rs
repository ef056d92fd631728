//! What senders ask before they send anything: to hear a word again, which proves that the address
//! is wanted.
//!
//! In: the query or the body of a request. Out: the word, if it is such a question. A question in a
//! query comes without a signature; one in a body is looked at when the body is verified.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use url::form_urlencoded;

use super::pick::Path;
use crate::settings::Faults;
use crate::webhook::verify::config::SecretTexts;

/// A word longer than this is no challenge: what is said back is never more than a line.
const WORD_MAX: usize = 1024;

/// A question that a sender asks.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChallengeConfig {
    /// The parameter of the query whose value is the answer: `hub.challenge`, `validationToken`.
    #[serde(default)]
    pub query: Option<String>,
    /// A parameter of the query that has to be the `secret`: `hub.verify_token`.
    #[serde(default)]
    pub token: Option<String>,
    /// What `token` has to be: `${secrets.name}`, or a list.
    #[serde(default)]
    pub secret: Option<SecretTexts>,
    /// A place in the body whose value is the answer: `$.challenge`.
    #[serde(default)]
    pub json: Option<String>,
    /// What has to be in the body, by its place: `{$.type: url_verification}`.
    #[serde(default)]
    pub when: BTreeMap<String, String>,
}

/// A question, read.
#[derive(Clone)]
pub(in crate::webhook) enum Challenge {
    /// In a query: the parameter; and another one that has to hash to one of these.
    Query { name: String, token: Option<(String, Vec<[u8; 32]>)> },
    /// In a body: the place; and what has to be at others.
    Json { at: Path, when: Vec<(Path, String)> },
}

impl std::fmt::Debug for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Challenge::Query { .. } => "Query",
            Challenge::Json { .. } => "Json",
        })
    }
}

/// What is said to a question in a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::webhook) enum Reply {
    /// The word.
    Word(String),
    /// Who asks does not know the token.
    Stranger,
}

impl ChallengeConfig {
    pub(in crate::webhook) fn build(&self, faults: &mut Faults) -> Option<Challenge> {
        let place = "/challenge";
        match (&self.query, &self.json) {
            (Some(name), None) => {
                if !self.when.is_empty() {
                    faults.add("/challenge/when", "it says nothing about a query", "remove it");
                }
                let token = match (&self.token, &self.secret) {
                    (Some(token), Some(secret)) => {
                        let texts = secret.0.as_slice();
                        if texts.is_empty() || texts.iter().any(String::is_empty) {
                            let hint = "name one as `${secrets.name}`";
                            faults.add("/challenge/secret", "no secret is given", hint);
                        }
                        let hashes = texts.iter().map(|text| Sha256::digest(text).into());
                        Some((token.clone(), hashes.collect()))
                    }
                    (None, None) => None,
                    _ => {
                        let hint = "give both, or neither";
                        faults.add(place, "a token needs a secret, and the other way round", hint);
                        None
                    }
                };
                Some(Challenge::Query { name: name.clone(), token })
            }
            (None, Some(path)) => {
                if self.token.is_some() || self.secret.is_some() {
                    let hint = "remove it, and verify the body with `verify`";
                    faults.add(place, "a token is in a query only", hint);
                }
                let at = faults.keep("/challenge/json", Path::parse(path))?;
                let mut when = Vec::new();
                for (path, value) in &self.when {
                    let path = faults.keep("/challenge/when", Path::parse(path))?;
                    when.push((path, value.clone()));
                }
                Some(Challenge::Json { at, when })
            }
            _ => {
                faults.add(place, "a challenge is in a query or in a body", "give one of them");
                None
            }
        }
    }
}

impl Challenge {
    /// What Slack asks.
    pub(in crate::webhook) fn slack() -> Self {
        let when = vec![(Path::of(&["type"]), "url_verification".to_string())];
        Challenge::Json { at: Path::of(&["challenge"]), when }
    }

    /// What is said to a query, if it asks.
    pub(in crate::webhook) fn ask_query(&self, query: &str) -> Option<Reply> {
        let Challenge::Query { name, token } = self else { return None };
        let value = |wanted: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
        };
        let word = value(name).filter(|word| word.len() <= WORD_MAX)?;
        let Some((token, known)) = token else { return Some(Reply::Word(word)) };
        let given: [u8; 32] = Sha256::digest(value(token).unwrap_or_default()).into();
        let mut found = Choice::from(0);
        for one in known {
            found |= one.ct_eq(&given);
        }
        Some(if bool::from(found) { Reply::Word(word) } else { Reply::Stranger })
    }

    /// What is said to a body, if it asks.
    pub(in crate::webhook) fn ask_body(&self, body: &[u8]) -> Option<String> {
        let Challenge::Json { at, when } = self else { return None };
        let holds = |(path, value): &(Path, String)| path.pick(body).as_ref() == Some(value);
        let word = when.iter().all(holds).then(|| at.pick(body)).flatten();
        word.filter(|word| word.len() <= WORD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn challenge(config: Value) -> Option<Challenge> {
        let mut faults = Faults::default();
        let config: ChallengeConfig = serde_json::from_value(config).unwrap();
        let challenge = config.build(&mut faults);
        challenge.filter(|_| faults.is_empty())
    }

    #[test]
    fn a_question_is_answered_with_its_word() {
        let slack = Challenge::slack();
        let body = br#"{"token": "x", "challenge": "3eZbrw1a", "type": "url_verification"}"#;
        assert_eq!(slack.ask_body(body).as_deref(), Some("3eZbrw1a"));
        assert_eq!(slack.ask_body(br#"{"challenge": "x", "type": "event_callback"}"#), None);
        assert_eq!(slack.ask_query("challenge=x"), None);
        let meta = json!({"query": "hub.challenge", "token": "hub.verify_token", "secret": "s"});
        let meta = challenge(meta).unwrap();
        let query = "hub.mode=subscribe&hub.challenge=115%3C&hub.verify_token=";
        assert_eq!(meta.ask_query(&format!("{query}s")), Some(Reply::Word("115<".into())));
        assert_eq!(meta.ask_query(&format!("{query}t")), Some(Reply::Stranger));
        assert_eq!(meta.ask_query("hub.mode=subscribe"), None);
        let plain = challenge(json!({"query": "validationToken"})).unwrap();
        assert_eq!(plain.ask_query("validationToken=a"), Some(Reply::Word("a".into())));
        let long = format!("validationToken={}", "a".repeat(WORD_MAX + 1));
        assert_eq!(plain.ask_query(&long), None);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let bad = [
            json!({}),
            json!({"query": "a", "json": "$.a"}),
            json!({"query": "a", "token": "b"}),
            json!({"query": "a", "token": "b", "secret": ""}),
            json!({"query": "a", "when": {"$.a": "b"}}),
            json!({"json": "$"}),
            json!({"json": "$.a", "secret": "x"}),
        ];
        for config in bad {
            assert!(challenge(config.clone()).is_none(), "{config}");
        }
    }
}
