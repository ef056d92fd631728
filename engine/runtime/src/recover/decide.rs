//! What to make of a table that lies in the lake: a pure function from facts to a verdict.

/// What lies at a table's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A table that no job of Sluice made.
    Stranger,
    /// A table of a job.
    Ours {
        /// The job in its properties.
        job: String,
        /// The incarnation in its properties.
        incarnation: String,
        /// Whether its properties name another table.
        other_table: bool,
        /// The last epoch of this job and incarnation in its log.
        epoch: Option<u64>,
    },
}

/// What the chain says of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The job.
    pub job: String,
    /// The chain's incarnation; none when nothing was ever sealed.
    pub incarnation: Option<String>,
    /// The last sealed epoch.
    pub last: Option<u64>,
    /// Whether the last manifest knows the table and did not create it itself.
    pub existed: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Fine,
    /// The manifests know a table that is gone.
    Gone,
    /// There is a table, but no manifest of this job knows it.
    Unknown,
    /// The table belongs to another job or another life of this one.
    Other {
        /// The job it belongs to.
        job: String,
        /// The incarnation it belongs to.
        incarnation: String,
    },
    /// The table has an epoch that the manifests do not have.
    Ahead {
        /// The epoch in the table's log.
        epoch: u64,
    },
    /// Another table of the same job lies at its place.
    Swapped,
}

/// Whether a job may go on with what lies at a table's place.
pub fn decide_table(found: &Found, known: &Known) -> Verdict {
    match found {
        Found::Nothing if known.existed => Verdict::Gone,
        Found::Nothing => Verdict::Fine,
        Found::Stranger => Verdict::Unknown,
        Found::Ours { job, incarnation, epoch, other_table } => {
            let same_job = *job == known.job;
            if !same_job || known.incarnation.as_ref() != Some(incarnation) {
                let unknown = same_job && known.incarnation.is_none();
                let (job, incarnation) = (job.clone(), incarnation.clone());
                return if unknown {
                    Verdict::Unknown
                } else {
                    Verdict::Other { job, incarnation }
                };
            }
            if *other_table {
                return Verdict::Swapped;
            }
            match (epoch, known.last) {
                (Some(epoch), Some(last)) if *epoch > last => Verdict::Ahead { epoch: *epoch },
                (Some(epoch), None) => Verdict::Ahead { epoch: *epoch },
                _ => Verdict::Fine,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(incarnation: &str, epoch: Option<u64>) -> Found {
        let (job, incarnation) = ("j".into(), incarnation.into());
        Found::Ours { job, incarnation, other_table: false, epoch }
    }

    fn known(incarnation: Option<&str>, last: Option<u64>, existed: bool) -> Known {
        Known { job: "j".into(), incarnation: incarnation.map(Into::into), last, existed }
    }

    #[test]
    fn every_pair_of_facts_has_its_verdict() {
        let other = |job: &str, incarnation: &str| Verdict::Other {
            job: job.into(),
            incarnation: incarnation.into(),
        };
        let cases = [
            (Found::Nothing, known(None, None, false), Verdict::Fine),
            (Found::Nothing, known(Some("a"), Some(3), false), Verdict::Fine),
            (Found::Nothing, known(Some("a"), Some(3), true), Verdict::Gone),
            (Found::Stranger, known(None, None, false), Verdict::Unknown),
            (Found::Stranger, known(Some("a"), Some(3), true), Verdict::Unknown),
            (ours("a", Some(3)), known(Some("a"), Some(3), true), Verdict::Fine),
            (ours("a", Some(2)), known(Some("a"), Some(3), true), Verdict::Fine),
            (ours("a", None), known(Some("a"), Some(3), true), Verdict::Fine),
            (ours("a", Some(4)), known(Some("a"), Some(3), true), Verdict::Ahead { epoch: 4 }),
            (ours("b", Some(3)), known(Some("a"), Some(3), true), other("j", "b")),
            (ours("a", Some(3)), known(None, None, false), Verdict::Unknown),
            (
                Found::Ours {
                    job: "k".into(),
                    incarnation: "a".into(),
                    other_table: false,
                    epoch: None,
                },
                known(Some("a"), Some(3), true),
                other("k", "a"),
            ),
            (
                Found::Ours {
                    job: "j".into(),
                    incarnation: "a".into(),
                    other_table: true,
                    epoch: Some(3),
                },
                known(Some("a"), Some(3), true),
                Verdict::Swapped,
            ),
        ];
        for (found, known, verdict) in cases {
            assert_eq!(decide_table(&found, &known), verdict, "{found:?} {known:?}");
        }
    }
}
