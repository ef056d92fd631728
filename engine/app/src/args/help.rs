//! What `--help` says below the options of each command: how it behaves, examples, exit codes.
//!
//! In: nothing. Out: texts. Options stand in [`super`].

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  a job failed, or verify, audit or schema --check found something
  2  the options or the job file are wrong; nothing was run

Standard output carries data, standard error carries talk.";

pub(super) const INIT: &str = "\
With --from the files are looked into: format, compression, encoding, delimiter, names and types,
which ways of writing dates and numbers. The job file and the schema file say in comments what was
seen and what was chosen; rows that do not fit are counted and told. Nothing is written over.

Examples:
  sluice init
  sluice init --from data/*.csv
  sluice init --from s3://acme-inbox/sales/ --into jobs/sales

Exit codes: 0 written, 1 the files cannot be read, 2 there are none, or a file would be written over.";

pub(super) const VALIDATE: &str = "\
Nothing is read but the job files and the project's, and nothing is written. Each job is told with its
variables, its secrets by their reference, and where each was written. Later wins: the project's, the
job's, the target's in the project, the target's in the job, --set.

Examples:
  sluice validate jobs/retail-360
  sluice validate jobs/retail-360 --target prod --set sales=s3://acme/sales/*.csv
  sluice validate .";

pub(super) const PLAN: &str = "\
The strategy says how much work a new row costs: append and incremental look at new rows and the
groups they touch, full runs the statement again over everything. The reason says why not a
better one. Joins are told as the next epoch would run them over what its tables hold now, within
--memory. Changes are against what is in the lake; nothing is written.

Examples:
  sluice plan jobs/insurance-movements
  sluice plan jobs/insurance-movements --json";

pub(super) const RUN: &str = "\
A run can be killed at any moment: the next one goes on where it was, with nothing lost and
nothing doubled. Ctrl-C or SIGTERM finishes the epoch, publishes it and ends with 0; a second one
ends at once.

With --follow a store or server that is away is waited for, once the job was at work: longer and
longer, up to half a minute at a time. Other runs give up after half a minute.

Examples:
  sluice run jobs/insurance-movements
  sluice run jobs/insurance-movements --set rows=10000000 --memory 512MiB
  sluice run jobs/retail-360 --follow --metrics 127.0.0.1:9090 --log info --log-format json
  sluice run jobs/retail-360 --limit 1000

Exit codes: 0 done, 1 a job failed (jobs that need it were not run), 2 the job file is wrong.";

pub(super) const SERVE: &str = "\
Jobs run as their `schedule:` says, webhooks are answered when their rows are on disk, and tables and
views are read at /v1, /docs and / over HTTP, and by SQL over the PostgreSQL wire. Without users
only this machine is answered.

SIGHUP or POST /v1/reload takes changed definitions between epochs; broken ones are refused and told.
SIGTERM or Ctrl-C answers what was asked, ends the epochs and publishes them, within the project's
`drain`; a second one ends at once. A new process may be started at the same addresses before the old
one is stopped: it answers at once, and takes each job when the old one lets it go.

Examples:
  sluice serve
  sluice serve jobs/retail-360 --http 127.0.0.1:8081
  sluice serve . --target prod --postgres 127.0.0.1:5432 --log info --log-format json

Exit codes: 0 stopped, 1 it could not go on, 2 the project, a job or an option is wrong.";

pub(super) const SQL: &str = "\
All relations of the pack can be named: tables, views, <source>__rejected, <table>__quarantine,
and the system tables _sluice.epochs, _sluice.tables, _sluice.files, _sluice.sources. Readers see
each job at its last published epoch. Only queries are answered: the lake is written by jobs alone.

Without a query, statements are read from standard input, each ended by ;. At a terminal that is a
session with history and completion, where \\? shows its commands; in a pipe the first error ends it.

--table names a Delta table, a Parquet file, or a folder of Parquet files with or without partition
folders: a path, s3://, gs:// or az://, with credentials by the clouds' usual environment.

Examples:
  sluice sql jobs/retail-360 \"SELECT * FROM daily_kpi ORDER BY day LIMIT 5\"
  sluice sql jobs/retail-360 \"SELECT * FROM country_kpi\" --format csv > countries.csv
  sluice sql --table s=s3://acme/sales --table old=./sales@7 \"SELECT count(*) FROM s\"
  sluice sql jobs/retail-360

Exit codes: 0 answered, 1 the lake could not be read, 2 the SQL or the job file is wrong.";

pub(super) const VERIFY: &str = "\
Views are compared as multisets: integers, decimals, strings and times exactly, floats within
1e-9 relative.

Example:
  sluice verify jobs/insurance-movements

Exit codes: 0 all views are right, 1 one is not, 2 the job file is wrong.";

pub(super) const AUDIT: &str = "\
Offsets must join without gap or overlap over all epochs, every row that came in must be
accounted for, and the tables' files must be there with the rows they claim. With --sources the rows
are counted again where they came from, as far as a source can: of Kafka every message in the ranges
that were taken is read once more, and gaps between offsets are told apart from loss.

Examples:
  sluice audit jobs/insurance-movements
  sluice audit jobs/quality-control --sources

Exit codes: 0 everything holds, 1 something does not, 2 the job file is wrong.";

pub(super) const STATUS: &str = "\
With --stats all rows are read. Distinct values are estimated to a few percent; a histogram shows
16 ranges of equal width from the least to the largest value, or up to 8 values.

Examples:
  sluice status jobs/retail-360 --json
  sluice status jobs/retail-360 --stats --table daily_kpi";

pub(super) const MAINTAIN: &str = "\
Runs do all of this by themselves, little by little: joining between epochs, checkpoints every
hundred versions, folding every 64 epochs, the rest once a day. Here it is done at once and in full.

Without options: everything. The runner of a job that is being run is asked to do it between two
of its epochs; if it does not come to it in time, that is said, and it will be done later.

Exit codes: 0 done or asked for, 1 a job could not be maintained, 2 the job file is wrong.

Examples:
  sluice maintain jobs/retail-360
  sluice maintain jobs/retail-360 --compact --vacuum
  sluice maintain jobs/retail-360 --vacuum --retention 30d --dry-run";

pub(super) const REPLAY: &str = "\
Rows of <source>__rejected are decoded by today's schema and go through the tables' SQL and checks;
rows of <table>__quarantine go through the table's checks. Each is taken once: a second replay takes
what came since the first. The rows stay where they stand, also those that are still bad, which are
counted. Views are built afresh by the next run. A job that is being run is refused.

What is not kept of a rejected message cannot come back: its key, headers and time are null; topic,
partition and offset are as they were. A row of 64 KiB or more is not kept whole and stays rejected.

Refused, since rows that come out of turn would make something wrong: jobs with shards, rows that
reach a sink or a table that is no Delta table, tables with delete_when or merge: coalesce, tables with
a key and no sequence_by, tables whose rows carry the file they came from because it may be replaced.
Mend such a job and use run --rebuild.

Examples:
  sluice replay jobs/retail-360 --from rejected
  sluice replay jobs/retail-360 --from quarantine --table sales_facts --since 120

Exit codes: 0 done, 1 something could not be taken again, 2 the job file or a name is wrong.";

pub(super) const RESET: &str = "\
A job: its tables, views, the files of its datasets and sinks, manifests and state are deleted; the
next run begins from nothing. A view: the next run builds it afresh. A table: its rows come from
sources, so the next run makes all tables of the job again. Until then readers see the old rows.
What does not belong to the job is left alone. A job that is being run is refused.

Examples:
  sluice reset jobs/retail-360 daily_kpi
  sluice reset jobs/retail-360 retail-360 --yes

Exit codes: 0 done, 1 the job is being run or the lake failed, 2 nobody agreed or a name is wrong.";

pub(super) const SCHEMA: &str = "\
Examples:
  sluice schema > schemas/job.schema.json
  sluice schema --check schemas/job.schema.json
  sluice schema project > schemas/project.schema.json

Exit codes: 0 printed or current, 1 the file is stale, 2 it cannot be read.";

pub(super) const TOKEN: &str = "\
The token is for the user and is kept nowhere. The hash is for the project: it cannot be turned back.

  users: {anna: {role: read, token: {sha256: HASH}}}

The user sends it as `Authorization: Bearer TOKEN`, or as the password of HTTP or PostgreSQL.";
