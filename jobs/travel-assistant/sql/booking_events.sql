-- What was booked, at the end of the conversation; some of it is cancelled afterwards.
WITH events AS (
  SELECT *,
         unnest(CASE outcome WHEN 'cancelled' THEN ['confirmed', 'cancelled'] ELSE ['confirmed'] END)
           AS status
  FROM made_conversations
  WHERE outcome <> 'nothing'
)
SELECT 'B' || substr(conversation_id, 2) AS booking_id,
       status,
       CASE status WHEN 'confirmed' THEN conversation_id END AS conversation_id,
       CASE status WHEN 'confirmed' THEN user_id END AS user_id,
       CASE status WHEN 'confirmed' THEN topic END AS kind,
       CASE status WHEN 'confirmed' THEN origin END AS origin,
       CASE status WHEN 'confirmed' THEN destination END AS destination,
       CASE status WHEN 'confirmed' THEN
         arrow_cast(began_ms + travels_in * 3600000, 'Timestamp(Millisecond, Some("UTC"))')
       END AS travel_at,
       CASE status WHEN 'confirmed' THEN amount END AS amount,
       CASE status WHEN 'confirmed' THEN 'EUR' END AS currency,
       CASE status WHEN 'confirmed' THEN
         arrow_cast(began_ms + lasts_ms, 'Timestamp(Millisecond, Some("UTC"))')
       END AS booked_at
FROM events
