//! Clients of S3, Google Cloud Storage and Azure: their settings, credentials and patience.
//!
//! In: a bucket's URL and secrets. Out: a client, and whether credentials were set at all. Settings
//! come from the environment under the names the clouds' own tools use (`AWS_*`, `GOOGLE_*`,
//! `AZURE_*`), then from secrets of those names, then from what a job says of this bucket under
//! `storage:`. Nothing is contacted here. Profiles of `aws configure` are not read.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use sluice_core::Secrets;

use super::Scheme;

/// The first wait before a request that failed is sent again; later ones grow at random up to
/// three times the one before, so that many clients do not come back together.
const RETRY_WAIT_FIRST: Duration = Duration::from_millis(100);

/// The longest wait: stores that ask to slow down are content with it.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often a request is sent again: more often than the waits above leave room for, so that
/// [`RETRY_TIME_MAX`] is what ends it. Twelve times had taken 17 s at the median, and 5 s now and then.
const RETRIES_MAX: usize = 100;

/// How long a request is tried in all: two leases' worth. A store that is away for longer ends the
/// epoch, whose recovery goes on from what was sealed.
const RETRY_TIME_MAX: Duration = Duration::from_secs(60);

/// The same for asking the machine for credentials: where none are set that is the usual reason for
/// a failure, and nobody wants to wait a minute for that message.
const IDENTITY_RETRIES_MAX: usize = 2;
const IDENTITY_TIME_MAX: Duration = Duration::from_secs(5);

/// How long one request may take with all its bytes: a part of 10 MiB at 350 kB a second. One that
/// hangs is no longer waited for than a lease lives.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a connection may take to come about.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// A client of a bucket.
pub(super) struct Client {
    pub(super) inner: Arc<dyn ObjectStore>,
    /// No credentials were set: the machine is asked for some.
    pub(super) unattended: bool,
}

/// The client of the bucket that `url` names.
pub(super) fn client(scheme: Scheme, url: &Url, secrets: &Secrets) -> object_store::Result<Client> {
    match scheme {
        Scheme::S3 => s3(url, secrets),
        Scheme::Gs => gs(url, secrets),
        _ => az(url, secrets),
    }
}

/// What a key of `storage:` is to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Nothing it knows.
    Unknown,
    /// A setting that anybody may read.
    Plain,
    /// One that nobody may.
    Secret,
}

/// What `key` is to the client of such a store, without or with the cloud's prefix.
pub(super) fn setting(scheme: Scheme, key: &str) -> Setting {
    use {AmazonS3ConfigKey as S3, AzureConfigKey as Az, GoogleConfigKey as Gs};
    let kind = |secret: Option<bool>| match secret {
        None => Setting::Unknown,
        Some(false) => Setting::Plain,
        Some(true) => Setting::Secret,
    };
    match scheme {
        Scheme::S3 => {
            let key = key.parse::<S3>().ok();
            kind(key.map(|key| matches!(key, S3::SecretAccessKey | S3::Token)))
        }
        Scheme::Gs => {
            let key = key.parse::<Gs>().ok();
            kind(key.map(|key| matches!(key, Gs::ServiceAccountKey)))
        }
        Scheme::Az => {
            kind(key.parse::<Az>().ok().map(|key| {
                matches!(key, Az::AccessKey | Az::SasKey | Az::ClientSecret | Az::Token)
            }))
        }
        Scheme::Local | Scheme::Memory => Setting::Unknown,
    }
}

fn s3(url: &Url, secrets: &Secrets) -> object_store::Result<Client> {
    use AmazonS3ConfigKey as Key;
    let settings = Settings::collect("AWS_", url, secrets, |key| {
        matches!(
            key,
            Key::AccessKeyId
                | Key::SecretAccessKey
                | Key::Token
                | Key::SkipSignature
                | Key::RoleArn
                | Key::WebIdentityTokenFile
                | Key::ContainerCredentialsRelativeUri
                | Key::ContainerCredentialsFullUri
        )
    });
    let build = |retries| {
        let bucket = url.host_str().unwrap_or_default();
        let http = settings.says_http(|key| matches!(key, Key::S3Endpoint | Key::Endpoint));
        let mut builder = AmazonS3Builder::new().with_client_options(options(http));
        for (key, value) in &settings.pairs {
            builder = builder.with_config(*key, value);
        }
        builder.with_bucket_name(bucket).with_retry(retries)
    };
    let mut builder = build(patient());
    if settings.unattended {
        builder = builder.with_credentials(build(hasty()).build()?.credentials().clone());
    }
    Ok(Client { inner: Arc::new(builder.build()?), unattended: settings.unattended })
}

fn gs(url: &Url, secrets: &Secrets) -> object_store::Result<Client> {
    use GoogleConfigKey as Key;
    let settings = Settings::collect("GOOGLE_", url, secrets, |key| {
        matches!(
            key,
            Key::ServiceAccount
                | Key::ServiceAccountKey
                | Key::ApplicationCredentials
                | Key::SkipSignature
        )
    });
    let build = |retries| {
        let bucket = url.host_str().unwrap_or_default();
        // Google's address is https; another one stands inside the key.
        let mut builder = GoogleCloudStorageBuilder::new().with_client_options(options(true));
        for (key, value) in &settings.pairs {
            builder = builder.with_config(*key, value);
        }
        builder.with_bucket_name(bucket).with_retry(retries)
    };
    let mut builder = build(patient());
    if settings.unattended {
        builder = builder.with_credentials(build(hasty()).build()?.credentials().clone());
    }
    Ok(Client { inner: Arc::new(builder.build()?), unattended: settings.unattended })
}

fn az(url: &Url, secrets: &Secrets) -> object_store::Result<Client> {
    use AzureConfigKey as Key;
    let mut settings = Settings::collect("AZURE_", url, secrets, |key| {
        matches!(
            key,
            Key::AccessKey
                | Key::SasKey
                | Key::Token
                | Key::ClientId
                | Key::ClientSecret
                | Key::AuthorityId
                | Key::FederatedTokenFile
                | Key::UseAzureCli
                | Key::UseEmulator
                | Key::SkipSignature
        )
    });
    if let Ok(endpoint) = std::env::var("IDENTITY_ENDPOINT") {
        settings.pairs.insert(0, (Key::MsiEndpoint, endpoint));
    }
    let build = |retries| {
        let http = settings.says_http(|key| matches!(key, Key::Endpoint));
        let mut builder = MicrosoftAzureBuilder::new().with_client_options(options(http));
        for (key, value) in &settings.pairs {
            builder = builder.with_config(*key, value);
        }
        // The account may stand in the URL.
        builder.with_url(url.as_str()).with_retry(retries)
    };
    let mut builder = build(patient());
    if settings.unattended {
        builder = builder.with_credentials(build(hasty()).build()?.credentials().clone());
    }
    Ok(Client { inner: Arc::new(builder.build()?), unattended: settings.unattended })
}

/// What a client is told, later pairs over earlier ones.
struct Settings<K> {
    pairs: Vec<(K, String)>,
    unattended: bool,
}

impl<K: FromStr + Copy> Settings<K> {
    /// From the environment, from secrets, from what is said of the bucket of `url`. Credentials are
    /// never mixed: where the bucket has some of its own, those of everybody are left out.
    fn collect(
        prefix: &str,
        url: &Url,
        secrets: &Secrets,
        is_credential: impl Fn(&K) -> bool,
    ) -> Self {
        let key = |name: &str| name.to_ascii_lowercase().parse::<K>().ok();
        let mine = |name: &str| {
            name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| mine(name));
        let named = secrets.names().filter(|name| mine(name));
        let named =
            named.filter_map(|name| Some((name.to_string(), secrets.get(name)?.to_string())));
        let mut pairs: Vec<(K, String)> = environment
            .chain(named)
            .filter_map(|(name, value)| Some((key(&name)?, value)))
            .collect();
        let own = secrets.store(url.as_str()).into_iter().flatten();
        let own: Vec<(K, String)> =
            own.filter_map(|(name, value)| Some((key(name)?, value.clone()))).collect();
        if own.iter().any(|(key, _)| is_credential(key)) {
            pairs.retain(|(key, _)| !is_credential(key));
        }
        pairs.extend(own);
        let unattended = !pairs.iter().any(|(key, _)| is_credential(key));
        Self { pairs, unattended }
    }

    /// Whether an address is given that begins with `http://`: whoever writes that means it.
    fn says_http(&self, is_endpoint: impl Fn(&K) -> bool) -> bool {
        self.pairs.iter().any(|(key, value)| is_endpoint(key) && value.starts_with("http://"))
    }
}

fn options(http: bool) -> ClientOptions {
    let options = ClientOptions::new().with_allow_http(http);
    options.with_timeout(REQUEST_TIME_MAX).with_connect_timeout(CONNECT_TIME_MAX)
}

fn patient() -> RetryConfig {
    retries(RETRIES_MAX, RETRY_TIME_MAX)
}

fn hasty() -> RetryConfig {
    retries(IDENTITY_RETRIES_MAX, IDENTITY_TIME_MAX)
}

/// Sends again what a store refused for now. A create whose first try went through comes back as
/// "exists" this way, which is why whoever creates reads back.
fn retries(max_retries: usize, retry_timeout: Duration) -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: RETRY_WAIT_FIRST, max_backoff: RETRY_WAIT_MAX, base: 3.0 };
    RetryConfig { backoff, max_retries, retry_timeout }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(secrets: &Secrets) -> Vec<(String, bool)> {
        let url = Url::parse("s3://inbox").unwrap();
        let is_credential = |key: &AmazonS3ConfigKey| {
            use AmazonS3ConfigKey::{AccessKeyId, SecretAccessKey, Token};
            matches!(key, AccessKeyId | SecretAccessKey | Token)
        };
        let settings = Settings::collect("aws_", &url, secrets, is_credential);
        settings.pairs.into_iter().map(|(key, value)| (value, is_credential(&key))).collect()
    }

    #[test]
    fn credentials_of_a_bucket_are_not_mixed_with_those_of_everybody() {
        let everybody = [("aws_session_token", "all's"), ("AWS_REGION", "all's region")];
        let everybody = everybody.map(|(key, value)| (key.to_string(), value.to_string()));
        let secrets = Secrets::new(everybody.into());
        let has = |found: &[(String, bool)], value: &str| found.iter().any(|(v, _)| v == value);

        let found = collected(&secrets);
        assert!(has(&found, "all's") && has(&found, "all's region"), "{found:?}");

        let region = [("region".to_string(), "own region".to_string())];
        let found = collected(&secrets.clone().with_store("s3://inbox/x", region.into()));
        assert!(has(&found, "all's") && found.last().unwrap().0 == "own region", "{found:?}");

        let key = [("access_key_id".to_string(), "own".to_string())];
        let found = collected(&secrets.with_store("s3://inbox", key.into()));
        assert!(!has(&found, "all's") && has(&found, "all's region"), "{found:?}");
        assert_eq!(found.last().unwrap(), &("own".to_string(), true));
    }
}
