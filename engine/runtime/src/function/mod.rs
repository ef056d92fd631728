//! The SQL session: one configuration for tables, views and queries, and the functions of time.
//!
//! In: a memory pool, the number of cores, the epoch's opening time. Out: a `SessionContext` that
//! plans the dialect described in the README, for statements of jobs or for questions of people. It
//! registers no tables; `catalog` does.

mod bounded;
mod now;
mod paced;
mod pass;
mod sifted;
mod windows;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::{SessionConfig, SessionContext};
use sluice_core::{Error, Result};

pub use now::EpochTime;
use paced::PacePlans;
use sifted::SiftScans;
use windows::HoldWindows;

/// Rows per batch inside plans: DataFusion's own default, large enough to amortise dispatch.
const BATCH_ROWS: usize = 8192;

/// Every sort sets memory aside for merging what it spilled, 10 MB by default: in a small pool a few
/// sorts side by side would leave nothing for rows.
const SORTS_AT_ONCE: usize = 32;

/// What a session is made from.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The run's memory pool; none means no limit.
    pub memory: Option<Arc<dyn MemoryPool>>,
    /// How many partitions plans use; the number of cores.
    pub partitions: usize,
    /// What `now()` shows.
    pub time: EpochTime,
}

/// The same session with an opening time of its own, for the plans of one job: its tables are
/// shared, its functions of time are not.
pub fn with_time(context: &SessionContext, time: &EpochTime) -> SessionContext {
    let forked = SessionContext::new_with_state(context.state());
    now::register(&forked, time);
    forked
}

/// What the rows of `batch` take: plans give out slices of larger arrays.
pub fn bytes_of(batch: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
    batch.columns().iter().map(bytes).sum()
}

/// A session without tables, for the statements of jobs.
pub fn session(options: &SessionOptions) -> Result<SessionContext> {
    // It would answer count(*), min and max from statistics, and no aggregate would be left whose
    // partial state could be kept.
    let mut rules = PhysicalOptimizer::new().rules;
    rules.retain(|rule| rule.name() != "aggregate_statistics");
    rules.push(Arc::new(HoldWindows));
    let context = plain(options, rules, true)?;
    // It would turn one count(distinct) into two levels of grouping, whose partial state cannot be
    // merged across epochs.
    context.remove_optimizer_rule("single_distinct_aggregation_to_group_by");
    now::register(&context, &options.time);
    Ok(context)
}

/// A session without tables, for questions. Nothing of their plans is kept, so that they get every
/// rule of the optimiser; and whatever they ask for, it can be ended, and no function makes more of
/// a few words than there is room for.
pub(crate) fn reading(options: &SessionOptions) -> Result<SessionContext> {
    let mut rules = PhysicalOptimizer::new().rules;
    // What joins and top lists learn is handed down by the later of two such rules.
    let pushes = |rule: &Arc<Rule>| rule.name().starts_with("FilterPushdown");
    let at =
        rules.iter().rposition(pushes).ok_or_else(|| Error::bug("no filter is handed down"))?;
    rules.insert(at + 1, Arc::new(SiftScans::End));
    rules.insert(at, Arc::new(SiftScans::Begin));
    rules.extend([Arc::new(PacePlans) as Arc<Rule>, Arc::new(HoldWindows)]);
    let context = plain(options, rules, false)?;
    bounded::register(&context);
    now::fix(&context, &options.time);
    Ok(context)
}

/// `now()` in `context`, which was made by [`reading`], shows `time` from now on.
pub(crate) fn set_time(context: &SessionContext, time: &EpochTime) {
    now::fix(context, time);
}

type Rule = dyn PhysicalOptimizerRule + Send + Sync;

/// With these rules for physical plans, and whether all scans filter while they decode, or each
/// table says so for itself.
fn plain(
    options: &SessionOptions,
    rules: Vec<Arc<Rule>>,
    filters_early: bool,
) -> Result<SessionContext> {
    let mut config = SessionConfig::new()
        .with_target_partitions(options.partitions.max(1))
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(true);
    let settings = config.options_mut();
    settings.sql_parser.collect_spans = true;
    settings.sql_parser.map_string_types_to_utf8view = false;
    settings.execution.parquet.schema_force_view_types = false;
    settings.execution.parquet.pushdown_filters = filters_early;
    // DataFusion's filter of one aggregate without groups leaves out rows that another wants:
    // max(id + 1) beside min(id) is wrong with it.
    settings.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    settings.execution.time_zone = Some("UTC".to_string());

    let mut env = RuntimeEnvBuilder::new();
    if let Some(pool) = &options.memory {
        if let MemoryLimit::Finite(bytes) = pool.memory_limit() {
            reserve_for_sorts(&mut config, bytes);
        }
        env = env.with_memory_pool(pool.clone());
    }
    let env = env.build_arc().map_err(|e| Error::bug("cannot make the SQL runtime").because(e))?;
    let state: SessionState = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(env)
        .with_default_features()
        .with_physical_optimizer_rules(rules)
        .build();
    Ok(SessionContext::new_with_state(state))
}

/// Lets every sort set aside no more than fits into a pool of `bytes` several times.
pub(crate) fn reserve_for_sorts(config: &mut SessionConfig, bytes: usize) {
    let kept = &mut config.options_mut().execution.sort_spill_reservation_bytes;
    *kept = (*kept).min(bytes / SORTS_AT_ONCE);
}
