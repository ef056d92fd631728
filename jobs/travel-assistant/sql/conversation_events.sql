-- Each conversation twice: as it began, and what is known at its end.
WITH events AS (
  SELECT *, unnest([false, true]) AS over FROM made_conversations
)
SELECT conversation_id,
       CASE WHEN NOT over THEN user_id END AS user_id,
       CASE WHEN NOT over THEN channel END AS channel,
       CASE WHEN NOT over THEN campaign END AS campaign,
       CASE WHEN NOT over THEN arrow_cast(began_ms, 'Timestamp(Millisecond, Some("UTC"))') END
         AS started_at,
       CASE WHEN over THEN
         arrow_cast(began_ms + lasts_ms, 'Timestamp(Millisecond, Some("UTC"))')
       END AS ended_at,
       CASE WHEN over THEN turns * 2 END AS message_count,
       CASE WHEN over THEN resolved END AS resolved,
       CASE WHEN over THEN satisfaction_score END AS satisfaction_score
FROM events
