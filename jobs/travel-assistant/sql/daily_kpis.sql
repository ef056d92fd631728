-- One row per day in UTC on which anything happened.
WITH booked AS (
  SELECT DISTINCT conversation_id
  FROM bookings
  WHERE status = 'confirmed' AND conversation_id IS NOT NULL
),
talks AS (
  SELECT CAST(coalesce(c.started_at, c.ended_at) AS DATE) AS date,
         count(*) AS total_conversations,
         count(DISTINCT c.user_id) AS unique_users,
         count(b.conversation_id) AS converted
  FROM conversations c LEFT JOIN booked b ON b.conversation_id = c.conversation_id
  WHERE coalesce(c.started_at, c.ended_at) IS NOT NULL
  GROUP BY 1
),
taxis AS (
  SELECT CAST(booked_at AS DATE) AS date, count(*) AS taxi_bookings
  FROM bookings
  WHERE kind = 'taxi' AND status = 'confirmed' AND booked_at IS NOT NULL
  GROUP BY 1
),
-- Each question with the time of the next answer in its conversation.
questions AS (
  SELECT role,
         timestamp AS asked_at,
         min(CASE WHEN role = 'assistant' THEN timestamp END) OVER (
           PARTITION BY conversation_id ORDER BY timestamp, message_id
           ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
         ) AS answered_at
  FROM messages
),
answers AS (
  SELECT CAST(asked_at AS DATE) AS date,
         avg((CAST(answered_at AS BIGINT) - CAST(asked_at AS BIGINT)) / 1000000.0)
           AS avg_response_time
  FROM questions
  WHERE role = 'user' AND answered_at IS NOT NULL
  GROUP BY 1
),
days AS (
  SELECT date FROM talks UNION SELECT date FROM taxis UNION SELECT date FROM answers
)
SELECT d.date,
       coalesce(t.total_conversations, 0) AS total_conversations,
       coalesce(t.unique_users, 0) AS unique_users,
       coalesce(x.taxi_bookings, 0) AS taxi_bookings,
       CAST(t.converted AS DOUBLE) / t.total_conversations AS conversion_rate,
       a.avg_response_time
FROM days d
LEFT JOIN talks t ON t.date = d.date
LEFT JOIN taxis x ON x.date = d.date
LEFT JOIN answers a ON a.date = d.date
