-- When people write: messages per day and hour of the day, UTC.
SELECT day AS date,
       CAST(date_part('hour', timestamp) AS BIGINT) AS hour,
       count(*) AS messages,
       sum(CASE role WHEN 'user' THEN 1 ELSE 0 END) AS questions
FROM messages
GROUP BY 1, 2
