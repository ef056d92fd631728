//! From a store's errors to ours: who has to act, and what they can do.
//!
//! In: an error of `object_store`. Out: a small classification that the methods decide on, and
//! our error for the rest. Nothing is retried here: the clients retry what is safe.

use std::error::Error as StdError;
use std::io::ErrorKind;

use sluice_core::Error;

use super::Scheme;
use super::advice::{self, Cause};

/// What a store's error means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The object is not there.
    Missing,
    /// The bucket is not there, so nothing can be.
    NoBucket,
    /// The object is there already, or a condition on its version failed.
    Exists,
    /// We may not do this.
    Denied,
    /// The store cannot do this, or the path or an option is wrong.
    Unsupported,
    /// What lies at the path, or above it, is not what has to be there.
    InTheWay,
    /// The disk is full.
    Full,
    /// Anything else: a time-out, a server error, a broken disk. It may have happened or not.
    Unknown,
}

/// Reads `error`, looking through wrapped I/O errors.
pub(super) fn classify(error: &object_store::Error) -> Fault {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } if advice::cause(error, false) == Cause::NoBucket => Fault::NoBucket,
        E::NotFound { .. } => Fault::Missing,
        E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => Fault::Exists,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => Fault::Denied,
        E::NotSupported { .. }
        | E::NotImplemented { .. }
        | E::InvalidPath { .. }
        | E::UnknownConfigurationKey { .. } => Fault::Unsupported,
        other => match io_kind(other) {
            Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => Fault::Denied,
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Fault::Full,
            Some(ErrorKind::InvalidFilename) => Fault::Unsupported,
            // A folder that cannot be made says that it is not found, or that it exists; objects
            // that are not there, or are, have errors of their own.
            Some(
                ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
                | ErrorKind::AlreadyExists
                | ErrorKind::NotFound,
            ) => Fault::InTheWay,
            _ => Fault::Unknown,
        },
    }
}

/// The kind of the first I/O error among the causes.
pub(super) fn io_kind(error: &object_store::Error) -> Option<ErrorKind> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}

/// What to do about a path of the local disk that cannot be used.
pub(crate) const IN_THE_WAY: &str = "check the path: each part above its last must be a folder, or \
                                     a place where one can be made, and no file may be in the way";

/// Our error for `error`, which happened while `doing` something (`"read"`) at `place`, on a store of
/// a kind with or without credentials that somebody set.
pub(super) fn translate(
    error: object_store::Error,
    doing: &str,
    place: &str,
    (scheme, unattended): (Scheme, bool),
) -> Error {
    let message = format!("cannot {doing} path={place}");
    match classify(&error) {
        Fault::NoBucket => Error::config(message).hint(advice::bucket(scheme)),
        Fault::Missing => Error::config(message)
            .hint("check that the bucket or folder exists and is spelled right"),
        Fault::Exists => Error::conflict(message).hint("something else wrote here; run again"),
        Fault::Denied if scheme == Scheme::Local => {
            Error::config(message).hint("check that the user may read, write, list and delete here")
        }
        Fault::Denied => Error::config(message).hint(format!(
            "check the credentials and that they may read, write, list and delete here; {}",
            advice::settings(scheme)
        )),
        Fault::Unsupported => Error::config(message)
            .hint("use a local disk, S3, GCS or Azure with conditional writes"),
        Fault::InTheWay => Error::config(message).hint(IN_THE_WAY),
        Fault::Full => Error::unavailable(message).hint("free disk space and run again"),
        Fault::Unknown => match advice::cause(&error, unattended) {
            Cause::Region => Error::config(message).hint(advice::REGION),
            Cause::NoCredentials => Error::config(message)
                .hint(format!("no credentials are set; {}", advice::settings(scheme))),
            Cause::NoServer => Error::unavailable(message).hint(advice::server(scheme)),
            Cause::NoBucket | Cause::Other => Error::unavailable(message),
        },
    }
    .because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(kind: ErrorKind) -> object_store::Error {
        let source = Box::new(std::io::Error::from(kind));
        object_store::Error::Generic { store: "disk", source }
    }

    #[test]
    fn every_fault_names_who_acts() {
        use sluice_core::Kind;
        let missing = || object_store::Error::NotFound { path: "x".into(), source: "gone".into() };
        let cases = [
            (missing(), Fault::Missing, Kind::Config),
            (io(ErrorKind::PermissionDenied), Fault::Denied, Kind::Config),
            (io(ErrorKind::ReadOnlyFilesystem), Fault::Denied, Kind::Config),
            (io(ErrorKind::StorageFull), Fault::Full, Kind::Unavailable),
            (io(ErrorKind::NotADirectory), Fault::InTheWay, Kind::Config),
            (io(ErrorKind::IsADirectory), Fault::InTheWay, Kind::Config),
            (io(ErrorKind::NotFound), Fault::InTheWay, Kind::Config),
            (io(ErrorKind::TimedOut), Fault::Unknown, Kind::Unavailable),
            (io(ErrorKind::Other), Fault::Unknown, Kind::Unavailable),
        ];
        for (error, fault, kind) in cases {
            assert_eq!(classify(&error), fault);
            assert_eq!(translate(error, "read", "x", (Scheme::Local, false)).kind(), kind);
        }
    }
}
