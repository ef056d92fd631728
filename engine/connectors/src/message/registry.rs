//! A schema registry over HTTP, as Confluent's speaks.
//!
//! In: ids, or schemas to register. Out: schemas with everything they refer to, or ids. Answers
//! that may be others a moment later are asked for again a few times. It remembers nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_core::{Clock, Error, Result};

use super::config::RegistryConfig;

/// A registry that takes longer is as good as down: answers are read from its memory.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often one question is asked: with the waits between them some six seconds, enough for a
/// registry that is restarted behind a balancer.
const ATTEMPTS: u32 = 5;

/// The wait before the second attempt; it doubles from there.
const WAIT: Duration = Duration::from_millis(400);

/// An answer larger than this is none: schemas are far smaller.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Schemas that one may refer to, through others too.
const REFERENCES_MAX: usize = 256;

/// How the codes begin with which registries say that something does not exist: 40401 to 40403.
const ABSENT: i64 = 404;

/// What the bodies of questions are.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// What a schema is written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SchemaType {
    /// Apache Avro.
    #[default]
    Avro,
    /// Protocol Buffers.
    Protobuf,
    /// JSON Schema.
    Json,
}

impl SchemaType {
    /// As registries write it.
    pub fn name(self) -> &'static str {
        match self {
            SchemaType::Avro => "AVRO",
            SchemaType::Protobuf => "PROTOBUF",
            SchemaType::Json => "JSON",
        }
    }
}

/// A registered schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// What it is written in.
    pub schema_type: SchemaType,
    /// Its text.
    pub text: String,
    /// What it refers to, by the name it uses; each behind those it refers to itself.
    pub references: Vec<(String, String)>,
}

/// The client of one registry.
#[derive(Clone)]
pub struct Registry {
    client: Client,
    url: Url,
    config: RegistryConfig,
    clock: Arc<dyn Clock>,
}

/// A schema as registries send it.
#[derive(Debug, Deserialize)]
struct Answer {
    schema: String,
    #[serde(default, rename = "schemaType")]
    schema_type: Option<SchemaType>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i64,
}

#[derive(Debug, Deserialize)]
struct Registered {
    id: u32,
}

impl Registry {
    /// A client; asks nothing yet. Errors: `Config` when the URL is none.
    pub fn new(config: &RegistryConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let url = config.parsed_url()?;
        let client = Client::builder().timeout(TIMEOUT).build();
        let client =
            client.map_err(|e| Error::config("no client for http can be made").because(e))?;
        Ok(Self { client, url, config: config.clone(), clock })
    }

    /// The schema with this id; none when there is none. Errors: `Unavailable` when the registry
    /// does not answer, `Config` when it refuses us.
    pub async fn schema(&self, id: u32) -> Result<Option<Schema>> {
        let id = id.to_string();
        let Some(answer) = self.ask(Method::GET, &["schemas", "ids", &id], None).await? else {
            return Ok(None);
        };
        let answer: Answer = self.parse(answer)?;
        let (mut references, mut seen) = (Vec::new(), HashSet::new());
        self.resolve(answer.references.unwrap_or_default(), &mut seen, &mut references).await?;
        let schema_type = answer.schema_type.unwrap_or_default();
        Ok(Some(Schema { schema_type, text: answer.schema, references }))
    }

    /// Registers a schema, or finds that it is. Errors: `Config` when the registry refuses it;
    /// `Unavailable`.
    pub async fn register(
        &self,
        subject: &str,
        schema: &str,
        schema_type: SchemaType,
    ) -> Result<u32> {
        let mut body = json!({ "schema": schema });
        // Older registries know Avro only, and not this key.
        if schema_type != SchemaType::Avro {
            body["schemaType"] = schema_type.name().into();
        }
        let path = ["subjects", subject, "versions"];
        match self.ask(Method::POST, &path, Some(&body)).await? {
            Some(answer) => Ok(self.parse::<Registered>(answer)?.id),
            None => Err(self.strange("it has no place for schemas")),
        }
    }

    /// Adds what is referred to, and before it what that refers to.
    fn resolve<'a>(
        &'a self,
        references: Vec<Reference>,
        seen: &'a mut HashSet<(String, i64)>,
        found: &'a mut Vec<(String, String)>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for Reference { name, subject, version } in references {
                if !seen.insert((subject.clone(), version)) {
                    continue;
                }
                if seen.len() > REFERENCES_MAX {
                    return Err(self.strange("a schema refers to too many others"));
                }
                let number = version.to_string();
                let path = ["subjects", &subject, "versions", &number];
                let Some(answer) = self.ask(Method::GET, &path, None).await? else {
                    // The schema cannot be read without it, which its reader will say.
                    continue;
                };
                let answer: Answer = self.parse(answer)?;
                self.resolve(answer.references.unwrap_or_default(), seen, found).await?;
                found.push((name, answer.schema));
            }
            Ok(())
        })
    }

    /// Asks until there is an answer, a few times; none when what is asked for does not exist.
    async fn ask(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Option<Value>> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let mut attempt = 1;
        loop {
            let mut request = self.signed(self.client.request(method.clone(), url.clone()));
            if let Some(body) = body {
                request = request.header("content-type", CONTENT_TYPE).body(body.to_string());
            }
            match self.once(request).await {
                Err(error) if error.retry() && attempt < ATTEMPTS => {
                    // The first half of the wait is certain, the second by chance: many runners
                    // that fail together do not come back together.
                    let wait = WAIT * 2_u32.pow(attempt - 1);
                    let share = 0.5 + rand::random::<f64>() / 2.0;
                    tracing::warn!(%url, attempt, error = %error.chain(), "registry asked again");
                    self.clock.sleep(wait.mul_f64(share)).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.header("accept", format!("{CONTENT_TYPE}, application/json"));
        match (&self.config.token, &self.config.user) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some(user)) => request.basic_auth(user, self.config.password.as_ref()),
            (None, None) => request,
        }
    }

    async fn once(&self, request: RequestBuilder) -> Result<Option<Value>> {
        let gone = |cause: reqwest::Error| {
            Error::unavailable(format!("the schema registry does not answer url={}", self.shown()))
                .hint("check `registry.url`, and that the registry runs")
                .because(cause.without_url())
        };
        let mut answer = request.send().await.map_err(gone)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(gone)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(self.strange("its answer is too large"));
            }
        }
        let body: Option<Value> = serde_json::from_slice(&body).ok();
        let told = |key: &str| body.as_ref().and_then(|body| body.get(key)).cloned();
        let message = told("message").and_then(|m| m.as_str().map(str::to_string));
        let message = message.unwrap_or_else(|| format!("status {status}"));
        match status {
            status if status.is_success() => body.map(Some).ok_or_else(|| self.strange("no JSON")),
            // Without a code of a registry it is the address that is not found.
            StatusCode::NOT_FOUND => match told("error_code").and_then(|code| code.as_i64()) {
                Some(code) if code / 100 == ABSENT => Ok(None),
                _ => Err(self.strange("nothing is found there")),
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let text =
                    format!("the schema registry refuses us url={}: {message}", self.shown());
                Err(Error::config(text).hint("check `registry.user`, `password` or `token`"))
            }
            status if status.is_server_error() || is_passing(status) => {
                let text =
                    format!("the schema registry fails url={} status={status}", self.shown());
                Err(Error::unavailable(text).hint("look at the registry's own log"))
            }
            _ => {
                let text = format!("the schema registry refuses url={}: {message}", self.shown());
                Err(Error::config(text).hint("look at the subject's compatibility settings"))
            }
        }
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, answer: Value) -> Result<T> {
        serde_json::from_value(answer).map_err(|e| self.strange("not what one answers").because(e))
    }

    fn strange(&self, what: &str) -> Error {
        let message = format!("this is no schema registry: {what} url={}", self.shown());
        Error::config(message).hint("check `registry.url`: it ends where /subjects begins")
    }

    /// The address without what may be secret in it.
    fn shown(&self) -> String {
        let mut url = self.url.clone();
        // Only addresses without a host cannot be without these.
        let _ = url.set_password(None);
        let _ = url.set_username("");
        url.set_query(None);
        url.to_string()
    }
}

/// Whether the same question may be answered later.
fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("url", &self.shown()).finish_non_exhaustive()
    }
}
