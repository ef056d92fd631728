-- What channels and campaigns bring: per day on which conversations began, or ended where nobody said
-- when they began.
WITH booked AS (
  SELECT conversation_id, count(*) AS bookings, sum(amount) AS revenue
  FROM bookings
  WHERE status = 'confirmed' AND conversation_id IS NOT NULL
  GROUP BY 1
)
SELECT CAST(coalesce(c.started_at, c.ended_at) AS DATE) AS date,
       coalesce(c.channel, 'unknown') AS channel,
       coalesce(c.campaign, 'none') AS campaign,
       count(*) AS conversations,
       count(DISTINCT c.user_id) AS users,
       sum(CASE WHEN c.resolved THEN 1 ELSE 0 END) AS resolved,
       count(c.satisfaction_score) AS rated,
       avg(c.satisfaction_score) AS satisfaction,
       count(b.conversation_id) AS converted,
       coalesce(sum(b.bookings), 0) AS bookings,
       coalesce(sum(b.revenue), 0) AS revenue
FROM conversations c LEFT JOIN booked b ON b.conversation_id = c.conversation_id
WHERE coalesce(c.started_at, c.ended_at) IS NOT NULL
GROUP BY 1, 2, 3
