//! Random identifiers, injected so that tests can foresee them.

/// Where identifiers come from.
pub trait Ids: Send + Sync + std::fmt::Debug {
    /// A new one: at least 16 lower-case hexadecimal digits, never given before.
    fn fresh(&self) -> String;
}
