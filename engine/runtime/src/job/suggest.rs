//! "did you mean …?" for names, and hints that list what there is.
//!
//! In: a name somebody wrote and the names there are. Out: a hint. It never decides anything.

/// Names listed in a hint. More do not help anybody to find the right one.
const LISTED_MAX: usize = 12;

/// The name that was probably meant.
pub(crate) fn near<'a, S: AsRef<str> + ?Sized + 'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a S>,
) -> Option<&'a str> {
    let lower = wrong.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&lower, &name.to_lowercase());
    let close = |name: &str, distance: usize| {
        let longest = lower.chars().count().max(name.chars().count());
        let shortest = lower.chars().count().min(name.chars().count());
        let prefix = shortest >= 4 && (name.starts_with(&lower) || lower.starts_with(name));
        prefix || distance <= (longest / 3).max(1)
    };
    let candidates = known.into_iter().map(|name| (distance(name.as_ref()), name.as_ref()));
    candidates.filter(|(d, name)| close(name, *d)).min().map(|(_, name)| name)
}

/// A hint for an unknown name: the near one, else all there are, else `otherwise`.
pub(crate) fn names<'a, S: AsRef<str> + ?Sized + 'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a S>,
    otherwise: &str,
) -> String {
    let known: Vec<&str> = known.into_iter().map(|name| name.as_ref()).collect();
    if let Some(near) = near(wrong, known.iter().copied()) {
        return format!("did you mean {near}?");
    }
    if known.is_empty() || known.len() > LISTED_MAX {
        return otherwise.to_string();
    }
    format!("{otherwise}; there are: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_wins_and_far_ones_are_listed() {
        let known = ["partition_by", "sequence_by", "folder"];
        assert_eq!(near("partition-by", known), Some("partition_by"));
        assert_eq!(near("partition", known), Some("partition_by"));
        assert_eq!(near("FOLDER", known), Some("folder"));
        assert_eq!(near("colour", known), None);
        let hint = names("colour", known, "use a key of a table");
        assert_eq!(hint, "use a key of a table; there are: partition_by, sequence_by, folder");
        assert_eq!(names("x", Vec::<&str>::new(), "declare it"), "declare it");
    }
}
