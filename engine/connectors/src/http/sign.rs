//! Signatures of bodies, as receivers of webhooks verify them.
//!
//! In: a secret, a request's key, the time and the body. Out: headers. How it is verified is the
//! `webhook` source's business.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use reqwest::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use sluice_core::{Error, Result};

use super::config::is_secret;
use crate::settings::Faults;

/// What the secrets of Standard Webhooks begin with; base64 follows.
const STANDARD_PREFIX: &str = "whsec_";

/// The header of a plain HMAC when nobody says.
const HMAC_HEADER: &str = "X-Signature";

/// How bodies are signed, as it is written: one of `github`, `standard_webhooks` and `hmac`.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignConfig {
    /// The secret of `X-Hub-Signature-256`, as GitHub signs.
    #[serde(default)]
    pub github: Option<String>,
    /// The secret of `webhook-id`, `webhook-timestamp` and `webhook-signature`: base64, after
    /// `whsec_` if it is there.
    #[serde(default)]
    pub standard_webhooks: Option<String>,
    /// The secret of an HMAC of the body.
    #[serde(default)]
    pub hmac: Option<String>,
    /// The header of the HMAC. Default: `X-Signature`.
    #[serde(default)]
    pub header: Option<String>,
    /// The hash of the HMAC: `sha256`, `sha1`, `sha512`. Default: `sha256`.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How the HMAC is written: `hex`, `base64`. Default: `hex`.
    #[serde(default)]
    pub encoding: Encoding,
    /// What stands before the HMAC in its header, such as `sha256=`. Default: nothing.
    #[serde(default)]
    pub prefix: Option<String>,
}

/// The hash of an HMAC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How an HMAC is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal digits, lower case.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
}

/// Signs bodies.
#[derive(Clone)]
pub(super) struct Signer {
    key: Arc<[u8]>,
    scheme: Scheme,
}

#[derive(Clone)]
enum Scheme {
    Plain { header: HeaderName, algorithm: Algorithm, encoding: Encoding, prefix: String },
    Standard,
}

impl Signer {
    /// Reads the entry; adds what is wrong with it.
    pub(super) fn read(config: &SignConfig, faults: &mut Faults) -> Option<Self> {
        let given = [&config.github, &config.standard_webhooks, &config.hmac];
        if given.iter().filter(|secret| secret.is_some()).count() != 1 {
            let hint = "give one of `github`, `standard_webhooks` and `hmac`, each with a secret";
            faults.add("/sign", "this says not how bodies are signed", hint);
            return None;
        }
        let own = config.header.is_some() || config.prefix.is_some();
        let own = own || config.algorithm != Algorithm::default();
        if config.hmac.is_none() && (own || config.encoding != Encoding::default()) {
            let hint = "use `hmac` for a signature of your own";
            faults.add("/sign", "a known signature has its own header and writing", hint);
        }
        if let Some(secret) = &config.standard_webhooks {
            let key = standard_key(secret, faults)?;
            return Some(Self { key: key.into(), scheme: Scheme::Standard });
        }
        let (header, prefix) = match config.github {
            Some(_) => ("X-Hub-Signature-256", "sha256="),
            None => (
                config.header.as_deref().unwrap_or(HMAC_HEADER),
                config.prefix.as_deref().unwrap_or_default(),
            ),
        };
        let Ok(header) = HeaderName::try_from(header) else {
            let hint = "use letters, digits and `-`";
            faults.add("/sign/header", "this is no name of a header", hint);
            return None;
        };
        let (algorithm, encoding) = (config.algorithm, config.encoding);
        let secret = config.github.as_ref().or(config.hmac.as_ref())?;
        if secret.is_empty() {
            faults.add("/sign", "the secret is empty", "give one of 24 bytes or more");
            return None;
        }
        let scheme = Scheme::Plain { header, algorithm, encoding, prefix: prefix.to_string() };
        Some(Self { key: secret.as_bytes().into(), scheme })
    }

    /// The headers of a request with this key and body, `now_ms` milliseconds since 1970.
    pub(super) fn headers(
        &self,
        key: &str,
        now_ms: i64,
        body: &[u8],
    ) -> Result<Vec<(HeaderName, HeaderValue)>> {
        match &self.scheme {
            Scheme::Plain { header, algorithm, encoding, prefix } => {
                let tag = match algorithm {
                    Algorithm::Sha1 => tag::<Hmac<Sha1>>(&self.key, &[body]),
                    Algorithm::Sha256 => tag::<Hmac<Sha256>>(&self.key, &[body]),
                    Algorithm::Sha512 => tag::<Hmac<Sha512>>(&self.key, &[body]),
                }?;
                let written = match encoding {
                    Encoding::Hex => hex::encode(tag),
                    Encoding::Base64 => STANDARD.encode(tag),
                };
                Ok(vec![(header.clone(), value(&format!("{prefix}{written}"))?)])
            }
            Scheme::Standard => {
                let seconds = now_ms.div_euclid(1000).to_string();
                let signed: [&[u8]; 5] = [key.as_bytes(), b".", seconds.as_bytes(), b".", body];
                let tag = tag::<Hmac<Sha256>>(&self.key, &signed)?;
                let signature = format!("v1,{}", STANDARD.encode(tag));
                Ok(vec![
                    (HeaderName::from_static("webhook-id"), value(key)?),
                    (HeaderName::from_static("webhook-timestamp"), value(&seconds)?),
                    (HeaderName::from_static("webhook-signature"), value(&signature)?),
                ])
            }
        }
    }
}

fn standard_key(secret: &str, faults: &mut Faults) -> Option<Vec<u8>> {
    if is_secret(secret) {
        return Some(Vec::new());
    }
    let encoded = secret.strip_prefix(STANDARD_PREFIX).unwrap_or(secret);
    let key = STANDARD.decode(encoded).ok().filter(|key| !key.is_empty());
    if key.is_none() {
        let hint = "a secret of Standard Webhooks is base64, after `whsec_`";
        faults.add("/sign/standard_webhooks", "this is no secret of Standard Webhooks", hint);
    }
    key
}

fn tag<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Result<Vec<u8>> {
    let mac = <M as Mac>::new_from_slice(key);
    let mut mac = mac.map_err(|_| Error::bug("a key has a length that HMAC does not take"))?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().to_vec())
}

fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::try_from(text)
        .map_err(|e| Error::bug("a signature is no value of a header").because(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(config: SignConfig) -> Signer {
        let mut faults = Faults::default();
        let signer = Signer::read(&config, &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        signer.unwrap()
    }

    fn signed(config: SignConfig, key: &str, now_ms: i64, body: &str) -> Vec<(String, String)> {
        let headers = signer(config).headers(key, now_ms, body.as_bytes()).unwrap();
        let text = |value: &HeaderValue| value.to_str().unwrap().to_string();
        headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    #[test]
    fn signatures_are_those_that_their_inventors_publish() {
        let github = Some("It's a Secret to Everybody".to_string());
        let found = signed(SignConfig { github, ..Default::default() }, "k", 0, "Hello, World!");
        let tag = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(found, [("x-hub-signature-256".to_string(), format!("sha256={tag}"))]);

        let secret = Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_string());
        let config = SignConfig { standard_webhooks: secret, ..Default::default() };
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let found = signed(config, id, 1_614_265_330_999, "{\"test\": 2432232314}");
        let tag = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let expected =
            [("webhook-id", id), ("webhook-timestamp", "1614265330"), ("webhook-signature", tag)];
        assert_eq!(found, expected.map(|(name, value)| (name.to_string(), value.to_string())));
    }

    #[test]
    fn a_plain_hmac_is_written_as_it_is_wanted() {
        // RFC 2202, case 2; RFC 4231, case 2.
        let body = "what do ya want for nothing?";
        let config = SignConfig { hmac: Some("Jefe".to_string()), ..Default::default() };
        let tag = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let found = signed(config.clone(), "k", 0, body);
        assert_eq!(found, [("x-signature".to_string(), tag.to_string())]);
        let config = SignConfig {
            header: Some("X-Mine".to_string()),
            prefix: Some("t=".to_string()),
            algorithm: Algorithm::Sha1,
            encoding: Encoding::Base64,
            ..config
        };
        let found = signed(config, "k", 0, body);
        assert_eq!(found, [("x-mine".to_string(), "t=7/zfauXrL6LSdBbV8YTfnCWafHk=".to_string())]);
    }

    #[test]
    fn what_says_not_how_to_sign_is_refused() {
        let some = |text: &str| Some(text.to_string());
        let cases = [
            (SignConfig::default(), false),
            (SignConfig { github: some("a"), hmac: some("b"), ..Default::default() }, false),
            (SignConfig { github: some("a"), header: some("X"), ..Default::default() }, false),
            (SignConfig { hmac: some("a"), header: some("a b"), ..Default::default() }, false),
            (SignConfig { hmac: some(""), ..Default::default() }, false),
            (SignConfig { standard_webhooks: some("whsec_?"), ..Default::default() }, false),
            (SignConfig { standard_webhooks: some("${secrets.x}"), ..Default::default() }, true),
        ];
        for (case, (config, expected)) in cases.iter().enumerate() {
            let mut faults = Faults::default();
            drop(Signer::read(config, &mut faults));
            assert_eq!(faults.is_empty(), *expected, "{case}: {faults:?}");
        }
    }
}
