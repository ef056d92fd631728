SELECT booking_id, conversation_id, user_id, kind, status, origin, destination, travel_at, amount,
       currency, booked_at
FROM bookings
WHERE ($kind IS NULL OR kind = $kind) AND ($user IS NULL OR user_id = $user)
ORDER BY booked_at DESC NULLS LAST, booking_id
LIMIT $limit
