//! From the counts of a column to its type.
//!
//! In: [`Profile`]s of all columns of a source. Out: a type each, with what a person should know
//! about the choice, and what the source as a whole has to be told. A type is chosen when all
//! values fit it. When a few do not, text that looks broken is left to be rejected, and codes make
//! the column text: nothing is lost either way, and both are said.

use std::collections::BTreeSet;

use super::profile::{Numbers, Profile, STYLES, Style};

/// Up to this many values in a hundred may not fit the type of their column: more, and the type is
/// wrong rather than the values.
const MISFITS_PERCENT: u64 = 2;

/// Decimals of up to this many digits after the mark are kept exactly; finer numbers are
/// measurements, and become floats.
const SCALE_MAX: usize = 6;

/// Digits of a decimal for which nobody has to think.
const PRECISION: usize = 18;

/// What was chosen for a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// As schemas have it.
    pub(super) data_type: String,
    /// How times are written, unless in ISO 8601.
    pub(super) format: Option<String>,
    /// What to know about it.
    pub(super) notes: Vec<String>,
    /// Words that stand for nothing in this column.
    pub(super) nulls: BTreeSet<&'static str>,
}

/// What holds for all columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole {
    /// How numbers are written, of [`STYLES`].
    style: usize,
    /// Whether days come before months where nothing says so: Europe, most likely.
    pub(super) day_first: bool,
    /// Whether all rows were looked at.
    pub(super) complete: bool,
}

impl Whole {
    /// Numbers with points, as JSON has them, and no word on days.
    pub(super) fn plain(complete: bool) -> Self {
        Self { style: 0, day_first: false, complete }
    }

    /// How numbers are written.
    pub(super) fn style(&self) -> Style {
        STYLES[self.style]
    }
}

/// What all columns together say about how numbers and days are written; `semicolons` is how files
/// with a decimal comma are written.
pub(super) fn whole(profiles: &[Profile], semicolons: bool, complete: bool) -> Whole {
    // A comma before three digits says nothing where commas do not stand for points anyway.
    let is = |at: usize, p: &Profile| {
        let n = &p.numbers[at];
        let unclear = STYLES[at].mark == ',' && n.marked == 0 && n.fits > n.ints && !semicolons;
        enough(n.fits, p.values) && p.padded == 0 && !unclear
    };
    let columns = |at: usize| profiles.iter().filter(|p| is(at, p)).count();
    // Of equal ones the first, which is the plainest.
    let style = (0..STYLES.len()).rev().max_by_key(|at| columns(*at)).unwrap_or(0);
    let says = |day_first: bool| profiles.iter().any(|p| only_reading(p) == Some(day_first));
    let day_first = match (says(true), says(false)) {
        (true, false) => true,
        (false, true) => false,
        _ => semicolons || STYLES[style].mark == ',',
    };
    Whole { style, day_first, complete }
}

/// The type of a column called `name`.
pub(super) fn choose(name: &str, profile: &Profile, whole: Whole) -> Choice {
    let spelled: BTreeSet<&'static str> = profile.nulls.keys().copied().collect();
    let kinds = [truth, number, time];
    let typed = kinds.iter().find_map(|kind| kind(name, profile, whole));
    let mut choice = match typed {
        Some(mut choice) => {
            choice.nulls = profile.words.keys().copied().collect();
            choice
        }
        None => text(profile),
    };
    choice.nulls.extend(spelled);
    choice
}

/// Whether nearly all of `values` fit.
fn enough(fits: u64, values: u64) -> bool {
    fits > 0 && (values - fits.min(values)) * 100 <= values * MISFITS_PERCENT
}

fn typed(data_type: impl Into<String>) -> Choice {
    Choice { data_type: data_type.into(), format: None, notes: Vec::new(), nulls: BTreeSet::new() }
}

fn truth(_: &str, profile: &Profile, _: Whole) -> Option<Choice> {
    let t = profile.truths;
    let words = t.words > 0 || (t.yes > 0 && t.no > 0);
    (words && t.words + t.yes + t.no == profile.values).then(|| typed("bool"))
}

fn number(name: &str, profile: &Profile, whole: Whole) -> Option<Choice> {
    let numbers = profile.numbers[whole.style];
    let misfits = profile.values.saturating_sub(numbers.fits);
    if !enough(numbers.fits, profile.values) || profile.padded > 0 || compact_day(name, profile) {
        return None;
    }
    // `536365` and `C536379` are the same kind of thing, and that is no number.
    if misfits > 0 && profile.codes > 0 {
        return None;
    }
    let missing = profile.rows() > profile.values;
    if numbers.ints == numbers.fits {
        let mut choice = typed("int64");
        if let Some(seconds) = unix_time(name, numbers.whole) {
            choice.notes.push(format!(
                "looks like {seconds} since 1970; in SQL: {}",
                in_sql(seconds, name)
            ));
        }
        return Some(choice);
    }
    if numbers.exponents > 0 || numbers.fraction > SCALE_MAX {
        return Some(typed("float64"));
    }
    if numbers.fraction == 0 && numbers.whole > PRECISION {
        return None;
    }
    if numbers.fraction == 0 {
        let mut choice = typed(format!("decimal({PRECISION}, 0)"));
        let why = if missing { ", as tools write them where some are missing" } else { "" };
        choice.notes.push(format!("whole numbers written like 1.0{why}"));
        return Some(choice);
    }
    decimal(numbers, whole)
}

fn decimal(numbers: Numbers, whole: Whole) -> Option<Choice> {
    // Rows that were not looked at may have more digits.
    let room = if whole.complete { 0 } else { 2 };
    let scale = numbers.fraction.max(2) + room;
    if numbers.whole + scale > 38 {
        return None;
    }
    let precision = if numbers.whole + scale <= PRECISION { PRECISION } else { 38 };
    let mut choice = typed(format!("decimal({precision}, {scale})"));
    if room > 0 {
        choice.notes.push("two digits more than were seen: not all rows were read".to_string());
    }
    Some(choice)
}

fn time(name: &str, profile: &Profile, whole: Whole) -> Option<Choice> {
    let values = profile.values;
    if enough(profile.iso_days, values) && profile.iso_times == 0 {
        return Some(typed("date"));
    }
    if enough(profile.iso_days + profile.iso_times, values) {
        return Some(typed("timestamp"));
    }
    let most = profile.times.iter().map(|t| t.fits).max().filter(|most| enough(*most, values))?;
    let fitting: Vec<_> = profile.times.iter().filter(|t| t.fits == most).collect();
    let chosen = match fitting.as_slice() {
        [] => return None,
        [one] => one,
        several => {
            let first = |day: &str| several.iter().find(|t| t.pattern.text.starts_with(day));
            match (first("%d"), first("%m")) {
                (Some(day), Some(month)) => match varies(day.days, month.days, whole.day_first) {
                    true => day,
                    false => month,
                },
                _ => several.first()?,
            }
        }
    };
    if chosen.pattern.text.starts_with("%Y%m%d") && !compact_day(name, profile) {
        return None;
    }
    let mut choice = typed(if chosen.pattern.clock { "timestamp" } else { "date" });
    choice.format = Some(chosen.pattern.text.clone());
    let other = fitting.iter().find(|t| t.pattern != chosen.pattern);
    if let Some(other) = other {
        let other = &other.pattern.text;
        choice
            .notes
            .push(format!("day and month cannot be told apart here; the other way is {other:?}"));
    }
    Some(choice)
}

/// Whether the day stands first: where nothing else says so, the one that varies more is the day.
fn varies(first_as_day: u32, second_as_day: u32, day_first: bool) -> bool {
    match first_as_day.count_ones().cmp(&second_as_day.count_ones()) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => day_first,
    }
}

/// Whether the column has days that can be read in one order only, and whether that is day first.
fn only_reading(profile: &Profile) -> Option<bool> {
    let fits = |start: &str| {
        let all = profile.times.iter().filter(|t| t.pattern.text.starts_with(start));
        all.map(|t| t.fits).max().unwrap_or(0)
    };
    let (day, month) = (fits("%d"), fits("%m"));
    let one = day != month && enough(day.max(month), profile.values);
    one.then_some(day > month)
}

/// Whether numbers like 20240301 are days: only where the name says so.
fn compact_day(name: &str, profile: &Profile) -> bool {
    let words = ["date", "day", "datum", "tag", "jour", "dia", "fecha", "data", "time", "dt"];
    let named = name.split('_').any(|part| words.contains(&part));
    let compact = |t: &&super::profile::Times| t.pattern.text.starts_with("%Y%m%d");
    named && profile.times.iter().filter(compact).any(|t| t.fits == profile.values && t.fits > 0)
}

/// What a whole number counts since 1970, by its name and size.
fn unix_time(name: &str, digits: usize) -> Option<&'static str> {
    let named =
        ["_at", "_ts", "time", "timestamp", "epoch", "date"].iter().any(|w| name.ends_with(w));
    match digits {
        10 if named => Some("seconds"),
        13 if named => Some("milliseconds"),
        _ => None,
    }
}

fn in_sql(unit: &str, name: &str) -> String {
    match unit {
        "seconds" => format!("to_timestamp_seconds({name})"),
        _ => format!("to_timestamp_millis({name})"),
    }
}

/// Why a column is text although it might be something else.
fn text(profile: &Profile) -> Choice {
    let mut choice = typed("string");
    let numbers = profile.most_numbers();
    let (decorated, example) = &profile.decorated;
    if profile.rows() == 0 || profile.rows() == profile.empty {
        choice.notes.push("always empty here".to_string());
    } else if profile.padded > 0 && enough(numbers, profile.values) {
        choice
            .notes
            .push("digits with zeros or a plus in front: text, so that they stay".to_string());
    } else if profile.codes > 0 && numbers * 2 > profile.values {
        choice.notes.push("numbers and codes mixed: text, so that all of them stay".to_string());
    } else if let Some(example) = example
        && enough(decorated + numbers, profile.values)
    {
        choice.notes.push(format!("numbers written like {example:?}: text; see the table's SQL"));
    } else if numbers == profile.values {
        choice.notes.push("numbers with more digits than a number holds".to_string());
    } else if numbers * 2 > profile.values {
        choice.notes.push("mostly numbers, with too many that are not".to_string());
    } else if profile.times.iter().any(|t| t.fits * 2 > profile.values) {
        choice.notes.push("mostly times, written in more than one way".to_string());
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(texts: &[&str]) -> Profile {
        let mut profile = Profile::default();
        texts.iter().for_each(|text| profile.add(Some(text)));
        profile
    }

    fn chosen(name: &str, texts: &[&str]) -> (String, Option<String>) {
        let profiles = [profile(texts)];
        let choice = choose(name, &profiles[0], whole(&profiles, false, true));
        (choice.data_type, choice.format)
    }

    #[test]
    fn types_are_what_the_values_are() {
        let cases: [(&[&str], &str, Option<&str>); 30] = [
            (&["1", "-20", "300"], "int64", None),
            (&["00123", "456"], "string", None),
            (&["+4917012", "+4917013"], "string", None),
            (&["0", "10"], "int64", None),
            (&["123456789012345678901"], "string", None),
            (&["9007199254740993123"], "int64", None),
            (&["1.5", "20.25"], "decimal(18, 2)", None),
            (&["1.125", "2"], "decimal(18, 3)", None),
            (&["17850.0", "", "13047.0"], "decimal(18, 0)", None),
            (&["0.12345678", "1"], "float64", None),
            (&["1e3", "2"], "float64", None),
            (&["12,5", "3,25"], "decimal(18, 2)", None),
            (&["true", "False", ""], "bool", None),
            (&["y", "n"], "bool", None),
            (&["y", "y"], "string", None),
            (&["1", "0"], "int64", None),
            (&["2024-03-01", "2024-12-31"], "date", None),
            (&["2024-03-01 08:00", "2024-12-31T09:00:00Z"], "timestamp", None),
            (&["2024-03-01", "2024-12-31 10:00"], "timestamp", None),
            (&["31/12/2024", "01/02/2024"], "date", Some("%d/%m/%Y")),
            (&["12/31/2024", "01/02/2024"], "date", Some("%m/%d/%Y")),
            (&["31.12.2024 08:05"], "timestamp", Some("%d.%m.%Y %H:%M")),
            (&["03/01/2024", "03/02/2024"], "date", Some("%m/%d/%Y")),
            (&["01-Mar-2024", "15-Apr-2024"], "date", Some("%d-%b-%Y")),
            (&["1,234.50", "€ 12"], "string", None),
            (&["1,234.50", "12"], "decimal(18, 2)", None),
            (&["1.234,50", "12"], "decimal(18, 2)", None),
            (&["1,234", "2,500"], "int64", None),
            (&["", ""], "string", None),
            (&["NA", "5", "-"], "int64", None),
        ];
        for (texts, data_type, format) in cases {
            let wanted = (data_type.to_string(), format.map(str::to_string));
            assert_eq!(chosen("x", texts), wanted, "{texts:?}");
        }
    }

    #[test]
    fn names_help_where_values_do_not() {
        assert_eq!(chosen("amount", &["20240301", "20240302"]).0, "int64");
        let day = chosen("booking_date", &["20240301", "20240302"]);
        assert_eq!(day, ("date".to_string(), Some("%Y%m%d".to_string())));
        assert_eq!(chosen("created_at", &["1709280000"]).0, "int64");
    }

    #[test]
    fn few_broken_values_do_not_make_text_and_codes_do() {
        let mut texts = vec!["12.50"; 99];
        texts.push("abc");
        assert_eq!(chosen("price", &texts).0, "decimal(18, 2)");
        texts.extend(["x", "y", "z"]);
        assert_eq!(chosen("price", &texts).0, "string");
        let mut invoices = vec!["536365"; 99];
        invoices.push("C536379");
        assert_eq!(chosen("invoice", &invoices).0, "string");
        let mut days = vec!["2024-02-01"; 99];
        days.push("2024-02-31");
        assert_eq!(chosen("day", &days).0, "date");
    }

    #[test]
    fn one_column_tells_how_another_is_read() {
        let clear = profile(&["31/12/2024"]);
        let unclear = profile(&["01/02/2024", "02/01/2024"]);
        let whole = whole(&[clear, unclear.clone()], false, true);
        assert_eq!(choose("x", &unclear, whole).format.as_deref(), Some("%d/%m/%Y"));
    }
}
