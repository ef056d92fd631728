-- Conversations of today end right now; those of days before are spread over their day.
WITH moments AS (
  SELECT *,
         turns * (thinks * 1000 + answers_ms) AS lasts_ms,
         CAST(date_part('epoch', now()) * 1000 AS BIGINT) AS now_ms,
         CAST(date_part('epoch', date_trunc('day', now())) AS BIGINT) * 1000
           + (second_of_day - days_ago * 86400) * 1000 AS planned_ms
  FROM made
)
SELECT conversation_id, user_id, channel, campaign, turns,
       thinks * 1000 AS thinks_ms, answers_ms, lasts_ms,
       topic, outcome, amount, origin,
       CASE topic WHEN 'taxi' THEN origin || ' airport' ELSE destination END AS destination,
       travels_in, resolved, satisfaction_score,
       CASE days_ago WHEN 0 THEN now_ms - lasts_ms ELSE planned_ms END AS began_ms
FROM moments
