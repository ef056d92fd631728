-- What is booked: per day, kind and currency.
SELECT CAST(booked_at AS DATE) AS date,
       coalesce(kind, 'unknown') AS kind,
       coalesce(currency, 'unknown') AS currency,
       sum(CASE status WHEN 'cancelled' THEN 0 ELSE 1 END) AS bookings,
       sum(CASE status WHEN 'cancelled' THEN 1 ELSE 0 END) AS cancelled,
       sum(CASE status WHEN 'cancelled' THEN NULL ELSE amount END) AS revenue
FROM bookings
WHERE booked_at IS NOT NULL
GROUP BY 1, 2, 3
