-- One object, a list for each chart; one without rows is empty.
WITH hours AS (
  SELECT hour, sum(messages) AS messages, sum(questions) AS questions
  FROM messages_by_hour
  WHERE date > current_date - CAST($days AS INT)
  GROUP BY hour
),
kinds AS (
  SELECT kind, currency, sum(bookings) AS bookings, sum(cancelled) AS cancelled,
         sum(revenue) AS revenue
  FROM bookings_by_kind
  WHERE date > current_date - CAST($days AS INT)
  GROUP BY kind, currency
)
SELECT (
         SELECT coalesce(array_agg(named_struct(
                  'date', date, 'conversations', total_conversations, 'users', unique_users,
                  'conversion_rate', conversion_rate) ORDER BY date), [])
         FROM daily_kpis
         WHERE date > current_date - CAST($days AS INT)
       ) AS by_day,
       (
         SELECT coalesce(array_agg(named_struct(
                  'hour', hour, 'messages', messages, 'questions', questions) ORDER BY hour), [])
         FROM hours
       ) AS by_hour,
       (
         SELECT coalesce(array_agg(named_struct(
                  'kind', kind, 'currency', currency, 'bookings', bookings,
                  'cancelled', cancelled, 'revenue', revenue) ORDER BY kind, currency), [])
         FROM kinds
       ) AS by_kind
