//! Questions about the catalogue, as clients ask them, made into what DataFusion can plan.
//!
//! In: the text of a statement. Out: the parsed statement, changed by the rules of
//! `datafusion-pg-catalog` and by the fragments below. Those rules may change what a statement
//! means, such as a correlated subquery becoming null; so nothing that reads a project's own
//! relations comes here, see [`Reads`].

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{ObjectName, Query, Statement, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, TokenizerError};
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use super::{INFORMATION_SCHEMA, PG_CATALOG};

/// What clients ask that DataFusion cannot plan, and what stands for it: none of it is about
/// anything that a project has. Of two that begin alike the longer comes first.
const FRAGMENTS: [(&str, &str); 6] = [
    // DBeaver: whether a type is an array; functions are names in the catalogue here.
    ("'pg_catalog.array_in'::regproc", "'array_in'"),
    // psql, \d+: options of storage.
    (
        "pg_catalog.array_to_string(c.reloptions || array(select 'toast.' || x \
         from pg_catalog.unnest(tc.reloptions) x), ', ')",
        "''",
    ),
    // psql from 17 on, \dn+: privileges of schemas.
    (
        "CASE WHEN pg_catalog.array_length(n.nspacl, 1) = 0 THEN '(none)' \
         ELSE pg_catalog.array_to_string(n.nspacl, E'\\n') END",
        "NULL::text",
    ),
    ("pg_catalog.array_to_string(n.nspacl, E'\\n')", "NULL::text"),
    // psql up to 15, \du: groups of roles.
    (
        "ARRAY(SELECT b.rolname FROM pg_catalog.pg_auth_members m \
         JOIN pg_catalog.pg_roles b ON (m.roleid = b.oid) WHERE m.member = r.oid)",
        "'{}'",
    ),
    // Grafana: schemas on the search path, which is always the one.
    (
        "SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END \
         FROM generate_series(\
         array_lower(string_to_array(current_setting('search_path'),','),1), \
         array_upper(string_to_array(current_setting('search_path'),','),1)) as i, \
         string_to_array(current_setting('search_path'),',') s",
        "'public'",
    ),
];

/// Makes statements of questions about the catalogue.
#[derive(Debug)]
pub(crate) struct Rewriter {
    rules: PostgresCompatibilityParser,
    fragments: Vec<(Vec<Token>, &'static str)>,
}

impl Rewriter {
    /// Errors: a fragment of ours cannot be read.
    pub(crate) fn new() -> Result<Self, TokenizerError> {
        let read = |(from, to): (&str, &'static str)| {
            let tokens = tokens(from)?.into_iter().filter(is_solid).collect();
            Ok((tokens, to))
        };
        let fragments = FRAGMENTS.into_iter().map(read).collect::<Result<_, TokenizerError>>()?;
        Ok(Self { rules: PostgresCompatibilityParser::new(), fragments })
    }

    /// The statement that `text` is; none if it is empty. Errors: it is no SQL, or several
    /// statements.
    pub(crate) fn statement(&self, text: &str) -> Result<Option<Statement>, ParserError> {
        let replaced = self.replaced(text);
        let mut statements = self.rules.parse(replaced.as_deref().unwrap_or(text))?;
        let first = statements.pop();
        match statements.is_empty() {
            true => Ok(first),
            false => Err(ParserError::ParserError("more than one statement".to_string())),
        }
    }

    /// `text` with every fragment replaced; none if there is none in it.
    fn replaced(&self, text: &str) -> Option<String> {
        let tokens = tokens(text).ok()?;
        let solid: Vec<usize> = (0..tokens.len()).filter(|at| is_solid(&tokens[*at])).collect();
        let mut out = String::new();
        let (mut at, mut copied) = (0, 0);
        while at < solid.len() {
            let fits = |(pattern, _): &&(Vec<Token>, &str)| {
                let next = solid[at..].iter().map(|index| &tokens[*index]);
                solid.len() - at >= pattern.len() && pattern.iter().zip(next).all(is_same)
            };
            let Some((pattern, by)) = self.fragments.iter().find(fits) else {
                at += 1;
                continue;
            };
            tokens[copied..solid[at]].iter().for_each(|token| out.push_str(&token.to_string()));
            out.push_str(by);
            at += pattern.len();
            copied = solid[at - 1] + 1;
        }
        if copied == 0 {
            return None;
        }
        tokens[copied..].iter().for_each(|token| out.push_str(&token.to_string()));
        Some(out)
    }
}

/// The tokens of `text`, each as it is written.
fn tokens(text: &str) -> Result<Vec<Token>, TokenizerError> {
    Tokenizer::new(&PostgreSqlDialect {}, text).with_unescape(false).tokenize()
}

fn is_solid(token: &Token) -> bool {
    !matches!(token, Token::Whitespace(_))
}

fn is_same((one, other): (&Token, &Token)) -> bool {
    match (one, other) {
        (Token::Word(one), Token::Word(other)) => {
            one.quote_style == other.quote_style && one.value.eq_ignore_ascii_case(&other.value)
        }
        _ => one == other,
    }
}

/// The statements of `text`, each as it is written; empty ones are left out.
pub(crate) fn split(text: &str) -> Result<Vec<String>, TokenizerError> {
    let tokens = tokens(text)?;
    let parts = tokens.split(|token| *token == Token::SemiColon);
    let parts = parts.filter(|part| part.iter().any(is_solid));
    let mut parts: Vec<String> =
        parts.map(|part| part.iter().map(ToString::to_string).collect()).collect();
    // One alone stays exactly what it was.
    if let [only] = parts.as_mut_slice() {
        *only = text.trim_end_matches(|c: char| c == ';' || c.is_whitespace()).to_string();
    }
    Ok(parts)
}

/// What a statement reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// A relation that is not of the catalogue.
    pub(crate) own: bool,
    /// A relation of the catalogue.
    pub(crate) catalog: bool,
    /// More than one query, one in another.
    pub(crate) nested: bool,
}

impl Reads {
    /// What `statement` reads.
    pub(crate) fn of(statement: &Statement) -> Self {
        let mut found = Found::default();
        // The visitor never stops early.
        let _: ControlFlow<()> = statement.visit(&mut found);
        let mut reads = Self { nested: found.queries > 1, ..Self::default() };
        for name in &found.names {
            match schema_of(name) {
                Some(PG_CATALOG | INFORMATION_SCHEMA) => reads.catalog = true,
                Some(_) => reads.own = true,
                None if name.starts_with("pg_") => reads.catalog = true,
                None if found.defined.contains(name) => {}
                None => reads.own = true,
            }
        }
        reads
    }

    /// Whether it is about nothing but the catalogue, or about what needs no relation at all.
    pub(crate) fn is_catalog(self) -> bool {
        !self.own && (self.catalog || !self.nested)
    }
}

fn schema_of(name: &str) -> Option<&str> {
    let (before, _) = name.rsplit_once('.')?;
    Some(before.rsplit_once('.').map_or(before, |(_, schema)| schema))
}

/// Relations and names given to queries, lower-cased where they are not quoted.
#[derive(Default)]
struct Found {
    names: Vec<String>,
    defined: Vec<String>,
    queries: usize,
}

impl Visitor for Found {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.queries += 1;
        if let Some(with) = &query.with {
            let names = with.cte_tables.iter().map(|one| &one.alias.name);
            self.defined.extend(names.map(|name| word(&name.value, name.quote_style)));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        // With arguments it is a function.
        if let TableFactor::Table { name, args: None, .. } = factor {
            self.names.push(plain(name));
        }
        ControlFlow::Continue(())
    }
}

fn plain(name: &ObjectName) -> String {
    let words = name.0.iter().map(|part| match part.as_ident() {
        Some(ident) => word(&ident.value, ident.quote_style),
        None => part.to_string(),
    });
    words.collect::<Vec<_>>().join(".")
}

fn word(value: &str, quote: Option<char>) -> String {
    if quote.is_some() { value.to_string() } else { value.to_lowercase() }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    #[test]
    fn fragments_are_found_whatever_the_spacing_and_case() {
        let rewriter = Rewriter::new().unwrap();
        let text = "SELECT c.relkind,\n  PG_CATALOG.array_to_string(c.reloptions ||\n \
                    ARRAY(SELECT 'toast.' || x FROM pg_catalog.unnest(tc.reloptions) x), ', ') \
                    , 'it''s' FROM pg_catalog.pg_class c";
        let replaced = rewriter.replaced(text).unwrap();
        assert_eq!(replaced, "SELECT c.relkind,\n  '' , 'it''s' FROM pg_catalog.pg_class c");
        assert_eq!(rewriter.replaced("SELECT ', '"), None);
        assert_eq!(rewriter.replaced("SELECT 'not closed"), None);
    }

    #[test]
    fn texts_are_split_at_semicolons_outside_of_quotes() {
        let cases: [(&str, &[&str]); 6] = [
            ("SELECT 1", &["SELECT 1"]),
            (" SELECT  1 ; ", &[" SELECT  1"]),
            ("SELECT ';'; SELECT 2", &["SELECT ';'", " SELECT 2"]),
            ("SELECT $$;$$;;COMMIT", &["SELECT $$;$$", "COMMIT"]),
            ("-- ;\nSELECT 'a''b'; /* ; */", &["-- ;\nSELECT 'a''b'; /* ; */"]),
            (" ;; ", &[]),
        ];
        for (text, parts) in cases {
            assert_eq!(split(text).unwrap(), parts, "{text}");
        }
        assert!(split("SELECT 'open").is_err());
    }

    #[test]
    fn only_what_is_about_the_catalogue_is_rewritten() {
        let cases = [
            ("SELECT 1", true),
            ("SELECT version()", true),
            ("SELECT * FROM pg_class c JOIN pg_catalog.pg_namespace n ON true", true),
            ("SELECT * FROM shop.information_schema.tables", true),
            ("SELECT * FROM generate_series(1, 2) s", true),
            ("WITH a AS (SELECT 1 AS b FROM pg_type) SELECT b FROM a", true),
            ("SELECT * FROM sales", false),
            ("SELECT * FROM public.pg_sales", false),
            ("SELECT * FROM _sluice.epochs", false),
            ("SELECT (SELECT max(a) FROM sales s WHERE s.b = t.b) FROM pg_type t", false),
            ("SELECT (SELECT max(a.b) FROM unnest(ARRAY[1]) a(b))", false),
            ("WITH a AS (SELECT 1) SELECT * FROM \"A\"", false),
        ];
        for (text, expected) in cases {
            let statement = Parser::parse_sql(&PostgreSqlDialect {}, text).unwrap().remove(0);
            assert_eq!(Reads::of(&statement).is_catalog(), expected, "{text}");
        }
    }

    #[test]
    fn what_clients_ask_can_be_read() {
        let rewriter = Rewriter::new().unwrap();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve/catalog");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "sql") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.replace(":relation", "sales").replace(":oid", "16384");
            let text = text.replace(":relnamespace", "2200");
            for part in split(&text).unwrap() {
                let statement = rewriter.statement(&part);
                assert!(statement.as_ref().is_ok_and(Option::is_some), "{path:?}\n{part}");
                count += 1;
            }
        }
        assert!(count > 50, "{count}");
    }
}
