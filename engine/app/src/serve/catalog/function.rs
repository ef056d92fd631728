//! Functions that clients of PostgreSQL call about the catalogue.
//!
//! In: the name of a database, whom a session is for. Out: functions for that session: those of
//! `datafusion-pg-catalog`, and what it lacks. They tell what is true of a database that can only
//! be read; what Sluice does not have, such as the size of an index, is null.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as SqlResult};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use datafusion_postgres::datafusion_pg_catalog::pg_catalog as emulated;

use super::relations::OWNER;
use super::{Client, POSTGRES_VERSION};

/// What is never there.
const NEVER: [(&str, DataType); 15] = [
    ("obj_description", DataType::Utf8),
    ("col_description", DataType::Utf8),
    ("shobj_description", DataType::Utf8),
    ("pg_get_viewdef", DataType::Utf8),
    ("pg_get_ruledef", DataType::Utf8),
    ("pg_get_indexdef", DataType::Utf8),
    ("pg_get_triggerdef", DataType::Utf8),
    ("pg_get_function_result", DataType::Utf8),
    ("pg_get_function_arguments", DataType::Utf8),
    ("pg_get_function_identity_arguments", DataType::Utf8),
    ("pg_get_serial_sequence", DataType::Utf8),
    ("pg_table_size", DataType::Int64),
    ("pg_indexes_size", DataType::Int64),
    ("pg_database_size", DataType::Int64),
    ("pg_advisory_unlock_all", DataType::Utf8),
];

/// Functions that ask whether somebody may do something.
const MAY: [&str; 8] = [
    "has_table_privilege",
    "has_schema_privilege",
    "has_database_privilege",
    "has_any_column_privilege",
    "has_column_privilege",
    "has_function_privilege",
    "has_sequence_privilege",
    "pg_has_role",
];

/// What everybody may.
const ALLOWED: [&str; 5] = ["SELECT", "USAGE", "CONNECT", "EXECUTE", "MEMBER"];

/// The functions that are the same for everybody.
pub(super) fn fixed(database: &str) -> Vec<ScalarUDF> {
    let mut all = vec![
        emulated::create_current_database_udf(database),
        emulated::create_current_schema_udf(),
        emulated::create_current_schemas_udf(),
        emulated::create_pg_table_is_visible(),
        emulated::format_type::create_format_type_udf(),
        emulated::pg_get_expr_udf::create_pg_get_expr_udf(),
        emulated::create_pg_get_partkeydef_udf(),
        emulated::create_pg_relation_is_publishable_udf(),
        emulated::create_pg_get_statisticsobjdef_columns_udf(),
        emulated::create_pg_encoding_to_char_udf(),
        emulated::create_pg_relation_size_udf(),
        emulated::create_pg_total_relation_size_udf(),
        emulated::create_pg_stat_get_numscans(),
        emulated::create_pg_get_constraintdef(),
        emulated::create_pg_get_partition_ancestors_udf(),
        emulated::quote_ident_udf::create_quote_ident_udf(),
        emulated::quote_ident_udf::create_parse_ident_udf(),
        emulated::array_bounds_udf::create_array_upper_udf(),
        emulated::array_bounds_udf::create_array_lower_udf(),
    ];
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_string()));
    let nulls = NEVER.into_iter().filter_map(|(name, kind)| {
        let null = ScalarValue::try_from(&kind).ok()?;
        Some(Answer::always(name, null))
    });
    all.extend(nulls);
    all.extend([
        Answer::always("pg_get_userbyid", text(OWNER)),
        Answer::always("version", text(&version())),
        Answer::always("pg_is_in_recovery", ScalarValue::Boolean(Some(false))),
        Answer::always("pg_function_is_visible", ScalarValue::Boolean(Some(true))),
        Answer::always("pg_type_is_visible", ScalarValue::Boolean(Some(true))),
        Answer::always("pg_my_temp_schema", ScalarValue::Int32(Some(0))),
        Answer::function("pg_size_pretty", DataType::Utf8, pretty),
    ]);
    all.extend(MAY.map(|name| Answer::function(name, DataType::Boolean, may)));
    all
}

/// The functions that tell about one session.
pub(super) fn of_client(client: &Client) -> Vec<ScalarUDF> {
    let user = ScalarValue::Utf8(Some(client.user.clone()));
    let settings = client.settings.clone();
    vec![
        Answer::always("session_user", user.clone()),
        Answer::always("user", user),
        Answer::always("pg_backend_pid", ScalarValue::Int32(Some(client.number))),
        Answer::function("current_setting", DataType::Utf8, move |args| {
            let [name, rest @ ..] = args else { return Err(arguments("current_setting")) };
            let name = text_of(name)?.unwrap_or_default().to_lowercase();
            let missing_ok = match rest.first() {
                Some(flag) => text_of(flag)?.is_some_and(|flag| flag == "true"),
                None => false,
            };
            match settings.get(&name) {
                Some(value) => Ok(ScalarValue::Utf8(Some(value.clone())).into()),
                None if missing_ok => Ok(ScalarValue::Utf8(None).into()),
                None => Err(DataFusionError::Plan(format!("there is no setting name={name}"))),
            }
        }),
        // What it would set ends with the statement: settings of a session are SET.
        Answer::function("set_config", DataType::Utf8, |args| match args {
            [_, value, ..] => Ok(value.clone()),
            _ => Err(arguments("set_config")),
        }),
    ]
}

/// What `version()` says. Clients read the number behind the first word.
pub(super) fn version() -> String {
    format!("PostgreSQL {POSTGRES_VERSION} (Sluice {})", env!("CARGO_PKG_VERSION"))
}

type Body = dyn Fn(&[ColumnarValue]) -> SqlResult<ColumnarValue> + Send + Sync;

/// A function that takes whatever it is given.
struct Answer {
    name: String,
    signature: Signature,
    kind: DataType,
    body: Arc<Body>,
}

impl Answer {
    fn function(
        name: &str,
        kind: DataType,
        body: impl Fn(&[ColumnarValue]) -> SqlResult<ColumnarValue> + Send + Sync + 'static,
    ) -> ScalarUDF {
        let any = vec![TypeSignature::VariadicAny, TypeSignature::Nullary];
        let signature = Signature::one_of(any, Volatility::Stable);
        let name = name.to_string();
        ScalarUDF::new_from_impl(Self { name, signature, kind, body: Arc::new(body) })
    }

    fn always(name: &str, value: ScalarValue) -> ScalarUDF {
        Self::function(name, value.data_type(), move |_| Ok(value.clone().into()))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({})", self.name)
    }
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.body, &other.body)
    }
}

impl Eq for Answer {}

impl Hash for Answer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Answer {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> SqlResult<DataType> {
        Ok(self.kind.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> SqlResult<ColumnarValue> {
        (self.body)(&args.args)
    }
}

/// Whether the privilege named last is one of reading.
fn may(args: &[ColumnarValue]) -> SqlResult<ColumnarValue> {
    let Some(last) = args.last() else { return Err(arguments("has_table_privilege")) };
    let allowed = |asked: &str| {
        let asked = asked.to_uppercase();
        asked.split(',').any(|one| ALLOWED.iter().any(|known| one.trim().starts_with(known)))
    };
    match last {
        ColumnarValue::Scalar(_) => {
            let asked = text_of(last)?;
            Ok(ScalarValue::Boolean(asked.map(|asked| allowed(&asked))).into())
        }
        ColumnarValue::Array(array) => {
            let asked = texts_of(array)?;
            let answers = asked.iter().map(|one| one.map(allowed)).collect::<BooleanArray>();
            Ok(ColumnarValue::Array(Arc::new(answers)))
        }
    }
}

/// Bytes as PostgreSQL writes them.
fn pretty(args: &[ColumnarValue]) -> SqlResult<ColumnarValue> {
    let [bytes] = args else { return Err(arguments("pg_size_pretty")) };
    let arrays = ColumnarValue::values_to_arrays(std::slice::from_ref(bytes))?;
    let array: ArrayRef = match arrays.first() {
        Some(array) => cast(array, &DataType::Int64)?,
        None => return Err(arguments("pg_size_pretty")),
    };
    let sizes = array.as_primitive::<Int64Type>().iter();
    let texts = sizes.map(|size| size.map(size_text)).collect::<StringArray>();
    match bytes {
        ColumnarValue::Scalar(_) => Ok(ScalarValue::try_from_array(&texts, 0)?.into()),
        ColumnarValue::Array(_) => Ok(ColumnarValue::Array(Arc::new(texts))),
    }
}

/// The largest unit of which there are at least ten.
fn size_text(bytes: i64) -> String {
    let (mut size, mut unit) = (bytes, "bytes");
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if size.unsigned_abs() < 10 * 1024 {
            break;
        }
        (size, unit) = ((size + 512 * size.signum()) / 1024, next);
    }
    format!("{size} {unit}")
}

fn text_of(value: &ColumnarValue) -> SqlResult<Option<String>> {
    match value {
        ColumnarValue::Scalar(value) if value.is_null() => Ok(None),
        ColumnarValue::Scalar(value) => Ok(match value.try_as_str() {
            Some(text) => text.map(str::to_string),
            None => Some(value.to_string()),
        }),
        ColumnarValue::Array(array) => {
            let texts = texts_of(array)?;
            Ok((!texts.is_empty() && texts.is_valid(0)).then(|| texts.value(0).to_string()))
        }
    }
}

fn texts_of(array: &ArrayRef) -> SqlResult<StringArray> {
    Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn arguments(name: &str) -> DataFusionError {
    DataFusionError::Plan(format!("wrong number of arguments function={name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_in_the_largest_unit_with_two_digits() {
        let cases = [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (1_048_576, "1024 kB"),
            (15_728_640, "15 MB"),
            (-20_480, "-20 kB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size_text(bytes), text);
        }
    }

    #[test]
    fn everybody_may_read_and_nobody_may_write() {
        let asked = |text: &str| {
            let privilege = ScalarValue::Utf8(Some(text.to_string()));
            let args = [ScalarValue::Int32(Some(1)).into(), privilege.into()];
            match may(&args).unwrap() {
                ColumnarValue::Scalar(ScalarValue::Boolean(answer)) => answer.unwrap(),
                other => unreachable!("{other:?}"),
            }
        };
        assert!(asked("SELECT") && asked("usage") && asked("INSERT, SELECT WITH GRANT OPTION"));
        assert!(!asked("INSERT") && !asked("CREATE") && !asked("TRIGGER"));
    }

    #[test]
    fn clients_find_the_version_they_look_for() {
        assert!(version().starts_with("PostgreSQL 16."));
    }
}
