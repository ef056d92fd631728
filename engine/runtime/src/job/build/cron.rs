//! Cron expressions: which texts are one, and what is wrong with others.
//!
//! In: five fields. Out: `croner`'s pattern, or a message and a hint that name the field. Of what
//! `croner` reads besides (seconds, years, `L`, `W`, `#`, `@daily`) nothing is taken: an expression
//! means here what it means to every cron. When one is due is `schedule::due`'s business.

use chrono::NaiveDateTime;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of month", least: 1, most: 31, names: &[] },
    Field { name: "month", least: 1, most: 12, names: &MONTHS },
    Field { name: "day of week", least: 0, most: 7, names: &DAYS },
];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

/// Reads an expression of five fields; the error is a message and a hint.
pub(crate) fn parse(text: &str) -> Result<Cron, (String, String)> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        let message = format!("a cron expression has five fields, this has {}", parts.len());
        let hint = "minute, hour, day of month, month, day of week: \"*/5 * * * *\"";
        return Err((message, hint.into()));
    }
    for (place, (part, field)) in parts.iter().zip(&FIELDS).enumerate() {
        // By itself among stars, so that the error is this field's.
        let mut alone = ["*"; FIELDS.len()];
        alone[place] = *part;
        if !field.spells(part) || pattern(&alone.join(" ")).is_err() {
            let message =
                format!("not a field of a cron expression field={} text={part}", field.name);
            let hint = format!(
                "write *, a number from {} to {}, a range 1-5, a step */5, or a list of these",
                field.least, field.most
            );
            return Err((message, hint));
        }
    }
    // Day by day through three thousand years at most, which takes milliseconds.
    let due = |cron: &Cron| cron.find_next_occurrence(&NaiveDateTime::default(), true).is_ok();
    pattern(text).ok().filter(due).ok_or_else(|| {
        let message = format!("a cron expression that is never due text={text:?}");
        (message, "none of its months has such a day".to_string())
    })
}

fn pattern(text: &str) -> Result<Cron, croner::errors::CronError> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
    parser.build().parse(text)
}

impl Field {
    /// Whether a field has only words that may stand in it: `croner` takes names of days and months
    /// anywhere.
    fn spells(&self, part: &str) -> bool {
        let known = |word: &str| {
            let lower = word.to_ascii_lowercase();
            let number = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
            word == "*" || number || self.names.contains(&lower.as_str())
        };
        // A step over the end of the field is one time, not a rhythm.
        let near = |step: &str| step.parse::<u32>().is_ok_and(|n| n <= self.most);
        let steps = part.split(',').filter_map(|item| item.split_once('/'));
        part.split([',', '-', '/']).all(known) && steps.into_iter().all(|(_, step)| near(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_fields_within_their_bounds() {
        for text in [
            "*/5 * * * *",
            "0 6,18 1-15 jan-mar MON",
            "59 23 31 12 7",
            "0 0 * * 1-5/2",
            "  0\t6 * *  sat,sun ",
            "0 12 29 2 *",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in [
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "* * * mon *",
            "* * * * jan",
            "* * L * *",
            "* * 15W * *",
            "* * * * mon#2",
            "* * ? * *",
            "* * * * +mon",
            "1,,2 * * * *",
            "-1 * * * *",
            "@daily * * * *",
            "* * * * 8",
            "*/90 * * * *",
            "0 0 30 2 *",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_names_its_field() {
        let (message, hint) = parse("0 25 * * *").unwrap_err();
        assert_eq!(message, "not a field of a cron expression field=hour text=25");
        assert!(hint.contains("from 0 to 23"), "{hint}");
        let (message, _) = parse("0 0 * tue *").unwrap_err();
        assert_eq!(message, "not a field of a cron expression field=month text=tue");
        assert!(parse("* * *").unwrap_err().0.ends_with("this has 3"));
        assert!(parse("0 0 31 4,6 *").unwrap_err().0.contains("never due"));
    }
}
