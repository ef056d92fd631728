-- Questions and answers in turn: part 0 is the first question, part 1 its answer.
WITH parts AS (
  SELECT *, unnest(range(0, turns * 2)) AS part FROM made_conversations
)
SELECT conversation_id || '-' || lpad(CAST(part + 1 AS VARCHAR), 2, '0') AS message_id,
       conversation_id,
       CASE part % 2 WHEN 0 THEN 'user' ELSE 'assistant' END AS role,
       CASE
         WHEN part = 0 AND topic = 'other' THEN 'What can you help me with?'
         WHEN part = 0 THEN 'I would like to book a ' || topic || ' to ' || destination || '.'
         WHEN part = turns * 2 - 1 AND outcome = 'nothing' THEN 'You are welcome. Come back any time.'
         WHEN part = turns * 2 - 1 THEN 'Your ' || topic || ' is booked. Have a good trip!'
         WHEN part % 2 = 0 THEN 'And what does it cost to change it later?'
         ELSE 'That is possible. Shall I go on?'
       END AS content,
       arrow_cast(began_ms + part / 2 * (thinks_ms + answers_ms) + part % 2 * answers_ms,
                  'Timestamp(Millisecond, Some("UTC"))') AS timestamp
FROM parts
