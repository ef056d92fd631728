-- One object: totals, and a list for each way to look at them.
WITH severities AS (
  SELECT severity, sum(bugs) AS bugs, sum(unresolved) AS unresolved
  FROM bug_metrics
  GROUP BY severity
),
components AS (
  SELECT component, sum(bugs) AS bugs, sum(unresolved) AS unresolved
  FROM bug_metrics
  GROUP BY component
),
totals AS (
  SELECT count(*) AS bugs,
         sum(CASE WHEN status IN ('open', 'in_progress') THEN 1 ELSE 0 END) AS unresolved,
         sum(CASE WHEN status IN ('resolved', 'closed') THEN 1 ELSE 0 END) AS resolved,
         avg(date_part('epoch', resolved_at) - date_part('epoch', reported_at)) / 3600
           AS hours_to_resolve,
         max(updated_at) AS last_report_at
  FROM bugs
)
SELECT totals.bugs, totals.unresolved, totals.resolved, totals.hours_to_resolve,
       totals.last_report_at,
       (
         SELECT array_agg(named_struct(
                  'severity', severity, 'bugs', bugs, 'unresolved', unresolved) ORDER BY severity)
         FROM severities
       ) AS by_severity,
       (
         SELECT array_agg(named_struct(
                  'component', component, 'bugs', bugs, 'unresolved', unresolved)
                  ORDER BY component)
         FROM components
       ) AS by_component
FROM totals
