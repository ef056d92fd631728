SELECT channel,
       campaign,
       sum(conversations) AS conversations,
       sum(bookings) AS bookings,
       CAST(sum(converted) AS DOUBLE) / sum(conversations) AS conversion_rate,
       sum(revenue) AS revenue,
       sum(satisfaction * rated) / sum(rated) AS satisfaction
FROM marketing
WHERE date > current_date - CAST($days AS INT)
GROUP BY channel, campaign
ORDER BY revenue DESC, channel, campaign
