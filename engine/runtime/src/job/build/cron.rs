//! Whether a text is a cron expression. When it is due is the scheduler's business.

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

/// Checks an expression of five fields; the error is a message and a hint.
pub(super) fn check(text: &str) -> Result<(), (String, String)> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        let message = format!("a cron expression has five fields, this has {}", parts.len());
        let hint = "minute, hour, day of month, month, day of week: \"*/5 * * * *\"";
        return Err((message, hint.into()));
    }
    for (part, field) in parts.iter().zip(&FIELDS) {
        if !part.split(',').all(|item| field.holds(item)) {
            let message =
                format!("not a field of a cron expression field={} text={part}", field.name);
            let hint = format!(
                "write *, a number from {} to {}, a range 1-5, a step */5, or a list of these",
                field.least, field.most
            );
            return Err((message, hint));
        }
    }
    Ok(())
}

impl Field {
    fn holds(&self, item: &str) -> bool {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let step_is_right =
            step.is_none_or(|s| s.parse::<u32>().is_ok_and(|n| (1..=self.most).contains(&n)));
        let range_is_right = match range.split_once('-') {
            _ if range == "*" => true,
            Some((from, to)) => match (self.value(from), self.value(to)) {
                (Some(from), Some(to)) => from <= to,
                _ => false,
            },
            None => self.value(range).is_some(),
        };
        step_is_right && range_is_right
    }

    fn value(&self, text: &str) -> Option<u32> {
        let lower = text.to_ascii_lowercase();
        if let Some(i) = self.names.iter().position(|name| *name == lower) {
            return u32::try_from(i).ok().map(|i| i + self.least);
        }
        let all_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<u32>().ok().filter(|_| all_digits)?;
        (self.least..=self.most).contains(&number).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_fields_within_their_bounds() {
        for text in ["*/5 * * * *", "0 6,18 1-15 jan-mar MON", "59 23 31 12 7", "0 0 * * 1-5/2"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in
            ["* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *"]
        {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
