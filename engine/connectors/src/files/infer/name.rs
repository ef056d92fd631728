//! Names that SQL takes without quotes, made of the names that files give.
//!
//! In: `Invoice No`, `Umsatz (€)`, `2024`, nothing. Out: `invoice_no`, `umsatz`, `col_2024`,
//! `column_3`; every name once. It knows nothing of types.

/// Words that stand for something else where a column is meant, so that `SELECT order` fails.
const RESERVED: &[&str] = &[
    "all",
    "and",
    "anti",
    "any",
    "array",
    "as",
    "asc",
    "at",
    "between",
    "by",
    "case",
    "cast",
    "create",
    "cross",
    "current_date",
    "current_time",
    "current_timestamp",
    "delete",
    "desc",
    "distinct",
    "drop",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "for",
    "from",
    "full",
    "group",
    "having",
    "in",
    "inner",
    "insert",
    "intersect",
    "interval",
    "into",
    "is",
    "join",
    "lateral",
    "left",
    "like",
    "limit",
    "natural",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "outer",
    "over",
    "partition",
    "qualify",
    "right",
    "select",
    "semi",
    "set",
    "some",
    "table",
    "then",
    "top",
    "true",
    "union",
    "unnest",
    "update",
    "user",
    "using",
    "values",
    "when",
    "where",
    "window",
    "with",
    "within",
];

/// Longer names are cut: nobody types them.
const NAME_CHARS_MAX: usize = 60;

/// A name for each of `origins`, in order. Equal ones are told apart by a number.
pub(super) fn columns(origins: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(origins.len());
    for (i, origin) in origins.iter().enumerate() {
        let plain = match snake(origin) {
            name if name.is_empty() => format!("column_{}", i + 1),
            name if name.starts_with(|c: char| c.is_ascii_digit()) => format!("col_{name}"),
            name if RESERVED.contains(&name.as_str()) => format!("{name}_"),
            name => name,
        };
        names.push(unique(plain, &names));
    }
    names
}

/// A name for what lies at `path`: that of the file without its endings, or of the folder.
pub(super) fn of_path(path: &str) -> String {
    let parts = path.trim_end_matches('/').rsplit('/');
    let named = parts.map(|part| snake(part.split('.').find(|p| !p.is_empty()).unwrap_or("")));
    let letters = |name: &String| name.chars().any(|c| c.is_ascii_alphabetic());
    let name = named.into_iter().find(letters).unwrap_or_default();
    // Numbers and dates at the end tell files of one kind apart.
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
    match bare.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_') {
        "" => "rows".to_string(),
        name if RESERVED.contains(&name) => format!("{name}s"),
        name => name.to_string(),
    }
}

/// `name`, with a number behind it when it is taken.
fn unique(name: String, taken: &[String]) -> String {
    let free = |candidate: &String| !taken.contains(candidate);
    let numbered = (2..).map(|n| format!("{name}_{n}"));
    std::iter::once(name.clone()).chain(numbered).find(free).unwrap_or(name)
}

/// Lower case words of ASCII letters and digits with `_` between them.
fn snake(text: &str) -> String {
    let mut name = String::new();
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next_is_lower = chars.peek().is_some_and(|n| n.is_lowercase());
        let starts_word = c.is_uppercase()
            && (before.is_lowercase() || before.is_ascii_digit() || next_is_lower)
            && before.is_alphanumeric();
        let folded = fold(c);
        if (starts_word || folded.is_empty()) && !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
        name.push_str(&folded);
        before = c;
    }
    let cut: String = name.chars().take(NAME_CHARS_MAX).collect();
    cut.trim_matches('_').to_string()
}

/// The letters that stand for `c` in a name; none when it separates words.
fn fold(c: char) -> String {
    let lower: String = c.to_lowercase().collect();
    let plain = match lower.as_str() {
        "ä" | "á" | "à" | "â" | "ã" | "å" | "ā" | "ą" | "ă" => "a",
        "æ" => "ae",
        "ç" | "ć" | "č" => "c",
        "ď" | "đ" | "ð" => "d",
        "é" | "è" | "ê" | "ë" | "ē" | "ę" | "ě" => "e",
        "ğ" => "g",
        "í" | "ì" | "î" | "ï" | "ī" | "ı" => "i",
        "ł" => "l",
        "ñ" | "ń" | "ň" => "n",
        "ö" | "ó" | "ò" | "ô" | "õ" | "ø" | "ō" | "ő" => "o",
        "œ" => "oe",
        "ř" => "r",
        "š" | "ś" | "ş" | "ș" => "s",
        "ß" => "ss",
        "ť" | "ţ" | "ț" => "t",
        "ü" | "ú" | "ù" | "û" | "ū" | "ů" | "ű" => "u",
        "ý" | "ÿ" => "y",
        "ž" | "ź" | "ż" => "z",
        "°" | "№" => "no",
        "%" => "percent",
        other => other,
    };
    if plain.chars().all(|c| c.is_ascii_alphanumeric()) { plain.to_string() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_legal_snake_case_and_unique() {
        let cases = [
            ("InvoiceNo", "invoice_no"),
            ("CustomerID", "customer_id"),
            ("HTTPStatus", "http_status"),
            ("Umsatz (€)", "umsatz"),
            ("Prénom", "prenom"),
            ("Straße", "strasse"),
            ("  unit   price ", "unit_price"),
            ("order", "order_"),
            ("2024", "col_2024"),
            ("", "column_11"),
            ("___", "column_12"),
            ("_id", "id"),
            ("id", "id_2"),
            ("ID", "id_3"),
            ("売上", "column_16"),
            ("Anteil %", "anteil_percent"),
            ("address2Line", "address2_line"),
        ];
        let origins: Vec<String> = cases.iter().map(|(origin, _)| origin.to_string()).collect();
        let origins = [&origins[..9], &["a".to_string()], &origins[9..]].concat();
        let mut wanted: Vec<&str> = cases.iter().map(|(_, name)| *name).collect();
        wanted.insert(9, "a");
        assert_eq!(columns(&origins), wanted);
    }

    #[test]
    fn a_source_is_named_for_its_files() {
        let cases = [
            ("data/sales-2024-01.csv", "sales"),
            ("data/*.csv", "data"),
            ("s3://bucket/shop/Orders/2024/*.csv.gz", "orders"),
            ("2024.csv", "rows"),
            ("./inbox/", "inbox"),
            ("order.csv", "orders"),
            ("kunden_export_20240101.csv", "kunden_export"),
        ];
        for (path, name) in cases {
            assert_eq!(of_path(path), name, "{path}");
        }
    }
}
