//! What to do about a store in a cloud that does not let us in: which variable to set.
//!
//! In: a store's kind and the text of its error. Out: hints. The clients tell status and body only
//! as text, so that is what is looked at; nothing but messages depends on it.

use std::error::Error as StdError;

use super::Scheme;

/// What the text of an error says about its cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The bucket or container is not there.
    NoBucket,
    /// The bucket is in another region than the requests go to.
    Region,
    /// No credentials were set, and the machine gives none.
    NoCredentials,
    /// The server does not answer.
    NoServer,
    /// Anything else.
    Other,
}

/// Reads an error's causes. `unattended`: no credentials were set.
pub(super) fn cause(error: &object_store::Error, unattended: bool) -> Cause {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text.push_str(&next.to_string());
        source = next.source();
    }
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if says(&["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"]) {
        Cause::NoBucket
    } else if says(&["incorrectly configured region", "AuthorizationHeaderMalformed"]) {
        Cause::Region
    } else if unattended && says(&IDENTITY) {
        Cause::NoCredentials
    } else if says(&["tcp connect error", "dns error", "error sending request"]) {
        Cause::NoServer
    } else {
        Cause::Other
    }
}

/// Where clients ask a machine for credentials: the addresses all clouds use, and what the clients
/// call it.
const IDENTITY: [&str; 5] = [
    "169.254.169.254",
    "169.254.170.2",
    "metadata.google.internal",
    "credential",
    "/latest/api/token",
];

/// What a store of this kind needs.
pub(super) fn settings(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::S3 => {
            "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION (AWS_ENDPOINT_URL for a \
             server other than Amazon's), or give the bucket settings of its own under `storage:`"
        }
        Scheme::Gs => {
            "set GOOGLE_APPLICATION_CREDENTIALS to the path of a key file, or \
             GOOGLE_SERVICE_ACCOUNT_KEY to its content, or give the bucket settings of its own \
             under `storage:`"
        }
        Scheme::Az => {
            "set AZURE_STORAGE_ACCOUNT_NAME and one of AZURE_STORAGE_ACCOUNT_KEY, \
             AZURE_STORAGE_SAS_TOKEN and AZURE_CLIENT_ID with AZURE_CLIENT_SECRET and \
             AZURE_TENANT_ID, or give the container settings of its own under `storage:`"
        }
        Scheme::Local | Scheme::Memory => "check the permissions of the folder",
    }
}

/// What to do about a region that is not the bucket's.
pub(super) const REGION: &str = "set AWS_REGION to the region of the bucket";

/// What to do about a server that does not answer.
pub(super) fn server(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::S3 => "check the network, and AWS_ENDPOINT_URL and AWS_REGION if they are set",
        Scheme::Az => "check the network, AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ENDPOINT",
        Scheme::Gs | Scheme::Local | Scheme::Memory => "check the network",
    }
}

/// What to do about a bucket that is not there.
pub(super) fn bucket(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Az => "create the container, or check its name and AZURE_STORAGE_ACCOUNT_NAME",
        _ => "create the bucket, or check its name; sluice makes none",
    }
}
