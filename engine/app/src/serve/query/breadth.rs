//! How much a statement may stand for.
//!
//! In: a statement as it was read. Out: nothing, or what there is too much of. Planning cannot be
//! ended when its time is over, and a few letters can stand for very much: a star for all columns,
//! a relation for a schema of its own in each join behind it, a name of `WITH` for all that it was
//! made from, again and again. So they are counted before anything is planned.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, PipeOperator, Query, Select, SelectItem, TableFactor,
    Visit, Visitor,
};
use sluice_core::{Error, Result};

/// Relations as they are written, queries in brackets among them: twice those of the longest
/// statements that people keep.
const RELATIONS_MAX: usize = 100;

/// Stars of one SELECT: it can have no more columns of one name, so there is one for each relation.
const STARS_MAX: usize = 20;

/// Columns of one CUBE, each of which makes twice as many groupings: a thousand of them.
const CUBE_MAX: usize = 10;

/// Relations and SELECTs of the plan, in which a name of `WITH` is all that it was made from.
const PARTS_MAX: usize = 1_000;

/// Refuses a statement that stands for too much. Errors: `Config`, with what helps.
pub(crate) fn check_statement(statement: &Statement) -> Result<()> {
    let mut counted = Counted::default();
    let walked = match statement {
        Statement::Statement(statement) => statement.visit(&mut counted),
        Statement::Explain(explain) => return check_statement(&explain.statement),
        Statement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => query.visit(&mut counted),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    };
    match walked {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(too_much) => Err(too_much.told()),
    }
}

/// What there is too much of.
#[derive(Debug, Clone, Copy)]
enum TooMuch {
    Relations,
    Stars,
    Cube,
    Parts,
}

impl TooMuch {
    fn told(self) -> Error {
        let (text, hint) = match self {
            Self::Relations => (
                format!("the statement names more relations than it may max={RELATIONS_MAX}"),
                "make views of parts of it",
            ),
            Self::Stars => {
                (format!("a SELECT has more stars than it may max={STARS_MAX}"), "name the columns")
            }
            Self::Cube => (
                format!("a CUBE has more columns than it may max={CUBE_MAX}"),
                "name the groupings that are wanted: GROUPING SETS ((a, b), (a))",
            ),
            Self::Parts => (
                format!("the statement reads more, name by name, than it may max={PARTS_MAX}"),
                "a name of WITH is read wherever it stands: make a view of what is read often",
            ),
        };
        Error::config(text).hint(hint)
    }
}

/// What a walk through a statement has found so far.
#[derive(Default)]
struct Counted {
    /// Relations as they are written.
    relations: usize,
    /// Relations and SELECTs of the plan.
    parts: usize,
    /// The queries around the place where it is.
    around: Vec<Around>,
    /// Names of `WITH` that can be read there, and the parts that each stands for.
    known: Vec<(String, usize)>,
}

/// A query that is not left yet.
struct Around {
    /// Its name, where it has one by a `WITH`.
    name: Option<String>,
    /// Names of its own `WITH` whose queries are still to come: they come before all others.
    coming: VecDeque<String>,
    /// The parts before it.
    parts: usize,
    /// How many names were known before it.
    known: usize,
}

impl Counted {
    fn add(&mut self, parts: usize) -> ControlFlow<TooMuch> {
        self.parts += parts;
        broken_if(self.parts > PARTS_MAX, TooMuch::Parts)
    }

    /// The parts that a relation stands for.
    fn parts_of(&self, relation: &ObjectName) -> usize {
        let [ObjectNamePart::Identifier(name)] = relation.0.as_slice() else { return 1 };
        let name = folded(name);
        let known = self.known.iter().rev().find(|(known, _)| *known == name);
        known.map_or(1, |(_, parts)| *parts)
    }
}

impl Visitor for Counted {
    type Break = TooMuch;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<TooMuch> {
        let name = self.around.last_mut().and_then(|around| around.coming.pop_front());
        let named = query.with.iter().flat_map(|with| &with.cte_tables);
        let coming = named.map(|named| folded(&named.alias.name)).collect();
        self.around.push(Around { name, coming, parts: self.parts, known: self.known.len() });
        for operator in &query.pipe_operators {
            if let PipeOperator::Select { exprs } | PipeOperator::Extend { exprs } = operator {
                stars(exprs)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<TooMuch> {
        let Some(left) = self.around.pop() else { return ControlFlow::Continue(()) };
        self.known.truncate(left.known);
        if let Some(name) = left.name {
            // It is in the plan where its name is.
            self.known.push((name, (self.parts - left.parts).max(1)));
            self.parts = left.parts;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<TooMuch> {
        stars(&select.projection)?;
        self.add(1)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<TooMuch> {
        let parts = match factor {
            // Brackets around others, which are counted themselves.
            TableFactor::NestedJoin { .. } => return ControlFlow::Continue(()),
            TableFactor::Table { name, .. } => self.parts_of(name),
            _ => 1,
        };
        self.relations += 1;
        broken_if(self.relations > RELATIONS_MAX, TooMuch::Relations)?;
        self.add(parts)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<TooMuch> {
        let wide = matches!(expr, Expr::Cube(columns) if columns.len() > CUBE_MAX);
        broken_if(wide, TooMuch::Cube)
    }
}

fn broken_if(broken: bool, too_much: TooMuch) -> ControlFlow<TooMuch> {
    if broken { ControlFlow::Break(too_much) } else { ControlFlow::Continue(()) }
}

fn stars(items: &[SelectItem]) -> ControlFlow<TooMuch> {
    let star = |item: &&SelectItem| {
        matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
    };
    broken_if(items.iter().filter(star).count() > STARS_MAX, TooMuch::Stars)
}

/// A name as others are compared with it.
fn folded(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParserBuilder;

    use super::*;

    fn refused(sql: &str) -> Option<String> {
        let mut parser = DFParserBuilder::new(sql).build().unwrap();
        let statement = parser.parse_statements().unwrap().pop_front().unwrap();
        check_statement(&statement).err().map(|error| error.message().to_string())
    }

    /// `count` pieces with commas between them.
    fn list(count: usize, piece: impl Fn(usize) -> String) -> String {
        (0..count).map(piece).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_a_few_letters_stand_for_is_counted_before_it_is_planned() {
        let stars = list(21, |_| "*".to_string());
        let relations = list(101, |n| format!("t a{n}"));
        let brackets = list(101, |n| format!("(SELECT 1) a{n}"));
        let columns = list(11, |n| format!("c{n}"));
        let names = list(10, |n| match n {
            0 => "w0 AS (SELECT 1 FROM t)".to_string(),
            _ => format!("w{n} AS (SELECT 1 FROM {})", list(8, |m| format!("W{} x{m}", n - 1))),
        });
        for (sql, what) in [
            (format!("SELECT {stars} FROM t"), "more stars"),
            (format!("SELECT {} FROM t", list(21, |_| "t.*".to_string())), "more stars"),
            (format!("SELECT 1 WHERE 1 IN (SELECT {stars} FROM t)"), "more stars"),
            (format!("SELECT a FROM t |> SELECT {stars}"), "more stars"),
            (format!("EXPLAIN SELECT {stars} FROM t"), "more stars"),
            (format!("COPY (SELECT {stars} FROM t) TO 'x'"), "more stars"),
            (format!("SELECT 1 FROM {relations}"), "more relations"),
            (format!("SELECT 1 FROM {brackets}"), "more relations"),
            (format!("WITH w AS (SELECT 1 FROM {relations}) SELECT 1"), "more relations"),
            (format!("WITH {names} SELECT 1 FROM w9"), "name by name"),
            (format!("WITH RECURSIVE {names} SELECT (SELECT 1 FROM w9)"), "name by name"),
            (format!("SELECT 1 FROM t GROUP BY CUBE ({columns})"), "a CUBE has"),
        ] {
            let text = refused(&sql);
            assert!(text.as_ref().is_some_and(|text| text.contains(what)), "{sql:.80}: {text:?}");
        }
    }

    #[test]
    fn what_people_ask_is_let_through() {
        let stages = list(30, |n| match n {
            0 => "w0 AS (SELECT * FROM t)".to_string(),
            _ => format!("w{n} AS (SELECT * FROM w{} WHERE a > {n})", n - 1),
        });
        let months = (0..60).map(|n| format!("SELECT * FROM t{n}"));
        for sql in [
            format!("WITH {stages} SELECT * FROM w29 a JOIN w28 b ON a.id = b.id"),
            months.collect::<Vec<_>>().join(" UNION ALL "),
            "SELECT a.*, b.*, count(*) FROM (t a CROSS JOIN t b) GROUP BY CUBE (x, y)".to_string(),
            "WITH w AS (SELECT 1), x AS (WITH w AS (SELECT 2 FROM w) SELECT * FROM w) \
             SELECT * FROM x, w, public.w"
                .to_string(),
            "WITH RECURSIVE n AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM n) SELECT * FROM n"
                .to_string(),
            "SHOW TABLES".to_string(),
        ] {
            assert_eq!(refused(&sql), None, "{sql:.80}");
        }
    }

    #[test]
    fn a_name_stands_for_what_it_was_made_from() {
        let counted = |sql: &str| {
            let mut parser = DFParserBuilder::new(sql).build().unwrap();
            let Some(Statement::Statement(read)) = parser.parse_statements().unwrap().pop_front()
            else {
                panic!("a statement")
            };
            let mut counted = Counted::default();
            assert!(read.visit(&mut counted).is_continue());
            (counted.relations, counted.parts)
        };
        for (sql, relations, parts) in [
            ("SELECT 1", 0, 1),
            ("SELECT 1 FROM t, u", 2, 3),
            // The relations are written once, and twice in the plan.
            ("WITH w AS (SELECT 1 FROM t, u) SELECT 1 FROM w a, W b", 4, 7),
            ("WITH w AS (SELECT 1 FROM t, u) SELECT 1", 2, 1),
            ("WITH w AS (SELECT 1 FROM t, u) SELECT 1 FROM \"W\"", 3, 2),
            ("WITH w AS (VALUES (1)) SELECT 1 FROM w, w AS x", 2, 3),
        ] {
            assert_eq!(counted(sql), (relations, parts), "{sql}");
        }
    }
}
