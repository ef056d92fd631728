//! What the texts of one column have in common, counted one by one.
//!
//! In: values as text. Out: how many of them are numbers, truth values, times, and how those are
//! written. It decides nothing; see [`super::decide`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::times::{self, Pattern};

/// Spellings that stand for nothing wherever they are found.
pub(super) const NULLS: &[&str] = &[
    "NULL", "null", "Null", "\\N", "(null)", "<null>", "#N/A", "#NULL!", "N/A", "n/a", "NaN", "nan",
];

/// Spellings that stand for nothing in a column of numbers or times, and may be words elsewhere.
pub(super) const WORDS_FOR_NULL: &[&str] = &[
    "NA", "na", "None", "none", "NONE", "nil", "-", "--", "?", ".", "missing", "unknown", "n.a.",
    "k.A.", "#VALUE!", "#REF!", "#DIV/0!", "#NAME?",
];

/// A pattern that so many texts do not fit is tried no more, unless most fit.
const MISFITS_MAX: u64 = 20;

/// Digits between two separators of thousands.
const GROUP_DIGITS: usize = 3;

/// Longer texts are no numbers that somebody wrote.
const DECORATED_BYTES_MAX: usize = 40;

/// A way of writing numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    /// Before the fraction.
    pub(super) mark: char,
    /// Between groups of three digits.
    pub(super) group: Option<char>,
}

/// The ways that decoders know, the plainest first.
pub(super) const STYLES: [Style; 7] = [
    Style { mark: '.', group: None },
    Style { mark: ',', group: None },
    Style { mark: '.', group: Some(',') },
    Style { mark: ',', group: Some('.') },
    Style { mark: ',', group: Some(' ') },
    Style { mark: '.', group: Some(' ') },
    Style { mark: '.', group: Some('\'') },
];

/// Numbers read in one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Texts that are numbers.
    pub(super) fits: u64,
    /// Of them, those without a decimal mark or exponent that fit into 64 bits.
    pub(super) ints: u64,
    /// Of them, those with an exponent.
    pub(super) exponents: u64,
    /// The most digits before the mark.
    pub(super) whole: usize,
    /// The most digits after the mark that are not zeros at the end.
    pub(super) fraction: usize,
    /// Of them, those with a mark and other than three digits behind it: it is no separator of
    /// thousands.
    pub(super) marked: u64,
}

/// How a truth value is spelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Truths {
    /// `true`, `false`.
    pub(super) words: u64,
    /// `yes`, `y`, `t`.
    pub(super) yes: u64,
    /// `no`, `n`, `f`.
    pub(super) no: u64,
}

/// Counts over the values of one column.
#[derive(Debug, Clone, Default)]
pub(super) struct Profile {
    /// Values that are neither empty nor one of [`NULLS`] or [`WORDS_FOR_NULL`].
    pub(super) values: u64,
    /// Empty ones.
    pub(super) empty: u64,
    /// Spellings of nothing, and how often each was seen.
    pub(super) nulls: BTreeMap<&'static str, u64>,
    /// The same for words that may be values.
    pub(super) words: BTreeMap<&'static str, u64>,
    /// Read in each of [`STYLES`].
    pub(super) numbers: [Numbers; STYLES.len()],
    /// Numbers with zeros in front, or a plus: codes, telephone numbers.
    pub(super) padded: u64,
    /// Letters and digits mixed: codes.
    pub(super) codes: u64,
    /// Numbers with separators of thousands, currencies, per cent; and one of them.
    pub(super) decorated: (u64, Option<String>),
    pub(super) truths: Truths,
    pub(super) iso_days: u64,
    pub(super) iso_times: u64,
    /// Patterns that are still possible, each with how many texts fit, and what days and months
    /// those had.
    pub(super) times: Vec<Times>,
    started: bool,
}

/// Texts that fit one pattern.
#[derive(Debug, Clone)]
pub(super) struct Times {
    pub(super) pattern: Pattern,
    pub(super) fits: u64,
    misfits: u64,
    /// Bits of the days and months that were seen.
    pub(super) days: u32,
    pub(super) months: u32,
}

impl Profile {
    /// Counts one value; none is a null.
    pub(super) fn add(&mut self, text: Option<&str>) {
        let text = text.unwrap_or("").trim();
        if text.is_empty() {
            self.empty += 1;
            return;
        }
        if let Some(null) = NULLS.iter().find(|n| **n == text) {
            *self.nulls.entry(null).or_default() += 1;
            return;
        }
        if let Some(word) = WORDS_FOR_NULL.iter().find(|n| **n == text) {
            *self.words.entry(word).or_default() += 1;
            return;
        }
        self.values += 1;
        self.numbers(text);
        self.truth(text);
        self.time(text);
        let letters = text.bytes().any(|b| b.is_ascii_alphabetic());
        let digits = text.bytes().any(|b| b.is_ascii_digit());
        let one_word = !text.contains(char::is_whitespace);
        self.codes += u64::from(letters && digits && one_word);
    }

    /// All values, nulls included.
    pub(super) fn rows(&self) -> u64 {
        let nulls: u64 = self.nulls.values().chain(self.words.values()).sum();
        self.values + self.empty + nulls
    }

    /// The numbers of the way in which most values are.
    pub(super) fn most_numbers(&self) -> u64 {
        self.numbers.iter().map(|n| n.fits).max().unwrap_or(0)
    }

    fn numbers(&mut self, text: &str) {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let padded =
            |t: &str| t.len() > 1 && t.starts_with('0') && t.as_bytes()[1].is_ascii_digit();
        if !text.bytes().any(|b| b.is_ascii_digit()) {
            return;
        }
        let mut number = false;
        for (numbers, style) in self.numbers.iter_mut().zip(STYLES) {
            number |= numbers.add(text, style);
        }
        if number && (padded(digits) || text.starts_with('+')) {
            self.padded += 1;
        }
        if !number && is_decorated(text) {
            self.decorated.0 += 1;
            self.decorated.1.get_or_insert_with(|| text.to_string());
        }
    }

    fn truth(&mut self, text: &str) {
        let is = |words: &[&str]| words.iter().any(|w| text.eq_ignore_ascii_case(w));
        self.truths.words += u64::from(is(&["true", "false"]));
        self.truths.yes += u64::from(is(&["yes", "y", "t"]));
        self.truths.no += u64::from(is(&["no", "n", "f"]));
    }

    fn time(&mut self, text: &str) {
        if !self.started {
            self.started = true;
            let new = |pattern| Times { pattern, fits: 0, misfits: 0, days: 0, months: 0 };
            self.times = times::patterns().into_iter().map(new).collect();
        }
        if times::possible(text) {
            self.iso_days += u64::from(times::is_iso_day(text));
            self.iso_times += u64::from(times::is_iso_time(text));
        }
        let possible = times::possible(text);
        for one in &mut self.times {
            if possible && times::fits(&one.pattern.text, text) {
                one.fits += 1;
                let seen = times::day_and_month(&one.pattern.text, text);
                if let Some((day, month)) = seen {
                    one.days |= 1 << day.min(31);
                    one.months |= 1 << month.min(31);
                }
            } else {
                one.misfits += 1;
            }
        }
        self.times.retain(|t| t.misfits < MISFITS_MAX || t.fits > t.misfits);
    }
}

impl Numbers {
    /// Counts a text; whether it is a number.
    fn add(&mut self, text: &str, style: Style) -> bool {
        let Some(text) = ungrouped(text, style) else { return false };
        let (text, mark) = (text.as_ref(), style.mark);
        let int = text.parse::<i64>().is_ok();
        let text = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, Some(exponent)),
            None => (text, None),
        };
        let (whole, fraction) = match number.split_once(mark) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (number, None),
        };
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        let after = exponent.map(|e| e.strip_prefix(['-', '+']).unwrap_or(e));
        let is_number = digits(whole)
            && fraction.is_none_or(digits)
            && !(whole.is_empty() && fraction.is_none_or(str::is_empty))
            && after.is_none_or(|e| !e.is_empty() && digits(e));
        if !is_number {
            return false;
        }
        self.fits += 1;
        let whole = whole.trim_start_matches('0').len();
        self.ints += u64::from(int);
        self.exponents += u64::from(exponent.is_some());
        self.whole = self.whole.max(whole);
        self.marked += u64::from(fraction.is_some_and(|f| f.len() != GROUP_DIGITS));
        let fraction = fraction.unwrap_or("").trim_end_matches('0').len();
        self.fraction = self.fraction.max(fraction);
        true
    }
}

/// A number without its separators of thousands; none where they stand in other places.
fn ungrouped(text: &str, style: Style) -> Option<Cow<'_, str>> {
    let Some(group) = style.group.filter(|group| text.contains(*group)) else {
        return Some(Cow::Borrowed(text));
    };
    let at = text.find(style.mark).unwrap_or(text.len());
    let (whole, fraction) = text.split_at(at);
    let mut groups = whole.trim_start_matches(['-', '+']).split(group);
    let first = groups.next().is_some_and(|g| (1..=GROUP_DIGITS).contains(&g.len()));
    let good = first && groups.all(|g| g.len() == GROUP_DIGITS) && !fraction.contains(group);
    good.then(|| Cow::Owned(whole.replace(group, "") + fraction))
}

/// Whether a text is a number with something around or within it: `1,234.50`, `€ 12`, `15 %`.
fn is_decorated(text: &str) -> bool {
    const AROUND: &[&str] = &["EUR", "USD", "GBP", "CHF", "€", "$", "£", "¥", "%"];
    if text.len() > DECORATED_BYTES_MAX || !text.bytes().any(|b| b.is_ascii_digit()) {
        return false;
    }
    let mut bare = text.to_string();
    for sign in AROUND {
        bare = bare.replace(sign, "");
    }
    let signs = ['.', ',', '\'', '’', ' ', '\u{a0}', '\u{202f}', '-', '+', '(', ')'];
    let digits = bare.chars().filter(char::is_ascii_digit).count();
    let first = bare.trim_start_matches(['-', '+', ' ', '(', '\u{a0}']).chars().next();
    let plain = first.is_some_and(|c| c.is_ascii_digit() || c == '.' || c == ',');
    digits > 0
        && plain
        && bare.chars().all(|c| c.is_ascii_digit() || signs.contains(&c))
        && !looks_like_code(&bare)
}

/// Several signs between digits that no number has: telephone numbers, days, versions.
fn looks_like_code(bare: &str) -> bool {
    // Amounts have no plus in front, telephone numbers do.
    if bare.trim().starts_with('+') {
        return true;
    }
    let trimmed = bare.trim().trim_start_matches(['-', '+', '(']);
    let groups: Vec<&str> =
        trimmed.trim_end_matches(')').split(|c: char| !c.is_ascii_digit()).map(str::trim).collect();
    let inner = groups.get(1..groups.len().saturating_sub(1)).unwrap_or_default();
    let odd = inner.iter().any(|group| group.len() != 3);
    let tail = groups.last().is_some_and(|group| groups.len() > 2 && group.is_empty());
    odd || tail
        || trimmed.contains('-')
        || groups.first().is_some_and(|g| g.len() > 3 && groups.len() > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(texts: &[&str]) -> Profile {
        let mut profile = Profile::default();
        texts.iter().for_each(|text| profile.add(Some(text)));
        profile
    }

    #[test]
    fn numbers_are_counted_by_how_they_are_written() {
        let p = profile(&["1", "-2.50", "3e5", "1.5.2", "0.125", "", "abc"]);
        assert_eq!((p.values, p.empty, p.rows()), (6, 1, 7));
        let wanted = Numbers { fits: 4, ints: 1, exponents: 1, whole: 1, fraction: 3, marked: 1 };
        assert_eq!(p.numbers[0], wanted);
        let p = profile(&["1,5", "1234", "00123", "+49170"]);
        let wanted = Numbers { fits: 4, ints: 3, exponents: 0, whole: 5, fraction: 1, marked: 1 };
        assert_eq!(p.numbers[1], wanted);
        assert_eq!((p.padded, p.numbers[0].fits), (2, 3));
        let fits = |text: &str| profile(&[text]).numbers.map(|n| n.fits);
        assert_eq!(fits("1,234.50"), [0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(fits("1.234,50"), [0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(fits("-1 234 567,5"), [0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(fits("12,34.5"), [0; 7]);
    }

    #[test]
    fn decorated_numbers_are_told_from_codes() {
        let decorated = [
            "1,234.50",
            "1.234,50",
            "€ 12",
            "$1,000",
            "15 %",
            "1 234,5",
            "1'000",
            "(1,200.00)",
            "-5 EUR",
        ];
        let other = [
            "2024-03-01",
            "01.02.2024",
            "+49 170 12345",
            "1.2.3",
            "12-34",
            "C100",
            "10.0.0.1",
            "€",
        ];
        for text in decorated {
            assert!(is_decorated(text), "{text}");
        }
        for text in other {
            assert!(!is_decorated(text), "{text}");
        }
    }

    #[test]
    fn nothing_is_spelled_in_many_ways() {
        let p = profile(&["NULL", "n/a", "NA", "-", "5"]);
        assert_eq!((p.values, p.nulls.len(), p.words.len()), (1, 2, 2));
    }
}
