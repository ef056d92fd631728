//! Sends requests until each of their rows is settled: taken, or refused for good.
//!
//! In: a request. Out: the rows of it that are refused. It waits where the receiver asks for it, and
//! gives up where nothing is said: when to try again then is the outbox's business.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::header::{HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, Url};
use sluice_core::{Clock, Error, Refused, Result, Secrets};

use super::answer::{self, Verdict};
use super::config::{Login, Settings};
use super::request::Request;

/// How often in a row a receiver may ask for a wait before it counts as down, so that somebody is
/// told: at the least some minutes.
const WAITS_MAX: u32 = 10;

/// Bytes of an answer that are read: for its first words, and so that the connection is used again.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// What is sent with every request.
pub(super) struct Sender {
    client: Client,
    settings: Settings,
    url: Url,
    clock: Arc<dyn Clock>,
    secrets: Secrets,
    /// Before this time nothing is sent: the receiver asked for it.
    not_before: Mutex<Duration>,
}

impl Sender {
    /// Nobody is asked yet. Errors: `Config` when there is no URL.
    pub(super) fn new(settings: Settings, clock: Arc<dyn Clock>, secrets: Secrets) -> Result<Self> {
        let url = settings.url.clone();
        let url =
            url.ok_or_else(|| Error::config("the URL of a sink is a secret without value"))?;
        let client = Client::builder()
            .timeout(settings.timeout)
            // Another address is another receiver, which nobody meant.
            .redirect(Policy::none())
            .pool_max_idle_per_host(settings.concurrency)
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")));
        let client = client
            .build()
            .map_err(|e| Error::config("no client for http can be made").because(e))?;
        Ok(Self { client, settings, url, clock, secrets, not_before: Mutex::default() })
    }

    /// Sends a request; where it is refused, its halves, until it is known which rows are. Gives
    /// those, by ascending number. `place` names the file in keys.
    pub(super) async fn settle(&self, request: Request, place: &str) -> Result<Vec<Refused>> {
        let mut refused = request.refused.clone();
        let mut left = vec![request];
        while let Some(part) = left.pop() {
            if part.rows.is_empty() {
                continue;
            }
            let Some(reason) = self.post(&part, place).await? else { continue };
            match part.halves() {
                Ok((first, second)) => left.extend([second, first]),
                Err(part) => refused.push(Refused { row: part.range().0, reason }),
            }
        }
        refused.sort_by_key(|refused| refused.row);
        Ok(refused)
    }

    /// Sends one request until it is judged; gives the reason where it is refused.
    async fn post(&self, part: &Request, place: &str) -> Result<Option<String>> {
        let body = part.body(&self.settings.body);
        let key = match part.range() {
            (first, last) if first == last => format!("{place}/{first}"),
            (first, last) => format!("{place}/{first}-{last}"),
        };
        let mut waits = 0;
        loop {
            self.hold_back().await;
            let answer = self.request(&key, body.clone())?.send().await;
            let (status, verdict, text) = self.read(answer.map_err(|e| self.gone(e))?).await;
            match verdict {
                Verdict::Taken => return Ok(None),
                Verdict::Refused => {
                    return Ok(Some(answer::reason(status, &text, &self.secrets)));
                }
                Verdict::Later(wait) if waits < WAITS_MAX => {
                    let wait = answer::wait_of(wait, waits);
                    let (url, seconds) = (&self.settings.shown, wait.as_secs_f64());
                    tracing::debug!(url, status, seconds, "a receiver asks for a wait");
                    self.pause(wait);
                    waits += 1;
                }
                Verdict::Later(_) | Verdict::Away => return Err(self.away(status)),
                Verdict::Closed => return Err(self.closed(status)),
            }
        }
    }

    fn request(&self, key: &str, body: Bytes) -> Result<RequestBuilder> {
        let settings = &self.settings;
        let request = self.client.request(settings.method.clone(), self.url.clone());
        let mut request = request.headers(settings.headers.clone());
        request = match &settings.login {
            Login::Nobody => request,
            Login::Token(token) => request.bearer_auth(token),
            Login::User(user, password) => request.basic_auth(user, password.as_ref()),
        };
        if let Some(name) = &settings.key_header {
            let value = HeaderValue::try_from(key)
                .map_err(|e| Error::bug("a key is no value of a header").because(e))?;
            request = request.header(name.clone(), value);
        }
        if let Some(signer) = &settings.signer {
            for (name, value) in signer.headers(key, self.clock.wall_ms(), &body)? {
                request = request.header(name, value);
            }
        }
        Ok(request.body(body))
    }

    /// The status, what it means, and the first bytes of the answer.
    async fn read(&self, mut answer: Response) -> (u16, Verdict, Vec<u8>) {
        let status = answer.status().as_u16();
        let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let wait = wait.and_then(|text| answer::retry_after(text, self.clock.wall_ms()));
        let mut text = Vec::new();
        // The status is what counts: a body that breaks off changes nothing.
        while let Ok(Some(chunk)) = answer.chunk().await {
            text.extend_from_slice(&chunk);
            if text.len() >= ANSWER_BYTES_MAX {
                break;
            }
        }
        (status, answer::judge(status, wait), text)
    }

    /// Waits until the receiver wants to be asked.
    async fn hold_back(&self) {
        loop {
            let until = *self.not_before.lock();
            let left = until.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return;
            }
            self.clock.sleep(left).await;
        }
    }

    fn pause(&self, wait: Duration) {
        let until = self.clock.monotonic().saturating_add(wait);
        let mut not_before = self.not_before.lock();
        *not_before = until.max(*not_before);
    }

    fn gone(&self, cause: reqwest::Error) -> Error {
        let url = &self.settings.shown;
        let what = if cause.is_timeout() { "takes too long" } else { "does not answer" };
        Error::unavailable(format!("the receiver {what} url={url}"))
            .hint("check `url`, and that the receiver runs")
            .because(cause.without_url())
    }

    fn away(&self, status: u16) -> Error {
        let url = &self.settings.shown;
        Error::unavailable(format!("the receiver takes no rows now status={status} url={url}"))
            .hint("look at the receiver's own log")
    }

    /// It may be mended there, so it is worth another try.
    fn closed(&self, status: u16) -> Error {
        let url = &self.settings.shown;
        Error::config(format!("the receiver takes nothing from us status={status} url={url}"))
            .hint("check `url` and how the sink says who it is: `token`, `user`, `headers`, `sign`")
            .with_retry(true)
    }
}
