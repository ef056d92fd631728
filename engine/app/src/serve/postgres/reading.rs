//! Questions: planned, given their values, run.
//!
//! In: a statement, the values bound to it, whose session it is. Out: columns, and rows as they
//! come, from one snapshot of all tables. Admission, limits and the promise that nothing is changed
//! are those of `query`; here is only what the wire needs around them. A statement is planned anew
//! whenever it is asked, so that prepared ones see what was published since.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use datafusion_postgres::arrow_pg::datatypes::PG_OID_ALIAS_KEY;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use futures::StreamExt as _;
use futures::future::ready;
use futures::stream::{self, BoxStream};

use super::failure::{self, code};
use super::parameter::{self, Bound};
use super::session::{Halt, Session};
use crate::serve::catalog::Catalog;
use crate::serve::query::Queries;

/// The largest number of a parameter, as PostgreSQL has it.
const PARAMETERS_MAX: usize = 65_535;

/// Answers questions.
pub(super) struct Reader {
    pub(super) queries: Arc<Queries>,
    pub(super) catalog: Arc<Catalog>,
}

/// Values as a client bound them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    /// The bytes of each.
    pub values: &'a [Option<Bytes>],
    /// Their forms.
    pub forms: &'a Format,
    /// The types the client named.
    pub named: &'a [Option<Type>],
}

/// No values.
pub(super) const NOTHING: Given<'static> =
    Given { values: &[], forms: &Format::UnifiedText, named: &[] };

/// What a statement gives.
pub(super) struct Found {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub rows: BoxStream<'static, PgWireResult<RecordBatch>>,
}

/// A statement that is planned.
struct Planned {
    context: SessionContext,
    plan: LogicalPlan,
}

impl Reader {
    /// The types of the parameters of `statement`, and its columns.
    pub(super) async fn describe(
        &self,
        statement: &Statement,
        session: &Session,
    ) -> PgWireResult<(Vec<Type>, SchemaRef)> {
        let planned = self.plan(statement, session).await?;
        let types = inferred(&planned.plan)?.iter().map(|field| told(field.as_ref())).collect();
        Ok((types, columns(&planned.plan)))
    }

    /// The columns of `statement` with values bound to it.
    pub(super) async fn columns(
        &self,
        statement: &Statement,
        session: &Session,
        given: Given<'_>,
    ) -> PgWireResult<SchemaRef> {
        let planned = self.plan(statement, session).await?;
        Ok(columns(&bound(planned.plan, given)?))
    }

    /// Runs `statement`. `promised` are the columns its client was told of before.
    pub(super) async fn run(
        &self,
        statement: &Statement,
        session: &Session,
        given: Given<'_>,
        promised: Option<&SchemaRef>,
    ) -> PgWireResult<Found> {
        let Planned { context, plan } = self.plan(statement, session).await?;
        let plan = bound(plan, given)?;
        let schema = match promised {
            None => columns(&plan),
            Some(promised) => {
                let now = columns(&plan);
                let names = |schema: &Schema| -> Vec<String> {
                    schema.fields().iter().map(|field| field.name().clone()).collect()
                };
                if names(promised) != names(&now) {
                    let message = "cached plan must not change result type";
                    return Err(failure::hinted(code::CHANGED, message, "prepare it again"));
                }
                promised.clone()
            }
        };
        let rows = self.queries.run_plan(&context, plan, None, &session.user()).await;
        let rows = rows.map_err(failure::query)?.stream;
        let wanted = schema.clone();
        let rows = rows.map(move |batch| conformed(&batch.map_err(failure::query)?, &wanted));
        Ok(Found { schema, rows: rows.boxed() })
    }

    /// Plans `statement` in its turn: that takes a processor as asking does.
    async fn plan(&self, statement: &Statement, session: &Session) -> PgWireResult<Planned> {
        if let Some(what) = changes(statement) {
            let message = format!("a query only reads, this is {what}");
            let hint = "change tables through the job file and `sluice run`";
            return Err(failure::hinted(code::READ_ONLY, message, hint));
        }
        let (catalog, client) = (self.catalog.clone(), session.client());
        let statement = statement.clone();
        let context = self.queries.context().await.map_err(|e| failure::engine(&e))?;
        let planned = async move {
            let context = catalog.dress(&context, &client).map_err(|e| failure::engine(&e))?;
            let plan = context.state().statement_to_plan(statement).await;
            let plan = plan.map_err(|e| failure::planning(&e))?;
            Ok::<_, PgWireError>(Planned { context, plan })
        };
        self.queries.planned(&session.user(), planned).await.map_err(failure::query)?
    }
}

/// What a statement would do to rows: it is refused before it is looked at whether it could.
fn changes(statement: &Statement) -> Option<&'static str> {
    let Statement::Statement(statement) = statement else { return None };
    Some(match statement.as_ref() {
        ast::Statement::Insert(_) => "INSERT",
        ast::Statement::Update(_) => "UPDATE",
        ast::Statement::Delete(_) => "DELETE",
        ast::Statement::Merge(_) => "MERGE",
        ast::Statement::Truncate(_) => "TRUNCATE",
        _ => return None,
    })
}

/// What parameters are taken for, by their numbers from 1 on. Errors: names that are no numbers.
fn inferred(plan: &LogicalPlan) -> PgWireResult<Vec<Option<FieldRef>>> {
    let names = plan.get_parameter_names().map_err(|e| failure::planning(&e))?;
    // One that is compared with columns of several types is nobody's in particular.
    let fields = plan.get_parameter_fields().unwrap_or_default();
    let places = places(plan);
    let mut found: Vec<Option<FieldRef>> = Vec::new();
    for name in names {
        let number = name.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
        let number = number.filter(|number| (1..=PARAMETERS_MAX).contains(number));
        let Some(number) = number else {
            let message = format!("parameters are numbered name={name}");
            return Err(failure::hinted(code::SYNTAX, message, "write $1, $2 and so on"));
        };
        if found.len() < number {
            found.resize(number, None);
        }
        let field = fields.get(&name).cloned().flatten();
        found[number - 1] = field.or_else(|| places.get(&name).cloned());
    }
    Ok(found)
}

/// Types that parameters have by where they stand: cast at once, as in `$1::int`, a `LIMIT`, or
/// the list of `= ANY($1)`.
fn places(plan: &LogicalPlan) -> HashMap<String, FieldRef> {
    let mut found: HashMap<String, FieldRef> = HashMap::new();
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            for expr in [&limit.skip, &limit.fetch].into_iter().flatten() {
                if let Expr::Placeholder(placeholder) = expr.as_ref() {
                    let count = Field::new("", DataType::Int64, true);
                    found.insert(placeholder.id.clone(), Arc::new(count));
                }
            }
        }
        let below = node.inputs().first().map(|input| input.schema().clone());
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr
                    && call.func.name() == "array_has"
                    && let [Expr::Placeholder(placeholder), item] = call.args.as_slice()
                    && let Some(Ok(item)) = below.as_ref().map(|below| item.get_type(&**below))
                {
                    let list = Field::new("", DataType::new_list(item, true), true);
                    found.insert(placeholder.id.clone(), Arc::new(list));
                }
                if let Expr::Cast(cast) = expr
                    && let Expr::Placeholder(placeholder) = cast.expr.as_ref()
                {
                    found.insert(placeholder.id.clone(), cast.field.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    // Nothing in the walk fails; what was found counts anyway.
    drop(walked);
    found
}

/// The type that a client is told a parameter has.
fn told(field: Option<&FieldRef>) -> Type {
    let is_oid = |field: &&FieldRef| {
        let kind = field.metadata().get(PG_OID_ALIAS_KEY);
        field.data_type() == &DataType::Int32 && kind.is_some_and(|kind| kind == "oid")
    };
    match field.filter(is_oid) {
        Some(_) => Type::OID,
        None => parameter::advertised(field.map(|field| field.data_type())),
    }
}

/// `plan` with values for its parameters. Errors: values that are none, or too few.
fn bound(plan: LogicalPlan, given: Given<'_>) -> PgWireResult<LogicalPlan> {
    let wanted = inferred(&plan)?;
    if given.values.len() != wanted.len() {
        let (has, needs) = (given.values.len(), wanted.len());
        let message = format!("the statement has other parameters has={has} needs={needs}");
        return Err(failure::error(code::PROTOCOL, message));
    }
    if let Format::Individual(forms) = given.forms
        && forms.len() != given.values.len()
    {
        let message = "a form is needed for each parameter, or for all";
        return Err(failure::error(code::PROTOCOL, message));
    }
    if wanted.is_empty() {
        return Ok(plan);
    }
    let value = |(at, field): (usize, &Option<FieldRef>)| {
        let bytes = given.values[at].as_deref();
        let value = Bound { bytes, binary: given.forms.is_binary(at) };
        let named = given.named.get(at).and_then(Option::as_ref);
        parameter::value(at + 1, value, named, field.as_ref().map(|field| field.data_type()))
    };
    let values: Vec<_> = wanted.iter().enumerate().map(value).collect::<PgWireResult<_>>()?;
    plan.replace_params_with_values(&ParamValues::from(values)).map_err(|e| failure::planning(&e))
}

/// The columns of a plan. What is nothing but null is text, as PostgreSQL has it.
fn columns(plan: &LogicalPlan) -> SchemaRef {
    let field = |field: &FieldRef| -> FieldRef {
        match field.data_type() {
            DataType::Null => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
            _ => field.clone(),
        }
    };
    Arc::new(Schema::new(plan.schema().fields().iter().map(field).collect::<Vec<_>>()))
}

/// `batch` with the types of `schema`: those its client was told of.
fn conformed(batch: &RecordBatch, schema: &SchemaRef) -> PgWireResult<RecordBatch> {
    let changed = || failure::error(code::CHANGED, "cached plan must not change result type");
    if batch.num_columns() != schema.fields().len() {
        return Err(changed());
    }
    let columns = batch.columns().iter().zip(schema.fields()).map(|(array, field)| {
        if array.data_type() == field.data_type() {
            return Ok(array.clone());
        }
        cast(array, field.data_type()).map_err(|_| changed())
    });
    let columns = columns.collect::<PgWireResult<Vec<_>>>()?;
    // Whether a column may be null was decided before it was known which rows there are.
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options =
        datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|_| changed())
}

/// `rows` until they are to stop.
pub(super) fn until<T: Send + 'static>(
    rows: BoxStream<'static, PgWireResult<T>>,
    halt: Halt,
) -> BoxStream<'static, PgWireResult<T>> {
    let halted = halt.clone();
    let end = stream::once(async move { halted.peek().copied() });
    let end = end.filter_map(|halted| ready(halted.map(|halted| Err(halted.into()))));
    rows.take_until(halt).chain(end).boxed()
}

/// What `work` gives, unless it is to stop.
pub(super) async fn unless<T>(
    halt: Halt,
    work: impl Future<Output = PgWireResult<T>>,
) -> PgWireResult<T> {
    tokio::select! {
        biased;
        halted = halt => Err(halted.into()),
        done = work => done,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array};
    use datafusion::prelude::SessionContext;
    use datafusion::sql::parser::DFParser;
    use futures::FutureExt as _;

    use super::*;

    async fn planned(sql: &str) -> LogicalPlan {
        let context = SessionContext::new();
        let table = "CREATE TABLE sales (a BIGINT, day DATE) AS VALUES (1, '2024-01-01')";
        context.sql(table).await.unwrap().collect().await.unwrap();
        context.state().create_logical_plan(sql).await.unwrap()
    }

    fn given(values: &[Option<Bytes>]) -> Given<'_> {
        Given { values, forms: &Format::UnifiedText, named: &[] }
    }

    #[tokio::test]
    async fn parameters_are_taken_for_what_they_are_compared_with() {
        let cases: [(&str, &[Type]); 6] = [
            ("SELECT a FROM sales", &[]),
            ("SELECT a FROM sales WHERE a = $2 AND day > $1", &[Type::DATE, Type::INT8]),
            ("SELECT a FROM sales LIMIT $1", &[Type::INT8]),
            ("SELECT a FROM sales WHERE a = ANY($1)", &[Type::INT8_ARRAY]),
            ("SELECT $1::int", &[Type::INT4]),
            ("SELECT $1", &[Type::TEXT]),
        ];
        for (sql, expected) in cases {
            let fields = inferred(&planned(sql).await).unwrap();
            let types: Vec<Type> = fields.iter().map(|field| told(field.as_ref())).collect();
            assert_eq!(types, expected, "{sql}");
        }
        assert!(inferred(&planned("SELECT $name::int").await).is_err());
    }

    #[test]
    fn what_would_change_rows_is_named_before_it_is_planned() {
        for (sql, what) in [
            ("INSERT INTO sales VALUES (1, 2, 3)", Some("INSERT")),
            ("UPDATE sales SET a = 1", Some("UPDATE")),
            ("DELETE FROM sales", Some("DELETE")),
            ("SELECT a FROM sales", None),
        ] {
            let statements = DFParser::parse_sql(sql).unwrap();
            assert_eq!(changes(&statements[0]), what, "{sql}");
        }
    }

    #[tokio::test]
    async fn values_take_the_place_of_parameters() {
        let sql = "SELECT a FROM sales WHERE a = $1 AND day > $2";
        let value = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let plan = bound(planned(sql).await, given(&[value("1"), value("2023-01-01")])).unwrap();
        assert!(inferred(&plan).unwrap().is_empty());
        assert!(bound(planned(sql).await, given(&[value("1")])).is_err());
        assert!(bound(planned(sql).await, given(&[value("x"), None])).is_err());
        let forms = Format::Individual(vec![0, 0, 0]);
        let odd = Given { values: &[value("1"), None], forms: &forms, named: &[] };
        assert!(bound(planned(sql).await, odd).is_err());
        let text = value("'; DROP TABLE sales; --");
        let plan = bound(planned("SELECT $1").await, given(&[text])).unwrap();
        assert_eq!(columns(&plan).field(0).data_type(), &DataType::Utf8);
    }

    #[tokio::test]
    async fn rows_have_the_types_that_were_told() {
        assert_eq!(columns(&planned("SELECT NULL").await).field(0).data_type(), &DataType::Utf8);
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let batch = RecordBatch::try_from_iter([("a", numbers)]).unwrap();
        let told = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, false)]));
        let batch = conformed(&batch, &told).unwrap();
        assert_eq!(batch.column(0).data_type(), &DataType::Utf8);
        assert!(conformed(&batch, &Arc::new(Schema::empty())).is_err());
    }

    #[tokio::test]
    async fn rows_end_where_they_are_halted() {
        use super::super::session::Halted;
        let endless = || stream::repeat(1).map(Ok).boxed();
        let never: Halt = std::future::pending().boxed().shared();
        assert_eq!(until(endless(), never).take(3).count().await, 3);
        let now: Halt = ready(Halted::Canceled).boxed().shared();
        let ended: Vec<_> = until(endless(), now.clone()).collect().await;
        assert!(matches!(ended.as_slice(), [Err(_)]));
        assert!(unless(now, std::future::pending::<PgWireResult<()>>()).await.is_err());
        let done: Halt = std::future::pending().boxed().shared();
        let rows: Vec<_> = until(stream::iter([Ok(1)]).boxed(), done).collect().await;
        assert_eq!(rows.len(), 1);
    }
}
